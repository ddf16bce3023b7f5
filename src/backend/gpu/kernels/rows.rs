//! Kernels along rows: softmax, layer norm and reductions.

use super::{Call, Context, one, quads, replace_line, row_threads, word};
use crate::backend::gpu::dispatch::{Dispatch, Selection};
use crate::error::Result;
use crate::graph::op::Reduce;

const SOFTMAX: &str = include_str!("../../../../shaders/softmax.wgsl");
const REDUCE: &str = include_str!("../../../../shaders/reduce.wgsl");
const CUMSUM: &str = include_str!("../../../../shaders/cumsum.wgsl");
const LAYER_NORM: &str = include_str!("../../../../shaders/layer_norm.wgsl");

/// Shorter rows are left to one thread each.
const SHORTEST_ROW: usize = 32;

/// A column of this length is worth a workgroup, though its elements lie apart: one thread would be at it for long.
pub(super) const LONG_COLUMN: usize = 8192;

pub(super) fn softmax(cx: &Context<'_>, log: bool, sizes: [usize; 3]) -> Result<Selection> {
    one(sizes.iter().product(), || columns(cx, Call::new("softmax", SOFTMAX).set("LOG", u32::from(log)), sizes))
}

pub(super) fn reduce(cx: &Context<'_>, kind: Reduce, sizes: [usize; 3]) -> Result<Selection> {
    let kind = match kind {
        Reduce::Sum => 0u32,
        Reduce::Mean => 1,
        Reduce::Max => 2,
    };
    one(sizes[0] * sizes[2], || columns(cx, Call::new("reduce", REDUCE).set("KIND", kind), sizes))
}

pub(super) fn cumsum(cx: &Context<'_>, [outer, len, inner]: [usize; 3]) -> Result<Selection> {
    let (x, y) = (cx.input(0), cx.output());
    let mut selection = Selection::default();
    if outer * inner == 0 {
        return Ok(selection);
    }
    let (row, grid) = cx.fold(outer * inner, 64)?;
    for start in (0..len).step_by(LONG_COLUMN) {
        let end = len.min(start + LONG_COLUMN);
        let call = Call::new("cumsum", CUMSUM).half(cx, "S", "f16").read(x).write(y);
        let call = call.params(&[outer * inner, len, inner, x.offset, y.offset, row, start, end])?;
        selection.dispatches.push(call.dispatch(grid));
    }
    Ok(selection)
}

/// A workgroup for every row when the elements of a row are neighbours, and for long columns, else a thread for every
/// column.
fn columns(cx: &Context<'_>, call: Call, [outer, len, inner]: [usize; 3]) -> Result<Dispatch> {
    let rows = len >= if inner == 1 { SHORTEST_ROW } else { LONG_COLUMN };
    let threads = if rows { row_threads(len) } else { 64 };
    let (row, grid) = if rows { cx.fold_groups(outer * inner)? } else { cx.fold(outer * inner, threads as usize)? };
    let call = call
        .half(cx, "S", "f16")
        .set("ROWS", u32::from(rows))
        .set("THREADS", threads)
        .read(cx.input(0))
        .write(cx.output())
        .params(&[outer * inner, len, inner, cx.input(0).offset, cx.output().offset, row])?;
    Ok(call.dispatch(grid))
}

/// The quads of a row that a thread of `layer_norm.wgsl` keeps at most.
const MOST_QUADS: usize = 4;

pub(super) fn layer_norm(cx: &Context<'_>, [rows, len]: [usize; 2], eps: f32, affine: bool) -> Result<Selection> {
    one(rows * len, || {
        let x = cx.input(0);
        let (weight, bias) = if affine { (cx.input(1), cx.input(2)) } else { (x, x) };
        let (row, grid) = cx.fold_groups(rows)?;
        let wide = quads(&[len, x.offset, weight.offset, bias.offset, cx.output().offset]);
        let threads = if len.div_ceil(4) > MOST_QUADS * 64 { 256u32 } else { 64 };
        // As many quads as a thread keeps of a row; none where a row has more.
        let kept = len.div_ceil(4 * threads as usize);
        let mut call = Call::new("layer_norm", LAYER_NORM)
            .half(cx, "S", "f16")
            .alias("X", if wide { "V" } else { "S" })
            .set("WIDE", u32::from(wide))
            .set("AFFINE", u32::from(affine))
            .set("QUADS", if kept > MOST_QUADS { 0 } else { word(kept)? })
            .set("THREADS", threads)
            .read(x)
            .read(weight)
            .read(bias)
            .write(cx.output())
            .params(&[rows, len])?;
        if !wide {
            replace_line(call.shader.source.to_mut(), "// as X", "    return v.x;\n");
        }
        call.immediates.push(eps.to_bits());
        let call = call.params(&[x.offset, weight.offset, bias.offset, cx.output().offset, row])?;
        Ok(call.dispatch(grid))
    })
}
