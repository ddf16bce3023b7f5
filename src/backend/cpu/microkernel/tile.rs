//! The kernels themselves, generic over the vector.
#![allow(clippy::needless_range_loop, reason = "register tiles read best by row and column")]

use super::{DOT_COLUMNS, Simd};

/// What happens to a tile's sums before they are stored: `sum + start`, then `+ before`, then the clamp, then `+ after`.
/// A null pointer means nothing. The rows of `before` and `after` are as far apart as the output's.
#[derive(Clone, Copy)]
pub(crate) struct Finish {
    /// One number a column; ignored when the tile accumulates.
    pub(crate) bias: *const f32,
    pub(crate) before: *const f32,
    pub(crate) after: *const f32,
    pub(crate) low: f32,
    pub(crate) high: f32,
}

impl Finish {
    /// Nothing happens.
    pub(crate) const NONE: Finish = Finish {
        bias: std::ptr::null(),
        before: std::ptr::null(),
        after: std::ptr::null(),
        low: f32::NEG_INFINITY,
        high: f32::INFINITY,
    };
}

/// A tile of a product of rows that lie anywhere and a packed panel:
/// `out[i][j] = sum over taps t and k of rows[t][i][k] * panel[t][k][j]`.
pub(crate) struct Tile {
    /// `taps` times as many pointers as the tile has rows, each to `k` numbers.
    pub(crate) rows: *const *const f32,
    pub(crate) taps: usize,
    pub(crate) k: usize,
    /// `[taps][k][vectors * lanes]`.
    pub(crate) panel: *const f32,
    pub(crate) out: *mut f32,
    /// Elements from one row of the output to the next.
    pub(crate) stride: usize,
    /// The columns that exist, at most those of the panel.
    pub(crate) columns: usize,
    /// Adds to the output instead of to the bias.
    pub(crate) accumulate: bool,
    pub(crate) finish: Finish,
    pub(crate) ahead: Ahead,
}

/// What is asked for while a tile is computed, since it is needed later: a cache line every so many steps along `k`.
#[derive(Clone, Copy)]
pub(crate) struct Ahead {
    /// An address that is mapped, or asking takes long.
    pub(crate) start: *const f32,
    /// Elements from one line to the next, 0 to ask for the same one again and again.
    pub(crate) line: usize,
    /// The steps less one; they are a power of two.
    pub(crate) mask: isize,
}

impl Ahead {
    /// Nothing that is not near already.
    pub(crate) fn nothing(near: *const f32) -> Self {
        Self { start: near, line: 0, mask: 63 }
    }
}

/// # Safety
/// As the fields of [`Tile`] say; the caller is compiled for `S`.
#[inline(always)]
pub(super) unsafe fn tile<S: Simd, const MR: usize, const NV: usize>(t: &Tile) {
    // SAFETY: the pointers are valid for the ranges that the fields of `Tile` state.
    unsafe {
        prefetch::<S, MR, NV>(t.out, t.stride);
        // An address without a page costs a walk through the tables.
        if !t.finish.before.is_null() {
            prefetch::<S, MR, NV>(t.finish.before, t.stride);
        }
        let mut acc = [[S::splat(0.0); NV]; MR];
        let mut panel = t.panel;
        let mut ahead = t.ahead.start;
        for tap in 0..t.taps {
            let mut ends = [std::ptr::null::<f32>(); MR];
            for (i, end) in ends.iter_mut().enumerate() {
                *end = (*t.rows.add(tap * MR + i)).add(t.k);
            }
            let mut k = -(t.k as isize);
            while k != 0 {
                let mut b = [S::splat(0.0); NV];
                for j in 0..NV {
                    b[j] = S::load(panel.add(j * S::LANES));
                }
                for i in 0..MR {
                    let a = S::splat(*ends[i].offset(k));
                    for j in 0..NV {
                        acc[i][j] = S::mul_add(a, b[j], acc[i][j]);
                    }
                }
                panel = panel.add(NV * S::LANES);
                if k & t.ahead.mask == 0 {
                    S::prefetch_far(ahead);
                    ahead = ahead.wrapping_add(t.ahead.line);
                }
                k += 1;
            }
        }
        if t.columns == NV * S::LANES {
            finish::<S, MR, NV, true>(t, acc);
        } else {
            finish::<S, MR, NV, false>(t, acc);
        }
    }
}

/// Asks for the rows of a tile that are needed at its end.
#[inline(always)]
unsafe fn prefetch<S: Simd, const MR: usize, const NV: usize>(at: *const f32, stride: usize) {
    for i in 0..MR {
        for j in 0..NV {
            // SAFETY: any address will do.
            unsafe { S::prefetch(at.wrapping_add(i * stride + j * S::LANES)) };
        }
    }
}

/// One loop for each operand, so that each is small enough to be unrolled: an accumulator that is indexed by a variable
/// lives in memory, in the hot loop too.
#[inline(always)]
unsafe fn finish<S: Simd, const MR: usize, const NV: usize, const FULL: bool>(t: &Tile, mut acc: [[S::V; NV]; MR]) {
    // SAFETY: as in `tile`; the partial loads and stores stay within the columns that exist.
    unsafe {
        let f = &t.finish;
        if t.accumulate {
            add::<S, MR, NV, FULL>(t, t.out, t.stride, &mut acc);
        } else if !f.bias.is_null() {
            add::<S, MR, NV, FULL>(t, f.bias, 0, &mut acc);
        }
        if !f.before.is_null() {
            add::<S, MR, NV, FULL>(t, f.before, t.stride, &mut acc);
        }
        let (low, high) = (S::splat(f.low), S::splat(f.high));
        for i in 0..MR {
            for j in 0..NV {
                acc[i][j] = S::min(high, S::max(low, acc[i][j]));
            }
        }
        if !f.after.is_null() {
            add::<S, MR, NV, FULL>(t, f.after, t.stride, &mut acc);
        }
        for i in 0..MR {
            for j in 0..NV {
                let at = t.out.add(i * t.stride + j * S::LANES);
                store::<S, FULL>(at, acc[i][j], valid::<S, FULL>(t, j));
            }
        }
    }
}

/// The lanes of vector `j` that exist.
#[inline(always)]
fn valid<S: Simd, const FULL: bool>(t: &Tile, j: usize) -> usize {
    if FULL { S::LANES } else { t.columns.saturating_sub(j * S::LANES).min(S::LANES) }
}

/// Adds rows that are `stride` apart.
#[inline(always)]
unsafe fn add<S: Simd, const MR: usize, const NV: usize, const FULL: bool>(
    t: &Tile,
    from: *const f32,
    stride: usize,
    acc: &mut [[S::V; NV]; MR],
) {
    // SAFETY: as in `finish`.
    unsafe {
        for i in 0..MR {
            for j in 0..NV {
                let at = from.add(i * stride + j * S::LANES);
                acc[i][j] = S::add(acc[i][j], load::<S, FULL>(at, valid::<S, FULL>(t, j)));
            }
        }
    }
}

#[inline(always)]
unsafe fn load<S: Simd, const FULL: bool>(from: *const f32, n: usize) -> S::V {
    // SAFETY: `n` elements are readable, `LANES` when `FULL`.
    unsafe { if FULL { S::load(from) } else { S::load_first(from, n) } }
}

#[inline(always)]
unsafe fn store<S: Simd, const FULL: bool>(to: *mut f32, x: S::V, n: usize) {
    // SAFETY: `n` elements are writable, `LANES` when `FULL`.
    unsafe { if FULL { S::store(to, x) } else { S::store_first(to, x, n) } }
}

/// Some pixels of a depthwise convolution: `out[i][c] = sum over taps t of rows[t][i][c] * weights[t][c]`.
pub(crate) struct DepthTile {
    /// `taps` times as many pointers as the tile has pixels, each to `channels` numbers.
    pub(crate) rows: *const *const f32,
    pub(crate) taps: usize,
    pub(crate) weights: *const f32,
    /// Elements from the weights of one tap to those of the next: `channels` rounded up to whole vectors.
    pub(crate) weight_stride: usize,
    pub(crate) out: *mut f32,
    /// Elements from one pixel of the output to the next.
    pub(crate) stride: usize,
    pub(crate) channels: usize,
    /// Adds to the output instead of to the bias.
    pub(crate) accumulate: bool,
    pub(crate) finish: Finish,
}

/// # Safety
/// As the fields of [`DepthTile`] say; the caller is compiled for `S`.
#[inline(always)]
pub(super) unsafe fn depthwise<S: Simd, const PX: usize>(t: &DepthTile) {
    // SAFETY: the channels of each call exist.
    unsafe {
        let mut c = 0;
        while c + 2 * S::LANES <= t.channels {
            depthwise_channels::<S, PX, 2, true>(t, c);
            c += 2 * S::LANES;
        }
        while c < t.channels {
            depthwise_channels::<S, PX, 1, false>(t, c);
            c += S::LANES;
        }
    }
}

#[inline(always)]
unsafe fn depthwise_channels<S: Simd, const PX: usize, const NV: usize, const FULL: bool>(t: &DepthTile, c: usize) {
    // SAFETY: the pointers are valid for the ranges that the fields of `DepthTile` state, `c` is below `channels`.
    unsafe {
        let n = if FULL { S::LANES } else { (t.channels - c).min(S::LANES) };
        let mut acc = [[S::splat(0.0); NV]; PX];
        let (mut rows, mut weights) = (t.rows, t.weights.add(c));
        for _ in 0..t.taps {
            let mut w = [S::splat(0.0); NV];
            for j in 0..NV {
                w[j] = S::load(weights.add(j * S::LANES));
            }
            for i in 0..PX {
                let x = (*rows.add(i)).add(c);
                for j in 0..NV {
                    acc[i][j] = S::mul_add(w[j], load::<S, FULL>(x.add(j * S::LANES), n), acc[i][j]);
                }
            }
            rows = rows.add(PX);
            weights = weights.add(t.weight_stride);
        }
        finish_channels::<S, PX, NV, FULL>(t, c, n, acc);
    }
}

/// Finishes the channels from `c` on, `n` of them in a vector.
#[inline(always)]
unsafe fn finish_channels<S: Simd, const PX: usize, const NV: usize, const FULL: bool>(
    t: &DepthTile,
    c: usize,
    n: usize,
    acc: [[S::V; NV]; PX],
) {
    // SAFETY: as in `depthwise_channels`.
    unsafe {
        let at = |pointer: *const f32| if pointer.is_null() { pointer } else { pointer.add(c) };
        let f = &t.finish;
        let tile = Tile {
            rows: t.rows,
            taps: 0,
            k: 0,
            panel: t.weights,
            out: t.out.add(c),
            stride: t.stride,
            columns: n,
            accumulate: t.accumulate,
            finish: Finish { bias: at(f.bias), before: at(f.before), after: at(f.after), ..*f },
            ahead: Ahead::nothing(t.weights),
        };
        finish::<S, PX, NV, FULL>(&tile, acc);
    }
}

/// The same of a convolution with `G` inputs and outputs a group: the weights of a tap are `[G][channels]`, those of each
/// output's first input, of each one's second input, and so on. The channels are whole vectors.
///
/// # Safety
/// As the fields of [`DepthTile`] say; the caller is compiled for `S`.
#[inline(always)]
pub(super) unsafe fn grouped<S: Simd, const PX: usize, const G: usize>(t: &DepthTile) {
    // SAFETY: the pointers are valid for the ranges that the fields of `DepthTile` state; every vector is whole.
    unsafe {
        for c in (0..t.channels).step_by(S::LANES) {
            let mut acc = [[S::splat(0.0); 1]; PX];
            let (mut rows, mut weights) = (t.rows, t.weights.add(c));
            for _ in 0..t.taps {
                for j in 0..G {
                    let w = S::load(weights.add(j * t.channels));
                    for i in 0..PX {
                        let x = *rows.add(i);
                        let x =
                            if G > S::LANES { S::splat(*x.add(c / G * G + j)) } else { S::spread::<G>(x.add(c), j) };
                        acc[i][0] = S::mul_add(w, x, acc[i][0]);
                    }
                }
                rows = rows.add(PX);
                weights = weights.add(t.weight_stride);
            }
            finish_channels::<S, PX, 1, true>(t, c, S::LANES, acc);
        }
    }
}

/// Dot products of rows of `x` and four rows of a weight: `out[i][j] = sum over k of x[i][k] * weight[j][k]`.
pub(crate) struct DotTile {
    /// As many rows as the tile has, each of `k` numbers, contiguous.
    pub(crate) x: *const f32,
    /// Four rows; one may be given several times.
    pub(crate) weight: [*const f32; DOT_COLUMNS],
    pub(crate) k: usize,
    /// `[rows][4]`.
    pub(crate) out: *mut f32,
}

/// # Safety
/// As the fields of [`DotTile`] say; the caller is compiled for `S`.
#[inline(always)]
pub(super) unsafe fn dot<S: Simd, const MR: usize>(t: &DotTile) {
    // SAFETY: every read lies within the `k` numbers of a row.
    unsafe {
        let mut acc = [[S::splat(0.0); DOT_COLUMNS]; MR];
        let mut k = 0;
        // The processor follows a row by itself, but not to the rows that come next.
        let ahead = DOT_COLUMNS * t.k;
        while k + S::LANES <= t.k {
            for row in t.weight {
                S::prefetch(row.wrapping_add(k + ahead));
            }
            dot_step::<S, MR, true>(t, k, S::LANES, &mut acc);
            k += S::LANES;
        }
        if k < t.k {
            dot_step::<S, MR, false>(t, k, t.k - k, &mut acc);
        }
        for i in 0..MR {
            for j in 0..DOT_COLUMNS {
                *t.out.add(i * DOT_COLUMNS + j) = S::sum(acc[i][j]);
            }
        }
    }
}

#[inline(always)]
unsafe fn dot_step<S: Simd, const MR: usize, const FULL: bool>(
    t: &DotTile,
    k: usize,
    n: usize,
    acc: &mut [[S::V; DOT_COLUMNS]; MR],
) {
    // SAFETY: `k + n` is at most the length of a row.
    unsafe {
        let mut w = [S::splat(0.0); DOT_COLUMNS];
        for j in 0..DOT_COLUMNS {
            w[j] = load::<S, FULL>(t.weight[j].add(k), n);
        }
        for i in 0..MR {
            let x = load::<S, FULL>(t.x.add(i * t.k + k), n);
            for j in 0..DOT_COLUMNS {
                acc[i][j] = S::mul_add(x, w[j], acc[i][j]);
            }
        }
    }
}

/// Multiplies and adds, `rounds` times for each of `MR` times two vectors, and does nothing else; gives the sum.
///
/// # Safety
/// The caller is compiled for `S`.
#[inline(always)]
pub(super) unsafe fn multiply_add<S: Simd, const MR: usize>(rounds: usize, a: f32, b: f32) -> f32 {
    // SAFETY: the caller is compiled for `S`.
    unsafe {
        let (a, b) = (S::splat(a), [S::splat(b), S::splat(-b)]);
        let mut acc = [[S::splat(1.0); 2]; MR];
        for _ in 0..rounds {
            for i in 0..MR {
                for j in 0..2 {
                    acc[i][j] = S::mul_add(a, acc[i][j], b[j]);
                }
            }
        }
        let mut sum = S::splat(0.0);
        for i in 0..MR {
            for j in 0..2 {
                sum = S::add(sum, acc[i][j]);
            }
        }
        S::sum(sum)
    }
}

/// Makes the [`Kernels`](super::Kernels) of an instruction set: `$rows` are the heights of its tiles in order, `$wrap`
/// the attribute that turns the instruction set on.
macro_rules! kernels {
    ($isa:ident, $simd:ty, $(#[$wrap:meta])? tile: [$($rows:literal)*], depthwise: [$($px:literal)*]) => {
        $(#[$wrap])?
        unsafe fn run_tile<const MR: usize, const NV: usize>(t: &Tile) {
            // SAFETY: the caller keeps the promises; the attribute turns on what the vector type needs.
            unsafe { tile::tile::<$simd, MR, NV>(t) }
        }
        $(#[$wrap])?
        unsafe fn run_depthwise<const PX: usize>(t: &DepthTile) {
            // SAFETY: as above.
            unsafe { tile::depthwise::<$simd, PX>(t) }
        }
        $(#[$wrap])?
        unsafe fn run_grouped<const PX: usize, const G: usize>(t: &DepthTile) {
            // SAFETY: as above.
            unsafe { tile::grouped::<$simd, PX, G>(t) }
        }
        $(#[$wrap])?
        unsafe fn run_dot<const MR: usize>(t: &DotTile) {
            // SAFETY: as above.
            unsafe { tile::dot::<$simd, MR>(t) }
        }
        $(#[$wrap])?
        unsafe fn run_winograd_input<const N: usize>(t: &WinogradInput) -> bool {
            // SAFETY: as above.
            unsafe { winograd::input::<$simd, N>(t) }
        }
        $(#[$wrap])?
        unsafe fn run_winograd_output<const N: usize>(t: &WinogradOutput) {
            // SAFETY: as above.
            unsafe { winograd::output::<$simd, N>(t) }
        }
        $(#[$wrap])?
        unsafe fn run_multiply_add(rounds: usize, a: f32, b: f32) -> f32 {
            // SAFETY: as above.
            unsafe { tile::multiply_add::<$simd, { [$($rows),*].len() }>(rounds, a, b) }
        }
        pub(super) static KERNELS: Kernels = Kernels {
            isa: Isa::$isa,
            lanes: <$simd as Simd>::LANES,
            columns: 2 * <$simd as Simd>::LANES,
            tiles: &[$([run_tile::<$rows, 1>, run_tile::<$rows, 2>]),*],
            depthwise: &[$(run_depthwise::<$px>),*],
            grouped: &[$([run_grouped::<$px, 2>, run_grouped::<$px, 4>, run_grouped::<$px, 8>]),*],
            dots: &[run_dot::<1>, run_dot::<2>, run_dot::<3>, run_dot::<4>],
            winograd_input: [run_winograd_input::<4>, run_winograd_input::<6>],
            winograd_output: [run_winograd_output::<4>, run_winograd_output::<6>],
            multiply_add: run_multiply_add,
        };
    };
}
pub(super) use kernels;
