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

use crate::device::{Device, Kind};
use crate::error::Result;
use crate::graph::step::Schedule;
use crate::tensor::Tensor;

pub use profile::{Cost, Peak, StepProfile};

/// The weights of one model on its device, shared by the plans of the model.
pub(crate) enum Weights {
    Cpu(cpu::Weights),
    #[cfg(feature = "gpu")]
    Gpu(gpu::Weights),
}

impl Weights {
    pub(crate) fn new(device: &Device) -> Result<Self> {
        Ok(match device.kind() {
            Kind::Cpu(pool) => Self::Cpu(cpu::Weights::new(pool)?),
            #[cfg(feature = "gpu")]
            Kind::Gpu(gpu) => Self::Gpu(gpu::Weights::new(gpu)),
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

    pub(crate) fn run(&mut self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        match self {
            Self::Cpu(plan) => plan.run(inputs),
            #[cfg(feature = "gpu")]
            Self::Gpu(plan) => plan.run(inputs),
        }
    }

    /// Runs the plan so often and times its steps.
    pub(crate) fn profile(&mut self, inputs: &[Tensor], runs: usize) -> Result<Vec<StepProfile>> {
        match self {
            Self::Cpu(plan) => plan.profile(inputs, runs),
            #[cfg(feature = "gpu")]
            Self::Gpu(_) => Err(profile::unsupported_on_gpu()),
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

    /// The bytes of memory for what is computed between input and output.
    pub(crate) fn arena_bytes(&self) -> usize {
        match self {
            Self::Cpu(plan) => plan.arena_bytes(),
            #[cfg(feature = "gpu")]
            Self::Gpu(plan) => plan.arena_bytes(),
        }
    }
}
