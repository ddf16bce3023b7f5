//! How fast a GPU copies: what uploads are compared with.

use std::time::Instant;

use super::gpu::Gpu;
use super::info::CopyRates;
use super::memory::{Buffer, Purpose};
use crate::error::Result;

/// The buffers that are copied to are this large, and so is the one that is copied from.
const PART: u64 = 64 << 20;
const REPEATS: usize = 3;

pub(crate) fn measure(gpu: &Gpu, bytes: u64) -> Result<CopyRates> {
    let part = PART.min(gpu.limits().max_buffer_size);
    let sizes: Vec<u64> = (0..bytes.max(4)).step_by(part as usize).map(|at| (bytes.max(4) - at).min(part)).collect();
    let make = |size: u64| {
        let usage = wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
        Buffer::new(gpu, "a copy", size, usage, Purpose::Staging, false)
    };
    let source = make(part)?;
    let copy_all = |targets: &[Buffer]| -> Result<()> {
        for target in targets {
            let submission = gpu.scoped("copy", || {
                let mut encoder = gpu.device().create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
                encoder.copy_buffer_to_buffer(source.raw(), 0, target.raw(), 0, target.size().min(source.size()));
                gpu.account().count_submit();
                Ok(gpu.queue().submit([encoder.finish()]))
            })?;
            if std::ptr::eq(target, &targets[targets.len() - 1]) {
                gpu.wait(Some(submission))?;
            }
        }
        Ok(())
    };
    // The source gets its pages, and the device its clocks.
    copy_all(&[make(part)?])?;
    let mut rates = CopyRates { fresh: 0.0, warm: 0.0 };
    for _ in 0..REPEATS {
        let start = Instant::now();
        let targets = sizes.iter().map(|&size| make(size)).collect::<Result<Vec<_>>>()?;
        copy_all(&targets)?;
        rates.fresh = rates.fresh.max(bytes as f64 / start.elapsed().as_secs_f64());
        let start = Instant::now();
        copy_all(&targets)?;
        rates.warm = rates.warm.max(bytes as f64 / start.elapsed().as_secs_f64());
        drop(targets);
        // What was dropped is given back when the device is polled.
        gpu.poll_now()?;
    }
    Ok(rates)
}
