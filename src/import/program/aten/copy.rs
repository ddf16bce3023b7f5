//! Copies, conversions, and what does nothing in eval mode.

use super::{Call, Function, Out};
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::import::program::value::X;

pub(super) fn find(target: &str) -> Option<Function> {
    Some(match target {
        "aten.clone.default" | "aten.lift_fresh_copy.default" | "aten.alias_copy.default" => clone,
        "aten.contiguous.default" => contiguous,
        "aten.to.dtype" | "aten.to.dtype_layout" | "aten.to.device" | "aten.to.other" | "aten._to_copy.default" => to,
        "aten.type_as.default" => type_as,
        "aten.dropout.default" | "aten.feature_dropout.default" | "aten.alpha_dropout.default" => dropout,
        "aten.native_dropout.default" => native_dropout,
        "aten.fill.Scalar" | "aten.fill.Tensor" => fill,
        "aten.zero.default" => zero,
        "aten.copy.default" => copy,
        "aten._assert_tensor_metadata.default"
        | "aten._assert_scalar.default"
        | "aten._assert_async.msg"
        | "aten.sym_constrain_range.default"
        | "aten.sym_constrain_range_for_size.default" => |_| Ok(Out::Nothing),
        _ => return None,
    })
}

fn clone(call: &mut Call<'_, '_>) -> Result<Out> {
    call.x("self").map(Out::X)
}

/// The tensor itself where it lies so.
fn contiguous(call: &mut Call<'_, '_>) -> Result<Out> {
    let x = call.x("self")?;
    let shape = call.build.shape(&x);
    if super::shape::keeps_layout(call, &shape)? { super::shape::alias(call) } else { Ok(Out::X(x)) }
}

/// Another dtype; devices are decoration, and so are layouts but for what they copy.
fn to(call: &mut Call<'_, '_>) -> Result<Out> {
    let x = call.x("self")?;
    let mut dtype = call.opt_dtype("dtype")?.unwrap_or(x.dtype);
    if let Some(other) = call.opt_x("other")? {
        dtype = other.dtype;
    }
    let copies = call.bool_or("copy", false)? || call.node.target.starts_with("aten._to_copy");
    let shape = call.build.shape(&x);
    if dtype == x.dtype && !copies && super::shape::keeps_layout(call, &shape)? {
        return super::shape::alias(call);
    }
    call.build.cast(&x, dtype).map(Out::X)
}

fn type_as(call: &mut Call<'_, '_>) -> Result<Out> {
    let (x, other) = (call.x("self")?, call.x("other")?);
    if x.dtype == other.dtype {
        return super::shape::alias(call);
    }
    call.build.cast(&x, other.dtype).map(Out::X)
}

fn in_eval_mode(call: &mut Call<'_, '_>) -> Result<()> {
    match call.bool_or("train", false)? {
        true => {
            Err(Error::unsupported("dropout in training mode").help("call `model.eval()` before the model is exported"))
        }
        false => Ok(()),
    }
}

fn dropout(call: &mut Call<'_, '_>) -> Result<Out> {
    in_eval_mode(call)?;
    let name = if call.has("input") { "input" } else { "self" };
    Ok(Out::View(call.handle(name)?, vec![]))
}

fn native_dropout(call: &mut Call<'_, '_>) -> Result<Out> {
    in_eval_mode(call)?;
    call.x("input").map(Out::X)
}

fn like_self(call: &mut Call<'_, '_>, value: &X) -> Result<Out> {
    let x = call.x("self")?;
    let value = call.build.cast(value, x.dtype)?;
    let shape = call.build.shape(&x);
    call.build.expand(&value, &shape).map(Out::X)
}

fn fill(call: &mut Call<'_, '_>) -> Result<Out> {
    let value = call.x("value")?;
    like_self(call, &value)
}

fn zero(call: &mut Call<'_, '_>) -> Result<Out> {
    like_self(call, &X::number(0.0, DType::F32))
}

fn copy(call: &mut Call<'_, '_>) -> Result<Out> {
    let src = call.x("src")?;
    like_self(call, &src)
}
