//! The device's own clock: how long passes take.

use super::gpu::Gpu;
use super::memory::{Buffer, Purpose};
use super::staging::{Direction, Mapped};
use crate::error::{Error, Result};

/// A stamp takes this many bytes.
const STAMP_BYTES: u64 = 8;

/// The passes that one query set times: two stamps each.
const PASSES_PER_SET: usize = wgpu::QUERY_SET_MAX_QUERIES as usize / 2;

/// Times the passes of a submission.
pub(crate) struct Stopwatch {
    sets: Vec<wgpu::QuerySet>,
    passes: usize,
    resolved: Buffer,
    host: Mapped,
    /// Milliseconds of a tick.
    period: f64,
}

impl Stopwatch {
    /// A watch for this many passes.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) when the device has no clock that passes can read.
    pub(crate) fn new(gpu: &Gpu, passes: usize) -> Result<Self> {
        if !gpu.device().features().contains(wgpu::Features::TIMESTAMP_QUERY) {
            return Err(Error::unsupported(format!("device `{}` has no timestamps for single kernels", gpu.info())));
        }
        let make = |start: usize| {
            let count = (passes - start).min(PASSES_PER_SET) as u32 * 2;
            let descriptor = wgpu::QuerySetDescriptor { label: None, ty: wgpu::QueryType::Timestamp, count };
            gpu.scoped("timestamps", || Ok(gpu.device().create_query_set(&descriptor)))
        };
        let sets = (0..passes).step_by(PASSES_PER_SET).map(make).collect::<Result<Vec<_>>>()?;
        let bytes = passes as u64 * 2 * STAMP_BYTES;
        let usage = wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC;
        Ok(Self {
            sets,
            passes,
            resolved: Buffer::new(gpu, "timestamps", bytes, usage, Purpose::Staging, false)?,
            host: Mapped::new(gpu, "timestamps", bytes, Direction::ToHost, false)?,
            period: f64::from(gpu.queue().get_timestamp_period()) / 1e6,
        })
    }

    /// What pass `index` must be begun with.
    pub(crate) fn writes(&self, index: usize) -> wgpu::ComputePassTimestampWrites<'_> {
        let first = (index % PASSES_PER_SET) as u32 * 2;
        wgpu::ComputePassTimestampWrites {
            query_set: &self.sets[index / PASSES_PER_SET],
            beginning_of_pass_write_index: Some(first),
            end_of_pass_write_index: Some(first + 1),
        }
    }

    /// Records that the stamps are to be read; comes after the last pass.
    pub(crate) fn stop(&self, encoder: &mut wgpu::CommandEncoder) {
        for (i, set) in self.sets.iter().enumerate() {
            let first = i * PASSES_PER_SET;
            let count = (self.passes - first).min(PASSES_PER_SET) as u32 * 2;
            encoder.resolve_query_set(set, 0..count, self.resolved.raw(), first as u64 * 2 * STAMP_BYTES);
        }
        let host = self.host.buffer().raw();
        encoder.copy_buffer_to_buffer(self.resolved.raw(), 0, host, 0, self.resolved.size());
    }

    /// The milliseconds of each pass, once `submission` is done.
    pub(crate) fn read(&self, gpu: &Gpu, submission: &wgpu::SubmissionIndex) -> Result<Vec<f64>> {
        self.host.map(Direction::ToHost);
        self.host.wait(gpu, Some(submission))?;
        let times = self.host.read(|bytes| {
            let stamp = |bytes: &[u8]| u64::from_le_bytes(bytes[..8].try_into().expect("8 bytes"));
            let passes = bytes.chunks_exact(2 * STAMP_BYTES as usize).take(self.passes);
            Ok(passes.map(|pass| stamp(&pass[8..]).saturating_sub(stamp(pass)) as f64 * self.period).collect())
        });
        self.host.unmap();
        times
    }
}
