//! Tensors put together and elements rearranged: concatenation, padding, repetition, pixel shuffling.

use super::shape::{diagonal_of, part, place_of, slice_of};
use super::{Call, Function, Out};
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::graph::PadMode;
use crate::import::program::alias::ViewOp;
use crate::import::program::host::Host;
use crate::import::program::prims::Bin;
use crate::import::program::value::X;

pub(super) fn find(target: &str) -> Option<Function> {
    let name = target.strip_prefix("aten.")?;
    Some(match name {
        "cat.default" | "concat.default" => cat,
        "stack.default" => stack,
        "hstack.default" => |call| joined(call, 1),
        "vstack.default" => |call| joined(call, 0),
        "pad.default" => pad_any,
        "constant_pad_nd.default" => constant_pad,
        "reflection_pad1d.default" | "reflection_pad2d.default" | "reflection_pad3d.default" => {
            |call| pad_mode(call, PadMode::Reflect)
        }
        "replication_pad1d.default" | "replication_pad2d.default" | "replication_pad3d.default" => {
            |call| pad_mode(call, PadMode::Replicate)
        }
        "pixel_shuffle.default" => pixel_shuffle,
        "pixel_unshuffle.default" => pixel_unshuffle,
        "channel_shuffle.default" | "native_channel_shuffle.default" => channel_shuffle,
        "repeat.default" => repeat,
        "tile.default" => tile,
        "slice_scatter.default" => slice_scatter,
        "select_scatter.default" => select_scatter,
        "diagonal_scatter.default" => diagonal_scatter,
        "fill_diagonal.default" => fill_diagonal,
        "diff.default" => diff,
        _ => return None,
    })
}

fn cat(call: &mut Call<'_, '_>) -> Result<Out> {
    let xs = call.xs("tensors")?;
    let rank = xs.iter().map(|x| call.build.rank(x)).max().unwrap_or(0);
    let dim = call.dim_of("dim", rank, 0)?;
    call.build.cat(&xs, dim).map(Out::X)
}

fn stack(call: &mut Call<'_, '_>) -> Result<Out> {
    let xs = call.xs("tensors")?;
    let rank = xs.first().map_or(0, |x| call.build.rank(x));
    let dim = call.dim_of("dim", rank + 1, 0)?;
    let xs = xs
        .iter()
        .map(|x| {
            let mut sizes = call.build.shape(x);
            sizes.insert(dim, 1);
            call.build.reshape(x, &sizes)
        })
        .collect::<Result<Vec<_>>>()?;
    call.build.cat(&xs, dim).map(Out::X)
}

fn joined(call: &mut Call<'_, '_>, dim: usize) -> Result<Out> {
    let xs = call.xs("tensors")?;
    let rank = xs.first().map_or(0, |x| call.build.rank(x));
    if rank < 2 {
        return match dim {
            1 => call.build.cat(&xs, 0).map(Out::X),
            _ => Err(Error::unsupported("a stack of vectors")),
        };
    }
    call.build.cat(&xs, dim).map(Out::X)
}

pub(super) fn pad(call: &mut Call<'_, '_>, x: &X, pads: &[(usize, usize)], mode: PadMode) -> Result<X> {
    let build = &mut *call.build;
    let var = build.var(x)?;
    Ok(X::var(build.graph.pad(var, pads, mode)?, x.dtype))
}

/// Pads as PyTorch writes them: pairs from the last dimension on; negative ones cut.
fn padded(call: &mut Call<'_, '_>, mode: PadMode, value: f64) -> Result<Out> {
    let mut x = call.x("self")?;
    let given = call.ints(if call.has("pad") { "pad" } else { "padding" })?;
    let rank = call.build.rank(&x);
    if given.len() % 2 != 0 || given.len() / 2 > rank {
        return Err(Error::shape(format!("{given:?} does not pad {rank} dimensions")));
    }
    let mut pads = vec![(0, 0); rank];
    for (i, pair) in given.chunks(2).enumerate() {
        let dim = rank - 1 - i;
        let cut = |size: i64| (-size).max(0) as usize;
        let size = call.build.shape(&x)[dim];
        let len = size
            .checked_sub(cut(pair[0]) + cut(pair[1]))
            .ok_or_else(|| Error::shape(format!("{given:?} cuts more than there is")))?;
        if len < size {
            x = call.build.view(&x, &part(dim, cut(pair[0]), len))?;
        }
        pads[dim] = (pair[0].max(0) as usize, pair[1].max(0) as usize);
    }
    if x.is_host() && matches!(mode, PadMode::Constant(_)) {
        return host_pad(call, &x, &pads, value).map(Out::X);
    }
    pad(call, &x, &pads, mode).map(Out::X)
}

fn host_pad(call: &mut Call<'_, '_>, x: &X, pads: &[(usize, usize)], value: f64) -> Result<X> {
    let mut x = x.clone();
    for (dim, &(before, after)) in pads.iter().enumerate() {
        let mut parts = vec![x.clone()];
        let mut shape = call.build.shape(&x);
        for (len, at) in [(before, 0), (after, 1)] {
            if len > 0 {
                shape[dim] = len;
                let filled = call.build.full(&shape, x.dtype, value)?;
                parts.insert(if at == 0 { 0 } else { parts.len() }, filled);
            }
        }
        x = call.build.cat(&parts, dim)?;
    }
    Ok(x)
}

fn constant_pad(call: &mut Call<'_, '_>) -> Result<Out> {
    let value = call.float_or("value", 0.0)?;
    padded(call, PadMode::Constant(value as f32), value)
}

fn pad_any(call: &mut Call<'_, '_>) -> Result<Out> {
    match call.str_or("mode", "constant")? {
        "constant" => constant_pad(call),
        "reflect" => padded(call, PadMode::Reflect, 0.0),
        "replicate" => padded(call, PadMode::Replicate, 0.0),
        "circular" => padded(call, PadMode::Circular, 0.0),
        other => Err(Error::unsupported(format!("the padding mode `{other}`"))),
    }
}

fn pad_mode(call: &mut Call<'_, '_>, mode: PadMode) -> Result<Out> {
    padded(call, mode, 0.0)
}

/// The last three dimensions, and the product of those before.
fn image(call: &mut Call<'_, '_>) -> Result<(X, Vec<usize>, [usize; 4])> {
    let x = call.x("self")?;
    let shape = call.build.shape(&x);
    let [.., c, h, w] = shape[..] else {
        return Err(Error::shape(format!("{shape:?} is no image")));
    };
    let n = shape[..shape.len() - 3].iter().product();
    Ok((x, shape, [n, c, h, w]))
}

fn rearranged(call: &mut Call<'_, '_>, x: &X, split: &[usize], order: &[usize], shape: &[usize]) -> Result<Out> {
    let x = call.build.reshape(x, split)?;
    let x = call.build.view(&x, &ViewOp::Permute(order.to_vec()))?;
    call.build.reshape(&x, shape).map(Out::X)
}

fn pixel_shuffle(call: &mut Call<'_, '_>) -> Result<Out> {
    let (x, shape, [n, c, h, w]) = image(call)?;
    let r = usize::try_from(call.int("upscale_factor")?).unwrap_or(0);
    if r == 0 || c % (r * r) != 0 {
        return Err(Error::shape(format!("{c} channels are not a multiple of {r} squared")));
    }
    let to = [&shape[..shape.len() - 3], &[c / (r * r), h * r, w * r]].concat();
    rearranged(call, &x, &[n, c / (r * r), r, r, h, w], &[0, 1, 4, 2, 5, 3], &to)
}

fn pixel_unshuffle(call: &mut Call<'_, '_>) -> Result<Out> {
    let (x, shape, [n, c, h, w]) = image(call)?;
    let r = usize::try_from(call.int("downscale_factor")?).unwrap_or(0);
    if r == 0 || h % r != 0 || w % r != 0 {
        return Err(Error::shape(format!("{h} x {w} is not a multiple of {r}")));
    }
    let to = [&shape[..shape.len() - 3], &[c * r * r, h / r, w / r]].concat();
    rearranged(call, &x, &[n, c, h / r, r, w / r, r], &[0, 1, 3, 5, 2, 4], &to)
}

fn channel_shuffle(call: &mut Call<'_, '_>) -> Result<Out> {
    let x = call.x("self")?;
    let shape = call.build.shape(&x);
    let groups = usize::try_from(call.int("groups")?).unwrap_or(0);
    if groups == 0 || shape.len() < 2 || !shape[1].is_multiple_of(groups) {
        return Err(Error::shape(format!("{groups} groups do not divide the channels of {shape:?}")));
    }
    let inner: usize = shape[2..].iter().product();
    rearranged(call, &x, &[shape[0], groups, shape[1] / groups, inner], &[0, 2, 1, 3], &shape)
}

fn repeated(call: &mut Call<'_, '_>, mut repeats: Vec<usize>) -> Result<Out> {
    let x = call.x("self")?;
    let mut shape = call.build.shape(&x);
    while repeats.len() < shape.len() {
        repeats.insert(0, 1);
    }
    while shape.len() < repeats.len() {
        shape.insert(0, 1);
    }
    let split: Vec<usize> = shape.iter().flat_map(|&size| [1, size]).collect();
    let wide: Vec<usize> = shape.iter().zip(&repeats).flat_map(|(&size, &times)| [times, size]).collect();
    let out = super::checked(shape.iter().zip(&repeats).map(|(size, times)| size.saturating_mul(*times)).collect())?;
    let x = call.build.reshape(&x, &split)?;
    let x = call.build.expand(&x, &wide)?;
    call.build.reshape(&x, &out).map(Out::X)
}

fn repeat(call: &mut Call<'_, '_>) -> Result<Out> {
    let repeats = call.shape("repeats")?;
    repeated(call, repeats)
}

fn tile(call: &mut Call<'_, '_>) -> Result<Out> {
    let repeats = call.shape("dims")?;
    repeated(call, repeats)
}

/// `self` with `src` in place of what `views` see.
fn scattered(call: &mut Call<'_, '_>, views: &[ViewOp]) -> Result<Out> {
    let (x, src) = (call.x("self")?, call.x("src")?);
    replaced(call, &x, views, &src).map(Out::X)
}

/// `x` with `new` in place of what `views` see.
pub(super) fn replaced(call: &mut Call<'_, '_>, x: &X, views: &[ViewOp], new: &X) -> Result<X> {
    let new = call.build.cast(new, x.dtype)?;
    let mut before = vec![x.clone()];
    for op in views {
        let next = call.build.view(before.last().expect("never empty"), op)?;
        before.push(next);
    }
    let shape = call.build.shape(&before.pop().expect("never empty"));
    let mut value = call.build.expand(&new, &shape)?;
    for (op, before) in views.iter().zip(&before).rev() {
        value = call.build.put(op, before, value)?;
    }
    Ok(value)
}

fn slice_scatter(call: &mut Call<'_, '_>) -> Result<Out> {
    let x = call.x("self")?;
    let shape = call.build.shape(&x);
    let view = slice_of(call, &shape)?;
    scattered(call, &[view])
}

fn select_scatter(call: &mut Call<'_, '_>) -> Result<Out> {
    let x = call.x("self")?;
    let shape = call.build.shape(&x);
    let views = place_of(call, &shape)?;
    scattered(call, &views)
}

fn diagonal_scatter(call: &mut Call<'_, '_>) -> Result<Out> {
    let x = call.x("self")?;
    let shape = call.build.shape(&x);
    let views = diagonal_of(call, &shape)?;
    scattered(call, &views)
}

/// One value where the row's number is the column's; with `wrap`, again below a square with a row between.
fn fill_diagonal(call: &mut Call<'_, '_>) -> Result<Out> {
    let (x, value, wraps) = (call.x("self")?, call.x("fill_value")?, call.bool_or("wrap", false)?);
    let &[rows, columns] = &call.build.shape(&x)[..] else {
        return Err(Error::unsupported("a diagonal to fill in other than two dimensions"));
    };
    let is_on = |i: usize| i.is_multiple_of(columns + 1) && (wraps || i < columns * columns);
    let mask = (0..rows * columns).map(|i| i64::from(is_on(i))).collect();
    let mask = X::host(Host::ints(&[rows, columns], mask), DType::Bool);
    let value = call.build.cast(&value, x.dtype)?;
    call.build.select(&mask, &value, &x).map(Out::X)
}

/// The differences of neighbours, `n` times over.
fn diff(call: &mut Call<'_, '_>) -> Result<Out> {
    let mut x = call.x("self")?;
    let rank = call.build.rank(&x);
    let (times, dim) = (call.int_or("n", 1)?, call.dim_of("dim", rank, -1)?);
    let ends = [call.opt_x("prepend")?, call.opt_x("append")?];
    let [before, after] = ends;
    let parts: Vec<X> = before.into_iter().chain([x.clone()]).chain(after).collect();
    if parts.len() > 1 {
        x = call.build.cat(&parts, dim)?;
    }
    for _ in 0..times {
        let Some(len) = call.build.shape(&x)[dim].checked_sub(1) else { break };
        let last = call.build.view(&x, &part(dim, 1, len))?;
        let first = call.build.view(&x, &part(dim, 0, len))?;
        let bin = if x.dtype == DType::Bool { Bin::Xor } else { Bin::Sub };
        x = call.build.binary(bin, &last, &first)?;
    }
    Ok(Out::X(x))
}
