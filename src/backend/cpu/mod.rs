//! The CPU backend: threads and SIMD.

mod attention;
pub(crate) mod conv;
mod copy;
mod gather;
mod gemm;
pub(crate) mod isa;
mod kernel;
pub(crate) mod linear;
pub(crate) mod math;
pub(crate) mod matmul;
pub(crate) mod microkernel;
mod pack;
mod plan;
mod pointwise;
mod pools;
#[cfg(test)]
mod product_tests;
mod program;
mod rows;
mod shared;
#[cfg(test)]
mod timing;
pub(crate) mod vector;
mod weights;

use std::sync::Arc;

pub(crate) use plan::Plan;
pub(crate) use weights::Weights;

use crate::device::pool::Pool;

/// What kernels run on: an instruction set and threads.
#[derive(Clone)]
pub(crate) struct Engine {
    pub(crate) isa: isa::Isa,
    pub(crate) pool: Arc<Pool>,
}
