//! Numbers that follow from the inputs' sizes. They are known when a graph is built.

use std::cmp::Ordering;

use super::{Call, Function, Out};
use crate::error::{Error, Result};
use crate::import::program::build::Value;
use crate::import::program::schema::Arg;

pub(super) fn find(target: &str) -> Option<Function> {
    if let Some(name) = target.strip_prefix("_operator.") {
        return Some(match name {
            "add" => |call| of_two(call, i64::checked_add, |a, b| a + b),
            "sub" => |call| of_two(call, i64::checked_sub, |a, b| a - b),
            "mul" => |call| of_two(call, i64::checked_mul, |a, b| a * b),
            "floordiv" => |call| of_two(call, floor_divide, |a, b| (a / b).floor()),
            "mod" => |call| of_two(call, remainder, |a, b| a - (a / b).floor() * b),
            "pow" => power,
            "neg" => |call| of_one(call, i64::checked_neg, |a| -a),
            "pos" => |call| of_one(call, Some, |a| a),
            "and_" => |call| bits(call, |a, b| a & b),
            "or_" => |call| bits(call, |a, b| a | b),
            "eq" => |call| compare(call, Ordering::is_eq),
            "ne" => |call| compare(call, Ordering::is_ne),
            "lt" => |call| compare(call, Ordering::is_lt),
            "le" => |call| compare(call, Ordering::is_le),
            "gt" => |call| compare(call, Ordering::is_gt),
            "ge" => |call| compare(call, Ordering::is_ge),
            "truediv" => |call| of_two(call, |_, _| None, |a, b| a / b),
            _ => return None,
        });
    }
    Some(match target {
        "aten.sym_size.int" => size,
        "aten.sym_numel.default" => numel,
        "math.trunc" | "torch.sym_int" => |call| whole(call, f64::trunc),
        "math.floor" => |call| whole(call, f64::floor),
        "math.ceil" => |call| whole(call, f64::ceil),
        "builtins.round" => |call| whole(call, f64::round_ties_even),
        "torch.sym_float" => |call| of_one(call, |_| None, |a| a),
        "torch.sym_sqrt" | "torch._sym_sqrt" | "math.sqrt" => |call| of_one(call, |_| None, f64::sqrt),
        "torch.sym_max" => |call| of_two(call, |a, b| Some(a.max(b)), f64::max),
        "torch.sym_min" => |call| of_two(call, |a, b| Some(a.min(b)), f64::min),
        "torch.sym_not" => |call| of_one(call, |a| Some(i64::from(a == 0)), |_| f64::NAN).map(as_flag),
        "torch.sym_ite" => choice,
        _ => return None,
    })
}

fn floor_divide(a: i64, b: i64) -> Option<i64> {
    let quotient = a.checked_div(b)?;
    Some(if a % b != 0 && (a < 0) != (b < 0) { quotient - 1 } else { quotient })
}

/// With the sign of the divisor.
fn remainder(a: i64, b: i64) -> Option<i64> {
    let rest = a.checked_rem(b)?;
    Some(if rest != 0 && (rest < 0) != (b < 0) { rest + b } else { rest })
}

fn operand(call: &mut Call<'_, '_>, index: usize) -> Result<Value> {
    let node = call.node;
    let value = match node.args.get(index).map(|(_, arg)| arg) {
        Some(Arg::Int(value)) => Value::Int(*value),
        Some(Arg::Float(value)) => Value::Float(*value),
        Some(Arg::Bool(value)) => Value::Bool(*value),
        Some(Arg::Sym(name)) => call.build.value(name)?,
        other => return Err(Error::unsupported(format!("the operand {other:?}"))),
    };
    match value {
        Value::Int(_) | Value::Float(_) | Value::Bool(_) => Ok(value),
        other => Err(Error::unsupported(format!("the operand {other:?}"))),
    }
}

/// The number as an integer, if it is one.
fn int(value: &Value) -> Option<i64> {
    match value {
        Value::Int(value) => Some(*value),
        Value::Bool(value) => Some((*value).into()),
        _ => None,
    }
}

fn float(value: &Value) -> f64 {
    match value {
        Value::Float(value) => *value,
        other => int(other).map_or(f64::NAN, |value| value as f64),
    }
}

/// The integer that a function of integers gives, or the float that it has no integer for.
fn number(whole: Option<i64>, are_ints: bool, float: f64) -> Result<Out> {
    match whole {
        Some(value) => Ok(Out::Value(Value::Int(value))),
        // An integer beyond 64 bits is no size.
        None if !float.is_finite() || (are_ints && float.abs() >= 9e18) => {
            Err(Error::shape("the result is no number of 64 bits"))
        }
        None => Ok(Out::Value(Value::Float(float))),
    }
}

fn of_one(call: &mut Call<'_, '_>, ints: fn(i64) -> Option<i64>, floats: fn(f64) -> f64) -> Result<Out> {
    let a = operand(call, 0)?;
    number(int(&a).and_then(ints), int(&a).is_some(), floats(float(&a)))
}

fn of_two(call: &mut Call<'_, '_>, ints: fn(i64, i64) -> Option<i64>, floats: fn(f64, f64) -> f64) -> Result<Out> {
    let (a, b) = (operand(call, 0)?, operand(call, 1)?);
    let both = int(&a).zip(int(&b));
    number(both.and_then(|(a, b)| ints(a, b)), both.is_some(), floats(float(&a), float(&b)))
}

/// An integer for integers, unless the exponent is negative.
fn power(call: &mut Call<'_, '_>) -> Result<Out> {
    of_two(call, |a, b| a.checked_pow(u32::try_from(b).ok()?), f64::powf)
}

fn as_flag(out: Out) -> Out {
    match out {
        Out::Value(Value::Int(value)) => Out::Value(Value::Bool(value != 0)),
        other => other,
    }
}

/// Of integers, or of flags, which gives a flag.
fn bits(call: &mut Call<'_, '_>, function: fn(i64, i64) -> i64) -> Result<Out> {
    let (a, b) = (operand(call, 0)?, operand(call, 1)?);
    let are_flags = matches!((&a, &b), (Value::Bool(_), Value::Bool(_)));
    let both = int(&a).zip(int(&b));
    let out = number(both.map(|(a, b)| function(a, b)), true, f64::NAN)?;
    Ok(if are_flags { as_flag(out) } else { out })
}

fn compare(call: &mut Call<'_, '_>, holds: fn(Ordering) -> bool) -> Result<Out> {
    let (a, b) = (operand(call, 0)?, operand(call, 1)?);
    let order = match int(&a).zip(int(&b)) {
        Some((a, b)) => Some(a.cmp(&b)),
        None => float(&a).partial_cmp(&float(&b)),
    };
    let order = order.ok_or_else(|| Error::shape("numbers without an order"))?;
    Ok(Out::Value(Value::Bool(holds(order))))
}

fn choice(call: &mut Call<'_, '_>) -> Result<Out> {
    let chosen = if float(&operand(call, 0)?) != 0.0 { 1 } else { 2 };
    operand(call, chosen).map(Out::Value)
}

/// A whole number near the operand.
fn whole(call: &mut Call<'_, '_>, function: fn(f64) -> f64) -> Result<Out> {
    let a = operand(call, 0)?;
    if let Some(value) = int(&a) {
        return Ok(Out::Value(Value::Int(value)));
    }
    let value = function(float(&a));
    let fits = value.abs() < 9e18;
    number(fits.then_some(value as i64), true, f64::NAN)
}

fn size(call: &mut Call<'_, '_>) -> Result<Out> {
    let x = call.x("self")?;
    let shape = call.build.shape(&x);
    let dim = call.dim_of("dim", shape.len(), 0)?;
    let size = *shape.get(dim).ok_or_else(|| Error::shape("a scalar has no sizes"))?;
    Ok(Out::Value(Value::Int(size as i64)))
}

fn numel(call: &mut Call<'_, '_>) -> Result<Out> {
    let x = call.x("self")?;
    let numel: usize = call.build.shape(&x).iter().product();
    Ok(Out::Value(Value::Int(numel as i64)))
}
