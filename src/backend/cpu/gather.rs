//! Embedding and padding: kernels that copy rows by index.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::Engine;
use super::shared::Shared;
use crate::error::{Error, Result};
use crate::graph::op::PadMode;

/// The elements written that are worth a task of their own.
const TASK: usize = 16 << 10;

/// `out [outer, count, dim]` becomes the rows of each `table [outer, rows, dim]` that the indices name.
///
/// # Errors
/// When an index is not that of a row.
pub(crate) fn embedding(
    engine: &Engine,
    indices: &[i32],
    table: &[f32],
    [rows, dim]: [usize; 2],
    out: &mut [f32],
) -> Result<()> {
    let wanted = indices.len();
    let count = if wanted * dim == 0 { 0 } else { out.len() / dim };
    let tasks = (count * dim / TASK).clamp(1, engine.pool.threads() * 4).min(count.max(1));
    let out = Shared::new(out);
    let bad = AtomicUsize::new(usize::MAX);
    engine.pool.run(tasks, |task| {
        let first = task * count / tasks;
        for i in first..(task + 1) * count / tasks {
            let (o, position) = (i / wanted, i % wanted);
            match usize::try_from(indices[position]) {
                Ok(index) if index < rows => {
                    // SAFETY: every index has its own row of the output.
                    let out = unsafe { out.slice(i * dim..(i + 1) * dim) };
                    let row = o * rows + index;
                    out.copy_from_slice(&table[row * dim..(row + 1) * dim]);
                }
                _ => {
                    bad.fetch_min(position, Ordering::Relaxed);
                }
            }
        }
    });
    match bad.into_inner() {
        usize::MAX => Ok(()),
        i => Err(Error::shape(format!("index {} at position {i} is out of range, expected 0..{rows}", indices[i]))),
    }
}

/// A padding of one shape, ready to run.
#[derive(Debug)]
pub(crate) struct Pad {
    /// Of each dimension, the position in the input of every position in the output, or [`OUTSIDE`].
    maps: Vec<Vec<usize>>,
    /// The elements from one position to the next, in the input.
    strides: Vec<usize>,
    /// The dimensions after those are not padded: so many elements are copied at once.
    run: usize,
    value: f32,
}

/// A position that is filled with the value.
const OUTSIDE: usize = usize::MAX;

impl Pad {
    pub(crate) fn new(shape: &[usize], pads: &[(usize, usize)], mode: PadMode) -> Self {
        let rank = pads.iter().rposition(|pads| *pads != (0, 0)).map_or(0, |last| last + 1);
        let run: usize = shape[rank..].iter().product();
        let maps = (0..rank).map(|d| positions(shape[d], pads[d], mode)).collect();
        let strides = (0..rank).map(|d| shape[d + 1..].iter().product()).collect();
        let value = match mode {
            PadMode::Constant(value) => value,
            _ => 0.0,
        };
        Self { maps, strides, run, value }
    }

    pub(crate) fn run(&self, engine: &Engine, x: &[f32], out: &mut [f32]) {
        let Some((columns, outer)) = self.maps.split_last() else { return out.copy_from_slice(x) };
        let rows: usize = outer.iter().map(Vec::len).product();
        let row_len = columns.len() * self.run;
        if out.is_empty() {
            return;
        }
        let tasks = (out.len() / TASK).clamp(1, engine.pool.threads() * 4).min(rows);
        let out = Shared::new(out);
        engine.pool.run(tasks, |task| {
            for row in task * rows / tasks..(task + 1) * rows / tasks {
                // SAFETY: every row belongs to one task.
                let out = unsafe { out.slice(row * row_len..(row + 1) * row_len) };
                match self.row_start(row) {
                    Some(start) => self.fill_row(&x[start..], columns, out),
                    None => out.fill(self.value),
                }
            }
        });
    }

    /// Where the input's row lies that the output's row `row` is made from.
    fn row_start(&self, mut row: usize) -> Option<usize> {
        let mut start = 0;
        for (map, stride) in self.maps.iter().zip(&self.strides).rev().skip(1) {
            let position = map[row % map.len()];
            row /= map.len();
            if position == OUTSIDE {
                return None;
            }
            start += position * stride;
        }
        Some(start)
    }

    fn fill_row(&self, x: &[f32], columns: &[usize], out: &mut [f32]) {
        let mut at = 0;
        while at < columns.len() {
            let from = columns[at];
            // As long as the positions follow each other, they are copied together.
            let mut count = 1;
            while at + count < columns.len() && from != OUTSIDE && columns[at + count] == from + count {
                count += 1;
            }
            let out = &mut out[at * self.run..(at + count) * self.run];
            match from {
                OUTSIDE => out.fill(self.value),
                from => out.copy_from_slice(&x[from * self.run..(from + count) * self.run]),
            }
            at += count;
        }
    }
}

/// The position in the input of every position of a padded dimension.
fn positions(size: usize, (before, after): (usize, usize), mode: PadMode) -> Vec<usize> {
    let last = size as isize - 1;
    (0..before + size + after)
        .map(|i| {
            let position = i as isize - before as isize;
            let position = match mode {
                PadMode::Constant(_) if !(0..=last).contains(&position) => return OUTSIDE,
                PadMode::Constant(_) => position,
                PadMode::Replicate => position.min(last).max(0),
                PadMode::Circular => position.rem_euclid(size as isize),
                PadMode::Reflect if position < 0 => -position,
                PadMode::Reflect if position > last => 2 * last - position,
                PadMode::Reflect => position,
            };
            position as usize
        })
        .collect()
}
