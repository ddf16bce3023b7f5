//! The CPU backend: threads and SIMD.

pub(crate) mod isa;
pub(crate) mod math;
pub(crate) mod vector;
