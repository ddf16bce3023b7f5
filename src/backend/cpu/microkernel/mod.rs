//! The innermost loops: register tiles of a matrix product whose rows are given by pointers, of a depthwise
//! convolution, and of dot products. Each is written once over [`Simd`] and compiled for every instruction set.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;
mod portable;
mod tile;
mod winograd;

use super::isa::Isa;

pub(crate) use tile::{Ahead, DepthTile, DotTile, Finish, Tile};
pub(crate) use winograd::{
    MAX_POINTS, WinogradInput, WinogradOutput, inverse as winograd_inverse, weight as winograd_weight,
};

impl Isa {
    /// Its kernels.
    pub(crate) fn kernels(self) -> &'static Kernels {
        match self {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => &avx512::KERNELS,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => &avx2::KERNELS,
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => &neon::KERNELS,
            _ => &portable::KERNELS,
        }
    }
}

/// The kernels of one instruction set. They may be called only on a machine that has it, with arguments that keep the
/// promises of their types' fields.
pub(crate) struct Kernels {
    pub(crate) isa: Isa,
    /// The number of `f32` in a vector.
    pub(crate) lanes: usize,
    /// The number of columns of a full panel: two vectors.
    pub(crate) columns: usize,
    /// Indexed by the number of rows less one, then by the number of vectors of the panel less one.
    pub(crate) tiles: &'static [[unsafe fn(&Tile); 2]],
    /// Indexed by the number of pixels less one.
    pub(crate) depthwise: &'static [unsafe fn(&DepthTile)],
    /// Indexed by the number of pixels less one, then by the channels of a group: 2, 4 and 8.
    pub(crate) grouped: &'static [[unsafe fn(&DepthTile); 3]],
    /// Indexed by the number of rows of `x` less one. Four rows of the weight each.
    pub(crate) dots: &'static [unsafe fn(&DotTile)],
    /// For tiles of two by two outputs, and of four by four.
    pub(crate) winograd_input: [unsafe fn(&WinogradInput) -> bool; 2],
    pub(crate) winograd_output: [unsafe fn(&WinogradOutput); 2],
    /// So many rounds of a full tile's multiplications and additions, of the numbers given: the most there can be.
    pub(crate) multiply_add: unsafe fn(usize, f32, f32) -> f32,
}

impl Kernels {
    /// The most rows that a tile can have.
    pub(crate) fn rows(&self) -> usize {
        self.tiles.len()
    }

    /// The floating-point operations of a round of `multiply_add`.
    pub(crate) fn round_flops(&self) -> usize {
        2 * self.rows() * self.columns
    }
}

/// The rows of the weight that a [`DotTile`] takes.
pub(crate) const DOT_COLUMNS: usize = 4;

/// A vector of `f32` of some instruction set.
///
/// # Safety
/// Every function needs the instruction set; pointers must be valid for what is read or written. `max` and `min` give
/// their second argument when either is NaN.
pub(crate) trait Simd {
    type V: Copy;
    const LANES: usize;

    unsafe fn splat(x: f32) -> Self::V;
    unsafe fn load(from: *const f32) -> Self::V;
    unsafe fn store(to: *mut f32, x: Self::V);
    /// The first `n` elements, at most `LANES`; zeros in the others.
    unsafe fn load_first(from: *const f32, n: usize) -> Self::V;
    unsafe fn store_first(to: *mut f32, x: Self::V, n: usize);
    /// Lane `l` gets element `l / G * G + j`, where `G`, at most `LANES`, is a power of two.
    unsafe fn spread<const G: usize>(from: *const f32, j: usize) -> Self::V;
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V;
    /// `a * b + c`.
    unsafe fn mul_add(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn min(a: Self::V, b: Self::V) -> Self::V;
    /// Asks for a line of memory that will be used soon; any address will do.
    unsafe fn prefetch(at: *const f32);
    /// The same into the second cache.
    unsafe fn prefetch_far(at: *const f32);
    unsafe fn sum(x: Self::V) -> f32;
}
