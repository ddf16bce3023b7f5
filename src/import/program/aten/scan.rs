//! Running products, extremes and sums of exponentials along a dimension: each element takes in the one before it, then
//! the one two before it, then four, and so on.

use super::pointwise::log_sum;
use super::shape::part;
use super::{Call, Function, Out};
use crate::dtype::DType;
use crate::error::Result;
use crate::import::program::host::Host;
use crate::import::program::prims::Bin;
use crate::import::program::value::X;

pub(super) fn find(target: &str) -> Option<Function> {
    Some(match target {
        "aten.cumprod.default" => cumprod,
        "aten.cummax.default" => |call| extreme(call, Bin::Maximum),
        "aten.cummin.default" => |call| extreme(call, Bin::Minimum),
        "aten.logcumsumexp.default" => logcumsumexp,
        _ => return None,
    })
}

/// The running results of a function that may be applied in any order.
fn scan(
    call: &mut Call<'_, '_>,
    x: &X,
    dim: usize,
    function: &dyn Fn(&mut Call<'_, '_>, &X, &X) -> Result<X>,
) -> Result<X> {
    let mut y = x.clone();
    let len = call.build.shape(x)[dim];
    let mut distance = 1;
    while distance < len {
        let first = call.build.view(&y, &part(dim, 0, distance))?;
        let before = call.build.view(&y, &part(dim, 0, len - distance))?;
        let after = call.build.view(&y, &part(dim, distance, len - distance))?;
        let rest = function(call, &before, &after)?;
        y = call.build.cat(&[first, rest], dim)?;
        distance *= 2;
    }
    Ok(y)
}

/// `self` with at least one dimension, and the dimension.
fn operand(call: &mut Call<'_, '_>) -> Result<(X, Vec<usize>, usize)> {
    let x = call.x("self")?;
    let shape = call.build.shape(&x);
    let x = if shape.is_empty() { call.build.reshape(&x, &[1])? } else { x };
    let dim = call.dim_of("dim", shape.len().max(1), 0)?;
    Ok((x, shape, dim))
}

fn cumprod(call: &mut Call<'_, '_>) -> Result<Out> {
    let (x, shape, dim) = operand(call)?;
    let dtype = call.opt_dtype("dtype")?.unwrap_or(if x.dtype.is_float() { x.dtype } else { DType::I64 });
    let x = call.build.cast(&x, dtype)?;
    let y = scan(call, &x, dim, &|call, a, b| call.build.binary(Bin::Mul, a, b))?;
    call.build.reshape(&y, &shape).map(Out::X)
}

/// The running extreme, and the place of the last element that is it.
fn extreme(call: &mut Call<'_, '_>, bin: Bin) -> Result<Out> {
    let (x, shape, dim) = operand(call)?;
    let y = scan(call, &x, dim, &|call, a, b| call.build.binary(bin, a, b))?;
    let build = &mut *call.build;
    let mut is_it = build.binary(Bin::Eq, &x, &y)?;
    if x.dtype.is_float() {
        let is_nan = build.binary(Bin::Ne, &x, &x)?;
        is_it = build.binary(Bin::Or, &is_it, &is_nan)?;
    }
    let mut each = vec![1; build.rank(&x)];
    each[dim] = build.shape(&x)[dim];
    let places = X::host(Host::ints(&each, (0..each[dim] as i64).collect()), DType::I64);
    let places = build.select(&is_it, &places, &X::int(0))?;
    let places = scan(call, &places, dim, &|call, a, b| call.build.binary(Bin::Maximum, a, b))?;
    Ok(Out::Xs(vec![call.build.reshape(&y, &shape)?, call.build.reshape(&places, &shape)?]))
}

fn logcumsumexp(call: &mut Call<'_, '_>) -> Result<Out> {
    let (x, shape, dim) = operand(call)?;
    let y = scan(call, &x, dim, &log_sum)?;
    call.build.reshape(&y, &shape).map(Out::X)
}
