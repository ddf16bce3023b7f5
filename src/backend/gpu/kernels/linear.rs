//! Linear layers: convolutions over an image of one row, or for few rows a product that reads the weight once.

use super::conv2d::{self, Part};
use super::{Call, Context, Extras, WeightRows, quads};
use crate::backend::gpu::dispatch::{Dispatch, Selection};
use crate::error::Result;
use crate::graph::step::{ConvStep, LinearStep};

const VEC: &str = include_str!("../../../../shaders/linear_vec.wgsl");

/// The most rows of `linear_vec.wgsl`, and the channels that its workgroup makes.
pub(super) const VEC_ROWS: usize = 8;
const VEC_CHANNELS: usize = 2;

pub(super) fn select(cx: &Context<'_>, linear: &LinearStep) -> Result<Selection> {
    if linear.rows * linear.n == 0 {
        return Ok(Selection::default());
    }
    let rows = WeightRows {
        shape: &[linear.n, linear.k],
        order: &[0, 1],
        row_len: linear.k.next_multiple_of(4),
        scale: linear.fused.scale_index().map(|i| cx.input(i)),
        as_is: quads(&[linear.k, cx.input(1).offset]),
        unit: 1,
        half: linear.rows > VEC_ROWS && cx.caps.matrices.is_some(),
    };
    let mut selection = Selection::default();
    let conv = ConvStep {
        batch: 1,
        input: [1, linear.rows],
        c_in: linear.k,
        output: [1, linear.rows],
        c_out: linear.n,
        kernel: [1, 1],
        stride: [1, 1],
        dilation: [1, 1],
        padding: [0, 0],
        groups: 1,
        fused: linear.fused,
    };
    for (channels, weight) in cx.weight_parts(&rows, &mut selection.packs)? {
        if linear.rows <= VEC_ROWS {
            let part = Part::new(cx, &conv, channels, weight);
            selection.dispatches.push(vec(cx, linear, &part)?);
        } else {
            conv2d::select_channels(cx, &conv, channels, weight, &mut selection)?;
        }
    }
    Ok(selection)
}

fn vec(cx: &Context<'_>, linear: &LinearStep, part: &Part<'_>) -> Result<Dispatch> {
    let x = cx.input(0);
    let wide = quads(&[linear.k, x.offset]);
    let extras = Extras::new(cx, linear.fused);
    let call = Call::new("linear_vec", VEC)
        .half(cx, "S", "f16")
        .alias("X", if wide { "V" } else { "S" })
        .set("WIDE", u32::from(wide))
        .set("ROWS", linear.rows as u32)
        .read(x)
        .bind(part.weight);
    let (fold, grid) = cx.fold_groups(part.channels.div_ceil(VEC_CHANNELS))?;
    let call = extras.bind(call, part.weight).write(cx.output()).params(&[
        linear.k,
        part.channels,
        part.first,
        linear.n,
        fold,
        x.offset,
        part.weight_at(cx),
        extras.bias_at(),
        extras.residual_at(),
        cx.output().offset,
    ])?;
    Ok(extras.append(call).dispatch(grid))
}
