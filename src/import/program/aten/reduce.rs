//! Reductions and softmax.

use super::{Call, Function, Out};
use crate::dtype::DType;
use crate::error::Result;
use crate::graph::op::Unary;
use crate::import::program::host::Host;
use crate::import::program::prims::{Bin, Fold};
use crate::import::program::value::X;

pub(super) fn find(target: &str) -> Option<Function> {
    Some(match target {
        "aten.mean.dim" | "aten.mean.default" => |call| fold(call, Fold::Mean),
        "aten.sum.dim_IntList" | "aten.sum.default" => |call| fold(call, Fold::Sum),
        "aten.amax.default" | "aten.max.default" => |call| fold(call, Fold::Max),
        "aten.amin.default" | "aten.min.default" => |call| fold(call, Fold::Min),
        "aten.prod.dim_int" | "aten.prod.default" => |call| fold(call, Fold::Prod),
        "aten.any.dim" | "aten.any.default" | "aten.any.dims" => |call| fold(call, Fold::Any),
        "aten.all.dim" | "aten.all.default" | "aten.all.dims" => |call| fold(call, Fold::All),
        "aten.max.dim" => |call| extreme(call, Fold::Max),
        "aten.min.dim" => |call| extreme(call, Fold::Min),
        "aten.argmax.default" => |call| position(call, Fold::Max),
        "aten.argmin.default" => |call| position(call, Fold::Min),
        "aten.var.correction" | "aten.var.dim" | "aten.var.default" => |call| variance(call, false),
        "aten.std.correction" | "aten.std.dim" | "aten.std.default" => |call| variance(call, true),
        "aten.var_mean.correction" | "aten.var_mean.dim" | "aten.var_mean.default" => |call| var_mean(call, false),
        "aten.std_mean.correction" | "aten.std_mean.dim" | "aten.std_mean.default" => |call| var_mean(call, true),
        "aten.aminmax.default" => aminmax,
        "aten.count_nonzero.default" | "aten.count_nonzero.dim_IntList" => count_nonzero,
        "aten.nansum.default" => nansum,
        "aten.nanmean.default" => nanmean,
        "aten.linalg_vector_norm.default" => vector_norm,
        "aten.norm.ScalarOpt_dim" => vector_norm,
        "aten.softmax.int" | "aten._softmax.default" => |call| softmax(call, false),
        "aten._safe_softmax.default" => safe_softmax,
        "aten.log_softmax.int" | "aten._log_softmax.default" => |call| softmax(call, true),
        "aten.logsumexp.default" => logsumexp,
        "aten.cumsum.default" => cumsum,
        _ => return None,
    })
}

fn fold(call: &mut Call<'_, '_>, fold: Fold) -> Result<Out> {
    let mut x = call.x("self")?;
    if let Some(dtype) = call.opt_dtype("dtype")? {
        x = call.build.cast(&x, dtype)?;
    }
    let rank = call.build.rank(&x);
    let dims = call.dims_of("dim", rank)?;
    let keepdim = call.bool_or("keepdim", false)?;
    let y = call.build.fold(fold, &x, &dims, keepdim)?;
    match fold {
        // Flags of bytes are bytes.
        Fold::Any | Fold::All if x.dtype == DType::U8 => call.build.cast(&y, DType::U8).map(Out::X),
        _ => Ok(Out::X(y)),
    }
}

/// The position of the first extreme element along `dim`, which stays as 1.
fn first_position(call: &mut Call<'_, '_>, fold: Fold, x: &X, dim: usize) -> Result<X> {
    let shape = call.build.shape(x);
    let len = shape[dim];
    let build = &mut *call.build;
    let extreme = build.fold(fold, x, &[dim], true)?;
    let mut is_it = build.binary(Bin::Eq, x, &extreme)?;
    if x.dtype.is_float() {
        // NaN is the extreme one, and equals nothing.
        let is_nan = build.binary(Bin::Ne, x, x)?;
        is_it = build.binary(Bin::Or, &is_it, &is_nan)?;
    }
    let mut each = vec![1; shape.len()];
    each[dim] = len;
    let positions = X::host(Host::ints(&each, (0..len as i64).collect()), DType::I64);
    let positions = build.select(&is_it, &positions, &X::int(len as i64))?;
    build.fold(Fold::Min, &positions, &[dim], true)
}

fn extreme(call: &mut Call<'_, '_>, fold: Fold) -> Result<Out> {
    let x = call.x("self")?;
    let shape = call.build.shape(&x);
    let keepdim = call.bool_or("keepdim", false)?;
    if shape.is_empty() {
        return Ok(Out::Xs(vec![x, X::host(Host::ints(&[], vec![0]), DType::I64)]));
    }
    let dim = call.dim_of("dim", shape.len(), 0)?;
    let values = call.build.fold(fold, &x, &[dim], keepdim)?;
    let positions = first_position(call, fold, &x, dim)?;
    let out = call.build.shape(&values);
    let positions = call.build.reshape(&positions, &out)?;
    Ok(Out::Xs(vec![values, positions]))
}

fn position(call: &mut Call<'_, '_>, fold: Fold) -> Result<Out> {
    let mut x = call.x("self")?;
    let mut shape = call.build.shape(&x);
    let keepdim = call.bool_or("keepdim", false)?;
    let dim = match call.opt_int("dim")? {
        Some(dim) if !shape.is_empty() => super::wrap_dim(dim, shape.len())?,
        _ => {
            let out = if keepdim { vec![1; shape.len()] } else { vec![] };
            shape = vec![shape.iter().product()];
            x = call.build.reshape(&x, &shape)?;
            let y = first_position(call, fold, &x, 0)?;
            return call.build.reshape(&y, &out).map(Out::X);
        }
    };
    let y = first_position(call, fold, &x, dim)?;
    let out = crate::import::program::prims::kept(&shape, &[dim], keepdim);
    call.build.reshape(&y, &out).map(Out::X)
}

/// The variance of the dimensions, and the mean.
fn moments(call: &mut Call<'_, '_>) -> Result<[X; 2]> {
    let x = call.x("self")?;
    let shape = call.build.shape(&x);
    let dims = call.dims_of("dim", shape.len())?;
    let keepdim = call.bool_or("keepdim", false)?;
    let correction = match call.opt_float("correction")? {
        Some(correction) => correction,
        None if call.bool_or("unbiased", true)? => 1.0,
        None => 0.0,
    };
    let count: usize = dims.iter().map(|&d| shape[d]).product();
    let build = &mut *call.build;
    let mean = build.fold(Fold::Mean, &x, &dims, true)?;
    let centred = build.binary(Bin::Sub, &x, &mean)?;
    let square = build.binary(Bin::Mul, &centred, &centred)?;
    let sum = build.fold(Fold::Sum, &square, &dims, keepdim)?;
    let variance = build.with_number(Bin::Div, &sum, (count as f64 - correction).max(0.0))?;
    let out = build.shape(&variance);
    let mean = build.reshape(&mean, &out)?;
    Ok([variance, mean])
}

fn variance(call: &mut Call<'_, '_>, root: bool) -> Result<Out> {
    let [variance, _] = moments(call)?;
    match root {
        true => call.build.unary(Unary::Sqrt, &variance).map(Out::X),
        false => Ok(Out::X(variance)),
    }
}

fn var_mean(call: &mut Call<'_, '_>, root: bool) -> Result<Out> {
    let [mut variance, mean] = moments(call)?;
    if root {
        variance = call.build.unary(Unary::Sqrt, &variance)?;
    }
    Ok(Out::Xs(vec![variance, mean]))
}

fn aminmax(call: &mut Call<'_, '_>) -> Result<Out> {
    let x = call.x("self")?;
    let rank = call.build.rank(&x);
    let dims = call.dims_of("dim", rank)?;
    let keepdim = call.bool_or("keepdim", false)?;
    let both = [Fold::Min, Fold::Max].map(|fold| call.build.fold(fold, &x, &dims, keepdim));
    both.into_iter().collect::<Result<_>>().map(Out::Xs)
}

fn count_nonzero(call: &mut Call<'_, '_>) -> Result<Out> {
    let x = call.x("self")?;
    let rank = call.build.rank(&x);
    let dims = call.dims_of("dim", rank)?;
    let counted = call.build.with_number(Bin::Ne, &x, 0.0)?;
    call.build.fold(Fold::Sum, &counted, &dims, false).map(Out::X)
}

/// `self` with zeros for NaN, and what is not NaN.
fn numbers(call: &mut Call<'_, '_>) -> Result<[X; 2]> {
    let x = call.x("self")?;
    let good = call.build.binary(Bin::Eq, &x, &x)?;
    let zero = call.build.full(&[], x.dtype, 0.0)?;
    Ok([call.build.select(&good, &x, &zero)?, good])
}

fn nansum(call: &mut Call<'_, '_>) -> Result<Out> {
    let [x, _] = numbers(call)?;
    let rank = call.build.rank(&x);
    let (dims, keepdim) = (call.dims_of("dim", rank)?, call.bool_or("keepdim", false)?);
    call.build.fold(Fold::Sum, &x, &dims, keepdim).map(Out::X)
}

fn nanmean(call: &mut Call<'_, '_>) -> Result<Out> {
    let [x, good] = numbers(call)?;
    let rank = call.build.rank(&x);
    let (dims, keepdim) = (call.dims_of("dim", rank)?, call.bool_or("keepdim", false)?);
    let sum = call.build.fold(Fold::Sum, &x, &dims, keepdim)?;
    let count = call.build.fold(Fold::Sum, &good, &dims, keepdim)?;
    call.build.binary(Bin::Div, &sum, &count).map(Out::X)
}

fn vector_norm(call: &mut Call<'_, '_>) -> Result<Out> {
    let x = call.x("self")?;
    let order = match call.opt_float("ord")? {
        Some(order) => order,
        None => call.float_or("p", 2.0)?,
    };
    let rank = call.build.rank(&x);
    let dims = call.dims_of("dim", rank)?;
    let keepdim = call.bool_or("keepdim", false)?;
    let build = &mut *call.build;
    if order == 2.0 {
        let square = build.binary(Bin::Mul, &x, &x)?;
        let sum = build.fold(Fold::Sum, &square, &dims, keepdim)?;
        return build.unary(Unary::Sqrt, &sum).map(Out::X);
    }
    let size = build.unary(Unary::Abs, &x)?;
    match order {
        1.0 => build.fold(Fold::Sum, &size, &dims, keepdim).map(Out::X),
        f64::INFINITY => build.fold(Fold::Max, &size, &dims, keepdim).map(Out::X),
        f64::NEG_INFINITY => build.fold(Fold::Min, &size, &dims, keepdim).map(Out::X),
        0.0 => {
            let is_any = build.with_number(Bin::Ne, &size, 0.0)?;
            let counted = build.cast(&is_any, x.dtype)?;
            build.fold(Fold::Sum, &counted, &dims, keepdim).map(Out::X)
        }
        order => {
            let power = build.with_number(Bin::Pow, &size, order)?;
            let sum = build.fold(Fold::Sum, &power, &dims, keepdim)?;
            build.with_number(Bin::Pow, &sum, 1.0 / order).map(Out::X)
        }
    }
}

/// Softmax, with zeros where all is minus infinity.
fn safe_softmax(call: &mut Call<'_, '_>) -> Result<Out> {
    let x = call.x("self")?;
    let rank = call.build.rank(&x);
    let dim = call.dim_of("dim", rank, -1)?;
    let Out::X(weights) = softmax(call, false)? else { unreachable!("softmax gives one value") };
    let build = &mut *call.build;
    let shut = build.with_number(Bin::Eq, &x, f64::NEG_INFINITY)?;
    let open = build.with_number(Bin::Eq, &shut, 0.0)?;
    let any = build.fold(Fold::Any, &open, &[dim], true)?;
    let none = build.with_number(Bin::Eq, &any, 0.0)?;
    let zeros = build.full(&build.shape(&weights), weights.dtype, 0.0)?;
    build.select(&none, &zeros, &weights).map(Out::X)
}

fn softmax(call: &mut Call<'_, '_>, log: bool) -> Result<Out> {
    let x = call.x("self")?;
    let dtype = call.opt_dtype("dtype")?.unwrap_or(x.dtype);
    let shape = call.build.shape(&x);
    let dim = call.dim_of("dim", shape.len().max(1), -1)? as isize;
    let lines = if shape.is_empty() { call.build.reshape(&x, &[1])? } else { x };
    let var = call.build.var(&lines)?;
    let graph = &mut *call.build.graph;
    let y = if log { graph.log_softmax(var, dim)? } else { graph.softmax(var, dim)? };
    call.build.reshape(&X::var(y, dtype), &shape).map(Out::X)
}

fn logsumexp(call: &mut Call<'_, '_>) -> Result<Out> {
    let x = call.x("self")?;
    let rank = call.build.rank(&x);
    let dims = call.dims_of("dim", rank)?;
    let keepdim = call.bool_or("keepdim", false)?;
    let build = &mut *call.build;
    let max = build.fold(Fold::Max, &x, &dims, true)?;
    // An infinity is the result, and has no difference to itself.
    let size = build.unary(Unary::Abs, &max)?;
    let infinite = build.binary(Bin::Eq, &size, &X::number(f64::INFINITY, DType::F32))?;
    let max = build.select(&infinite, &X::number(0.0, DType::F32), &max)?;
    let centred = build.binary(Bin::Sub, &x, &max)?;
    let exp = build.unary(Unary::Exp, &centred)?;
    let sum = build.fold(Fold::Sum, &exp, &dims, keepdim)?;
    let log = build.unary(Unary::Log, &sum)?;
    let out = build.shape(&log);
    let max = build.reshape(&max, &out)?;
    build.binary(Bin::Add, &log, &max).map(Out::X)
}

fn cumsum(call: &mut Call<'_, '_>) -> Result<Out> {
    let mut x = call.x("self")?;
    let dtype = call.opt_dtype("dtype")?.unwrap_or(if x.dtype.is_float() { x.dtype } else { DType::I64 });
    x = call.build.cast(&x, dtype)?;
    let rank = call.build.rank(&x);
    if rank == 0 {
        return Ok(Out::X(x));
    }
    let dim = call.dim_of("dim", rank, 0)?;
    if let Some(host) = call.build.known(&x)?.filter(|_| x.is_host()) {
        let running = |line: &[f64]| {
            let mut sum = 0.0;
            line.iter()
                .map(|x| {
                    sum += x;
                    sum
                })
                .collect()
        };
        return Ok(Out::X(X::host(host.lines(dim, running, dtype.is_float()).cast(dtype), dtype)));
    }
    let build = &mut *call.build;
    let most = build.reach(&x) * build.shape(&x)[dim] as f64;
    let var = build.var(&x)?;
    let mut sums = build.graph.cumsum(var, dim as isize)?;
    if !dtype.is_float() && most > build.exact() {
        let size = build.graph.abs(var)?;
        let sizes = build.graph.cumsum(size, dim as isize)?;
        sums = build.guarded(sums, sizes)?;
    }
    Ok(Out::X(X::var(sums, dtype)))
}
