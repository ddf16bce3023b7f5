//! How exactly a model computes.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};

/// How exactly a model computes on a GPU. Nothing falls back: a device that cannot compute so is an error.
///
/// ```
/// use sconce::Precision;
/// assert_eq!("fast".parse::<Precision>()?, Precision::Fast);
/// assert_eq!(Precision::Half.to_string(), "f16");
/// # Ok::<(), sconce::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Precision {
    /// Numbers and sums are `f32`.
    #[default]
    Exact,
    /// Convolutions and linear layers multiply `f16` on the GPU's matrix units and sum in `f32`; everything else is
    /// `f32`. Weights and activations beyond 65504 become infinite in these products. Needs matrix units that wgpu
    /// knows and whose self-test passes. No such GPU was at hand when it was written: compare with
    /// [`Exact`](Self::Exact), as `sconce bench --dtype f32,fast` does, before you rely on it.
    Fast,
    /// Weights and what is computed between input and output are kept in `f16`, half the memory; sums are `f32`.
    /// Numbers beyond 65504 become infinite, and integers of 2^11 or more in a computation of a `.pt2` file are an error. Matrix units are used where there are any. Needs shaders with `f16`.
    Half,
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Exact => "f32",
            Self::Fast => "fast",
            Self::Half => "f16",
        })
    }
}

impl FromStr for Precision {
    type Err = Error;

    /// `f32`, `fast` or `f16`.
    fn from_str(text: &str) -> Result<Self> {
        match text {
            "f32" | "exact" => Ok(Self::Exact),
            "fast" => Ok(Self::Fast),
            "f16" | "half" => Ok(Self::Half),
            _ => Err(Error::unsupported(format!("`{text}` is no precision")).help("there are f32, fast and f16")),
        }
    }
}
