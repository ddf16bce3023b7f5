//! Opens the files PyTorch writes and runs the models in them, on any GPU through wgpu or on the CPU.

#[allow(dead_code)]
mod backend;
pub mod checkpoint;
mod device;
mod dtype;
mod error;
mod graph;
mod npy;
mod shape;
mod tensor;

pub use device::{Device, DeviceInfo, DeviceKind, DeviceLimits, MemoryUse};
pub use dtype::DType;
pub use error::{Error, ErrorKind, Result};
pub use graph::{Approximate, AvgPoolOptions, ConvOptions, Graph, MaxPoolOptions, PadMode, Padding, PaddingMode, Var};
pub use shape::Shape;
pub use tensor::{Element, Tensor};
