//! The backends: they run the steps of a schedule.

#[cfg(test)]
pub(crate) mod cases;
pub(crate) mod cpu;
#[cfg(feature = "gpu")]
pub(crate) mod gpu;
pub(crate) mod key;
pub(crate) mod lens;
#[cfg(test)]
pub(crate) mod lowered;
#[cfg(test)]
pub(crate) mod naive;
pub(crate) mod ports;
mod profile;
pub(crate) mod resident;
mod started;

#[cfg(feature = "gpu")]
use std::sync::Arc;

use resident::Data;

use crate::device::{Device, Kind};
use crate::dtype::Precision;
use crate::error::{Error, Result};
use crate::graph::step::Schedule;
use crate::tensor::Tensor;

pub use profile::{Cost, Peak, StepProfile};
pub use resident::DeviceTensor;
pub(crate) use started::Started;

/// The weights of one model on its device, shared by the plans of the model.
pub(crate) enum Weights {
    Cpu(cpu::Weights),
    #[cfg(feature = "gpu")]
    Gpu(gpu::Weights),
}

impl Weights {
    /// No weights yet, of a model of this precision.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) when the device cannot compute so.
    pub(crate) fn new(device: &Device, precision: Precision) -> Result<Self> {
        Ok(match device.kind() {
            Kind::Cpu(_) if precision != Precision::Exact => {
                return Err(Error::unsupported(format!("precision `{precision}` on the CPU, which computes in f32")));
            }
            Kind::Cpu(pool) => Self::Cpu(cpu::Weights::new(pool)?),
            #[cfg(feature = "gpu")]
            Kind::Gpu(gpu) => Self::Gpu(gpu::Weights::with_precision(gpu, precision)?),
        })
    }

    /// The bytes that they take on the device.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Cpu(weights) => weights.bytes(),
            #[cfg(feature = "gpu")]
            Self::Gpu(weights) => weights.bytes(),
        }
    }
}

/// A schedule, compiled for the device of its weights.
pub(crate) enum Plan {
    Cpu(cpu::Plan),
    #[cfg(feature = "gpu")]
    Gpu(gpu::Plan),
}

impl Plan {
    pub(crate) fn new(schedule: &Schedule, weights: &mut Weights) -> Result<Self> {
        Ok(match weights {
            Weights::Cpu(weights) => Self::Cpu(cpu::Plan::new(schedule, weights)?),
            #[cfg(feature = "gpu")]
            Weights::Gpu(weights) => Self::Gpu(gpu::Plan::new(schedule, weights)?),
        })
    }

    /// Begins a run: on the CPU it is done when this returns.
    pub(crate) fn start(&mut self, inputs: &[Tensor]) -> Result<Started> {
        Ok(match self {
            Self::Cpu(plan) => Started::Done(plan.run(inputs)?),
            #[cfg(feature = "gpu")]
            Self::Gpu(plan) => Started::Running(plan.start(inputs)?),
        })
    }

    /// Runs the plan from tensors on its device to new ones.
    pub(crate) fn run_resident(&mut self, inputs: &[DeviceTensor], device: &Device) -> Result<Vec<DeviceTensor>> {
        match self {
            Self::Cpu(plan) => {
                let host = |input: &DeviceTensor| match &input.data {
                    Data::Cpu(tensor) => Ok(tensor.clone()),
                    #[cfg(feature = "gpu")]
                    Data::Gpu(_) => Err(elsewhere(input, device)),
                };
                let outputs = plan.run(&inputs.iter().map(host).collect::<Result<Vec<_>>>()?)?;
                Ok(outputs.into_iter().map(|output| DeviceTensor::of(device, Data::Cpu(output))).collect())
            }
            #[cfg(feature = "gpu")]
            Self::Gpu(plan) => {
                let inputs: Vec<_> = inputs.iter().map(|input| resident_on(input, device)).collect::<Result<_>>()?;
                let outputs = plan.run_resident(&inputs)?;
                Ok(outputs.into_iter().map(|output| DeviceTensor::of(device, Data::Gpu(output))).collect())
            }
        }
    }

    /// Runs the plan so often and times its steps.
    pub(crate) fn profile(&mut self, inputs: &[Tensor], runs: usize) -> Result<Vec<StepProfile>> {
        match self {
            Self::Cpu(plan) => plan.profile(inputs, runs),
            #[cfg(feature = "gpu")]
            Self::Gpu(plan) => plan.profile(inputs, runs),
        }
    }

    /// The names of the kernels of a run, in its order. `schedule` is what the plan was made from.
    pub(crate) fn kernels(&self, schedule: &Schedule) -> Vec<&'static str> {
        match self {
            Self::Cpu(_) => schedule.steps.iter().map(|step| step.kernel.name()).collect(),
            #[cfg(feature = "gpu")]
            Self::Gpu(plan) => plan.kernels(),
        }
    }

    /// The number of kernels of a run.
    pub(crate) fn steps(&self) -> usize {
        match self {
            Self::Cpu(plan) => plan.steps(),
            #[cfg(feature = "gpu")]
            Self::Gpu(plan) => plan.dispatches(),
        }
    }

    /// The bytes of files that were brought to a GPU for this plan, and the milliseconds that it took.
    pub(crate) fn upload(&self) -> Option<(u64, f64)> {
        match self {
            Self::Cpu(_) => None,
            #[cfg(feature = "gpu")]
            Self::Gpu(plan) => Some(plan.upload),
        }
    }

    /// The bytes of memory for what is computed between input and output.
    pub(crate) fn arena_bytes(&self) -> usize {
        match self {
            Self::Cpu(plan) => plan.arena_bytes(),
            #[cfg(feature = "gpu")]
            Self::Gpu(plan) => plan.arena_bytes(),
        }
    }
}

/// An input that is on this GPU.
#[cfg(feature = "gpu")]
fn resident_on<'a>(input: &'a DeviceTensor, device: &Device) -> Result<&'a resident::Resident> {
    match (&input.data, input.device().kind(), device.kind()) {
        (Data::Gpu(resident), Kind::Gpu(own), Kind::Gpu(gpu)) if Arc::ptr_eq(own, gpu) => Ok(resident),
        _ => Err(elsewhere(input, device)),
    }
}

#[cfg(feature = "gpu")]
fn elsewhere(input: &DeviceTensor, device: &Device) -> Error {
    Error::device(format!("an input is on `{}`, the model on `{device}`", input.device()))
        .help("move it with `to_tensor` and `DeviceTensor::new`")
}
