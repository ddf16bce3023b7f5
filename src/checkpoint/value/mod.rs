//! Values: what a checkpoint holds, as data.

mod access;
mod big_int;
mod dict;
mod display;
mod edit;
mod enclosing;
mod numpy;
mod object;

use std::sync::Arc;

pub use access::Key;
pub use big_int::BigInt;
pub use dict::{Dict, DictKind};
pub use enclosing::Enclosing;
pub use object::Object;

use super::{Storage, StoredTensor};
use crate::dtype::DType;
use crate::shape::Shape;

/// One value of a checkpoint: a Python object as data. Cloning it copies no content.
///
/// Containers are reached into by index, as in Python; [`Value::get`] is the form that does not panic. Whatever a file
/// holds that has no meaning of its own here, such as an instance of a class, is an [`Object`]: its name, arguments and
/// state can be read, and nothing of it has been run.
///
/// ```
/// use sconce::checkpoint::{Dict, Value};
/// let group = Value::from(Dict::from_iter([("lr", Value::Float(0.1)), ("betas", Value::from(vec![0.9, 0.999]))]));
/// assert_eq!(group["lr"].as_f64()?, 0.1);
/// assert_eq!(group["betas"][1].as_f64()?, 0.999);
/// assert!(group.get("momentum").is_none());
/// assert_eq!(group["lr"].as_str().unwrap_err().to_string(), "expected a string, found the float 0.1");
/// # Ok::<(), sconce::Error>(())
/// ```
#[derive(Clone)]
#[non_exhaustive]
pub enum Value {
    /// `None`.
    None,
    /// `True` or `False`.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// An integer that does not fit into 64 bits.
    BigInt(Arc<BigInt>),
    /// A float.
    Float(f64),
    /// A complex number: the real and the imaginary part.
    Complex(f64, f64),
    /// A string.
    Str(Arc<str>),
    /// A `bytes` object, or a Python 2 string that is not UTF-8.
    Bytes(Arc<[u8]>),
    /// A `bytearray`.
    ByteArray(Arc<[u8]>),
    /// A list.
    List(Arc<Vec<Value>>),
    /// A tuple.
    Tuple(Arc<[Value]>),
    /// A dict of any kind, in order.
    Dict(Arc<Dict>),
    /// A set, in the order of the file.
    Set(Arc<Vec<Value>>),
    /// A frozenset, in the order of the file.
    FrozenSet(Arc<Vec<Value>>),
    /// A tensor or parameter.
    Tensor(Arc<StoredTensor>),
    /// A storage by itself, with its dtype unless it is untyped.
    Storage(Arc<Storage>, Option<DType>),
    /// A dtype, such as `torch.float32`.
    DType(DType),
    /// A `torch.device`: `cpu`, `cuda:1`.
    Device(Arc<str>),
    /// A `torch.Size`.
    Size(Arc<Shape>),
    /// A class or function by itself, by its qualified name: `torch.nn.modules.linear.Linear`. One inside a class has a
    /// colon after its module: `module:Outer.Inner`.
    Global(Arc<str>),
    /// Anything else: an object of a class that is not known here.
    Object(Arc<Object>),
    /// A reference to a container from inside itself, which Python prints as `...`.
    Cycle(Enclosing),
}

macro_rules! from {
    ($($type:ty => |$value:ident| $make:expr,)*) => {
        $(impl From<$type> for Value {
            fn from($value: $type) -> Self {
                $make
            }
        })*
    };
}

from! {
    bool => |value| Value::Bool(value),
    i64 => |value| Value::Int(value),
    i32 => |value| Value::Int(value.into()),
    f64 => |value| Value::Float(value),
    &str => |value| Value::Str(value.into()),
    String => |value| Value::Str(value.into()),
    Dict => |value| Value::Dict(Arc::new(value)),
    StoredTensor => |value| Value::Tensor(Arc::new(value)),
    DType => |value| Value::DType(value),
}

impl<T: Into<Value>> From<Vec<T>> for Value {
    fn from(items: Vec<T>) -> Self {
        Value::List(Arc::new(items.into_iter().map(Into::into).collect()))
    }
}
