//! Plans: recorded dispatches with their buffers, replayed at every run.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use super::dispatch::{Binding, Dispatch, Selection};
use super::kernels;
use super::limits::{self, Limits, SLOTS, shared};
use super::pipeline::{Pipeline, Pipelines};
use super::profile::Label;
use super::run::{self, Doors};
use super::tune;
use super::upload::Uploader;
use super::weights::{Weights, element};
use crate::backend::ports;
use crate::backend::profile::StepProfile;
use crate::device::gpu::Gpu;
use crate::device::memory::{Buffer, Purpose};
use crate::device::staging::{Direction, Mapped};
use crate::dtype::Precision;
use crate::error::{Error, Result};
use crate::graph::step::{self, BufferId, Kernel, Memory, Port, Schedule, Step};
#[cfg(test)]
use crate::tensor::Tensor;

/// The distance of the status words of two dispatches: what a binding's offset must be a multiple of.
pub(super) const STATUS_BYTES: u64 = 256;

/// A schedule, compiled for a GPU. A run writes the inputs, replays the dispatches in one pass of one submission, and
/// reads the outputs; it makes no buffer, no bind group and no pipeline. Only a plan of very much work is cut into
/// several submissions, so that none keeps the device for so long that its driver takes it for stuck.
pub(crate) struct Plan {
    pub(super) doors: Arc<Doors>,
    pub(super) calls: Vec<Call>,
    /// The calls of each submission.
    pub(super) parts: Vec<Range<usize>>,
    /// What the steps do, for profiles.
    pub(super) steps: Vec<StepProfile>,
    /// The bytes that were brought to the device for it, and the milliseconds that it took.
    pub(crate) upload: (u64, f64),
    arena_bytes: usize,
    /// What the bind groups refer to, for the account.
    _buffers: Vec<Arc<Buffer>>,
}

/// One recorded dispatch.
#[derive(Clone)]
pub(super) struct Call {
    pub(super) pipeline: Arc<Pipeline>,
    pub(super) bind_group: wgpu::BindGroup,
    pub(super) immediates: Vec<u32>,
    pub(super) grid: [u32; 3],
    /// The step that it is of, and its shader.
    pub(super) step: usize,
    pub(super) shader: Label,
}

/// A port: its place in the staging buffer and in its arena, in bytes.
pub(super) struct Slot {
    pub(super) port: Port,
    pub(super) staging: u64,
    pub(super) arena: Arc<Buffer>,
    pub(super) offset: u64,
    pub(super) bytes: u64,
    /// Whether the elements are f16.
    pub(super) half: bool,
}

impl Slot {
    /// What is copied: whole words.
    pub(super) fn padded(&self) -> u64 {
        self.bytes.next_multiple_of(4)
    }
}

/// The words in which kernels report an index that is out of range: one for each step that can, at `STATUS_BYTES`.
pub(super) struct Status {
    pub(super) buffer: Arc<Buffer>,
    /// The step's name and the number of rows that its indices may name.
    pub(super) steps: Vec<(String, usize)>,
    /// Where the words begin in the read-back buffer.
    pub(super) staging: u64,
}

impl Plan {
    /// Compiles a schedule: packs and uploads the weights that are not on the device yet, runs the prologue, compiles
    /// the pipelines meanwhile, and records the dispatches.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) when a weight or an activation is larger than the
    /// device allows, [`ErrorKind::Device`](crate::ErrorKind::Device) when the device fails.
    pub(crate) fn new(schedule: &Schedule, weights: &mut Weights) -> Result<Self> {
        let gpu = Arc::clone(weights.gpu());
        gpu.check()?;
        // What was dropped is given back first.
        gpu.poll_now()?;
        if gpu.options().tune {
            tune::tune(schedule, &gpu, weights.precision())?;
        }
        Self::untuned(schedule, weights)
    }

    /// The same, with the kernels that are chosen without timing, or were chosen before.
    pub(super) fn untuned(schedule: &Schedule, weights: &mut Weights) -> Result<Self> {
        let gpu = Arc::clone(weights.gpu());
        let made = Builder::new(&gpu, schedule, weights).and_then(Builder::build);
        weights.settle(made.is_err());
        Pipelines::of(&gpu).save();
        made
    }

    /// Runs the plan once. The results are in the order of the schedule's outputs.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`](crate::ErrorKind::Shape) when the inputs do not fit or an index is out of range,
    /// [`ErrorKind::Device`](crate::ErrorKind::Device) when the device fails.
    #[cfg(test)]
    pub(crate) fn run(&mut self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        self.start(inputs)?.wait()
    }

    /// The number of dispatches of a run.
    pub(crate) fn dispatches(&self) -> usize {
        self.calls.len()
    }

    /// The shaders of a run, in its order.
    pub(crate) fn kernels(&self) -> Vec<&'static str> {
        self.calls.iter().map(|call| call.shader.name).collect()
    }

    /// The bytes of the arenas.
    pub(crate) fn arena_bytes(&self) -> usize {
        self.arena_bytes
    }

    /// Leaves the kernels nothing to do, to measure what recording costs.
    #[cfg(test)]
    pub(super) fn stub(&mut self) {
        self.calls.iter_mut().for_each(|call| call.grid = [0; 3]);
    }
}

/// The error of the first step whose status, at the start of its part of `words`, names an index.
pub(super) fn check_status<'a>(steps: &[(String, usize)], words: impl Iterator<Item = &'a [u8]>) -> Result<()> {
    for ((name, rows), word) in steps.iter().zip(words) {
        let position = u32::from_le_bytes(word[..4].try_into().expect("4 bytes"));
        if position != 0 {
            return Err(ports::index_out_of_range(name, position as usize - 1, *rows));
        }
    }
    Ok(())
}

/// What a plan is made from.
struct Builder<'a> {
    gpu: Arc<Gpu>,
    schedule: &'a Schedule,
    weights: &'a mut Weights,
    uploader: Uploader,
    arenas: Vec<Arc<Buffer>>,
    /// What dispatches share, as in `shared`: the largest that a step has asked for so far.
    shared: [Option<Arc<Buffer>>; 3],
    status: Option<Arc<Buffer>>,
    status_steps: Vec<(String, usize)>,
    buffers: Vec<Arc<Buffer>>,
    upload_ms: f64,
}

/// The places of the inputs and of the outputs in their staging buffers, and the sizes of these.
struct Ports {
    inputs: (Vec<Slot>, u64),
    outputs: (Vec<Slot>, u64),
}

/// A step's selection with its weights on the device.
struct Ready<'a> {
    step: &'a Step,
    index: usize,
    selection: Selection,
    packs: Vec<Arc<Buffer>>,
    /// Whether floats are f16.
    half: bool,
}

impl<'a> Builder<'a> {
    fn new(gpu: &Arc<Gpu>, schedule: &'a Schedule, weights: &'a mut Weights) -> Result<Self> {
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::COPY_SRC;
        Limits { gpu, schedule }.check_arenas()?;
        let arenas = schedule
            .arenas
            .iter()
            .map(|&bytes| {
                Buffer::new(gpu, "an arena of activations", bytes as u64, usage, Purpose::Arena, false).map(Arc::new)
            })
            .collect::<Result<Vec<_>>>()?;
        let fallible = |step: &&Step| matches!(step.kernel, Kernel::Embedding { .. });
        let words = schedule.prologue.iter().chain(&schedule.steps).filter(fallible).count() as u64;
        let status = match words {
            0 => None,
            _ => Some(Arc::new(Buffer::new(gpu, "status", words * STATUS_BYTES, usage, Purpose::Arena, false)?)),
        };
        let bytes = schedule.buffers.iter().map(|buffer| match &buffer.memory {
            Memory::Parameter(parameter) => parameter.tensor.shape().numel() * parameter.tensor.dtype().size(),
            Memory::Constant(tensor) => tensor.bytes().len(),
            Memory::Derived(_) | Memory::Arena { .. } => 0,
        });
        let uploader = Uploader::new(gpu, bytes.sum());
        let (gpu, buffers) = (Arc::clone(gpu), Vec::new());
        Ok(Self {
            gpu,
            schedule,
            weights,
            uploader,
            arenas,
            shared: [None, None, None],
            status,
            status_steps: Vec::new(),
            buffers,
            upload_ms: 0.0,
        })
    }

    fn build(mut self) -> Result<Plan> {
        // Whatever is refused is refused before the weights are brought to the device, which may take minutes.
        let prologue = self.select_prologue()?;
        let steps = self.schedule.steps.iter();
        let selections = steps.map(|step| self.select(step, self.precision())).collect::<Result<Vec<_>>>()?;
        let ports = Ports { inputs: self.slots(&self.schedule.inputs)?, outputs: self.slots(&self.schedule.outputs)? };
        let limits = Limits { gpu: &self.gpu, schedule: self.schedule };
        limits.check_buffer("the inputs take", ports.inputs.1)?;
        limits.check_buffer("the outputs take", ports.outputs.1)?;
        let dispatches = || selections.iter().flat_map(|selection| &selection.dispatches);
        let (gpu, pipelines) = (Arc::clone(&self.gpu), Pipelines::of(&self.gpu));
        // The pipelines are compiled while the weights are uploaded.
        let (ready, compiled) = std::thread::scope(|scope| {
            let all: Vec<&Dispatch> = dispatches().collect();
            let compiling = scope.spawn(move || pipelines.get(&gpu, &all));
            let start = Instant::now();
            // The staging chunks are free again when the device is done.
            let ready = self.prepare(prologue, &selections).and_then(|packs| self.gpu.wait(None).map(|()| packs));
            self.upload_ms = start.elapsed().as_secs_f64() * 1e3;
            (ready, compiling.join())
        });
        let packs = ready?;
        let compiled = compiled.map_err(|_| Error::device("the compilation of the shaders panicked"))??;
        let mut compiled = compiled.into_iter();
        for i in 0..self.shared.len() {
            let all = self.schedule.steps.iter().zip(&selections);
            if let Some((_, selection)) = all.max_by_key(|(_, selection)| shared(selection)[i])
                && shared(selection)[i] > 0
            {
                // The largest first, so that there is one.
                self.shared(selection, i)?;
            }
        }
        let mut calls = Vec::new();
        for (index, ((step, selection), packs)) in self.schedule.steps.iter().zip(selections).zip(packs).enumerate() {
            let ready = Ready { step, index, selection, packs, half: self.precision() == Precision::Half };
            calls.extend(self.record(&ready, &mut compiled)?);
        }
        self.finish(calls, ports)
    }

    fn precision(&self) -> Precision {
        self.weights.precision()
    }

    /// The dispatches of a step, which the device can run.
    fn select(&self, step: &Step, precision: Precision) -> Result<Selection> {
        let limits = Limits { gpu: &self.gpu, schedule: self.schedule };
        let selection = kernels::select(step, &self.schedule.buffers, &self.gpu, precision)
            .map_err(|error| error.context(limits.name(step)))?;
        limits.check(step, &selection, precision == Precision::Half)?;
        Ok(selection)
    }

    /// The steps of the prologue whose results are not there yet. What is computed once is computed exactly.
    fn select_prologue(&self) -> Result<Vec<(&'a Step, Selection)>> {
        let is_missing = |step: &&Step| !self.weights.has_derived(&self.schedule.buffers[step.output.buffer.0]);
        let missing = self.schedule.prologue.iter().filter(is_missing);
        missing.map(|step| Ok((step, self.select(step, Precision::Exact)?))).collect()
    }

    /// Brings every constant of the steps to the device; gives the packed weights by step.
    fn prepare(
        &mut self,
        prologue: Vec<(&'a Step, Selection)>,
        selections: &[Selection],
    ) -> Result<Vec<Vec<Arc<Buffer>>>> {
        self.run_prologue(prologue)?;
        let mut packs = Vec::with_capacity(selections.len());
        for (step, selection) in self.schedule.steps.iter().zip(selections) {
            packs.push(self.constants(step, selection, self.precision())?);
        }
        self.uploader.finish()?;
        Ok(packs)
    }

    /// Brings the constants of one step to the device; gives its packed weights.
    fn constants(&mut self, step: &Step, selection: &Selection, precision: Precision) -> Result<Vec<Arc<Buffer>>> {
        let context = |error: Error| error.context(&step.name);
        let buffers = &self.schedule.buffers;
        let packs = selection
            .packs
            .iter()
            .map(|pack| self.weights.packed(&mut self.uploader, buffers, pack))
            .collect::<Result<Vec<_>>>()
            .map_err(context)?;
        for binding in selection.dispatches.iter().flat_map(|dispatch| &dispatch.bindings) {
            if let Binding::Read(id) = binding
                && !matches!(buffers[id.0].memory, Memory::Arena { .. })
            {
                let half = precision == Precision::Half;
                self.weights.contiguous(&mut self.uploader, &buffers[id.0], half).map_err(context)?;
            }
        }
        Ok(packs)
    }

    /// Computes what depends on parameters alone, as far as it is not there yet. Several steps may make one value, each
    /// a part of it.
    fn run_prologue(&mut self, prologue: Vec<(&'a Step, Selection)>) -> Result<()> {
        let mut begun: HashSet<BufferId> = HashSet::new();
        let mut ready: Vec<Ready<'_>> = Vec::new();
        for (step, selection) in prologue {
            let (id, output) = (step.output.buffer, &self.schedule.buffers[step.output.buffer.0]);
            if !begun.contains(&id) && self.weights.has_derived(output) {
                continue;
            }
            if !selection.packs.is_empty() {
                // It may be a value of these steps that is packed.
                self.submit_prologue(&mut ready)?;
            }
            let packs = self.constants(step, &selection, Precision::Exact)?;
            if begun.insert(id) {
                self.weights.derive(output)?;
            }
            ready.push(Ready { step, index: ready.len(), selection, packs, half: false });
        }
        self.submit_prologue(&mut ready)?;
        self.check_prologue()
    }

    /// Gives the device the steps of the prologue that are ready, after the uploads that they need.
    fn submit_prologue(&mut self, ready: &mut Vec<Ready<'_>>) -> Result<()> {
        let (Some(first), Some(last)) = (ready.first(), ready.last()) else { return Ok(()) };
        let what = if ready.len() == 1 {
            first.step.name.clone()
        } else {
            format!("{} to {}", first.step.name, last.step.name)
        };
        self.uploader.finish()?;
        let all: Vec<&Dispatch> = ready.iter().flat_map(|ready| &ready.selection.dispatches).collect();
        let mut compiled = Pipelines::of(&self.gpu).get(&self.gpu, &all)?.into_iter();
        let steps: Vec<_> = ready.iter().map(|ready| profile_of(ready.step)).collect();
        let mut calls = Vec::new();
        for ready in ready.drain(..) {
            calls.extend(self.record(&ready, &mut compiled)?);
        }
        self.gpu.scoped(&what, || {
            for part in cut(&calls, &steps, self.gpu.submission_flops()) {
                let mut encoder = run::new_encoder(&self.gpu);
                run::replay(&mut encoder, &calls[part]);
                run::submit(&self.gpu, encoder);
            }
            Ok(())
        })
    }

    /// The error of a prologue step that met an index out of range.
    fn check_prologue(&self) -> Result<()> {
        let Some(status) = self.status.as_ref().filter(|_| !self.status_steps.is_empty()) else { return Ok(()) };
        let host = Mapped::new(&self.gpu, "status", status.size(), Direction::ToHost, false)?;
        let submission = self.gpu.scoped("prologue", || {
            let mut encoder = run::new_encoder(&self.gpu);
            encoder.copy_buffer_to_buffer(status.raw(), 0, host.buffer().raw(), 0, status.size());
            Ok(run::submit(&self.gpu, encoder))
        })?;
        host.map(Direction::ToHost);
        host.wait(&self.gpu, Some(&submission))?;
        host.read(|bytes| check_status(&self.status_steps, bytes.chunks_exact(STATUS_BYTES as usize)))
    }

    /// Makes the bind groups of a step's dispatches.
    fn record(&mut self, ready: &Ready<'_>, compiled: &mut impl Iterator<Item = Arc<Pipeline>>) -> Result<Vec<Call>> {
        let step = ready.step;
        let mut status = None;
        let mut calls = Vec::with_capacity(ready.selection.dispatches.len());
        for dispatch in &ready.selection.dispatches {
            let pipeline = compiled.next().expect("one pipeline a dispatch");
            if dispatch.grid.contains(&0) {
                continue;
            }
            let mut bindings = Vec::with_capacity(dispatch.bindings.len());
            for binding in &dispatch.bindings {
                bindings.push(match *binding {
                    Binding::Read(id) | Binding::Write(id) => self.place(id, ready.half)?,
                    Binding::WriteScratch(i) | Binding::ReadScratch(i) => self.shared(&ready.selection, i)?,
                    Binding::Slots => self.shared(&ready.selection, SLOTS)?,
                    Binding::Packed(i) => whole(&ready.packs[i]),
                    Binding::Status => {
                        let i = *status.get_or_insert_with(|| {
                            let Kernel::Embedding { rows, .. } = step.kernel else { return usize::MAX };
                            self.status_steps.push((step.name.clone(), rows));
                            self.status_steps.len() - 1
                        });
                        let words = self.status.as_ref().filter(|_| i != usize::MAX).map(Arc::clone);
                        let words = words.ok_or_else(|| Error::device(format!("{}: has no status", step.name)))?;
                        (words, i as u64 * STATUS_BYTES, 16)
                    }
                });
            }
            let entries: Vec<_> = (0..)
                .zip(&bindings)
                .map(|(binding, (buffer, offset, size))| wgpu::BindGroupEntry {
                    binding,
                    resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                        buffer: buffer.raw(),
                        offset: *offset,
                        size: std::num::NonZero::new(*size),
                    }),
                })
                .collect();
            let descriptor = wgpu::BindGroupDescriptor { label: None, layout: &pipeline.layout, entries: &entries };
            self.gpu.account().count_bind_group();
            let bind_group = self.gpu.scoped(&step.name, || Ok(self.gpu.device().create_bind_group(&descriptor)))?;
            self.buffers.extend(bindings.into_iter().map(|(buffer, ..)| buffer));
            calls.push(Call {
                pipeline,
                bind_group,
                immediates: dispatch.immediates.clone(),
                grid: dispatch.grid,
                step: ready.index,
                shader: Label::new(dispatch),
            });
        }
        Ok(calls)
    }

    /// What dispatches share, with as much room as a step's take. It is made of zeros, as the slots have to be.
    fn shared(&mut self, selection: &Selection, i: usize) -> Result<(Arc<Buffer>, u64, u64)> {
        let bytes = limits::scratch_bytes(shared(selection)[i]);
        let buffer = match self.shared[i].take().filter(|buffer| buffer.size() >= bytes) {
            Some(buffer) => buffer,
            None => {
                let usage = wgpu::BufferUsages::STORAGE;
                Arc::new(Buffer::new(&self.gpu, "the scratch", bytes, usage, Purpose::Arena, false)?)
            }
        };
        self.shared[i] = Some(Arc::clone(&buffer));
        Ok((buffer, 0, bytes))
    }

    /// Where a buffer of the schedule lies: its GPU buffer, offset and size, the size in whole `vec4`s.
    fn place(&mut self, id: BufferId, half: bool) -> Result<(Arc<Buffer>, u64, u64)> {
        let buffer: &step::Buffer = &self.schedule.buffers[id.0];
        if let Memory::Arena { arena, offset } = buffer.memory {
            return Ok((Arc::clone(&self.arenas[arena]), offset as u64, limits::bytes(buffer, half)));
        }
        Ok(whole(&self.weights.contiguous(&mut self.uploader, buffer, half)?))
    }

    /// Makes the buffers through which inputs and outputs pass.
    fn finish(mut self, calls: Vec<Call>, ports: Ports) -> Result<Plan> {
        let ((inputs, upload_bytes), (outputs, mut readback_bytes)) = (ports.inputs, ports.outputs);
        let status = self.status.take().map(|buffer| {
            let status = Status { buffer, steps: std::mem::take(&mut self.status_steps), staging: readback_bytes };
            readback_bytes += (status.steps.len() as u64 * 4).next_multiple_of(8);
            status
        });
        let arena_bytes =
            self.arenas.iter().chain(self.shared.iter().flatten()).map(|arena| arena.size() as usize).sum();
        self.buffers.extend(self.arenas);
        self.buffers.sort_by_key(|buffer| Arc::as_ptr(buffer) as usize);
        self.buffers.dedup_by(|a, b| Arc::ptr_eq(a, b));
        let steps: Vec<StepProfile> = self.schedule.steps.iter().map(profile_of).collect();
        let parts = cut(&calls, &steps, self.gpu.submission_flops());
        let lanes = Mutex::default();
        let doors = Doors { gpu: self.gpu, inputs, outputs, status, upload_bytes, readback_bytes, lanes };
        // A first lane, so that the first run finds one.
        let lane = doors.lane()?;
        doors.give_back(lane);
        let upload = (self.uploader.bytes(), self.upload_ms);
        Ok(Plan { doors: Arc::new(doors), calls, parts, steps, upload, arena_bytes, _buffers: self.buffers })
    }

    /// The places of ports in one staging buffer, and its size.
    fn slots(&self, ports: &[Port]) -> Result<(Vec<Slot>, u64)> {
        let mut end = 0;
        let mut slots = Vec::with_capacity(ports.len());
        for port in ports {
            let Memory::Arena { arena, offset } = self.schedule.buffers[port.buffer.0].memory else {
                return Err(Error::unsupported("an output of the model is a weight"));
            };
            let half = self.precision() == Precision::Half && port.dtype.is_float();
            let bytes = (port.shape.numel() * element(!port.dtype.is_float(), half).size()) as u64;
            slots.push(Slot {
                port: port.clone(),
                staging: end,
                arena: Arc::clone(&self.arenas[arena]),
                offset: offset as u64,
                bytes,
                half,
            });
            end += bytes.next_multiple_of(8);
        }
        Ok((slots, end))
    }
}

fn whole(buffer: &Arc<Buffer>) -> (Arc<Buffer>, u64, u64) {
    (Arc::clone(buffer), 0, buffer.size())
}

fn profile_of(step: &Step) -> StepProfile {
    StepProfile::new(&step.kernel, &step.name, None)
}

/// Cuts calls into submissions of about as many operations as `most`: a device that is busy for seconds is reset.
fn cut(calls: &[Call], steps: &[StepProfile], most: u64) -> Vec<Range<usize>> {
    let mut of_step = vec![0u64; steps.len()];
    calls.iter().for_each(|call| of_step[call.step] += 1);
    let (mut parts, mut start, mut sum) = (Vec::new(), 0, 0u64);
    for (i, call) in calls.iter().enumerate() {
        // The dispatches of a step that is cut take as long as each other.
        let flops = steps[call.step].flops / of_step[call.step];
        if i > start && sum.saturating_add(flops) > most {
            parts.push(start..i);
            (start, sum) = (i, 0);
        }
        sum = sum.saturating_add(flops);
    }
    parts.push(start..calls.len());
    parts
}
