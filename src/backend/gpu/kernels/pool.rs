//! Pooling and adaptive pooling.

use super::rows::{self, LONG_COLUMN};
use super::{Call, Context, one, quads, word};
use crate::backend::gpu::dispatch::Selection;
use crate::error::Result;
use crate::graph::op::{PoolKind, Reduce};
use crate::graph::step::{AdaptivePoolStep, PoolStep};

const POOL: &str = include_str!("../../../../shaders/pool.wgsl");
const ADAPTIVE: &str = include_str!("../../../../shaders/adaptive_pool.wgsl");

/// How many channels a thread takes.
fn lanes(cx: &Context<'_>, channels: usize) -> usize {
    if quads(&[channels, cx.input(0).offset, cx.output().offset]) { 4 } else { 1 }
}

/// A pool over whole images that are large is a reduction, which takes a workgroup for every channel.
fn whole(cx: &Context<'_>, kind: PoolKind, [batch, pixels, channels]: [usize; 3]) -> Option<Result<Selection>> {
    let kind = match kind {
        PoolKind::Max => Reduce::Max,
        PoolKind::Avg { divisor: None, .. } => Reduce::Mean,
        PoolKind::Avg { .. } => return None,
    };
    (pixels >= LONG_COLUMN).then(|| rows::reduce(cx, kind, [batch, pixels, channels]))
}

pub(super) fn select(cx: &Context<'_>, pool: &PoolStep) -> Result<Selection> {
    let is_whole =
        pool.kernel == pool.input && pool.output == [1, 1] && pool.padding == [0, 0] && pool.dilation == [1, 1];
    let sizes = [pool.batch, pool.input[0] * pool.input[1], pool.channels];
    if is_whole && let Some(selection) = whole(cx, pool.kind, sizes) {
        return selection;
    }
    let lanes = lanes(cx, pool.channels);
    let count = pool.batch * pool.output[0] * pool.output[1] * (pool.channels / lanes);
    let (max, count_pad, divisor) = match pool.kind {
        PoolKind::Max => (1u32, false, None),
        PoolKind::Avg { count_include_pad, divisor } => (0, count_include_pad, divisor),
    };
    let mut selection = Selection::default();
    for cut in cx.cut_threads(count, 64, (lanes * pool.kernel[0] * pool.kernel[1]) as u64)? {
        let call = Call::new("pool", POOL)
            .lanes(cx, lanes)
            .bits(lanes)
            .set("MAX", max)
            .set("COUNT_PAD", u32::from(count_pad))
            .read(cx.input(0))
            .write(cx.output())
            .params(&[cut.range.end, pool.channels / lanes])?
            .params(&[pool.input, pool.output, pool.kernel, pool.stride, pool.dilation, pool.padding].concat())?
            .params(&[divisor.unwrap_or(0), cx.input(0).offset / lanes, cx.output().offset / lanes])?
            .params(&[cut.range.start, cut.row])?;
        selection.dispatches.push(call.dispatch(cut.grid));
    }
    Ok(selection)
}

pub(super) fn select_adaptive(cx: &Context<'_>, pool: &AdaptivePoolStep) -> Result<Selection> {
    let sizes = [pool.batch, pool.input[0] * pool.input[1], pool.channels];
    if pool.output == [1, 1]
        && let Some(selection) = whole(cx, pool.kind, sizes)
    {
        return selection;
    }
    let lanes = lanes(cx, pool.channels);
    let count = pool.batch * pool.output[0] * pool.output[1] * (pool.channels / lanes);
    one(count, || {
        for (size, windows) in pool.input.into_iter().zip(pool.output) {
            // The shader computes the places of windows so, in 32 bits.
            word(windows * (size % windows) + windows)?;
        }
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
