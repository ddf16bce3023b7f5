//! From nodes to values: each node is converted once, so what is shared stays shared and cycles end.

use std::sync::Arc;

use super::machine::Unpickled;
use super::node::{Id, Known, Node, TensorNode};
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

enum State {
    New,
    Open,
    Done(Value),
}

/// A container that is being converted, and how far.
struct Frame {
    id: Id,
    next: usize,
}

struct Builder<'u, 'a, 's> {
    pickle: &'u Unpickled<'a>,
    storage: &'u mut OpenStorage<'s>,
    states: Vec<State>,
    frames: Vec<Frame>,
    depths: Vec<u16>,
}

impl Unpickled<'_> {
    /// The pickle's value, with its tensors' storages from `storage`.
    pub(in crate::checkpoint) fn into_value(self, storage: &mut OpenStorage<'_>) -> Result<Value> {
        let states = std::iter::repeat_with(|| State::New).take(self.nodes.len()).collect();
        let depths = vec![0; self.nodes.len()];
        let mut builder = Builder { pickle: &self, storage, states, frames: Vec::new(), depths };
        builder.run().map_err(|error| match builder.path() {
            path if path.is_empty() => error,
            path => error.context(format_args!("`{path}`")),
        })
    }
}

impl Builder<'_, '_, '_> {
    fn run(&mut self) -> Result<Value> {
        self.frames.push(Frame { id: self.pickle.root, next: 0 });
        self.states[self.pickle.root as usize] = State::Open;
        while let Some(frame) = self.frames.last_mut() {
            let id = frame.id;
            let node = &self.pickle.nodes[id as usize];
            match child(node, frame.next) {
                Some(part) => {
                    frame.next += 1;
                    if matches!(self.states[part as usize], State::New) {
                        self.frames.push(Frame { id: part, next: 0 });
                        self.states[part as usize] = State::Open;
                    }
                }
                None => {
                    let value = self.value(node)?;
                    self.measure(id, node)?;
                    self.states[id as usize] = State::Done(value);
                    self.frames.pop();
                }
            }
        }
        Ok(self.done(self.pickle.root))
    }

    /// Notes how deep a container is.
    fn measure(&mut self, id: Id, node: &Node<'_>) -> Result<()> {
        let mut parts = 0;
        let mut deepest = 0;
        while let Some(part) = child(node, parts) {
            deepest = deepest.max(self.depths[part as usize]);
            parts += 1;
        }
        if parts > 0 {
            deepest += 1;
        }
        if usize::from(deepest) > MAX_DEPTH {
            return Err(Error::unsupported(format!("values are nested more than {MAX_DEPTH} deep")));
        }
        self.depths[id as usize] = deepest;
        Ok(())
    }

    fn done(&self, id: Id) -> Value {
        match &self.states[id as usize] {
            State::Done(value) => value.clone(),
            State::Open | State::New => Value::Cycle,
        }
    }

    fn all(&self, ids: &[Id]) -> Vec<Value> {
        ids.iter().map(|&id| self.done(id)).collect()
    }

    fn pairs<'i>(&'i self, ids: &'i [(Id, Id)]) -> impl ExactSizeIterator<Item = (Value, Value)> + 'i {
        ids.iter().map(|&(key, value)| (self.done(key), self.done(value)))
    }

    /// The value of a node whose parts are done.
    fn value(&mut self, node: &Node<'_>) -> Result<Value> {
        Ok(match node {
            Node::None => Value::None,
            Node::Bool(value) => Value::Bool(*value),
            Node::Int(value) => Value::Int(*value),
            Node::BigInt(value) => Value::BigInt(Arc::new((**value).clone())),
            Node::Float(value) => Value::Float(*value),
            Node::Complex(parts) => Value::Complex(parts.0, parts.1),
            Node::Str(text) => Value::Str(text.as_ref().into()),
            Node::Bytes(bytes) => Value::Bytes(bytes.as_ref().into()),
            Node::ByteArray(bytes) => Value::ByteArray(bytes.as_ref().into()),
            Node::List(items) => Value::List(Arc::new(self.all(items))),
            Node::Tuple(items) => Value::Tuple(self.all(items).into()),
            Node::Set(set) if set.frozen => Value::FrozenSet(Arc::new(self.all(&set.items))),
            Node::Set(set) => Value::Set(Arc::new(self.all(&set.items))),
            Node::Dict(node) => {
                let mut dict = Dict::new(node.kind, self.pairs(&node.entries));
                dict.factory = node.factory.map(|id| self.done(id));
                dict.attributes = node.attributes.map(|id| self.done(id));
                Value::Dict(Arc::new(dict))
            }
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
            Node::Tensor(tensor) => Value::Tensor(Arc::new(self.tensor(tensor)?)),
            Node::Size(sizes) => Value::Size(Arc::new(sizes[..].into())),
            Node::Device(name) => Value::Device(name[..].into()),
            Node::Object(node) => Value::Object(Arc::new(Object {
                callee: self.done(node.class),
                args: self.all(&node.args),
                kwargs: node.kwargs.map(|id| self.done(id)),
                items: self.all(&node.items),
                entries: self.pairs(&node.entries).collect(),
                state: node.state.map(|id| self.done(id)),
            })),
        })
    }

    fn tensor(&mut self, node: &TensorNode) -> Result<StoredTensor> {
        let storage = (self.storage)(node.storage as usize, unit(node.dtype))?;
        let tensor = StoredTensor::new(storage, node.dtype, node.shape.clone(), node.stride.clone(), node.offset)?;
        Ok(tensor.with_requires_grad(node.requires_grad).with_bits(node.conj, node.neg))
    }

    /// The keys and positions that lead to the value being converted: `state_dict.fc.weight`.
    fn path(&self) -> String {
        let mut path = String::new();
        // Deep paths are hostile ones: the first steps tell enough.
        for frame in self.frames.iter().take(16) {
            let Some(step) = frame.next.checked_sub(1) else { break };
            let name = match &self.pickle.nodes[frame.id as usize] {
                Node::Dict(dict) => dict.entries.get(step / 2).map(|&(key, _)| self.step_name(key)),
                Node::List(_) | Node::Tuple(_) => Some(step.to_string()),
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
        match &self.pickle.nodes[key as usize] {
            Node::Str(text) => text.chars().take(80).flat_map(char::escape_debug).collect(),
            Node::Int(int) => int.to_string(),
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
fn child(node: &Node<'_>, at: usize) -> Option<Id> {
    let entry = |entries: &[(Id, Id)], at: usize| {
        entries.get(at / 2).map(|&(key, value)| if at.is_multiple_of(2) { key } else { value })
    };
    match node {
        Node::List(items) => items.get(at).copied(),
        Node::Tuple(items) => items.get(at).copied(),
        Node::Set(set) => set.items.get(at).copied(),
        Node::Dict(dict) => entry(&dict.entries, at)
            .or_else(|| [dict.factory, dict.attributes].into_iter().flatten().nth(at - dict.entries.len() * 2)),
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
