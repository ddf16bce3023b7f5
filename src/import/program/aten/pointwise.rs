//! Functions of each element.

use super::{Call, Function, Out};
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::graph::Approximate;
use crate::graph::op::Unary;
use crate::import::program::prims::Bin;
use crate::import::program::value::{Data, X};

pub(super) fn find(target: &str) -> Option<Function> {
    let (name, overload) = target.strip_prefix("aten.")?.rsplit_once('.')?;
    match overload {
        "default" => find_default(name),
        "other" if name == "max" => Some(|call| binary(call, Bin::Maximum)),
        "other" if name == "min" => Some(|call| binary(call, Bin::Minimum)),
        "Tensor" | "Scalar" | "self" | "Tensor_Scalar" | "Tensor_Tensor" | "Tensor_mode" | "Scalar_mode"
        | "ScalarSelf" | "ScalarOther" | "Scalar_Tensor" => find_binary(name),
        _ => None,
    }
}

fn find_default(name: &str) -> Option<Function> {
    macro_rules! unary {
        ($variant:ident) => {
            |call| unary(call, Unary::$variant)
        };
    }
    Some(match name {
        "relu" => |call| same(call, Unary::Relu),
        "sigmoid" => unary!(Sigmoid),
        "tanh" => unary!(Tanh),
        "silu" => unary!(Silu),
        "hardswish" => unary!(Hardswish),
        "hardsigmoid" => unary!(Hardsigmoid),
        "exp" => unary!(Exp),
        "log" => unary!(Log),
        "sqrt" => unary!(Sqrt),
        "rsqrt" => unary!(Rsqrt),
        "erf" => unary!(Erf),
        "sin" => unary!(Sin),
        "cos" => unary!(Cos),
        "neg" => |call| same(call, Unary::Neg),
        "abs" => |call| same(call, Unary::Abs),
        "floor" => |call| same(call, Unary::Floor),
        "ceil" => |call| same(call, Unary::Ceil),
        "round" => |call| same(call, Unary::Round),
        "trunc" | "fix" => |call| same(call, Unary::Trunc),
        "relu6" => relu6,
        "gelu" => gelu,
        "hardtanh" => hardtanh,
        "leaky_relu" => leaky_relu,
        "elu" => elu,
        "selu" => selu,
        "softplus" => softplus,
        "mish" => mish,
        "log_sigmoid" => log_sigmoid,
        "log2" => |call| scaled(call, Unary::Log, std::f64::consts::LOG2_E),
        "log10" => |call| scaled(call, Unary::Log, std::f64::consts::LOG10_E),
        "exp2" => exp2,
        "tan" => tan,
        "square" => square,
        "reciprocal" => reciprocal,
        "sign" | "sgn" => sign,
        "positive" => |call| operand(call).map(Out::X),
        "erfc" => erfc,
        "prelu" | "_prelu_kernel" => prelu,
        "glu" => glu,
        "clamp" | "clip" => |call| clamp(call, "min", "max"),
        "clamp_min" => |call| clamp(call, "min", ""),
        "clamp_max" => |call| clamp(call, "", "max"),
        "threshold" => threshold,
        "logical_not" => logical_not,
        "logaddexp" => logaddexp,
        "isnan" => isnan,
        "isinf" => isinf,
        "isfinite" => isfinite,
        "nan_to_num" => nan_to_num,
        "maximum" => |call| binary(call, Bin::Maximum),
        "minimum" => |call| binary(call, Bin::Minimum),
        "logical_and" => |call| binary(call, Bin::And),
        "logical_or" => |call| binary(call, Bin::Or),
        "logical_xor" => |call| binary(call, Bin::Xor),
        "floor_divide" => |call| binary(call, Bin::FloorDivide),
        "addcmul" => |call| add_combined(call, Bin::Mul),
        "addcdiv" => |call| add_combined(call, Bin::Div),
        _ => return None,
    })
}

fn find_binary(name: &str) -> Option<Function> {
    Some(match name {
        "add" => |call| sum(call, Bin::Add),
        "sub" => |call| sum(call, Bin::Sub),
        "rsub" => rsub,
        "mul" => |call| binary(call, Bin::Mul),
        "div" => div,
        "true_divide" => |call| binary(call, Bin::Div),
        "floor_divide" => |call| binary(call, Bin::FloorDivide),
        "remainder" => |call| binary(call, Bin::Remainder),
        "fmod" => |call| binary(call, Bin::Fmod),
        "pow" => pow,
        "eq" => |call| binary(call, Bin::Eq),
        "ne" => |call| binary(call, Bin::Ne),
        "lt" => |call| binary(call, Bin::Lt),
        "le" => |call| binary(call, Bin::Le),
        "gt" => |call| binary(call, Bin::Gt),
        "ge" => |call| binary(call, Bin::Ge),
        "where" => select,
        "masked_fill" => masked_fill,
        "clamp" => |call| clamp(call, "min", "max"),
        "clamp_min" => |call| clamp(call, "min", ""),
        "clamp_max" => |call| clamp(call, "", "max"),
        "lerp" => lerp,
        _ => return None,
    })
}

fn operand(call: &mut Call<'_, '_>) -> Result<X> {
    match call.opt_x("self")? {
        Some(x) => Ok(x),
        None => call.x("input"),
    }
}

fn unary(call: &mut Call<'_, '_>, unary: Unary) -> Result<Out> {
    let x = operand(call)?;
    call.build.unary(unary, &x).map(Out::X)
}

fn same(call: &mut Call<'_, '_>, unary: Unary) -> Result<Out> {
    let x = operand(call)?;
    call.build.unary_same(unary, &x).map(Out::X)
}

fn binary(call: &mut Call<'_, '_>, bin: Bin) -> Result<Out> {
    let (a, b) = (call.x("self")?, call.x("other")?);
    call.build.binary(bin, &a, &b).map(Out::X)
}

/// `self + alpha * other`, or the difference.
fn sum(call: &mut Call<'_, '_>, bin: Bin) -> Result<Out> {
    let (a, b) = (call.x("self")?, call.x("other")?);
    let b = scale(call, &b)?;
    call.build.binary(bin, &a, &b).map(Out::X)
}

fn scale(call: &mut Call<'_, '_>, x: &X) -> Result<X> {
    match call.float_or("alpha", 1.0)? {
        1.0 => Ok(x.clone()),
        alpha => {
            let y = call.build.with_number(Bin::Mul, x, alpha)?;
            Ok(X { is_number: x.is_number, ..y })
        }
    }
}

fn rsub(call: &mut Call<'_, '_>) -> Result<Out> {
    let (a, b) = (call.x("self")?, call.x("other")?);
    let a = scale(call, &a)?;
    call.build.binary(Bin::Sub, &b, &a).map(Out::X)
}

fn div(call: &mut Call<'_, '_>) -> Result<Out> {
    let bin = match call.str_or("rounding_mode", "")? {
        "" => Bin::Div,
        "floor" => Bin::FloorDivide,
        "trunc" => Bin::TruncDivide,
        other => return Err(Error::unsupported(format!("the rounding mode `{other}`"))),
    };
    binary(call, bin)
}

fn pow(call: &mut Call<'_, '_>) -> Result<Out> {
    let (a, b) = (call.x("self")?, call.x("exponent")?);
    let dtype = call.build.result_type(&[&a, &b]);
    let count = match &b.data {
        Data::Host(host) if host.shape.is_empty() && !dtype.is_float() && !a.is_host() => host.at(0),
        _ => 0.0,
    };
    if !(1.0..=64.0).contains(&count) {
        return call.build.binary(Bin::Pow, &a, &b).map(Out::X);
    }
    // Of integers: a device's power would be off by a little.
    let a = call.build.cast(&a, dtype)?;
    let mut y = a.clone();
    for _ in 1..count as usize {
        y = call.build.binary(Bin::Mul, &y, &a)?;
    }
    Ok(Out::X(y))
}

fn relu6(call: &mut Call<'_, '_>) -> Result<Out> {
    unary(call, Unary::Clamp { min: 0.0, max: 6.0 })
}

fn gelu(call: &mut Call<'_, '_>) -> Result<Out> {
    let x = operand(call)?;
    let approximate = match call.str_or("approximate", "none")? {
        "none" => Approximate::None,
        "tanh" => Approximate::Tanh,
        other => return Err(Error::unsupported(format!("the approximation `{other}`"))),
    };
    let dtype = x.dtype;
    let var = call.build.var(&x)?;
    Ok(Out::X(X::var(call.build.graph.gelu(var, approximate)?, dtype)))
}

fn hardtanh(call: &mut Call<'_, '_>) -> Result<Out> {
    let (min, max) = (call.float_or("min_val", -1.0)? as f32, call.float_or("max_val", 1.0)? as f32);
    unary(call, Unary::Clamp { min, max })
}

fn leaky_relu(call: &mut Call<'_, '_>) -> Result<Out> {
    let slope = call.float_or("negative_slope", 0.01)? as f32;
    unary(call, Unary::LeakyRelu { slope })
}

fn elu(call: &mut Call<'_, '_>) -> Result<Out> {
    let alpha = call.float_or("alpha", 1.0)?;
    let (scale, input_scale) = (call.float_or("scale", 1.0)?, call.float_or("input_scale", 1.0)?);
    let x = operand(call)?;
    if input_scale != 1.0 {
        return Err(Error::unsupported("an `elu` with an input scale"));
    }
    let y = call.build.unary(Unary::Elu { alpha: alpha as f32 }, &x)?;
    match scale {
        1.0 => Ok(Out::X(y)),
        scale => call.build.with_number(Bin::Mul, &y, scale).map(Out::X),
    }
}

fn selu(call: &mut Call<'_, '_>) -> Result<Out> {
    const ALPHA: f32 = 1.673_263_2;
    const SCALE: f64 = 1.0507009873554805;
    let x = operand(call)?;
    let y = call.build.unary(Unary::Elu { alpha: ALPHA }, &x)?;
    call.build.with_number(Bin::Mul, &y, SCALE).map(Out::X)
}

/// `log(1 + exp(x))`, as `max(x, 0) + log(1 + exp(-|x|))`.
fn soft(call: &mut Call<'_, '_>, x: &X) -> Result<X> {
    let build = &mut *call.build;
    let size = build.unary(Unary::Abs, x)?;
    let negative = build.unary(Unary::Neg, &size)?;
    let exp = build.unary(Unary::Exp, &negative)?;
    let sum = build.with_number(Bin::Add, &exp, 1.0)?;
    let log = build.unary(Unary::Log, &sum)?;
    let positive = build.unary(Unary::Relu, x)?;
    build.binary(Bin::Add, &positive, &log)
}

fn softplus(call: &mut Call<'_, '_>) -> Result<Out> {
    let x = operand(call)?;
    // Beyond the threshold the function is the identity to all digits that count, unless it is set lower.
    let (beta, threshold) = (call.float_or("beta", 1.0)?, call.float_or("threshold", 20.0)?);
    let scaled = if beta == 1.0 { x.clone() } else { call.build.with_number(Bin::Mul, &x, beta)? };
    let y = soft(call, &scaled)?;
    let y = if beta == 1.0 { y } else { call.build.with_number(Bin::Div, &y, beta)? };
    if threshold >= 15.0 {
        return Ok(Out::X(y));
    }
    let beyond = call.build.with_number(Bin::Gt, &scaled, threshold)?;
    call.build.select(&beyond, &x, &y).map(Out::X)
}

fn mish(call: &mut Call<'_, '_>) -> Result<Out> {
    let x = operand(call)?;
    let y = soft(call, &x)?;
    let y = call.build.unary(Unary::Tanh, &y)?;
    call.build.binary(Bin::Mul, &x, &y).map(Out::X)
}

fn log_sigmoid(call: &mut Call<'_, '_>) -> Result<Out> {
    let x = operand(call)?;
    let negative = call.build.unary(Unary::Neg, &x)?;
    let y = soft(call, &negative)?;
    call.build.unary(Unary::Neg, &y).map(Out::X)
}

fn scaled(call: &mut Call<'_, '_>, unary: Unary, factor: f64) -> Result<Out> {
    let x = operand(call)?;
    let y = call.build.unary(unary, &x)?;
    call.build.with_number(Bin::Mul, &y, factor).map(Out::X)
}

fn exp2(call: &mut Call<'_, '_>) -> Result<Out> {
    let x = operand(call)?;
    let y = call.build.with_number(Bin::Mul, &x, std::f64::consts::LN_2)?;
    call.build.unary(Unary::Exp, &y).map(Out::X)
}

fn tan(call: &mut Call<'_, '_>) -> Result<Out> {
    let x = operand(call)?;
    let (sin, cos) = (call.build.unary(Unary::Sin, &x)?, call.build.unary(Unary::Cos, &x)?);
    call.build.binary(Bin::Div, &sin, &cos).map(Out::X)
}

fn square(call: &mut Call<'_, '_>) -> Result<Out> {
    let x = operand(call)?;
    call.build.binary(Bin::Mul, &x, &x).map(Out::X)
}

fn reciprocal(call: &mut Call<'_, '_>) -> Result<Out> {
    let x = operand(call)?;
    call.build.binary(Bin::Div, &X::int(1), &x).map(Out::X)
}

fn sign(call: &mut Call<'_, '_>) -> Result<Out> {
    let x = operand(call)?;
    let build = &mut *call.build;
    let positive = build.with_number(Bin::Gt, &x, 0.0)?;
    let negative = build.with_number(Bin::Lt, &x, 0.0)?;
    let (positive, negative) = (build.cast(&positive, x.dtype)?, build.cast(&negative, x.dtype)?);
    build.binary(Bin::Sub, &positive, &negative).map(Out::X)
}

fn erfc(call: &mut Call<'_, '_>) -> Result<Out> {
    let x = operand(call)?;
    let y = call.build.unary(Unary::Erf, &x)?;
    call.build.binary(Bin::Sub, &X::int(1), &y).map(Out::X)
}

fn prelu(call: &mut Call<'_, '_>) -> Result<Out> {
    let (x, weight) = (call.x("self")?, call.x("weight")?);
    let build = &mut *call.build;
    let (shape, slopes) = (build.shape(&x), build.shape(&weight));
    let weight = match slopes[..] {
        [slopes] if shape.len() > 1 => {
            let mut each = vec![1; shape.len() - 1];
            each[0] = slopes;
            build.reshape(&weight, &each)?
        }
        _ => weight,
    };
    let product = build.binary(Bin::Mul, &x, &weight)?;
    let is_positive = build.with_number(Bin::Gt, &x, 0.0)?;
    build.select(&is_positive, &x, &product).map(Out::X)
}

fn glu(call: &mut Call<'_, '_>) -> Result<Out> {
    let x = operand(call)?;
    let shape = call.build.shape(&x);
    let dim = call.dim_of("dim", shape.len(), -1)?;
    let len = shape[dim] / 2;
    let half = |start: usize| crate::import::program::alias::ViewOp::Slice { dim, start, step: 1, len };
    let a = call.build.view(&x, &half(0))?;
    let b = call.build.view(&x, &half(len))?;
    let gate = call.build.unary(Unary::Sigmoid, &b)?;
    call.build.binary(Bin::Mul, &a, &gate).map(Out::X)
}

fn clamp(call: &mut Call<'_, '_>, min: &str, max: &str) -> Result<Out> {
    let x = operand(call)?;
    let low = if min.is_empty() { None } else { call.opt_x(min)? };
    let high = if max.is_empty() { None } else { call.opt_x(max)? };
    let are_numbers = [&low, &high].into_iter().flatten().all(|bound| bound.is_number);
    if x.dtype.is_float() && are_numbers {
        let number = |bound: &Option<X>, default: f32| match bound {
            Some(bound) => call.build.known(bound).map(|host| host.map_or(default, |host| host.at(0) as f32)),
            None => Ok(default),
        };
        let (min, max) = (number(&low, f32::NEG_INFINITY)?, number(&high, f32::INFINITY)?);
        // PyTorch gives `max` everywhere when it is the smaller one.
        return call.build.unary(Unary::Clamp { min: min.min(max), max }, &x).map(Out::X);
    }
    let mut y = x;
    for (bin, bound) in [(Bin::Maximum, low), (Bin::Minimum, high)] {
        if let Some(bound) = bound {
            y = call.build.binary(bin, &y, &bound)?;
        }
    }
    Ok(Out::X(y))
}

fn threshold(call: &mut Call<'_, '_>) -> Result<Out> {
    let x = operand(call)?;
    let (threshold, value) = (call.float("threshold")?, call.x("value")?);
    let within = call.build.with_number(Bin::Le, &x, threshold)?;
    call.build.select(&within, &value, &x).map(Out::X)
}

fn logical_not(call: &mut Call<'_, '_>) -> Result<Out> {
    let x = operand(call)?;
    call.build.with_number(Bin::Eq, &x, 0.0).map(Out::X)
}

/// `log(exp(a) + exp(b))`, as the larger one and the logarithm of what the other adds to it.
fn logaddexp(call: &mut Call<'_, '_>) -> Result<Out> {
    let (a, b) = (call.x("self")?, call.x("other")?);
    log_sum(call, &a, &b).map(Out::X)
}

pub(super) fn log_sum(call: &mut Call<'_, '_>, a: &X, b: &X) -> Result<X> {
    let larger = call.build.binary(Bin::Maximum, a, b)?;
    let difference = call.build.binary(Bin::Sub, a, b)?;
    // Equal infinities have no difference.
    let equal = call.build.binary(Bin::Eq, a, b)?;
    let difference = call.build.select(&equal, &X::number(0.0, DType::F32), &difference)?;
    let distance = call.build.unary(Unary::Abs, &difference)?;
    let negative = call.build.unary(Unary::Neg, &distance)?;
    let exp = call.build.unary(Unary::Exp, &negative)?;
    let sum = call.build.with_number(Bin::Add, &exp, 1.0)?;
    let log = call.build.unary(Unary::Log, &sum)?;
    call.build.binary(Bin::Add, &larger, &log)
}

fn isnan(call: &mut Call<'_, '_>) -> Result<Out> {
    let x = operand(call)?;
    call.build.binary(Bin::Ne, &x, &x).map(Out::X)
}

fn isinf(call: &mut Call<'_, '_>) -> Result<Out> {
    let x = operand(call)?;
    let size = call.build.unary(Unary::Abs, &x)?;
    call.build.binary(Bin::Eq, &size, &X::number(f64::INFINITY, DType::F32)).map(Out::X)
}

fn isfinite(call: &mut Call<'_, '_>) -> Result<Out> {
    let x = operand(call)?;
    let size = call.build.unary(Unary::Abs, &x)?;
    call.build.binary(Bin::Lt, &size, &X::number(f64::INFINITY, DType::F32)).map(Out::X)
}

fn nan_to_num(call: &mut Call<'_, '_>) -> Result<Out> {
    let x = operand(call)?;
    if !x.dtype.is_float() {
        return Ok(Out::X(x));
    }
    let value = X::number(call.float_or("nan", 0.0)?, DType::F32);
    let given = [call.opt_float("posinf")?, call.opt_float("neginf")?];
    let limit = match x.dtype {
        DType::F16 => 65504.0,
        DType::BF16 => f64::from(half::bf16::MAX),
        _ => f64::from(f32::MAX),
    };
    let build = &mut *call.build;
    let good = build.binary(Bin::Eq, &x, &x)?;
    let y = build.select(&good, &x, &value)?;
    if given == [None, None] {
        return build.unary(Unary::Clamp { min: -limit as f32, max: limit as f32 }, &y).map(Out::X);
    }
    let mut y = y;
    for (infinity, to) in [(f64::INFINITY, given[0].unwrap_or(limit)), (f64::NEG_INFINITY, given[1].unwrap_or(-limit))]
    {
        let is_it = build.binary(Bin::Eq, &x, &X::number(infinity, DType::F32))?;
        y = build.select(&is_it, &X::number(to, DType::F32), &y)?;
    }
    Ok(Out::X(y))
}

fn add_combined(call: &mut Call<'_, '_>, bin: Bin) -> Result<Out> {
    let (x, a, b) = (call.x("self")?, call.x("tensor1")?, call.x("tensor2")?);
    let value = call.float_or("value", 1.0)?;
    let y = call.build.binary(bin, &a, &b)?;
    let y = if value == 1.0 { y } else { call.build.with_number(Bin::Mul, &y, value)? };
    call.build.binary(Bin::Add, &x, &y).map(Out::X)
}

fn select(call: &mut Call<'_, '_>) -> Result<Out> {
    let (condition, a, b) = (call.x("condition")?, call.x("self")?, call.x("other")?);
    call.build.select(&condition, &a, &b).map(Out::X)
}

fn masked_fill(call: &mut Call<'_, '_>) -> Result<Out> {
    let (x, mask, value) = (call.x("self")?, call.x("mask")?, call.x("value")?);
    let value = call.build.cast(&value, x.dtype)?;
    call.build.select(&mask, &value, &x).map(Out::X)
}

fn lerp(call: &mut Call<'_, '_>) -> Result<Out> {
    let (a, b, weight) = (call.x("self")?, call.x("end")?, call.x("weight")?);
    let difference = call.build.binary(Bin::Sub, &b, &a)?;
    let part = call.build.binary(Bin::Mul, &difference, &weight)?;
    call.build.binary(Bin::Add, &a, &part).map(Out::X)
}
