//! The transforms of Winograd's F(4x4, 3x3) and F(2x2, 3x3): four by four outputs of a 3x3 convolution from six by six
//! inputs, as 36 products instead of 144, or two by two from four by four, as 16 instead of 36 (Lavin and Gray, "Fast
//! algorithms for convolutional neural networks", 2015). The smaller one's points are 0, 1, -1 and infinity. The larger
//! one's are 0, 3/4, -3/4, 3/2, -3/2 and infinity: with 1 and 2 for 3/4 and 3/2 errors are three times as large, since
//! the cubes of the points should be as far below 1 as above. `N` is 6 or 4, the inputs along one side.
#![allow(clippy::needless_range_loop, reason = "tiles read best by row and column")]

use super::Simd;
use super::tile::Finish;

/// The points of the larger transform beside 0 and infinity, with either sign.
const NEAR: f32 = 0.75;
const FAR: f32 = 1.5;

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

/// Transforms the inputs of a tile; `false` when not all of them are finite (or when they are so large that sums are not).
///
/// # Safety
/// As the fields of [`WinogradInput`] say; the caller is compiled for `S`.
#[inline(always)]
pub(super) unsafe fn input<S: Simd, const N: usize>(t: &WinogradInput) -> bool {
    // SAFETY: every channel of the pixels and of the results exists.
    unsafe {
        // 0, or NaN: the four results in the corners depend on every input together.
        let (zero, mut rest) = (S::splat(0.0), S::splat(0.0));
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
                if i == 0 || i == N - 1 {
                    rest = S::mul_add(S::add(row[0], row[N - 1]), zero, rest);
                }
            }
        }
        S::sum(rest) == 0.0
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
        // Every product here is a number of `f32` exactly.
        let (near2, far2) = (number(-NEAR * NEAR), number(-FAR * FAR));
        let (all, sum) = (number(NEAR * NEAR * FAR * FAR), number(-NEAR * NEAR - FAR * FAR));
        let (even, odd) = (S::mul_add(far2, d[2], d[4]), S::mul_add(far2, d[1], d[3]));
        let (rest, times) = (S::mul_add(near2, d[2], d[4]), S::mul_add(near2, d[1], d[3]));
        out[0] = S::mul_add(all, d[0], S::mul_add(sum, d[2], d[4]));
        out[1] = S::mul_add(number(NEAR), odd, even);
        out[2] = S::mul_add(number(-NEAR), odd, even);
        out[3] = S::mul_add(number(FAR), times, rest);
        out[4] = S::mul_add(number(-FAR), times, rest);
        out[5] = S::mul_add(all, d[1], S::mul_add(sum, d[3], d[5]));
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
        let number = |x| S::splat(x);
        let zero = number(0.0);
        [
            S::add(S::add(m[0], sum1), sum2),
            S::mul_add(number(FAR), rest2, S::mul_add(number(NEAR), rest1, zero)),
            S::mul_add(number(FAR * FAR), sum2, S::mul_add(number(NEAR * NEAR), sum1, zero)),
            S::mul_add(number(FAR * FAR * FAR), rest2, S::mul_add(number(NEAR * NEAR * NEAR), rest1, m[5])),
        ]
    }
}

/// `G g G^T`: the nine weights of an input and an output channel, transformed; the first `N * N` numbers, for the `N` of
/// tiles with `outputs` along a side.
pub(crate) fn weight(g: [f32; 9], outputs: usize) -> [f32; MAX_POINTS] {
    let row = |g: [f64; 3]| {
        if outputs == 2 {
            let (even, odd) = (g[0] + g[2], g[1]);
            return [g[0], (even + odd) / 2.0, (even - odd) / 2.0, g[2], 0.0, 0.0];
        }
        let (near2, far2) = (f64::from(NEAR).powi(2), f64::from(FAR).powi(2));
        // At a point and at its negative: the polynomial's value over the product of the distances to the others.
        let at = |point: f64, others: f64| {
            let (even, odd) = (g[0] + point * point * g[2], point * g[1]);
            [(even + odd) / others, (even - odd) / others]
        };
        let [near, below_near] = at(NEAR.into(), 2.0 * near2 * (near2 - far2));
        let [far, below_far] = at(FAR.into(), 2.0 * far2 * (far2 - near2));
        [g[0] / (near2 * far2), near, below_near, far, below_far, g[2]]
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

/// What gives a weight back: each of the three along a side is the sum of two transformed ones, given by their place and
/// factor, of tiles with `outputs` along a side.
pub(crate) fn inverse(outputs: usize) -> [[(usize, f32); 2]; 3] {
    let (first, middle) = match outputs {
        2 => (1.0, 1.0),
        _ => (NEAR * NEAR * FAR * FAR, NEAR * (NEAR * NEAR - FAR * FAR)),
    };
    [[(0, first), (0, 0.0)], [(1, middle), (2, -middle)], [(outputs + 1, 1.0), (0, 0.0)]]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_come_back() {
        let g = [0.5, -1.25, 0.75, 2.0, 0.1, -0.3, 1.5, -0.6, 0.9];
        for outputs in [2, 4] {
            let (u, inverse, n) = (weight(g, outputs), inverse(outputs), outputs + 2);
            for (at, g) in g.into_iter().enumerate() {
                let pairs = inverse[at / 3].into_iter().flat_map(|a| inverse[at % 3].map(|b| (a, b)));
                let back: f32 = pairs.map(|((i, a), (j, b))| a * b * u[i * n + j]).sum();
                assert!((back - g).abs() < 1e-6, "{outputs}, weight {at}: {back}, not {g}");
            }
        }
    }
}
