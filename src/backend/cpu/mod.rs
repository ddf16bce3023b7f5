//! The CPU backend: threads and SIMD.

mod attention;
mod builder;
pub(crate) mod conv;
mod copy;
mod gather;
mod gemm;
pub(crate) mod isa;
mod kernel;
pub(crate) mod linear;
mod math;
pub(crate) mod matmul;
mod methods;
pub(crate) mod microkernel;
mod pack;
pub(crate) mod peak;
mod plan;
mod pointwise;
mod pools;
#[cfg(test)]
mod product_tests;
mod program;
mod rows;
mod shared;
#[cfg(test)]
mod tests;
mod vector;
mod weights;
mod winograd;
mod winograd_tile;

use std::sync::Arc;

use crate::device::pool::Pool;

pub(crate) use plan::Plan;
pub(crate) use weights::Weights;

/// What kernels run on: an instruction set and threads.
#[derive(Clone, Debug)]
pub(crate) struct Engine {
    pub(crate) isa: isa::Isa,
    pub(crate) pool: Arc<Pool>,
}
