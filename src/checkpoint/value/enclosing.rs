//! References of values to what they are inside of.

use std::fmt;
use std::sync::{Arc, OnceLock, Weak};

use super::{Dict, Object, Value};
use crate::checkpoint::StoredTensor;

/// The container that a [`Value::Cycle`] stands for. This does not keep it alive, and a container that is changed in place
/// becomes another one.
#[derive(Clone, Default)]
pub struct Enclosing(Arc<OnceLock<Target>>);

enum Target {
    List(Weak<Vec<Value>>),
    Tuple(Weak<[Value]>),
    Dict(Weak<Dict>),
    Set(Weak<Vec<Value>>),
    FrozenSet(Weak<Vec<Value>>),
    Tensor(Weak<StoredTensor>),
    Object(Weak<Object>),
}

impl Enclosing {
    /// The container; `None` when it is gone, or was changed since.
    pub fn get(&self) -> Option<Value> {
        Some(match self.0.get()? {
            Target::List(items) => Value::List(items.upgrade()?),
            Target::Tuple(items) => Value::Tuple(items.upgrade()?),
            Target::Dict(dict) => Value::Dict(dict.upgrade()?),
            Target::Set(items) => Value::Set(items.upgrade()?),
            Target::FrozenSet(items) => Value::FrozenSet(items.upgrade()?),
            Target::Tensor(tensor) => Value::Tensor(tensor.upgrade()?),
            Target::Object(object) => Value::Object(object.upgrade()?),
        })
    }

    /// Makes this, and all that were cloned from it, stand for a container, once that is complete.
    pub(in crate::checkpoint) fn close(&self, container: &Value) {
        let target = match container {
            Value::List(items) => Target::List(Arc::downgrade(items)),
            Value::Tuple(items) => Target::Tuple(Arc::downgrade(items)),
            Value::Dict(dict) => Target::Dict(Arc::downgrade(dict)),
            Value::Set(items) => Target::Set(Arc::downgrade(items)),
            Value::FrozenSet(items) => Target::FrozenSet(Arc::downgrade(items)),
            Value::Tensor(tensor) => Target::Tensor(Arc::downgrade(tensor)),
            Value::Object(object) => Target::Object(Arc::downgrade(object)),
            _ => return,
        };
        let _ = self.0.set(target);
    }
}

impl fmt::Debug for Enclosing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("...")
    }
}

impl Value {
    /// What tells a container or tensor from all others that exist.
    pub(in crate::checkpoint) fn address(&self) -> Option<usize> {
        Some(match self {
            Value::List(items) | Value::Set(items) | Value::FrozenSet(items) => Arc::as_ptr(items).addr(),
            Value::Tuple(items) => Arc::as_ptr(items).addr(),
            Value::Dict(dict) => Arc::as_ptr(dict).addr(),
            Value::Tensor(tensor) => Arc::as_ptr(tensor).addr(),
            Value::Object(object) => Arc::as_ptr(object).addr(),
            _ => return None,
        })
    }
}
