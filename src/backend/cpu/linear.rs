//! Linear layers: a product with packed weights, or dot products with the rows of the file when there are few inputs.

use std::ops::Range;

use super::gemm::{Epilogue, PanelShape, Product, Rows, Split, chunks, part};
use super::isa::Isa;
use super::microkernel::{DOT_COLUMNS, DotTile, Kernels};
use super::pack::{Floats, WeightRows, WeightSource, pack_panels, stored_floats};
use super::shared::Shared;
use crate::checkpoint::StoredTensor;
use crate::device::pool::Pool;
use crate::error::Result;
use crate::graph::step::LinearStep;

/// Up to so many rows, reading the weight is all the time there is, and it is read where it lies.
const FEW_ROWS: usize = 8;

/// The bytes of the weight that are worth a task of their own.
const TASK_BYTES: usize = 64 << 10;

/// The weight of a linear layer.
#[derive(Debug)]
pub(crate) struct LinearWeights {
    storage: Weights,
    isa: Isa,
}

#[derive(Debug)]
enum Weights {
    /// Used where it is stored; the scale multiplies the results.
    InPlace {
        tensor: StoredTensor,
        scale: Option<Vec<f32>>,
    },
    Packed(Floats),
}

impl LinearWeights {
    /// The bytes that it holds beside the file's.
    pub(crate) fn bytes(&self) -> usize {
        match &self.storage {
            Weights::InPlace { scale, .. } => scale.as_ref().map_or(0, |scale| size_of_val(&scale[..])),
            Weights::Packed(packed) => size_of_val(packed.as_slice()),
        }
    }

    /// Where the kernel reads the weight.
    pub(crate) fn method(&self) -> &'static str {
        match self.storage {
            Weights::InPlace { .. } => "in place",
            Weights::Packed(_) => "packed",
        }
    }

    /// Whether this step uses this weight where it lies. Weights are shared by the steps that agree in this.
    pub(crate) fn is_in_place(step: &LinearStep, weight: WeightSource<'_>) -> bool {
        match weight {
            WeightSource::Stored(tensor) => step.rows <= FEW_ROWS && stored_floats(tensor).is_some(),
            WeightSource::Computed(_) => false,
        }
    }

    /// Prepares `weight * scale`.
    ///
    /// # Errors
    /// When the weight's dtype does not run or there is no memory for it.
    pub(crate) fn new(
        step: &LinearStep,
        weight: WeightSource<'_>,
        scale: Option<&[f32]>,
        isa: Isa,
        pool: &Pool,
    ) -> Result<Self> {
        let rows = WeightRows::new(weight, step.n, step.k)?;
        let storage = match weight {
            WeightSource::Stored(tensor) if Self::is_in_place(step, weight) => {
                Weights::InPlace { tensor: tensor.clone(), scale: scale.map(<[f32]>::to_vec) }
            }
            _ => {
                let shape = PanelShape::new(step.k, step.n, isa.kernels());
                Weights::Packed(pack_panels(&rows, 1, shape, 1, scale, pool)?)
            }
        };
        Ok(Self { storage, isa })
    }
}

/// Rows that lie one after the other.
pub(super) struct Even<'a> {
    pub(super) data: &'a [f32],
    pub(super) stride: usize,
    /// The elements of a tap.
    pub(super) run: usize,
}

impl Rows for Even<'_> {
    fn point(&self, first: usize, count: usize, taps: Range<usize>, pointers: &mut [*const f32]) {
        for (tap, pointers) in taps.zip(pointers.chunks_exact_mut(count)) {
            for (i, pointer) in pointers.iter_mut().enumerate() {
                *pointer = self.data[(first + i) * self.stride + tap * self.run..].as_ptr();
            }
        }
    }
}

/// A linear layer of some number of rows.
#[derive(Debug)]
pub(crate) struct Linear {
    step: LinearStep,
    isa: Isa,
}

impl Linear {
    pub(crate) fn new(step: &LinearStep, isa: Isa) -> Self {
        Self { step: step.clone(), isa }
    }

    /// `x` is `[rows, k]`; `out` becomes `[rows, n]`.
    pub(crate) fn run(
        &self,
        weights: &LinearWeights,
        x: &[f32],
        bias: Option<&[f32]>,
        residual: Option<&[f32]>,
        out: &mut [f32],
        pool: &Pool,
    ) {
        let LinearStep { rows, k, n, fused } = self.step;
        assert_eq!(self.isa, weights.isa, "weights packed for another instruction set");
        assert_eq!((x.len(), out.len()), (rows * k, rows * n));
        assert!(bias.is_none_or(|bias| bias.len() == n));
        assert!(residual.is_none_or(|residual| residual.len() == out.len()));
        if out.is_empty() {
            return;
        }
        let kernels = self.isa.kernels();
        let epilogue = Epilogue { isa: self.isa, fused, bias, residual };
        match &weights.storage {
            Weights::InPlace { tensor, scale } => {
                let weight = stored_floats(tensor).expect("checked when it was prepared");
                assert_eq!(weight.len(), n * k);
                self.run_dots(kernels, weight, scale.as_deref(), x, epilogue, out, pool);
            }
            Weights::Packed(packed) => {
                let shape = PanelShape::new(k, n, kernels);
                let tiles = rows.div_ceil(kernels.rows());
                let split = Split::new(tiles, shape, kernels.rows(), 1, pool.threads());
                // Long rows are taken in parts.
                let taps = if k % chunks(k) == 0 { chunks(k) } else { 1 };
                let (out, source) = (Shared::new(out), Even { data: x, stride: k, run: k / taps });
                pool.run(split.tasks(), |task| {
                    let (tiles, panels) = split.ranges(task, tiles, shape.count());
                    let panels_from = &packed.as_slice()[shape.start(panels.start)..];
                    let product = Product {
                        kernels,
                        rows: &source,
                        m: rows,
                        taps,
                        k: k / taps,
                        parts: taps,
                        shape,
                        panels: panels_from,
                        out,
                        start: 0,
                        stride: n,
                        column: 0,
                        epilogue,
                    };
                    product.compute(tiles, panels);
                });
            }
        }
    }

    #[allow(clippy::too_many_arguments, reason = "the operands of a linear layer")]
    fn run_dots(
        &self,
        kernels: &'static Kernels,
        weight: &[f32],
        scale: Option<&[f32]>,
        x: &[f32],
        epilogue: Epilogue<'_>,
        out: &mut [f32],
        pool: &Pool,
    ) {
        let LinearStep { rows, k, n, .. } = self.step;
        let blocks = n.div_ceil(DOT_COLUMNS);
        let tasks = (n * k * 4 / TASK_BYTES).clamp(1, 4 * pool.threads()).min(blocks);
        let tasks = if pool.threads() == 1 { 1 } else { tasks };
        let out = Shared::new(out);
        pool.run(tasks, |task| {
            let columns = part(blocks, task, tasks);
            let columns = columns.start * DOT_COLUMNS..(columns.end * DOT_COLUMNS).min(n);
            for column in columns.clone().step_by(DOT_COLUMNS) {
                let valid = (n - column).min(DOT_COLUMNS);
                let pointers = std::array::from_fn(|j| {
                    let row = column + j.min(valid - 1);
                    weight[row * k..(row + 1) * k].as_ptr()
                });
                for first in (0..rows).step_by(kernels.dots.len()) {
                    let count = (rows - first).min(kernels.dots.len());
                    let mut sums = [0.0; 4 * DOT_COLUMNS];
                    let x = &x[first * k..(first + count) * k];
                    let tile = DotTile { x: x.as_ptr(), weight: pointers, k, out: sums.as_mut_ptr() };
                    // SAFETY: the rows were sliced to `k` numbers, there are at most four of each, and the kernels are
                    // those of this machine.
                    unsafe { kernels.dots[count - 1](&tile) };
                    for (i, sums) in sums.chunks_exact(DOT_COLUMNS).take(count).enumerate() {
                        let at = (first + i) * n + column;
                        // SAFETY: these columns belong to this task.
                        unsafe { out.slice(at..at + valid) }.copy_from_slice(&sums[..valid]);
                    }
                }
            }
            for row in 0..rows {
                let at = row * n + columns.start;
                // SAFETY: these columns belong to this task.
                let y = unsafe { out.slice(at..row * n + columns.end) };
                epilogue.all(y, at, columns.start, scale);
            }
        });
    }
}
