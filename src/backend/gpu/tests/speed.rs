//! Measurements; run by hand with `cargo test --release gpu::tests::speed -- --ignored --nocapture`.

use std::sync::Arc;
use std::time::Instant;

use super::on_every_gpu;
use super::upload::parameter;
use crate::backend::cases;
use crate::backend::gpu::Plan;
use crate::backend::gpu::dispatch::Pack;
use crate::backend::gpu::kernels::Caps;
use crate::backend::gpu::pipeline::Pipelines;
use crate::backend::gpu::upload::Uploader;
use crate::backend::gpu::weights::Weights;
use crate::backend::lowered::schedule_of;
use crate::checkpoint::{Storage, StoredTensor};
use crate::device::copies;
use crate::device::gpu::GpuOptions;
use crate::dtype::DType;
use crate::graph::step::BufferId;
use crate::tensor::Tensor;

const BYTES: usize = 96 << 20;

#[test]
#[ignore = "a measurement"]
#[allow(clippy::print_stderr)]
fn upload() {
    let staging = std::env::var("STAGING_MB").ok().map(|mb| mb.parse::<usize>().unwrap() << 20);
    on_every_gpu(GpuOptions { staging_bytes: staging, ..GpuOptions::default() }, |gpu| {
        if gpu.options().checks {
            return;
        }
        let fresh = || copies::measure(gpu, BYTES as u64).unwrap().fresh / 1e9;
        eprintln!("{}: chunks of {} MiB", gpu.info(), gpu.staging_bytes() >> 20);
        let (rows, columns) = (BYTES / 4 / 4096, 4096);
        let pack = |order: [usize; 2], multiple| Pack {
            weight: BufferId(0),
            scale: None,
            shape: vec![rows, columns],
            channel_dim: 0,
            channels: 0..rows,
            order: order.to_vec(),
            multiple,
            winograd: false,
            half: false,
        };
        let taps = Pack { shape: vec![rows, columns / 8, 8], order: vec![0, 2, 1], ..pack([0, 1], 4) };
        for (what, dtype, pack) in [
            ("f32 convolution", DType::F32, Some(taps)),
            ("f32 as it is", DType::F32, None),
            ("f16 as it is", DType::F16, None),
            ("f32 padded", DType::F32, Some(pack([0, 1], 4096 + 64))),
            ("f32 transposed", DType::F32, Some(pack([1, 0], 4))),
        ] {
            let bytes = vec![1u8; rows * columns * dtype.size()];
            let storage = Storage::owned(bytes, "cpu");
            let tensor = StoredTensor::new(Arc::clone(&storage), dtype, [rows, columns], vec![columns, 1], 0).unwrap();
            let buffer = parameter(tensor, false);
            let mut best = f64::MAX;
            for _ in 0..4 {
                let start = Instant::now();
                let (mut weights, mut up) = (Weights::new(gpu), Uploader::new(gpu, storage.len()));
                match &pack {
                    None => weights.plain(&mut up, &buffer).unwrap(),
                    Some(pack) => weights.packed(&mut up, std::slice::from_ref(&buffer), pack).unwrap(),
                };
                up.finish().unwrap();
                gpu.wait(None).unwrap();
                best = best.min(start.elapsed().as_secs_f64());
            }
            let rate = BYTES as f64 / best / 1e9;
            eprintln!("  {what}: {rate:.2} GB/s of f32, plain copies into new buffers {:.2} GB/s", fresh());
        }
    });
}

/// 3x3 convolutions by Winograd and without.
#[test]
#[ignore = "a measurement"]
#[allow(clippy::print_stderr)]
fn winograd() {
    for (name, least_winograd) in [("winograd", 0), ("direct", usize::MAX)] {
        on_every_gpu(GpuOptions::default(), |gpu| {
            if gpu.options().checks {
                return;
            }
            let caps = Caps { least_winograd, ..Caps::new(gpu) };
            Pipelines::of(gpu).caps.set(caps).expect("nothing was selected before");
            for (channels, side) in [(64, 56), (128, 28), (256, 14), (512, 7), (256, 56), (512, 28), (512, 14)] {
                let case = cases::square_conv2d(channels, channels, [side, side]);
                let mut plan = Plan::new(&case.schedule(), &mut Weights::new(gpu)).unwrap();
                let tensors = case.tensors();
                let time = |plan: &mut Plan| {
                    let start = Instant::now();
                    plan.run(&tensors).unwrap();
                    start.elapsed().as_secs_f64()
                };
                let best = (0..6).map(|_| time(&mut plan)).fold(f64::MAX, f64::min);
                let products = 18.0 * (channels * channels * side * side) as f64;
                let rate = products / best / 1e9;
                eprintln!(
                    "{name} {channels} channels {side}x{side}: {:.2} ms, {rate:.1} GFLOP/s of the direct sum",
                    best * 1e3
                );
            }
        });
    }
}

/// What a run of resnet50 costs beside its kernels: its dispatches have no workgroups.
#[test]
#[ignore = "a measurement"]
#[allow(clippy::print_stderr)]
fn record() {
    let schedule = schedule_of("resnet50", 224);
    for is_software in [true, false] {
        on_every_gpu(GpuOptions::default(), |gpu| {
            if gpu.options().checks {
                return;
            }
            Pipelines::of(gpu).caps.set(Caps { is_software, ..Caps::new(gpu) }).expect("nothing was selected before");
            let mut plan = Plan::new(&schedule, &mut Weights::new(gpu)).unwrap();
            plan.stub();
            let x = [Tensor::zeros(DType::F32, [1, 3, 224, 224])];
            let median = |mut times: Vec<f64>| {
                times.sort_by(f64::total_cmp);
                times[times.len() / 2] * 1e6
            };
            let (mut submits, mut runs) = (Vec::new(), Vec::new());
            for _ in 0..200 {
                let start = Instant::now();
                plan.run(&x).unwrap();
                runs.push(start.elapsed().as_secs_f64());
                submits.push(plan.time_submit().unwrap().as_secs_f64());
            }
            eprintln!(
                "{}, kernels for {}: {} dispatches: encode and submit {:.1} us, run {:.1} us",
                gpu.info(),
                if is_software { "software" } else { "GPUs" },
                plan.dispatches(),
                median(submits),
                median(runs)
            );
        });
    }
}
