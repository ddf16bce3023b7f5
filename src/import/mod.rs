//! Whole-model files: a file that says what to compute becomes a graph, with no model code.

pub(crate) mod module;
pub(crate) mod program;

pub use program::{OpCount, ProgramInfo, TensorInfo};
