//! 3x3 convolutions of stride 1 by Winograd's F(4x4, 3x3): a quarter of the multiplications, for four times the weights;
//! small images by F(2x2, 3x3): four ninths of the multiplications, for less than twice the weights. With a dilation of
//! `d`, the pixels of a tile are those of every `d`th row and column.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

use super::gemm::{Epilogue, PanelShape, Product, Split, part};
use super::isa::Isa;
use super::linear::Even;
use super::microkernel::{Kernels, MAX_POINTS, WinogradInput, WinogradOutput, winograd_weight};
use super::pack::{Floats, WeightRows};
use super::shared::Shared;
use crate::device::pool::Pool;
use crate::error::Result;
use crate::graph::op::Fused;
use crate::graph::step::ConvStep;

/// The channels must be a multiple of this: every instruction set's vectors divide it.
const CHANNELS: usize = 16;

/// With fewer tiles, reading the larger weights costs more than the multiplications saved.
const FEWEST_TILES: usize = 40;

/// At most so many products are summed in registers, unless there are thousands: what the transform does to the rounding of
/// long sums is more than for direct products.
const SUM: usize = 256;

/// The bytes of transformed numbers that are on the way at once.
const CHUNK_BYTES: usize = 2 << 20;

/// Tiles of `side` by `side` outputs.
#[derive(Debug)]
pub(super) struct Winograd {
    side: usize,
    /// The rows and columns of tiles of one image, and the tiles of all images.
    grid: [usize; 2],
    total: usize,
    /// The tiles that are transformed, multiplied and transformed back at once.
    chunk: usize,
    zeros: Vec<f32>,
}

/// The outputs along a side of a tile with which a convolution is faster this way, the fastest first.
pub(super) fn sides(step: &ConvStep) -> impl Iterator<Item = usize> {
    let fits = step.kernel == [3, 3]
        && step.stride == [1, 1]
        && step.groups == 1
        && step.c_in.is_multiple_of(CHANNELS)
        && step.c_out.is_multiple_of(CHANNELS)
        && step.c_in.min(step.c_out) >= 2 * CHANNELS;
    // What lies outside the image is computed too: at most so much of the multiplications may be left.
    let saves = move |&(side, part): &(usize, f64)| {
        fits && tiles(step, side) >= FEWEST_TILES && cost(step, side) as f64 <= part * plain_cost(step) as f64
    };
    [(4, 0.44), (2, 0.6)].into_iter().filter(saves).map(|(side, _)| side)
}

/// The multiplications of each weight.
pub(super) fn cost(step: &ConvStep, side: usize) -> usize {
    tiles(step, side) * points(side)
}

/// The same the direct way.
pub(super) fn plain_cost(step: &ConvStep) -> usize {
    9 * step.batch * step.output[0] * step.output[1]
}

/// The products of one tile.
pub(super) fn points(side: usize) -> usize {
    (side + 2) * (side + 2)
}

/// Every `d`th row makes an image of its own, for a dilation of `d`; those of fewer rows than the first have as many tiles.
fn grid(step: &ConvStep, side: usize) -> [usize; 2] {
    [0, 1].map(|axis| step.dilation[axis] * step.output[axis].div_ceil(step.dilation[axis]).div_ceil(side))
}

/// The tiles of all images.
fn tiles(step: &ConvStep, side: usize) -> usize {
    step.batch * grid(step, side).iter().product::<usize>()
}

/// Packs the transformed weights: the panels of each of a tile's products. Nothing when not all weights are finite, since
/// transformed infinities become NaN.
pub(super) fn pack(
    rows: &WeightRows<'_>,
    step: &ConvStep,
    side: usize,
    kernels: &Kernels,
    scale: Option<&[f32]>,
    pool: &Pool,
) -> Result<Option<Floats>> {
    let shape = PanelShape::new(step.c_in, step.c_out, kernels);
    let count = points(side);
    let mut packed = Floats::zeros(count * shape.len())?;
    let target = Shared::new(packed.as_mut_slice());
    let is_finite = AtomicBool::new(true);
    pool.run(shape.count(), |panel| {
        let (width, valid, first) = (shape.width(panel), shape.valid(panel), panel * shape.columns);
        let weights = rows.get(first..first + valid);
        let mut points = vec![0.0; count * width];
        let mut rest = 0.0;
        for channel in 0..step.c_in {
            for lane in 0..valid {
                let at = (lane * step.c_in + channel) * 9;
                let scale = scale.map_or(1.0, |scale| scale[first + lane]);
                let weight: [f32; 9] = std::array::from_fn(|tap| weights[at + tap] * scale);
                rest += weight.iter().sum::<f32>() * 0.0;
                let weight = winograd_weight(weight, side);
                for (point, x) in weight[..count].iter().enumerate() {
                    points[point * width + lane] = *x;
                }
            }
            for (point, points) in points.chunks_exact(width).enumerate() {
                let at = point * shape.len() + shape.start(panel) + channel * width;
                // SAFETY: every panel belongs to one task.
                unsafe { target.slice(at..at + width) }.copy_from_slice(points);
            }
        }
        if rest != 0.0 {
            is_finite.store(false, Ordering::Relaxed);
        }
    });
    Ok(is_finite.into_inner().then_some(packed))
}

/// One run.
pub(super) struct Run<'a> {
    pub(super) step: &'a ConvStep,
    winograd: &'a Winograd,
    pub(super) kernels: &'static Kernels,
    pub(super) weights: &'a [f32],
    pub(super) epilogue: Epilogue<'a>,
    pub(super) x: &'a [f32],
    pub(super) out: Shared<'a>,
    /// `[points][chunk][c_in]` and `[points][chunk][c_out]`, with gaps.
    inputs: Shared<'a>,
    sums: Shared<'a>,
}

impl Winograd {
    pub(super) fn new(step: &ConvStep, side: usize) -> Self {
        let total = tiles(step, side);
        let fit = CHUNK_BYTES / (points(side) * 4 * (step.c_in + step.c_out));
        let chunks = total.div_ceil(fit.max(FEWEST_TILES)).max(1);
        let chunk = total.div_ceil(chunks);
        Self { side, grid: grid(step, side), total, chunk, zeros: vec![0.0; step.c_in] }
    }

    /// Elements from one tile to the next, and from one of the products to the next. Neither is a multiple of a
    /// page, so that tiles and products do not push each other out of the cache.
    fn strides(&self, channels: usize) -> [usize; 2] {
        let tile = channels + CHANNELS;
        [tile, self.chunk * tile + CHANNELS]
    }

    /// The elements of scratch memory that a run needs.
    pub(super) fn scratch_len(&self, step: &ConvStep) -> usize {
        points(self.side) * (self.strides(step.c_in)[1] + self.strides(step.c_out)[1])
    }

    #[allow(clippy::too_many_arguments, reason = "the operands of a convolution")]
    pub(super) fn run(
        &self,
        step: &ConvStep,
        isa: Isa,
        weights: &[f32],
        x: &[f32],
        epilogue: Epilogue<'_>,
        out: &mut [f32],
        scratch: &mut [f32],
        pool: &Pool,
    ) {
        let (inputs, sums) = scratch.split_at_mut(points(self.side) * self.strides(step.c_in)[1]);
        let (out, inputs, sums) = (Shared::new(out), Shared::new(inputs), Shared::new(sums));
        let run = Run { step, winograd: self, kernels: isa.kernels(), weights, epilogue, x, out, inputs, sums };
        let points = points(self.side);
        for first in (0..self.total).step_by(self.chunk) {
            let tiles = first..(first + self.chunk).min(self.total);
            let tasks = ((tiles.len() * points * step.c_in) >> 14).clamp(1, 4 * pool.threads()).min(tiles.len());
            pool.run(tasks, |task| run.transform_inputs(&tiles, part(tiles.len(), task, tasks)));
            run.multiply(tiles.len(), pool);
            let tasks = ((tiles.len() * points * step.c_out) >> 14).clamp(1, 4 * pool.threads()).min(tiles.len());
            pool.run(tasks, |task| run.transform_sums(&tiles, part(tiles.len(), task, tasks)));
        }
    }
}

impl Run<'_> {
    /// The image, and the row and column of its first output, of a tile. That may lie outside the image.
    fn corner(&self, tile: usize) -> [usize; 3] {
        let Winograd { side, grid: [rows, columns], .. } = *self.winograd;
        let first = |at: usize, dilation: usize| at / dilation * side * dilation + at % dilation;
        let [dy, dx] = self.step.dilation;
        [tile / (rows * columns), first(tile / columns % rows, dy), first(tile % columns, dx)]
    }

    /// The products of a tile.
    fn points(&self) -> usize {
        points(self.winograd.side)
    }

    /// The outputs along a side of a tile.
    pub(super) fn side(&self) -> usize {
        self.winograd.side
    }

    fn transform_inputs(&self, chunk: &Range<usize>, tiles: Range<usize>) {
        let step = self.step;
        let [height, width] = step.input;
        let [stride, plane] = self.winograd.strides(step.c_in);
        let (n, points) = (self.winograd.side + 2, self.points());
        for tile in tiles {
            let [image, top, left] = self.corner(chunk.start + tile);
            let mut pixels = [self.winograd.zeros.as_ptr(); MAX_POINTS];
            for (at, pixel) in pixels[..points].iter_mut().enumerate() {
                // A position above or left of the image wraps around and is not below its size either.
                let row = (top + at / n * step.dilation[0]).wrapping_sub(step.padding[0]);
                let column = (left + at % n * step.dilation[1]).wrapping_sub(step.padding[1]);
                if row < height && column < width {
                    let at = ((image * height + row) * width + column) * step.c_in;
                    *pixel = self.x[at..at + step.c_in].as_ptr();
                }
            }
            assert!(self.inputs.len() >= (points - 1) * plane + tile * stride + step.c_in);
            let flag = tile * stride + step.c_in;
            let tile = WinogradInput { pixels, channels: step.c_in, out: self.inputs.at(tile * stride), plane };
            // SAFETY: the pixels were sliced, the results of this tile lie inside the scratch memory and belong to
            // this task, the channels are whole vectors, and the kernels are those of this machine.
            let is_finite = unsafe { self.kernels.winograd_input[self.winograd.side / 2 - 1](&tile) };
            // SAFETY: the gap after this tile's first results belongs to this task, too.
            let gap = unsafe { self.inputs.slice(flag..flag + 1) };
            gap[0] = f32::from(u8::from(!is_finite));
        }
    }

    fn multiply(&self, tiles: usize, pool: &Pool) {
        let (step, kernels) = (self.step, self.kernels);
        let shape = PanelShape::new(step.c_in, step.c_out, kernels);
        // The channels are a multiple of 16, so that these divide them.
        let parts = step.c_in.div_ceil(SUM).next_power_of_two().min(CHANNELS);
        let blocks = tiles.div_ceil(kernels.rows());
        let split = Split::new(blocks, shape, kernels.rows(), self.points(), pool.threads());
        let [stride, plane] = self.winograd.strides(step.c_in);
        let [out_stride, out_plane] = self.winograd.strides(step.c_out);
        pool.run(self.points() * split.tasks(), |task| {
            let (point, task) = (task / split.tasks(), task % split.tasks());
            let (blocks, panels) = split.ranges(task, blocks, shape.count());
            // SAFETY: nobody writes the transformed inputs in this phase.
            let data = unsafe { self.inputs.read(point * plane..(point + 1) * plane) };
            let product = Product {
                kernels,
                rows: &Even { data, stride, run: step.c_in / parts },
                m: tiles,
                taps: parts,
                k: step.c_in / parts,
                parts,
                shape,
                panels: &self.weights[point * shape.len() + shape.start(panels.start)..],
                out: self.sums,
                start: point * out_plane,
                stride: out_stride,
                column: 0,
                epilogue: Epilogue { isa: kernels.isa, fused: Fused::default(), bias: None, residual: None },
            };
            product.compute(blocks, panels);
        });
    }

    fn transform_sums(&self, chunk: &Range<usize>, tiles: Range<usize>) {
        let step = self.step;
        let ([height, width], [dy, dx]) = (step.output, step.dilation);
        let [stride, plane] = self.winograd.strides(step.c_out);
        let [stride_in, _] = self.winograd.strides(step.c_in);
        for tile in tiles {
            let [image, top, left] = self.corner(chunk.start + tile);
            let side = self.winograd.side;
            let size = [(height, top, dy), (width, left, dx)]
                .map(|(size, first, dilation)| size.saturating_sub(first).div_ceil(dilation).min(side));
            if size.contains(&0) {
                continue;
            }
            let flag = tile * stride_in + step.c_in;
            // SAFETY: nobody writes the transformed inputs in this phase.
            if unsafe { self.inputs.read(flag..flag + 1) }[0] != 0.0 {
                self.compute_directly([image, top, left], size);
                continue;
            }
            let at = ((image * height + top) * width + left) * step.c_out;
            let strides = [dy * width * step.c_out, dx * step.c_out];
            assert!(at + (size[0] - 1) * strides[0] + (size[1] - 1) * strides[1] + step.c_out <= self.out.len());
            assert!(self.sums.len() >= (self.points() - 1) * plane + tile * stride + step.c_out);
            let output = WinogradOutput {
                sums: self.sums.at(tile * stride),
                plane,
                channels: step.c_out,
                out: self.out.at(at),
                strides,
                size,
                finish: self.epilogue.finish(at, 0, true, true),
            };
            // SAFETY: the sums and the pixels of this tile exist, as asserted, bias and residual are as long as `run`
            // of the convolution checked, the channels are whole vectors, the kernels are those of this machine.
            unsafe { self.kernels.winograd_output[self.winograd.side / 2 - 1](&output) };
            if self.epilogue.has_rest() {
                for pixel in 0..size[0] * size[1] {
                    let at = at + pixel / size[1] * strides[0] + pixel % size[1] * strides[1];
                    // SAFETY: this pixel belongs to this task.
                    let y = unsafe { self.out.slice(at..at + step.c_out) };
                    self.epilogue.rest(y, at);
                }
            }
        }
    }
}
