//! Reductions, softmax and layer norm: kernels that go along one dimension.

use super::Engine;
use super::isa::simd;
use super::math;
use super::shared::Shared;
use crate::graph::op::Reduce;

/// The accumulators of a sum along a row: enough for the additions not to wait for each other.
const LANES: usize = 64;
/// What is left of a row is taken in parts of so many: as many as the longest vector has.
const VECTOR: usize = 16;
/// The columns that are reduced side by side when the dimension is not the innermost one.
const COLUMNS: usize = 64;
/// The rows of columns that are summed up before the sum is added to the others: rounding errors stay small.
const SUM_ROWS: usize = 256;
/// The elements that are worth a task of their own.
const TASK: usize = 16 << 10;

/// The sizes `[outer, len, inner]` of a kernel along the middle one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lines {
    pub(crate) outer: usize,
    pub(crate) len: usize,
    pub(crate) inner: usize,
}

impl Lines {
    /// Runs `row(o)` for every outer index when the dimension is the innermost, else `columns(o, first, count)` for
    /// every outer index and group of columns.
    fn run(&self, engine: &Engine, row: impl Fn(usize) + Sync, columns: impl Fn(usize, usize, usize) + Sync) {
        let groups = self.inner.div_ceil(COLUMNS);
        let units = self.outer * groups;
        let work = self.outer * self.len.max(1) * self.inner;
        let tasks = (work / TASK).clamp(1, engine.pool.threads() * 4).min(units.max(1));
        engine.pool.run(tasks, |task| {
            for unit in task * units / tasks..(task + 1) * units / tasks {
                if self.inner == 1 {
                    row(unit);
                } else {
                    let first = unit % groups * COLUMNS;
                    columns(unit / groups, first, COLUMNS.min(self.inner - first));
                }
            }
        });
    }
}

/// Reduces `x [outer, len, inner]` to `out [outer, inner]`.
pub(crate) fn reduce(engine: &Engine, kind: Reduce, lines: Lines, x: &[f32], out: &mut [f32]) {
    let Lines { len, inner, .. } = lines;
    let out = Shared::new(out);
    lines.run(
        engine,
        |o| {
            // SAFETY: every unit of work has its own part of the output.
            let out = unsafe { out.slice(o..o + 1) };
            out[0] = reduce_row(engine.isa, kind, &x[o * len..(o + 1) * len]);
        },
        |o, first, count| {
            let at = o * inner + first;
            // SAFETY: as above.
            let out = unsafe { out.slice(at..at + count) };
            reduce_columns(engine.isa, kind, &x[o * len * inner + first..], len, inner, out);
        },
    );
}

/// Softmax of `x [outer, len, inner]` along the middle.
pub(crate) fn softmax(engine: &Engine, log: bool, lines: Lines, x: &[f32], out: &mut [f32]) {
    let Lines { len, inner, .. } = lines;
    let out = Shared::new(out);
    lines.run(
        engine,
        |o| {
            let row = o * len..(o + 1) * len;
            // SAFETY: every unit of work has its own part of the output.
            let out = unsafe { out.slice(row.clone()) };
            softmax_row(engine.isa, log, &x[row], out);
        },
        |o, first, count| {
            let at = o * len * inner + first;
            softmax_columns(engine.isa, log, &x[at..], len, inner, count, out, at);
        },
    );
}

/// The running sums of `x [outer, len, inner]` along the middle, in double precision as PyTorch's on the CPU.
pub(crate) fn cumsum(engine: &Engine, lines: Lines, x: &[f32], out: &mut [f32]) {
    let Lines { len, inner, .. } = lines;
    let out = Shared::new(out);
    let column = |o: usize, column: usize| {
        let mut sum = 0.0;
        for at in (0..len).map(|l| (o * len + l) * inner + column) {
            sum += f64::from(x[at]);
            // SAFETY: every unit of work has its own rows and columns of the output.
            let y = unsafe { out.slice(at..at + 1) };
            y[0] = sum as f32;
        }
    };
    lines.run(engine, |o| column(o, 0), |o, first, count| (first..first + count).for_each(|i| column(o, i)));
}

/// Normalises rows, then `* weight + bias` when they are given.
pub(crate) fn layer_norm(
    engine: &Engine,
    len: usize,
    eps: f32,
    x: &[f32],
    affine: Option<(&[f32], &[f32])>,
    out: &mut [f32],
) {
    let lines = Lines { outer: out.len().checked_div(len).unwrap_or(0), len, inner: 1 };
    let out = Shared::new(out);
    let row = |o: usize| {
        let row = o * len..(o + 1) * len;
        // SAFETY: every row has its own part of the output.
        let out = unsafe { out.slice(row.clone()) };
        layer_norm_row(engine.isa, eps, &x[row], affine, out);
    };
    lines.run(engine, row, |_, _, _| unreachable!("rows are innermost"));
}

/// Folds the elements into `LANES` accumulators.
#[inline(always)]
fn fold(x: &[f32], start: f32, f: impl Fn(f32, f32) -> f32) -> [f32; LANES] {
    let mut lanes = [start; LANES];
    let mut chunks = x.chunks_exact(LANES);
    for chunk in &mut chunks {
        for i in 0..LANES {
            lanes[i] = f(lanes[i], chunk[i]);
        }
    }
    let mut chunks = chunks.remainder().chunks_exact(VECTOR);
    for chunk in &mut chunks {
        for i in 0..VECTOR {
            lanes[i] = f(lanes[i], chunk[i]);
        }
    }
    for (lane, x) in lanes.iter_mut().zip(chunks.remainder()) {
        *lane = f(*lane, *x);
    }
    lanes
}

/// `x = exp(x - max)`; gives their sum.
#[inline(always)]
fn exp_in_place<L: super::isa::Level>(x: &mut [f32], max: f32) -> f32 {
    #[inline(always)]
    fn step<L: super::isa::Level>(x: &mut [f32], lanes: &mut [f32], max: f32, count: usize) {
        let (x, lanes) = (&mut x[..count], &mut lanes[..count]);
        for i in 0..count {
            x[i] = math::exp_negative::<L>(x[i] - max);
            lanes[i] += x[i];
        }
    }
    let mut lanes = [0.0; LANES];
    let mut chunks = x.chunks_exact_mut(LANES);
    for chunk in &mut chunks {
        step::<L>(chunk, &mut lanes, max, LANES);
    }
    let mut chunks = chunks.into_remainder().chunks_exact_mut(VECTOR);
    for chunk in &mut chunks {
        step::<L>(chunk, &mut lanes, max, VECTOR);
    }
    let rest = chunks.into_remainder();
    if !rest.is_empty() {
        // A whole vector, whose other elements become zeros.
        let mut last = [f32::NEG_INFINITY; VECTOR];
        last[..rest.len()].copy_from_slice(rest);
        step::<L>(&mut last, &mut lanes, max, VECTOR);
        rest.copy_from_slice(&last[..rest.len()]);
    }
    collect(lanes, add)
}

/// One number from all lanes, by halves.
#[inline(always)]
fn collect(mut lanes: [f32; LANES], f: impl Fn(f32, f32) -> f32) -> f32 {
    let mut half = LANES / 2;
    while half > 0 {
        for i in 0..half {
            lanes[i] = f(lanes[i], lanes[i + half]);
        }
        half /= 2;
    }
    lanes[0]
}

#[inline(always)]
fn add(a: f32, b: f32) -> f32 {
    a + b
}

#[inline(always)]
fn largest(x: &[f32]) -> f32 {
    collect(fold(x, f32::NEG_INFINITY, math::maximum), math::maximum)
}

simd! {
    fn reduce_row<L>(kind: Reduce, x: &[f32]) -> f32 {
        match kind {
            Reduce::Max => largest(x),
            Reduce::Sum => collect(fold(x, 0.0, add), add),
            Reduce::Mean => collect(fold(x, 0.0, add), add) / x.len() as f32,
        }
    }

    /// Reduces columns, `inner` elements from row to row, to as many as `out` has.
    fn reduce_columns<L>(kind: Reduce, x: &[f32], len: usize, inner: usize, out: &mut [f32]) {
        let count = out.len();
        if kind == Reduce::Max {
            out.fill(f32::NEG_INFINITY);
            for l in 0..len {
                for (out, x) in out.iter_mut().zip(&x[l * inner..l * inner + count]) {
                    *out = math::maximum(*out, *x);
                }
            }
            return;
        }
        out.fill(0.0);
        for from in (0..len).step_by(SUM_ROWS) {
            let mut sums = [0.0; COLUMNS];
            let sums = &mut sums[..count];
            for l in from..(from + SUM_ROWS).min(len) {
                for (sum, x) in sums.iter_mut().zip(&x[l * inner..l * inner + count]) {
                    *sum += x;
                }
            }
            for (out, sum) in out.iter_mut().zip(sums) {
                *out += *sum;
            }
        }
        if kind == Reduce::Mean {
            for out in out {
                *out /= len as f32;
            }
        }
    }

    fn softmax_row<L>(log: bool, x: &[f32], out: &mut [f32]) {
        let max = largest(x);
        out.copy_from_slice(x);
        let sum = exp_in_place::<L>(out, max);
        if log {
            let log_sum = sum.ln();
            for (out, x) in out.iter_mut().zip(x) {
                *out = x - max - log_sum;
            }
        } else {
            let factor = 1.0 / sum;
            for out in out {
                *out *= factor;
            }
        }
    }

    fn softmax_columns<L>(
        log: bool,
        x: &[f32],
        len: usize,
        inner: usize,
        count: usize,
        out: Shared<'_>,
        start: usize,
    ) {
        let (mut max, mut sum) = ([f32::NEG_INFINITY; COLUMNS], [0.0; COLUMNS]);
        let (max, sum) = (&mut max[..count], &mut sum[..count]);
        for l in 0..len {
            for (max, x) in max.iter_mut().zip(&x[l * inner..l * inner + count]) {
                *max = math::maximum(*max, *x);
            }
        }
        for l in 0..len {
            let at = start + l * inner;
            // SAFETY: these columns belong to this call.
            let out = unsafe { out.slice(at..at + count) };
            let x = &x[l * inner..l * inner + count];
            for i in 0..count {
                out[i] = math::exp_negative::<L>(x[i] - max[i]);
                sum[i] += out[i];
            }
        }
        for sum in &mut *sum {
            *sum = if log { sum.ln() } else { 1.0 / *sum };
        }
        for l in 0..len {
            let at = start + l * inner;
            // SAFETY: as above.
            let out = unsafe { out.slice(at..at + count) };
            let x = &x[l * inner..l * inner + count];
            for i in 0..count {
                out[i] = if log { x[i] - max[i] - sum[i] } else { out[i] * sum[i] };
            }
        }
    }

    fn layer_norm_row<L>(eps: f32, x: &[f32], affine: Option<(&[f32], &[f32])>, out: &mut [f32]) {
        let len = x.len() as f32;
        // Differences to the first number, so that rows which hardly vary lose nothing to the size of their mean.
        let first = x.first().copied().unwrap_or(0.0);
        let mean = collect(fold(x, 0.0, |sum, x| sum + (x - first)), add) / len;
        let difference = |x: f32| (x - first) - mean;
        let squares = fold(x, 0.0, |sum, x| L::mul_add(difference(x), difference(x), sum));
        let factor = 1.0 / (collect(squares, add) / len + eps).sqrt();
        match affine {
            Some((weight, bias)) => {
                for (((out, x), weight), bias) in out.iter_mut().zip(x).zip(weight).zip(bias) {
                    *out = L::mul_add(difference(*x) * factor, *weight, *bias);
                }
            }
            None => {
                for (out, x) in out.iter_mut().zip(x) {
                    *out = difference(*x) * factor;
                }
            }
        }
    }

    /// `x = exp(x - max)`; gives their sum.
    pub(crate) fn exp_sum<L>(x: &mut [f32], max: f32) -> f32 {
        exp_in_place::<L>(x, max)
    }

    /// `x = x * scale`; gives the largest.
    pub(crate) fn scale_max<L>(x: &mut [f32], scale: f32) -> f32 {
        x.iter_mut().for_each(|x| *x *= scale);
        largest(x)
    }

    /// `x = x * scale + mask`; gives the largest.
    pub(crate) fn scale_mask_max<L>(x: &mut [f32], scale: f32, mask: &[f32]) -> f32 {
        for (x, mask) in x.iter_mut().zip(mask) {
            *x = L::mul_add(*x, scale, *mask);
        }
        largest(x)
    }
}
