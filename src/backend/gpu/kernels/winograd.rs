//! 3x3 convolutions of stride 1 by Winograd's F(2x2, 3x3): four ninths of the multiplications, for two more dispatches
//! that spread the image to four times its size and gather the sums. Its errors stay below 2e-6 of the largest output. What
//! is not finite is computed by the definition.

use super::conv2d::{LEAST_TILE, Part, flops_of_channel};
use super::{Call, Context, Extras, WeightRows, quads, word};
use crate::backend::gpu::dispatch::{Binding, Dispatch, Pack, Selection};
use crate::backend::gpu::tune::Choice;
use crate::error::{Error, Result};
use crate::graph::op::Fused;
use crate::graph::step::ConvStep;

const INPUT: &str = include_str!("../../../../shaders/winograd_input.wgsl");
const WEIGHT: &str = include_str!("../../../../shaders/winograd_weight.wgsl");
const OUTPUT: &str = include_str!("../../../../shaders/winograd_output.wgsl");

/// The outputs along a side of a tile, and the products of a tile.
const SIDE: usize = 2;
const POINTS: usize = 16;

/// The numbers of a channel and an input that a weight becomes: the points, and the taps for sums that are not finite.
const STORED: usize = POINTS + 9;

/// `docs/performance.md` has the arithmetic: with fewer multiplications the two dispatches, with fewer channels the
/// larger images cost what the products save.
pub(super) const LEAST_PRODUCTS: usize = 400_000_000;
const LEAST_CHANNELS: usize = 256;

/// The three dispatches of a convolution, when it is faster this way.
pub(super) fn select(cx: &Context<'_>, conv: &ConvStep) -> Result<Option<Selection>> {
    let (x, y) = (cx.input(0), cx.output());
    let extras = Extras::new(cx, conv.fused);
    let fits = !cx.caps.half
        && cx.caps.matrices.is_none()
        && conv.kernel == [3, 3]
        && conv.stride == [1, 1]
        && conv.dilation == [1, 1]
        && conv.groups == 1
        && quads(&[conv.c_in, conv.c_out, x.offset, y.offset, extras.bias_at(), extras.residual_at()]);
    let tiles = conv.output.map(|size| size.div_ceil(SIDE));
    let total = conv.batch * tiles[0] * tiles[1];
    let pixels = conv.batch * conv.output[0] * conv.output[1];
    let products = pixels * conv.c_in * conv.c_out * 9;
    let least_channels = if cx.caps.least_winograd == 0 { 0 } else { LEAST_CHANNELS };
    // At the edges tiles make pixels that the image does not have: at most three fifths of the products may be left.
    let wins = match cx.caps.choice {
        Some(choice) => choice == Choice::Winograd,
        None => {
            products >= cx.caps.least_winograd
                && conv.c_in.min(conv.c_out) >= least_channels
                && 5 * POINTS * total <= 3 * 9 * pixels
        }
    };
    let room = (total * POINTS).max(STORED * conv.c_in) as u64 * conv.c_in.max(conv.c_out) as u64 * 4;
    // Otherwise it is cut by its channels, so that no submission takes too long and no grid is too large.
    let is_small = flops_of_channel(conv).saturating_mul(conv.c_out as u64) <= cx.caps.submission_flops
        && POINTS * conv.c_out.div_ceil(LEAST_TILE) <= cx.caps.max_groups as usize;
    if !fits || !wins || !is_small || room > cx.caps.max_binding {
        return Ok(None);
    }
    let shape = [conv.c_out, conv.c_in, 3, 3];
    let rows = WeightRows {
        shape: &shape,
        order: &[0, 2, 3, 1],
        row_len: STORED * conv.c_in,
        scale: conv.fused.scale_index().map(|i| cx.input(i)),
        as_is: false,
        unit: conv.c_out,
        half: false,
    };
    let mut selection = Selection::default();
    let parts = cx.weight_parts(&rows, &mut selection.packs)?;
    selection.packs.iter_mut().for_each(|pack| pack.winograd = true);

    let count = total * (conv.c_in / 4);
    let (row, grid) = cx.fold(count, 64)?;
    let call = Call::new("winograd_input", INPUT).read(x).bind(Binding::WriteScratch(0));
    let call = call
        .params(&[count, conv.c_in / 4])?
        .params(&[conv.input, conv.padding, tiles].concat())?
        .params(&[row, x.offset / 4])?;
    selection.dispatches.push(call.dispatch(grid));

    // The products of each point are those of a group of a 1x1 convolution over an image of tiles.
    let products = ConvStep {
        batch: 1,
        input: [1, total],
        c_in: POINTS * conv.c_in,
        output: [1, total],
        c_out: POINTS * conv.c_out,
        kernel: [1, 1],
        padding: [0, 0],
        groups: POINTS,
        fused: Fused::default(),
        ..conv.clone()
    };
    let part = Part {
        conv: &products,
        first: 0,
        groups: POINTS,
        channels: conv.c_out,
        weight: parts[0].1,
        skip: 0,
        pixel: 0,
        x: (Binding::ReadScratch(0), 0),
        y: (Binding::WriteScratch(1), 0),
    };
    part.select(cx, &mut selection)?;

    let count = total * (conv.c_out / 4);
    let (row, grid) = cx.fold(count, 64)?;
    let call = Call::new("winograd_output", OUTPUT).bind(Binding::ReadScratch(1)).read(x).bind(parts[0].1);
    let call = extras.bind(call, Binding::ReadScratch(1)).write(y);
    let call = call
        .params(&[count, conv.c_out / 4])?
        .params(&[conv.output, tiles].concat())?
        .params(&[row, extras.bias_at() / 4, extras.residual_at() / 4, y.offset / 4])?
        .params(&[conv.input, conv.padding].concat())?
        .params(&[conv.c_in / 4, x.offset / 4])?;
    selection.dispatches.push(extras.append(call).dispatch(grid));
    selection.scratch = [total * POINTS * conv.c_in, total * POINTS * conv.c_out];
    Ok(Some(selection))
}

/// The dispatch that makes the points of a weight from its taps, in a grid of at most `limit` workgroups a dimension.
pub(in crate::backend::gpu) fn weight(pack: &Pack, limit: usize) -> Result<Dispatch> {
    let [channels, _, _, inputs] = pack.packed_shape()[..] else {
        return Err(Error::device("a weight for Winograd has four dimensions"));
    };
    let count = channels * (inputs / 4);
    let groups = count.div_ceil(64);
    let rows = groups.div_ceil(limit);
    let row = groups.div_ceil(rows);
    let call = Call::new("winograd_weight", WEIGHT).bind(Binding::Packed(0)).bind(Binding::Status);
    Ok(call.params(&[count, inputs / 4, row * 64])?.dispatch([word(row)?, word(rows)?, 1]))
}
