//! Plans: schedules made ready to run on the CPU. Everything is allocated when a plan is made.

use std::time::Instant;

use super::Engine;
use super::builder::Builder;
use super::kernel::Prepared;
use super::methods;
use super::pack::Floats;
use super::weights::{Values, Weights, convert};
use crate::backend::StepProfile;
use crate::backend::ports;
use crate::error::Result;
use crate::graph::step::{Arg, Kernel, Port, Schedule};
use crate::tensor::Tensor;

/// The most arguments that a step may have.
pub(super) const MAX_INPUTS: usize = 8;

/// A schedule, ready to run again and again.
#[derive(Debug)]
pub(crate) struct Plan {
    engine: Engine,
    steps: Vec<Ready>,
    inputs: Vec<(Port, Slot)>,
    outputs: Vec<(Port, Slot)>,
    scratch: Floats,
    arenas: Vec<Floats>,
    /// The weights that slots point to.
    #[expect(dead_code, reason = "it keeps them alive")]
    kept: Vec<Values>,
}

// SAFETY: slots point into memory that the plan owns or keeps alive, and only `run`, which borrows it mutably, uses them.
unsafe impl Send for Plan {}
// SAFETY: as above; nothing is done with a shared plan but reading numbers.
unsafe impl Sync for Plan {}

/// A step with its arguments.
#[derive(Debug)]
pub(super) struct Ready {
    pub(super) name: String,
    pub(super) kernel: Kernel,
    pub(super) prepared: Prepared,
    pub(super) inputs: Vec<Slot>,
    pub(super) output: Slot,
}

/// Memory that lives as long as the plan: so many elements.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    start: *mut f32,
    len: usize,
}

impl Slot {
    pub(super) const EMPTY: Self = Self { start: std::ptr::NonNull::dangling().as_ptr(), len: 0 };

    pub(super) fn of_values(values: &Values) -> Self {
        let slice = values.as_slice();
        Self { start: slice.as_ptr().cast_mut(), len: slice.len() }
    }

    pub(super) fn of_floats(floats: &mut Floats) -> Self {
        let slice = floats.as_mut_slice();
        Self { start: slice.as_mut_ptr(), len: slice.len() }
    }

    /// `len` elements from `offset` on, if there are so many.
    pub(super) fn part(self, offset: usize, len: usize) -> Option<Self> {
        if len == 0 {
            return Some(Self::EMPTY);
        }
        // SAFETY: the offset lies inside the slot.
        (offset.checked_add(len)? <= self.len).then(|| Self { start: unsafe { self.start.add(offset) }, len })
    }

    /// # Safety
    /// The memory is alive and nobody writes it while the slice lives.
    unsafe fn read<'a>(self) -> &'a [f32] {
        // SAFETY: as the caller promises.
        unsafe { std::slice::from_raw_parts(self.start, self.len) }
    }

    /// # Safety
    /// The memory is alive, may be written, and nobody else uses it while the slice lives.
    unsafe fn write<'a>(self) -> &'a mut [f32] {
        // SAFETY: as the caller promises.
        unsafe { std::slice::from_raw_parts_mut(self.start, self.len) }
    }

    pub(super) fn overlaps(self, other: Self) -> bool {
        let end = |slot: Self| slot.start as usize + slot.len * size_of::<f32>();
        self.len > 0 && other.len > 0 && (self.start as usize) < end(other) && (other.start as usize) < end(self)
    }
}

impl Ready {
    /// # Safety
    /// The slots' memory is alive and nobody else uses it.
    pub(super) unsafe fn run(&self, engine: &Engine, scratch: &mut [f32]) -> Result<()> {
        let mut inputs: [&[f32]; MAX_INPUTS] = [&[]; MAX_INPUTS];
        for (input, slot) in inputs.iter_mut().zip(&self.inputs) {
            // SAFETY: as the caller promises; `Builder::ready` checked that the output lies elsewhere.
            *input = unsafe { slot.read() };
        }
        // SAFETY: as above.
        let out = unsafe { self.output.write() };
        self.prepared.run(engine, &inputs[..self.inputs.len()], out, scratch).map_err(|error| error.context(&self.name))
    }
}

impl Plan {
    /// Makes a plan: loads and packs the weights that `weights` does not have yet, and allocates everything.
    ///
    /// # Errors
    /// When a weight cannot be read, or there is not enough memory.
    pub(crate) fn new(schedule: &Schedule, weights: &mut Weights) -> Result<Self> {
        let engine = weights.engine.clone();
        let mut arenas = Vec::new();
        for bytes in &schedule.arenas {
            arenas.push(Floats::zeros(bytes.div_ceil(4))?);
        }
        let mut builder = Builder::new(schedule, weights, &mut arenas);
        let mut steps = Vec::with_capacity(schedule.steps.len());
        for (step, method) in schedule.steps.iter().zip(methods::choose(schedule)) {
            steps.push(builder.ready(step, method, None).map_err(|error| error.context(&step.name))?);
        }
        let mut ports = |ports: &[Port]| -> Result<Vec<(Port, Slot)>> {
            let slot = |port: &Port| {
                Ok((port.clone(), builder.slot(Arg { buffer: port.buffer, offset: 0 }, port.shape.numel())?))
            };
            ports.iter().map(slot).collect()
        };
        let (inputs, outputs) = (ports(&schedule.inputs)?, ports(&schedule.outputs)?);
        let kept = builder.into_kept();
        let scratch = steps.iter().map(|step| step.prepared.scratch_len()).max().unwrap_or(0);
        let scratch = Floats::zeros(scratch)?;
        weights.drop_unused();
        Ok(Self { engine, steps, inputs, outputs, scratch, arenas, kept })
    }

    /// The number of kernels of a run.
    pub(crate) fn steps(&self) -> usize {
        self.steps.len()
    }

    /// The bytes of memory for what is computed between input and output, scratch memory included.
    pub(crate) fn arena_bytes(&self) -> usize {
        self.arenas.iter().chain([&self.scratch]).map(|floats| floats.as_slice().len() * 4).sum()
    }

    /// Runs the plan.
    ///
    /// # Errors
    /// When the inputs are not those that the plan was made for, or an index of an embedding is out of range.
    pub(crate) fn run(&mut self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        self.write_inputs(inputs)?;
        for step in &self.steps {
            // SAFETY: the plan keeps the memory alive and is borrowed mutably.
            unsafe { step.run(&self.engine, self.scratch.as_mut_slice())? };
        }
        let read = |(port, slot): &(Port, Slot)| {
            // SAFETY: as above.
            ports::output_tensor(port, bytemuck::cast_slice(unsafe { slot.read() }))
        };
        self.outputs.iter().map(read).collect()
    }

    /// Runs the plan so often, at least once, and times its steps.
    ///
    /// # Errors
    /// Those of [`run`](Self::run).
    pub(crate) fn profile(&mut self, inputs: &[Tensor], runs: usize) -> Result<Vec<StepProfile>> {
        let runs = runs.max(1);
        let mut times = vec![vec![0.0; runs]; self.steps.len()];
        for run in 0..runs {
            self.write_inputs(inputs)?;
            for (step, times) in self.steps.iter().zip(&mut times) {
                let start = Instant::now();
                // SAFETY: as in `run`.
                unsafe { step.run(&self.engine, self.scratch.as_mut_slice())? };
                times[run] = start.elapsed().as_secs_f64() * 1e3;
            }
        }
        let profile = |(step, times): (&Ready, &mut Vec<f64>)| {
            let mut profile = StepProfile::new(&step.kernel, &step.name, step.prepared.method());
            profile.set_times(times);
            profile
        };
        Ok(self.steps.iter().zip(&mut times).map(profile).collect())
    }

    fn write_inputs(&mut self, inputs: &[Tensor]) -> Result<()> {
        ports::check_inputs(self.inputs.iter().map(|(port, _)| port), inputs)?;
        for (index, ((port, slot), tensor)) in self.inputs.iter().zip(inputs).enumerate() {
            // SAFETY: the plan keeps the memory alive and is borrowed mutably.
            let words = unsafe { slot.write() };
            convert(tensor.dtype(), tensor.bytes(), !port.dtype.is_float(), words)
                .map_err(|error| error.context(format!("input {index}")))?;
        }
        Ok(())
    }
}
