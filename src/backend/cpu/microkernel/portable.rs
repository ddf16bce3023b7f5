//! Plain Rust over arrays of four numbers, which the compiler turns into whatever vectors the target always has.

use super::{DepthTile, DotTile, Isa, Kernels, Simd, Tile, WinogradInput, WinogradOutput, tile, winograd};

struct Portable;

type V = [f32; 4];

#[inline(always)]
fn zip(a: V, b: V, f: impl Fn(f32, f32) -> f32) -> V {
    std::array::from_fn(|i| f(a[i], b[i]))
}

// SAFETY of every block: the trait's callers have valid pointers.
impl Simd for Portable {
    type V = V;
    const LANES: usize = 4;

    #[inline(always)]
    unsafe fn splat(x: f32) -> V {
        [x; 4]
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> V {
        // SAFETY: as above.
        unsafe { from.cast::<V>().read() }
    }

    #[inline(always)]
    unsafe fn store(to: *mut f32, x: V) {
        // SAFETY: as above.
        unsafe { to.cast::<V>().write(x) }
    }

    #[inline(always)]
    unsafe fn load_first(from: *const f32, n: usize) -> V {
        let mut x = [0.0; 4];
        // SAFETY: as above; `n` is at most 4.
        unsafe { std::ptr::copy_nonoverlapping(from, x.as_mut_ptr(), n.min(4)) };
        x
    }

    #[inline(always)]
    unsafe fn store_first(to: *mut f32, x: V, n: usize) {
        // SAFETY: as above; `n` is at most 4.
        unsafe { std::ptr::copy_nonoverlapping(x.as_ptr(), to, n.min(4)) };
    }

    #[inline(always)]
    unsafe fn spread<const G: usize>(from: *const f32, j: usize) -> V {
        // SAFETY: as above; `l / G * G + j` is below 4.
        std::array::from_fn(|l| unsafe { *from.add(l / G * G + j) })
    }

    #[inline(always)]
    unsafe fn add(a: V, b: V) -> V {
        zip(a, b, |a, b| a + b)
    }

    #[inline(always)]
    unsafe fn sub(a: V, b: V) -> V {
        zip(a, b, |a, b| a - b)
    }

    #[inline(always)]
    unsafe fn mul_add(a: V, b: V, c: V) -> V {
        // Not `f32::mul_add`, which is a call where the target has no such instruction.
        std::array::from_fn(|i| a[i] * b[i] + c[i])
    }

    #[inline(always)]
    unsafe fn max(a: V, b: V) -> V {
        zip(a, b, |a, b| if a > b { a } else { b })
    }

    #[inline(always)]
    unsafe fn min(a: V, b: V) -> V {
        zip(a, b, |a, b| if a < b { a } else { b })
    }

    #[inline(always)]
    unsafe fn prefetch(_: *const f32) {}

    #[inline(always)]
    unsafe fn prefetch_far(_: *const f32) {}

    #[inline(always)]
    unsafe fn sum(x: V) -> f32 {
        (x[0] + x[1]) + (x[2] + x[3])
    }
}

tile::kernels!(Portable, Portable, tile: [1 2 3 4], depthwise: [1 2 3 4]);
