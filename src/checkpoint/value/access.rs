//! Reaching into values.

use std::ops::Index;
use std::sync::Arc;

use super::{Dict, Value};
use crate::checkpoint::{Layout, Storage, StoredTensor};
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::shape::Shape;

/// What a value is indexed with: a `str`, or a `usize` (a position, or an integer key of a dict).
pub trait Key: sealed::Sealed {
    #[doc(hidden)]
    fn text(&self) -> Option<&str>;
    #[doc(hidden)]
    fn position(&self) -> Option<usize>;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for str {}
    impl Sealed for usize {}
    impl Sealed for &str {}
    impl Sealed for String {}
}

impl Key for str {
    fn text(&self) -> Option<&str> {
        Some(self)
    }
    fn position(&self) -> Option<usize> {
        None
    }
}

impl Key for &str {
    fn text(&self) -> Option<&str> {
        Some(self)
    }
    fn position(&self) -> Option<usize> {
        None
    }
}

impl Key for String {
    fn text(&self) -> Option<&str> {
        Some(self)
    }
    fn position(&self) -> Option<usize> {
        None
    }
}

impl Key for usize {
    fn text(&self) -> Option<&str> {
        None
    }
    fn position(&self) -> Option<usize> {
        Some(*self)
    }
}

macro_rules! accessors {
    ($($(#[$doc:meta])* $name:ident -> $type:ty, $expected:literal: $($pattern:pat => $result:expr),+;)*) => {
        $($(#[$doc])*
        ///
        /// # Errors
        /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid), naming what was found, when it is something else.
        pub fn $name(&self) -> Result<$type> {
            match self {
                $($pattern => Ok($result),)+
                other => Err(Error::invalid(format!("expected {}, found {}", $expected, other.describe()))),
            }
        })*
    };
}

macro_rules! numbers {
    ($($(#[$doc:meta])* $name:ident -> $type:ty, $expected:literal: $($pattern:pat => $result:expr),+;)*) => {
        $($(#[$doc])*
        ///
        /// # Errors
        /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid), naming what was found, when it is something else.
        pub fn $name(&self) -> Result<$type> {
            match self {
                $($pattern => Ok($result),)+
                other => match other.numpy_scalar() {
                    Some(scalar) => scalar.$name(),
                    None => Err(Error::invalid(format!("expected {}, found {}", $expected, other.describe()))),
                },
            }
        })*
    };
}

impl Value {
    numbers! {
        /// The value as a bool, Python's or NumPy's.
        as_bool -> bool, "a bool": Value::Bool(value) => *value;
        /// The value as an integer, Python's or NumPy's.
        as_i64 -> i64, "an integer": Value::Int(value) => *value;
        /// The value as a number, Python's or NumPy's; integers are converted.
        as_f64 -> f64, "a number": Value::Float(value) => *value, Value::Int(value) => *value as f64;
    }

    accessors! {
        /// The value as a string.
        as_str -> &str, "a string": Value::Str(value) => value;
        /// The value as bytes.
        as_bytes -> &[u8], "bytes": Value::Bytes(value) | Value::ByteArray(value) => value;
        /// The items of a list, tuple or set.
        as_list -> &[Value], "a list":
            Value::List(items) | Value::Set(items) | Value::FrozenSet(items) => items,
            Value::Tuple(items) => items;
        /// The value as a dict.
        as_dict -> &Dict, "a dict": Value::Dict(value) => value;
        /// The value as a tensor.
        as_tensor -> &StoredTensor, "a tensor": Value::Tensor(value) => value;
        /// The value as a storage.
        as_storage -> &Arc<Storage>, "a storage": Value::Storage(value, _) => value;
        /// The value as a dtype.
        as_dtype -> DType, "a dtype": Value::DType(value) => *value;
        /// The value as a shape.
        as_shape -> &Shape, "a torch.Size": Value::Size(value) => value;
        /// The value as an opaque object.
        as_object -> &super::Object, "an object": Value::Object(value) => value;
    }

    /// Whether this is `None`.
    pub fn is_none(&self) -> bool {
        matches!(self, Value::None)
    }

    /// What is stored under a key: a dict's value, an object's or tensor's attribute, a list's or tuple's item. `None` when
    /// there is no such key, or this has none at all.
    pub fn get<K: Key + ?Sized>(&self, key: &K) -> Option<&Value> {
        match self {
            Value::Dict(dict) => dict.get(key),
            Value::List(items) => items.get(key.position()?),
            Value::Tuple(items) => items.get(key.position()?),
            Value::Object(object) => match key.text() {
                Some(name) => object.get(name),
                None => object.items.get(key.position()?),
            },
            Value::Tensor(tensor) => tensor.attribute(key.text()?),
            _ => None,
        }
    }

    /// What this is, in a few words, for messages.
    pub(crate) fn describe(&self) -> String {
        let count = |what: &str, len: usize| match len {
            1 => format!("{what} of 1 item"),
            _ => format!("{what} of {len} items"),
        };
        match self {
            Value::None => "`None`".into(),
            Value::Bool(value) => format!("the bool {value}"),
            Value::Int(value) => format!("the integer {value}"),
            Value::BigInt(value) => format!("an integer of {} bits", value.bytes().len() * 8),
            Value::Float(value) => format!("the float {value:?}"),
            Value::Complex(..) => "a complex number".into(),
            Value::Str(value) if value.chars().count() <= 40 => format!("the string {value:?}"),
            Value::Str(value) => format!("a string of {} characters", value.chars().count()),
            Value::Bytes(value) | Value::ByteArray(value) => format!("{} bytes", value.len()),
            Value::List(items) => count("a list", items.len()),
            Value::Tuple(items) => count("a tuple", items.len()),
            Value::Set(items) | Value::FrozenSet(items) => count("a set", items.len()),
            Value::Dict(dict) => count("a dict", dict.len()),
            Value::Tensor(tensor) if tensor.layout() == Layout::Strided => {
                format!("a {} tensor {}", tensor.dtype(), tensor.shape())
            }
            Value::Tensor(tensor) => format!("a tensor, {}", tensor.describe()),
            Value::Storage(storage, _) => format!("a storage of {} bytes", storage.len()),
            Value::DType(dtype) => format!("the dtype `torch.{dtype}`"),
            Value::Device(name) => format!("the device `{name}`"),
            Value::Size(shape) => format!("the torch.Size {shape}"),
            Value::Global(name) => format!("the class `{name}`"),
            Value::Object(object) if object.describe_array().is_some() => {
                format!("a NumPy array, {}", object.describe_array().unwrap_or_default())
            }
            Value::Object(object) => format!("an object of class `{}`", object.class()),
            Value::Cycle(_) => "a reference to a container from inside itself".into(),
        }
    }

    /// Why there is nothing under `key`.
    pub(super) fn missing(&self, key: &impl std::fmt::Debug) -> String {
        const SHOWN: usize = 20;
        match self {
            Value::Dict(dict) => {
                let mut keys: Vec<String> = dict.keys().take(SHOWN).map(Value::to_string).collect();
                if dict.len() > SHOWN {
                    keys.push(format!("and {} more", dict.len() - SHOWN));
                }
                match keys.is_empty() {
                    true => format!("no key {key:?}: the dict is empty"),
                    false => format!("no key {key:?}; the keys are {}", keys.join(", ")),
                }
            }
            other => format!("no key {key:?} in {}", other.describe()),
        }
    }
}

impl Index<&str> for Value {
    type Output = Value;

    /// The value of a string key, or an object's attribute.
    ///
    /// # Panics
    /// When there is none; [`Value::get`] returns `None` instead.
    #[track_caller]
    fn index(&self, key: &str) -> &Value {
        self.get(key).unwrap_or_else(|| panic!("{}", self.missing(&key)))
    }
}

impl Index<usize> for Value {
    type Output = Value;

    /// The item at a position, or a dict's value of an integer key.
    ///
    /// # Panics
    /// When there is none; [`Value::get`] returns `None` instead.
    #[track_caller]
    fn index(&self, key: usize) -> &Value {
        self.get(&key).unwrap_or_else(|| panic!("{}", self.missing(&key)))
    }
}
