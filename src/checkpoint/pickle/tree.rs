//! From nodes to values: each node is converted once, so what is shared stays shared and cycles end.

use std::sync::Arc;

use super::machine::Unpickled;
use super::node::{Arena, DictNode, Id, Known, Node, TensorNode};
use crate::checkpoint::value::{Dict, Object, Value};
use crate::checkpoint::{Storage, StoredTensor};
use crate::dtype::DType;
use crate::error::{Error, Result};

/// Values nested deeper than this are refused, so that dropping or printing them cannot exhaust the stack. Python's own
/// pickler gives up near this depth.
const MAX_DEPTH: usize = 1000;

/// Gives a storage by its index, for elements whose parts (a complex number has two) are of this many bytes: the unit in
/// which another machine's byte order is swapped.
pub(in crate::checkpoint) type OpenStorage<'s> = dyn FnMut(usize, usize) -> Result<Arc<Storage>> + 's;

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
            values: Vec::new(),
            depths: Vec::new(),
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
                        self.open(part);
                    }
                }
                None => {
                    let value = self.value(pickle.arena.node(id))?;
                    let depth = self.depth(id)?;
                    self.states[id as usize] = self.values.len() as u32;
                    self.values.push(value);
                    self.depths.push(depth);
                    self.frames.pop();
                }
            }
        }
        Ok(self.done(pickle.root))
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
            Node::Storage(index, dtype) => {
                Value::Storage((self.storage)(*index as usize, unit(dtype.unwrap_or(DType::U8)))?, *dtype)
            }
            Node::Tensor(index) => Value::Tensor(Arc::new(self.tensor(&arena.tensors[*index as usize])?)),
            Node::Size(sizes) => Value::Size(Arc::new(sizes[..].into())),
            Node::Device(name) => Value::Device(name[..].into()),
            Node::Object(node) => Value::Object(Arc::new(Object {
                callee: self.done(node.class),
                bare: node.bare,
                args: self.all(&node.args),
                kwargs: node.kwargs.map(|id| self.done(id)),
                items: self.all(&node.items),
                entries: self.pairs(&node.entries).collect(),
                state: node.state.map(|id| self.done(id)),
            })),
        })
    }

    fn dict(&self, node: &DictNode) -> Dict {
        let mut dict = Dict::new(node.kind, self.pairs(&node.entries));
        dict.factory = node.factory.map(|id| self.done(id));
        dict.attributes = node.attributes.map(|id| self.done(id));
        dict
    }

    fn tensor(&mut self, node: &TensorNode) -> Result<StoredTensor> {
        let storage = (self.storage)(node.storage as usize, unit(node.dtype))?;
        let sizes = |id: Id, what: &str| {
            let sizes = self.pickle.arena.sizes(id);
            sizes.ok_or_else(|| Error::invalid(format!("a tensor's {what} are not natural numbers")))
        };
        let (shape, stride) = (sizes(node.shape, "sizes")?, sizes(node.stride, "strides")?);
        let tensor = StoredTensor::new(storage, node.dtype, shape, stride, node.offset)?;
        Ok(tensor.with_requires_grad(node.requires_grad).with_bits(node.conj, node.neg))
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

/// The bytes in which another machine's byte order is swapped.
fn unit(dtype: DType) -> usize {
    match dtype {
        DType::Complex32 | DType::Complex64 | DType::Complex128 => dtype.size() / 2,
        _ => dtype.size(),
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
