//! Convolutions over NHWC images: an implicit matrix product whose rows are runs of the image, and the depthwise ones.

use std::ops::Range;

use super::gemm::{Epilogue, POINTERS, PanelShape, Product, Rows, Split, chunks, part};
use super::isa::Isa;
use super::microkernel::{DepthTile, Kernels};
use super::pack::{Floats, WeightRows, WeightSource, pack_depthwise, pack_panels};
use super::shared::Shared;
use super::winograd::{self, Winograd};
use crate::device::pool::Pool;
use crate::error::Result;
use crate::graph::step::ConvStep;

/// With fewer channels than this, and zeros at the sides, the image is copied with its zeros so that a row of the
/// kernel is one run.
const COPY_CHANNELS: usize = 16;

/// The weights of a convolution, packed for an instruction set; they serve every size of image.
#[derive(Debug)]
pub(crate) struct ConvWeights {
    packed: Floats,
    isa: Isa,
    method: Method,
}

/// What the channels of [`Method::Grouped`] are a multiple of: every instruction set's vectors divide it.
const GROUPED_CHANNELS: usize = 16;

/// The most rows of a tile, of any kernel.
const MAX_ROWS: usize = 16;

/// How a convolution is computed, which decides how its weights are packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Method {
    /// As a matrix product of the image's runs.
    Direct,
    /// One input channel and one output channel a group.
    Depthwise,
    /// Two, four or eight of both a group.
    Grouped(usize),
    /// By fewer multiplications of transformed images, in tiles of so many outputs along a side.
    Winograd(usize),
}

impl Method {
    /// The fastest one, on every instruction set. Its weights may be larger than those of the file.
    #[cfg(test)]
    pub(crate) fn of(step: &ConvStep) -> Self {
        winograd::sides(step).next().map_or_else(|| Self::plain(step), Method::Winograd)
    }

    /// The fastest one of those whose weights are as large as those of the file, and soon packed.
    pub(crate) fn plain(step: &ConvStep) -> Self {
        if step.groups == step.c_in && step.c_out == step.c_in && step.groups > 1 {
            Method::Depthwise
        } else if step.groups > 1
            && step.c_out == step.c_in
            && step.c_in.is_multiple_of(GROUPED_CHANNELS)
            && [2, 4, 8].contains(&(step.c_in / step.groups))
        {
            Method::Grouped(step.c_in / step.groups)
        } else {
            Method::Direct
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Method::Direct => "direct",
            Method::Depthwise => "depthwise",
            Method::Grouped(_) => "grouped",
            Method::Winograd(2) => "winograd 2x2",
            Method::Winograd(_) => "winograd 4x4",
        }
    }
}

impl ConvWeights {
    /// The bytes that it holds.
    pub(crate) fn bytes(&self) -> usize {
        size_of_val(self.packed.as_slice())
    }

    /// How the weights are packed.
    pub(crate) fn method(&self) -> Method {
        self.method
    }

    /// Packs `weight * scale` for a method, or for another one if there are numbers that this one makes others of.
    ///
    /// # Errors
    /// When the weight's dtype does not run or there is no memory for it.
    pub(crate) fn new(
        step: &ConvStep,
        method: Method,
        weight: WeightSource<'_>,
        scale: Option<&[f32]>,
        isa: Isa,
        pool: &Pool,
    ) -> Result<Self> {
        let kernels = isa.kernels();
        let taps = step.kernel[0] * step.kernel[1];
        let k = step.c_in / step.groups * taps;
        let rows = WeightRows::new(weight, step.c_out, k)?;
        let direct = || {
            let shape = PanelShape::new(k, step.c_out / step.groups, kernels);
            pack_panels(&rows, step.groups, shape, taps, scale, pool)
        };
        let packed = match method {
            Method::Depthwise => {
                pack_depthwise(&rows, step.c_out, [1, taps], step.c_out.next_multiple_of(kernels.lanes), scale)?
            }
            Method::Grouped(group) => pack_depthwise(&rows, step.c_out, [group, taps], step.c_out, scale)?,
            Method::Winograd(side) => match winograd::pack(&rows, step, side, kernels, scale, pool)? {
                Some(packed) => packed,
                None => return Ok(Self { packed: direct()?, isa, method: Method::Direct }),
            },
            Method::Direct => direct()?,
        };
        Ok(Self { packed, isa, method })
    }

    #[cfg(test)]
    pub(super) fn packed(&self) -> &[f32] {
        self.packed.as_slice()
    }
}

/// A convolution of one size of image, ready to run with [`ConvWeights`] of the same instruction set.
#[derive(Debug)]
pub(crate) struct Conv {
    step: ConvStep,
    isa: Isa,
    method: Method,
    winograd: Option<Winograd>,
    image: Image,
    /// The kernel's rows and columns are runs of `run` numbers.
    taps: [usize; 2],
    /// Where each tap's run lies from that of the first.
    offsets: Vec<usize>,
    run: usize,
    /// Whether the rows of the product are the pixels of the image, one after the other.
    is_matrix: bool,
    /// What a run outside the image reads.
    zeros: Vec<f32>,
}

/// The image as the kernels see it.
#[derive(Debug)]
struct Image {
    size: [usize; 2],
    padding: [usize; 2],
    /// Zeros are copied to the left and to the right of every row first.
    is_copied: bool,
}

impl Conv {
    pub(crate) fn new(step: &ConvStep, method: Method, isa: Isa) -> Self {
        let [_, width] = step.input;
        let [kh, kw] = step.kernel;
        let span = (step.output[1].max(1) - 1) * step.stride[1] + (kw - 1) * step.dilation[1] + 1;
        let is_padded = step.padding[1] > 0 || span > width;
        let mergeable = step.groups == 1 && step.dilation[1] == 1 && kw > 1;
        let is_copied = mergeable && is_padded && step.c_in < COPY_CHANNELS;
        let image = if is_copied {
            let width = (step.padding[1] + width).max(span);
            Image { size: [step.input[0], width], padding: [step.padding[0], 0], is_copied }
        } else {
            Image { size: step.input, padding: step.padding, is_copied }
        };
        let channels = step.c_in / step.groups;
        let (taps, run) =
            if mergeable && (is_copied || !is_padded) { ([kh, 1], kw * channels) } else { ([kh, kw], channels) };
        let is_product = matches!(method, Method::Direct | Method::Winograd(_));
        let zeros = vec![0.0; if is_product { run } else { step.c_in }];
        let winograd = match method {
            Method::Winograd(side) => Some(Winograd::new(step, side)),
            _ => None,
        };
        let offset = |tap: usize| {
            let (i, j) = (tap / taps[1], tap % taps[1]);
            (i * step.dilation[0] * image.size[1] + j * step.dilation[1]) * step.c_in
        };
        let offsets = (0..taps[0] * taps[1]).map(offset).collect();
        let is_matrix =
            step.kernel == [1, 1] && step.stride == [1, 1] && step.padding == [0, 0] && step.input == step.output;
        Self { step: step.clone(), isa, method, winograd, image, taps, offsets, run, is_matrix, zeros }
    }

    pub(crate) fn method(&self) -> Method {
        self.method
    }

    /// The elements of scratch memory that a run needs.
    pub(crate) fn scratch_len(&self) -> usize {
        if let Some(winograd) = &self.winograd {
            return winograd.scratch_len(&self.step);
        }
        match self.image.is_copied {
            true => self.step.batch * self.image.size[0] * self.image.size[1] * self.step.c_in,
            false => 0,
        }
    }

    /// `x` is NHWC; `out` becomes NHWC. The operands are those that `fused` of the step names.
    pub(crate) fn run(
        &self,
        weights: &ConvWeights,
        x: &[f32],
        bias: Option<&[f32]>,
        residual: Option<&[f32]>,
        out: &mut [f32],
        scratch: &mut [f32],
        pool: &Pool,
    ) {
        let step = &self.step;
        assert_eq!((self.isa, self.method), (weights.isa, weights.method), "weights packed for another kernel");
        assert_eq!(x.len(), step.batch * step.input[0] * step.input[1] * step.c_in);
        assert_eq!(out.len(), step.batch * step.output[0] * step.output[1] * step.c_out);
        assert!(bias.is_none_or(|bias| bias.len() == step.c_out));
        assert!(residual.is_none_or(|residual| residual.len() == out.len()));
        if out.is_empty() {
            return;
        }
        let kernels = self.isa.kernels();
        let epilogue = Epilogue { isa: self.isa, fused: step.fused, bias, residual };
        if let Some(winograd) = &self.winograd {
            return winograd.run(step, self.isa, weights.packed.as_slice(), x, epilogue, out, scratch, pool);
        }
        let image = if self.image.is_copied {
            let scratch = &mut scratch[..self.scratch_len()];
            self.copy(x, scratch, pool);
            &*scratch
        } else {
            x
        };
        match self.method {
            Method::Depthwise | Method::Grouped(_) => {
                self.run_depthwise(kernels, weights, image, epilogue, out, pool);
            }
            _ => self.run_product(kernels, weights, image, epilogue, out, pool),
        }
    }

    /// Copies the image's rows with their zeros.
    fn copy(&self, x: &[f32], padded: &mut [f32], pool: &Pool) {
        let (from, to) = (self.step.input[1] * self.step.c_in, self.image.size[1] * self.step.c_in);
        let left = self.step.padding[1] * self.step.c_in;
        let rows = padded.len() / to;
        let padded = Shared::new(padded);
        let tasks = (rows * to / (16 << 10)).clamp(1, 4 * pool.threads());
        pool.run(tasks, |task| {
            for row in part(rows, task, tasks) {
                // SAFETY: every row belongs to one task.
                let target = unsafe { padded.slice(row * to..(row + 1) * to) };
                target[..left].fill(0.0);
                target[left..left + from].copy_from_slice(&x[row * from..(row + 1) * from]);
                target[left + from..].fill(0.0);
            }
        });
    }

    fn run_product(
        &self,
        kernels: &'static Kernels,
        weights: &ConvWeights,
        image: &[f32],
        epilogue: Epilogue<'_>,
        out: &mut [f32],
        pool: &Pool,
    ) {
        let step = &self.step;
        let m = step.batch * step.output[0] * step.output[1];
        let taps = self.taps[0] * self.taps[1];
        let shape = PanelShape::new(taps * self.run, step.c_out / step.groups, kernels);
        let tiles = m.div_ceil(kernels.rows());
        let split = Split::new(tiles, shape, kernels.rows(), step.groups, pool.threads());
        let out = Shared::new(out);
        let packed = weights.packed.as_slice();
        pool.run(step.groups * split.tasks(), |task| {
            let (group, task) = (task / split.tasks(), task % split.tasks());
            let (tiles, panels) = split.ranges(task, tiles, shape.count());
            let rows = Pixels { conv: self, image: &image[group * (step.c_in / step.groups)..] };
            let product = Product {
                kernels,
                rows: &rows,
                m,
                taps,
                k: self.run,
                parts: chunks(taps * self.run),
                shape,
                panels: &packed[group * shape.len() + shape.start(panels.start)..],
                out,
                start: 0,
                stride: step.c_out,
                column: group * shape.n,
                epilogue,
            };
            product.compute(tiles, panels);
        });
    }

    fn run_depthwise(
        &self,
        kernels: &'static Kernels,
        weights: &ConvWeights,
        image: &[f32],
        epilogue: Epilogue<'_>,
        out: &mut [f32],
        pool: &Pool,
    ) {
        let step = &self.step;
        let m = step.batch * step.output[0] * step.output[1];
        let tiles = m.div_ceil(kernels.depthwise.len());
        let cost = m * self.offsets.len() * step.c_out * (step.c_in / step.groups);
        let tasks = (cost >> 16).clamp(1, 8 * pool.threads()).min(tiles);
        let out = Shared::new(out);
        let rows = Pixels { conv: self, image };
        let weights = weights.packed.as_slice();
        pool.run(tasks, |task| self.depthwise_tiles(kernels, &rows, weights, epilogue, out, part(tiles, task, tasks)));
    }

    fn depthwise_tiles(
        &self,
        kernels: &'static Kernels,
        rows: &Pixels<'_>,
        weights: &[f32],
        epilogue: Epilogue<'_>,
        out: Shared<'_>,
        tiles: Range<usize>,
    ) {
        let channels = self.step.c_out;
        let m = self.step.batch * self.step.output[0] * self.step.output[1];
        let total = m.div_ceil(kernels.depthwise.len());
        let all = self.offsets.len();
        let weight_stride = match self.method {
            Method::Grouped(group) => group * channels,
            _ => channels.next_multiple_of(kernels.lanes),
        };
        let mut pointers = [std::ptr::null(); POINTERS];
        for tile in tiles {
            let pixels = part(m, tile, total);
            let (first, count) = (pixels.start, pixels.len());
            // SAFETY: every tile belongs to one task.
            let target = unsafe { out.slice(first * channels..pixels.end * channels) };
            let step = POINTERS / count;
            for tap in (0..all).step_by(step) {
                let taps = tap..(tap + step).min(all);
                rows.point(first, count, taps.clone(), &mut pointers);
                let tile = DepthTile {
                    rows: pointers.as_ptr(),
                    taps: taps.len(),
                    weights: weights[taps.start * weight_stride..taps.end * weight_stride].as_ptr(),
                    weight_stride,
                    out: target.as_mut_ptr(),
                    stride: channels,
                    channels,
                    accumulate: taps.start > 0,
                    finish: epilogue.finish(first * channels, 0, taps.start == 0, taps.end == all),
                };
                // SAFETY: `point` gives pointers to whole pixels, the weights and the output were sliced to their
                // sizes, bias and residual are as long as `run` checked, and the kernels are those of this machine.
                unsafe {
                    match self.method {
                        Method::Grouped(group) => kernels.grouped[count - 1][group.ilog2() as usize - 1](&tile),
                        _ => kernels.depthwise[count - 1](&tile),
                    }
                }
            }
            if epilogue.has_rest() {
                epilogue.rest(target, first * channels);
            }
        }
    }
}

/// The rows of the product: the output's pixels.
struct Pixels<'a> {
    conv: &'a Conv,
    /// From the group's first channel on.
    image: &'a [f32],
}

impl Pixels<'_> {
    /// Pixels in a row of the output, all of whose taps lie inside the image; the first one's corner is `at`.
    fn point_evenly(&self, at: usize, count: usize, taps: Range<usize>, pointers: &mut [*const f32]) {
        let stride = self.conv.step.stride[1] * self.conv.step.c_in;
        let last = at + (count - 1) * stride + self.conv.offsets[taps.end - 1];
        debug_assert!(last + self.conv.zeros.len() <= self.image.len());
        let corner = self.image[at..].as_ptr();
        for (pointers, offset) in pointers.chunks_exact_mut(count).zip(&self.conv.offsets[taps]) {
            for (i, pointer) in pointers.iter_mut().enumerate() {
                *pointer = corner.wrapping_add(*offset + i * stride);
            }
        }
    }
}

impl Rows for Pixels<'_> {
    fn needed(&self, first: usize, count: usize, taps: Range<usize>) -> Range<usize> {
        let Conv { step, image, taps: [_, kw], is_matrix, .. } = self.conv;
        if *is_matrix || step.padding == [0, 0] {
            return taps;
        }
        let [oh, ow] = step.output;
        let (row, last) = (first / ow, (first + count - 1) / ow);
        // Rows of two images, or columns of two rows: any of them.
        let rows = if row / oh == last / oh { row % oh..last % oh + 1 } else { 0..oh };
        let columns = if row == last { first % ow..first % ow + count } else { 0..ow };
        let reads = |axis: usize, outputs: &Range<usize>, tap: usize| {
            let (offset, stride) = (tap * step.dilation[axis], step.stride[axis]);
            let (padding, size) = (image.padding[axis], image.size[axis]);
            // The first output that does not lie above the image, and whether it lies in it.
            let output = outputs.start.max(padding.saturating_sub(offset).div_ceil(stride));
            output < outputs.end && output * stride + offset - padding < size
        };
        let is_needed = |tap: usize| reads(0, &rows, tap / kw) && reads(1, &columns, tap % kw);
        let mut needed = taps;
        while !needed.is_empty() && !is_needed(needed.start) {
            needed.start += 1;
        }
        while !needed.is_empty() && !is_needed(needed.end - 1) {
            needed.end -= 1;
        }
        needed
    }

    fn point(&self, first: usize, count: usize, taps: Range<usize>, pointers: &mut [*const f32]) {
        let step = &self.conv.step;
        let (Image { size: [height, width], padding, .. }, [kh, kw]) = (&self.conv.image, self.conv.taps);
        let [oh, ow] = step.output;
        let reach = [(kh - 1) * step.dilation[0], (kw - 1) * step.dilation[1]];
        if self.conv.is_matrix {
            return self.point_evenly(first * step.c_in, count, taps, pointers);
        }
        let (row, mut x) = (first / ow, first % ow);
        let (mut n, mut y) = (row / oh, row % oh);
        let inside = |y: usize, x: usize| {
            let (top, left) = (y * step.stride[0], x * step.stride[1]);
            let is_inside = top >= padding[0]
                && left >= padding[1]
                && top - padding[0] + reach[0] < *height
                && left - padding[1] + reach[1] < *width;
            is_inside.then(|| [top - padding[0], left - padding[1]])
        };
        if x + count <= ow
            && let (Some([top, left]), Some(_)) = (inside(y, x), inside(y, x + count - 1))
        {
            return self.point_evenly(((n * height + top) * width + left) * step.c_in, count, taps, pointers);
        }
        let mut corners = [std::ptr::null(); MAX_ROWS];
        let mut outside = 0;
        for (i, corner) in corners[..count].iter_mut().enumerate() {
            let (top, left) = (y * step.stride[0], x * step.stride[1]);
            if let Some([top, left]) = inside(y, x) {
                let at = ((n * height + top) * width + left) * step.c_in;
                debug_assert!(at + self.conv.offsets[taps.end - 1] + self.conv.zeros.len() <= self.image.len());
                *corner = self.image[at..].as_ptr();
            } else {
                outside += 1;
                for (at, tap) in taps.clone().enumerate() {
                    // A position above or left of the image wraps around and is not below its size either.
                    let row = (top + tap / kw * step.dilation[0]).wrapping_sub(padding[0]);
                    let column = (left + tap % kw * step.dilation[1]).wrapping_sub(padding[1]);
                    pointers[at * count + i] = if row < *height && column < *width {
                        self.image[((n * height + row) * width + column) * step.c_in..].as_ptr()
                    } else {
                        self.conv.zeros.as_ptr()
                    };
                }
            }
            x += 1;
            if x == ow {
                (x, y) = (0, y + 1);
                if y == oh {
                    (y, n) = (0, n + 1);
                }
            }
        }
        let corners = &corners[..count];
        for (pointers, offset) in pointers.chunks_exact_mut(count).zip(&self.conv.offsets[taps]) {
            for (pointer, corner) in pointers.iter_mut().zip(corners) {
                // Nearly always all are inside: no branch then.
                if outside == 0 || !corner.is_null() {
                    *pointer = corner.wrapping_add(*offset);
                }
            }
        }
    }
}
