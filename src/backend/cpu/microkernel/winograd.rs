//! The transforms of Winograd's F(4x4, 3x3): four by four outputs of a 3x3 convolution from six by six inputs, as 36
//! products instead of 144. The points are 0, 1, -1, 2, -2 and infinity (Lavin and Gray, "Fast algorithms for
//! convolutional neural networks", 2015).
#![allow(clippy::needless_range_loop, reason = "tiles read best by row and column")]

use super::Simd;
use super::tile::Finish;

/// The inputs of one tile of outputs, transformed: `out[6 i + j] = (B^T d B)[i][j]`, channel by channel.
pub(crate) struct WinogradInput {
    /// The pixels, row by row, `channels` numbers each.
    pub(crate) pixels: [*const f32; 36],
    /// A multiple of the lanes.
    pub(crate) channels: usize,
    pub(crate) out: *mut f32,
    /// Elements from one of the 36 results to the next.
    pub(crate) plane: usize,
}

/// The outputs of one tile: `y = A^T m A` of 36 sums, channel by channel.
pub(crate) struct WinogradOutput {
    pub(crate) sums: *const f32,
    /// Elements from one of the 36 sums to the next.
    pub(crate) plane: usize,
    /// A multiple of the lanes.
    pub(crate) channels: usize,
    pub(crate) out: *mut f32,
    /// Elements from one row and from one column of pixels to the next.
    pub(crate) strides: [usize; 2],
    /// The rows and columns of the tile that exist, at most four.
    pub(crate) size: [usize; 2],
    /// For the tile's first pixel; it never accumulates.
    pub(crate) finish: Finish,
}

/// # Safety
/// As the fields of [`WinogradInput`] say; the caller is compiled for `S`.
#[inline(always)]
pub(super) unsafe fn input<S: Simd>(t: &WinogradInput) {
    // SAFETY: every channel of the pixels and of the results exists.
    unsafe {
        for c in (0..t.channels).step_by(S::LANES) {
            let mut d = [[S::splat(0.0); 6]; 6];
            for j in 0..6 {
                let mut column = [S::splat(0.0); 6];
                for i in 0..6 {
                    column[i] = S::load(t.pixels[6 * i + j].add(c));
                }
                let column = input_row::<S>(column);
                for i in 0..6 {
                    d[i][j] = column[i];
                }
            }
            for i in 0..6 {
                let row = input_row::<S>(d[i]);
                for j in 0..6 {
                    S::store(t.out.add((6 * i + j) * t.plane + c), row[j]);
                }
            }
        }
    }
}

/// `B^T d`
#[inline(always)]
unsafe fn input_row<S: Simd>(d: [S::V; 6]) -> [S::V; 6] {
    // SAFETY: the caller is compiled for `S`.
    unsafe {
        let number = |x| S::splat(x);
        let even = S::mul_add(number(-4.0), d[2], d[4]);
        let odd = S::mul_add(number(-4.0), d[1], d[3]);
        let (rest, twice) = (S::sub(d[4], d[2]), S::sub(d[3], d[1]));
        [
            S::mul_add(number(4.0), d[0], S::mul_add(number(-5.0), d[2], d[4])),
            S::add(even, odd),
            S::sub(even, odd),
            S::mul_add(number(2.0), twice, rest),
            S::mul_add(number(-2.0), twice, rest),
            S::mul_add(number(4.0), d[1], S::mul_add(number(-5.0), d[3], d[5])),
        ]
    }
}

/// # Safety
/// As the fields of [`WinogradOutput`] say; the caller is compiled for `S`.
#[inline(always)]
pub(super) unsafe fn output<S: Simd>(t: &WinogradOutput) {
    // SAFETY: every channel of the sums and of the pixels within `size` exists.
    unsafe {
        let f = &t.finish;
        let (low, high) = (S::splat(f.low), S::splat(f.high));
        for c in (0..t.channels).step_by(S::LANES) {
            let start = if f.bias.is_null() { S::splat(0.0) } else { S::load(f.bias.add(c)) };
            let mut m = [[S::splat(0.0); 6]; 4];
            for j in 0..6 {
                let mut column = [S::splat(0.0); 6];
                for i in 0..6 {
                    column[i] = S::load(t.sums.add((6 * i + j) * t.plane + c));
                }
                let column = output_row::<S>(column);
                for i in 0..4 {
                    m[i][j] = column[i];
                }
            }
            for i in 0..t.size[0] {
                let row = output_row::<S>(m[i]);
                for j in 0..t.size[1] {
                    let at = i * t.strides[0] + j * t.strides[1] + c;
                    let mut y = S::add(row[j], start);
                    if !f.before.is_null() {
                        y = S::add(y, S::load(f.before.add(at)));
                    }
                    y = S::min(high, S::max(low, y));
                    if !f.after.is_null() {
                        y = S::add(y, S::load(f.after.add(at)));
                    }
                    S::store(t.out.add(at), y);
                }
            }
        }
    }
}

/// `A^T m`
#[inline(always)]
unsafe fn output_row<S: Simd>(m: [S::V; 6]) -> [S::V; 4] {
    // SAFETY: the caller is compiled for `S`.
    unsafe {
        let (sum1, sum2) = (S::add(m[1], m[2]), S::add(m[3], m[4]));
        let (rest1, rest2) = (S::sub(m[1], m[2]), S::sub(m[3], m[4]));
        [
            S::add(S::add(m[0], sum1), sum2),
            S::mul_add(S::splat(2.0), rest2, rest1),
            S::mul_add(S::splat(4.0), sum2, sum1),
            S::add(S::mul_add(S::splat(8.0), rest2, rest1), m[5]),
        ]
    }
}

/// `G g G^T`: the nine weights of an input and an output channel, transformed.
pub(crate) fn weight(g: [f32; 9]) -> [f32; 36] {
    let row = |g: [f64; 3]| {
        let (even, odd) = (g[0] + g[2], g[1]);
        let (far, odd2) = (g[0] / 24.0 + g[2] / 6.0, g[1] / 12.0);
        [g[0] / 4.0, -(even + odd) / 6.0, (odd - even) / 6.0, far + odd2, far - odd2, g[2]]
    };
    let g = g.map(f64::from);
    let columns = [0, 1, 2].map(|j| row([g[j], g[3 + j], g[6 + j]]));
    let mut out = [0.0; 36];
    for (i, out) in out.chunks_exact_mut(6).enumerate() {
        for (out, x) in out.iter_mut().zip(row([columns[0][i], columns[1][i], columns[2][i]])) {
            *out = x as f32;
        }
    }
    out
}
