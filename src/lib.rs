//! Opens the files PyTorch writes and runs the models in them, on any GPU through wgpu or on the CPU.

mod backend;
pub mod checkpoint;
mod device;
mod dtype;
mod error;
mod graph;
mod import;
mod model;
pub mod models;
pub mod nn;
mod npy;
mod shape;
mod state_dict;
mod tensor;

pub use backend::{Cost, DeviceTensor, Peak, StepProfile};
pub use checkpoint::{Checkpoint, save};
pub use device::{CopyRates, Device, DeviceInfo, DeviceKind, DeviceLimits, MemoryUse};
pub use dtype::{DType, Precision};
pub use error::{Error, ErrorKind, Result};
pub use graph::{
    Approximate, AvgPoolOptions, ConvOptions, ConvTransposeOptions, Graph, MaxPoolOptions, PadMode, Padding,
    PaddingMode, Var,
};
pub use import::module::StoredModule;
pub use import::{OpCount, ProgramInfo, TensorInfo};
pub use model::{Model, PlanInfo, Upload};
pub use shape::Shape;
pub use state_dict::{LoadReport, Mismatch, OptimizerState, ParamGroup, ParamState, StateDict, Strict};
pub use tensor::{Element, Tensor};

/// Opens a file that PyTorch wrote. The file is mapped: no tensor's bytes are read until they are used, and nothing in the
/// file is executed.
///
/// Read are the zip archives of torch 1.6 and later, the legacy streams of torch 0.1.10 to 1.5, the tar archives before
/// those, the weights of TorchScript archives and of `.pt2` programs, safetensors, plain pickles, and the index
/// (`*.index.json`) of a checkpoint in several files; of any pickle protocol, whatever the file is called.
///
/// # Errors
/// [`ErrorKind::Io`] when the file cannot be opened or mapped, [`ErrorKind::Invalid`] when it is damaged or no file of
/// PyTorch, [`ErrorKind::Unsupported`] when it is one of a kind that is not read. The message starts with the file's name.
///
/// ```no_run
/// let checkpoint = sconce::load("resnet18.pth")?;
/// println!("{}", checkpoint["fc.weight"].as_tensor()?.shape());
/// # Ok::<(), sconce::Error>(())
/// ```
pub fn load(path: impl AsRef<std::path::Path>) -> Result<Checkpoint> {
    Checkpoint::open(path)
}
