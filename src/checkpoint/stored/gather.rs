//! Copying strided views to row-major order.

use crate::dtype::DType;
use crate::error::{Error, Result};

/// Copies a strided view (strides in elements of `size` bytes, starting at `bytes[0]`) to row-major order.
pub(super) fn gather(bytes: &[u8], shape: &[usize], stride: &[usize], size: usize) -> Result<Vec<u8>> {
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
pub(super) fn flip_signs(bytes: &mut [u8], dtype: DType, conj: bool) -> Result<()> {
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
