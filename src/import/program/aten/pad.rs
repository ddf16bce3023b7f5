//! Padding.

use super::shape::part;
use super::{Call, Function, Out};
use crate::error::{Error, Result};
use crate::graph::PadMode;
use crate::import::program::value::X;

pub(super) fn find(target: &str) -> Option<Function> {
    Some(match target.strip_prefix("aten.")? {
        "pad.default" => pad_any,
        "constant_pad_nd.default" => constant_pad,
        "reflection_pad1d.default" | "reflection_pad2d.default" | "reflection_pad3d.default" => {
            |call| pad_mode(call, PadMode::Reflect)
        }
        "replication_pad1d.default" | "replication_pad2d.default" | "replication_pad3d.default" => {
            |call| pad_mode(call, PadMode::Replicate)
        }
        _ => return None,
    })
}

pub(super) fn pad(call: &mut Call<'_, '_>, x: &X, pads: &[(usize, usize)], mode: PadMode) -> Result<X> {
    let build = &mut *call.build;
    let var = build.var(x)?;
    Ok(X::var(build.graph.pad(var, pads, mode)?, x.dtype))
}

/// Pads as PyTorch writes them: pairs from the last dimension on; negative ones cut.
fn padded(call: &mut Call<'_, '_>, mode: PadMode, value: f64) -> Result<Out> {
    let mut x = call.x("self")?;
    let given = call.ints(if call.has("pad") { "pad" } else { "padding" })?;
    let rank = call.build.rank(&x);
    if given.len() % 2 != 0 || given.len() / 2 > rank {
        return Err(Error::shape(format!("{given:?} does not pad {rank} dimensions")));
    }
    let mut pads = vec![(0, 0); rank];
    for (i, pair) in given.chunks(2).enumerate() {
        let dim = rank - 1 - i;
        let cut = |size: i64| (-size).max(0) as usize;
        let size = call.build.shape(&x)[dim];
        let len = size
            .checked_sub(cut(pair[0]) + cut(pair[1]))
            .ok_or_else(|| Error::shape(format!("{given:?} cuts more than there is")))?;
        if len < size {
            x = call.build.view(&x, &part(dim, cut(pair[0]), len))?;
        }
        pads[dim] = (pair[0].max(0) as usize, pair[1].max(0) as usize);
    }
    if x.is_host() && matches!(mode, PadMode::Constant(_)) {
        return host_pad(call, &x, &pads, value).map(Out::X);
    }
    pad(call, &x, &pads, mode).map(Out::X)
}

fn host_pad(call: &mut Call<'_, '_>, x: &X, pads: &[(usize, usize)], value: f64) -> Result<X> {
    let mut x = x.clone();
    for (dim, &(before, after)) in pads.iter().enumerate() {
        let mut parts = vec![x.clone()];
        let mut shape = call.build.shape(&x);
        for (len, at) in [(before, 0), (after, 1)] {
            if len > 0 {
                shape[dim] = len;
                let filled = call.build.full(&shape, x.dtype, value)?;
                parts.insert(if at == 0 { 0 } else { parts.len() }, filled);
            }
        }
        x = call.build.cat(&parts, dim)?;
    }
    Ok(x)
}

fn constant_pad(call: &mut Call<'_, '_>) -> Result<Out> {
    let value = call.float_or("value", 0.0)?;
    padded(call, PadMode::Constant(value as f32), value)
}

fn pad_any(call: &mut Call<'_, '_>) -> Result<Out> {
    match call.str_or("mode", "constant")? {
        "constant" => constant_pad(call),
        "reflect" => padded(call, PadMode::Reflect, 0.0),
        "replicate" => padded(call, PadMode::Replicate, 0.0),
        "circular" => padded(call, PadMode::Circular, 0.0),
        other => Err(Error::unsupported(format!("the padding mode `{other}`"))),
    }
}

fn pad_mode(call: &mut Call<'_, '_>, mode: PadMode) -> Result<Out> {
    padded(call, mode, 0.0)
}
