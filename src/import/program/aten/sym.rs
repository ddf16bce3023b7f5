//! Integers that follow from the inputs' sizes. They are known when a graph is built.

use super::{Call, Function, Out};
use crate::error::{Error, Result};
use crate::import::program::build::Value;
use crate::import::program::schema::Arg;

pub(super) fn find(target: &str) -> Option<Function> {
    if let Some(name) = target.strip_prefix("_operator.") {
        return Some(match name {
            "add" => |call| ints(call, i64::checked_add),
            "sub" => |call| ints(call, i64::checked_sub),
            "mul" => |call| ints(call, i64::checked_mul),
            "floordiv" => |call| ints(call, |a, b| (b > 0).then(|| a.div_euclid(b))),
            "mod" => |call| ints(call, |a, b| (b > 0).then(|| a.rem_euclid(b))),
            "pow" => |call| ints(call, |a, b| a.checked_pow(u32::try_from(b).ok()?)),
            "neg" => |call| int(call, i64::checked_neg),
            "pos" => |call| int(call, Some),
            "eq" => |call| flags(call, |a, b| a == b),
            "ne" => |call| flags(call, |a, b| a != b),
            "lt" => |call| flags(call, |a, b| a < b),
            "le" => |call| flags(call, |a, b| a <= b),
            "gt" => |call| flags(call, |a, b| a > b),
            "ge" => |call| flags(call, |a, b| a >= b),
            "truediv" => truediv,
            _ => return None,
        });
    }
    Some(match target {
        "aten.sym_size.int" => size,
        "aten.sym_numel.default" => numel,
        "math.trunc" | "torch.sym_int" => trunc,
        "torch.sym_float" => float,
        "torch.sym_max" => |call| ints(call, |a, b| Some(a.max(b))),
        "torch.sym_min" => |call| ints(call, |a, b| Some(a.min(b))),
        _ => return None,
    })
}

fn operand(call: &mut Call<'_, '_>, index: usize) -> Result<Value> {
    let node = call.node;
    match node.args.get(index).map(|(_, arg)| arg) {
        Some(Arg::Int(value)) => Ok(Value::Int(*value)),
        Some(Arg::Float(value)) => Ok(Value::Float(*value)),
        Some(Arg::Bool(value)) => Ok(Value::Int((*value).into())),
        Some(Arg::Sym(name)) => call.build.value(name),
        other => Err(Error::unsupported(format!("the operand {other:?}"))),
    }
}

fn int_operand(call: &mut Call<'_, '_>, index: usize) -> Result<i64> {
    match operand(call, index)? {
        Value::Int(value) => Ok(value),
        Value::Bool(value) => Ok(value.into()),
        other => Err(Error::unsupported(format!("the operand {other:?}"))),
    }
}

fn overflow() -> Error {
    Error::shape("the result is no integer of 64 bits")
}

fn int(call: &mut Call<'_, '_>, function: fn(i64) -> Option<i64>) -> Result<Out> {
    let a = int_operand(call, 0)?;
    Ok(Out::Value(Value::Int(function(a).ok_or_else(overflow)?)))
}

fn ints(call: &mut Call<'_, '_>, function: fn(i64, i64) -> Option<i64>) -> Result<Out> {
    let (a, b) = (int_operand(call, 0)?, int_operand(call, 1)?);
    Ok(Out::Value(Value::Int(function(a, b).ok_or_else(overflow)?)))
}

fn flags(call: &mut Call<'_, '_>, function: fn(i64, i64) -> bool) -> Result<Out> {
    let (a, b) = (int_operand(call, 0)?, int_operand(call, 1)?);
    Ok(Out::Value(Value::Bool(function(a, b))))
}

fn number(call: &mut Call<'_, '_>, index: usize) -> Result<f64> {
    match operand(call, index)? {
        Value::Int(value) => Ok(value as f64),
        Value::Float(value) => Ok(value),
        other => Err(Error::unsupported(format!("the operand {other:?}"))),
    }
}

fn truediv(call: &mut Call<'_, '_>) -> Result<Out> {
    Ok(Out::Value(Value::Float(number(call, 0)? / number(call, 1)?)))
}

fn trunc(call: &mut Call<'_, '_>) -> Result<Out> {
    Ok(Out::Value(Value::Int(number(call, 0)?.trunc() as i64)))
}

fn float(call: &mut Call<'_, '_>) -> Result<Out> {
    Ok(Out::Value(Value::Float(number(call, 0)?)))
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
