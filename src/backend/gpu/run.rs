//! Runs: inputs on their way in, the recorded dispatches, outputs on their way out.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use super::pipeline::Pipeline;
use super::plan::{Call, Plan, STATUS_BYTES, Slot, Status, check_status};
use crate::backend::ports;
use crate::device::gpu::Gpu;
use crate::device::staging::{Direction, Mapped};
use crate::device::stopwatch::Stopwatch;
use crate::error::Result;
use crate::tensor::Tensor;

/// The lanes that a plan keeps: while the device works on one run, the next one is written.
const KEPT_LANES: usize = 2;

/// Where the inputs and outputs of a plan lie, and the lanes that are free.
pub(super) struct Doors {
    pub(super) gpu: Arc<Gpu>,
    pub(super) inputs: Vec<Slot>,
    pub(super) outputs: Vec<Slot>,
    pub(super) status: Option<Status>,
    /// The bytes that all inputs take together; those of the outputs with the status words.
    pub(super) upload_bytes: u64,
    pub(super) readback_bytes: u64,
    pub(super) lanes: Mutex<Vec<Lane>>,
}

/// The staging buffers of one run. A plan makes as many as runs are ever under way at once.
pub(super) struct Lane {
    upload: Option<Mapped>,
    readback: Mapped,
    submission: Option<wgpu::SubmissionIndex>,
}

impl Doors {
    /// A lane of its own for a run.
    pub(super) fn lane(&self) -> Result<Lane> {
        if let Some(lane) = self.lanes.lock().unwrap_or_else(PoisonError::into_inner).pop() {
            return Ok(lane);
        }
        let upload = match self.upload_bytes {
            0 => None,
            bytes => Some(Mapped::new(&self.gpu, "the staging of the inputs", bytes, Direction::ToDevice, false)?),
        };
        let readback =
            Mapped::new(&self.gpu, "the staging of the outputs", self.readback_bytes, Direction::ToHost, false)?;
        Ok(Lane { upload, readback, submission: None })
    }

    /// Takes back a lane whose run is done.
    pub(super) fn give_back(&self, lane: Lane) {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        if lanes.len() < KEPT_LANES {
            lanes.push(lane);
        }
    }

    fn read(&self, bytes: &[u8]) -> Result<Vec<Tensor>> {
        if let Some(status) = &self.status {
            check_status(&status.steps, bytes[status.staging as usize..].chunks_exact(4))?;
        }
        let part = |slot: &Slot| &bytes[slot.staging as usize..][..slot.bytes as usize];
        let output = |slot: &Slot| match slot.half {
            true => ports::output_tensor(&slot.port, &ports::from_half(part(slot))),
            false => ports::output_tensor(&slot.port, part(slot)),
        };
        self.outputs.iter().map(output).collect()
    }
}

/// A run that the device has been given.
pub(crate) struct Running {
    doors: Arc<Doors>,
    /// `None` when the outputs have been taken.
    lane: Option<Lane>,
    /// Whether the device's thread waits for it.
    is_watched: bool,
}

impl Running {
    /// Waits for the outputs.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`](crate::ErrorKind::Shape) when an index was out of range,
    /// [`ErrorKind::Device`](crate::ErrorKind::Device) when the device fails.
    pub(crate) fn wait(mut self) -> Result<Vec<Tensor>> {
        let lane = self.lane.as_ref().expect("taken once");
        lane.readback.wait(&self.doors.gpu, lane.submission.as_ref())?;
        self.take()
    }

    /// The outputs, if they are there. A thread of the device's waits for them, so that this need not.
    pub(crate) fn poll(&mut self, context: &Context<'_>) -> Poll<Result<Vec<Tensor>>> {
        let lane = self.lane.as_ref().expect("taken once");
        if !std::mem::replace(&mut self.is_watched, true) {
            self.doors.gpu.watch(self.submission().clone(), lane.readback.turn());
        }
        match lane.readback.poll(&self.doors.gpu, context.waker()) {
            None => Poll::Pending,
            Some(Ok(())) => Poll::Ready(self.take()),
            Some(Err(error)) => Poll::Ready(Err(error)),
        }
    }

    /// The outputs, which the host has; an error when the device was lost meanwhile.
    fn take(&mut self) -> Result<Vec<Tensor>> {
        self.doors.gpu.check()?;
        let lane = self.lane.take().expect("taken once");
        let outputs = lane.readback.read(|bytes| self.doors.read(bytes));
        lane.readback.unmap();
        self.doors.give_back(lane);
        outputs
    }

    pub(super) fn submission(&self) -> &wgpu::SubmissionIndex {
        self.lane.as_ref().and_then(|lane| lane.submission.as_ref()).expect("it was submitted")
    }
}

impl Plan {
    /// Gives the device a run; it may still be at work on others.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`](crate::ErrorKind::Shape) when the inputs do not fit,
    /// [`ErrorKind::Device`](crate::ErrorKind::Device) when the device fails.
    pub(crate) fn start(&mut self, inputs: &[Tensor]) -> Result<Running> {
        self.start_timed(inputs, None)
    }

    /// The same, with every dispatch timed.
    pub(super) fn start_timed(&mut self, inputs: &[Tensor], watch: Option<&Stopwatch>) -> Result<Running> {
        let doors = Arc::clone(&self.doors);
        doors.gpu.check()?;
        ports::check_inputs(doors.inputs.iter().map(|slot| &slot.port), inputs)?;
        let mut words = Vec::with_capacity(inputs.len());
        for (i, (slot, input)) in doors.inputs.iter().zip(inputs).enumerate() {
            let input = ports::input_words(&slot.port, input).map_err(|e| e.context(format!("input {i}")))?;
            words.push(if slot.half { ports::to_half(&input).into() } else { input });
        }
        let mut lane = doors.lane()?;
        if let Some(upload) = &lane.upload {
            upload.wait(&doors.gpu, lane.submission.as_ref())?;
            for (slot, words) in doors.inputs.iter().zip(&words) {
                upload.write(slot.staging, words)?;
            }
            upload.unmap();
        }
        let submission = doors.gpu.scoped("run", || Ok(self.submit(&lane, watch)))?;
        if let Some(upload) = &lane.upload {
            upload.map(Direction::ToDevice);
        }
        lane.readback.map(Direction::ToHost);
        lane.submission = Some(submission);
        Ok(Running { doors, lane: Some(lane), is_watched: false })
    }

    /// Records a run and gives it to the queue, in as many submissions as the plan is cut into.
    fn submit(&self, lane: &Lane, watch: Option<&Stopwatch>) -> wgpu::SubmissionIndex {
        let (doors, gpu) = (&self.doors, &self.doors.gpu);
        let mut encoder = new_encoder(gpu);
        if let Some(upload) = &lane.upload {
            for slot in doors.inputs.iter().filter(|slot| slot.bytes > 0) {
                let (from, to) = (upload.buffer().raw(), slot.arena.raw());
                encoder.copy_buffer_to_buffer(from, slot.staging, to, slot.offset, slot.padded());
            }
        }
        let mut encoder = self.submit_calls(encoder, watch);
        let readback = lane.readback.buffer().raw();
        for slot in doors.outputs.iter().filter(|slot| slot.bytes > 0) {
            encoder.copy_buffer_to_buffer(slot.arena.raw(), slot.offset, readback, slot.staging, slot.padded());
        }
        if let Some(status) = &doors.status {
            let words = status.buffer.raw();
            for i in 0..status.steps.len() as u64 {
                encoder.copy_buffer_to_buffer(words, i * STATUS_BYTES, readback, status.staging + i * 4, 4);
            }
        }
        submit(gpu, encoder)
    }

    /// Records the dispatches, and submits all parts of them but the last, whose encoder is returned.
    pub(super) fn submit_calls(
        &self,
        mut encoder: wgpu::CommandEncoder,
        watch: Option<&Stopwatch>,
    ) -> wgpu::CommandEncoder {
        let gpu = &self.doors.gpu;
        if let Some(status) = &self.doors.status {
            encoder.clear_buffer(status.buffer.raw(), 0, None);
        }
        for (i, part) in self.parts.iter().enumerate() {
            if i > 0 {
                submit(gpu, std::mem::replace(&mut encoder, new_encoder(gpu)));
            }
            match watch {
                None => replay(&mut encoder, &self.calls[part.clone()]),
                Some(watch) => replay_timed(&mut encoder, &self.calls, part.clone(), watch),
            }
        }
        if let Some(watch) = watch {
            watch.stop(&mut encoder);
        }
        encoder
    }

    /// How long the host takes to record and submit a run.
    #[cfg(test)]
    pub(super) fn time_submit(&mut self) -> Result<std::time::Duration> {
        let lane = self.doors.lane()?;
        let upload = lane.upload.as_ref().expect("a plan with inputs");
        upload.wait(&self.doors.gpu, lane.submission.as_ref())?;
        upload.unmap();
        let start = std::time::Instant::now();
        let submission = self.submit(&lane, None);
        let time = start.elapsed();
        upload.map(Direction::ToDevice);
        self.doors.gpu.wait(Some(submission))?;
        self.doors.give_back(lane);
        Ok(time)
    }
}

pub(super) fn new_encoder(gpu: &Gpu) -> wgpu::CommandEncoder {
    gpu.device().create_command_encoder(&wgpu::CommandEncoderDescriptor::default())
}

pub(super) fn submit(gpu: &Gpu, encoder: wgpu::CommandEncoder) -> wgpu::SubmissionIndex {
    gpu.account().count_submit();
    gpu.queue().submit([encoder.finish()])
}

/// Records calls in one pass.
pub(super) fn replay(encoder: &mut wgpu::CommandEncoder, calls: &[Call]) {
    let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
    let mut last: Option<&Arc<Pipeline>> = None;
    for call in calls {
        if last.is_none_or(|last| !Arc::ptr_eq(last, &call.pipeline)) {
            pass.set_pipeline(&call.pipeline.raw);
            last = Some(&call.pipeline);
        }
        call.dispatch(&mut pass);
    }
}

/// Records calls in a timed pass each.
fn replay_timed(encoder: &mut wgpu::CommandEncoder, calls: &[Call], part: Range<usize>, watch: &Stopwatch) {
    for i in part {
        let descriptor = wgpu::ComputePassDescriptor { label: None, timestamp_writes: Some(watch.writes(i)) };
        let mut pass = encoder.begin_compute_pass(&descriptor);
        pass.set_pipeline(&calls[i].pipeline.raw);
        calls[i].dispatch(&mut pass);
    }
}

impl Call {
    fn dispatch(&self, pass: &mut wgpu::ComputePass<'_>) {
        pass.set_bind_group(0, &self.bind_group, &[]);
        if !self.immediates.is_empty() {
            pass.set_immediates(0, bytemuck::cast_slice(&self.immediates));
        }
        pass.dispatch_workgroups(self.grid[0], self.grid[1], self.grid[2]);
    }
}
