//! Depthwise convolutions.

use super::{Call, Context, Extras, ON_CPU, quads};
use crate::backend::gpu::dispatch::{Binding, Pack, Selection};
use crate::error::{Error, Result};
use crate::graph::step::{ConvStep, Memory};

const SOURCE: &str = include_str!("../../../../shaders/depthwise.wgsl");

/// The neighbouring pixels that a thread makes.
const STRIP: usize = 4;

pub(super) fn select(cx: &Context<'_>, conv: &ConvStep) -> Result<Selection> {
    let (x, weight, y) = (cx.input(0), cx.input(1), cx.output());
    if matches!(cx.buffers[weight.buffer.0].memory, Memory::Arena { .. }) || weight.offset != 0 {
        return Err(Error::unsupported("a weight that is computed from the inputs").help(ON_CPU));
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
    let flops = 2 * STRIP * lanes * conv.kernel[0] * conv.kernel[1];
    let packed = Binding::Packed(0);
    let mut selection = Selection { packs: vec![pack], ..Selection::default() };
    for cut in cx.cut_threads(count, 64, flops as u64)? {
        let call = extras.bind(Call::new("depthwise", SOURCE).lanes(cx, lanes).read(x).bind(packed), packed);
        let call = call
            .write(y)
            .params(&[cut.range.end, strips, channels / lanes, channels.next_multiple_of(4) / lanes])?
            .params(&[conv.input, conv.output, conv.kernel, conv.stride, conv.dilation, conv.padding].concat())?
            .params(&[x.offset / lanes, 0, extras.bias_at() / lanes, extras.residual_at() / lanes, y.offset / lanes])?;
        let call = extras.append(call).params(&[cut.range.start, cut.row])?;
        selection.dispatches.push(call.dispatch(cut.grid));
    }
    Ok(selection)
}
