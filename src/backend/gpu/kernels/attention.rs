//! Fused attention.

use super::{Call, Context, one, quads, word};
use crate::backend::gpu::dispatch::Selection;
use crate::error::{Error, Result};
use crate::graph::step::AttentionStep;

const SOURCE: &str = include_str!("../../../../shaders/attention.wgsl");

/// The rows of q that a workgroup takes, the elements of v that its threads sum at once, and how often they can.
const ROWS: usize = 16;
const V_DIM: usize = 64;
const MOST_V: usize = 4;

pub(super) fn select(cx: &Context<'_>, attention: &AttentionStep) -> Result<Selection> {
    let a = attention;
    let all_heads = a.batch * a.heads;
    one(all_heads * a.q_len * a.v_dim, || {
        let v_quads = a.v_dim.div_ceil(V_DIM);
        if v_quads > MOST_V {
            let most = V_DIM * MOST_V;
            return Err(Error::unsupported(format!("attention over values of {} elements, at most {most}", a.v_dim))
                .help("such a model runs on the CPU: `--device cpu`"));
        }
        let [q, k, v] = [0, 1, 2].map(|i| cx.input(i));
        let mask = a.mask.map(|strides| (cx.input(3), strides));
        let strides = [a.q, a.k, a.v].concat();
        let wide = quads(&strides) && quads(&[a.head_dim, a.v_dim, q.offset, k.offset, v.offset]);
        let (mask_arg, mask_strides) = mask.unwrap_or((q, [0; 4]));
        let (fold, [across, deep, _]) = cx.fold_groups(all_heads)?;
        let mut call = Call::new("attention", SOURCE)
            .half(cx, "S", "f16")
            .alias("X", if wide { "V" } else { "S" })
            .set("WIDE", u32::from(wide))
            .set("CAUSAL", u32::from(a.causal))
            .set("MASK", u32::from(mask.is_some()))
            .set("V_QUADS", word(v_quads)?)
            .set("BLIND_IS_NAN", u32::from(a.blind_is_nan))
            .read(q)
            .read(k)
            .read(v)
            .read(mask_arg)
            .write(cx.output())
            .params(&[a.q_len, a.kv_len, a.head_dim, a.v_dim, a.heads, all_heads])?
            .params(&[strides, a.out.to_vec()].concat())?
            .params(&mask_strides)?;
        call.immediates.push(a.scale.to_bits());
        let call = call.params(&[q.offset, k.offset, v.offset, mask_arg.offset, cx.output().offset, fold])?;
        Ok(call.dispatch([word(a.q_len.div_ceil(ROWS))?, across, deep]))
    })
}
