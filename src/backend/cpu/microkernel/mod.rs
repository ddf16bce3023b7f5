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

use crate::error::{Error, Result};

pub(crate) use tile::{DepthTile, DotTile, Finish, Tile};

/// An instruction set that has kernels. All that the target can have are compiled in; one is chosen at run time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Isa {
    Avx512,
    Avx2,
    Neon,
    Portable,
}

impl Isa {
    /// Every instruction set, the preferred ones first.
    pub(crate) const ALL: [Isa; 4] = [Isa::Avx512, Isa::Avx2, Isa::Neon, Isa::Portable];

    /// The best one that this machine has.
    pub(crate) fn detect() -> Self {
        Self::ALL.into_iter().find(|isa| isa.is_available()).unwrap_or(Isa::Portable)
    }

    /// Whether this machine has it.
    pub(crate) fn is_available(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => is_x86_feature_detected!("avx512f"),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
            Isa::Neon => cfg!(target_arch = "aarch64"),
            Isa::Portable => true,
            #[cfg(not(target_arch = "x86_64"))]
            _ => false,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Isa::Avx512 => "avx512",
            Isa::Avx2 => "avx2",
            Isa::Neon => "neon",
            Isa::Portable => "portable",
        }
    }

    /// Its kernels.
    ///
    /// # Errors
    /// When this machine does not have the instruction set.
    pub(crate) fn kernels(self) -> Result<&'static Kernels> {
        if !self.is_available() {
            let have: Vec<_> = Self::ALL.into_iter().filter(|isa| isa.is_available()).map(Isa::name).collect();
            return Err(Error::device(format!("this machine does not have the instruction set `{}`", self.name()))
                .help(format!("it has: {}", have.join(", "))));
        }
        Ok(match self {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => &avx512::KERNELS,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => &avx2::KERNELS,
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => &neon::KERNELS,
            _ => &portable::KERNELS,
        })
    }
}

/// The kernels of one instruction set. They may be called only on a machine that has it, with arguments that keep the
/// promises of their types' fields.
pub(crate) struct Kernels {
    /// The number of `f32` in a vector.
    pub(crate) lanes: usize,
    /// The number of columns of a full panel: two vectors.
    pub(crate) columns: usize,
    /// Indexed by the number of rows less one, then by the number of vectors of the panel less one.
    pub(crate) tiles: &'static [[unsafe fn(&Tile); 2]],
    /// Indexed by the number of pixels less one.
    pub(crate) depthwise: &'static [unsafe fn(&DepthTile)],
    /// Indexed by the number of rows of `x` less one. Four rows of the weight each.
    pub(crate) dots: &'static [unsafe fn(&DotTile)],
}

impl Kernels {
    /// The most rows that a tile can have.
    pub(crate) fn rows(&self) -> usize {
        self.tiles.len()
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
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V;
    /// `a * b + c`.
    unsafe fn mul_add(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn min(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn sum(x: Self::V) -> f32;
}
