//! Opens the files PyTorch writes and runs the models in them, on any GPU through wgpu or on the CPU.

mod backend;
pub mod checkpoint;
mod device;
mod dtype;
mod error;
mod graph;
mod shape;
mod tensor;

pub use dtype::DType;
pub use error::{Error, ErrorKind, Result};
pub use shape::Shape;
pub use tensor::{Element, Tensor};
