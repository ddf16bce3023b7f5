//! What a device can do at most, by measurement.

use std::sync::Arc;
use std::time::Instant;

use super::dispatch::{Binding, Dispatch, Shader};
use super::kernels::with_matrices;
use super::pipeline::Pipelines;
use super::precision;
use super::run;
use crate::device::gpu::Gpu;
use crate::device::memory::{Buffer, Purpose};
use crate::device::stopwatch::Stopwatch;
use crate::dtype::Precision;
use crate::error::Result;
use crate::graph::step::BufferId;

/// The workgroups of the kernels, of 64 threads each, or of the 32 that hold a matrix: more than the largest GPUs run at
/// once.
const GROUPS: u32 = 4096;
const THREADS: u32 = GROUPS * 64;

/// The operations of a thread in a round of `peak_flops.wgsl`.
const ROUND_FLOPS: f64 = 32.0 * 4.0 * 2.0;

/// The products of matrices of a workgroup in a round of `peak_matrix.wgsl`.
const ROUND_PRODUCTS: f64 = 32.0;

/// The bytes that `peak_read.wgsl` reads where bindings are that large: more than the caches hold.
const READ_BYTES: u64 = 256 << 20;

/// A measurement shorter than this is repeated with more work, in milliseconds.
const LEAST_MS: f64 = 10.0;
const MOST_ROUNDS: u32 = 1 << 16;
const REPEATS: usize = 5;

/// What a device reaches.
pub(crate) struct Peaks {
    /// The floating-point operations a second on `f32`s in registers.
    pub(crate) flops: f64,
    /// The same on matrix units, on `f16`s with sums in `f32`, where it computes with [`Precision::Fast`].
    pub(crate) matrix_flops: Option<f64>,
    /// The bytes a second that it reads from its memory.
    pub(crate) bytes: f64,
}

/// Measures what the device reaches.
///
/// # Errors
/// [`ErrorKind::Device`](crate::ErrorKind::Device) when the device fails.
pub(crate) fn measure(gpu: &Arc<Gpu>) -> Result<Peaks> {
    let usage = wgpu::BufferUsages::STORAGE;
    let out = Buffer::new(gpu, "the sums", u64::from(THREADS) * 4, usage, Purpose::Staging, false)?;
    let flops_source = include_str!("../../../shaders/peak_flops.wgsl");
    let flops_of = dispatch("peak_flops", flops_source, 1, vec![0]);
    let flops = rate(gpu, flops_of, &out, f64::from(THREADS) * ROUND_FLOPS)?;
    let matrix_flops = match gpu.matrices().filter(|_| precision::check(gpu, Precision::Fast).is_ok()) {
        Some(side) => {
            let sums =
                Buffer::new(gpu, "the sums", u64::from(GROUPS * side * side) * 4, usage, Purpose::Staging, false)?;
            let products = f64::from(GROUPS) * ROUND_PRODUCTS * 2.0 * f64::from(side).powi(3);
            Some(rate(gpu, matrix_dispatch(side), &sums, products)?)
        }
        None => None,
    };
    let limits = gpu.limits();
    let most = READ_BYTES.min(limits.max_storage_buffer_binding_size).min(limits.max_buffer_size);
    let block = most / 16 / u64::from(THREADS) * 64;
    let bytes = block * 16 * u64::from(GROUPS);
    let all = Buffer::new(gpu, "the memory to read", bytes, usage, Purpose::Staging, false)?;
    let read_source = include_str!("../../../shaders/peak_read.wgsl");
    let ms = time(gpu, &dispatch("peak_read", read_source, 2, vec![block as u32]), &[&all, &out])?;
    Ok(Peaks { flops, matrix_flops, bytes: bytes as f64 / ms * 1e3 })
}

/// The products of matrices of this side.
pub(super) fn matrix_dispatch(side: u32) -> Dispatch {
    let mut made = dispatch("peak_matrix", include_str!("../../../shaders/peak_matrix.wgsl"), 1, vec![0]);
    with_matrices(&mut made.shader, side);
    made.constants.push(("SIDE", f64::from(side)));
    made
}

/// The operations a second of a dispatch that has so many in a round: of as many rounds as a measurement takes.
fn rate(gpu: &Gpu, mut dispatch: Dispatch, out: &Buffer, round: f64) -> Result<f64> {
    let (mut rounds, mut most) = (16, 0.0);
    loop {
        dispatch.immediates = vec![rounds];
        let ms = time(gpu, &dispatch, &[out])?;
        most = f64::max(most, f64::from(rounds) * round / ms * 1e3);
        if ms >= LEAST_MS || rounds >= MOST_ROUNDS {
            return Ok(most);
        }
        rounds *= 4;
    }
}

fn dispatch(name: &'static str, source: &'static str, buffers: usize, immediates: Vec<u32>) -> Dispatch {
    Dispatch {
        shader: Shader { name, source: source.into() },
        constants: Vec::new(),
        immediates,
        bindings: (0..buffers).map(|i| Binding::Write(BufferId(i))).collect(),
        grid: [GROUPS, 1, 1],
    }
}

/// The least milliseconds of a dispatch: by the device's clock where it has one.
fn time(gpu: &Gpu, dispatch: &Dispatch, buffers: &[&Buffer]) -> Result<f64> {
    let pipeline = Pipelines::of(gpu).get(gpu, &[dispatch])?.remove(0);
    let entries: Vec<_> = (0..)
        .zip(buffers)
        .map(|(binding, buffer)| wgpu::BindGroupEntry { binding, resource: buffer.raw().as_entire_binding() })
        .collect();
    let descriptor = wgpu::BindGroupDescriptor { label: None, layout: &pipeline.layout, entries: &entries };
    let bind_group = gpu.scoped("peak", || Ok(gpu.device().create_bind_group(&descriptor)))?;
    let watch = Stopwatch::new(gpu, 1).ok();
    let mut least = f64::MAX;
    for _ in 0..REPEATS {
        let start = Instant::now();
        let submission = gpu.scoped("peak", || {
            let mut encoder = run::new_encoder(gpu);
            let timestamp_writes = watch.as_ref().map(|watch| watch.writes(0));
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor { label: None, timestamp_writes });
            pass.set_pipeline(&pipeline.raw);
            pass.set_bind_group(0, &bind_group, &[]);
            pass.set_immediates(0, bytemuck::cast_slice(&dispatch.immediates));
            pass.dispatch_workgroups(dispatch.grid[0], dispatch.grid[1], dispatch.grid[2]);
            drop(pass);
            if let Some(watch) = &watch {
                watch.stop(&mut encoder);
            }
            Ok(run::submit(gpu, encoder))
        })?;
        let ms = match &watch {
            Some(watch) => watch.read(gpu, &submission)?[0],
            None => {
                gpu.wait(Some(submission))?;
                start.elapsed().as_secs_f64() * 1e3
            }
        };
        least = least.min(ms.max(1e-6));
    }
    Ok(least)
}
