//! Tensors: what goes into a model and what comes out.

#[cfg(feature = "ndarray")]
mod ndarray;

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use crate::checkpoint::{Storage, StoredTensor, Value, unpacked};
use crate::dtype::{DType, convert};
use crate::error::{Error, Result};
use crate::shape::Shape;

/// Contiguous data with a dtype and a shape, in host memory. Cloning it copies no data.
///
/// ```
/// use sconce::Tensor;
/// let x = Tensor::new([2, 3], vec![1f32, 2., 3., 4., 5., 6.])?;
/// assert_eq!(x.shape().to_string(), "[2, 3]");
/// assert_eq!(x.as_slice::<f32>()?[4], 5.0);
/// # Ok::<(), sconce::Error>(())
/// ```
#[derive(Clone)]
pub struct Tensor {
    dtype: DType,
    shape: Shape,
    /// Whole words, so that every element type is aligned; the last word may be padding.
    words: Arc<[u64]>,
}

/// A Rust type that is a tensor's element.
pub trait Element: bytemuck::Pod {
    /// The dtype of tensors of this type.
    const DTYPE: DType;
}

macro_rules! elements {
    ($($type:ty => $dtype:ident),*) => { $(impl Element for $type { const DTYPE: DType = DType::$dtype; })* };
}
elements!(f64 => F64, f32 => F32, half::f16 => F16, half::bf16 => BF16, i64 => I64, i32 => I32, i16 => I16, i8 => I8,
    u8 => U8, u16 => U16, u32 => U32, u64 => U64);

impl Tensor {
    /// A tensor of `shape` from its elements in row-major order.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`](crate::ErrorKind::Shape) when the number of elements does not fit the shape.
    pub fn new<T: Element>(shape: impl Into<Shape>, data: impl AsRef<[T]>) -> Result<Self> {
        Self::from_bytes(T::DTYPE, shape, bytemuck::cast_slice(data.as_ref()))
    }

    /// A tensor of `shape` from the bytes of its elements in row-major order, little-endian.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`](crate::ErrorKind::Shape) when the number of bytes does not fit the shape.
    pub fn from_bytes(dtype: DType, shape: impl Into<Shape>, bytes: &[u8]) -> Result<Self> {
        let shape = shape.into();
        if shape.numel().checked_mul(dtype.size()) != Some(bytes.len()) {
            return Err(Error::shape(format!(
                "a {dtype} tensor of shape {shape} has {} elements, {} were given",
                shape.numel(),
                bytes.len() / dtype.size()
            )));
        }
        let mut words: Arc<[u64]> = std::iter::repeat_n(0, bytes.len().div_ceil(8)).collect();
        let target = Arc::get_mut(&mut words).expect("just made");
        bytemuck::cast_slice_mut::<u64, u8>(target)[..bytes.len()].copy_from_slice(bytes);
        Ok(Self { dtype, shape, words })
    }

    /// A tensor of zeros.
    pub fn zeros(dtype: DType, shape: impl Into<Shape>) -> Self {
        let shape = shape.into();
        let words = std::iter::repeat_n(0, (shape.numel() * dtype.size()).div_ceil(8)).collect();
        Self { dtype, shape, words }
    }

    /// A contiguous copy of a tensor of a file.
    ///
    /// # Errors
    /// Those of [`StoredTensor::contiguous_bytes`], and [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) for a
    /// quantized tensor, which [`StoredTensor::to`] dequantizes.
    pub fn from_stored(stored: &StoredTensor) -> Result<Self> {
        if stored.quantizer().is_some() {
            let (what, help) = stored.refusal().unwrap_or_default();
            return Err(Error::unsupported(format!("{what}: its integers are no numbers by themselves")).help(help));
        }
        Self::from_bytes(stored.dtype(), stored.shape().clone(), &stored.contiguous_bytes()?)
    }

    /// Saves the tensor, as `torch.save(tensor, path)` does: see [`save`](crate::save).
    ///
    /// # Errors
    /// As [`save`](crate::save).
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        crate::checkpoint::save(self, path)
    }

    /// The type of the elements.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The sizes of the dimensions.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// The bytes of the elements in row-major order, little-endian.
    pub fn bytes(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.words)[..self.shape.numel() * self.dtype.size()]
    }

    /// The elements in row-major order.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`](crate::ErrorKind::Shape) when the tensor's dtype is not `T`'s.
    pub fn as_slice<T: Element>(&self) -> Result<&[T]> {
        if self.dtype != T::DTYPE {
            return Err(Error::shape(format!("the tensor is {}, not {}", self.dtype, T::DTYPE))
                .help(format!("convert it with `to(DType::{:?})`", T::DTYPE)));
        }
        Ok(bytemuck::cast_slice(self.bytes()))
    }

    /// A copy in another dtype, by PyTorch's rules: see [`StoredTensor::to`].
    ///
    /// ```
    /// use sconce::{DType, Tensor};
    /// let x = Tensor::new([2], [1.9f32, -1.9])?.to(DType::I64)?;
    /// assert_eq!(x.as_slice::<i64>()?, [1, -1]);
    /// # Ok::<(), sconce::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) when there is no such conversion, from complex to real
    /// numbers say.
    pub fn to(&self, dtype: DType) -> Result<Self> {
        if dtype == self.dtype {
            return Ok(self.clone());
        }
        Self::from_bytes(dtype, unpacked(self.dtype, &self.shape), &convert(self.dtype, dtype, self.bytes())?)
    }

    /// The elements as `f32`, converted from any dtype that runs.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) for a dtype that is not [`DType::is_runnable`].
    pub fn to_f32(&self) -> Result<Vec<f32>> {
        bytes_to_f32(self.dtype, self.bytes())
    }

    /// The elements as `i64`, converted from an integer dtype or `bool`.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) for any other dtype.
    pub fn to_i64(&self) -> Result<Vec<i64>> {
        let bytes = self.bytes();
        Ok(match self.dtype {
            DType::I64 => bytemuck::cast_slice(bytes).to_vec(),
            DType::I32 => bytemuck::cast_slice::<_, i32>(bytes).iter().map(|&x| x.into()).collect(),
            DType::I16 => bytemuck::cast_slice::<_, i16>(bytes).iter().map(|&x| x.into()).collect(),
            DType::I8 => bytemuck::cast_slice::<_, i8>(bytes).iter().map(|&x| x.into()).collect(),
            DType::U8 | DType::Bool => bytes.iter().map(|&x| x.into()).collect(),
            other => return Err(Error::unsupported(format!("a {other} tensor is not read as integers"))),
        })
    }
}

/// Converts the little-endian bytes of `dtype` elements to `f32`, rounding to nearest as PyTorch's `.float()`.
///
/// # Errors
/// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) for a dtype that is not [`DType::is_runnable`].
pub(crate) fn bytes_to_f32(dtype: DType, bytes: &[u8]) -> Result<Vec<f32>> {
    let mut floats = vec![0.0; bytes.len() / dtype.size()];
    write_f32(dtype, bytes, &mut floats)?;
    Ok(floats)
}

/// The same into `out`, which has as many elements.
///
/// # Errors
/// As above.
pub(crate) fn write_f32(dtype: DType, bytes: &[u8], out: &mut [f32]) -> Result<()> {
    fn read<const N: usize>(bytes: &[u8], out: &mut [f32], convert: impl Fn([u8; N]) -> f32) {
        let elements = bytes.chunks_exact(N).map(|x| convert(x.try_into().expect("N bytes")));
        out.iter_mut().zip(elements).for_each(|(out, x)| *out = x);
    }
    match dtype {
        DType::F32 => read(bytes, out, f32::from_le_bytes),
        DType::F64 => read(bytes, out, |x| f64::from_le_bytes(x) as f32),
        DType::F16 => read(bytes, out, |x| half::f16::from_le_bytes(x).to_f32()),
        DType::BF16 => read(bytes, out, |x| half::bf16::from_le_bytes(x).to_f32()),
        DType::I64 => read(bytes, out, |x| i64::from_le_bytes(x) as f32),
        DType::I32 => read(bytes, out, |x| i32::from_le_bytes(x) as f32),
        DType::I16 => read(bytes, out, |x| i16::from_le_bytes(x).into()),
        DType::I8 => read(bytes, out, |x| i8::from_le_bytes(x).into()),
        DType::U8 | DType::Bool => read(bytes, out, |x| u8::from_le_bytes(x).into()),
        other => return Err(Error::unsupported(format!("{other} tensors do not run"))),
    }
    Ok(())
}

/// Contiguous, on the CPU, without gradients. The data is shared, not copied.
impl From<&Tensor> for StoredTensor {
    fn from(tensor: &Tensor) -> Self {
        struct Data(Tensor);
        impl AsRef<[u8]> for Data {
            fn as_ref(&self) -> &[u8] {
                self.0.bytes()
            }
        }
        let storage = Storage::shared(Arc::new(Data(tensor.clone())), "cpu");
        let stride = tensor.shape.contiguous_strides();
        StoredTensor::new(storage, tensor.dtype, tensor.shape.clone(), stride, 0).expect("a tensor has all its bytes")
    }
}

impl From<&Tensor> for Value {
    fn from(tensor: &Tensor) -> Self {
        StoredTensor::from(tensor).into()
    }
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tensor({}, {})", self.dtype, self.shape)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn converts_and_checks() {
        let x = Tensor::new([3], [half::f16::from_f32(0.5), half::f16::from_f32(-2.0), half::f16::INFINITY]).unwrap();
        assert_eq!(x.to_f32().unwrap(), [0.5, -2.0, f32::INFINITY]);
        assert!(x.as_slice::<f32>().is_err());
        assert!(Tensor::new([2], [1f32]).is_err());
        assert_eq!(Tensor::new([2], [7u8, 9]).unwrap().to_i64().unwrap(), [7, 9]);
        assert!(Tensor::zeros(DType::I64, [0, 4]).bytes().is_empty());
    }
}
