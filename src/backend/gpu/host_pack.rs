//! Packing on the host: a software adapter's shaders run on the same processor, ten times slower than a loop made for it.

use super::upload::{Dim, Region};
use crate::dtype::DType;

/// How many elements of a row of the target are written before the next row has its turn: what a row of the source has
/// for the next rows stays in the cache meanwhile.
const SQUARE: usize = 16;

/// The part of a region whose elements lie in one run of the target, with the gaps between them.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Piece {
    /// Its dimensions are in the order of the target, the outermost first.
    pub(super) region: Region,
    /// The elements of the run, gaps included.
    pub(super) len: usize,
}

/// Cuts a region into runs of the target of at most `most` elements; nothing when its elements lie there in no order of
/// its dimensions.
pub(super) fn pieces(region: &Region, most: usize) -> Option<Vec<Piece>> {
    let mut dims: Vec<Dim> = region.dims.iter().copied().filter(|dim| dim.size > 1).collect();
    dims.sort_by_key(|dim| std::cmp::Reverse(dim.target));
    let is_nested = dims.windows(2).all(|pair| pair[0].target >= pair[1].target * pair[1].size);
    if !is_nested || dims.last().is_some_and(|dim| dim.target == 0) {
        return None;
    }
    let mut found = Vec::new();
    cut(&Region { dims, ..region.clone() }, most.max(1), &mut found);
    Some(found)
}

fn cut(region: &Region, most: usize, found: &mut Vec<Piece>) {
    let Some(&outer) = region.dims.first() else {
        return found.push(Piece { region: region.clone(), len: 1 });
    };
    let rows = most / outer.target;
    for start in (0..outer.size).step_by(rows.max(1)) {
        let size = rows.min(outer.size - start);
        let mut part = region.clone();
        part.source += start * outer.source;
        part.target += start * outer.target;
        part.scale += if outer.scaled { start } else { 0 };
        if rows == 0 {
            // One of them is too long already.
            part.dims.remove(0);
            cut(&part, most, found);
        } else {
            part.dims[0].size = size;
            found.push(Piece { region: part, len: size * outer.target });
        }
    }
}

/// Multiplies the `f32`s of a packed piece by the factors of its channels.
pub(super) fn scale(words: &mut [u32], piece: &Piece, factors: &[f32]) {
    let times = |part: &mut [u32], factor: f32| {
        part.iter_mut().for_each(|word| *word = (f32::from_bits(*word) * factor).to_bits());
    };
    let (dims, first) = (&piece.region.dims, piece.region.scale);
    let Some(d) = dims.iter().position(|dim| dim.scaled) else {
        return times(words, factors[first]);
    };
    let pitch = if d == 0 { words.len() } else { dims[d - 1].target };
    for row in words.chunks_mut(pitch) {
        for (part, &factor) in row.chunks_mut(dims[d].target).zip(&factors[first..first + dims[d].size]) {
            times(part, factor);
        }
    }
}

/// Whether there is a conversion from the dtype.
pub(super) fn converts(dtype: DType) -> bool {
    use DType::*;
    matches!(dtype, F32 | F64 | F16 | BF16 | I64 | I32 | I16 | I8 | U8 | Bool)
}

/// Writes a piece's elements as `f32` or, where `is_int`, as `i32`; what lies between them becomes zero. `source` holds
/// the elements, of a dtype that it [`converts`], from the piece's first one on.
pub(super) fn pack(source: &[u8], dtype: DType, is_int: bool, piece: &Piece, to: &mut Vec<u32>) {
    to.clear();
    to.resize(piece.len, 0);
    let dims = &piece.region.dims;
    let word = |x: i32| if is_int { x as u32 } else { (x as f32).to_bits() };
    match dtype {
        DType::F32 => gather(source, dims, to, u32::from_le_bytes),
        DType::F64 => gather(source, dims, to, |x| (f64::from_le_bytes(x) as f32).to_bits()),
        DType::F16 => gather(source, dims, to, |x| half::f16::from_le_bytes(x).to_f32().to_bits()),
        DType::BF16 => gather(source, dims, to, |x| u32::from(u16::from_le_bytes(x)) << 16),
        DType::I64 if is_int => gather(source, dims, to, saturated),
        DType::I64 => gather(source, dims, to, |x| (i64::from_le_bytes(x) as f32).to_bits()),
        DType::I32 => gather(source, dims, to, |x| word(i32::from_le_bytes(x))),
        DType::I16 => gather(source, dims, to, |x| word(i16::from_le_bytes(x).into())),
        DType::I8 => gather(source, dims, to, |x| word(i8::from_le_bytes(x).into())),
        DType::U8 => gather(source, dims, to, |[x]| word(x.into())),
        DType::Bool => gather(source, dims, to, |[x]| word((x != 0).into())),
        _ => unreachable!("there is no conversion from {dtype}"),
    }
}

/// The points of one channel's taps, `[3][3][inputs]`, by Winograd's F(2x2, 3x3): G g G^T, `[16][inputs]`, as
/// `winograd_weight.wgsl` computes them.
pub(super) fn points(taps: &[f32], to: &mut [f32]) {
    fn mix(rows: [&[f32]; 3], sign: f32, to: &mut [f32]) {
        let [a, b, c] = rows;
        let sums = a.iter().zip(b).zip(c).map(|((a, b), c)| 0.5 * (a + sign * b + c));
        to.iter_mut().zip(sums).for_each(|(to, sum)| *to = sum);
    }
    let inputs = taps.len() / 9;
    let g = |row: usize, column: usize| &taps[(3 * row + column) * inputs..][..inputs];
    let mut column = vec![0.0; 3 * inputs];
    for (row, to) in to.chunks_exact_mut(4 * inputs).enumerate() {
        for (i, column) in column.chunks_exact_mut(inputs).enumerate() {
            match row {
                0 => column.copy_from_slice(g(0, i)),
                1 => mix([g(0, i), g(1, i), g(2, i)], 1.0, column),
                2 => mix([g(0, i), g(1, i), g(2, i)], -1.0, column),
                _ => column.copy_from_slice(g(2, i)),
            }
        }
        let h = |i: usize| &column[i * inputs..][..inputs];
        to[..inputs].copy_from_slice(h(0));
        mix([h(0), h(1), h(2)], 1.0, &mut to[inputs..2 * inputs]);
        mix([h(0), h(1), h(2)], -1.0, &mut to[2 * inputs..3 * inputs]);
        to[3 * inputs..].copy_from_slice(h(2));
    }
}

/// The bits of the nearest `i32`.
fn saturated(bytes: [u8; 8]) -> u32 {
    i64::from_le_bytes(bytes).clamp(i32::MIN.into(), i32::MAX.into()) as u32
}

/// Writes the elements of a box. Of the dimension that is innermost in the target a few elements are written for every
/// index of the one that is innermost in the source, so that neighbours are near each other on both sides.
fn gather<const N: usize>(source: &[u8], dims: &[Dim], to: &mut [u32], convert: impl Fn([u8; N]) -> u32) {
    let source = source.as_chunks::<N>().0;
    let unit = Dim { size: 1, source: 0, target: 0, scaled: false };
    let mut outer = dims.to_vec();
    let inner = outer.pop().unwrap_or(unit);
    let across = (0..outer.len()).min_by_key(|&i| outer[i].source).map_or(unit, |i| outer.remove(i));
    let mut index = vec![0; outer.len()];
    loop {
        let offset = |step: fn(&Dim) -> usize| index.iter().zip(&outer).map(|(i, dim)| i * step(dim)).sum::<usize>();
        let (from, at) = (offset(|dim| dim.source), offset(|dim| dim.target));
        for first in (0..inner.size).step_by(SQUARE) {
            let count = SQUARE.min(inner.size - first);
            for row in 0..across.size {
                let from = from + row * across.source + first * inner.source;
                let at = at + row * across.target + first * inner.target;
                let to = to[at..=at + (count - 1) * inner.target].iter_mut().step_by(inner.target.max(1));
                let source = &source[from..=from + (count - 1) * inner.source];
                match inner.source {
                    0 => to.for_each(|to| *to = convert(source[0])),
                    1 => to.zip(source).for_each(|(to, &x)| *to = convert(x)),
                    step => to.zip(source.iter().step_by(step)).for_each(|(to, &x)| *to = convert(x)),
                }
            }
        }
        // The next of the outer dimensions, the last one first.
        let Some(next) = (0..outer.len()).rev().find(|&d| index[d] + 1 < outer[d].size) else { break };
        index[next] += 1;
        index[next + 1..].fill(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(dims: &[(usize, usize, usize)], target: usize) -> Region {
        let dim = |&(size, source, target): &(usize, usize, usize)| Dim { size, source, target, scaled: false };
        Region { source: 3, target, scale: 0, dims: dims.iter().map(dim).collect() }
    }

    /// Every element comes to its place, and what lies between them is zero, however the region is cut.
    #[test]
    fn pieces_put_every_element_in_its_place() {
        for dims in [
            vec![],
            vec![(5, 1, 1)],
            vec![(18, 63, 72), (7, 9, 1), (3, 3, 24), (3, 1, 8)],
            vec![(40, 1, 35), (35, 40, 1)],
            vec![(3, 0, 8), (8, 1, 1)],
            vec![(6, 7, 4), (1, 9, 9)],
            vec![(9, 0, 1)],
            vec![(4, 0, 40), (37, 1, 1)],
        ] {
            let whole = region(&dims, 2);
            let reach = 3 + dims.iter().map(|&(size, source, _)| (size - 1) * source).sum::<usize>() + 1;
            let source: Vec<u8> = (0..reach as u32).flat_map(|i| (i + 1).to_le_bytes()).collect();
            let mut want = vec![0; 4000];
            let mut all = vec![(whole.source, whole.target)];
            for &(size, source, target) in &dims {
                let one = |i: usize| move |&(s, t): &(usize, usize)| (s + i * source, t + i * target);
                all = (0..size).flat_map(|i| all.iter().map(one(i)).collect::<Vec<_>>()).collect();
            }
            all.iter().for_each(|&(s, t)| want[t] = s as u32 + 1);
            for most in [1, 4, 9, 30, 100, 10_000] {
                let (mut got, mut words) = (vec![0; 4000], Vec::new());
                for piece in pieces(&whole, most).expect("an order") {
                    assert!(piece.len <= most, "{dims:?} {most}: {piece:?}");
                    pack(&source[piece.region.source * 4..], DType::I32, true, &piece, &mut words);
                    got[piece.region.target..][..piece.len].copy_from_slice(&words);
                }
                assert_eq!(got, want, "{dims:?} {most}");
            }
        }
        assert_eq!(pieces(&region(&[(4, 1, 1), (4, 4, 2)], 0), 100), None);
    }
}
