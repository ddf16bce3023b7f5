//! Pooling over NHWC images.

use super::Engine;
use super::isa::simd;
use super::math;
use super::shared::Shared;
use crate::graph::op::PoolKind;
use crate::graph::step::{AdaptivePoolStep, PoolStep};

/// The channels that are kept in registers for a window.
const CHANNELS: usize = 64;
/// The elements read that are worth a task of their own.
const TASK: usize = 32 << 10;

/// A pooling of one size of image, ready to run.
#[derive(Debug)]
pub(crate) struct Pools {
    batch: usize,
    channels: usize,
    input: [usize; 2],
    kind: PoolKind,
    /// Of the output's rows and columns.
    windows: [Vec<Window>; 2],
}

/// What a window covers along one dimension.
#[derive(Clone, Copy, Debug)]
struct Window {
    /// The positions inside the image: `start, start + step, ...`.
    start: usize,
    step: usize,
    count: usize,
    /// How many there are with those in the padding.
    padded: usize,
}

impl Pools {
    pub(crate) fn new(step: &PoolStep) -> Self {
        let windows = |d: usize| {
            let (size, padding, dilation) = (step.input[d], step.padding[d], step.dilation[d]);
            let window = |out: usize| {
                // Positions in the padded image.
                let first = out * step.stride[d];
                let below = |end: usize| end.saturating_sub(first).div_ceil(dilation).min(step.kernel[d]);
                let skipped = below(padding);
                let start = first + skipped * dilation;
                let count = below(padding + size) - skipped;
                let padded = below(2 * padding + size);
                Window { start: start - padding.min(start), step: dilation, count, padded }
            };
            (0..step.output[d]).map(window).collect()
        };
        let windows = [windows(0), windows(1)];
        Self { batch: step.batch, channels: step.channels, input: step.input, kind: step.kind, windows }
    }

    pub(crate) fn adaptive(step: &AdaptivePoolStep) -> Self {
        let windows = |d: usize| {
            let (size, output) = (step.input[d], step.output[d]);
            let window = |i: usize| {
                let start = i * size / output;
                let count = ((i + 1) * size).div_ceil(output) - start;
                Window { start, step: 1, count, padded: count }
            };
            (0..output).map(window).collect()
        };
        let windows = [windows(0), windows(1)];
        Self { batch: step.batch, channels: step.channels, input: step.input, kind: step.kind, windows }
    }

    pub(crate) fn run(&self, engine: &Engine, x: &[f32], out: &mut [f32]) {
        if out.is_empty() {
            return;
        }
        let [height, width] = [self.windows[0].len(), self.windows[1].len()];
        let rows = self.batch * height;
        // Channels are shared out only where there are few rows of output.
        let threads = engine.pool.threads();
        let group = if threads > 1 && rows < 4 * threads { CHANNELS } else { self.channels };
        let groups = self.channels.div_ceil(group);
        let units = rows * groups;
        let tasks = (x.len() / TASK).clamp(1, 4 * threads).min(units);
        let image = self.input[0] * self.input[1] * self.channels;
        let out = Shared::new(out);
        engine.pool.run(tasks, |task| {
            for unit in task * units / tasks..(task + 1) * units / tasks {
                let (row, first) = (unit / groups, unit % groups * group);
                let count = group.min(self.channels - first);
                let x = &x[row / height * image + first..][..image - first];
                for column in 0..width {
                    let at = (row * width + column) * self.channels + first;
                    // SAFETY: every unit has its own rows and channels of the output.
                    let out = unsafe { out.slice(at..at + count) };
                    self.window(engine, x, self.windows[0][row % height], self.windows[1][column], out);
                }
            }
        });
    }

    fn window(&self, engine: &Engine, x: &[f32], ys: Window, xs: Window, out: &mut [f32]) {
        let place = Taps {
            start: (ys.start * self.input[1] + xs.start) * self.channels,
            count: [ys.count, xs.count],
            stride: [ys.step * self.input[1] * self.channels, xs.step * self.channels],
        };
        match self.kind {
            PoolKind::Max => max_window(engine.isa, x, place, out),
            PoolKind::Avg { count_include_pad, divisor } => {
                let count = match count_include_pad {
                    true => ys.padded * xs.padded,
                    false => ys.count * xs.count,
                };
                mean_window(engine.isa, x, place, divisor.unwrap_or(count) as f32, out);
            }
        }
    }
}

/// The pixels of a window: of the first one the start, then the numbers and the strides of rows and columns.
#[derive(Clone, Copy)]
struct Taps {
    start: usize,
    count: [usize; 2],
    stride: [usize; 2],
}

/// Folds the window's pixels, `CHANNELS` channels at a time in registers.
#[inline(always)]
fn fold(x: &[f32], taps: Taps, start: f32, out: &mut [f32], f: impl Fn(f32, f32) -> f32) {
    let pixel = |i: usize, j: usize| taps.start + i * taps.stride[0] + j * taps.stride[1];
    let mut first = 0;
    let mut chunks = out.chunks_exact_mut(CHANNELS);
    for out in &mut chunks {
        let mut lanes = [start; CHANNELS];
        for i in 0..taps.count[0] {
            for j in 0..taps.count[1] {
                let x = &x[pixel(i, j) + first..][..CHANNELS];
                for c in 0..CHANNELS {
                    lanes[c] = f(lanes[c], x[c]);
                }
            }
        }
        out.copy_from_slice(&lanes);
        first += CHANNELS;
    }
    let out = chunks.into_remainder();
    if out.is_empty() {
        return;
    }
    out.fill(start);
    for i in 0..taps.count[0] {
        for j in 0..taps.count[1] {
            for (out, x) in out.iter_mut().zip(&x[pixel(i, j) + first..]) {
                *out = f(*out, *x);
            }
        }
    }
}

simd! {
    fn max_window<L>(x: &[f32], taps: Taps, out: &mut [f32]) {
        fold(x, taps, f32::NEG_INFINITY, out, math::maximum);
    }

    fn mean_window<L>(x: &[f32], taps: Taps, divisor: f32, out: &mut [f32]) {
        fold(x, taps, 0.0, out, |sum, x| sum + x);
        for out in out {
            *out /= divisor;
        }
    }
}
