//! Attention without the matrix of scores: for some rows of queries at a time, block after block of keys, with the
//! softmax corrected as larger scores turn up (Dao et al., 2022, <https://arxiv.org/abs/2205.14135>).

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::Engine;
use super::isa::Isa;
use super::microkernel::{Ahead, Finish, Kernels, Tile};
use super::rows;
use super::shared::Shared;
use crate::graph::step::AttentionStep;

/// The keys of a block: the scores of a tile of queries stay in the first cache.
const BLOCK: usize = 256;
/// A task has at least so many queries: keys and values are packed anew for each.
const QUERIES: usize = 96;
/// The most queries of a tile.
const TILE: usize = 16;

/// An attention of one set of shapes, ready to run.
#[derive(Debug)]
pub(crate) struct Attention {
    step: AttentionStep,
    isa: Isa,
    threads: usize,
}

/// One head of one batch entry: the starts of its operands, and its keys and values in panels.
struct Head<'a> {
    q: &'a [f32],
    mask: Option<(&'a [f32], [usize; 2])>,
    out: Shared<'a>,
    out_start: usize,
    /// `[panel][head_dim][columns]`
    keys: &'a [f32],
    /// `[panel][kv_len][columns]`
    values: &'a [f32],
}

impl Attention {
    /// `threads` is the number of the pool that will run it.
    pub(crate) fn new(step: &AttentionStep, isa: Isa, threads: usize) -> Self {
        Self { step: step.clone(), isa, threads }
    }

    /// The elements of the packed keys, the packed values and the scores of one task.
    fn sizes(&self) -> [usize; 3] {
        let kernels = self.isa.kernels();
        let step = &self.step;
        let keys = step.kv_len.next_multiple_of(kernels.columns) * step.head_dim;
        let values = step.v_dim.next_multiple_of(kernels.columns) * step.kv_len;
        [keys, values, kernels.rows() * BLOCK]
    }

    /// The elements of scratch memory that a run needs.
    pub(crate) fn scratch_len(&self) -> usize {
        self.threads * self.sizes().iter().sum::<usize>()
    }

    /// The operands from their first elements on.
    pub(crate) fn run(
        &self,
        engine: &Engine,
        [q, k, v]: [&[f32]; 3],
        mask: Option<&[f32]>,
        out: &mut [f32],
        scratch: &mut [f32],
    ) {
        let step = &self.step;
        let heads = step.batch * step.heads;
        if heads * step.q_len * step.v_dim == 0 {
            return;
        }
        let parts = (4 * self.threads).div_ceil(heads).min(step.q_len / QUERIES).max(1);
        let parts = if self.threads == 1 { 1 } else { parts };
        let tasks = heads * parts;
        let workers = self.threads.min(tasks);
        let (next, out) = (AtomicUsize::new(0), Shared::new(out));
        let each = self.scratch_len() / self.threads;
        let scratch = Shared::new(scratch);
        engine.pool.run(workers, |worker| {
            // SAFETY: every worker has its own part.
            let scratch = unsafe { scratch.slice(worker * each..(worker + 1) * each) };
            let [keys_len, values_len, _] = self.sizes();
            let (keys, rest) = scratch.split_at_mut(keys_len);
            let (values, scores) = rest.split_at_mut(values_len);
            let mut packed = usize::MAX;
            loop {
                let task = next.fetch_add(1, Ordering::Relaxed);
                if task >= tasks {
                    break;
                }
                let (head, part) = (task / parts, task % parts);
                let (b, h) = (head / step.heads, head % step.heads);
                let start = |strides: [usize; 3]| b * strides[0] + h * strides[1];
                if packed != head {
                    self.pack_keys(&k[start(step.k)..], keys);
                    self.pack_values(&v[start(step.v)..], values);
                    packed = head;
                }
                let mask = mask
                    .zip(step.mask)
                    .map(|(mask, strides)| (&mask[b * strides[0] + h * strides[1]..], [strides[2], strides[3]]));
                let head = Head { q: &q[start(step.q)..], mask, out, out_start: start(step.out), keys, values };
                let rows = part * step.q_len / parts..(part + 1) * step.q_len / parts;
                self.run_rows(&head, rows, scores);
            }
        });
    }

    /// Keys `[kv_len, head_dim]` to panels `[head_dim][columns]`, with zeros after the last key.
    fn pack_keys(&self, k: &[f32], packed: &mut [f32]) {
        let columns = self.isa.kernels().columns;
        let AttentionStep { kv_len, head_dim, .. } = self.step;
        for (panel, packed) in packed.chunks_exact_mut((columns * head_dim).max(1)).enumerate() {
            let first = panel * columns;
            let valid = columns.min(kv_len - first);
            if valid < columns {
                packed.fill(0.0);
            }
            // Squares of eight by eight: a line of either side is used up while it is near.
            for j in (0..valid).step_by(8) {
                for d in (0..head_dim).step_by(8) {
                    for j in j..(j + 8).min(valid) {
                        let key = &k[(first + j) * self.step.k[2]..][..head_dim];
                        for d in d..(d + 8).min(head_dim) {
                            packed[d * columns + j] = key[d];
                        }
                    }
                }
            }
        }
    }

    /// Values `[kv_len, v_dim]` to panels `[kv_len][columns]`, with zeros after the last column.
    fn pack_values(&self, v: &[f32], packed: &mut [f32]) {
        let columns = self.isa.kernels().columns;
        let AttentionStep { kv_len, v_dim, .. } = self.step;
        for (panel, packed) in packed.chunks_exact_mut((columns * kv_len).max(1)).enumerate() {
            let first = panel * columns;
            let valid = columns.min(v_dim - first);
            for (j, packed) in packed.chunks_exact_mut(columns).enumerate() {
                packed[..valid].copy_from_slice(&v[j * self.step.v[2] + first..][..valid]);
                packed[valid..].fill(0.0);
            }
        }
    }

    fn run_rows(&self, head: &Head<'_>, rows: Range<usize>, scores: &mut [f32]) {
        let most = self.isa.kernels().rows().min(TILE);
        let tiles = rows.len().div_ceil(most);
        for tile in 0..tiles {
            let first = rows.start + tile * rows.len() / tiles;
            let last = rows.start + (tile + 1) * rows.len() / tiles;
            self.run_tile(head, first..last, scores);
        }
    }

    /// Some queries, at most those of a tile, against all keys.
    fn run_tile(&self, head: &Head<'_>, rows: Range<usize>, scores: &mut [f32]) {
        let step = &self.step;
        let kernels = self.isa.kernels();
        let (mut max, mut sum) = ([f32::NEG_INFINITY; TILE], [0.0f32; TILE]);
        for i in rows.clone() {
            self.out_row(head, i).fill(0.0);
        }
        // The last query of the tile sees the most.
        let end = if step.causal { rows.end.min(step.kv_len) } else { step.kv_len };
        for first in (0..end).step_by(BLOCK) {
            let count = BLOCK.min(end - first);
            self.scores(kernels, head, rows.clone(), first..first + count, scores);
            for (r, i) in rows.clone().enumerate() {
                let seen = if step.causal { (i + 1).clamp(first, first + count) - first } else { count };
                let row = &mut scores[r * BLOCK..r * BLOCK + count];
                row[seen..].fill(0.0);
                let row = &mut row[..seen];
                let block_max = self.scale_and_mask(head, i, first, row);
                let new_max = super::math::maximum(max[r], block_max);
                if new_max == f32::NEG_INFINITY {
                    // Nothing is seen yet.
                    row.fill(0.0);
                    continue;
                }
                let correction = (max[r] - new_max).exp();
                sum[r] = sum[r] * correction + rows::exp_sum(self.isa, row, new_max);
                max[r] = new_max;
                if first > 0 && correction != 1.0 {
                    self.out_row(head, i).iter_mut().for_each(|out| *out *= correction);
                }
            }
            self.add_values(kernels, head, rows.clone(), first..first + count, scores);
        }
        for (r, i) in rows.enumerate() {
            // A row that sees nothing has the sum 0: 0 * inf is NaN.
            let factor = if sum[r] == 0.0 && !step.blind_is_nan { 0.0 } else { 1.0 / sum[r] };
            self.out_row(head, i).iter_mut().for_each(|out| *out *= factor);
        }
    }

    /// The output of query `i`.
    fn out_row<'a>(&self, head: &Head<'a>, i: usize) -> &'a mut [f32] {
        let start = head.out_start + i * self.step.out[2];
        // SAFETY: every query belongs to one task, which holds one of its rows at a time.
        unsafe { head.out.slice(start..start + self.step.v_dim) }
    }

    /// `scores[r][j] = q[row r] . k[j]` for the keys of a block.
    fn scores(&self, kernels: &Kernels, head: &Head<'_>, rows: Range<usize>, block: Range<usize>, scores: &mut [f32]) {
        let (columns, dim) = (kernels.columns, self.step.head_dim);
        let mut pointers = [std::ptr::null(); TILE];
        for (pointer, i) in pointers.iter_mut().zip(rows.clone()) {
            *pointer = head.q[i * self.step.q[2]..][..dim].as_ptr();
        }
        for panel in block.start / columns..block.end.div_ceil(columns) {
            let at = panel * columns - block.start;
            let tile = Tile {
                rows: pointers.as_ptr(),
                taps: 1,
                k: dim,
                panel: head.keys[panel * columns * dim..(panel + 1) * columns * dim].as_ptr(),
                out: scores[at..(rows.len() - 1) * BLOCK + at + columns.min(BLOCK - at)].as_mut_ptr(),
                stride: BLOCK,
                columns,
                accumulate: false,
                finish: Finish::NONE,
                ahead: Ahead::nothing(pointers[0]),
            };
            // SAFETY: the rows have `dim` numbers, the panel as many rows, and `BLOCK` is a multiple of the columns.
            unsafe { kernels.tiles[rows.len() - 1][1](&tile) };
        }
    }

    /// Scales the scores of query `i`, which start at key `first`, and adds the mask; gives the largest.
    fn scale_and_mask(&self, head: &Head<'_>, i: usize, first: usize, row: &mut [f32]) -> f32 {
        let scale = self.step.scale;
        let Some((mask, [along_row, along_column])) = head.mask else {
            return rows::scale_max(self.isa, row, scale);
        };
        let mask = &mask[i * along_row + first * along_column..];
        if along_column == 1 {
            return rows::scale_mask_max(self.isa, row, scale, &mask[..row.len()]);
        }
        let mut largest = f32::NEG_INFINITY;
        for (j, score) in row.iter_mut().enumerate() {
            *score = *score * scale + mask[j * along_column];
            largest = super::math::maximum(largest, *score);
        }
        largest
    }

    /// Adds the block's values, weighted by `scores`, to the output.
    fn add_values(&self, kernels: &Kernels, head: &Head<'_>, rows: Range<usize>, block: Range<usize>, scores: &[f32]) {
        let (columns, v_dim, kv_len) = (kernels.columns, self.step.v_dim, self.step.kv_len);
        let mut pointers = [std::ptr::null(); TILE];
        for (r, pointer) in pointers[..rows.len()].iter_mut().enumerate() {
            *pointer = scores[r * BLOCK..][..block.len()].as_ptr();
        }
        for panel in 0..v_dim.div_ceil(columns) {
            let start = head.out_start + rows.start * self.step.out[2] + panel * columns;
            let valid = columns.min(v_dim - panel * columns);
            // Panics when the last row does not end inside the output.
            head.out.at(start + (rows.len() - 1) * self.step.out[2] + valid);
            let tile = Tile {
                rows: pointers.as_ptr(),
                taps: 1,
                k: block.len(),
                panel: head.values[(panel * kv_len + block.start) * columns..(panel * kv_len + block.end) * columns]
                    .as_ptr(),
                out: head.out.at(start),
                stride: self.step.out[2],
                columns: valid,
                accumulate: true,
                finish: Finish::NONE,
                ahead: Ahead::nothing(pointers[0]),
            };
            // SAFETY: the scores have `k` numbers a row, the panel as many rows, and the output's rows are this task's.
            unsafe { kernels.tiles[rows.len() - 1][1](&tile) };
        }
    }
}
