//! Plans for the CPU: the steps of a schedule with their weights packed and their memory in place.

use std::fmt;
use std::sync::Arc;

use super::kernel::Kernel;
use super::pack::Floats;
use super::weights::{Constant, Weights};
use super::Engine;
use crate::backend::ports;
use crate::error::Result;
use crate::graph::step::{Arg, Buffer, Memory, Port, Schedule, Step};
use crate::tensor::Tensor;

/// The most inputs that a step has.
const MAX_INPUTS: usize = 8;

/// A schedule, ready to run. A run allocates nothing but its outputs.
pub(crate) struct Plan {
    engine: Engine,
    steps: Vec<Ready>,
    inputs: Vec<(Port, usize)>,
    outputs: Vec<(Port, usize)>,
    arena: Floats,
    scratch: Floats,
}

/// A step with its arguments found.
struct Ready {
    name: String,
    kernel: Kernel,
    inputs: Vec<Place>,
    /// Where the output starts in the arena, and how many elements there are until its buffer's end.
    output: (usize, usize),
}

/// Where an argument's elements are.
enum Place {
    /// From an element of the arena on, so many.
    Arena(usize, usize),
    /// A constant, from an element on.
    Constant(Arc<Constant>, usize),
}

impl Plan {
    /// Packs the weights that are not packed yet, computes what depends on weights alone, and allocates memory.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) for weights that do not run,
    /// [`ErrorKind::Device`](crate::ErrorKind::Device) when there is not enough memory.
    pub(crate) fn new(schedule: Schedule, weights: &mut Weights) -> Result<Self> {
        run_prologue(&schedule, weights)?;
        let steps = schedule
            .steps
            .iter()
            .map(|step| ready(&schedule.buffers, step, weights))
            .collect::<Result<Vec<_>>>()?;
        weights.drop_unused();
        let engine = weights.engine.clone();
        let scratch = steps.iter().map(|step| step.kernel.scratch_len()).max().unwrap_or(0);
        let place = |port: &Port| (port.clone(), arena_start(&schedule.buffers[port.buffer.0]));
        Ok(Self {
            inputs: schedule.inputs.iter().map(place).collect(),
            outputs: schedule.outputs.iter().map(place).collect(),
            arena: Floats::zeros(schedule.arenas.iter().sum::<usize>() / 4)?,
            scratch: Floats::zeros(scratch)?,
            steps,
            engine,
        })
    }

    /// Runs the plan once. The results are in the order of the schedule's outputs.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`](crate::ErrorKind::Shape) when the inputs do not fit or an index is out of range.
    pub(crate) fn run(&mut self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        ports::check_inputs(self.inputs.iter().map(|(port, _)| port), inputs)?;
        let arena = self.arena.as_mut_slice();
        for (i, ((port, start), input)) in self.inputs.iter().zip(inputs).enumerate() {
            let words = ports::input_words(port, input).map_err(|error| error.context(format!("input {i}")))?;
            bytemuck::cast_slice_mut(&mut arena[*start..*start + port.shape.numel()]).copy_from_slice(&words);
        }
        for step in &self.steps {
            let out = &step.output;
            let (before, rest) = arena.split_at_mut(out.0);
            let (output, after) = rest.split_at_mut(out.1);
            let mut slices: [&[f32]; MAX_INPUTS] = [&[]; MAX_INPUTS];
            for (slice, place) in slices.iter_mut().zip(&step.inputs) {
                *slice = match place {
                    // The planner keeps what a step reads apart from what it writes.
                    Place::Arena(start, len) if *start < out.0 => &before[*start..*start + len],
                    Place::Arena(start, len) => &after[*start - out.0 - out.1..][..*len],
                    Place::Constant(constant, offset) => &constant.as_slice()[*offset..],
                };
            }
            let inputs = &slices[..step.inputs.len()];
            step.kernel
                .run(&self.engine, inputs, output, self.scratch.as_mut_slice())
                .map_err(|error| error.context(format!("`{}`", step.name)))?;
        }
        let read = |(port, start): &(Port, usize)| {
            ports::output_tensor(port, bytemuck::cast_slice(&arena[*start..*start + port.shape.numel()]))
        };
        self.outputs.iter().map(read).collect()
    }

    /// The number of kernels of a run.
    pub(crate) fn steps(&self) -> usize {
        self.steps.len()
    }

    /// The bytes of memory for what is computed between input and output, scratch memory included.
    pub(crate) fn arena_bytes(&self) -> usize {
        4 * (self.arena.as_slice().len() + self.scratch.as_slice().len())
    }
}

/// Where an arena buffer starts, in elements.
fn arena_start(buffer: &Buffer) -> usize {
    match buffer.memory {
        Memory::Arena { offset, .. } => offset / 4,
        _ => unreachable!("ports and results of a run are in the arena"),
    }
}

fn ready(buffers: &[Buffer], step: &Step, weights: &mut Weights) -> Result<Ready> {
    let kernel = Kernel::new(step, buffers, weights)?;
    let inputs = kernel
        .arguments(step)
        .iter()
        .map(|arg| {
            let buffer = &buffers[arg.buffer.0];
            Ok(match buffer.memory {
                Memory::Arena { .. } => Place::Arena(arena_start(buffer) + arg.offset, buffer.len - arg.offset),
                _ => Place::Constant(weights.plain(buffer)?, arg.offset),
            })
        })
        .collect::<Result<Vec<_>>>()?;
    let Arg { buffer, offset } = step.output;
    let buffer = &buffers[buffer.0];
    let output = (arena_start(buffer) + offset, buffer.len - offset);
    Ok(Ready { name: step.name.clone(), kernel, inputs, output })
}

/// Runs the prologue's steps whose results are not known yet.
fn run_prologue(schedule: &Schedule, weights: &mut Weights) -> Result<()> {
    let engine = weights.engine.clone();
    let mut steps = schedule.prologue.iter().peekable();
    while let Some(first) = steps.next() {
        let target = first.output.buffer;
        let buffer = &schedule.buffers[target.0];
        // The parts of a concatenation are steps with one output, one after the other.
        let mut group = vec![first];
        while let Some(step) = steps.next_if(|step| step.output.buffer == target) {
            group.push(step);
        }
        if weights.known(buffer).is_some() {
            continue;
        }
        let mut out = vec![0.0; buffer.len];
        for step in group {
            let kernel = Kernel::new(step, &schedule.buffers, weights)?;
            let inputs = kernel
                .arguments(step)
                .iter()
                .map(|arg| Ok((weights.plain(&schedule.buffers[arg.buffer.0])?, arg.offset)))
                .collect::<Result<Vec<_>>>()?;
            let slices: Vec<&[f32]> = inputs.iter().map(|(constant, offset)| &constant.as_slice()[*offset..]).collect();
            let mut scratch = vec![0.0; kernel.scratch_len()];
            kernel
                .run(&engine, &slices, &mut out[step.output.offset..], &mut scratch)
                .map_err(|error| error.context(format!("`{}`", step.name)))?;
        }
        weights.keep(buffer, out);
    }
    Ok(())
}

impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plan").field("steps", &self.steps.len()).finish_non_exhaustive()
    }
}
