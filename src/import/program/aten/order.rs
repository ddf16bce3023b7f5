//! Sorting: each element's rank is the number of those that come before it, and a place of the result is that of the
//! element with its rank.

use super::{Call, Function, Out};
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::import::program::alias::ViewOp;
use crate::import::program::host::Host;
use crate::import::program::prims::{Bin, Fold};
use crate::import::program::value::X;

/// The most comparisons.
const MAX_PAIRS: usize = 1 << 24;

pub(super) fn find(target: &str) -> Option<Function> {
    Some(match target {
        "aten.sort.default" | "aten.sort.stable" => sort,
        "aten.argsort.default" | "aten.argsort.stable" => argsort,
        "aten.topk.default" => topk,
        "aten.msort.default" => msort,
        "aten.kthvalue.default" => kthvalue,
        "aten.median.default" => |call| median(call).map(|[value, _]| Out::X(value)),
        "aten.median.dim" => |call| median(call).map(|both| Out::Xs(both.into())),
        "aten.searchsorted.Tensor" | "aten.searchsorted.Scalar" => |call| counted(call, "sorted_sequence", "self"),
        "aten.bucketize.Tensor" | "aten.bucketize.Scalar" => |call| counted(call, "boundaries", "self"),
        _ => return None,
    })
}

/// The first `count` of the sorted elements along `dim`, and their places. Equal ones keep their order; NaN is the
/// largest, as in PyTorch.
fn sorted(call: &mut Call<'_, '_>, x: &X, dim: usize, descending: bool, count: usize) -> Result<[X; 2]> {
    let shape = call.build.shape(x);
    let len = shape[dim];
    let order: Vec<usize> = (0..shape.len()).filter(|&d| d != dim).chain([dim]).collect();
    let moved: Vec<usize> = order.iter().map(|&d| shape[d]).collect();
    let rows: usize = moved[..moved.len() - 1].iter().product();
    if rows.checked_mul(len).and_then(|n| n.checked_mul(len)).is_none_or(|pairs| pairs > MAX_PAIRS) {
        return Err(Error::unsupported(format!("{rows} times {len} elements in order: at most {MAX_PAIRS} pairs")));
    }
    let lines = call.build.view(x, &ViewOp::Permute(order.clone()))?;
    let lines = call.build.reshape(&lines, &[rows, len])?;
    let rank = ranks(call, &lines, descending)?;
    let places: Vec<i64> = (0..len as i64).collect();
    // [rows, i, p]: whether element `i` comes at place `p`.
    let rank = call.build.reshape(&rank, &[rows, len, 1])?;
    let is_there =
        call.build.binary(Bin::Eq, &rank, &X::host(Host::ints(&[count], places[..count].to_vec()), DType::I64))?;
    let numbered = call.build.binary(Bin::Mul, &is_there, &X::host(Host::ints(&[len, 1], places), DType::I64))?;
    let found = call.build.fold(Fold::Sum, &numbered, &[1], false)?;
    let first = (0..rows).map(|row| (row * len) as i64).collect();
    let flat = call.build.binary(Bin::Add, &found, &X::host(Host::ints(&[rows, 1], first), DType::I64))?;
    let flat = call.build.reshape(&flat, &[rows * count])?;
    let all = call.build.reshape(&lines, &[rows * len])?;
    let values = call.build.index_select(&all, 0, &flat)?;
    let mut out = moved;
    *out.last_mut().expect("a dimension") = count;
    let mut back = vec![0; order.len()];
    order.iter().enumerate().for_each(|(to, &from)| back[from] = to);
    let mut finish = |x: &X| {
        let x = call.build.reshape(x, &out)?;
        call.build.view(&x, &ViewOp::Permute(back.clone()))
    };
    Ok([finish(&values)?, finish(&found)?])
}

/// How many elements of each row of `x [rows, len]` come before each one.
fn ranks(call: &mut Call<'_, '_>, x: &X, descending: bool) -> Result<X> {
    let &[rows, len] = &call.build.shape(x)[..] else { unreachable!("the caller makes rows") };
    let build = &mut *call.build;
    let own = build.reshape(x, &[rows, len, 1])?;
    let other = build.reshape(x, &[rows, 1, len])?;
    let (low, high) = if descending { (&own, &other) } else { (&other, &own) };
    let mut before = build.binary(Bin::Lt, low, high)?;
    let mut equal = build.binary(Bin::Eq, &other, &own)?;
    if x.dtype.is_float() {
        let (low_nan, high_nan) = (build.binary(Bin::Ne, low, low)?, build.binary(Bin::Ne, high, high)?);
        let high_only = build.binary(Bin::Gt, &high_nan, &low_nan)?;
        before = build.binary(Bin::Or, &before, &high_only)?;
        let both = build.binary(Bin::And, &low_nan, &high_nan)?;
        equal = build.binary(Bin::Or, &equal, &both)?;
    }
    let earlier: Vec<i64> = (0..len * len).map(|i| i64::from(i % len < i / len)).collect();
    let earlier = X::host(Host::ints(&[len, len], earlier), DType::Bool);
    let tied = build.binary(Bin::And, &equal, &earlier)?;
    let before = build.binary(Bin::Or, &before, &tied)?;
    build.fold(Fold::Sum, &before, &[2], false)
}

fn all_sorted(call: &mut Call<'_, '_>) -> Result<[X; 2]> {
    let x = call.x("self")?;
    let shape = call.build.shape(&x);
    let descending = call.bool_or("descending", false)?;
    if shape.iter().product::<usize>() == 0 || shape.is_empty() {
        let places = call.build.full(&shape, DType::I64, 0.0)?;
        return Ok([x, places]);
    }
    let dim = call.dim_of("dim", shape.len(), -1)?;
    sorted(call, &x, dim, descending, shape[dim])
}

fn sort(call: &mut Call<'_, '_>) -> Result<Out> {
    all_sorted(call).map(|both| Out::Xs(both.into()))
}

fn argsort(call: &mut Call<'_, '_>) -> Result<Out> {
    let [_, places] = all_sorted(call)?;
    Ok(Out::X(places))
}

fn topk(call: &mut Call<'_, '_>) -> Result<Out> {
    let x = call.x("self")?;
    let shape = call.build.shape(&x);
    let (count, largest) = (usize::try_from(call.int("k")?).unwrap_or(usize::MAX), call.bool_or("largest", true)?);
    if shape.is_empty() && count == 1 {
        return Ok(Out::Xs(vec![x, X::host(Host::ints(&[], vec![0]), DType::I64)]));
    }
    let dim = call.dim_of("dim", shape.len(), -1)?;
    if count > shape[dim] {
        return Err(Error::shape(format!("{count} of {} elements", shape[dim])));
    }
    sorted(call, &x, dim, largest, count).map(|both| Out::Xs(both.into()))
}

fn msort(call: &mut Call<'_, '_>) -> Result<Out> {
    let x = call.x("self")?;
    let shape = call.build.shape(&x);
    if shape.iter().product::<usize>() == 0 || shape.is_empty() {
        return Ok(Out::X(x));
    }
    let [values, _] = sorted(call, &x, 0, false, shape[0])?;
    Ok(Out::X(values))
}

/// The `k`-th smallest element along a dimension, counted from 1, and its place.
fn place_of(call: &mut Call<'_, '_>, x: &X, dim: usize, k: usize, keepdim: bool) -> Result<[X; 2]> {
    let shape = call.build.shape(x);
    if !(1..=shape[dim]).contains(&k) {
        return Err(Error::shape(format!("number {k} of {} elements", shape[dim])));
    }
    let out = crate::import::program::prims::kept(&shape, &[dim], keepdim);
    let both = sorted(call, x, dim, false, k)?;
    let last = both.map(|x| {
        let x = call.build.view(&x, &ViewOp::Slice { dim, start: k - 1, step: 1, len: 1 })?;
        call.build.reshape(&x, &out)
    });
    let [values, places] = last;
    Ok([values?, places?])
}

fn kthvalue(call: &mut Call<'_, '_>) -> Result<Out> {
    let x = call.x("self")?;
    let rank = call.build.rank(&x);
    let dim = call.dim_of("dim", rank, -1)?;
    let (k, keepdim) = (usize::try_from(call.int("k")?).unwrap_or(0), call.bool_or("keepdim", false)?);
    place_of(call, &x, dim, k, keepdim).map(|both| Out::Xs(both.into()))
}

/// The lower one of the two in the middle; NaN where there is one.
fn median(call: &mut Call<'_, '_>) -> Result<[X; 2]> {
    let x = call.x("self")?;
    let shape = call.build.shape(&x);
    let keepdim = call.bool_or("keepdim", false)?;
    let (x, dim) = match call.opt_int("dim")? {
        Some(dim) if !shape.is_empty() => (x, super::wrap_dim(dim, shape.len())?),
        _ => (call.build.reshape(&x, &[shape.iter().product()])?, 0),
    };
    let len = call.build.shape(&x)[dim];
    let [values, places] = place_of(call, &x, dim, len.div_ceil(2), keepdim)?;
    if !x.dtype.is_float() {
        return Ok([values, places]);
    }
    let nan = call.build.binary(Bin::Ne, &x, &x)?;
    let any = call.build.fold(Fold::Any, &nan, &[dim], keepdim)?;
    let values = call.build.select(&any, &X::number(f64::NAN, DType::F32), &values)?;
    // The first of those.
    let mut each = vec![1; call.build.rank(&x)];
    each[dim] = len;
    let all = X::host(Host::ints(&each, (0..len as i64).collect()), DType::I64);
    let found = call.build.select(&nan, &all, &X::int(len as i64))?;
    let first = call.build.fold(Fold::Min, &found, &[dim], keepdim)?;
    Ok([values, call.build.select(&any, &first, &places)?])
}

/// How many of the bounds, which rise, are below each value; with `right`, or equal to it.
fn counted(call: &mut Call<'_, '_>, bounds: &str, values: &str) -> Result<Out> {
    let (bounds, values) = (call.x(bounds)?, call.x(values)?);
    let is_right = call.bool_or("right", false)? || call.str_or("side", "left")? == "right";
    if call.has("sorter") {
        return Err(Error::unsupported("bounds that are sorted by the operation"));
    }
    let (shape, out) = (call.build.shape(&bounds), call.build.shape(&values));
    let len = *shape.last().ok_or_else(|| Error::shape("no bounds"))?;
    if out.iter().product::<usize>().saturating_mul(len) > MAX_PAIRS {
        return Err(Error::unsupported(format!("{out:?} values among {len} bounds: at most {MAX_PAIRS} pairs")));
    }
    let column = call.build.reshape(&values, &[&out[..], &[1]].concat())?;
    let bounds = match shape.len() {
        1 => bounds,
        rank => call.build.reshape(&bounds, &[&shape[..rank - 1], &[1, len]].concat())?,
    };
    let below = call.build.binary(if is_right { Bin::Le } else { Bin::Lt }, &bounds, &column)?;
    let count = call.build.fold(Fold::Sum, &below, &[out.len()], false)?;
    match call.bool_or("out_int32", false)? {
        true => call.build.cast(&count, DType::I32).map(Out::X),
        false => Ok(Out::X(count)),
    }
}
