//! AVX-512: 32 registers of 16 numbers; a tile of 12 rows by 32 columns keeps 24 of them.

use std::arch::x86_64::*;

use super::{DepthTile, DotTile, Isa, Kernels, Simd, Tile, WinogradInput, WinogradOutput, tile, winograd};

struct Avx512;

/// The mask of the first `n` lanes.
#[inline(always)]
fn first(n: usize) -> __mmask16 {
    ((1u32 << n) - 1) as __mmask16
}

// SAFETY of every block: the trait's callers have AVX-512 and valid pointers.
impl Simd for Avx512 {
    type V = __m512;
    const LANES: usize = 16;

    #[inline(always)]
    unsafe fn splat(x: f32) -> __m512 {
        // SAFETY: as above.
        unsafe { _mm512_set1_ps(x) }
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> __m512 {
        // SAFETY: as above.
        unsafe { _mm512_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn store(to: *mut f32, x: __m512) {
        // SAFETY: as above.
        unsafe { _mm512_storeu_ps(to, x) }
    }

    #[inline(always)]
    unsafe fn load_first(from: *const f32, n: usize) -> __m512 {
        // SAFETY: as above; masked lanes are not read.
        unsafe { _mm512_maskz_loadu_ps(first(n), from) }
    }

    #[inline(always)]
    unsafe fn store_first(to: *mut f32, x: __m512, n: usize) {
        // SAFETY: as above; masked lanes are not written.
        unsafe { _mm512_mask_storeu_ps(to, first(n), x) }
    }

    #[inline(always)]
    unsafe fn spread<const G: usize>(from: *const f32, j: usize) -> __m512 {
        // SAFETY: as above.
        unsafe {
            let lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
            let firsts = _mm512_and_epi32(lanes, _mm512_set1_epi32(-(G as i32)));
            let index = _mm512_add_epi32(firsts, _mm512_set1_epi32(j as i32));
            _mm512_permutexvar_ps(index, _mm512_loadu_ps(from))
        }
    }

    #[inline(always)]
    unsafe fn add(a: __m512, b: __m512) -> __m512 {
        // SAFETY: as above.
        unsafe { _mm512_add_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn sub(a: __m512, b: __m512) -> __m512 {
        // SAFETY: as above.
        unsafe { _mm512_sub_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn mul_add(a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: as above.
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    unsafe fn max(a: __m512, b: __m512) -> __m512 {
        // SAFETY: as above.
        unsafe { _mm512_max_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn min(a: __m512, b: __m512) -> __m512 {
        // SAFETY: as above.
        unsafe { _mm512_min_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn prefetch(at: *const f32) {
        // SAFETY: a hint, which never faults.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
    }

    #[inline(always)]
    unsafe fn prefetch_far(at: *const f32) {
        // SAFETY: as above.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(at.cast()) }
    }

    #[inline(always)]
    unsafe fn sum(x: __m512) -> f32 {
        // SAFETY: as above.
        unsafe { _mm512_reduce_add_ps(x) }
    }
}

tile::kernels!(
    Avx512,
    Avx512,
    #[target_feature(enable = "avx512f")]
    tile: [1 2 3 4 5 6 7 8 9 10 11 12],
    depthwise: [1 2 3 4 5 6 7 8]
);
