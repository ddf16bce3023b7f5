//! Writes at places that a tensor names. Each is put in terms of a look-up: which write, the last one, a place sees.

use super::{Call, Function, Out, linear};
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::graph::op::Unary;
use crate::import::program::alias::ViewOp;
use crate::import::program::host::{Host, MAX_ELEMENTS};
use crate::import::program::prims::{Bin, Fold};
use crate::import::program::value::X;

/// The most comparisons of places with indices that depend on the input.
const MAX_PAIRS: usize = 1 << 24;

pub(super) fn find(target: &str) -> Option<Function> {
    Some(match target {
        "aten.scatter.src" => |call| scatter(call, "src", How::Last),
        "aten.scatter.value" => |call| scatter(call, "value", How::Last),
        "aten.scatter_add.default" => |call| scatter(call, "src", How::Sum),
        "aten.scatter_reduce.two" => scatter_reduce,
        "aten.index_add.default" => index_add,
        "aten.index_copy.default" => index_copy,
        "aten.index_fill.int_Scalar" | "aten.index_fill.int_Tensor" => index_fill,
        "aten.index_put.default" | "aten._unsafe_index_put.default" => index_put,
        _ => return None,
    })
}

/// What is written: `values [r, k, i]` at `places [r, k]` of `x [r, d, i]`.
struct Writes<'x> {
    x: &'x X,
    places: &'x X,
    values: &'x X,
    how: How,
}

/// What becomes of an element that is written.
#[derive(Clone, Copy)]
enum How {
    Last,
    /// The sum with what was there.
    Sum,
    /// The writes, and what was there if it counts, folded; of one column.
    Fold {
        fold: Fold,
        counts_self: bool,
    },
}

fn write(call: &mut Call<'_, '_>, writes: &Writes<'_>) -> Result<X> {
    let (&[r, d, i], &[_, k]) = (&call.build.shape(writes.x)[..], &call.build.shape(writes.places)[..]) else {
        unreachable!("the callers shape them")
    };
    if r * k * i == 0 || d == 0 {
        return if r * k * i == 0 { Ok(writes.x.clone()) } else { Err(Error::shape("a write into nothing")) };
    }
    let places = super::gather::within(call, writes.places, d)?;
    // Rows of both what was there and what is written are counted, too.
    let pairs = r.checked_mul(k).and_then(|n| n.checked_mul(d)).map(|pairs| pairs.max(r * (d + k)));
    let limit = if places.is_host() { MAX_ELEMENTS } else { MAX_PAIRS };
    if pairs.is_none_or(|pairs| pairs > limit) {
        return Err(Error::unsupported(format!("{k} writes into {d} places, {r} times: at most {limit} pairs")));
    }
    let values = call.build.cast(writes.values, writes.x.dtype)?;
    // [r, k, d]: whether a write is to a place.
    let column = call.build.reshape(&places, &[r, k, 1])?;
    let all = X::host(Host::ints(&[d], (0..d as i64).collect()), DType::I64);
    let hits = call.build.binary(Bin::Eq, &column, &all)?;
    if let How::Fold { fold, counts_self } = writes.how {
        return folded(call, writes.x, &values, &hits, fold, counts_self);
    }
    if matches!(writes.how, How::Sum) && i == 1 {
        return folded(call, writes.x, &values, &hits, Fold::Sum, true);
    }
    if matches!(writes.how, How::Sum) {
        let hits = call.build.view(&hits, &ViewOp::Permute(vec![0, 2, 1]))?;
        let dtype = if values.dtype.is_float() { DType::F32 } else { DType::I64 };
        let (hits, values) = (call.build.cast(&hits, dtype)?, call.build.cast(&values, dtype)?);
        let sum = if dtype.is_float() { sums(call, &hits, &values)? } else { linear::matmul(call, &hits, &values)? };
        let sum = X { dtype: writes.x.dtype, ..sum };
        return call.build.binary(Bin::Add, writes.x, &sum);
    }
    // The last write to each place, counted from 1; 0 where there is none.
    let numbers = X::host(Host::ints(&[k, 1], (1..=k as i64).collect()), DType::I64);
    let numbered = call.build.binary(Bin::Mul, &hits, &numbers)?;
    let last = call.build.fold(Fold::Max, &numbered, &[1], false)?;
    let written = call.build.with_number(Bin::Gt, &last, 0.0)?;
    let from_values = call.build.with_number(Bin::Add, &last, d as f64 - 1.0)?;
    let rows = call.build.select(&written, &from_values, &all)?;
    let first: Vec<i64> = (0..r).map(|row| (row * (d + k)) as i64).collect();
    let rows = call.build.binary(Bin::Add, &rows, &X::host(Host::ints(&[r, 1], first), DType::I64))?;
    let rows = call.build.reshape(&rows, &[r * d])?;
    let both = call.build.cat(&[writes.x.clone(), values], 1)?;
    let both = call.build.reshape(&both, &[r * (d + k), i])?;
    let y = call.build.index_select(&both, 0, &rows)?;
    call.build.reshape(&y, &[r, d, i])
}

/// The product `hits [r, d, k]` `values [r, k, i]`, in which a value that is not finite counts where it hits and nowhere
/// else: how many there are of each kind is counted beside the sums.
fn sums(call: &mut Call<'_, '_>, hits: &X, values: &X) -> Result<X> {
    if call.build.reach(values).is_finite() {
        return linear::matmul(call, hits, values);
    }
    let columns = call.build.shape(values)[2];
    let build = &mut *call.build;
    let size = build.unary(Unary::Abs, values)?;
    let finite = build.with_number(Bin::Le, &size, f32::MAX.into())?;
    let zero = X::number(0.0, DType::F32);
    let mut parts = vec![build.select(&finite, values, &zero)?];
    let nan = build.binary(Bin::Ne, values, values)?;
    let infinities = [f64::INFINITY, f64::NEG_INFINITY];
    for infinity in infinities {
        let is_it = build.with_number(Bin::Eq, values, infinity)?;
        let is_it = build.binary(Bin::Or, &is_it, &nan)?;
        parts.push(build.cast(&is_it, DType::F32)?);
    }
    let parts = build.cat(&parts, 2)?;
    let all = linear::matmul(call, hits, &parts)?;
    let build = &mut *call.build;
    let mut part = |start: usize| build.view(&all, &super::shape::part(2, start * columns, columns));
    let [mut sum, up, down] = [part(0)?, part(1)?, part(2)?];
    for (count, infinity) in [up, down].iter().zip(infinities) {
        let any = build.with_number(Bin::Gt, count, 0.0)?;
        let more = build.select(&any, &X::number(infinity, DType::F32), &zero)?;
        sum = build.binary(Bin::Add, &sum, &more)?;
    }
    Ok(sum)
}

/// `x [r, d, 1]` folded with the `values [r, k, 1]` that `hits [r, k, d]` says are written there.
fn folded(call: &mut Call<'_, '_>, x: &X, values: &X, hits: &X, fold: Fold, counts_self: bool) -> Result<X> {
    let shape = call.build.shape(x);
    // A mean is the sum with the number of writes.
    let (rest, bin) = match fold {
        Fold::Sum | Fold::Mean => (0.0, Bin::Add),
        Fold::Prod => (1.0, Bin::Mul),
        Fold::Max => (f64::NEG_INFINITY, Bin::Maximum),
        _ => (f64::INFINITY, Bin::Minimum),
    };
    let own = call.build.reshape(x, &shape[..2])?;
    // Sums and products of integers are checked as such; infinities are none.
    let is_whole = !x.dtype.is_float() && matches!(fold, Fold::Sum | Fold::Prod);
    let dtype = if is_whole { DType::I64 } else { DType::F32 };
    let (own, values) = (call.build.cast(&own, dtype)?, call.build.cast(values, dtype)?);
    let each = call.build.select(hits, &values, &X::number(rest, dtype))?;
    let sum = matches!(fold, Fold::Sum | Fold::Mean);
    let written = call.build.fold(if sum { Fold::Sum } else { fold }, &each, &[1], false)?;
    let mut count = call.build.fold(Fold::Sum, hits, &[1], false)?;
    let is_written = call.build.with_number(Bin::Gt, &count, 0.0)?;
    let mut y = written.clone();
    if counts_self {
        y = call.build.binary(bin, &own, &written)?;
        count = call.build.with_number(Bin::Add, &count, 1.0)?;
    }
    if fold == Fold::Mean {
        y = call.build.binary(Bin::Div, &y, &count)?;
    }
    if !sum || fold == Fold::Mean || !counts_self {
        y = call.build.select(&is_written, &y, &own)?;
    }
    call.build.reshape(&X { dtype: x.dtype, ..y }, &shape)
}

fn scatter_reduce(call: &mut Call<'_, '_>) -> Result<Out> {
    let fold = match call.str_or("reduce", "")? {
        "sum" => Fold::Sum,
        "mean" => Fold::Mean,
        "prod" => Fold::Prod,
        "amax" => Fold::Max,
        "amin" => Fold::Min,
        other => return Err(Error::unsupported(format!("the reduction `{other}`"))),
    };
    if fold == Fold::Mean && !call.x("self")?.dtype.is_float() {
        return Err(Error::unsupported("a mean of integers"));
    }
    let counts_self = call.bool_or("include_self", true)?;
    scatter(call, "src", How::Fold { fold, counts_self })
}

fn scatter(call: &mut Call<'_, '_>, source: &str, how: How) -> Result<Out> {
    let (x, index, src) = (call.x("self")?, call.x("index")?, call.x(source)?);
    let (shape, places) = (call.build.shape(&x), call.build.shape(&index));
    let rank = shape.len();
    if rank == 0 || places.len() != rank {
        return Err(Error::unsupported(format!("an index of {places:?} for {shape:?}")));
    }
    let dim = call.dim_of("dim", rank, 0)?;
    if (0..rank).any(|d| d != dim && places[d] > shape[d]) {
        return Err(Error::shape(format!("an index of {places:?} for {shape:?}")));
    }
    let src = match call.build.rank(&src) {
        0 => call.build.expand(&src, &places)?,
        _ => cut(call, &src, &places, None)?,
    };
    let part = cut(call, &x, &places, Some(dim))?;
    let order: Vec<usize> = (0..rank).filter(|&d| d != dim).chain([dim]).collect();
    let rows: usize = (0..rank).filter(|&d| d != dim).map(|d| places[d]).product();
    let mut lines = |x: &X, tail: &[usize]| {
        let x = call.build.view(x, &ViewOp::Permute(order.clone()))?;
        call.build.reshape(&x, &[&[rows], tail].concat())
    };
    let (old, index, values) =
        (lines(&part, &[shape[dim], 1])?, lines(&index, &[places[dim]])?, lines(&src, &[places[dim], 1])?);
    let y = write(call, &Writes { x: &old, places: &index, values: &values, how })?;
    // Back in place.
    let moved: Vec<usize> = order.iter().map(|&d| if d == dim { shape[d] } else { places[d] }).collect();
    let y = call.build.reshape(&y, &moved)?;
    let mut back = vec![0; rank];
    order.iter().enumerate().for_each(|(to, &from)| back[from] = to);
    let y = call.build.view(&y, &ViewOp::Permute(back))?;
    let slices: Vec<ViewOp> = (0..rank)
        .filter(|&d| d != dim && places[d] < shape[d])
        .map(|d| ViewOp::Slice { dim: d, start: 0, step: 1, len: places[d] })
        .collect();
    super::arrange::replaced(call, &x, &slices, &y).map(Out::X)
}

/// The start of each dimension, as long as `sizes` says; all of the dimension `whole`.
fn cut(call: &mut Call<'_, '_>, x: &X, sizes: &[usize], whole: Option<usize>) -> Result<X> {
    let mut x = x.clone();
    for (dim, &len) in sizes.iter().enumerate().filter(|&(dim, _)| Some(dim) != whole) {
        let size = call.build.shape(&x).get(dim).copied().unwrap_or(0);
        if size < len {
            return Err(Error::shape(format!("values of {:?} for an index of {sizes:?}", call.build.shape(&x))));
        }
        if size > len {
            x = call.build.view(&x, &ViewOp::Slice { dim, start: 0, step: 1, len })?;
        }
    }
    Ok(x)
}

/// `x` with `values` written at the places `index [n]` along `dim`.
fn along(call: &mut Call<'_, '_>, x: &X, dim: usize, index: &X, values: &X, how: How) -> Result<X> {
    let shape = call.build.shape(x);
    let count: usize = call.build.shape(index).iter().product();
    let index = call.build.reshape(index, &[1, count])?;
    let mut order: Vec<usize> = (0..shape.len()).filter(|&d| d != dim).collect();
    order.insert(0, dim);
    let inner = shape.iter().enumerate().filter(|(d, _)| *d != dim).map(|(_, size)| size).product();
    let mut rows = |x: &X, len: usize| {
        let x = call.build.view(x, &ViewOp::Permute(order.clone()))?;
        call.build.reshape(&x, &[1, len, inner])
    };
    let (old, values) = (rows(x, shape[dim])?, rows(values, count)?);
    let y = write(call, &Writes { x: &old, places: &index, values: &values, how })?;
    let moved: Vec<usize> = order.iter().map(|&d| shape[d]).collect();
    let y = call.build.reshape(&y, &moved)?;
    let mut back = vec![0; order.len()];
    order.iter().enumerate().for_each(|(to, &from)| back[from] = to);
    call.build.view(&y, &ViewOp::Permute(back))
}

fn index_add(call: &mut Call<'_, '_>) -> Result<Out> {
    let (x, index, source) = (call.x("self")?, call.x("index")?, call.x("source")?);
    let rank = call.build.rank(&x);
    let dim = call.dim_of("dim", rank, 0)?;
    let alpha = call.float_or("alpha", 1.0)?;
    let source = if alpha == 1.0 { source } else { call.build.with_number(Bin::Mul, &source, alpha)? };
    along(call, &x, dim, &index, &source, How::Sum).map(Out::X)
}

fn index_copy(call: &mut Call<'_, '_>) -> Result<Out> {
    let (x, index, source) = (call.x("self")?, call.x("index")?, call.x("source")?);
    let rank = call.build.rank(&x);
    let dim = call.dim_of("dim", rank, 0)?;
    along(call, &x, dim, &index, &source, How::Last).map(Out::X)
}

fn index_fill(call: &mut Call<'_, '_>) -> Result<Out> {
    let (x, index, value) = (call.x("self")?, call.x("index")?, call.x("value")?);
    let mut shape = call.build.shape(&x);
    let dim = call.dim_of("dim", shape.len(), 0)?;
    let size = std::mem::replace(&mut shape[dim], call.build.shape(&index).iter().product());
    let index = super::gather::from_front(call, &index, size)?;
    let value = call.build.cast(&value, x.dtype)?;
    let values = call.build.expand(&value, &shape)?;
    along(call, &x, dim, &index, &values, How::Last).map(Out::X)
}

/// `x[indices] = values`, or `+=`.
fn index_put(call: &mut Call<'_, '_>) -> Result<Out> {
    let (x, values) = (call.x("self")?, call.x("values")?);
    let indices = call.opt_xs("indices")?;
    let adds = call.bool_or("accumulate", false)?;
    let values = call.build.cast(&values, x.dtype)?;
    let shape = call.build.shape(&x);
    let only_mask = match &indices[..] {
        [Some(mask)] if mask.dtype == DType::Bool => Some(mask.clone()),
        _ => None,
    };
    if let Some(mask) = only_mask
        && !adds
        && call.build.shape(&values).iter().all(|&size| size == 1)
    {
        return masked(call, &x, &mask, &values).map(Out::X);
    }
    let indices = super::gather::without_masks(call, &shape, indices)?;
    let dims: Vec<usize> = (0..indices.len()).filter(|&d| indices[d].is_some()).collect();
    let given: Vec<X> = indices.into_iter().flatten().collect();
    let places = super::gather::Places::read(call, &shape, &given, &dims)?;
    let (at, out) = (places.at, places.shape.clone());
    // The indexed dimensions come first, as one.
    let order: Vec<usize> = dims.iter().copied().chain((0..shape.len()).filter(|d| !dims.contains(d))).collect();
    let inner: Vec<usize> = order[dims.len()..].iter().map(|&d| shape[d]).collect();
    let columns: usize = inner.iter().product();
    let moved = call.build.view(&x, &ViewOp::Permute(order.clone()))?;
    let old = call.build.reshape(&moved, &[1, places.count, columns])?;
    // Values have the shape of what the same index would read.
    let lead: usize = if places.neighbours { at } else { 0 };
    let rest: Vec<usize> = (0..shape.len()).filter(|d| !dims.contains(d)).map(|d| shape[d]).collect();
    let full = [&rest[..lead], &out[..], &rest[lead..]].concat();
    let values = call.build.expand(&values, &full)?;
    let front = (lead..lead + out.len()).chain(0..lead).chain(lead + out.len()..full.len()).collect();
    let values = call.build.view(&values, &ViewOp::Permute(front))?;
    let count: usize = out.iter().product();
    let values = call.build.reshape(&values, &[1, count, columns])?;
    let flat = call.build.reshape(&places.place, &[1, count])?;
    let how = if adds { How::Sum } else { How::Last };
    let y = write(call, &Writes { x: &old, places: &flat, values: &values, how })?;
    let sizes: Vec<usize> = order.iter().map(|&d| shape[d]).collect();
    let y = call.build.reshape(&y, &sizes)?;
    let mut back = vec![0; order.len()];
    order.iter().enumerate().for_each(|(to, &from)| back[from] = to);
    call.build.view(&y, &ViewOp::Permute(back)).map(Out::X)
}

/// One value where a mask is true.
fn masked(call: &mut Call<'_, '_>, x: &X, mask: &X, value: &X) -> Result<X> {
    let (shape, own) = (call.build.shape(x), call.build.shape(mask));
    if own.len() > shape.len() || own != shape[..own.len()] {
        return Err(Error::shape(format!("a mask of {own:?} for {shape:?}")));
    }
    let wide = [&own[..], &vec![1; shape.len() - own.len()]].concat();
    let mask = call.build.reshape(mask, &wide)?;
    let value = call.build.reshape(value, &[])?;
    call.build.select(&mask, &value, x)
}
