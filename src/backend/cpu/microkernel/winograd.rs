//! The transforms of Winograd's F(4x4, 3x3) and F(2x2, 3x3): four by four outputs of a 3x3 convolution from six by six
//! inputs, as 36 products instead of 144, or two by two from four by four, as 16 instead of 36. The points are 0, 1, -1,
//! for the larger one 2 and -2, and infinity (Lavin and Gray, "Fast algorithms for convolutional neural networks", 2015).
//! `N` is 6 or 4, the inputs along one side.
#![allow(clippy::needless_range_loop, reason = "tiles read best by row and column")]

use super::Simd;
use super::tile::Finish;

/// The products of the largest tile.
pub(crate) const MAX_POINTS: usize = 36;

/// The inputs of one tile of outputs, transformed: `out[N i + j] = (B^T d B)[i][j]`, channel by channel.
pub(crate) struct WinogradInput {
    /// The `N * N` pixels, row by row, `channels` numbers each.
    pub(crate) pixels: [*const f32; MAX_POINTS],
    /// A multiple of the lanes.
    pub(crate) channels: usize,
    pub(crate) out: *mut f32,
    /// Elements from one of the `N * N` results to the next.
    pub(crate) plane: usize,
}

/// The outputs of one tile: `y = A^T m A` of `N * N` sums, channel by channel.
pub(crate) struct WinogradOutput {
    pub(crate) sums: *const f32,
    /// Elements from one of the sums to the next.
    pub(crate) plane: usize,
    /// A multiple of the lanes.
    pub(crate) channels: usize,
    pub(crate) out: *mut f32,
    /// Elements from one row and from one column of pixels to the next.
    pub(crate) strides: [usize; 2],
    /// The rows and columns of the tile that exist, at most `N - 2`.
    pub(crate) size: [usize; 2],
    /// For the tile's first pixel; it never accumulates.
    pub(crate) finish: Finish,
}

/// # Safety
/// As the fields of [`WinogradInput`] say; the caller is compiled for `S`.
#[inline(always)]
pub(super) unsafe fn input<S: Simd, const N: usize>(t: &WinogradInput) {
    // SAFETY: every channel of the pixels and of the results exists.
    unsafe {
        for c in (0..t.channels).step_by(S::LANES) {
            let mut d = [[S::splat(0.0); N]; N];
            for j in 0..N {
                let mut column = [S::splat(0.0); N];
                for i in 0..N {
                    column[i] = S::load(t.pixels[N * i + j].add(c));
                }
                let column = input_row::<S, N>(column);
                for i in 0..N {
                    d[i][j] = column[i];
                }
            }
            for i in 0..N {
                let row = input_row::<S, N>(d[i]);
                for j in 0..N {
                    S::store(t.out.add((N * i + j) * t.plane + c), row[j]);
                }
            }
        }
    }
}

/// `B^T d`
#[inline(always)]
unsafe fn input_row<S: Simd, const N: usize>(d: [S::V; N]) -> [S::V; N] {
    let mut out = d;
    // SAFETY: the caller is compiled for `S`.
    unsafe {
        if N == 4 {
            out[0] = S::sub(d[0], d[2]);
            out[1] = S::add(d[1], d[2]);
            out[2] = S::sub(d[2], d[1]);
            out[3] = S::sub(d[1], d[3]);
            return out;
        }
        let number = |x| S::splat(x);
        let even = S::mul_add(number(-4.0), d[2], d[4]);
        let odd = S::mul_add(number(-4.0), d[1], d[3]);
        let (rest, twice) = (S::sub(d[4], d[2]), S::sub(d[3], d[1]));
        out[0] = S::mul_add(number(4.0), d[0], S::mul_add(number(-5.0), d[2], d[4]));
        out[1] = S::add(even, odd);
        out[2] = S::sub(even, odd);
        out[3] = S::mul_add(number(2.0), twice, rest);
        out[4] = S::mul_add(number(-2.0), twice, rest);
        out[5] = S::mul_add(number(4.0), d[1], S::mul_add(number(-5.0), d[3], d[5]));
        out
    }
}

/// # Safety
/// As the fields of [`WinogradOutput`] say; the caller is compiled for `S`.
#[inline(always)]
pub(super) unsafe fn output<S: Simd, const N: usize>(t: &WinogradOutput) {
    // SAFETY: every channel of the sums and of the pixels within `size` exists.
    unsafe {
        let f = &t.finish;
        let (low, high) = (S::splat(f.low), S::splat(f.high));
        for c in (0..t.channels).step_by(S::LANES) {
            let start = if f.bias.is_null() { S::splat(0.0) } else { S::load(f.bias.add(c)) };
            let mut m = [[S::splat(0.0); N]; 4];
            for j in 0..N {
                let mut column = [S::splat(0.0); N];
                for i in 0..N {
                    column[i] = S::load(t.sums.add((N * i + j) * t.plane + c));
                }
                let column = output_row::<S, N>(column);
                for i in 0..N - 2 {
                    m[i][j] = column[i];
                }
            }
            for i in 0..t.size[0] {
                let row = output_row::<S, N>(m[i]);
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

/// `A^T m`: the first `N - 2` numbers.
#[inline(always)]
unsafe fn output_row<S: Simd, const N: usize>(m: [S::V; N]) -> [S::V; 4] {
    // SAFETY: the caller is compiled for `S`.
    unsafe {
        let (sum1, rest1) = (S::add(m[1], m[2]), S::sub(m[1], m[2]));
        if N == 4 {
            let zero = S::splat(0.0);
            return [S::add(m[0], sum1), S::sub(rest1, m[3]), zero, zero];
        }
        let (sum2, rest2) = (S::add(m[3], m[4]), S::sub(m[3], m[4]));
        [
            S::add(S::add(m[0], sum1), sum2),
            S::mul_add(S::splat(2.0), rest2, rest1),
            S::mul_add(S::splat(4.0), sum2, sum1),
            S::add(S::mul_add(S::splat(8.0), rest2, rest1), m[5]),
        ]
    }
}

/// `G g G^T`: the nine weights of an input and an output channel, transformed; the first `N * N` numbers, for the `N` of
/// tiles with `outputs` along a side.
pub(crate) fn weight(g: [f32; 9], outputs: usize) -> [f32; MAX_POINTS] {
    let row = |g: [f64; 3]| {
        let (even, odd) = (g[0] + g[2], g[1]);
        if outputs == 2 {
            return [g[0], (even + odd) / 2.0, (even - odd) / 2.0, g[2], 0.0, 0.0];
        }
        let (far, odd2) = (g[0] / 24.0 + g[2] / 6.0, g[1] / 12.0);
        [g[0] / 4.0, -(even + odd) / 6.0, (odd - even) / 6.0, far + odd2, far - odd2, g[2]]
    };
    let (g, n) = (g.map(f64::from), outputs + 2);
    let columns = [0, 1, 2].map(|j| row([g[j], g[3 + j], g[6 + j]]));
    let mut out = [0.0; MAX_POINTS];
    for (i, out) in out.chunks_exact_mut(n).take(n).enumerate() {
        for (out, x) in out.iter_mut().zip(row([columns[0][i], columns[1][i], columns[2][i]])) {
            *out = x as f32;
        }
    }
    out
}
