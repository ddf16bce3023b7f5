//! Rows of a table by index.

use super::cut::ranges;
use super::{Call, Context, ON_CPU, quads};
use crate::backend::gpu::dispatch::{Binding, Pack, Selection};
use crate::error::{Error, Result};
use crate::graph::step::Memory;

const SOURCE: &str = include_str!("../../../../shaders/embedding.wgsl");

pub(super) fn select(cx: &Context<'_>, outer: usize, count: usize, rows: usize, dim: usize) -> Result<Selection> {
    let (indices, table, y) = (cx.input(0), cx.input(1), cx.output());
    let mut selection = Selection::default();
    if outer * count * dim == 0 {
        return Ok(selection);
    }
    let is_half = cx.caps.half && !cx.is_int(y);
    let mut parts = vec![(0..rows, Binding::Read(table.buffer))];
    if !cx.fits(table) {
        let computed = matches!(cx.buffers[table.buffer.0].memory, Memory::Arena { .. });
        if computed || table.offset != 0 || outer != 1 {
            let bytes = cx.buffers[table.buffer.0].len as u64 * 4;
            let limit = cx.caps.max_binding;
            let text = format!("a computed table of {bytes} bytes, the device binds at most {limit}");
            return Err(Error::unsupported(text).help(ON_CPU));
        }
        let most = (cx.caps.max_binding / (dim as u64 * 4)).max(1) as usize;
        parts = ranges(rows, most).enumerate().map(|(i, range)| (range, Binding::Packed(i))).collect();
        let pack = |channels| Pack {
            weight: table.buffer,
            scale: None,
            shape: vec![rows, dim],
            channel_dim: 0,
            channels,
            order: vec![0, 1],
            multiple: 1,
            winograd: false,
            half: is_half,
        };
        selection.packs = ranges(rows, most).map(pack).collect();
    }
    let lanes = if quads(&[dim, table.offset, y.offset]) { 4 } else { 1 };
    let threads = outer * count * (dim / lanes);
    let (row, grid) = cx.fold(threads, 64)?;
    for (range, binding) in parts {
        let call = Call::new("embedding", SOURCE).alias("T", if lanes == 4 { "vec4<u32>" } else { "u32" });
        let call = match (is_half, lanes) {
            (false, _) => call,
            (true, 4) => call.half(cx, "T", "vec4<f16>"),
            (true, _) => call.half(cx, "T", "f16"),
        };
        let call = call
            .read(indices)
            .bind(binding)
            .write(y)
            .bind(Binding::Status)
            .params(&[threads, dim / lanes, rows, range.start, range.end])?
            .params(&[indices.offset, table.offset / lanes, y.offset / lanes, row, count])?;
        selection.dispatches.push(call.dispatch(grid));
    }
    Ok(selection)
}
