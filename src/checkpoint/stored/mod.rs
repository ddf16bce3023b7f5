//! Tensors as PyTorch stores them: strided views of storages.

mod convert;
mod extra;
mod gather;

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

pub(crate) use convert::unpacked;
pub(crate) use extra::{Class, Extra, Kind};
pub use extra::{Layout, Quantizer};

use self::gather::{flip_signs, gather};
use super::storage::Storage;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::shape::Shape;

/// A tensor as a file holds it: a dtype and a strided view of a [`Storage`], with what PyTorch keeps beside it. Cloning
/// it copies no data.
///
/// A few tensors are no strided view: sparse and nested ones, those of the meta device, and Python subclasses that keep
/// their data in other tensors. They are listed with dtype and shape, are saved again as they were, and are refused by
/// name when their data is used: see [`layout`](Self::layout).
#[derive(Clone)]
pub struct StoredTensor {
    storage: Arc<Storage>,
    dtype: DType,
    requires_grad: bool,
    is_parameter: bool,
    conj: bool,
    neg: bool,
    /// Shared by tensors of the same shape, since there may be a hundred thousand.
    view: Arc<View>,
    offset: usize,
    /// What few tensors have.
    extra: Option<Arc<Extra>>,
}

/// The sizes of a tensor's dimensions and the distances between neighbours along each, in elements.
#[derive(PartialEq, Eq, Hash)]
pub(super) struct View {
    pub(super) shape: Shape,
    pub(super) stride: Shape,
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
        stride: impl Into<Shape>,
        offset: usize,
    ) -> Result<Self> {
        Self::viewed(storage, dtype, Arc::new(View { shape: shape.into(), stride: stride.into() }), offset)
    }

    /// The same as [`StoredTensor::new`], of a view that others may share.
    pub(super) fn viewed(storage: Arc<Storage>, dtype: DType, view: Arc<View>, offset: usize) -> Result<Self> {
        let View { shape, stride } = &*view;
        if shape.len() != stride.len() {
            return Err(Error::invalid(format!("a tensor of shape {shape} has {} strides", stride.len())));
        }
        let needed = bytes_needed(shape, stride, offset, dtype).ok_or_else(|| {
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
        Ok(Self::unchecked(storage, dtype, view, offset))
    }

    fn unchecked(storage: Arc<Storage>, dtype: DType, view: Arc<View>, offset: usize) -> Self {
        Self {
            storage,
            dtype,
            requires_grad: false,
            is_parameter: false,
            conj: false,
            neg: false,
            view,
            offset,
            extra: None,
        }
    }

    /// A tensor that is no strided view of a storage: [`Kind::Listed`] in `extra` says what it is.
    pub(super) fn listed(dtype: DType, view: Arc<View>, location: Arc<str>, extra: Extra) -> Self {
        Self::unchecked(Storage::owned([], location), dtype, view, 0).with_extra(Some(extra))
    }

    /// The same elements as a view of `storage`, where the storage of this one starts at a byte.
    pub(super) fn in_storage(self, storage: Arc<Storage>, start: u64) -> Result<Self> {
        let size = self.dtype.size() as u64;
        let offset = usize::try_from(start / size).ok().filter(|_| start.is_multiple_of(size));
        let offset = offset.and_then(|start| start.checked_add(self.offset)).ok_or_else(|| {
            Error::invalid(format!("a {} tensor in a part of a storage that starts at byte {start}", self.dtype))
        })?;
        let Self { dtype, view, requires_grad, conj, neg, .. } = self;
        Ok(Self { requires_grad, conj, neg, ..Self::viewed(storage, dtype, view, offset)? })
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

    /// Sets what a file says about a tensor in a word each; in place, since there may be a hundred thousand.
    pub(super) fn set_flags(&mut self, requires_grad: bool, is_parameter: bool, (conj, neg): (bool, bool)) {
        (self.requires_grad, self.is_parameter) = (requires_grad, is_parameter);
        (self.conj, self.neg) = (conj, neg);
    }

    /// The same view as an `nn.Parameter`.
    #[must_use]
    pub(crate) fn with_parameter(mut self, is_parameter: bool) -> Self {
        self.is_parameter = is_parameter;
        self
    }

    /// The same view with what is kept beside it.
    #[must_use]
    pub(crate) fn with_extra(mut self, extra: Option<Extra>) -> Self {
        self.extra = extra.map(Arc::new);
        self
    }

    pub(crate) fn extra(&self) -> Option<&Extra> {
        self.extra.as_deref()
    }

    /// The storage that this is a view of; an empty one for a tensor that is no strided view.
    pub fn storage(&self) -> &Arc<Storage> {
        &self.storage
    }

    /// The type of the elements.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The sizes of the dimensions.
    pub fn shape(&self) -> &Shape {
        &self.view.shape
    }

    /// The distance between neighbours along each dimension, in elements.
    pub fn stride(&self) -> &[usize] {
        &self.view.stride
    }

    /// The first element's position in the storage, in elements.
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// Whether PyTorch saved it as a tensor that needs gradients (a parameter that is not frozen).
    pub fn requires_grad(&self) -> bool {
        self.requires_grad
    }

    /// Whether it was saved as an `nn.Parameter`.
    pub fn is_parameter(&self) -> bool {
        self.is_parameter
    }

    /// PyTorch's conjugate and negative bits: the stored values are to be conjugated, negated, when they are read.
    pub(crate) fn bits(&self) -> (bool, bool) {
        (self.conj, self.neg)
    }

    /// Whether the elements lie in row-major order without gaps.
    pub fn is_contiguous(&self) -> bool {
        let mut expected = 1usize;
        self.view.shape.numel() == 0
            || self.view.shape.iter().zip(&*self.view.stride).rev().all(|(&size, &stride)| {
                let is_next = size == 1 || stride == expected;
                expected = expected.saturating_mul(size);
                is_next
            })
    }

    /// Whether `other` is a view of the same elements: the same storage, offset, shape, stride and dtype.
    pub fn is_same_view(&self, other: &StoredTensor) -> bool {
        Arc::ptr_eq(&self.storage, &other.storage)
            && self.layout() == other.layout()
            && (self.dtype, self.offset, &self.view, self.bits())
                == (other.dtype, other.offset, &other.view, other.bits())
    }

    /// The bytes of the storage from the first to past the last element of the view, gaps included.
    pub(crate) fn span(&self) -> std::ops::Range<usize> {
        if self.view.shape.numel() == 0 || !self.has_data() {
            return 0..0;
        }
        let View { shape, stride } = &*self.view;
        let end = bytes_needed(shape, stride, self.offset, self.dtype).expect("checked when it was made");
        self.offset * self.dtype.size()..end
    }

    /// The elements in row-major order without gaps, little-endian; borrowed when they are stored so. Of a quantized
    /// tensor these are the integers.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) when it is no strided view (see
    /// [`layout`](Self::layout)), when a copy would be larger than 1 GiB and more than 64 times as large as the storage
    /// (an expanded tensor: a few bytes can say terabytes), or when an unsupported dtype carries the conjugate or
    /// negative bit.
    pub fn contiguous_bytes(&self) -> Result<Cow<'_, [u8]>> {
        if !self.has_data() {
            return Err(self.no_data());
        }
        let span = self.span();
        let bytes = &self.storage.bytes()?[span];
        if self.is_contiguous() && !self.conj && !self.neg {
            return Ok(Cow::Borrowed(bytes));
        }
        check_expanded([self], "a contiguous copy")?;
        if self.dtype.per_byte() > 1 {
            return Err(Error::unsupported(format!(
                "a {} tensor of shape {}, stride {:?} and offset {} has elements that begin inside bytes",
                self.dtype, self.view.shape, self.view.stride, self.offset
            )));
        }
        let size = self.dtype.size();
        let mut out = gather(bytes, &self.view.shape, &self.view.stride, size)?;
        if self.conj {
            flip_signs(&mut out, self.dtype, true)?;
        }
        if self.neg {
            flip_signs(&mut out, self.dtype, false)?;
        }
        Ok(Cow::Owned(out))
    }
}

/// Tensors that are not this large together are always copied.
const MOST_EXPANDED: usize = 1 << 30;
/// Larger ones are, up to this many times the bytes of their storages.
const EXPANSION: usize = 64;

/// Refuses to copy tensors that say far more than their storages hold, as `torch.zeros(1).expand(1 << 40)` does. `what`
/// is the copy.
pub(super) fn check_expanded<'t>(tensors: impl IntoIterator<Item = &'t StoredTensor>, what: &str) -> Result<()> {
    let (mut held, mut total, mut seen) = (0usize, 0usize, HashSet::new());
    for tensor in tensors.into_iter().filter(|tensor| tensor.has_data()) {
        total = total.saturating_add(tensor.view.shape.numel().saturating_mul(tensor.dtype.size()));
        if seen.insert(Arc::as_ptr(&tensor.storage)) {
            held = held.saturating_add(tensor.storage.len());
        }
    }
    match total <= MOST_EXPANDED || total / EXPANSION <= held {
        true => Ok(()),
        false => Err(Error::unsupported(format!(
            "{what} would take {total} bytes for {held} stored ones: `expand` repeats them"
        ))
        .help("a `.pt` file keeps it as it is; in PyTorch, save it before `expand`")),
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
    if let (2.., Some((&last, outer))) = (dtype.per_byte(), shape.split_last()) {
        // PyTorch allocates whole bytes for each row, and has no other views of elements smaller than a byte.
        return offset.checked_add(outer.iter().product::<usize>() * last.div_ceil(dtype.per_byte()));
    }
    let mut last = offset;
    for (&size, &stride) in shape.iter().zip(stride) {
        last = last.checked_add((size - 1).checked_mul(stride)?)?;
    }
    last.checked_add(1)?.checked_mul(dtype.size())
}

impl fmt::Debug for StoredTensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoredTensor({}, stride {:?}, {:?})", self.describe(), self.view.stride, self.storage)
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
