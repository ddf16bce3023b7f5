//! Views.

use super::{Call, Function, Out, wrap_dim};
use crate::error::{Error, Result};
use crate::graph::view::View;
use crate::import::program::alias::{Handle, ViewOp};
use crate::import::program::schema::{Arg, Size};

pub(super) fn find(target: &str) -> Option<Function> {
    let name = target.strip_prefix("aten.")?;
    Some(match name {
        "view.default" | "_unsafe_view.default" | "view_copy.default" => |call| view(call, "size"),
        "reshape.default" => |call| view(call, "shape"),
        "ravel.default" => ravel,
        "flatten.using_ints" => flatten,
        "unflatten.int" => unflatten,
        "permute.default" | "permute_copy.default" => permute,
        "transpose.int" | "transpose_copy.int" | "transpose.default" => |call| transpose(call, "dim0", "dim1"),
        "swapaxes.default" => |call| transpose(call, "axis0", "axis1"),
        "swapdims.default" => |call| transpose(call, "dim0", "dim1"),
        "t.default" | "numpy_T.default" | "mT.default" | "mH.default" | "adjoint.default" => last_two,
        "movedim.int" | "movedim.intlist" | "moveaxis.int" | "moveaxis.intlist" => movedim,
        "unsqueeze.default" | "unsqueeze_copy.default" => unsqueeze,
        "squeeze.default" | "squeeze.dim" | "squeeze.dims" | "squeeze_copy.dims" => squeeze,
        "expand.default" | "expand_copy.default" | "broadcast_to.default" => expand,
        "expand_as.default" => expand_as,
        "view_as.default" | "reshape_as.default" => view_as,
        "slice.Tensor" | "slice_copy.Tensor" => slice,
        "select.int" | "select_copy.int" => select,
        "narrow.default" => narrow,
        "split.Tensor" | "split_copy.Tensor" => split,
        "split.sizes" => |call| split_with_sizes(call, "split_size"),
        "split_with_sizes.default" | "split_with_sizes_copy.default" => |call| split_with_sizes(call, "split_sizes"),
        "chunk.default" => chunk,
        "tensor_split.sections" => tensor_split_sections,
        "tensor_split.indices" => tensor_split_indices,
        "unbind.int" | "unbind_copy.int" => unbind,
        "diagonal.default" | "diagonal_copy.default" => diagonal,
        "unfold.default" | "unfold_copy.default" => unfold,
        "as_strided.default" => as_strided,
        "alias.default" | "detach.default" | "lift_fresh.default" | "view_as_real.alias" => alias,
        _ => return None,
    })
}

fn own_shape(call: &mut Call<'_, '_>) -> Result<(Handle, Vec<usize>)> {
    let handle = call.handle("self")?;
    let x = call.build.read(&handle)?;
    let shape = call.build.shape(&x);
    Ok((handle, shape))
}

/// A reshape of `self`: a view where its strides in the file allow that, else a copy.
fn reshaped(call: &mut Call<'_, '_>, handle: Handle, shape: &[usize], sizes: Vec<usize>) -> Result<Out> {
    if shape.iter().product::<usize>() != sizes.iter().product::<usize>() {
        return Err(Error::shape(format!("{shape:?} does not become {sizes:?}")));
    }
    if is_view(call, shape, &sizes)? {
        return Ok(Out::View(handle, vec![ViewOp::Reshape(sizes)]));
    }
    let x = call.build.read(&handle)?;
    call.build.reshape(&x, &sizes).map(Out::X)
}

/// Whether `self` can take the shape without a copy.
fn is_view(call: &mut Call<'_, '_>, shape: &[usize], sizes: &[usize]) -> Result<bool> {
    let Some(strides) = strides(call, "self")? else { return Ok(true) };
    if strides.len() != shape.len() {
        return Ok(true);
    }
    Ok(View { shape: shape.to_vec(), strides, offset: 0 }.reshape(sizes).is_some())
}

/// The strides of an argument as the file has them, if it says.
pub(super) fn strides(call: &mut Call<'_, '_>, name: &str) -> Result<Option<Vec<usize>>> {
    let tensor = call.tensor_name(name)?;
    let meta = call.build.meta(tensor)?;
    Ok(known_strides(call, &meta.strides))
}

fn known_strides(call: &Call<'_, '_>, strides: &[Size]) -> Option<Vec<usize>> {
    strides.iter().map(|size| call.build.symbol(size).and_then(|stride| usize::try_from(stride).ok())).collect()
}

/// Whether the result lies in memory as `self` does: PyTorch copies what is to lie otherwise, and only that.
pub(super) fn keeps_layout(call: &mut Call<'_, '_>, shape: &[usize]) -> Result<bool> {
    let Some(Arg::Tensor(result)) = call.node.outputs.first() else { return Ok(true) };
    let new = known_strides(call, &call.build.meta(result)?.strides);
    let Some((own, new)) = strides(call, "self")?.zip(new) else { return Ok(true) };
    if own.len() != shape.len() || new.len() != shape.len() || shape.contains(&0) {
        return Ok(true);
    }
    Ok((0..shape.len()).all(|d| shape[d] == 1 || own[d] == new[d]))
}

fn view(call: &mut Call<'_, '_>, name: &str) -> Result<Out> {
    let (handle, shape) = own_shape(call)?;
    let sizes = call.ints(name)?;
    let sizes = resolve(&shape, &sizes)?;
    reshaped(call, handle, &shape, sizes)
}

/// Sizes of which one may be -1.
fn resolve(shape: &[usize], sizes: &[i64]) -> Result<Vec<usize>> {
    let numel: usize = shape.iter().product();
    let known: usize =
        super::checked(sizes.iter().filter_map(|&size| usize::try_from(size).ok()).collect())?.iter().product();
    let free = sizes.iter().filter(|&&size| size < 0).count();
    if free > 1 || sizes.iter().any(|&size| size < -1) || (free == 1 && (known == 0 || !numel.is_multiple_of(known))) {
        return Err(Error::shape(format!("{shape:?} does not become {sizes:?}")));
    }
    super::checked(sizes.iter().map(|&size| if size < 0 { numel / known } else { size as usize }).collect())
}

fn flatten(call: &mut Call<'_, '_>) -> Result<Out> {
    let (handle, shape) = own_shape(call)?;
    if shape.is_empty() {
        return Ok(Out::View(handle, vec![ViewOp::Reshape(vec![1])]));
    }
    let (start, end) = (call.dim_of("start_dim", shape.len(), 0)?, call.dim_of("end_dim", shape.len(), -1)?);
    if start > end {
        return Err(Error::shape(format!("dimension {start} comes after {end}")));
    }
    let mut sizes = shape[..start].to_vec();
    sizes.push(shape[start..=end].iter().product());
    sizes.extend(&shape[end + 1..]);
    reshaped(call, handle, &shape, sizes)
}

fn ravel(call: &mut Call<'_, '_>) -> Result<Out> {
    let (handle, shape) = own_shape(call)?;
    let sizes = vec![shape.iter().product()];
    reshaped(call, handle, &shape, sizes)
}

fn unflatten(call: &mut Call<'_, '_>) -> Result<Out> {
    let (handle, shape) = own_shape(call)?;
    let dim = call.dim_of("dim", shape.len(), 0)?;
    let inner = call.ints("sizes")?;
    let inner = resolve(&shape[dim..=dim], &inner)?;
    let sizes = [&shape[..dim], &inner, &shape[dim + 1..]].concat();
    Ok(Out::View(handle, vec![ViewOp::Reshape(sizes)]))
}

fn permute(call: &mut Call<'_, '_>) -> Result<Out> {
    let (handle, shape) = own_shape(call)?;
    let dims = call.ints("dims")?.iter().map(|&dim| wrap_dim(dim, shape.len())).collect::<Result<Vec<_>>>()?;
    permuted(handle, dims, shape.len())
}

fn permuted(handle: Handle, dims: Vec<usize>, rank: usize) -> Result<Out> {
    let mut sorted = dims.clone();
    sorted.sort_unstable();
    if !sorted.iter().copied().eq(0..rank) {
        return Err(Error::shape(format!("{dims:?} does not name every one of {rank} dimensions once")));
    }
    Ok(Out::View(handle, vec![ViewOp::Permute(dims)]))
}

fn transpose(call: &mut Call<'_, '_>, a: &str, b: &str) -> Result<Out> {
    let (handle, shape) = own_shape(call)?;
    let (a, b) = (call.dim_of(a, shape.len(), 0)?, call.dim_of(b, shape.len(), 0)?);
    let mut dims: Vec<usize> = (0..shape.len()).collect();
    if !dims.is_empty() {
        dims.swap(a, b);
    }
    permuted(handle, dims, shape.len())
}

fn last_two(call: &mut Call<'_, '_>) -> Result<Out> {
    let (handle, shape) = own_shape(call)?;
    let rank = shape.len();
    let mut dims: Vec<usize> = (0..rank).collect();
    match (call.node.target.as_str(), rank) {
        ("aten.numpy_T.default", _) => dims.reverse(),
        (_, 0 | 1) => {}
        _ => dims.swap(rank - 1, rank - 2),
    }
    permuted(handle, dims, rank)
}

fn movedim(call: &mut Call<'_, '_>) -> Result<Out> {
    let (handle, shape) = own_shape(call)?;
    let rank = shape.len();
    let mut read =
        |name: &str| -> Result<Vec<usize>> { call.ints(name)?.iter().map(|&dim| wrap_dim(dim, rank)).collect() };
    let (from, to) = (read("source")?, read("destination")?);
    let mut dims: Vec<Option<usize>> = vec![None; rank];
    from.iter().zip(&to).for_each(|(&from, &to)| dims[to] = Some(from));
    let mut rest = (0..rank).filter(|dim| !from.contains(dim));
    let dims = dims.into_iter().map(|dim| dim.or_else(|| rest.next()).unwrap_or(rank)).collect();
    permuted(handle, dims, rank)
}

fn unsqueeze(call: &mut Call<'_, '_>) -> Result<Out> {
    let (handle, shape) = own_shape(call)?;
    let dim = call.dim_of("dim", shape.len() + 1, 0)?;
    let mut sizes = shape;
    sizes.insert(dim, 1);
    Ok(Out::View(handle, vec![ViewOp::Reshape(sizes)]))
}

fn squeeze(call: &mut Call<'_, '_>) -> Result<Out> {
    let (handle, shape) = own_shape(call)?;
    let dims = call.dims_of("dim", shape.len())?;
    let kept = (0..shape.len()).filter(|d| shape[*d] != 1 || !dims.contains(d)).map(|d| shape[d]).collect();
    Ok(Out::View(handle, vec![ViewOp::Reshape(kept)]))
}

fn expand(call: &mut Call<'_, '_>) -> Result<Out> {
    let (handle, shape) = own_shape(call)?;
    let sizes = call.ints("size")?;
    let lead = sizes.len().checked_sub(shape.len());
    let size = |(d, &size): (usize, &i64)| match lead.and_then(|lead| d.checked_sub(lead)) {
        Some(own) if size == -1 || size == shape[own] as i64 => Some(shape[own]),
        Some(own) if shape[own] != 1 => None,
        _ => usize::try_from(size).ok(),
    };
    let sizes: Option<Vec<usize>> = sizes.iter().enumerate().map(size).collect();
    match sizes.filter(|_| lead.is_some()) {
        Some(sizes) => Ok(Out::View(handle, vec![ViewOp::Expand(super::checked(sizes)?)])),
        None => Err(Error::shape(format!("{shape:?} does not expand so"))),
    }
}

fn expand_as(call: &mut Call<'_, '_>) -> Result<Out> {
    let (handle, _) = own_shape(call)?;
    let other = call.x("other")?;
    let sizes = call.build.shape(&other);
    Ok(Out::View(handle, vec![ViewOp::Expand(sizes)]))
}

fn view_as(call: &mut Call<'_, '_>) -> Result<Out> {
    let (handle, shape) = own_shape(call)?;
    let other = call.x("other")?;
    let sizes = call.build.shape(&other);
    reshaped(call, handle, &shape, sizes)
}

/// The slice that Python's `start:end:step` is.
pub(super) fn slice_of(call: &mut Call<'_, '_>, shape: &[usize]) -> Result<ViewOp> {
    let dim = call.dim_of("dim", shape.len(), 0)?;
    let size = shape[dim] as i64;
    let bound = |bound: i64| if bound < 0 { (bound + size).max(0) } else { bound.min(size) } as usize;
    let start = bound(call.int_or("start", 0)?);
    let end = bound(call.int_or("end", i64::MAX)?);
    let step = usize::try_from(call.int_or("step", 1)?).unwrap_or(0);
    if step == 0 {
        return Err(Error::shape("a slice with a step below 1"));
    }
    Ok(ViewOp::Slice { dim, start, step, len: end.saturating_sub(start).div_ceil(step) })
}

fn slice(call: &mut Call<'_, '_>) -> Result<Out> {
    let (handle, shape) = own_shape(call)?;
    Ok(Out::View(handle, vec![slice_of(call, &shape)?]))
}

pub(super) fn part(dim: usize, start: usize, len: usize) -> ViewOp {
    ViewOp::Slice { dim, start, step: 1, len }
}

/// The views that take one place along a dimension, which goes.
fn place(shape: &[usize], dim: usize, index: usize) -> Vec<ViewOp> {
    let mut sizes = shape.to_vec();
    sizes.remove(dim);
    vec![part(dim, index, 1), ViewOp::Reshape(sizes)]
}

pub(super) fn place_of(call: &mut Call<'_, '_>, shape: &[usize]) -> Result<Vec<ViewOp>> {
    let dim = call.dim_of("dim", shape.len(), 0)?;
    let index = call.int("index")?;
    let size = shape[dim] as i64;
    let own = if index < 0 { index + size } else { index };
    match (0..size).contains(&own) {
        true => Ok(place(shape, dim, own as usize)),
        false => Err(Error::shape(format!("index {index} is out of range for {shape:?}"))),
    }
}

fn select(call: &mut Call<'_, '_>) -> Result<Out> {
    let (handle, shape) = own_shape(call)?;
    Ok(Out::View(handle, place_of(call, &shape)?))
}

fn narrow(call: &mut Call<'_, '_>) -> Result<Out> {
    let (handle, shape) = own_shape(call)?;
    let dim = call.dim_of("dim", shape.len(), 0)?;
    let (start, len) = (call.int("start")?, call.int("length")?);
    let start = if start < 0 { start + shape[dim] as i64 } else { start };
    if start < 0 || len < 0 || start + len > shape[dim] as i64 {
        return Err(Error::shape(format!("{start} and {len} elements on are outside of {shape:?}")));
    }
    Ok(Out::View(handle, vec![part(dim, start as usize, len as usize)]))
}

fn parts(handle: Handle, dim: usize, lens: impl IntoIterator<Item = usize>) -> Out {
    let mut start = 0;
    let views = lens.into_iter().map(|len| {
        start += len;
        vec![part(dim, start - len, len)]
    });
    Out::Views(handle, views.collect())
}

/// Lengths of `each`, the last one what remains.
fn even(size: usize, each: usize) -> Vec<usize> {
    (0..size.max(1)).step_by(each.max(1)).map(|start| each.min(size - start)).collect()
}

fn split(call: &mut Call<'_, '_>) -> Result<Out> {
    let (handle, shape) = own_shape(call)?;
    let dim = call.dim_of("dim", shape.len(), 0)?;
    let each = usize::try_from(call.int("split_size")?).unwrap_or(0);
    Ok(parts(handle, dim, even(shape[dim], each)))
}

fn split_with_sizes(call: &mut Call<'_, '_>, name: &str) -> Result<Out> {
    let (handle, shape) = own_shape(call)?;
    let dim = call.dim_of("dim", shape.len(), 0)?;
    let lens = call.shape(name)?;
    if lens.iter().sum::<usize>() != shape[dim] {
        return Err(Error::shape(format!("parts of {lens:?} are not {}", shape[dim])));
    }
    Ok(parts(handle, dim, lens))
}

fn chunk(call: &mut Call<'_, '_>) -> Result<Out> {
    let (handle, shape) = own_shape(call)?;
    let dim = call.dim_of("dim", shape.len(), 0)?;
    let chunks = usize::try_from(call.int("chunks")?).unwrap_or(0).max(1);
    Ok(parts(handle, dim, even(shape[dim], shape[dim].div_ceil(chunks))))
}

fn tensor_split_sections(call: &mut Call<'_, '_>) -> Result<Out> {
    let (handle, shape) = own_shape(call)?;
    let dim = call.dim_of("dim", shape.len(), 0)?;
    let sections = usize::try_from(call.int("sections")?).unwrap_or(0).clamp(1, 1 << 16);
    let (each, more) = (shape[dim] / sections, shape[dim] % sections);
    Ok(parts(handle, dim, (0..sections).map(|i| each + usize::from(i < more))))
}

fn tensor_split_indices(call: &mut Call<'_, '_>) -> Result<Out> {
    let (handle, shape) = own_shape(call)?;
    let dim = call.dim_of("dim", shape.len(), 0)?;
    let size = shape[dim] as i64;
    let mut bounds: Vec<usize> = vec![0];
    for index in call.ints("indices")? {
        let index = if index < 0 { (index + size).max(0) } else { index.min(size) };
        bounds.push(index as usize);
    }
    bounds.push(shape[dim]);
    let views = bounds.windows(2).map(|pair| vec![part(dim, pair[0], pair[1].saturating_sub(pair[0]))]);
    Ok(Out::Views(handle, views.collect()))
}

fn unbind(call: &mut Call<'_, '_>) -> Result<Out> {
    let (handle, shape) = own_shape(call)?;
    let dim = call.dim_of("dim", shape.len(), 0)?;
    Ok(Out::Views(handle, (0..shape[dim]).map(|index| place(&shape, dim, index)).collect()))
}

/// The elements on a line from the upper left to the lower right, along a new last dimension.
fn diagonal(call: &mut Call<'_, '_>) -> Result<Out> {
    let (handle, shape) = own_shape(call)?;
    Ok(Out::View(handle, diagonal_of(call, &shape)?))
}

pub(super) fn diagonal_of(call: &mut Call<'_, '_>, shape: &[usize]) -> Result<Vec<ViewOp>> {
    let rank = shape.len();
    let (a, b) = (call.dim_of("dim1", rank, 0)?, call.dim_of("dim2", rank, 1)?);
    let offset = call.int_or("offset", 0)?;
    let shift = usize::try_from(offset.unsigned_abs()).unwrap_or(usize::MAX);
    if a == b {
        return Err(Error::shape(format!("a diagonal of dimension {a} with itself")));
    }
    let (rows, columns) = (shape[a], shape[b]);
    let (down, right) = if offset < 0 { (shift, 0) } else { (0, shift) };
    let len = rows.saturating_sub(down).min(columns.saturating_sub(right));
    if len == 0 {
        return Err(Error::unsupported(format!("the diagonal {offset} of {shape:?}, which is empty")));
    }
    let mut order: Vec<usize> = (0..rank).filter(|&d| d != a && d != b).collect();
    let mut flat: Vec<usize> = order.iter().map(|&d| shape[d]).collect();
    order.extend([a, b]);
    flat.push(rows * columns);
    let slice = ViewOp::Slice { dim: rank - 2, start: down * columns + right, step: columns + 1, len };
    Ok(vec![ViewOp::Permute(order), ViewOp::Reshape(flat), slice])
}

fn unfold(call: &mut Call<'_, '_>) -> Result<Out> {
    let (handle, shape) = own_shape(call)?;
    let dim = call.dim_of("dimension", shape.len(), 0)?;
    let [size, step] = ["size", "step"].map(|name| call.int(name).map(|n| usize::try_from(n).unwrap_or(0)));
    let (size, step) = (size?, step?);
    if size == 0 || step == 0 || size > shape[dim] {
        return Err(Error::shape(format!("windows of {size}, {step} apart, along dimension {dim} of {shape:?}")));
    }
    Ok(Out::View(handle, vec![ViewOp::Windows { dim, size, step }]))
}

/// Only what lies in memory as the whole of `self` does, in another order of dimensions.
fn as_strided(call: &mut Call<'_, '_>) -> Result<Out> {
    let (handle, shape) = own_shape(call)?;
    let sizes = call.shape("size")?;
    let stride = |&stride: &i64| usize::try_from(stride).map_err(|_| Error::invalid(format!("the stride {stride}")));
    let new_strides = call.ints("stride")?.iter().map(stride).collect::<Result<Vec<_>>>()?;
    let own = strides(call, "self")?.ok_or_else(|| Error::unsupported("strides that are not known"))?;
    let numel: usize = shape.iter().product();
    let refuse = || Error::unsupported(format!("a part of {shape:?} with the strides {new_strides:?}"));
    if call.int_or("storage_offset", 0)? != 0 || sizes.iter().product::<usize>() != numel {
        return Err(refuse());
    }
    let by_stride = |strides: &[usize], sizes: &[usize]| {
        let mut order: Vec<usize> = (0..sizes.len()).collect();
        order.sort_by(|&a, &b| strides[b].cmp(&strides[a]).then(sizes[a].cmp(&sizes[b])));
        order
    };
    let view = View { shape: shape.clone(), strides: own, offset: 0 };
    let target = View { shape: sizes.clone(), strides: new_strides.clone(), offset: 0 };
    let (from, to) = (by_stride(&view.strides, &shape), by_stride(&target.strides, &sizes));
    if !view.is_dense_in(&from) || !target.is_dense_in(&to) {
        return Err(refuse());
    }
    let in_memory: Vec<usize> = to.iter().map(|&d| sizes[d]).collect();
    let mut back = vec![0; to.len()];
    to.iter().enumerate().for_each(|(place, &d)| back[d] = place);
    Ok(Out::View(handle, vec![ViewOp::Permute(from), ViewOp::Reshape(in_memory), ViewOp::Permute(back)]))
}

pub(super) fn alias(call: &mut Call<'_, '_>) -> Result<Out> {
    Ok(Out::View(call.handle("self")?, vec![]))
}
