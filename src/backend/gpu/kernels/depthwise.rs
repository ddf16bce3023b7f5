//! Depthwise convolutions.

use super::{Call, Context, Extras, quads};
use crate::backend::gpu::dispatch::{Binding, Pack, Selection};
use crate::error::{Error, Result};
use crate::graph::step::{ConvStep, Memory};

const SOURCE: &str = include_str!("../../../../shaders/depthwise.wgsl");

/// The neighbouring pixels that a thread makes.
const STRIP: usize = 4;

pub(super) fn select(cx: &Context<'_>, conv: &ConvStep) -> Result<Selection> {
    let (x, weight, y) = (cx.input(0), cx.input(1), cx.output());
    if matches!(cx.buffers[weight.buffer.0].memory, Memory::Arena { .. }) || weight.offset != 0 {
        return Err(Error::unsupported("a weight that is computed from the inputs")
            .help("such a layer runs on the CPU: `--device cpu`"));
    }
    let channels = conv.c_out;
    let pack = Pack {
        weight: weight.buffer,
        scale: conv.fused.scale_index().map(|i| cx.input(i).buffer),
        shape: vec![channels, 1, conv.kernel[0], conv.kernel[1]],
        channel_dim: 0,
        channels: 0..channels,
        order: vec![1, 2, 3, 0],
        multiple: 4,
        winograd: false,
        half: cx.caps.half,
    };
    let extras = Extras::new(cx, conv.fused);
    let lanes = if quads(&[channels, x.offset, y.offset, extras.bias_at(), extras.residual_at()]) { 4 } else { 1 };
    let strips = conv.output[1].div_ceil(STRIP);
    let count = conv.batch * conv.output[0] * strips * (channels / lanes);
    let (row, grid) = cx.fold(count, 64)?;
    let call = Call::new("depthwise", SOURCE).lanes(cx, lanes);
    let packed = Binding::Packed(0);
    let call = extras.bind(call.read(x).bind(packed), packed).write(y).params(&[
        count,
        strips,
        channels / lanes,
        channels.next_multiple_of(4) / lanes,
        conv.input[0],
        conv.input[1],
        conv.output[0],
        conv.output[1],
        conv.kernel[0],
        conv.kernel[1],
        conv.stride[0],
        conv.stride[1],
        conv.dilation[0],
        conv.dilation[1],
        conv.padding[0],
        conv.padding[1],
        x.offset / lanes,
        0,
        extras.bias_at() / lanes,
        extras.residual_at() / lanes,
        y.offset / lanes,
    ])?;
    let call = extras.append(call).params(&[row])?;
    Ok(Selection { packs: vec![pack], dispatches: vec![call.dispatch(grid)], ..Selection::default() })
}
