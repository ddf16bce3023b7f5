//! The CPU backend: threads and SIMD.

mod activation;
pub(crate) mod conv;
mod gemm;
pub(crate) mod linear;
pub(crate) mod matmul;
pub(crate) mod microkernel;
mod pack;
#[cfg(test)]
mod product_tests;
