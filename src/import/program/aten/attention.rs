//! Attention.

use super::{Call, Function, Out};
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::graph::op::Unary;
use crate::import::program::alias::ViewOp;
use crate::import::program::prims::Bin;
use crate::import::program::value::{Data, X};

pub(super) fn find(target: &str) -> Option<Function> {
    Some(match target {
        "aten.scaled_dot_product_attention.default"
        | "aten._scaled_dot_product_flash_attention_for_cpu.default"
        | "aten._scaled_dot_product_flash_attention.default" => attention,
        _ => return None,
    })
}

fn attention(call: &mut Call<'_, '_>) -> Result<Out> {
    let (q, mut k, mut v) = (call.x("query")?, call.x("key")?, call.x("value")?);
    let mask = call.opt_x("attn_mask")?;
    let mut causal = call.bool_or("is_causal", false)?;
    let scale = call.opt_float("scale")?.map(|scale| scale as f32);
    if call.float_or("dropout_p", 0.0)? != 0.0 {
        return Err(Error::unsupported("attention with dropout").help("call `model.eval()` before the export"));
    }
    if call.bool_or("enable_gqa", false)? {
        if [&q, &k, &v].iter().any(|x| call.build.rank(x) < 3) {
            return Err(Error::shape("grouped heads without a dimension of heads"));
        }
        let heads = call.build.shape(&q)[call.build.rank(&q) - 3];
        k = repeat_heads(call, &k, heads)?;
        v = repeat_heads(call, &v, heads)?;
    }
    let shapes = [&q, &k, &v].map(|x| call.build.shape(x));
    let rank = shapes[0].len();
    if rank < 2 || shapes.iter().any(|shape| shape.len() != rank) {
        return Err(Error::unsupported(format!("query, key and value of {shapes:?}")));
    }
    // Leading dimensions broadcast.
    let lead: Vec<usize> = (0..rank - 2).map(|d| shapes.iter().map(|shape| shape[d]).max().unwrap_or(1)).collect();
    let mut operands = Vec::new();
    for (x, shape) in [&q, &k, &v].into_iter().zip(&shapes) {
        let full = [&lead, &shape[rank - 2..]].concat();
        let x = if full == *shape { x.clone() } else { call.build.expand(x, &full)? };
        operands.push(call.build.var(&x)?);
    }
    let mut mask = mask.map(|mask| added(call, &mask)).transpose()?;
    // A mask that lets everything through, or the lower triangle, needs no tensor.
    if let Some(Data::Host(host)) = mask.as_ref().map(|mask| &mask.data) {
        let is_square = shapes[0][rank - 2] == shapes[1][rank - 2];
        if host.to_floats().iter().all(|&x| x == 0.0) {
            mask = None;
        } else if is_square && !causal && is_lower_triangle(&host.shape, &host.to_floats()) {
            (mask, causal) = (None, true);
        }
    }
    let mask = mask.map(|mask| call.build.var(&mask)).transpose()?;
    let y =
        call.build.graph.scaled_dot_product_attention(operands[0], operands[1], operands[2], mask, causal, scale)?;
    Ok(Out::X(X::var(y, q.dtype)))
}

/// Whether a mask to add is 0 on and below the diagonal and minus infinity above it.
fn is_lower_triangle(shape: &[usize], mask: &[f64]) -> bool {
    let &[.., rows, columns] = shape else { return false };
    rows == columns
        && rows > 1
        && mask.iter().enumerate().all(|(i, &x)| {
            let (row, column) = (i / columns % rows, i % columns);
            if column > row { x == f64::NEG_INFINITY } else { x == 0.0 }
        })
}

/// A mask to add to the scores: minus infinity where a boolean one is false.
fn added(call: &mut Call<'_, '_>, mask: &X) -> Result<X> {
    match mask.dtype {
        DType::Bool if mask.is_host() => {
            let (open, shut) = (X::number(0.0, DType::F32), X::number(f64::NEG_INFINITY, DType::F32));
            call.build.select(mask, &open, &shut)
        }
        DType::Bool => {
            let open = call.build.cast(mask, DType::F32)?;
            call.build.unary(Unary::Log, &open)
        }
        dtype if dtype.is_float() => Ok(mask.clone()),
        _ => call.build.binary(Bin::Mul, mask, &X::number(1.0, DType::F32)),
    }
}

/// Each head of `[..., heads, l, e]` so often that there are `heads`.
fn repeat_heads(call: &mut Call<'_, '_>, x: &X, heads: usize) -> Result<X> {
    let shape = call.build.shape(x);
    let rank = shape.len();
    let own = shape[rank - 3];
    if own == heads {
        return Ok(x.clone());
    }
    if own == 0 || !heads.is_multiple_of(own) {
        return Err(Error::shape(format!("{own} heads of keys do not divide {heads}")));
    }
    let mut split = shape.clone();
    split.insert(rank - 2, 1);
    let mut wide = split.clone();
    wide[rank - 2] = heads / own;
    let mut merged = shape;
    merged[rank - 3] = heads;
    let x = call.build.reshape(x, &split)?;
    let x = call.build.view(&x, &ViewOp::Expand(wide))?;
    call.build.reshape(&x, &merged)
}
