//! NumPy's arrays and scalars, which stay objects: what their parts mean.

use std::sync::Arc;

use super::{Object, Value};
use crate::checkpoint::{Storage, StoredTensor};
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::shape::Shape;

impl Value {
    /// A NumPy array, or a scalar, as a tensor: its dtype, shape and a copy of its elements, in little-endian order. The
    /// value itself stays an object, as which it is saved.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) when it is no array or its parts contradict each other,
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) when its elements are no numbers.
    pub fn as_array(&self) -> Result<StoredTensor> {
        match self {
            Value::Object(object) => Array::of(object),
            _ => None,
        }
        .ok_or_else(|| Error::invalid(format!("expected a NumPy array, found {}", self.describe())))?
        .tensor()
    }

    /// A NumPy scalar as the value that it is.
    pub(super) fn numpy_scalar(&self) -> Option<Value> {
        let Value::Object(object) = self else { return None };
        object.numpy_scalar()
    }
}

impl Object {
    /// Whether this is a NumPy array or scalar whose elements are numbers: see [`Value::as_array`]. No element is read.
    pub fn is_array(&self) -> bool {
        self.describe_array().is_some()
    }

    pub(super) fn numpy_scalar(&self) -> Option<Value> {
        let array = Array::of(self).filter(|array| array.is_scalar)?;
        let tensor = array.tensor().ok()?;
        let bytes = tensor.contiguous_bytes().ok()?;
        let wide = |dtype| tensor.to(dtype).ok().map(|wide| wide.contiguous_bytes().map(Vec::from).unwrap_or_default());
        Some(match tensor.dtype() {
            DType::Bool => Value::Bool(bytes[0] != 0),
            DType::U64 => match u64::from_le_bytes((*bytes).try_into().ok()?) {
                big if big > i64::MAX as u64 => {
                    Value::BigInt(Arc::new(super::BigInt::from_bytes(&[&bytes[..], &[0]].concat())))
                }
                small => Value::Int(small as i64),
            },
            dtype if dtype.is_float() => Value::Float(f64::from_le_bytes(wide(DType::F64)?.try_into().ok()?)),
            dtype if dtype.is_complex() => {
                let parts: Vec<f64> = bytemuck::pod_collect_to_vec(&wide(DType::Complex128)?);
                Value::Complex(*parts.first()?, *parts.get(1)?)
            }
            _ => Value::Int(i64::from_le_bytes(wide(DType::I64)?.try_into().ok()?)),
        })
    }

    /// What an array is, in a few words: `numpy float64 [2, 3]`.
    pub(super) fn describe_array(&self) -> Option<String> {
        let array = Array::of(self)?;
        let (dtype, _) = element(array.dtype)?;
        Some(format!("numpy {dtype} {}", array.shape()?))
    }
}

/// The parts of an array.
struct Array<'a> {
    dtype: &'a Value,
    shape: Option<&'a Value>,
    is_fortran: bool,
    bytes: &'a [u8],
    is_scalar: bool,
}

impl<'a> Array<'a> {
    fn of(object: &'a Object) -> Option<Self> {
        let name = object.class().strip_prefix("numpy.")?;
        let function = name.strip_prefix("core.").or_else(|| name.strip_prefix("_core.")).unwrap_or(name);
        Some(match (function, object.args(), object.state()) {
            // The state of `ndarray`: (version, shape, dtype, whether in Fortran's order, bytes).
            ("multiarray._reconstruct", _, Some(Value::Tuple(state))) => match &state[..] {
                [_, shape, dtype, Value::Bool(is_fortran), data] | [shape, dtype, Value::Bool(is_fortran), data] => {
                    Self { dtype, shape: Some(shape), is_fortran: *is_fortran, bytes: bytes(data)?, is_scalar: false }
                }
                _ => return None,
            },
            ("multiarray.scalar", [dtype, data], _) => {
                Self { dtype, shape: None, is_fortran: false, bytes: bytes(data)?, is_scalar: true }
            }
            ("numeric._frombuffer", [data, dtype, shape, Value::Str(order)], _) => {
                Self { dtype, shape: Some(shape), is_fortran: &**order == "F", bytes: bytes(data)?, is_scalar: false }
            }
            _ => return None,
        })
    }

    fn shape(&self) -> Option<Shape> {
        let Some(shape) = self.shape else { return Some(Shape::default()) };
        let Value::Tuple(sizes) = shape else { return None };
        sizes.iter().map(|size| usize::try_from(size.as_i64().ok()?).ok()).collect()
    }

    fn tensor(&self) -> Result<StoredTensor> {
        let (dtype, is_big_endian) = element(self.dtype)
            .ok_or_else(|| Error::unsupported("a NumPy array whose elements are no numbers, or several each"))?;
        let shape = self.shape().ok_or_else(|| Error::invalid("a NumPy array's shape is not a tuple of sizes"))?;
        if shape.numel().checked_mul(dtype.size()) != Some(self.bytes.len()) {
            let len = self.bytes.len();
            return Err(Error::invalid(format!("a NumPy array of {dtype} {shape} has {len} bytes")));
        }
        let mut bytes = self.bytes.to_vec();
        if is_big_endian {
            bytes.chunks_exact_mut(dtype.part().unwrap_or(dtype).size()).for_each(<[u8]>::reverse);
        }
        let stride = match self.is_fortran {
            true => {
                let reversed: Shape = shape.iter().rev().copied().collect();
                reversed.contiguous_strides().into_iter().rev().collect()
            }
            false => shape.contiguous_strides(),
        };
        StoredTensor::new(Storage::owned(bytes, "cpu"), dtype, shape, stride, 0)
    }
}

/// A Python 2 string that happens to be text holds bytes all the same.
fn bytes(value: &Value) -> Option<&[u8]> {
    match value {
        Value::Bytes(bytes) | Value::ByteArray(bytes) => Some(bytes),
        Value::Str(text) => Some(text.as_bytes()),
        _ => None,
    }
}

/// What a `numpy.dtype` object says: the dtype, and whether it is big-endian.
fn element(dtype: &Value) -> Option<(DType, bool)> {
    let Value::Object(object) = dtype else { return None };
    let (true, Some(Value::Str(code))) = (object.class() == "numpy.dtype", object.args().first()) else { return None };
    let order = match object.state() {
        None => None,
        // (version, byte order, subarray, names, fields, ...)
        Some(Value::Tuple(state)) => match &state[..] {
            [_, Value::Str(order), Value::None, Value::None, Value::None, ..] => order.chars().next(),
            _ => return None,
        },
        Some(_) => return None,
    };
    let named = code.strip_prefix(['<', '>', '|', '=']).unwrap_or(code);
    let order = order.or_else(|| code.chars().next().filter(|order| "<>|=".contains(*order)));
    let dtype = match named {
        "b1" => DType::Bool,
        "i1" => DType::I8,
        "i2" => DType::I16,
        "i4" => DType::I32,
        "i8" => DType::I64,
        "u1" => DType::U8,
        "u2" => DType::U16,
        "u4" => DType::U32,
        "u8" => DType::U64,
        "f2" => DType::F16,
        "f4" => DType::F32,
        "f8" => DType::F64,
        "c8" => DType::Complex64,
        "c16" => DType::Complex128,
        _ => return None,
    };
    Some((dtype, order == Some('>')))
}
