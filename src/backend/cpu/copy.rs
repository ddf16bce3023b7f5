//! Rectangles of strided data: the pieces that copies and pointwise programs are cut into.

use super::shared::Shared;

/// Where a rectangle's elements lie: a start and the strides of its rows and columns.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Place {
    pub(crate) start: usize,
    pub(crate) row: usize,
    pub(crate) column: usize,
}

/// The side of the squares that transpositions go by: two of them fit into the first cache.
const SQUARE: usize = 32;
/// The side of the squares that those go by: as many lines as a set of the cache holds.
const SMALL_SQUARE: usize = 8;

/// Copies `rows x columns` words.
///
/// # Safety
/// Nobody else touches the words of `out` that are written.
pub(crate) unsafe fn copy(x: &[u32], from: Place, out: Shared<'_, u32>, to: Place, [rows, columns]: [usize; 2]) {
    if rows == 0 || columns == 0 {
        return;
    }
    let last = |place: Place| place.start + (rows - 1) * place.row + (columns - 1) * place.column;
    let x = &x[..=last(from)];
    // Panics when the last word lies outside.
    out.at(last(to) + 1);
    let is_transposed = from.row == 1 && from.column > 1 && rows > 1;
    if to.column == 1 && !is_transposed {
        for r in 0..rows {
            let start = to.start + r * to.row;
            // SAFETY: these columns of this row are the caller's.
            let out = unsafe { out.slice(start..start + columns) };
            let start = from.start + r * from.row;
            match from.column {
                0 => out.fill(x[start]),
                1 => out.copy_from_slice(&x[start..start + columns]),
                stride => out.iter_mut().zip(x[start..].iter().step_by(stride)).for_each(|(out, x)| *out = *x),
            }
        }
        return;
    }
    if to.column == 1 && to.row == columns && columns == 3 && from.row == 1 {
        // SAFETY: the rows follow each other, so all of them are one range, which is the caller's.
        let out = unsafe { out.slice(to.start..to.start + rows * columns) };
        let planes = [0, 1, 2].map(|c| &x[from.start + c * from.column..][..rows]);
        return interleave(planes, out);
    }
    // The two are in different orders: squares of squares, so that every line and every page that is touched is used
    // while it is near, also when lines that are a power of two apart push each other out of the cache.
    for row in (0..rows).step_by(SQUARE) {
        for column in (0..columns).step_by(SQUARE) {
            let (row_end, column_end) = ((row + SQUARE).min(rows), (column + SQUARE).min(columns));
            for row in (row..row_end).step_by(SMALL_SQUARE) {
                for column in (column..column_end).step_by(SMALL_SQUARE) {
                    for r in row..(row + SMALL_SQUARE).min(row_end) {
                        for c in column..(column + SMALL_SQUARE).min(column_end) {
                            // SAFETY: both indices are at most those of the last word, which were checked, and the
                            // words that are written are the caller's.
                            unsafe {
                                let word = *x.get_unchecked(from.start + r * from.row + c * from.column);
                                out.at(0).add(to.start + r * to.row + c * to.column).write(word);
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Three planes to pixels, as every image begins.
fn interleave([red, green, blue]: [&[u32]; 3], out: &mut [u32]) {
    for (((pixel, red), green), blue) in out.chunks_exact_mut(3).zip(red).zip(green).zip(blue) {
        pixel.copy_from_slice(&[*red, *green, *blue]);
    }
}
