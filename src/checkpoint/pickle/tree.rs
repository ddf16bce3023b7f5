//! From nodes to values: each node is converted once, so what is shared stays shared and cycles end.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::machine::Unpickled;
use super::node::{Arena, DictNode, ExtraNode, Id, KindNode, Known, Node, StorageId, TensorNode};
use crate::checkpoint::stored::{Class, Extra, Kind, View};
use crate::checkpoint::value::{Dict, Enclosing, Object, Value};
use crate::checkpoint::{Layout, Quantizer, Seeded, Storage, StoredTensor};
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::shape::Shape;

/// Values nested deeper than this are refused, so that dropping or printing them cannot exhaust the stack. Python's own
/// pickler gives up near this depth.
const MAX_DEPTH: usize = 1000;

/// Gives a storage by its index and what the pickle says about it, for elements whose parts (a complex number has two) are of this many bytes: the unit in
/// which another machine's byte order is swapped.
pub(in crate::checkpoint) type OpenStorage<'s> = dyn FnMut(usize, &StorageId<'_>, usize) -> Result<Arc<Storage>> + 's;

/// A container that is being converted, how far, and how deep the values in it are nested so far.
struct Frame {
    id: Id,
    node: Node,
    next: usize,
    depth: u16,
}

struct Builder<'a, 's, 'o> {
    pickle: Unpickled<'a>,
    storage: &'s mut OpenStorage<'o>,
    /// What nodes became: see [`Node::Done`].
    values: Vec<Value>,
    frames: Vec<Frame>,
    /// Containers that are being converted and were met inside themselves.
    cycles: RefCell<HashMap<Id, Enclosing>>,
    /// Those of the tensors so far.
    views: HashSet<Arc<View>, Seeded>,
}

impl Unpickled<'_> {
    /// The pickle's value, with its tensors' storages from `storage`.
    pub(in crate::checkpoint) fn into_value(self, storage: &mut OpenStorage<'_>) -> Result<Value> {
        // As a rule a name for each tensor.
        let values = Vec::with_capacity(self.arena.tensors.len() * 2);
        let (cycles, views) = (RefCell::default(), HashSet::default());
        let mut builder = Builder { pickle: self, storage, values, frames: Vec::new(), cycles, views };
        builder.run().map_err(|error| match builder.path() {
            path if path.is_empty() => error,
            path => error.context(format_args!("`{path}`")),
        })
    }
}

impl Builder<'_, '_, '_> {
    fn run(&mut self) -> Result<Value> {
        self.visit(self.pickle.root)?;
        while let Some(frame) = self.frames.last_mut() {
            match child(&self.pickle.arena, &frame.node, frame.next) {
                Some(part) => {
                    frame.next += 1;
                    self.visit(part)?;
                }
                None => {
                    let Frame { id, node, depth, .. } = self.frames.pop().expect("the one just looked at");
                    self.finish(id, node, depth)?;
                }
            }
        }
        Ok(self.done(self.pickle.root))
    }

    /// Converts a node; one that has parts, after these.
    fn visit(&mut self, id: Id) -> Result<()> {
        let arena = &mut self.pickle.arena;
        match *arena.node(id) {
            Node::None | Node::Bool(_) | Node::Int(_) | Node::Float(_) | Node::Open => self.note(0),
            Node::Done(_, depth) => self.note(depth),
            _ => {
                let node = std::mem::replace(&mut arena.nodes[id as usize], Node::Open);
                if !has_parts(arena, &node) {
                    return self.finish(id, node, 0);
                }
                self.frames.push(Frame { id, node, next: 0, depth: 0 });
            }
        }
        Ok(())
    }

    /// Converts a node whose parts are done.
    fn finish(&mut self, id: Id, node: Node, depth: u16) -> Result<()> {
        if usize::from(depth) > MAX_DEPTH {
            return Err(Error::unsupported(format!("values are nested more than {MAX_DEPTH} deep")));
        }
        let value = self.value(node)?;
        if let Some(cycle) = self.cycles.get_mut().remove(&id) {
            cycle.close(&value);
        }
        self.pickle.arena.nodes[id as usize] = Node::Done(self.values.len() as u32, depth);
        self.values.push(value);
        self.note(depth);
        Ok(())
    }

    /// Notes how deep a part is of the container that is being converted.
    fn note(&mut self, depth: u16) {
        if let Some(frame) = self.frames.last_mut() {
            frame.depth = frame.depth.max(depth + 1);
        }
    }

    /// The value of a part; one that is not done is a container around this one.
    fn done(&self, id: Id) -> Value {
        match *self.pickle.arena.node(id) {
            Node::None => Value::None,
            Node::Bool(value) => Value::Bool(value),
            Node::Int(value) => Value::Int(value),
            Node::Float(value) => Value::Float(value),
            Node::Done(at, _) => self.values[at as usize].clone(),
            _ => Value::Cycle(self.cycles.borrow_mut().entry(id).or_default().clone()),
        }
    }

    /// The value of a node, if it is done and is not one of those that nodes themselves tell.
    fn made(&self, id: Id) -> Option<&Value> {
        match *self.pickle.arena.node(id) {
            Node::Done(at, _) => Some(&self.values[at as usize]),
            _ => None,
        }
    }

    fn text(&self, id: Id) -> Option<&str> {
        self.pickle.arena.text(id).or_else(|| self.made(id)?.as_str().ok())
    }

    /// Sizes or strides.
    fn sizes(&self, id: Id, what: &str) -> Result<Shape> {
        let size = |value: &Value| usize::try_from(value.as_i64().ok()?).ok();
        let sizes = match self.made(id) {
            None => self.pickle.arena.sizes(id),
            Some(Value::Size(sizes)) => Some((**sizes).clone()),
            Some(Value::Tuple(items)) => items.iter().map(size).collect(),
            Some(Value::List(items)) => items.iter().map(size).collect(),
            Some(_) => None,
        };
        sizes.ok_or_else(|| Error::invalid(format!("a tensor's {what} are not natural numbers")))
    }

    fn all(&self, ids: &[Id]) -> Vec<Value> {
        ids.iter().map(|&id| self.done(id)).collect()
    }

    fn pairs<'i>(&'i self, ids: &'i [(Id, Id)]) -> impl ExactSizeIterator<Item = (Value, Value)> + 'i {
        ids.iter().map(|&(key, value)| (self.done(key), self.done(value)))
    }

    /// The value of a node whose parts are done.
    fn value(&mut self, node: Node) -> Result<Value> {
        let arena = &self.pickle.arena;
        Ok(match node {
            Node::BigInt(value) => Value::BigInt(Arc::new(*value)),
            Node::Complex(parts) => Value::Complex(parts.0, parts.1),
            Node::Str(part) => Value::Str(arena.str(part).into()),
            Node::Text(text) => Value::Str(*text),
            Node::Surrogates(text) => Object::surrogates(&text).into(),
            Node::Bytes(part) => Value::Bytes(arena.get(part).into()),
            Node::Blob(bytes) => Value::Bytes(*bytes),
            Node::ByteArray(bytes) => Value::ByteArray(*bytes),
            Node::List(index) => Value::List(Arc::new(self.all(&arena.lists[index as usize]))),
            Node::Tuple(start, len) => Value::Tuple(self.all(&arena.items[start as usize..][..len as usize]).into()),
            Node::Set(set) if set.frozen => Value::FrozenSet(Arc::new(self.all(&set.items))),
            Node::Set(set) => Value::Set(Arc::new(self.all(&set.items))),
            Node::Dict(index) => Value::Dict(Arc::new(self.dict(&arena.dicts[index as usize]))),
            Node::EmptyDict(kind) => Value::Dict(Arc::new(Dict::new(kind, []))),
            Node::Global(index) => {
                let global = self.pickle.globals.get(index);
                match global.known {
                    Known::DType(dtype) => Value::DType(dtype),
                    _ => Value::Global(Arc::clone(&global.name)),
                }
            }
            Node::Storage(index, dtype) => Value::Storage(self.storage(index, dtype.unwrap_or(DType::U8))?, dtype),
            Node::Tensor(index) => self.tensor(index)?,
            Node::Size(sizes) => Value::Size(Arc::new(*sizes)),
            Node::Device(name) => Value::Device(*name),
            Node::Object(node) => Value::from(Object {
                callee: self.done(node.class),
                bare: node.bare,
                args: self.all(&node.args),
                kwargs: node.kwargs.map(|id| self.done(id)),
                items: self.all(&node.items),
                entries: self.pairs(&node.entries).collect(),
                state: node.state.map(|id| self.done(id)),
            }),
            Node::None | Node::Bool(_) | Node::Int(_) | Node::Float(_) | Node::Done(..) | Node::Open => {
                unreachable!("these stay as they are")
            }
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

    fn tensor(&mut self, index: u32) -> Result<Value> {
        let node = &self.pickle.arena.tensors[index as usize].clone();
        if let Some(ExtraNode { kind: KindNode::Copy { callee, args }, .. }) = node.extra.as_deref() {
            let copied = self.copied(node, args[0]).unwrap_or_else(|| self.call(*callee, args).into());
            return Ok(copied);
        }
        let view = View { shape: self.sizes(node.shape, "sizes")?, stride: self.sizes(node.stride, "strides")? };
        let view = match self.views.get(&view) {
            Some(known) => Arc::clone(known),
            None => {
                let view = Arc::new(view);
                self.views.insert(Arc::clone(&view));
                view
            }
        };
        let mut tensor = match node.storage {
            Some(storage) => {
                let opened = self.storage(storage, node.dtype)?;
                let mut tensor = StoredTensor::viewed(opened, node.dtype, view, node.offset)?;
                if let Some((root, start)) = self.pickle.storages[storage as usize].view() {
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
                StoredTensor::listed(node.dtype, view, location.unwrap_or("cpu").into(), extra)
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
            device: node.device.and_then(|id| self.text(id)).map(Into::into),
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
            let name = match &frame.node {
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
        match (self.text(key), self.pickle.arena.node(key)) {
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

/// Whether a node may have parts, as most have none.
fn has_parts(arena: &Arena<'_>, node: &Node) -> bool {
    match node {
        Node::Tensor(index) => arena.tensors[*index as usize].extra.is_some(),
        Node::List(_) | Node::Tuple(..) | Node::Set(_) | Node::Dict(_) | Node::Object(_) => true,
        _ => false,
    }
}

/// The part of a container at a position, in the order in which parts are converted.
fn child(arena: &Arena<'_>, node: &Node, at: usize) -> Option<Id> {
    let entry = |entries: &[(Id, Id)], at: usize| {
        entries.get(at / 2).map(|&(key, value)| if at.is_multiple_of(2) { key } else { value })
    };
    match node {
        Node::List(index) => arena.lists[*index as usize].get(at).copied(),
        Node::Tuple(start, len) => arena.items[*start as usize..][..*len as usize].get(at).copied(),
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
