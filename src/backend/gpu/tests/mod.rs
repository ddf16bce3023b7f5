//! Tests of the GPU backend on every adapter of the machine, software ones too.

mod limits;
mod numbers;
mod plan;
mod profile;
mod runs;
mod speed;
mod upload;

use std::sync::Arc;

use crate::device::gpu::{Gpu, GpuOptions};
use crate::device::memory::Buffer;
use crate::device::staging::{Direction, Mapped};
use crate::device::tests::on_every_new_gpu;

/// Runs a test on every adapter, with the shaders' runtime checks on and off. Without an adapter it is skipped, unless
/// `SCONCE_REQUIRE_GPU=1` says that there must be one.
pub(crate) fn on_every_gpu(options: GpuOptions, test: impl Fn(&Arc<Gpu>)) {
    on_every_new_gpu(options, |gpu| {
        test(gpu);
        gpu.check().expect("no error is left behind");
    });
}

/// The words of a buffer.
pub(super) fn read_words(gpu: &Gpu, buffer: &Buffer) -> Vec<u32> {
    let host = Mapped::new(gpu, "test", buffer.size(), Direction::ToHost, false).unwrap();
    let mut encoder = gpu.device().create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    encoder.copy_buffer_to_buffer(buffer.raw(), 0, host.buffer().raw(), 0, buffer.size());
    let submission = gpu.queue().submit([encoder.finish()]);
    host.map(Direction::ToHost);
    host.wait(gpu, Some(&submission)).unwrap();
    host.read(|bytes| Ok(bytemuck::pod_collect_to_vec(bytes))).unwrap()
}
