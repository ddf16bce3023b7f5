//! The kernels for lower precisions: on numbers that f16 holds exactly they are as exact as the others, but for the
//! rounding of what they store.

use std::collections::HashMap;

use super::tests::{SMALL, drawn, run_cases, same_every_time};
use super::{Caps, MATRICES, select_for};
use crate::backend::cases::{self, Case, Data};
use crate::backend::gpu::Weights;
use crate::backend::gpu::tests::on_every_gpu;
use crate::device::gpu::GpuOptions;
use crate::dtype::Precision;
use crate::graph::step::Kernel;

/// Half the distance of neighbours in f16, of numbers of size 1.
const ROUNDING: f64 = 1.0 / 2048.0;

/// The usual cases with their numbers rounded to f16.
fn rounded(take: impl Fn(&Case) -> bool, stored: f64) -> Vec<Case> {
    round(drawn().into_iter().chain(cases::all()).filter(take).collect(), stored)
}

/// Cases with their numbers rounded to f16. A weight that is scaled is rounded once more.
fn round(mut cases: Vec<Case>, stored: f64) -> Vec<Case> {
    for case in &mut cases {
        for value in &mut case.inputs {
            if let Data::F32(x) = &mut value.data {
                x.iter_mut().for_each(|x| *x = half::f16::from_f32(*x).to_f32());
            }
        }
        let scaled = match &case.kernel {
            Kernel::Conv2d(conv) => {
                conv.fused.scale.then_some(conv.kernel[0] * conv.kernel[1] * conv.c_in / conv.groups)
            }
            Kernel::Linear(linear) => linear.fused.scale.then_some(linear.k),
            _ => None,
        };
        case.tolerance += stored + scaled.map_or(0.0, |count| ROUNDING * (count as f64).sqrt());
    }
    // What f16 cannot hold is no case.
    cases.retain(|case| case.expected().iter().all(|x| x.is_nan() || x.is_infinite() || x.abs() < 60_000.0));
    cases
}

#[test]
fn half_is_right() {
    let cases = rounded(|_| true, ROUNDING);
    assert!(cases.len() > 500, "{} cases", cases.len());
    run_cases(|_| {}, &cases, Precision::Half);
}

/// The kernels for GPUs, with the largest tiles and with split sums.
#[test]
fn half_is_right_on_kernels_for_gpus() {
    let matters = |case: &Case| matches!(case.kernel, Kernel::Conv2d(_) | Kernel::Linear(_));
    let cases = rounded(matters, ROUNDING);
    for (enough_groups, least_steps) in [(0, 1), (1 << 20, 1)] {
        let change = |caps: &mut Caps| *caps = Caps { is_software: false, enough_groups, least_steps, ..*caps };
        run_cases(change, &cases, Precision::Half);
    }
}

/// Cases of each variant of the shader for matrix units, at most so many.
const OF_EACH: usize = 10;

fn of_each_variant(cases: &[Case], caps: &Caps) -> Vec<Case> {
    let mut seen: HashMap<String, usize> = HashMap::new();
    let mut is_wanted = |case: &&Case| {
        let schedule = case.schedule();
        let selection = schedule.steps.last().map(|step| select_for(step, &schedule.buffers, caps));
        let Some(Ok(selection)) = selection else { return false };
        let Some(dispatch) = selection.dispatches.iter().find(|dispatch| dispatch.shader.name == "conv2d_matrix")
        else {
            return false;
        };
        let count = seen.entry(format!("{:?}", dispatch.constants)).or_default();
        *count += 1;
        *count <= OF_EACH
    };
    let found: Vec<Case> = cases.iter().filter(|case| is_wanted(case)).cloned().collect();
    assert!(seen.len() >= 2 && found.len() > OF_EACH, "{seen:?}");
    found
}

/// The shader for matrix units, with its matrices in plain loops: both sizes of matrices, both tiles, split sums.
#[test]
fn matrices_are_right() {
    let matters = |case: &Case| match &case.kernel {
        // llvmpipe ends the loops of a shader after 65,535 rounds, and these have thousands a step.
        Kernel::Conv2d(conv) => conv.groups == 1 && conv.kernel[0] * conv.kernel[1] * conv.c_in < 800,
        Kernel::Linear(linear) => linear.rows > 8 && linear.k < 800,
        _ => false,
    };
    let (single, half) = (rounded(matters, 0.0), rounded(matters, ROUNDING));
    let variants = [(16, 0), (16, 1 << 20), (8, 0), (8, 1 << 20)];
    for (side, enough_groups) in variants {
        let change = |caps: &mut Caps| {
            let matrices = Some(side);
            *caps =
                Caps { is_software: false, enough_groups, least_steps: 1, matrices, emulated: Some(MATRICES), ..*caps };
        };
        let mut caps = SMALL;
        change(&mut caps);
        run_cases(change, &of_each_variant(&single, &caps), Precision::Fast);
        if side == 16 {
            run_cases(change, &of_each_variant(&half, &Caps { half: true, ..caps }), Precision::Half);
        }
    }
}

/// The parts of sums meet in slots that are empty again after every run, also where channels are cut.
#[test]
fn matrices_that_share_sums_are_right_every_time() {
    let shapes = [(4, 5, [3, 3]), (12, 35, [5, 7]), (20, 140, [4, 5])];
    let cases = shapes.map(|(c_in, c_out, size)| cases::square_conv2d(c_in, c_out, size));
    let cases = round(cases.into(), 0.0);
    for side in [8, 16] {
        let caps = Caps {
            enough_groups: 1 << 20,
            least_steps: 1,
            submission_flops: 1,
            matrices: Some(side),
            emulated: Some(MATRICES),
            ..SMALL
        };
        for case in &cases {
            let schedule = case.schedule();
            let dispatches = select_for(&schedule.steps[0], &schedule.buffers, &caps).unwrap().dispatches;
            assert!(dispatches.iter().all(|dispatch| dispatch.grid[2] > 1), "{}", case.name);
        }
        same_every_time(caps, &cases, Precision::Fast, 4);
    }
}

/// Large images in pieces.
#[test]
fn matrices_are_right_on_what_is_cut() {
    let is_image = |case: &Case| matches!(&case.kernel, Kernel::Conv2d(conv) if conv.groups == 1);
    let images = round(cases::large().into_iter().filter(is_image).collect(), 0.0);
    for (side, enough_groups) in [(16, 0), (8, 1 << 20)] {
        let change = |caps: &Caps| Caps {
            is_software: false,
            submission_flops: 1,
            enough_groups,
            least_steps: 1,
            matrices: Some(side),
            emulated: Some(MATRICES),
            ..*caps
        };
        for case in &images {
            let (schedule, caps) = (case.schedule(), change(&SMALL));
            let dispatches = select_for(&schedule.steps[0], &schedule.buffers, &caps).unwrap().dispatches;
            let is_cut = dispatches.len() > 4 && dispatches[0].shader.name == "conv2d_matrix";
            assert!(is_cut, "{}: {} dispatches", case.name, dispatches.len());
        }
        run_cases(|caps| *caps = change(caps), &images, Precision::Fast);
    }
}

/// A precision that the device does not have is refused, and says what there is.
#[test]
fn missing_precisions_are_refused() {
    on_every_gpu(GpuOptions::default(), |gpu| {
        for precision in [Precision::Exact, Precision::Fast, Precision::Half] {
            let has = match precision {
                Precision::Exact => true,
                Precision::Fast => gpu.matrices().is_some(),
                Precision::Half => gpu.has_f16(),
            };
            match Weights::with_precision(gpu, precision) {
                Ok(_) => assert!(has, "{precision}"),
                Err(error) => {
                    assert!(!has, "{error}");
                    assert!(error.to_string().starts_with(&format!("precision `{precision}` on device `")), "{error}");
                }
            }
        }
    });
}
