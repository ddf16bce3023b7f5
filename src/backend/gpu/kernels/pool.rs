//! Pooling and adaptive pooling.

use super::{Call, Context, one, quads};
use crate::backend::gpu::dispatch::Selection;
use crate::error::Result;
use crate::graph::op::PoolKind;
use crate::graph::step::{AdaptivePoolStep, PoolStep};

const POOL: &str = include_str!("../../../../shaders/pool.wgsl");
const ADAPTIVE: &str = include_str!("../../../../shaders/adaptive_pool.wgsl");

/// How many channels a thread takes.
fn lanes(cx: &Context<'_>, channels: usize) -> usize {
    if quads(&[channels, cx.input(0).offset, cx.output().offset]) { 4 } else { 1 }
}

pub(super) fn select(cx: &Context<'_>, pool: &PoolStep) -> Result<Selection> {
    let lanes = lanes(cx, pool.channels);
    let count = pool.batch * pool.output[0] * pool.output[1] * (pool.channels / lanes);
    one(count, || {
        let (max, count_pad, divisor) = match pool.kind {
            PoolKind::Max => (1u32, false, None),
            PoolKind::Avg { count_include_pad, divisor } => (0, count_include_pad, divisor),
        };
        let (row, grid) = cx.fold(count, 64)?;
        let call = Call::new("pool", POOL)
            .lanes(cx, lanes)
            .bits(lanes)
            .set("MAX", max)
            .set("COUNT_PAD", u32::from(count_pad))
            .read(cx.input(0))
            .write(cx.output())
            .params(&[count, pool.channels / lanes])?
            .params(&[pool.input, pool.output, pool.kernel, pool.stride, pool.dilation, pool.padding].concat())?
            .params(&[divisor.unwrap_or(0), cx.input(0).offset / lanes, cx.output().offset / lanes, row])?;
        Ok(call.dispatch(grid))
    })
}

pub(super) fn select_adaptive(cx: &Context<'_>, pool: &AdaptivePoolStep) -> Result<Selection> {
    let lanes = lanes(cx, pool.channels);
    let count = pool.batch * pool.output[0] * pool.output[1] * (pool.channels / lanes);
    one(count, || {
        let (row, grid) = cx.fold(count, 64)?;
        let call = Call::new("adaptive_pool", ADAPTIVE)
            .lanes(cx, lanes)
            .bits(lanes)
            .set("MAX", u32::from(pool.kind == PoolKind::Max))
            .read(cx.input(0))
            .write(cx.output())
            .params(&[count, pool.channels / lanes])?
            .params(&[pool.input, pool.output].concat())?
            .params(&[cx.input(0).offset / lanes, cx.output().offset / lanes, row])?;
        Ok(call.dispatch(grid))
    })
}
