//! Products of two computed matrices.

use super::{Call, Context};
use crate::backend::gpu::dispatch::Selection;
use crate::error::{Error, Result};
use crate::graph::step::MatmulStep;

const SOURCE: &str = include_str!("../../../../shaders/matmul.wgsl");

const TILE: usize = 64;

pub(super) fn select(cx: &Context<'_>, matmul: &MatmulStep) -> Result<Selection> {
    let batches: usize = matmul.batch.iter().product();
    let mut selection = Selection::default();
    if batches * matmul.m * matmul.n == 0 {
        return Ok(selection);
    }
    // Three batch dimensions, the missing ones in front.
    let three = |values: &[usize], fill: usize| {
        let mut all = [fill; 3];
        all[3 - values.len()..].copy_from_slice(values);
        all
    };
    if matmul.batch.len() > 3 {
        return Err(Error::unsupported(format!("{} batch dimensions, at most 3", matmul.batch.len())));
    }
    let sizes = three(&matmul.batch, 1);
    let tiles = batches * matmul.m.div_ceil(TILE) * matmul.n.div_ceil(TILE);
    for cut in cx.cut_groups(tiles, (2 * TILE * TILE * matmul.k) as u64)? {
        let call = Call::new("matmul", SOURCE)
            .half(cx, "S", "f16")
            .set("A_ALONG_K", u32::from(matmul.a[1] <= matmul.a[0]))
            .set("B_ALONG_K", u32::from(matmul.b[0] < matmul.b[1]))
            .read(cx.input(0))
            .read(cx.input(1))
            .write(cx.output())
            .params(&[matmul.m, matmul.n, matmul.k, cut.range.end, sizes[1], sizes[2]])?
            .params(&three(&matmul.a_batch, 0))?
            .params(&three(&matmul.b_batch, 0))?
            .params(&[matmul.a, matmul.b].concat())?
            .params(&[cx.input(0).offset, cx.input(1).offset, cx.output().offset, cut.range.start, cut.row])?;
        selection.dispatches.push(call.dispatch(cut.grid));
    }
    Ok(selection)
}
