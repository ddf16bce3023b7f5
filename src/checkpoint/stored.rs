//! Tensors as PyTorch stores them: strided views of storages.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use super::storage::Storage;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::shape::Shape;

/// A tensor as a file holds it: a dtype and a strided view of a [`Storage`]. Cloning it copies no data.
#[derive(Clone)]
pub struct StoredTensor {
    storage: Arc<Storage>,
    dtype: DType,
    shape: Shape,
    stride: Vec<usize>,
    offset: usize,
    requires_grad: bool,
    conj: bool,
    neg: bool,
}

impl StoredTensor {
    /// A view of `storage`: `stride` and `offset` are in elements of `dtype`, as in `torch.as_strided`.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) when the view reaches past the end of the storage or when
    /// `shape` and `stride` have different lengths.
    pub fn new(
        storage: Arc<Storage>,
        dtype: DType,
        shape: impl Into<Shape>,
        stride: Vec<usize>,
        offset: usize,
    ) -> Result<Self> {
        let shape = shape.into();
        if shape.len() != stride.len() {
            return Err(Error::invalid(format!("a tensor of shape {shape} has {} strides", stride.len())));
        }
        let needed = bytes_needed(&shape, &stride, offset, dtype).ok_or_else(|| {
            Error::invalid(format!(
                "a {dtype} tensor of shape {shape}, stride {stride:?} and offset {offset} overflows"
            ))
        })?;
        if needed > storage.len() {
            return Err(Error::invalid(format!(
                "a {dtype} tensor of shape {shape}, stride {stride:?} and offset {offset} needs {needed} bytes, \
                 its storage has {}",
                storage.len()
            )));
        }
        Ok(Self { storage, dtype, shape, stride, offset, requires_grad: false, conj: false, neg: false })
    }

    /// A contiguous tensor that owns its bytes (little-endian).
    pub fn from_bytes(dtype: DType, shape: impl Into<Shape>, bytes: impl Into<Box<[u8]>>) -> Result<Self> {
        let shape = shape.into();
        let stride = shape.contiguous_strides();
        Self::new(Storage::owned(bytes, "cpu"), dtype, shape, stride, 0)
    }

    /// The same view with `requires_grad` set.
    #[must_use]
    pub fn with_requires_grad(mut self, requires_grad: bool) -> Self {
        self.requires_grad = requires_grad;
        self
    }

    /// The same view with PyTorch's conjugate and negative bits set.
    #[must_use]
    pub(crate) fn with_bits(mut self, conj: bool, neg: bool) -> Self {
        (self.conj, self.neg) = (conj, neg);
        self
    }

    /// The same view of another storage, of the same length.
    pub(crate) fn with_storage(mut self, storage: Arc<Storage>) -> Self {
        debug_assert_eq!(storage.len(), self.storage.len());
        self.storage = storage;
        self
    }

    /// The storage that this is a view of.
    pub fn storage(&self) -> &Arc<Storage> {
        &self.storage
    }

    /// The type of the elements.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The sizes of the dimensions.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// The distance between neighbours along each dimension, in elements.
    pub fn stride(&self) -> &[usize] {
        &self.stride
    }

    /// The first element's position in the storage, in elements.
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// Whether PyTorch saved it as a tensor that needs gradients (a parameter that is not frozen).
    pub fn requires_grad(&self) -> bool {
        self.requires_grad
    }

    /// PyTorch's conjugate and negative bits: the stored values are to be conjugated, negated, when they are read.
    pub(crate) fn bits(&self) -> (bool, bool) {
        (self.conj, self.neg)
    }

    /// Whether the elements lie in row-major order without gaps.
    pub fn is_contiguous(&self) -> bool {
        let expected = self.shape.contiguous_strides();
        self.shape.numel() == 0
            || self
                .shape
                .iter()
                .zip(&self.stride)
                .zip(&expected)
                .all(|((&size, stride), want)| size == 1 || stride == want)
    }

    /// Whether `other` is a view of the same elements: the same storage, offset, shape, stride and dtype.
    pub fn is_same_view(&self, other: &StoredTensor) -> bool {
        Arc::ptr_eq(&self.storage, &other.storage)
            && (self.dtype, self.offset, &self.shape, &self.stride, self.bits())
                == (other.dtype, other.offset, &other.shape, &other.stride, other.bits())
    }

    /// The bytes of the storage from the first to past the last element of the view, gaps included.
    pub(crate) fn span(&self) -> std::ops::Range<usize> {
        let start = self.offset * self.dtype.size();
        if self.shape.numel() == 0 {
            return 0..0;
        }
        let end = bytes_needed(&self.shape, &self.stride, self.offset, self.dtype).expect("checked when it was made");
        start..end
    }

    /// The elements in row-major order without gaps, little-endian; borrowed when they are stored so.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) when a strided copy would be larger than the machine
    /// can address, or an unsupported dtype carries the conjugate or negative bit.
    pub fn contiguous_bytes(&self) -> Result<Cow<'_, [u8]>> {
        let span = self.span();
        let bytes = &self.storage.bytes()?[span];
        if self.is_contiguous() && !self.conj && !self.neg {
            return Ok(Cow::Borrowed(bytes));
        }
        let size = self.dtype.size();
        let mut out = gather(bytes, &self.shape, &self.stride, size)?;
        if self.conj {
            flip_signs(&mut out, self.dtype, true)?;
        }
        if self.neg {
            flip_signs(&mut out, self.dtype, false)?;
        }
        Ok(Cow::Owned(out))
    }
}

/// The bytes that a view reaches to from the start of its storage, or `None` on overflow. An empty view needs none.
fn bytes_needed(shape: &[usize], stride: &[usize], offset: usize, dtype: DType) -> Option<usize> {
    if shape.contains(&0) {
        return Some(0);
    }
    // Also bounds the number of elements, which a stride of 0 would leave free.
    shape
        .iter()
        .try_fold(dtype.size(), |product, &size| product.checked_mul(size))
        .filter(|&b| b <= isize::MAX as usize)?;
    let mut last = offset;
    for (&size, &stride) in shape.iter().zip(stride) {
        last = last.checked_add((size - 1).checked_mul(stride)?)?;
    }
    last.checked_add(1)?.checked_mul(dtype.size())
}

/// Copies a strided view (strides in elements of `size` bytes, starting at `bytes[0]`) to row-major order.
fn gather(bytes: &[u8], shape: &[usize], stride: &[usize], size: usize) -> Result<Vec<u8>> {
    let total = shape.iter().product::<usize>() * size;
    let mut out = Vec::new();
    out.try_reserve_exact(total)
        .map_err(|_| Error::unsupported(format!("a contiguous copy of {total} bytes does not fit into memory")))?;
    if total == 0 {
        return Ok(out);
    }
    // The trailing dimensions that are contiguous are copied as one run.
    let mut rank = shape.len();
    let mut run = size;
    while rank > 0 && (shape[rank - 1] == 1 || stride[rank - 1] * size == run) {
        run *= shape[rank - 1];
        rank -= 1;
    }
    let mut index = vec![0usize; rank];
    let mut at = 0usize;
    loop {
        out.extend_from_slice(&bytes[at..at + run]);
        let mut dim = rank;
        loop {
            if dim == 0 {
                return Ok(out);
            }
            dim -= 1;
            index[dim] += 1;
            at += stride[dim] * size;
            if index[dim] < shape[dim] {
                break;
            }
            at -= shape[dim] * stride[dim] * size;
            index[dim] = 0;
        }
    }
}

/// Negates the elements, or conjugates them when `conj` is set.
fn flip_signs(bytes: &mut [u8], dtype: DType, conj: bool) -> Result<()> {
    let (part, complex) = match dtype {
        DType::Complex32 => (2, true),
        DType::Complex64 => (4, true),
        DType::Complex128 => (8, true),
        DType::F16 | DType::BF16 => (2, false),
        DType::F32 => (4, false),
        DType::F64 => (8, false),
        _ => return Err(Error::unsupported(format!("a {dtype} tensor cannot carry the conjugate or negative bit"))),
    };
    if conj && !complex {
        return Ok(());
    }
    for (i, number) in bytes.chunks_exact_mut(part).enumerate() {
        if !conj || i % 2 == 1 {
            number[part - 1] ^= 0x80;
        }
    }
    Ok(())
}

impl fmt::Debug for StoredTensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoredTensor({}, {}, stride {:?}, {:?})", self.dtype, self.shape, self.stride, self.storage)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(shape: &[usize], stride: &[usize], offset: usize) -> Result<StoredTensor> {
        let bytes: Vec<u8> = (0..24).collect();
        StoredTensor::new(Storage::owned(bytes, "cpu"), DType::U8, shape, stride.to_vec(), offset)
    }

    #[test]
    fn gathers_strided_views() {
        assert_eq!(*view(&[2, 3], &[1, 2], 1).unwrap().contiguous_bytes().unwrap(), [1, 3, 5, 2, 4, 6]);
        assert_eq!(
            *view(&[2, 2, 3], &[12, 6, 1], 3).unwrap().contiguous_bytes().unwrap(),
            [3, 4, 5, 9, 10, 11, 15, 16, 17, 21, 22, 23]
        );
        assert_eq!(*view(&[3], &[0], 7).unwrap().contiguous_bytes().unwrap(), [7, 7, 7]);
        assert_eq!(*view(&[], &[], 5).unwrap().contiguous_bytes().unwrap(), [5]);
        assert!(view(&[0, 3], &[9, 99], 5).unwrap().contiguous_bytes().unwrap().is_empty());
    }

    #[test]
    fn refuses_views_past_the_end() {
        assert!(view(&[24], &[1], 0).is_ok());
        assert!(view(&[24], &[1], 1).is_err());
        assert!(view(&[2], &[usize::MAX], 1).is_err());
        assert!(view(&[usize::MAX, usize::MAX], &[0, 0], 0).is_err());
        assert!(view(&[2], &[1, 1], 0).is_err());
    }

    #[test]
    fn negates_and_conjugates() {
        let bytes: Vec<u8> = [1f32, 2., 3., 4.].iter().flat_map(|x| x.to_le_bytes()).collect();
        let tensor = StoredTensor::from_bytes(DType::Complex64, [2], bytes).unwrap();
        let read = |t: &StoredTensor| -> Vec<f32> { bytemuck::pod_collect_to_vec(&t.contiguous_bytes().unwrap()) };
        assert_eq!(read(&tensor.clone().with_bits(true, false)), [1., -2., 3., -4.]);
        assert_eq!(read(&tensor.with_bits(false, true)), [-1., -2., -3., -4.]);
    }
}
