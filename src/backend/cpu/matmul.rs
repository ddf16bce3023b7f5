//! Products of two computed matrices: the second one is packed on the way.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::gemm::{BLOCK_BYTES, Epilogue, PanelShape, Product, part};
use super::isa::Isa;
use super::linear::Even;
use super::microkernel::Kernels;
use super::shared::Shared;
use crate::device::pool::Pool;
use crate::graph::op::Fused;
use crate::graph::step::MatmulStep;

/// A product of one set of shapes.
#[derive(Debug)]
pub(crate) struct Matmul {
    step: MatmulStep,
    isa: Isa,
    threads: usize,
}

impl Matmul {
    /// `threads` is the number of the pool that will run it: each has scratch memory of its own.
    pub(crate) fn new(step: &MatmulStep, isa: Isa, threads: usize) -> Self {
        Self { step: step.clone(), isa, threads }
    }

    fn entries(&self) -> usize {
        self.step.batch.iter().product()
    }

    /// Rows must be contiguous along k.
    fn copies_a(&self) -> bool {
        self.step.a[1] != 1 && self.step.k > 1
    }

    fn shape(&self, kernels: &Kernels) -> PanelShape {
        PanelShape::new(self.step.k, self.step.n, kernels)
    }

    /// The panels of `b` that a thread packs and uses at once.
    fn block(&self, shape: PanelShape) -> usize {
        (BLOCK_BYTES / (shape.k * shape.columns * 4).max(1)).clamp(1, shape.count().max(1))
    }

    /// The elements of scratch memory that a run needs.
    pub(crate) fn scratch_len(&self) -> usize {
        let shape = self.shape(self.isa.kernels());
        let a = if self.copies_a() { self.entries() * self.step.m * self.step.k } else { 0 };
        a + self.threads * self.block(shape) * shape.columns * shape.k
    }

    /// Where `a` and `b` start in batch entry `entry`.
    fn starts(&self, mut entry: usize) -> (usize, usize) {
        let (mut a, mut b) = (0, 0);
        for (dim, &size) in self.step.batch.iter().enumerate().rev() {
            a += entry % size * self.step.a_batch[dim];
            b += entry % size * self.step.b_batch[dim];
            entry /= size;
        }
        (a, b)
    }

    /// `a` and `b` from their first elements on; `out` becomes `[batch..., m, n]`.
    pub(crate) fn run(&self, a: &[f32], b: &[f32], out: &mut [f32], scratch: &mut [f32], pool: &Pool) {
        let MatmulStep { m, n, k, .. } = self.step;
        assert_eq!(out.len(), self.entries() * m * n);
        if out.is_empty() {
            return;
        }
        if k == 0 {
            return out.fill(0.0);
        }
        let kernels = self.isa.kernels();
        let shape = self.shape(kernels);
        let copied = if self.copies_a() { self.entries() * m * k } else { 0 };
        let (copy, panels) = scratch.split_at_mut(copied);
        if self.copies_a() {
            self.copy(a, copy, pool);
        }
        let (tiles, block) = (m.div_ceil(kernels.rows()), self.block(shape));
        let blocks = shape.count().div_ceil(block);
        let parts = (4 * self.threads).div_ceil(self.entries() * blocks).min(tiles / 4).max(1);
        let tasks = self.entries() * blocks * parts;
        let workers = self.threads.min(tasks);
        let (next, out) = (AtomicUsize::new(0), Shared::new(out));
        let (panels, panels_len) = (Shared::new(panels), block * shape.columns * k);
        pool.run(workers, |worker| {
            // SAFETY: every worker has its own part.
            let scratch = unsafe { panels.slice(worker * panels_len..(worker + 1) * panels_len) };
            loop {
                let task = next.fetch_add(1, Ordering::Relaxed);
                if task >= tasks {
                    break;
                }
                let (entry, rest) = (task / (blocks * parts), task % (blocks * parts));
                let (a_start, b_start) = self.starts(entry);
                let range = part(shape.count(), rest / parts, blocks);
                self.pack(&b[b_start..], shape, range.clone(), scratch);
                let rows = if copied > 0 {
                    Even { data: &copy[entry * m * k..], stride: k, run: k }
                } else {
                    Even { data: &a[a_start..], stride: self.step.a[0], run: k }
                };
                let product = Product {
                    kernels,
                    rows: &rows,
                    m,
                    taps: 1,
                    k,
                    parts: 1,
                    shape,
                    panels: scratch,
                    out,
                    start: entry * m * n,
                    stride: n,
                    column: 0,
                    epilogue: Epilogue { isa: self.isa, fused: Fused::default(), bias: None, residual: None },
                };
                product.compute(part(tiles, rest % parts, parts), range);
            }
        });
    }

    /// Copies `a` so that its rows are contiguous.
    fn copy(&self, a: &[f32], copy: &mut [f32], pool: &Pool) {
        let MatmulStep { m, k, .. } = self.step;
        let copy = Shared::new(copy);
        pool.run(self.entries(), |entry| {
            let a = &a[self.starts(entry).0..];
            // SAFETY: every batch entry belongs to one task.
            let target = unsafe { copy.slice(entry * m * k..(entry + 1) * m * k) };
            for (i, row) in target.chunks_exact_mut(k).enumerate() {
                for (l, x) in row.iter_mut().enumerate() {
                    *x = a[i * self.step.a[0] + l * self.step.a[1]];
                }
            }
        });
    }

    /// Packs some panels of `b`.
    fn pack(&self, b: &[f32], shape: PanelShape, panels: Range<usize>, target: &mut [f32]) {
        let [along_k, along_n] = self.step.b;
        for panel in panels.clone() {
            let (width, valid) = (shape.width(panel), shape.valid(panel));
            let at = shape.start(panel) - shape.start(panels.start);
            let target = &mut target[at..at + shape.k * width];
            let first = panel * shape.columns * along_n;
            for (l, row) in target.chunks_exact_mut(width).enumerate() {
                let from = first + l * along_k;
                if along_n == 1 {
                    row[..valid].copy_from_slice(&b[from..from + valid]);
                } else {
                    for (j, x) in row[..valid].iter_mut().enumerate() {
                        *x = b[from + j * along_n];
                    }
                }
                row[valid..].fill(0.0);
            }
        }
    }
}
