//! Products of rows that lie anywhere and packed panels: what convolutions, linear layers and matrix products share.

use std::ops::Range;

use super::isa::Isa;
use super::microkernel::{Ahead, Finish, Kernels, Tile};
use super::shared::Shared;
use super::vector;
use crate::graph::op::{Fused, Residual, Unary};

/// The most pointers that a tile is given at once; longer lists of taps are taken in parts.
pub(crate) const POINTERS: usize = 768;

/// The bytes of panels that a thread goes over for every tile of rows: they should stay in its second cache.
pub(crate) const BLOCK_BYTES: usize = 384 << 10;

/// The multiplications that are worth a task of their own: some ten microseconds.
const TASK_COST: usize = 1 << 19;

/// How the columns of a product lie in panels: `[k][columns]` each, the last one half as wide where that is enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PanelShape {
    pub(crate) k: usize,
    pub(crate) n: usize,
    /// Of a full panel.
    pub(crate) columns: usize,
}

impl PanelShape {
    pub(crate) fn new(k: usize, n: usize, kernels: &Kernels) -> Self {
        Self { k, n, columns: kernels.columns }
    }

    pub(crate) fn count(&self) -> usize {
        self.n.div_ceil(self.columns)
    }

    /// The columns of panel `p` that exist.
    pub(crate) fn valid(&self, p: usize) -> usize {
        (self.n - p * self.columns).min(self.columns)
    }

    /// The columns that panel `p` has memory for.
    pub(crate) fn width(&self, p: usize) -> usize {
        if self.valid(p) * 2 <= self.columns { self.columns / 2 } else { self.columns }
    }

    /// Where panel `p` starts, in elements.
    pub(crate) fn start(&self, p: usize) -> usize {
        p * self.k * self.columns
    }

    /// The elements of all panels.
    pub(crate) fn len(&self) -> usize {
        match self.count() {
            0 => 0,
            count => self.start(count - 1) + self.k * self.width(count - 1),
        }
    }
}

/// Where the rows of a product lie.
pub(crate) trait Rows: Sync {
    /// Writes the addresses of rows `first .. first + count` for the given taps: `pointers[tap - taps.start][row - first]`.
    fn point(&self, first: usize, count: usize, taps: Range<usize>, pointers: &mut [*const f32]);

    /// Those of the taps that these rows need: the others hold zeros for all of them.
    fn needed(&self, _first: usize, _count: usize, taps: Range<usize>) -> Range<usize> {
        taps
    }
}

/// What follows a product, with its operands.
#[derive(Clone, Copy)]
pub(crate) struct Epilogue<'a> {
    pub(crate) isa: Isa,
    pub(crate) fused: Fused,
    pub(crate) bias: Option<&'a [f32]>,
    pub(crate) residual: Option<&'a [f32]>,
}

impl Epilogue<'_> {
    /// The bounds that the activation is, when it is a clamp or nothing.
    fn clamp(&self) -> Option<(f32, f32)> {
        match self.fused.activation {
            None => Some((f32::NEG_INFINITY, f32::INFINITY)),
            Some(Unary::Relu) => Some((0.0, f32::INFINITY)),
            Some(Unary::Clamp { min, max }) => Some((min, max)),
            Some(_) => None,
        }
    }

    /// What a kernel does to the columns from `column` on of the row that starts at `at`.
    pub(crate) fn finish(&self, at: usize, column: usize, first: bool, last: bool) -> Finish {
        let mut finish = Finish::NONE;
        if let Some(bias) = self.bias.filter(|_| first) {
            finish.bias = bias[column..].as_ptr();
        }
        if !last {
            return finish;
        }
        let clamp = self.clamp();
        if let Some(residual) = self.residual {
            let residual = residual[at + column..].as_ptr();
            match self.fused.residual {
                Residual::BeforeActivation => finish.before = residual,
                Residual::AfterActivation if clamp.is_some() => finish.after = residual,
                _ => {}
            }
        }
        (finish.low, finish.high) = clamp.unwrap_or((f32::NEG_INFINITY, f32::INFINITY));
        finish
    }

    /// Whether something is left to do after the kernel.
    pub(crate) fn has_rest(&self) -> bool {
        self.clamp().is_none()
    }

    /// Does to `y`, which starts at `at` of the output, what the kernel left.
    pub(crate) fn rest(&self, y: &mut [f32], at: usize) {
        let Some(activation) = self.fused.activation else { return };
        vector::unary_in_place(self.isa, activation, y);
        if let (Residual::AfterActivation, Some(residual)) = (self.fused.residual, self.residual) {
            let residual = &residual[at..at + y.len()];
            for (y, r) in y.iter_mut().zip(residual) {
                *y += r;
            }
        }
    }
}

impl Epilogue<'_> {
    /// Does everything to `y = product(x, weight)`, which starts at `at` of the output, with column `column`.
    pub(crate) fn all(&self, y: &mut [f32], at: usize, column: usize, scale: Option<&[f32]>) {
        if let Some(scale) = scale {
            y.iter_mut().zip(&scale[column..]).for_each(|(y, scale)| *y *= scale);
        }
        if let Some(bias) = self.bias {
            y.iter_mut().zip(&bias[column..]).for_each(|(y, bias)| *y += bias);
        }
        let len = y.len();
        let add = |y: &mut [f32], when| {
            if let (true, Some(residual)) = (self.fused.residual == when, self.residual) {
                y.iter_mut().zip(&residual[at..at + len]).for_each(|(y, residual)| *y += residual);
            }
        };
        add(y, Residual::BeforeActivation);
        if let Some(activation) = self.fused.activation {
            vector::unary_in_place(self.isa, activation, y);
        }
        add(y, Residual::AfterActivation);
    }
}

/// `rows x panels`, `taps` times `k` long, into columns `column ..` of rows of `stride` elements.
pub(crate) struct Product<'a, R> {
    pub(crate) kernels: &'static Kernels,
    pub(crate) rows: &'a R,
    /// The number of rows.
    pub(crate) m: usize,
    pub(crate) taps: usize,
    pub(crate) k: usize,
    /// The parts of whole taps that a sum is cut into: each is summed in registers.
    pub(crate) parts: usize,
    pub(crate) shape: PanelShape,
    /// The panels, from the first one that is computed on.
    pub(crate) panels: &'a [f32],
    pub(crate) out: Shared<'a>,
    /// Where the output's first row starts.
    pub(crate) start: usize,
    pub(crate) stride: usize,
    pub(crate) column: usize,
    pub(crate) epilogue: Epilogue<'a>,
}

impl<R: Rows> Product<'_, R> {
    /// The number of tiles that the rows are cut into, all of about the same height.
    pub(crate) fn tiles(m: usize, kernels: &Kernels) -> usize {
        m.div_ceil(kernels.rows())
    }

    /// Computes some tiles of rows and some panels; `panels.start` is the first panel in `self.panels`.
    pub(crate) fn compute(&self, tiles: Range<usize>, panels: Range<usize>) {
        let total = Self::tiles(self.m, self.kernels);
        let mut pointers = [std::ptr::null(); POINTERS];
        let most = self.taps.div_ceil(self.parts).min(POINTERS / self.kernels.rows());
        for tap in (0..self.taps).step_by(most) {
            let taps = tap..(tap + most).min(self.taps);
            for tile in tiles.clone() {
                let first = tile * self.m / total;
                let count = (tile + 1) * self.m / total - first;
                let needed = self.rows.needed(first, count, taps.clone());
                if !needed.is_empty() {
                    self.rows.point(first, count, needed.clone(), &mut pointers);
                }
                for panel in panels.clone() {
                    let ahead = self.ahead(&taps, panel, &panels, tile - tiles.start, tiles.len());
                    self.tile(first, count, [&taps, &needed], panel, panels.start, &pointers, ahead);
                }
                if taps.end == self.taps && self.epilogue.has_rest() {
                    self.rest(first..first + count, &panels);
                }
            }
        }
    }

    /// What is left to do after the kernel, to some rows of some panels.
    fn rest(&self, rows: Range<usize>, panels: &Range<usize>) {
        let from = self.column + panels.start * self.shape.columns;
        let to = self.column + (panels.end * self.shape.columns).min(self.shape.n);
        for row in rows {
            let at = self.start + row * self.stride;
            // SAFETY: this task alone computes these columns of this row.
            let y = unsafe { self.out.slice(at + from..at + to) };
            self.epilogue.rest(y, at + from);
        }
    }

    /// What tile `tile` of `tiles` asks for while a panel is multiplied: its part of what is read in the panel's place
    /// when all tiles are done. From memory that takes longer than a tile.
    fn ahead(&self, taps: &Range<usize>, panel: usize, panels: &Range<usize>, tile: usize, tiles: usize) -> Ahead {
        let width = self.shape.width(panel);
        let offset = |panel: usize| self.shape.start(panel) - self.shape.start(panels.start);
        let start = match taps.end < self.taps {
            true => offset(panel) + taps.end * self.k * width,
            false => offset(panel) + offset(panels.end),
        };
        // So many steps along `k` for each line, rounded down to a power of two, take all of it.
        let every = 1 << (tiles * LINE / width).clamp(1, 64).ilog2();
        let steps = taps.len() * self.k;
        let (at, len) = (tile * (steps / every) * LINE, steps / every * LINE);
        match self.panels.get(start + at..start + at + len) {
            Some(lines) if at < steps * width => Ahead { start: lines.as_ptr(), line: LINE, mask: every as isize - 1 },
            _ => Ahead::nothing(self.panels.as_ptr()),
        }
    }

    fn tile(
        &self,
        first: usize,
        count: usize,
        [taps, needed]: [&Range<usize>; 2],
        panel: usize,
        panels_start: usize,
        pointers: &[*const f32],
        ahead: Ahead,
    ) {
        let width = self.shape.width(panel);
        let at = self.shape.start(panel) - self.shape.start(panels_start) + needed.start * self.k * width;
        let weights = &self.panels[at..at + needed.len() * self.k * width];
        let column = self.column + panel * self.shape.columns;
        let row = self.start + first * self.stride;
        let columns = self.shape.valid(panel);
        assert!(row + (count - 1) * self.stride + column + columns <= self.out.len());
        let tile = Tile {
            rows: pointers.as_ptr(),
            taps: needed.len(),
            k: self.k,
            panel: weights.as_ptr(),
            out: self.out.at(row + column),
            stride: self.stride,
            columns,
            accumulate: taps.start > 0,
            finish: self.epilogue.finish(row, column, taps.start == 0, taps.end == self.taps),
            ahead,
        };
        let kernel = self.kernels.tiles[count - 1][width / self.kernels.lanes - 1];
        // SAFETY: `Rows::point` gives readable rows, the panel and the output were sliced to their sizes, bias and
        // residual have the output's columns (checked by the plan), and the kernels are those of this machine.
        unsafe { kernel(&tile) };
    }
}

/// The elements of a line of a cache.
const LINE: usize = 16;

/// The parts that sums of so many products are cut into, so that the rows of a tile and of a few panels stay in the
/// second cache: about a thousand products each.
pub(crate) fn chunks(k: usize) -> usize {
    ((k + 512) / 1024).max(1)
}

/// How a product's tiles and panels are cut into tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Split {
    /// The blocks of tiles and of panels.
    pub(crate) m: usize,
    pub(crate) n: usize,
}

impl Split {
    /// `others` is the number of like products that run at once.
    pub(crate) fn new(tiles: usize, shape: PanelShape, rows: usize, others: usize, threads: usize) -> Self {
        let count = shape.count();
        if count == 0 || tiles == 0 || shape.k == 0 {
            return Self { m: 1, n: 1 };
        }
        let chunk = shape.k.div_ceil(chunks(shape.k));
        let fit = (BLOCK_BYTES / (chunk * shape.columns * 4)).clamp(1, count);
        let mut n = count.div_ceil(fit);
        let wanted = if threads == 1 { 1 } else { 4 * threads };
        let cost = (tiles * rows * shape.k).saturating_mul(shape.n).saturating_mul(others);
        let wanted = wanted.min(cost / TASK_COST).max(1);
        let m = wanted.div_ceil(n * others).min(tiles);
        if m * n * others < wanted {
            n = wanted.div_ceil(m * others).min(count);
        }
        Self { m, n }
    }

    /// The tasks of one product.
    pub(crate) fn tasks(&self) -> usize {
        self.m * self.n
    }

    /// The tiles and the panels of a task; tasks that share panels are neighbours.
    pub(crate) fn ranges(&self, task: usize, tiles: usize, panels: usize) -> (Range<usize>, Range<usize>) {
        let (i, j) = (task % self.m, task / self.m);
        (part(tiles, i, self.m), part(panels, j, self.n))
    }
}

/// The `i`th of `parts` nearly equal parts of `0..n`.
pub(crate) fn part(n: usize, i: usize, parts: usize) -> Range<usize> {
    i * n / parts..(i + 1) * n / parts
}
