//! From nodes to values: each node is converted once, so what is shared stays shared and cycles end.

use std::sync::Arc;

use super::machine::Unpickled;
use super::node::{Arena, DictNode, ExtraNode, Id, KindNode, Known, Node, StorageId, TensorNode};
use crate::checkpoint::stored::{Class, Extra, Kind};
use crate::checkpoint::value::{Dict, Object, Value};
use crate::checkpoint::{Layout, Quantizer, Storage, StoredTensor};
use crate::dtype::DType;
use crate::error::{Error, Result};

/// Values nested deeper than this are refused, so that dropping or printing them cannot exhaust the stack. Python's own
/// pickler gives up near this depth.
const MAX_DEPTH: usize = 1000;

/// Gives a storage by its index and what the pickle says about it, for elements whose parts (a complex number has two) are of this many bytes: the unit in
/// which another machine's byte order is swapped.
pub(in crate::checkpoint) type OpenStorage<'s> = dyn FnMut(usize, &StorageId<'_>, usize) -> Result<Arc<Storage>> + 's;

/// A container that is being converted, and how far.
struct Frame {
    id: Id,
    next: usize,
}

struct Builder<'u, 'a, 's> {
    pickle: &'u Unpickled<'a>,
    storage: &'u mut OpenStorage<'s>,
    /// For each node, [`NEW`], [`OPEN`] or the index of its value.
    states: Vec<u32>,
    values: Vec<Value>,
    /// For each value, how deep it is.
    depths: Vec<u16>,
    frames: Vec<Frame>,
}

const NEW: u32 = u32::MAX;
const OPEN: u32 = u32::MAX - 1;

impl Unpickled<'_> {
    /// The pickle's value, with its tensors' storages from `storage`.
    pub(in crate::checkpoint) fn into_value(self, storage: &mut OpenStorage<'_>) -> Result<Value> {
        let mut builder = Builder {
            pickle: &self,
            storage,
            states: vec![NEW; self.arena.nodes.len()],
            // As a rule a name for each tensor.
            values: Vec::with_capacity(self.arena.tensors.len() * 2),
            depths: Vec::with_capacity(self.arena.tensors.len() * 2),
            frames: Vec::new(),
        };
        builder.run().map_err(|error| match builder.path() {
            path if path.is_empty() => error,
            path => error.context(format_args!("`{path}`")),
        })
    }
}

impl Builder<'_, '_, '_> {
    fn run(&mut self) -> Result<Value> {
        let pickle = self.pickle;
        self.open(pickle.root);
        while let Some(frame) = self.frames.last_mut() {
            let id = frame.id;
            match child(&pickle.arena, id, frame.next) {
                Some(part) => {
                    frame.next += 1;
                    if self.states[part as usize] == NEW {
                        match is_leaf(&pickle.arena, part) {
                            true => self.finish(part, 0)?,
                            false => self.open(part),
                        }
                    }
                }
                None => {
                    let depth = self.depth(id)?;
                    self.finish(id, depth)?;
                    self.frames.pop();
                }
            }
        }
        Ok(self.done(pickle.root))
    }

    /// Converts a node whose parts are done.
    fn finish(&mut self, id: Id, depth: u16) -> Result<()> {
        let value = self.value(self.pickle.arena.node(id))?;
        self.states[id as usize] = self.values.len() as u32;
        self.values.push(value);
        self.depths.push(depth);
        Ok(())
    }

    fn open(&mut self, id: Id) {
        self.frames.push(Frame { id, next: 0 });
        self.states[id as usize] = OPEN;
    }

    /// How deep a value is whose parts are done.
    fn depth(&self, id: Id) -> Result<u16> {
        let mut depth = 0;
        let mut at = 0;
        while let Some(part) = child(&self.pickle.arena, id, at) {
            let inner = self.depths.get(self.states[part as usize] as usize).copied().unwrap_or(0);
            depth = depth.max(inner + 1);
            at += 1;
        }
        match usize::from(depth) > MAX_DEPTH {
            true => Err(Error::unsupported(format!("values are nested more than {MAX_DEPTH} deep"))),
            false => Ok(depth),
        }
    }

    /// The value of a part; one that is not done is a container around this one.
    fn done(&self, id: Id) -> Value {
        self.values.get(self.states[id as usize] as usize).cloned().unwrap_or(Value::Cycle)
    }

    fn all(&self, ids: &[Id]) -> Vec<Value> {
        ids.iter().map(|&id| self.done(id)).collect()
    }

    fn pairs<'i>(&'i self, ids: &'i [(Id, Id)]) -> impl ExactSizeIterator<Item = (Value, Value)> + 'i {
        ids.iter().map(|&(key, value)| (self.done(key), self.done(value)))
    }

    /// The value of a node whose parts are done.
    fn value(&mut self, node: &Node<'_>) -> Result<Value> {
        let arena = &self.pickle.arena;
        Ok(match node {
            Node::None => Value::None,
            Node::Bool(value) => Value::Bool(*value),
            Node::Int(value) => Value::Int(*value),
            Node::BigInt(value) => Value::BigInt(Arc::new((**value).clone())),
            Node::Float(value) => Value::Float(*value),
            Node::Complex(parts) => Value::Complex(parts.0, parts.1),
            Node::Str(text) => Value::Str((*text).into()),
            Node::Text(text) => Value::Str(text[..].into()),
            Node::Surrogates(text) => Object::surrogates(text).into(),
            Node::Bytes(bytes) => Value::Bytes((*bytes).into()),
            Node::Blob(bytes) => Value::Bytes(bytes[..].into()),
            Node::ByteArray(bytes) => Value::ByteArray(bytes[..].into()),
            Node::List(index) => Value::List(Arc::new(self.all(&arena.lists[*index as usize]))),
            Node::Tuple(start, len) => Value::Tuple(self.all(&arena.items[*start as usize..][..*len as usize]).into()),
            Node::Set(set) if set.frozen => Value::FrozenSet(Arc::new(self.all(&set.items))),
            Node::Set(set) => Value::Set(Arc::new(self.all(&set.items))),
            Node::Dict(index) => Value::Dict(Arc::new(self.dict(&arena.dicts[*index as usize]))),
            Node::Global(index) => {
                let global = self.pickle.globals.get(*index);
                match global.known {
                    Known::DType(dtype) => Value::DType(dtype),
                    _ => Value::Global(Arc::clone(&global.name)),
                }
            }
            Node::Storage(index, dtype) => Value::Storage(self.storage(*index, dtype.unwrap_or(DType::U8))?, *dtype),
            Node::Tensor(index) => self.tensor(&arena.tensors[*index as usize])?,
            Node::Size(sizes) => Value::Size(Arc::new(sizes[..].into())),
            Node::Device(name) => Value::Device(name[..].into()),
            Node::Object(node) => Value::from(Object {
                callee: self.done(node.class),
                bare: node.bare,
                args: self.all(&node.args),
                kwargs: node.kwargs.map(|id| self.done(id)),
                items: self.all(&node.items),
                entries: self.pairs(&node.entries).collect(),
                state: node.state.map(|id| self.done(id)),
            }),
        })
    }

    /// The storage at an index, for elements of a dtype.
    fn storage(&mut self, index: u32, dtype: DType) -> Result<Arc<Storage>> {
        let index = index as usize;
        (self.storage)(index, &self.pickle.storages[index], unit(dtype))
    }

    fn dict(&self, node: &DictNode) -> Dict {
        let mut dict = Dict::new(node.kind, self.pairs(&node.entries));
        dict.factory = node.factory.map(|id| self.done(id));
        dict.attributes = node.attributes.map(|id| self.done(id));
        dict
    }

    fn tensor(&mut self, node: &TensorNode) -> Result<Value> {
        if let Some(ExtraNode { kind: KindNode::Copy { callee, args }, .. }) = node.extra.as_deref() {
            let copied = self.copied(node, args[0]).unwrap_or_else(|| self.call(*callee, args).into());
            return Ok(copied);
        }
        let sizes = |id: Id, what: &str| {
            let sizes = self.pickle.arena.sizes(id);
            sizes.ok_or_else(|| Error::invalid(format!("a tensor's {what} are not natural numbers")))
        };
        let (shape, stride) = (sizes(node.shape, "sizes")?, sizes(node.stride, "strides")?);
        let mut tensor = match node.storage {
            Some(storage) => {
                let opened = self.storage(storage, node.dtype)?;
                let mut tensor = StoredTensor::new(opened, node.dtype, shape, stride, node.offset)?;
                if let Some((root, start)) = self.pickle.storages[storage as usize].view {
                    // A part of a storage is not one of its own, so that what shares bytes shares the storage.
                    let storage = self.storage(root, node.dtype)?;
                    tensor = tensor.in_storage(storage, start)?;
                }
                match node.extra.as_deref() {
                    Some(extra) => tensor.with_extra(Some(self.extra(extra)?)),
                    None => tensor,
                }
            }
            None => {
                let extra = self.extra(node.extra.as_deref().expect("what it is"))?;
                let location = match &extra.kind {
                    Kind::Listed { layout: Layout::Meta, .. } => Some("meta"),
                    Kind::Listed { call, .. } => call.args.iter().find_map(location),
                    _ => None,
                };
                StoredTensor::listed(node.dtype, shape, stride, location.unwrap_or("cpu").into(), extra)
            }
        };
        tensor.set_flags(node.requires_grad, node.is_parameter, (node.conj, node.neg));
        Ok(Value::Tensor(Arc::new(tensor)))
    }

    fn extra(&self, node: &ExtraNode) -> Result<Extra> {
        let kind = match &node.kind {
            KindNode::Strided | KindNode::Copy { .. } => Kind::Strided,
            KindNode::PerTensor { scale, zero_point } => {
                Kind::Quantized(Quantizer::PerTensor { scale: *scale, zero_point: *zero_point })
            }
            KindNode::PerChannel { scales, zero_points, axis, float_parameters } => {
                let numbers = |id: Id| numbers(&self.done(id));
                Kind::Quantized(Quantizer::PerChannel {
                    scales: numbers(*scales)?,
                    zero_points: numbers(*zero_points)?,
                    axis: *axis,
                    float_parameters: *float_parameters,
                })
            }
            KindNode::Listed { layout, callee, args } => {
                Kind::Listed { layout: *layout, call: Arc::new(self.call(*callee, args)) }
            }
        };
        Ok(Extra {
            kind,
            class: node.class.map(|(class, state)| Class { class: self.done(class), state: self.done(state) }),
            parameter_state: node.parameter_state.map(|id| self.done(id)),
            hooks: node.hooks.map(|id| self.done(id)),
            device: node.device.and_then(|id| self.pickle.arena.text(id)).map(Into::into),
        })
    }

    fn call(&self, callee: Id, args: &[Id]) -> Object {
        Object::call(self.done(callee), self.all(args))
    }

    /// A tensor that was copied to the host to be saved; none when it cannot be read.
    fn copied(&self, node: &TensorNode, data: Id) -> Option<Value> {
        let data = match self.done(data) {
            Value::Tensor(tensor) => (*tensor).clone(),
            array => array.as_array().ok()?,
        };
        let data = if data.dtype() == node.dtype { data } else { data.to(node.dtype).ok()? };
        let extra = node.extra.as_deref().map(|extra| self.extra(extra)).transpose().ok()?;
        let tensor = data.with_extra(extra).with_requires_grad(node.requires_grad);
        Some(Value::Tensor(Arc::new(tensor.with_parameter(node.is_parameter))))
    }

    /// The keys and positions that lead to the value being converted: `state_dict.fc.weight`.
    fn path(&self) -> String {
        let mut path = String::new();
        // Deep paths are hostile ones: the first steps tell enough.
        for frame in self.frames.iter().take(16) {
            let Some(step) = frame.next.checked_sub(1) else { break };
            let arena = &self.pickle.arena;
            let name = match arena.node(frame.id) {
                Node::Dict(dict) => {
                    arena.dicts[*dict as usize].entries.get(step / 2).map(|&(key, _)| self.step_name(key))
                }
                Node::List(_) | Node::Tuple(..) => Some(step.to_string()),
                _ => None,
            };
            if let Some(name) = name {
                path.push_str(if path.is_empty() { "" } else { "." });
                path.push_str(&name);
            }
        }
        path
    }

    fn step_name(&self, key: Id) -> String {
        match (self.pickle.arena.text(key), self.pickle.arena.node(key)) {
            (Some(text), _) => text.chars().take(80).flat_map(char::escape_debug).collect(),
            (None, Node::Int(int)) => int.to_string(),
            _ => "?".into(),
        }
    }
}

/// A tensor of numbers, which some torch wrote as a list.
fn numbers(value: &Value) -> Result<Arc<StoredTensor>> {
    let items = match value {
        Value::Tensor(tensor) => return Ok(Arc::clone(tensor)),
        Value::List(items) => items,
        other => return Err(Error::invalid(format!("scales or zero points are {}", other.describe()))),
    };
    let ints: Option<Vec<i64>> = items.iter().map(|item| item.as_i64().ok()).collect();
    let (dtype, bytes): (_, Vec<u8>) = match ints.filter(|ints| !ints.is_empty()) {
        Some(ints) => (DType::I64, ints.iter().flat_map(|int| int.to_le_bytes()).collect()),
        None => {
            let floats = items.iter().map(Value::as_f64).collect::<Result<Vec<_>>>()?;
            (DType::F64, floats.iter().flat_map(|float| float.to_le_bytes()).collect())
        }
    };
    StoredTensor::from_bytes(dtype, [items.len()], bytes).map(Arc::new)
}

/// The device of the first tensor in the arguments of a call.
fn location(value: &Value) -> Option<&str> {
    match value {
        Value::Tensor(tensor) => Some(tensor.location()),
        Value::Device(name) => Some(name),
        Value::Tuple(items) => items.iter().find_map(|item| match item {
            Value::Tensor(tensor) => Some(tensor.location()),
            _ => None,
        }),
        _ => None,
    }
}

/// The bytes in which another machine's byte order is swapped.
fn unit(dtype: DType) -> usize {
    match dtype {
        _ if dtype.is_complex() => dtype.size() / 2,
        _ => dtype.size(),
    }
}

/// Whether a node has no parts, as most have none.
fn is_leaf(arena: &Arena<'_>, id: Id) -> bool {
    match arena.node(id) {
        Node::Tensor(index) => arena.tensors[*index as usize].extra.is_none(),
        Node::Str(_) | Node::Int(_) | Node::Float(_) | Node::Bool(_) | Node::None => true,
        _ => false,
    }
}

/// The part of a container at a position, in the order in which parts are converted.
fn child(arena: &Arena<'_>, id: Id, at: usize) -> Option<Id> {
    let entry = |entries: &[(Id, Id)], at: usize| {
        entries.get(at / 2).map(|&(key, value)| if at.is_multiple_of(2) { key } else { value })
    };
    match arena.node(id) {
        Node::List(_) | Node::Tuple(..) => arena.items(id)?.get(at).copied(),
        Node::Set(set) => set.items.get(at).copied(),
        Node::Dict(index) => {
            let dict = &arena.dicts[*index as usize];
            entry(&dict.entries, at)
                .or_else(|| [dict.factory, dict.attributes].into_iter().flatten().nth(at - dict.entries.len() * 2))
        }
        Node::Tensor(index) => arena.tensors[*index as usize].extra.as_ref()?.part(at),
        Node::Object(object) => {
            if let Some(part) = object.args.get(at) {
                return Some(*part);
            }
            let at = at - object.args.len();
            if let Some(part) = object.items.get(at) {
                return Some(*part);
            }
            let at = at - object.items.len();
            entry(&object.entries, at).or_else(|| {
                let rest = [Some(object.class), object.kwargs, object.state];
                rest.into_iter().flatten().nth(at - object.entries.len() * 2)
            })
        }
        _ => None,
    }
}
