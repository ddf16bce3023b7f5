//! What is too much for one dispatch, or for one submission, is cut into several dispatches. They differ in where they
//! start, not in their shader.

use std::ops::Range;

use super::{Context, word};
use crate::error::Result;
use crate::graph::step::ConvStep;

/// A part of a step's work that one dispatch takes.
pub(super) struct Cut {
    /// Its workgroups or threads, counted from the step's first.
    pub(super) range: Range<usize>,
    /// Those along x, before the grid goes on in y.
    pub(super) row: usize,
    pub(super) grid: [u32; 3],
}

impl Context<'_> {
    /// Cuts workgroups of so many operations each.
    pub(super) fn cut_groups(&self, groups: usize, flops: u64) -> Result<Vec<Cut>> {
        // The shader counts in 32 bits.
        word(groups)?;
        let grid = (self.caps.max_groups as usize).saturating_mul(self.caps.max_groups as usize);
        let cut = |range: Range<usize>| {
            let (row, grid) = self.fold_groups(range.len())?;
            Ok(Cut { range, row, grid })
        };
        ranges(groups, self.most(flops).min(grid)).map(cut).collect()
    }

    /// The same for threads, `per_group` a workgroup.
    pub(super) fn cut_threads(&self, threads: usize, per_group: usize, flops: u64) -> Result<Vec<Cut>> {
        word(threads)?;
        let mut cuts = self.cut_groups(threads.div_ceil(per_group), flops.saturating_mul(per_group as u64))?;
        for cut in &mut cuts {
            cut.range = cut.range.start * per_group..threads.min(cut.range.end * per_group);
            cut.row *= per_group;
        }
        Ok(cuts)
    }

    /// How many times so many operations one submission takes, at least once.
    pub(super) fn most(&self, flops: u64) -> usize {
        usize::try_from(self.caps.submission_flops / flops.max(1)).unwrap_or(usize::MAX).max(1)
    }
}

/// Ranges of at most `most`, about as long as each other, that make up `0..count`.
pub(super) fn ranges(count: usize, most: usize) -> impl Iterator<Item = Range<usize>> {
    let size = count.div_ceil(count.div_ceil(most.max(1)).max(1)).max(1);
    (0..count).step_by(size).map(move |first| first..count.min(first + size))
}

/// A convolution of fewer pixels is not cut further.
const LEAST_PIXELS: usize = 128;

/// Some images of a convolution, some rows of an image, or some pixels of a row, as a convolution of its own.
pub(super) struct Piece {
    pub(super) conv: ConvStep,
    /// The elements of the input, and the pixels of the output, before its own.
    pub(super) input: usize,
    pub(super) pixel: usize,
}

/// Cuts a convolution whose output pixels take so many operations each.
pub(super) fn pieces(cx: &Context<'_>, conv: &ConvStep, flops_of_pixel: u64) -> Vec<Piece> {
    let (mut open, mut done) = (vec![Piece { conv: conv.clone(), input: 0, pixel: 0 }], Vec::new());
    let most = cx.most(flops_of_pixel).max(LEAST_PIXELS);
    while let Some(piece) = open.pop() {
        let sizes = [piece.conv.batch, piece.conv.output[0], piece.conv.output[1]];
        let pixels: usize = sizes.iter().product();
        match (0..3).find(|&dim| sizes[dim] > 1).filter(|_| pixels > most) {
            None => done.push(piece),
            Some(dim) => {
                let each = pixels / sizes[dim];
                open.extend(ranges(sizes[dim], most / each).map(|range| piece.part(dim, each, &range)));
            }
        }
    }
    done
}

impl Piece {
    /// These of its images, rows or columns, which have so many pixels each.
    fn part(&self, dim: usize, each: usize, range: &Range<usize>) -> Self {
        let (mut conv, mut input) = (self.conv.clone(), self.input);
        if dim == 0 {
            conv.batch = range.len();
            input += range.start * conv.input[0] * conv.input[1] * conv.c_in;
        } else {
            let d = dim - 1;
            conv.output[d] = range.len();
            // It looks at the same input, further down. The shaders take what is below zero as it wraps round.
            let padding = (conv.padding[d] as u32).wrapping_sub((range.start * conv.stride[d]) as u32);
            conv.padding[d] = padding as usize;
        }
        Self { conv, input, pixel: self.pixel + range.start * each }
    }
}
