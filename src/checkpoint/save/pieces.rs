//! The bytes of storages and tensors piece by piece, so that writing takes little memory.

use std::sync::Arc;

use super::Take;
use crate::checkpoint::{Storage, StoredTensor};
use crate::error::Result;

/// The largest piece.
pub(super) const PIECE: usize = 8 << 20;

/// Gives all bytes of a storage.
pub(super) fn whole(storage: &Storage, take: &mut Take<'_>) -> Result<()> {
    spans(storage, &storage.bytes_once()?, 0, take)
}

/// Gives `bytes`, which are those of the storage from `start` on. Mapped pages that are done with are let go.
fn spans(storage: &Storage, bytes: &[u8], start: usize, take: &mut Take<'_>) -> Result<()> {
    for (i, piece) in bytes.chunks(PIECE).enumerate() {
        take(piece)?;
        if piece.len() == PIECE {
            let start = start + i * PIECE;
            storage.release_pages(start..start + PIECE);
        }
    }
    Ok(())
}

/// Gives the elements of a tensor in row-major order without gaps. The bytes of the last storage that had to be computed
/// are kept in `unpacked`, for the next tensor of the same one.
pub(super) fn contiguous(tensor: &StoredTensor, unpacked: &mut Unpacked, take: &mut Take<'_>) -> Result<()> {
    if tensor.is_contiguous() && tensor.bits() == (false, false) {
        let span = tensor.span();
        let storage = unpacked.find(tensor.storage())?;
        return spans(&storage, &storage.bytes()?[span.clone()], span.start, take);
    }
    let storage = unpacked.find(tensor.storage())?;
    let view =
        StoredTensor::new(storage, tensor.dtype(), tensor.shape().clone(), tensor.stride().to_vec(), tensor.offset())?;
    let (conj, neg) = tensor.bits();
    rows(&view.with_bits(conj, neg), take)
}

/// Gives a strided tensor in blocks of rows.
fn rows(tensor: &StoredTensor, take: &mut Take<'_>) -> Result<()> {
    let first = tensor.shape().iter().position(|&size| size > 1).unwrap_or(tensor.shape().len());
    let (shape, stride) = (&tensor.shape()[first..], &tensor.stride()[first..]);
    let total = tensor.shape().numel() * tensor.dtype().size();
    if total <= PIECE || shape.is_empty() {
        return take(&tensor.contiguous_bytes()?);
    }
    let row = total / shape[0];
    let count = (PIECE / row).max(1);
    for start in (0..shape[0]).step_by(count) {
        let mut part = shape.to_vec();
        part[0] = count.min(shape[0] - start);
        let offset = tensor.offset() + start * stride[0];
        let part = StoredTensor::new(Arc::clone(tensor.storage()), tensor.dtype(), part, stride.to_vec(), offset)?;
        let (conj, neg) = tensor.bits();
        rows(&part.with_bits(conj, neg), take)?;
    }
    Ok(())
}

/// The storage that was unpacked last.
#[derive(Default)]
pub(super) struct Unpacked {
    last: Option<(Arc<Storage>, Arc<Storage>)>,
}

impl Unpacked {
    /// The storage, or a copy of it if its bytes have to be computed.
    fn find(&mut self, storage: &Arc<Storage>) -> Result<Arc<Storage>> {
        if let Some((packed, unpacked)) = &self.last
            && Arc::ptr_eq(packed, storage)
        {
            return Ok(Arc::clone(unpacked));
        }
        // The old one goes first.
        self.last = None;
        match storage.bytes_once()? {
            std::borrow::Cow::Borrowed(_) => Ok(Arc::clone(storage)),
            std::borrow::Cow::Owned(bytes) => {
                let unpacked = Storage::owned(bytes, storage.location());
                self.last = Some((Arc::clone(storage), Arc::clone(&unpacked)));
                Ok(unpacked)
            }
        }
    }
}
