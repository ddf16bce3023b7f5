//! AVX2 with FMA: 16 registers of 8 numbers; a tile of 6 rows by 16 columns keeps 12 of them.

use std::arch::x86_64::*;

use super::{DepthTile, DotTile, Isa, Kernels, Simd, Tile, WinogradInput, WinogradOutput, tile, winograd};

struct Avx2;

/// The mask of the first `n` lanes.
#[inline(always)]
unsafe fn first(n: usize) -> __m256i {
    const LANES: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];
    // SAFETY: `n` is at most 8, so the eight numbers lie in the table; the caller has AVX2.
    unsafe { _mm256_loadu_si256(LANES.as_ptr().add(8 - n).cast()) }
}

// SAFETY of every block: the trait's callers have AVX2 and FMA and valid pointers.
impl Simd for Avx2 {
    type V = __m256;
    const LANES: usize = 8;

    #[inline(always)]
    unsafe fn splat(x: f32) -> __m256 {
        // SAFETY: as above.
        unsafe { _mm256_set1_ps(x) }
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> __m256 {
        // SAFETY: as above.
        unsafe { _mm256_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn store(to: *mut f32, x: __m256) {
        // SAFETY: as above.
        unsafe { _mm256_storeu_ps(to, x) }
    }

    #[inline(always)]
    unsafe fn load_first(from: *const f32, n: usize) -> __m256 {
        // SAFETY: as above; masked lanes are not read.
        unsafe { _mm256_maskload_ps(from, first(n)) }
    }

    #[inline(always)]
    unsafe fn store_first(to: *mut f32, x: __m256, n: usize) {
        // SAFETY: as above; masked lanes are not written.
        unsafe { _mm256_maskstore_ps(to, first(n), x) }
    }

    #[inline(always)]
    unsafe fn spread<const G: usize>(from: *const f32, j: usize) -> __m256 {
        // SAFETY: as above.
        unsafe {
            let lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
            let firsts = _mm256_and_si256(lanes, _mm256_set1_epi32(-(G as i32)));
            let index = _mm256_add_epi32(firsts, _mm256_set1_epi32(j as i32));
            _mm256_permutevar8x32_ps(_mm256_loadu_ps(from), index)
        }
    }

    #[inline(always)]
    unsafe fn add(a: __m256, b: __m256) -> __m256 {
        // SAFETY: as above.
        unsafe { _mm256_add_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn sub(a: __m256, b: __m256) -> __m256 {
        // SAFETY: as above.
        unsafe { _mm256_sub_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn mul_add(a: __m256, b: __m256, c: __m256) -> __m256 {
        // SAFETY: as above.
        unsafe { _mm256_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    unsafe fn max(a: __m256, b: __m256) -> __m256 {
        // SAFETY: as above.
        unsafe { _mm256_max_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn min(a: __m256, b: __m256) -> __m256 {
        // SAFETY: as above.
        unsafe { _mm256_min_ps(a, b) }
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
    unsafe fn sum(x: __m256) -> f32 {
        // SAFETY: as above.
        unsafe {
            let x = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
            let x = _mm_add_ps(x, _mm_movehl_ps(x, x));
            _mm_cvtss_f32(_mm_add_ss(x, _mm_shuffle_ps(x, x, 1)))
        }
    }
}

tile::kernels!(
    Avx2,
    Avx2,
    #[target_feature(enable = "avx2,fma")]
    tile: [1 2 3 4 5 6],
    depthwise: [1 2 3 4 5 6]
);
