//! Further functions of each element, made of those that the kernels have.

use super::{Call, Function, Out};
use crate::dtype::DType;
use crate::error::Result;
use crate::graph::op::Unary;
use crate::import::program::build::Build;
use crate::import::program::prims::Bin;
use crate::import::program::value::X;
use std::f64::consts::{FRAC_PI_2, FRAC_PI_4, PI};

pub(super) fn find(target: &str) -> Option<Function> {
    Some(match target {
        "aten.sinh.default" => |call| of_one(call, |build, x| hyperbolic(build, x, Bin::Sub)),
        "aten.cosh.default" => |call| of_one(call, |build, x| hyperbolic(build, x, Bin::Add)),
        "aten.asinh.default" => |call| of_one(call, asinh),
        "aten.acosh.default" => |call| of_one(call, acosh),
        "aten.atanh.default" => |call| of_one(call, atanh),
        "aten.atan.default" | "aten.arctan.default" => |call| of_one(call, atan),
        "aten.asin.default" | "aten.arcsin.default" => |call| of_one(call, asin),
        "aten.acos.default" | "aten.arccos.default" => |call| of_one(call, acos),
        "aten.log1p.default" => |call| of_one(call, log1p),
        "aten.expm1.default" => |call| of_one(call, expm1),
        "aten.sinc.default" => |call| of_one(call, sinc),
        "aten.frac.default" => |call| of_one(call, frac),
        "aten.deg2rad.default" => |call| of_one(call, |build, x| build.with_number(Bin::Mul, x, PI / 180.0)),
        "aten.rad2deg.default" => |call| of_one(call, |build, x| build.with_number(Bin::Mul, x, 180.0 / PI)),
        "aten.isposinf.default" => |call| of_one(call, |build, x| build.with_number(Bin::Eq, x, f64::INFINITY)),
        "aten.isneginf.default" => |call| of_one(call, |build, x| build.with_number(Bin::Eq, x, f64::NEG_INFINITY)),
        "aten.logit.default" => logit,
        "aten.round.decimals" => round_decimals,
        "aten.celu.default" => celu,
        "aten.hardshrink.default" => |call| shrink(call, false),
        "aten.softshrink.default" => |call| shrink(call, true),
        "aten.rrelu.default" => rrelu,
        "aten.atan2.default" | "aten.arctan2.default" => atan2,
        "aten.hypot.default" => hypot,
        "aten.heaviside.default" => heaviside,
        "aten.fmax.default" => |call| without_nan(call, Bin::Maximum),
        "aten.fmin.default" => |call| without_nan(call, Bin::Minimum),
        "aten.xlogy.Tensor" | "aten.xlogy.Scalar_Other" | "aten.xlogy.Scalar_Self" => xlogy,
        "aten.copysign.Tensor" | "aten.copysign.Scalar" => copysign,
        _ => return None,
    })
}

/// A function of `self`, as a float.
fn of_one(call: &mut Call<'_, '_>, function: impl Fn(&mut Build<'_>, &X) -> Result<X>) -> Result<Out> {
    let x = call.x("self")?;
    let x = if x.dtype.is_float() { x } else { call.build.cast(&x, DType::F32)? };
    function(call.build, &x).map(Out::X)
}

/// `(exp(x) + exp(-x)) / 2`, or the difference, which for small `x` is taken from `expm1`.
fn hyperbolic(build: &mut Build<'_>, x: &X, bin: Bin) -> Result<X> {
    let exp = |build: &mut Build<'_>, x: &X| match bin {
        Bin::Sub => expm1(build, x),
        _ => build.unary(Unary::Exp, x),
    };
    let negative = build.unary(Unary::Neg, x)?;
    let (up, down) = (exp(build, x)?, exp(build, &negative)?);
    let both = build.binary(bin, &up, &down)?;
    build.with_number(Bin::Mul, &both, 0.5)
}

/// `log(1 + x)`, with the digits of a small `x` that `1 + x` rounds away.
fn log1p(build: &mut Build<'_>, x: &X) -> Result<X> {
    let sum = build.with_number(Bin::Add, x, 1.0)?;
    let log = build.unary(Unary::Log, &sum)?;
    // A series where it is as exact, as it is for x below 0.03.
    let mut series = build.with_number(Bin::Mul, x, 0.2)?;
    for factor in [-0.25, 1.0 / 3.0, -0.5, 1.0] {
        series = build.with_number(Bin::Add, &series, factor)?;
        series = build.binary(Bin::Mul, &series, x)?;
    }
    small(build, x, 0.03, &series, &log)
}

/// `exp(x) - 1`, with all digits for a small `x`.
fn expm1(build: &mut Build<'_>, x: &X) -> Result<X> {
    let exp = build.unary(Unary::Exp, x)?;
    let less = build.with_number(Bin::Sub, &exp, 1.0)?;
    let mut series = build.with_number(Bin::Mul, x, 1.0 / 720.0)?;
    for factor in [1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0] {
        series = build.with_number(Bin::Add, &series, factor)?;
        series = build.binary(Bin::Mul, &series, x)?;
    }
    small(build, x, 0.3, &series, &less)
}

/// `near` where `x` is within the limit of 0, else `far`.
fn small(build: &mut Build<'_>, x: &X, limit: f64, near: &X, far: &X) -> Result<X> {
    let size = build.unary(Unary::Abs, x)?;
    let is_small = build.with_number(Bin::Lt, &size, limit)?;
    build.select(&is_small, near, far)
}

/// `sign(x) * log1p(a + a^2 / (1 + sqrt(a^2 + 1)))` with `a = |x|`.
fn asinh(build: &mut Build<'_>, x: &X) -> Result<X> {
    let size = build.unary(Unary::Abs, x)?;
    let square = build.binary(Bin::Mul, &size, &size)?;
    let root = build.with_number(Bin::Add, &square, 1.0)?;
    let root = build.unary(Unary::Sqrt, &root)?;
    let below = build.with_number(Bin::Add, &root, 1.0)?;
    let part = build.binary(Bin::Div, &square, &below)?;
    let sum = build.binary(Bin::Add, &size, &part)?;
    let near = log1p(build, &sum)?;
    let far = log_of_double(build, &size)?;
    let is_far = build.with_number(Bin::Gt, &size, FAR)?;
    let log = build.select(&is_far, &far, &near)?;
    signed(build, x, &log)
}

/// `size` with the sign of `x`.
fn signed(build: &mut Build<'_>, x: &X, size: &X) -> Result<X> {
    let is_negative = build.with_number(Bin::Lt, x, 0.0)?;
    let negative = build.unary(Unary::Neg, size)?;
    build.select(&is_negative, &negative, size)
}

fn acosh(build: &mut Build<'_>, x: &X) -> Result<X> {
    let square = build.binary(Bin::Mul, x, x)?;
    let root = build.with_number(Bin::Sub, &square, 1.0)?;
    let root = build.unary(Unary::Sqrt, &root)?;
    let sum = build.binary(Bin::Add, x, &root)?;
    let (near, far) = (build.unary(Unary::Log, &sum)?, log_of_double(build, x)?);
    let is_far = build.with_number(Bin::Gt, x, FAR)?;
    build.select(&is_far, &far, &near)
}

/// Beyond this, 1 does not count beside the square, which may be too large for a float.
const FAR: f64 = 1e8;

fn log_of_double(build: &mut Build<'_>, x: &X) -> Result<X> {
    let log = build.unary(Unary::Log, x)?;
    build.with_number(Bin::Add, &log, std::f64::consts::LN_2)
}

/// `(log1p(x) - log1p(-x)) / 2`
fn atanh(build: &mut Build<'_>, x: &X) -> Result<X> {
    let negative = build.unary(Unary::Neg, x)?;
    let (up, down) = (log1p(build, x)?, log1p(build, &negative)?);
    let difference = build.binary(Bin::Sub, &up, &down)?;
    build.with_number(Bin::Mul, &difference, 0.5)
}

/// The angle whose tangent is `x`: `x` is brought to at most `tan(pi / 8)`, then a polynomial.
fn atan(build: &mut Build<'_>, x: &X) -> Result<X> {
    let size = build.unary(Unary::Abs, x)?;
    let is_large = build.with_number(Bin::Gt, &size, 2.414_213_562_373_095)?;
    let is_middle = build.with_number(Bin::Gt, &size, 0.414_213_562_373_095)?;
    let inverse = build.binary(Bin::Div, &X::number(-1.0, DType::F32), &size)?;
    let (less, more) = (build.with_number(Bin::Sub, &size, 1.0)?, build.with_number(Bin::Add, &size, 1.0)?);
    let middle = build.binary(Bin::Div, &less, &more)?;
    let y = build.select(&is_middle, &middle, &size)?;
    let y = build.select(&is_large, &inverse, &y)?;
    let number = |value: f64| X::number(value, DType::F32);
    let turn = build.select(&is_middle, &number(FRAC_PI_4), &number(0.0))?;
    let turn = build.select(&is_large, &number(FRAC_PI_2), &turn)?;
    let square = build.binary(Bin::Mul, &y, &y)?;
    let mut series = build.with_number(Bin::Mul, &square, 1.0 / 13.0 * 0.88)?;
    for factor in [-1.0 / 11.0, 1.0 / 9.0, -1.0 / 7.0, 0.2, -1.0 / 3.0] {
        series = build.with_number(Bin::Add, &series, factor)?;
        series = build.binary(Bin::Mul, &series, &square)?;
    }
    let part = build.binary(Bin::Mul, &series, &y)?;
    let angle = build.binary(Bin::Add, &part, &y)?;
    let angle = build.binary(Bin::Add, &turn, &angle)?;
    signed(build, x, &angle)
}

/// The angle of the point `(sqrt(1 - x^2), x)`.
fn asin(build: &mut Build<'_>, x: &X) -> Result<X> {
    let less = build.binary(Bin::Sub, &X::int(1), x)?;
    let more = build.with_number(Bin::Add, x, 1.0)?;
    let square = build.binary(Bin::Mul, &less, &more)?;
    let root = build.unary(Unary::Sqrt, &square)?;
    let tangent = build.binary(Bin::Div, x, &root)?;
    atan(build, &tangent)
}

fn acos(build: &mut Build<'_>, x: &X) -> Result<X> {
    let angle = asin(build, x)?;
    build.binary(Bin::Sub, &X::number(FRAC_PI_2, DType::F32), &angle)
}

/// The angle of the point `(x, y)`; the sign of a zero does not count.
fn atan2(call: &mut Call<'_, '_>) -> Result<Out> {
    let (y, x) = (call.x("self")?, call.x("other")?);
    let build = &mut *call.build;
    let (up, side) = (build.unary(Unary::Abs, &y)?, build.unary(Unary::Abs, &x)?);
    let tangent = build.binary(Bin::Div, &up, &side)?;
    // 0 / 0 is an angle too, and so is that of two infinities.
    let same = build.binary(Bin::Eq, &up, &side)?;
    let is_some = build.with_number(Bin::Ne, &up, 0.0)?;
    let is_some = build.cast(&is_some, DType::F32)?;
    let tangent = build.select(&same, &is_some, &tangent)?;
    let angle = atan(build, &tangent)?;
    let turned = build.binary(Bin::Sub, &X::number(PI, DType::F32), &angle)?;
    let is_left = build.with_number(Bin::Lt, &x, 0.0)?;
    let angle = build.select(&is_left, &turned, &angle)?;
    signed(build, &y, &angle).map(Out::X)
}

/// The larger size, times the root of 1 and the square of what the other is of it: no square is too large for a float.
fn hypot(call: &mut Call<'_, '_>) -> Result<Out> {
    let (a, b) = (call.x("self")?, call.x("other")?);
    let build = &mut *call.build;
    let (a, b) = (build.unary(Unary::Abs, &a)?, build.unary(Unary::Abs, &b)?);
    let (large, small) = (build.binary(Bin::Maximum, &a, &b)?, build.binary(Bin::Minimum, &a, &b)?);
    let part = build.binary(Bin::Div, &small, &large)?;
    // There is no part of 0, nor of an infinity.
    let some = build.with_number(Bin::Gt, &small, 0.0)?;
    let bounded = build.with_number(Bin::Lt, &large, f64::INFINITY)?;
    let some = build.binary(Bin::And, &some, &bounded)?;
    let part = build.select(&some, &part, &X::number(0.0, DType::F32))?;
    let square = build.binary(Bin::Mul, &part, &part)?;
    let sum = build.with_number(Bin::Add, &square, 1.0)?;
    let root = build.unary(Unary::Sqrt, &sum)?;
    build.binary(Bin::Mul, &large, &root).map(Out::X)
}

fn sinc(build: &mut Build<'_>, x: &X) -> Result<X> {
    let angle = build.with_number(Bin::Mul, x, PI)?;
    let sine = build.unary(Unary::Sin, &angle)?;
    let y = build.binary(Bin::Div, &sine, &angle)?;
    let at_origin = build.with_number(Bin::Eq, x, 0.0)?;
    build.select(&at_origin, &X::number(1.0, DType::F32), &y)
}

fn frac(build: &mut Build<'_>, x: &X) -> Result<X> {
    let whole = build.unary(Unary::Trunc, x)?;
    build.binary(Bin::Sub, x, &whole)
}

/// `log(x / (1 - x))`, with `x` clamped to `eps ..= 1 - eps`.
fn logit(call: &mut Call<'_, '_>) -> Result<Out> {
    let mut x = call.x("self")?;
    if let Some(eps) = call.opt_float("eps")? {
        x = call.build.unary(Unary::Clamp { min: eps as f32, max: (1.0 - eps) as f32 }, &x)?;
    }
    let rest = call.build.binary(Bin::Sub, &X::int(1), &x)?;
    let odds = call.build.binary(Bin::Div, &x, &rest)?;
    call.build.unary(Unary::Log, &odds).map(Out::X)
}

fn round_decimals(call: &mut Call<'_, '_>) -> Result<Out> {
    let (x, decimals) = (call.x("self")?, call.int("decimals")?);
    let factor = 10f64.powi(decimals.unsigned_abs().min(30) as i32);
    let (before, after) = if decimals < 0 { (Bin::Div, Bin::Mul) } else { (Bin::Mul, Bin::Div) };
    let scaled = call.build.with_number(before, &x, factor)?;
    let rounded = call.build.unary(Unary::Round, &scaled)?;
    let y = call.build.with_number(after, &rounded, factor)?;
    Ok(Out::X(X { dtype: x.dtype, ..y }))
}

/// `max(x, 0) + min(alpha * (exp(x / alpha) - 1), 0)`
fn celu(call: &mut Call<'_, '_>) -> Result<Out> {
    let (x, alpha) = (call.x("self")?, call.float_or("alpha", 1.0)?);
    let scaled = call.build.with_number(Bin::Div, &x, alpha)?;
    let y = call.build.unary(Unary::Elu { alpha: 1.0 }, &scaled)?;
    call.build.with_number(Bin::Mul, &y, alpha).map(Out::X)
}

/// Zero within `lambd` of 0; outside of it `x`, or `x` moved to it.
fn shrink(call: &mut Call<'_, '_>, moves: bool) -> Result<Out> {
    let (x, limit) = (call.x("self")?, call.float_or("lambd", 0.5)?);
    let build = &mut *call.build;
    let inside = build.unary(Unary::Clamp { min: -limit as f32, max: limit as f32 }, &x)?;
    let outside = build.binary(Bin::Sub, &x, &inside)?;
    if moves {
        return Ok(Out::X(outside));
    }
    let is_inside = build.binary(Bin::Eq, &x, &inside)?;
    build.select(&is_inside, &X::number(0.0, DType::F32), &x).map(Out::X)
}

/// In eval mode the slope is the middle of its range.
fn rrelu(call: &mut Call<'_, '_>) -> Result<Out> {
    let x = call.x("self")?;
    if call.bool_or("training", false)? {
        return Err(crate::Error::unsupported("random slopes").help("call `model.eval()` before the model is exported"));
    }
    let slope = (call.float_or("lower", 1.0 / 8.0)? + call.float_or("upper", 1.0 / 3.0)?) / 2.0;
    call.build.unary(Unary::LeakyRelu { slope: slope as f32 }, &x).map(Out::X)
}

fn heaviside(call: &mut Call<'_, '_>) -> Result<Out> {
    let (x, values) = (call.x("self")?, call.x("values")?);
    let build = &mut *call.build;
    let positive = build.with_number(Bin::Gt, &x, 0.0)?;
    let positive = build.cast(&positive, x.dtype)?;
    let is_zero = build.with_number(Bin::Eq, &x, 0.0)?;
    build.select(&is_zero, &values, &positive).map(Out::X)
}

/// The extreme one of two, NaN only where both are.
fn without_nan(call: &mut Call<'_, '_>, bin: Bin) -> Result<Out> {
    let (a, b) = (call.x("self")?, call.x("other")?);
    let build = &mut *call.build;
    let (has_a, has_b) = (build.binary(Bin::Eq, &a, &a)?, build.binary(Bin::Eq, &b, &b)?);
    let left = build.select(&has_a, &a, &b)?;
    let right = build.select(&has_b, &b, &a)?;
    build.binary(bin, &left, &right).map(Out::X)
}

/// `x * log(y)`, zero where `x` is.
fn xlogy(call: &mut Call<'_, '_>) -> Result<Out> {
    let (x, y) = (call.x("self")?, call.x("other")?);
    let build = &mut *call.build;
    let log = build.unary(Unary::Log, &y)?;
    let product = build.binary(Bin::Mul, &x, &log)?;
    let is_zero = build.with_number(Bin::Eq, &x, 0.0)?;
    let is_number = build.binary(Bin::Eq, &y, &y)?;
    let is_zero = build.binary(Bin::And, &is_zero, &is_number)?;
    build.select(&is_zero, &X::number(0.0, DType::F32), &product).map(Out::X)
}

/// The size of `self` with the sign of `other`; a negative zero counts as zero.
fn copysign(call: &mut Call<'_, '_>) -> Result<Out> {
    let (x, other) = (call.x("self")?, call.x("other")?);
    let size = call.build.unary(Unary::Abs, &x)?;
    signed(call.build, &other, &size).map(Out::X)
}
