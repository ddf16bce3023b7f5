//! Products of two computed matrices.

use super::{Call, Context, one, too_large, word};
use crate::backend::gpu::dispatch::Selection;
use crate::error::Result;
use crate::graph::step::MatmulStep;

const SOURCE: &str = include_str!("../../../../shaders/matmul.wgsl");

const TILE: usize = 64;

pub(super) fn select(cx: &Context<'_>, matmul: &MatmulStep) -> Result<Selection> {
    let batches: usize = matmul.batch.iter().product();
    one(batches * matmul.m * matmul.n, || {
        // Three batch dimensions, the missing ones in front.
        let three = |values: &[usize], fill: usize| {
            let mut all = [fill; 3];
            all[3 - values.len()..].copy_from_slice(values);
            all
        };
        if matmul.batch.len() > 3 {
            return Err(too_large(matmul.batch.len()));
        }
        let sizes = three(&matmul.batch, 1);
        let (a, b) = (three(&matmul.a_batch, 0), three(&matmul.b_batch, 0));
        let depth = batches.min(cx.caps.max_groups as usize);
        let call = Call::new("matmul", SOURCE)
            .half(cx, "S", "f16")
            .set("A_ALONG_K", u32::from(matmul.a[1] <= matmul.a[0]))
            .set("B_ALONG_K", u32::from(matmul.b[0] < matmul.b[1]))
            .read(cx.input(0))
            .read(cx.input(1))
            .write(cx.output())
            .params(&[
                matmul.m,
                matmul.n,
                matmul.k,
                batches,
                sizes[1],
                sizes[2],
                a[0],
                a[1],
                a[2],
                b[0],
                b[1],
                b[2],
                matmul.a[0],
                matmul.a[1],
                matmul.b[0],
                matmul.b[1],
                cx.input(0).offset,
                cx.input(1).offset,
                cx.output().offset,
                depth,
            ])?;
        Ok(call.dispatch([word(matmul.m.div_ceil(TILE))?, word(matmul.n.div_ceil(TILE))?, word(depth)?]))
    })
}
