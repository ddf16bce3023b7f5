//! Fused attention.

use super::{Call, Context, quads, word};
use crate::backend::gpu::dispatch::Selection;
use crate::error::Result;
use crate::graph::step::AttentionStep;

const SOURCE: &str = include_str!("../../../../shaders/attention.wgsl");

/// The rows of q that a workgroup takes, the elements of v that its threads sum at once, and those that it sums at most.
const ROWS: usize = 16;
const V_DIM: usize = 64;
const MOST_V_DIM: usize = 256;

pub(super) fn select(cx: &Context<'_>, attention: &AttentionStep) -> Result<Selection> {
    let mut selection = Selection::default();
    if attention.batch * attention.heads * attention.q_len * attention.v_dim > 0 {
        // Of values that are longer, each dispatch sums a part: it scores again, which takes no longer than the sums.
        for first in (0..attention.v_dim).step_by(MOST_V_DIM) {
            part(cx, attention, first, &mut selection)?;
        }
    }
    Ok(selection)
}

/// Adds what sums the elements of the values from `first` on.
fn part(cx: &Context<'_>, a: &AttentionStep, first: usize, selection: &mut Selection) -> Result<()> {
    let blocks = a.batch * a.heads * a.q_len.div_ceil(ROWS);
    let v_dim = (a.v_dim - first).min(MOST_V_DIM);
    let [q, k, v] = [0, 1, 2].map(|i| cx.input(i));
    let mask = a.mask.map(|strides| (cx.input(3), strides));
    let strides = [a.q, a.k, a.v].concat();
    let wide = quads(&strides) && quads(&[a.head_dim, a.v_dim, q.offset, k.offset, v.offset]);
    let (mask_arg, mask_strides) = mask.unwrap_or((q, [0; 4]));
    let flops = (ROWS * a.kv_len * (2 * a.head_dim + 2 * v_dim + 5)) as u64;
    for cut in cx.cut_groups(blocks, flops)? {
        let mut call = Call::new("attention", SOURCE)
            .half(cx, "S", "f16")
            .alias("X", if wide { "V" } else { "S" })
            .set("WIDE", u32::from(wide))
            .set("CAUSAL", u32::from(a.causal))
            .set("MASK", u32::from(mask.is_some()))
            .set("V_QUADS", word(v_dim.div_ceil(V_DIM))?)
            .set("BLIND_IS_NAN", u32::from(a.blind_is_nan))
            .read(q)
            .read(k)
            .read(v)
            .read(mask_arg)
            .write(cx.output())
            .params(&[a.q_len, a.kv_len, a.head_dim, v_dim, a.heads, cut.range.end])?
            .params(&strides)?
            .params(&a.out)?
            .params(&mask_strides)?;
        call.immediates.push(a.scale.to_bits());
        let call = call
            .params(&[q.offset, k.offset, v.offset + first, mask_arg.offset, cx.output().offset + first])?
            .params(&[cut.range.start, cut.row])?;
        selection.dispatches.push(call.dispatch(cut.grid));
    }
    Ok(())
}
