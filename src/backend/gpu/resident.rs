//! Tensors that stay on the device: to it, from it, and through a plan.

use std::sync::Arc;

use super::plan::{Plan, STATUS_BYTES, Slot, check_status};
use super::run;
use crate::backend::ports;
use crate::backend::resident::Resident;
use crate::device::gpu::Gpu;
use crate::device::memory::{Buffer, Purpose};
use crate::device::staging::{Direction, Mapped};
use crate::error::{Error, Result};

/// A buffer for a tensor of this many bytes.
fn allocate(gpu: &Gpu, bytes: u64) -> Result<Arc<Buffer>> {
    let usage = wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::COPY_SRC;
    Ok(Arc::new(Buffer::new(gpu, "a tensor", bytes, usage, Purpose::Arena, false)?))
}

/// Copies words to the device.
pub(crate) fn to_device(gpu: &Gpu, words: &[u8]) -> Result<Arc<Buffer>> {
    gpu.check()?;
    let padded = (words.len() as u64).next_multiple_of(4);
    let target = allocate(gpu, padded)?;
    let host = Mapped::new(gpu, "a tensor", padded, Direction::ToDevice, false)?;
    host.write(0, words)?;
    host.unmap();
    gpu.scoped("upload", || {
        let mut encoder = run::new_encoder(gpu);
        encoder.copy_buffer_to_buffer(host.buffer().raw(), 0, target.raw(), 0, target.size());
        run::submit(gpu, encoder);
        Ok(())
    })?;
    Ok(target)
}

/// Waits until a tensor is computed, and reads it as words.
pub(crate) fn to_host(gpu: &Gpu, tensor: &Resident) -> Result<Vec<u8>> {
    gpu.check()?;
    let buffer = &*tensor.buffer;
    let host = Mapped::new(gpu, "a tensor", buffer.size(), Direction::ToHost, false)?;
    let submission = gpu.scoped("read-back", || {
        let mut encoder = run::new_encoder(gpu);
        encoder.copy_buffer_to_buffer(buffer.raw(), 0, host.buffer().raw(), 0, buffer.size());
        Ok(run::submit(gpu, encoder))
    })?;
    host.map(Direction::ToHost);
    host.wait(gpu, Some(&submission))?;
    let numel = tensor.shape.numel();
    host.read(|bytes| Ok(if tensor.half { ports::from_half(&bytes[..numel * 2]) } else { bytes[..numel * 4].to_vec() }))
}

/// The tensor with elements of `f16`, or of `f32`, as a model needs them: by way of the host where it has the others.
fn with_half(gpu: &Gpu, tensor: &Resident, half: bool) -> Result<Resident> {
    if tensor.half == half {
        return Ok(tensor.clone());
    }
    let words = to_host(gpu, tensor)?;
    let buffer = to_device(gpu, &if half { ports::to_half(&words) } else { words })?;
    Ok(Resident { buffer, half, ..tensor.clone() })
}

impl Plan {
    /// Runs the plan from tensors on its device to new ones. Nothing is waited for, but the words in which kernels
    /// report an index that is out of range.
    ///
    /// # Errors
    /// Those of [`start`](Self::start).
    pub(crate) fn run_resident(&mut self, inputs: &[&Resident]) -> Result<Vec<Resident>> {
        let doors = Arc::clone(&self.doors);
        let gpu = &doors.gpu;
        gpu.check()?;
        if doors.inputs.len() != inputs.len() {
            let (own, given) = (doors.inputs.len(), inputs.len());
            return Err(Error::shape(format!("the model has {own} inputs, {given} were given")));
        }
        for (i, (slot, input)) in doors.inputs.iter().zip(inputs).enumerate() {
            let port = &slot.port;
            if port.shape != input.shape || port.dtype.is_float() != input.dtype.is_float() {
                let (own, given) = (&port.shape, &input.shape);
                let (dtype, found) = (port.dtype, input.dtype);
                return Err(Error::shape(format!("input {i}: the plan is for {dtype} {own}, not for {found} {given}")));
            }
        }
        let own = |(slot, input): (&Slot, &&Resident)| with_half(gpu, input, slot.half);
        let inputs = doors.inputs.iter().zip(inputs).map(own).collect::<Result<Vec<_>>>()?;
        let new = |slot: &Slot| {
            let (dtype, shape) = (slot.port.dtype, slot.port.shape.clone());
            Ok(Resident { dtype, shape, buffer: allocate(gpu, slot.padded())?, half: slot.half })
        };
        let outputs = doors.outputs.iter().map(new).collect::<Result<Vec<_>>>()?;
        let words = match &doors.status {
            Some(status) => Some(Mapped::new(gpu, "status", status.buffer.size(), Direction::ToHost, false)?),
            None => None,
        };
        let submission = gpu.scoped("run", || {
            let mut encoder = run::new_encoder(gpu);
            for (slot, input) in doors.inputs.iter().zip(&inputs).filter(|(slot, _)| slot.bytes > 0) {
                encoder.copy_buffer_to_buffer(input.buffer.raw(), 0, slot.arena.raw(), slot.offset, slot.padded());
            }
            let mut encoder = self.submit_calls(encoder, None);
            for (slot, output) in doors.outputs.iter().zip(&outputs).filter(|(slot, _)| slot.bytes > 0) {
                encoder.copy_buffer_to_buffer(slot.arena.raw(), slot.offset, output.buffer.raw(), 0, slot.padded());
            }
            if let (Some(status), Some(words)) = (&doors.status, &words) {
                encoder.copy_buffer_to_buffer(status.buffer.raw(), 0, words.buffer().raw(), 0, status.buffer.size());
            }
            Ok(run::submit(gpu, encoder))
        })?;
        if let (Some(status), Some(words)) = (&doors.status, &words) {
            words.map(Direction::ToHost);
            words.wait(gpu, Some(&submission))?;
            words.read(|bytes| check_status(&status.steps, bytes.chunks_exact(STATUS_BYTES as usize)))?;
        }
        Ok(outputs)
    }
}
