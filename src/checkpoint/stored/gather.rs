//! Copying strided views to row-major order: in blocks that stay in the first cache, with several threads when there is
//! much to copy.

use std::num::NonZero;
use std::thread;

use crate::dtype::DType;
use crate::error::{Error, Result};

/// Copies of fewer bytes are made by one thread.
const PARALLEL: usize = 4 << 20;
/// The side of a square that is transposed at a time.
const TILE: usize = 32;

/// A dimension of a view that is being copied: elements, and elements from one to the next.
#[derive(Clone, Copy)]
struct Dim {
    size: usize,
    stride: usize,
}

/// Copies a strided view (strides in elements of `size` bytes, starting at `bytes[0]`) to row-major order.
pub(super) fn gather(bytes: &[u8], shape: &[usize], stride: &[usize], size: usize) -> Result<Vec<u8>> {
    let total = shape.iter().product::<usize>() * size;
    Vec::<u8>::new()
        .try_reserve_exact(total)
        .map_err(|_| Error::unsupported(format!("a contiguous copy of {total} bytes does not fit into memory")))?;
    // Zeroed by the system, page by page, as the threads come to it.
    let mut out = vec![0; total];
    if total == 0 {
        return Ok(out);
    }
    let dims = merged(shape, stride);
    match size {
        1 => parallel::<1>(bytes, &mut out, &dims),
        2 => parallel::<2>(bytes, &mut out, &dims),
        4 => parallel::<4>(bytes, &mut out, &dims),
        8 => parallel::<8>(bytes, &mut out, &dims),
        16 => parallel::<16>(bytes, &mut out, &dims),
        other => return Err(Error::unsupported(format!("elements of {other} bytes"))),
    }
    Ok(out)
}

/// The dimensions, without those of size 1, and with those in one that follow each other without a gap.
fn merged(shape: &[usize], stride: &[usize]) -> Vec<Dim> {
    let mut dims: Vec<Dim> = Vec::with_capacity(shape.len());
    for (&size, &stride) in shape.iter().zip(stride).filter(|&(&size, _)| size != 1) {
        match dims.last_mut() {
            Some(outer) if stride.checked_mul(size) == Some(outer.stride) => {
                *outer = Dim { size: outer.size * size, stride };
            }
            _ => dims.push(Dim { size, stride }),
        }
    }
    dims
}

/// Gives each thread some of the outermost dimension.
fn parallel<const N: usize>(bytes: &[u8], out: &mut [u8], dims: &[Dim]) {
    let (source, target) = (bytes.as_chunks::<N>().0, out.as_chunks_mut::<N>().0);
    let Some((&outer, inner)) = dims.split_first() else {
        target.copy_from_slice(&source[..1]);
        return;
    };
    let threads = match target.len() * N {
        0..PARALLEL => 1,
        _ => thread::available_parallelism().map_or(1, NonZero::get).min(outer.size),
    };
    let share = outer.size.div_ceil(threads);
    let copy = |(i, target): (usize, &mut [[u8; N]])| {
        let size = share.min(outer.size - i * share);
        let dims = [&[Dim { size, ..outer }], inner].concat();
        copy_view(&source[i * share * outer.stride..], target, &dims);
    };
    let row: usize = inner.iter().map(|dim| dim.size).product();
    let mut shares = target.chunks_mut(share * row).enumerate();
    thread::scope(|scope| {
        let first = shares.next();
        for share in shares {
            scope.spawn(|| copy(share));
        }
        first.into_iter().for_each(copy);
    });
}

/// Copies a view of at least one dimension.
fn copy_view<const N: usize>(source: &[[u8; N]], target: &mut [[u8; N]], dims: &[Dim]) {
    let (&last, outer) = dims.split_last().expect("a dimension");
    // The dimension whose neighbours lie closest: along it the source is read in order.
    let closest = (0..outer.len()).filter(|&dim| outer[dim].stride > 0).min_by_key(|&dim| outer[dim].stride);
    match closest.filter(|&dim| last.stride > 1 && outer[dim].stride < last.stride) {
        None => odometer(outer, last.size, |at, to| copy_row(&source[at..], &mut target[to..][..last.size], last)),
        Some(dim) => {
            let close = outer[dim];
            let step: usize = dims[dim + 1..].iter().map(|dim| dim.size).product();
            let mut rest = outer.to_vec();
            rest[dim].size = 1;
            let steps = steps(dims);
            odometer_with(&rest, &steps, |at, to| {
                copy_plane(&source[at..], &mut target[to..], close, last, step);
            });
        }
    }
}

/// Copies elements at equal distances to a row.
fn copy_row<const N: usize>(source: &[[u8; N]], row: &mut [[u8; N]], dim: Dim) {
    match dim.stride {
        0 => row.fill(source[0]),
        1 => row.copy_from_slice(&source[..row.len()]),
        stride => row.iter_mut().zip(source.iter().step_by(stride)).for_each(|(to, from)| *to = *from),
    }
}

/// Copies two dimensions, of which the rows of the target, `step` elements apart, are far apart in the source: by squares
/// that are read in the source's order and written in the target's.
fn copy_plane<const N: usize>(source: &[[u8; N]], target: &mut [[u8; N]], close: Dim, row: Dim, step: usize) {
    let mut tile = [[[0; N]; TILE]; TILE];
    for x in (0..row.size).step_by(TILE) {
        let width = TILE.min(row.size - x);
        for y in (0..close.size).step_by(TILE) {
            let height = TILE.min(close.size - y);
            for (j, column) in tile[..width].iter_mut().enumerate() {
                copy_row(&source[(x + j) * row.stride + y * close.stride..], &mut column[..height], close);
            }
            for i in 0..height {
                let to = &mut target[(y + i) * step + x..][..width];
                to.iter_mut().zip(&tile).for_each(|(to, column)| *to = column[i]);
            }
        }
    }
}

/// Calls `copy` with the positions in source and target of each index of `dims`, which are followed by rows of `row`
/// elements.
fn odometer(dims: &[Dim], row: usize, copy: impl FnMut(usize, usize)) {
    let mut steps = vec![row; dims.len()];
    for dim in (1..dims.len()).rev() {
        steps[dim - 1] = steps[dim] * dims[dim].size;
    }
    odometer_with(dims, &steps, copy);
}

/// How far neighbours along each dimension are apart in the target.
fn steps(dims: &[Dim]) -> Vec<usize> {
    let mut steps = vec![1; dims.len()];
    for dim in (1..dims.len()).rev() {
        steps[dim - 1] = steps[dim] * dims[dim].size;
    }
    steps
}

fn odometer_with(dims: &[Dim], steps: &[usize], mut copy: impl FnMut(usize, usize)) {
    let mut index = vec![0usize; dims.len()];
    let (mut at, mut to) = (0, 0);
    loop {
        copy(at, to);
        let mut dim = dims.len();
        loop {
            if dim == 0 {
                return;
            }
            dim -= 1;
            index[dim] += 1;
            at += dims[dim].stride;
            to += steps[dim];
            if index[dim] < dims[dim].size {
                break;
            }
            at -= dims[dim].size * dims[dim].stride;
            to -= dims[dim].size * steps[dim];
            index[dim] = 0;
        }
    }
}

/// Negates the elements, or conjugates them when `conj` is set.
pub(super) fn flip_signs(bytes: &mut [u8], dtype: DType, conj: bool) -> Result<()> {
    let (part, complex) = match dtype {
        DType::Complex32 | DType::BComplex32 => (2, true),
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn naive(bytes: &[u8], shape: &[usize], stride: &[usize], size: usize) -> Vec<u8> {
        let total: usize = shape.iter().product();
        let element = |mut i: usize| {
            let mut at = 0;
            for (&size, &stride) in shape.iter().zip(stride).rev() {
                at += i % size * stride;
                i /= size;
            }
            bytes[at * size..][..size].iter().copied()
        };
        (0..total).flat_map(element).collect()
    }

    /// Bytes that differ, as many as the view reaches to.
    fn source(shape: &[usize], stride: &[usize], size: usize) -> Vec<u8> {
        let last: usize = shape.iter().zip(stride).map(|(&size, &stride)| size.saturating_sub(1) * stride).sum();
        (0..(last + 1) * size).map(|i| (i * 31 + (i >> 8) * 7) as u8).collect()
    }

    proptest! {
        #[test]
        fn any_view_is_copied_as_element_by_element(
            dims in prop::collection::vec((prop_oneof![0..4usize, 4..9usize, 30..36usize], 0..12usize), 0..5),
            order in any::<[u8; 4]>(),
            gaps in any::<[bool; 4]>(),
            log_size in 0..5u32,
        ) {
            // Strides as of slices and expansions of a permuted tensor, or any small ones.
            let mut shape: Vec<usize> = dims.iter().map(|dim| dim.0).collect();
            while shape.iter().product::<usize>() > 40_000 {
                shape.pop();
            }
            let mut stride: Vec<usize> = dims[..shape.len()].iter().map(|dim| dim.1).collect();
            let mut by_order: Vec<usize> = (0..shape.len()).collect();
            by_order.sort_by_key(|&dim| order[dim]);
            let mut next = 1;
            for dim in by_order {
                if stride[dim] > 2 {
                    stride[dim] = next;
                    next *= shape[dim].max(1) + usize::from(gaps[dim]);
                }
            }
            let size = 1 << log_size;
            let bytes = source(&shape, &stride, size);
            prop_assert_eq!(gather(&bytes, &shape, &stride, size).unwrap(), naive(&bytes, &shape, &stride, size));
        }
    }

    #[test]
    fn large_views_are_copied_by_several_threads() {
        for (shape, stride) in [
            ([1027, 1031, 1], [1, 1027, 5]),
            ([3, 700, 701], [700 * 701, 1, 700]),
            ([2, 1500, 401], [1, 1604, 4]),
            ([1 << 21, 1, 1], [3, 0, 0]),
        ] {
            let bytes = source(&shape, &stride, 4);
            assert!(gather(&bytes, &shape, &stride, 4).unwrap() == naive(&bytes, &shape, &stride, 4), "{shape:?}");
        }
    }
}
