//! Plans answer as the naive kernels do, and a second run makes nothing.

use std::sync::Arc;

use super::on_every_gpu;
use crate::backend::cases::{self, Case};
use crate::backend::gpu::dispatch::Selection;
use crate::backend::gpu::kernels::{self, Caps};
use crate::backend::gpu::pipeline::Pipelines;
use crate::backend::gpu::upload::CHUNKS;
use crate::backend::gpu::{Plan, Weights};
use crate::backend::lowered::schedule_of;
use crate::device::gpu::{Gpu, GpuOptions};
use crate::device::tests::on_every_new_gpu;
use crate::dtype::{DType, Precision};
use crate::error::ErrorKind;
use crate::graph::step::{Kernel, Memory, Schedule};
use crate::tensor::Tensor;

fn plan(gpu: &Arc<Gpu>, case: &Case) -> Plan {
    Plan::new(&case.schedule(), &mut Weights::new(gpu)).unwrap_or_else(|e| panic!("{}: {e}", case.name))
}

/// Whether every activation can be bound; weights are split where they are larger.
fn fits(case: &Case, options: GpuOptions) -> bool {
    let most = options.binding_bytes.unwrap_or(u64::MAX);
    let weight = |memory: &Memory| matches!(memory, Memory::Parameter(_));
    case.schedule().buffers.iter().all(|b| weight(&b.memory) || b.len as u64 * 4 + 16 <= most)
}

/// Runs every case and says all that differ, at most 20.
fn run_cases(options: GpuOptions) {
    let cases: Vec<Case> = cases::all().into_iter().filter(|case| fits(case, options)).collect();
    assert!(cases.len() > 100);
    on_every_gpu(options, |gpu| {
        let answer = |case: &Case| {
            let outputs = plan(gpu, case).run(&case.tensors()).map_err(|e| format!("{}: {e}", case.name))?;
            case.check(&outputs[0])
        };
        let wrong: Vec<String> = cases.iter().filter_map(|case| answer(case).err()).take(20).collect();
        assert!(wrong.is_empty(), "{} (checks {}):\n{}", gpu.info(), gpu.options().checks, wrong.join("\n"));
    });
}

#[test]
fn every_case_answers_as_the_naive_kernels() {
    run_cases(GpuOptions::default());
}

/// The same where weights must be split and uploads take many chunks, that shaders read copies of.
#[test]
fn every_case_answers_with_small_bindings() {
    run_cases(GpuOptions {
        binding_bytes: Some(256 << 10),
        staging_bytes: Some(16 << 10),
        host_memory: false,
        ..GpuOptions::default()
    });
}

#[test]
fn a_second_run_makes_nothing() {
    on_every_gpu(GpuOptions::default(), |gpu| {
        for case in cases::all().iter().step_by(7) {
            let mut plan = plan(gpu, case);
            let first = plan.run(&case.tensors()).unwrap();
            let before = gpu.account().counts();
            let memory = gpu.account().memory();
            for _ in 0..3 {
                let again = plan.run(&case.tensors()).unwrap();
                assert_eq!(again[0].bytes(), first[0].bytes(), "{}", case.name);
            }
            let after = gpu.account().counts();
            assert_eq!(after.submits, before.submits + 3, "{}: one submission a run", case.name);
            assert_eq!(
                (after.buffers, after.pipelines, after.bind_groups),
                (before.buffers, before.pipelines, before.bind_groups),
                "{}",
                case.name
            );
            assert_eq!(gpu.account().memory(), memory, "{}", case.name);
        }
    });
}

/// What a run takes on software adapters; `dispatches_on_gpus_are_known` has the others.
#[test]
fn runs_take_few_dispatches() {
    for (name, size, most) in [("resnet50", 224, 58), ("vit_b_16", 224, 12 * 10), ("mlp", 784, 3)] {
        let schedule = schedule_of(name, size);
        on_every_gpu(GpuOptions::default(), |gpu| {
            let caps = Caps { is_software: true, ..Caps::new(gpu) };
            Pipelines::of(gpu).caps.set(caps).expect("nothing was selected before");
            let count = Plan::new(&schedule, &mut Weights::new(gpu)).unwrap().dispatches();
            assert!((3..=most).contains(&count), "{name}: {count} dispatches, at most {most} are expected");
        });
    }
}

#[test]
fn a_second_run_of_resnet50_makes_nothing() {
    let schedule = schedule_of("resnet50", 64);
    for is_software in [true, false] {
        on_every_gpu(GpuOptions::default(), |gpu| {
            Pipelines::of(gpu).caps.set(Caps { is_software, ..Caps::new(gpu) }).expect("nothing was selected before");
            let mut plan = Plan::new(&schedule, &mut Weights::new(gpu)).unwrap();
            assert!(plan.dispatches() <= 58, "{} dispatches", plan.dispatches());
            let x = Tensor::zeros(DType::F32, [1, 3, 64, 64]);
            plan.run(std::slice::from_ref(&x)).unwrap();
            let (counts, memory) = (gpu.account().counts(), gpu.account().memory());
            plan.run(&[x]).unwrap();
            let after = gpu.account().counts();
            assert_eq!((after.buffers, after.pipelines), (counts.buffers, counts.pipelines));
            assert_eq!((after.bind_groups, after.submits), (counts.bind_groups, counts.submits + 1));
            assert_eq!(gpu.account().memory(), memory);
        });
    }
}

/// The bytes that the steps of a schedule pass between their dispatches, one after the other in the same memory.
fn scratch_of(schedule: &Schedule, gpu: &Gpu) -> usize {
    let selections: Vec<_> = (schedule.steps.iter())
        .map(|step| kernels::select(step, &schedule.buffers, gpu, Precision::Exact).unwrap())
        .collect();
    let most = |of: fn(&Selection) -> usize| selections.iter().map(of).max().unwrap_or(0);
    (most(|selection| selection.scratch[0])
        + most(|selection| selection.scratch[1])
        + most(|selection| selection.slots))
        * 4
}

/// A GPU holds the weights, the planned arenas and a bounded number of staging chunks, and no twentieth more or less at
/// its peak than these; all of it is given back. On the kernels for GPUs split sums pass through memory that is planned too.
#[test]
fn memory_is_what_the_plan_says() {
    let schedule = schedule_of("resnet50", 224);
    // BatchNorm's parameters become a factor and a summand, and are not read by kernels themselves.
    let parameters: usize = (schedule.buffers.iter())
        .filter(|buffer| matches!(buffer.memory, Memory::Parameter(_)))
        .map(|buffer| buffer.len * 4)
        .sum();
    assert!(parameters > 100_000_000);
    let arenas: usize = schedule.arenas.iter().sum();
    let about = |got: u64, planned: usize, what: &str| {
        let part = got as f64 / planned as f64;
        assert!((0.95..=1.05).contains(&part), "{what}: {got} bytes, {planned} were planned");
    };
    for (is_software, host_memory) in [(true, true), (false, true), (false, false)] {
        on_every_gpu(GpuOptions { host_memory, ..GpuOptions::default() }, |gpu| {
            Pipelines::of(gpu).caps.set(Caps { is_software, ..Caps::new(gpu) }).expect("nothing was selected before");
            let mut weights = Weights::new(gpu);
            let plan = Plan::new(&schedule, &mut weights).unwrap();
            // Shaders have a copy of a chunk where they cannot read the host's.
            let copies = if gpu.has_host_memory() { 1 } else { 2 };
            let staging = if gpu.packs_on_host() { 0 } else { CHUNKS * gpu.staging_bytes() * copies };
            let scratch = scratch_of(&schedule, gpu);
            assert!(is_software || scratch > 0, "no sum is split");
            let memory = gpu.account().memory();
            // Chunks are made when they are needed: these weights repeat one element, and do not need all.
            let (peak, least) = (memory.peak as usize, parameters + arenas + scratch);
            let planned = least / 20 * 19..=(least + staging) / 20 * 21;
            assert!(planned.contains(&peak), "at the peak: {peak} bytes, {planned:?} were planned");
            about(memory.weights, parameters, "weights");
            about(memory.arenas, arenas + scratch, "arenas");
            assert_eq!(memory.arenas, plan.arena_bytes() as u64);
            // What is left of the staging are the plan's input and output.
            let ports = 4 * (3 * 224 * 224 + 1000);
            assert!(memory.staging <= 2 * ports, "{memory:?}");
            drop(plan);
            assert_eq!(gpu.account().memory().total(), weights.bytes() as u64);
            drop(weights);
            assert_eq!(gpu.account().memory().total(), 0);
        });
    }
}

/// Equal weights of two plans are on the device once, and everything is given back in the end.
#[test]
fn plans_share_weights() {
    on_every_gpu(GpuOptions::default(), |gpu| {
        let has_weights =
            |case: &&Case| case.schedule().buffers.iter().any(|b| matches!(b.memory, Memory::Parameter(_)));
        let all = cases::all();
        let case = all.iter().find(has_weights).expect("a case with a parameter");
        let before = gpu.account().memory().total();
        let mut weights = Weights::new(gpu);
        let (schedule, again) = (case.schedule(), case.schedule());
        let parameters = |s: &Schedule| s.buffers.iter().map(|b| b.memory.clone()).collect::<Vec<_>>();
        let mut again = again;
        // The same storages, as two plans of one model have.
        for (buffer, memory) in again.buffers.iter_mut().zip(parameters(&schedule)) {
            buffer.memory = memory;
        }
        let mut first = Plan::new(&schedule, &mut weights).unwrap();
        let held = gpu.account().memory().weights;
        let mut second = Plan::new(&again, &mut weights).unwrap();
        assert_eq!(gpu.account().memory().weights, held);
        assert_eq!(weights.bytes() as u64, held);
        let tensors = case.tensors();
        assert_eq!(first.run(&tensors).unwrap()[0].bytes(), second.run(&tensors).unwrap()[0].bytes());
        drop((first, second, weights));
        assert_eq!(gpu.account().memory().total(), before);
    });
}

#[test]
fn inputs_that_do_not_fit_are_refused() {
    on_every_gpu(GpuOptions::default(), |gpu| {
        let all = cases::all();
        let case = all
            .iter()
            .find(|case| matches!(case.kernel, Kernel::Embedding { outer: 1, count: 2.., .. }))
            .expect("an embedding case");
        let Kernel::Embedding { rows, .. } = case.kernel else { unreachable!() };
        let mut plan = plan(gpu, case);
        let tensors = case.tensors();
        let with = |i: usize, tensor: Tensor| {
            let mut tensors = tensors.clone();
            tensors[i] = tensor;
            tensors
        };
        assert!(plan.run(&tensors[1..]).unwrap_err().to_string().contains("inputs"));
        let wrong = Tensor::new([3, 1], [0i64; 3]).unwrap();
        assert!(plan.run(&with(0, wrong)).unwrap_err().to_string().starts_with("input 0: the plan is for"));
        let count = tensors[0].shape().numel();
        let indices = |last: i64| {
            let mut indices = vec![0i64; count];
            indices[count - 1] = last;
            with(0, Tensor::new([count], indices).unwrap())
        };
        for last in [rows as i64, -1, i32::MAX.into()] {
            let error = plan.run(&indices(last)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Shape);
            let text = format!("the index at position {} is out of range, expected 0..{rows}", count - 1);
            assert!(error.to_string().ends_with(&text), "{error}");
        }
        let error = plan.run(&indices(1 << 40)).unwrap_err().to_string();
        assert!(error.starts_with("input 0: element") && error.contains("1099511627776"), "{error}");
        let floats = Tensor::new([count], vec![0f32; count]).unwrap();
        assert!(plan.run(&with(0, floats)).is_err());
        // After an error the plan still answers.
        case.check(&plan.run(&tensors).unwrap()[0]).unwrap();
    });
}

#[test]
fn a_lost_device_is_an_error_of_the_run() {
    on_every_new_gpu(GpuOptions::default(), |gpu| {
        let case = &cases::all()[0];
        let mut plan = plan(gpu, case);
        plan.run(&case.tensors()).unwrap();
        gpu.device().destroy();
        for _ in 0..2 {
            let error = plan.run(&case.tensors()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Device, "{error}");
        }
        assert!(Plan::new(&case.schedule(), &mut Weights::new(gpu)).is_err());
    });
}
