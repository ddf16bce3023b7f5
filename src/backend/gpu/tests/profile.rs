//! Profiles time every dispatch, and plans of much work are cut.

use super::on_every_gpu;
use crate::backend::cases;
use crate::backend::gpu::{Peaks, Plan, Weights, measure_peak};
use crate::backend::lowered::schedule_of;
use crate::device::gpu::GpuOptions;
use crate::dtype::DType;
use crate::error::ErrorKind;
use crate::tensor::Tensor;

#[test]
fn every_dispatch_is_timed() {
    let schedule = schedule_of("resnet18", 64);
    on_every_gpu(GpuOptions::default(), |gpu| {
        let mut plan = Plan::new(&schedule, &mut Weights::new(gpu)).unwrap();
        let x = Tensor::zeros(DType::F32, [1, 3, 64, 64]);
        if gpu.info().limits.is_none_or(|limits| !limits.timestamps) {
            assert_eq!(plan.profile(&[x], 1).unwrap_err().kind(), ErrorKind::Unsupported);
            return;
        }
        let start = std::time::Instant::now();
        let profile = plan.profile(std::slice::from_ref(&x), 3).unwrap();
        let wall = start.elapsed().as_secs_f64() * 1e3;
        assert_eq!(profile.iter().map(|step| step.dispatches.len()).sum::<usize>(), plan.dispatches());
        assert!(profile.iter().all(|step| step.ms > 0.0 && step.min_ms <= step.ms), "{profile:?}");
        let total: f64 = profile.iter().map(|step| step.min_ms).sum();
        assert!(total * 3.0 < wall, "{total} ms three times in {wall} ms");
        let convolutions: Vec<_> = profile.iter().filter(|step| step.kernel == "conv2d").collect();
        assert_eq!(convolutions.len(), 20);
        assert!(
            convolutions[0].layer == "conv1" && convolutions[0].flops == 2 * 32 * 32 * 64 * 147,
            "{convolutions:?}"
        );
        // A profile changes nothing.
        plan.start(&[x]).unwrap().wait().unwrap();
    });
}

#[test]
fn a_device_without_timestamps_has_no_profile() {
    on_every_gpu(GpuOptions { timestamps: false, ..GpuOptions::default() }, |gpu| {
        let case = &cases::all()[0];
        let mut plan = Plan::new(&case.schedule(), &mut Weights::new(gpu)).unwrap();
        let error = plan.profile(&case.tensors(), 1).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("has no timestamps"), "{error}");
    });
}

#[test]
fn plans_of_much_work_are_cut() {
    let schedule = schedule_of("resnet18", 32);
    let x = Tensor::zeros(DType::F32, [1, 3, 32, 32]);
    on_every_gpu(GpuOptions::default(), |gpu| {
        let whole = Plan::new(&schedule, &mut Weights::new(gpu)).unwrap().run(std::slice::from_ref(&x)).unwrap();
        for (flops, least) in [(10_000_000, 4), (1, 20)] {
            let options = GpuOptions { submission_flops: Some(flops), ..gpu.options() };
            for cut in crate::device::adapters::open_all(options).unwrap() {
                let mut plan = Plan::new(&schedule, &mut Weights::new(&cut)).unwrap();
                plan.run(std::slice::from_ref(&x)).unwrap();
                let before = cut.account().counts();
                let parts = plan.run(std::slice::from_ref(&x)).unwrap();
                let submits = cut.account().counts().submits - before.submits;
                assert!(submits >= least && submits <= plan.dispatches() as u64, "{submits} submissions");
                assert_eq!(cut.account().counts().buffers, before.buffers);
                // Pieces may take other tiles than the whole, which add in another order.
                let (whole, parts) = (whole[0].to_f32().unwrap(), parts[0].to_f32().unwrap());
                let largest = whole.iter().fold(0.0f32, |most, y| most.max(y.abs()));
                let differs = |(a, b): (&f32, &f32)| (a - b).abs() > 1e-5 * largest;
                assert!(largest > 0.0 && !whole.iter().zip(&parts).any(differs), "{whole:?} {parts:?}");
                if cut.info().limits.is_some_and(|limits| limits.timestamps) {
                    let profile = plan.profile(std::slice::from_ref(&x), 1).unwrap();
                    assert_eq!(profile.iter().map(|step| step.dispatches.len()).sum::<usize>(), plan.dispatches());
                }
            }
        }
    });
}

#[test]
fn the_peak_is_measured() {
    for timestamps in [true, false] {
        for gpu in crate::device::adapters::open_all(GpuOptions { timestamps, ..GpuOptions::default() }).unwrap() {
            let Peaks { flops, bytes, .. } = measure_peak(&gpu).unwrap();
            assert!(flops > 1e8 && flops < 1e16 && bytes > 1e7 && bytes < 1e14, "{flops} {bytes}");
            assert_eq!(gpu.account().memory().total(), 0);
        }
    }
}
