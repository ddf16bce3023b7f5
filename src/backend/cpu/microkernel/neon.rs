//! NEON: 32 registers of 4 numbers; a tile of 12 rows by 8 columns keeps 24 of them.

use std::arch::aarch64::*;

use super::{DepthTile, DotTile, Isa, Kernels, Simd, Tile, WinogradInput, WinogradOutput, tile, winograd};

struct Neon;

// SAFETY of every block: every aarch64 machine that Rust targets has NEON; the trait's callers have valid pointers.
impl Simd for Neon {
    type V = float32x4_t;
    const LANES: usize = 4;

    #[inline(always)]
    unsafe fn splat(x: f32) -> float32x4_t {
        // SAFETY: as above.
        unsafe { vdupq_n_f32(x) }
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> float32x4_t {
        // SAFETY: as above.
        unsafe { vld1q_f32(from) }
    }

    #[inline(always)]
    unsafe fn store(to: *mut f32, x: float32x4_t) {
        // SAFETY: as above.
        unsafe { vst1q_f32(to, x) }
    }

    #[inline(always)]
    unsafe fn load_first(from: *const f32, n: usize) -> float32x4_t {
        let mut x = [0.0; 4];
        // SAFETY: as above; `n` is at most 4.
        unsafe {
            std::ptr::copy_nonoverlapping(from, x.as_mut_ptr(), n.min(4));
            vld1q_f32(x.as_ptr())
        }
    }

    #[inline(always)]
    unsafe fn store_first(to: *mut f32, x: float32x4_t, n: usize) {
        let mut y = [0.0; 4];
        // SAFETY: as above; `n` is at most 4.
        unsafe {
            vst1q_f32(y.as_mut_ptr(), x);
            std::ptr::copy_nonoverlapping(y.as_ptr(), to, n.min(4));
        }
    }

    #[inline(always)]
    unsafe fn spread<const G: usize>(from: *const f32, j: usize) -> float32x4_t {
        // SAFETY: as above; `l / G * G + j` is below 4.
        unsafe {
            let x: [f32; 4] = std::array::from_fn(|l| *from.add(l / G * G + j));
            vld1q_f32(x.as_ptr())
        }
    }

    #[inline(always)]
    unsafe fn add(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: as above.
        unsafe { vaddq_f32(a, b) }
    }

    #[inline(always)]
    unsafe fn sub(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: as above.
        unsafe { vsubq_f32(a, b) }
    }

    #[inline(always)]
    unsafe fn mul_add(a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t {
        // SAFETY: as above.
        unsafe { vfmaq_f32(c, a, b) }
    }

    // NEON's own maximum and minimum give NaN when either is NaN; the bounds of a clamp never are.
    #[inline(always)]
    unsafe fn max(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: as above.
        unsafe { vmaxq_f32(a, b) }
    }

    #[inline(always)]
    unsafe fn min(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: as above.
        unsafe { vminq_f32(a, b) }
    }

    #[inline(always)]
    unsafe fn prefetch(_: *const f32) {}

    #[inline(always)]
    unsafe fn prefetch_far(_: *const f32) {}

    #[inline(always)]
    unsafe fn sum(x: float32x4_t) -> f32 {
        // SAFETY: as above.
        unsafe { vaddvq_f32(x) }
    }
}

tile::kernels!(Neon, Neon, tile: [1 2 3 4 5 6 7 8 9 10 11 12], depthwise: [1 2 3 4 5 6 7 8]);
