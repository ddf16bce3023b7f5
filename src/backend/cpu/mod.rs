//! The CPU backend: threads and SIMD.

pub(crate) mod conv;
mod gemm;
pub(crate) mod isa;
pub(crate) mod linear;
pub(crate) mod math;
pub(crate) mod matmul;
pub(crate) mod microkernel;
mod pack;
#[cfg(test)]
mod product_tests;
pub(crate) mod vector;
