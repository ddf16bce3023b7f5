//! Convolutions: implicit matrix products, on tiles in workgroup memory or straight from storage.

use std::ops::Range;

use super::cut::{pieces, ranges};
use super::{Call, Caps, Context, Extras, WeightRows, depthwise, linear, matrix, quads, winograd, word};
use crate::backend::gpu::dispatch::{Binding, Selection};
use crate::backend::gpu::tune::Choice;
use crate::error::Result;
use crate::graph::step::{ConvStep, Kernel};

const TILED: &str = include_str!("../../../../shaders/conv2d.wgsl");
const DIRECT: &str = include_str!("../../../../shaders/conv2d_direct.wgsl");

/// The tile of `conv2d_direct.wgsl`: pixels, channels.
const DIRECT_TILE: [usize; 2] = [64, 16];

/// The channels of the narrowest tile.
pub(super) const LEAST_TILE: usize = DIRECT_TILE[1];

/// The tile whose threads make 8 x 8 and not 4 x 4 elements, and its threads.
const LARGE: [usize; 2] = [128, 128];
const LARGE_THREADS: usize = 256;

/// The tiles of `conv2d.wgsl`.
const TILES: [[usize; 2]; 5] = [LARGE, [64, 64], [64, 32], [32, 64], [32, 32]];

/// The quads of the sum that a part has a multiple of: those that a tile takes at a step, at most.
const STEP_QUADS: usize = 4;

/// The parts that a sum is split into at most.
const MOST_SPLITS: usize = 16;

/// More workgroups than any GPU runs at once: a sum is not split for more.
const MOST_GROUPS: usize = 4096;

pub(super) fn select(cx: &Context<'_>, conv: &ConvStep) -> Result<Selection> {
    if conv.batch * conv.output[0] * conv.output[1] * conv.c_out == 0 {
        return Ok(Selection::default());
    }
    if is_depthwise(conv) {
        return depthwise::select(cx, conv);
    }
    if let Some(selection) = winograd::select(cx, conv)? {
        return Ok(selection);
    }
    let conv = &flat(conv);
    let group_in = conv.c_in / conv.groups;
    let taps = conv.kernel[0] * conv.kernel[1];
    let shape = [conv.c_out, group_in, conv.kernel[0], conv.kernel[1]];
    let rows = WeightRows {
        shape: &shape,
        order: &[0, 2, 3, 1],
        row_len: taps * group_in.next_multiple_of(4),
        scale: conv.fused.scale_index().map(|i| cx.input(i)),
        as_is: taps == 1 && quads(&[group_in, cx.input(1).offset]),
        unit: if conv.groups == 1 { 1 } else { conv.c_out / conv.groups },
        half: conv.groups == 1 && cx.caps.matrices.is_some(),
    };
    let mut selection = Selection::default();
    for (channels, weight) in cx.weight_parts(&rows, &mut selection.packs)? {
        select_channels(cx, conv, channels, weight, &mut selection)?;
    }
    Ok(selection)
}

/// Adds the dispatches of the channels that a weight is for: one, or as many as it takes so that none is too large.
pub(super) fn select_channels(
    cx: &Context<'_>,
    conv: &ConvStep,
    channels: Range<usize>,
    weight: Binding,
    selection: &mut Selection,
) -> Result<()> {
    // These are some of the only group's channels, or all channels of some groups.
    let own = if conv.groups == 1 { channels.len() } else { conv.c_out / conv.groups };
    let first_group = if conv.groups == 1 { 0 } else { channels.start / own };
    // A dimension of the grid counts the tiles of channels; there are no narrower ones.
    let tiles = cx.caps.max_groups as usize;
    let flops = flops_of_channel(conv);
    let most = (cx.most(flops) / LARGE[1] * LARGE[1]).max(LARGE[1]).min(tiles * LEAST_TILE);
    let most_groups = if own > most { 1 } else { (cx.most(flops) / own).min(tiles / own.div_ceil(LEAST_TILE)) };
    for groups in ranges(channels.len() / own, most_groups) {
        let group = first_group + groups.start;
        for first in (0..own).step_by(most) {
            let count = most.min(own - first);
            let skip = groups.start * own + first;
            let flops_of_pixel = flops / pixels(conv) as u64 * (count * groups.len()) as u64;
            for piece in pieces(cx, conv, flops_of_pixel) {
                let mut part = Part::new(cx, &piece.conv, channels.start + skip..channels.start + skip + count, weight);
                part.x.1 += piece.input + group * (conv.c_in / conv.groups);
                (part.groups, part.skip, part.pixel) = (groups.len(), skip, piece.pixel);
                part.select(cx, selection)?;
            }
        }
    }
    Ok(())
}

/// The pixels of all outputs.
fn pixels(conv: &ConvStep) -> usize {
    conv.batch * conv.output[0] * conv.output[1]
}

/// The operations that an output channel takes.
pub(super) fn flops_of_channel(conv: &ConvStep) -> u64 {
    let terms = conv.kernel[0] * conv.kernel[1] * (conv.c_in / conv.groups);
    2 * pixels(conv) as u64 * terms as u64
}

/// Whether each channel is a convolution of its own.
fn is_depthwise(conv: &ConvStep) -> bool {
    conv.groups > 1 && conv.groups == conv.c_in && conv.groups == conv.c_out
}

/// The tiles, the parts of the sum and Winograd, as far as they may suit the step.
pub(super) fn candidates(cx: &Context<'_>) -> Vec<Choice> {
    let (pixels, channels, groups, quads) = match &cx.step.kernel {
        Kernel::Conv2d(conv) if !is_depthwise(conv) => {
            let quads = conv.kernel[0] * conv.kernel[1] * (conv.c_in / conv.groups).div_ceil(4);
            (pixels(conv), conv.c_out / conv.groups, conv.groups, quads)
        }
        Kernel::Linear(linear) if linear.rows > linear::VEC_ROWS => (linear.rows, linear.n, 1, linear.k.div_ceil(4)),
        _ => return Vec::new(),
    };
    let matrices = cx.caps.matrices.filter(|_| groups == 1);
    let tiles = match matrices {
        Some(side) => matrix::tiles(side).to_vec(),
        None => [&TILES[..], &[DIRECT_TILE]].concat(),
    };
    let mut found = Vec::new();
    for (tile, parts) in tiles.into_iter().flat_map(|tile| [1, 2, 4, 8, 16].map(|parts| (tile, parts))) {
        let workgroups = groups * pixels.div_ceil(tile[0]) * channels.div_ceil(tile[1]);
        let can_split = groups == 1 && can_split(tile, matrices) && parts * STEP_QUADS <= quads;
        if parts == 1 || (can_split && parts * workgroups <= MOST_GROUPS) {
            found.push(Choice::Cut { tile, parts });
        }
    }
    let winograd = Context { caps: &Caps { choice: Some(Choice::Winograd), ..*cx.caps }, ..*cx };
    if let Kernel::Conv2d(conv) = &cx.step.kernel
        && let Ok(Some(_)) = winograd::select(&winograd, conv)
    {
        found.push(Choice::Winograd);
    }
    found
}

/// Whether a sum may be split on this tile: what is large enough for the largest has work for all units.
fn can_split(tile: [usize; 2], matrices: Option<u32>) -> bool {
    let largest = matrices.map_or(LARGE, |side| matrix::tiles(side)[0]);
    tile != DIRECT_TILE && tile != largest
}

/// The threads of a tile of `conv2d.wgsl`.
fn threads(tile: [usize; 2]) -> usize {
    if tile == LARGE { LARGE_THREADS } else { tile[0] * tile[1] / 16 }
}

/// A convolution that looks at one pixel at a time has no rows or columns: all images are one row.
fn flat(conv: &ConvStep) -> ConvStep {
    let mut flat = conv.clone();
    if conv.kernel == [1, 1] && conv.stride == [1, 1] && conv.padding == [0, 0] && conv.input == conv.output {
        flat.batch = 1;
        flat.input = [1, conv.batch * conv.input[0] * conv.input[1]];
        flat.output = flat.input;
    }
    flat
}

/// The output channels of a convolution that one dispatch makes: those of some of its groups, or some of one group.
pub(super) struct Part<'a> {
    pub(super) conv: &'a ConvStep,
    pub(super) first: usize,
    pub(super) groups: usize,
    /// Of each of these groups.
    pub(super) channels: usize,
    pub(super) weight: Binding,
    /// The channels of the weight before these.
    pub(super) skip: usize,
    /// Where the input and the output are, and where they start.
    pub(super) x: (Binding, usize),
    pub(super) y: (Binding, usize),
    /// The output pixels before its own.
    pub(super) pixel: usize,
}

/// How a layer is cut: the tile, and the parts of the sum.
pub(super) struct Cut {
    tile: [usize; 2],
    pub(super) parts: usize,
    /// The quads of a part, but for the last.
    pub(super) part_quads: usize,
}

impl<'a> Part<'a> {
    /// These channels of the first group, from the step's input to its output.
    pub(super) fn new(cx: &Context<'_>, conv: &'a ConvStep, channels: Range<usize>, weight: Binding) -> Self {
        let (x, y) = (cx.input(0), cx.output());
        let (x, y) = ((Binding::Read(x.buffer), x.offset), (Binding::Write(y.buffer), y.offset));
        Self { conv, first: channels.start, groups: 1, channels: channels.len(), weight, skip: 0, x, y, pixel: 0 }
    }

    /// Where the weight starts in its buffer, in quads.
    pub(super) fn weight_at(&self, cx: &Context<'_>) -> usize {
        let [height, width] = self.conv.kernel;
        let row = height * width * (self.conv.c_in / self.conv.groups).div_ceil(4);
        let start = if let Binding::Read(_) = self.weight { cx.input(1).offset / 4 } else { 0 };
        start + self.skip * row
    }

    /// Where its output starts.
    pub(super) fn y_at(&self) -> usize {
        self.y.1 + self.pixel * self.conv.c_out
    }

    /// Where its residual starts.
    pub(super) fn residual_at(&self, extras: &Extras) -> usize {
        extras.residual_at() + self.pixel * self.conv.c_out
    }

    /// Adds the dispatches of this part.
    pub(super) fn select(&self, cx: &Context<'_>, selection: &mut Selection) -> Result<()> {
        let conv = self.conv;
        if let Some(side) = cx.caps.matrices.filter(|_| conv.groups == 1) {
            return matrix::select(self, cx, side, selection);
        }
        let group_in = conv.c_in / conv.groups;
        let pixels = pixels(conv);
        let wide = quads(&[group_in, conv.c_in, self.x.1]);
        let extras = Extras::new(cx, conv.fused);
        let cut = self.cut(cx, pixels);
        let tile = cut.tile;
        let is_direct = tile == DIRECT_TILE;
        let call = if is_direct {
            Call::new("conv2d_direct", DIRECT)
        } else {
            let call = Call::new("conv2d", TILED).set("TM", word(tile[0])?).set("TN", word(tile[1])?);
            let quads = if tile == LARGE { 2u32 } else { 4 };
            call.set("THREADS", word(threads(tile))?).set("QUADS", quads).set("SPLIT", u32::from(cut.parts > 1))
        };
        let call = call.half(cx, "S", "f16").alias("X", if wide { "V" } else { "S" }).set("WIDE", u32::from(wide));
        let (fold, [across, deep, _]) = cx.fold_groups(pixels.div_ceil(tile[0]))?;
        let tiles = self.channels.div_ceil(tile[1]);
        let call = extras.bind(call.bind(self.x.0).bind(self.weight), self.weight).bind(self.y.0).params(&[
            pixels,
            self.channels,
            group_in.div_ceil(4),
            group_in,
            conv.input[0],
            conv.input[1],
            conv.c_in,
            conv.output[0],
            conv.output[1],
            conv.c_out,
            self.first,
            conv.kernel[0],
            conv.kernel[1],
            conv.stride[0],
            conv.stride[1],
            conv.dilation[0],
            conv.dilation[1],
            conv.padding[0],
            conv.padding[1],
            tiles,
            fold,
            self.x.1,
            self.weight_at(cx),
            extras.bias_at(),
            self.residual_at(&extras),
            self.y_at(),
        ])?;
        let call = if is_direct { call } else { call.bind(Binding::Slots).params(&[cut.part_quads])? };
        let depth = if cut.parts > 1 { word(cut.parts)? } else { deep };
        let grid = [across, word(tiles * self.groups)?, depth];
        selection.slots = selection.slots.max(self.slots(pixels, cut.parts));
        selection.dispatches.push(extras.append(call).dispatch(grid));
        Ok(())
    }

    /// The slots in which parts of the sums meet: in pairs, and what pairs made in pairs again.
    pub(super) fn slots(&self, pixels: usize, parts: usize) -> usize {
        (parts - 1) * pixels * self.channels
    }

    /// The tile, and the parts of the sum where even small tiles are too few to fill the GPU.
    fn cut(&self, cx: &Context<'_>, pixels: usize) -> Cut {
        let (tile, parts) = match cx.caps.choice {
            Some(Choice::Cut { tile, parts }) if tile == DIRECT_TILE || TILES.contains(&tile) => (tile, Some(parts)),
            _ if cx.caps.is_software => (DIRECT_TILE, None),
            _ => (self.tile(cx, pixels), None),
        };
        if !can_split(tile, None) {
            return Cut { tile, parts: 1, part_quads: 0 };
        }
        self.split(cx, pixels, tile, [threads(tile), STEP_QUADS], parts)
    }

    /// The parts of the sum for this tile, which has so many threads and takes so many quads of the sum at a step: as many
    /// as were `chosen`, or as it takes to fill the GPU.
    pub(super) fn split(
        &self,
        cx: &Context<'_>,
        pixels: usize,
        tile: [usize; 2],
        [threads, step_quads]: [usize; 2],
        chosen: Option<usize>,
    ) -> Cut {
        let conv = self.conv;
        let groups = pixels.div_ceil(tile[0]) * self.channels.div_ceil(tile[1]);
        let steps = (conv.kernel[0] * conv.kernel[1] * conv.c_in.div_ceil(4)).div_ceil(step_quads);
        let least_steps = (cx.caps.least_steps * STEP_QUADS / step_quads).max(1);
        let wanted = match chosen {
            Some(parts) => parts.min(steps),
            None => (cx.enough_groups(threads) / groups.max(1)).min(steps / least_steps),
        };
        let wanted = wanted.min(MOST_SPLITS);
        let slots = self.slots(pixels, wanted.max(1)) as u64 * 4;
        // The grid's third dimension counts parts, or goes on with the tiles of pixels.
        let is_folded = pixels.div_ceil(tile[0]) > cx.caps.max_groups as usize;
        if conv.groups > 1 || wanted < 2 || is_folded || slots > cx.caps.max_binding {
            return Cut { tile, parts: 1, part_quads: 0 };
        }
        let part_steps = steps.div_ceil(wanted);
        Cut { tile, parts: steps.div_ceil(part_steps), part_quads: part_steps * step_quads }
    }

    /// The tile of `conv2d.wgsl`: the largest that leaves enough workgroups, and no larger than the problem.
    fn tile(&self, cx: &Context<'_>, pixels: usize) -> [usize; 2] {
        let groups = |tile: [usize; 2]| pixels.div_ceil(tile[0]) * self.channels.div_ceil(tile[1]) * self.groups;
        // Half a tile of nothing is the most that is worth the larger tile's fewer reads.
        let most = |size: usize| {
            if size > 96 {
                128
            } else if size > 32 {
                64
            } else {
                32
            }
        };
        let largest = [most(pixels), most(self.channels)];
        let fits = |tile: &[usize; 2]| tile[0] <= largest[0] && tile[1] <= largest[1];
        TILES
            .into_iter()
            .filter(fits)
            .find(|&tile| groups(tile) >= cx.enough_groups(threads(tile)) * if tile == LARGE { 2 } else { 1 })
            .unwrap_or([32, 32])
    }
}
