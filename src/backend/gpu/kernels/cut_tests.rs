//! What is too much for a dispatch or for a submission is cut, and what is cut gives the right answer.

use super::tests::{SMALL, run_cases};
use super::{Caps, select_for};
use crate::backend::cases::{self, Case};
use crate::backend::gpu::dispatch::Dispatch;
use crate::backend::gpu::{Plan, Weights};
use crate::backend::profile::StepProfile;
use crate::device::gpu::GpuOptions;
use crate::dtype::Precision;
use crate::graph::step::Kernel;

/// What a case's kernel becomes.
fn dispatches(case: &Case, caps: &Caps) -> Vec<Dispatch> {
    let schedule = case.schedule();
    let step = schedule.steps.last().expect("the kernel is the last step");
    let selection = select_for(step, &schedule.buffers, caps).unwrap_or_else(|e| panic!("{}: {e}", case.name));
    for dispatch in &selection.dispatches {
        let fits = dispatch.grid.iter().all(|groups| (1..=caps.max_groups).contains(groups));
        assert!(fits, "{}: {:?}, at most {}", case.name, dispatch.grid, caps.max_groups);
        assert!(dispatch.immediates.len() <= 32, "{}: {} words", case.name, dispatch.immediates.len());
    }
    selection.dispatches
}

/// Runs cases on the kernels for software and on those for GPUs.
fn run_on_both(cases: &[Case], change: impl Fn(&Caps) -> Caps) {
    for is_software in [true, false] {
        run_cases(|caps| *caps = Caps { is_software, ..change(caps) }, cases, Precision::Exact);
    }
}

/// A grid that is too short along a dimension for all channels is cut into several, and so is a product that takes too
/// long for one submission.
#[test]
fn products_that_are_too_large_for_a_dispatch_are_cut() {
    let is_wide = |case: &Case| match &case.kernel {
        Kernel::Linear(linear) => linear.rows > 8 && linear.n > 64,
        Kernel::Conv2d(conv) => conv.groups == 1 && conv.c_out > 64,
        _ => false,
    };
    let wide: Vec<Case> =
        cases::all().into_iter().filter(is_wide).chain([cases::square_conv2d(8, 300, [5, 6])]).collect();
    let shaders = |case: &Case, caps: &Caps| {
        dispatches(case, caps).iter().map(|dispatch| dispatch.shader.name).collect::<Vec<_>>()
    };
    let conv = wide.last().expect("just added");
    let winograd = Caps { least_winograd: 0, ..SMALL };
    assert_eq!(shaders(conv, &winograd).len(), 3);
    for (max_groups, submission_flops, parts) in [(4, u64::MAX, 5), (SMALL.max_groups, 1, 3)] {
        let change = |caps: &Caps| Caps { max_groups, submission_flops, enough_groups: 0, ..*caps };
        assert_eq!(shaders(conv, &change(&winograd)), vec!["conv2d"; parts]);
        assert!(max_groups > 4 || wide.iter().all(|case| shaders(case, &change(&SMALL)).len() > 1));
        run_on_both(&wide, change);
    }
}

/// A batch, heads and groups that are more than the workgroups of a dimension go on in another one, or in another dispatch.
#[test]
fn more_workgroups_than_a_dimension_has_are_right() {
    let large = cases::large();
    let many: Vec<Case> =
        [cases::many_heads()].into_iter().chain(large.into_iter().filter(|case| case.name.contains("many"))).collect();
    for (name, count) in [("many heads", 1), ("matmul", 1), ("many groups", 2), ("many rows", 1)] {
        let case = many.iter().find(|case| case.name.contains(name)).expect("there is one");
        assert_eq!(dispatches(case, &SMALL).len(), count, "{name}");
    }
    run_on_both(&many, |caps| *caps);
}

/// The kinds of steps of which one may take longer than a device should be busy, by the operations of a dispatch; and how
/// many dispatches it takes where each does about so many.
fn long_steps() -> Vec<(Case, u64, usize)> {
    let named = |name: &str| {
        let mut all = cases::all().into_iter().chain(cases::large());
        all.find(|case| case.name.contains(name)).unwrap_or_else(|| panic!("no case is called {name}"))
    };
    vec![
        // 6 heads of 13 blocks of 16 rows of 197 columns, of 822,672 operations.
        (named("attention plain 2x3x197x197x64x64 causal_false"), 10_000_000, 7),
        (named("attention plain 2x3x197x197x64x64 causal_true"), 1, 78),
        // Of values of more than 256 elements each dispatch sums a part.
        (named("attention plain 1x2x5x70x6x321 causal_false"), 1, 4),
        // 2 by 3 tiles of 270,336 operations.
        (named("matmul 67x33x130"), 600_000, 3),
        (named("matmul 19x23x21 batch [3, 2] each broadcasts"), 1, 6),
        // 262 x 3 pixels of 3 groups of 12 channels: by groups, then by images and by columns.
        (named("conv2d 24 to 36 in 3 by columns"), 1, 3 * 2 * 3 * 2),
        (named("conv2d 24 to 36 in 3 by columns"), 2_000_000, 2),
        // 140 channels of a group, of which 128 are the most.
        (named("conv2d 6 to 280 in 2 by rows"), 1, 2 * 2 * 2 * 12),
        (named("conv2d 4 to 8 in 1 by rows"), 1, 2 * 12),
        (named("depthwise 7x7"), 1, 11),
        (named("pool 3x3 stride 2 Max"), 1, 52),
    ]
}

#[test]
fn steps_that_take_long_are_cut() {
    for (case, submission_flops, count) in long_steps() {
        assert_eq!(dispatches(&case, &Caps { submission_flops, ..SMALL }).len(), count, "{}", case.name);
        assert_eq!(dispatches(&case, &SMALL).len().min(2), 1 + usize::from(case.name.contains("321")), "{}", case.name);
    }
    let can_be_long = |case: &Case| {
        matches!(case.kernel, Kernel::Attention(_) | Kernel::Matmul(_) | Kernel::Pool2d(_))
            || matches!(&case.kernel, Kernel::Conv2d(conv) if conv.groups > 1)
    };
    let is_small = |case: &Case| !case.name.contains("many");
    let long: Vec<Case> =
        cases::all().into_iter().filter(can_be_long).chain(cases::large().into_iter().filter(is_small)).collect();
    let (convolutions, others): (Vec<Case>, Vec<Case>) =
        long.into_iter().partition(|case| matches!(case.kernel, Kernel::Conv2d(_) | Kernel::Linear(_)));
    for (cases, max_groups, submission_flops) in
        [(&convolutions, 65_535, 1), (&convolutions, 12, 100_000), (&others, 65_535, 1), (&others, 3, 1_000_000)]
    {
        let caps = Caps { max_groups, submission_flops, ..SMALL };
        cases.iter().for_each(|case| drop(dispatches(case, &caps)));
        run_on_both(cases, |caps| Caps { max_groups, submission_flops, ..*caps });
    }
}

/// With the largest tiles and where sums are split.
#[test]
fn convolutions_of_large_images_are_cut_on_kernels_for_gpus() {
    let images: Vec<Case> = cases::large().into_iter().filter(|case| !case.name.contains("many")).collect();
    for enough_groups in [0, 1 << 20] {
        let change =
            |caps: &Caps| Caps { is_software: false, submission_flops: 1, enough_groups, least_steps: 1, ..*caps };
        assert!(images.iter().all(|case| dispatches(case, &change(&SMALL)).len() > 4));
        run_cases(|caps| *caps = change(caps), &images, Precision::Exact);
    }
}

/// A step of five submissions' work is given to the device in as many, more or less.
#[test]
fn a_long_step_takes_several_submissions() {
    for (case, ..) in long_steps() {
        let schedule = case.schedule();
        let step = schedule.steps.last().expect("a step");
        let flops = StepProfile::new(&step.kernel, "", None).flops;
        let options = GpuOptions { submission_flops: Some(flops / 4), ..GpuOptions::default() };
        for gpu in crate::device::adapters::open_all(options).unwrap() {
            let mut plan = Plan::new(&schedule, &mut Weights::new(&gpu)).unwrap();
            let before = gpu.account().counts().submits;
            let output = plan.run(&case.tensors()).unwrap().remove(0);
            let submits = gpu.account().counts().submits - before;
            assert!((2..=16).contains(&submits), "{}: {submits} submissions", case.name);
            case.check(&output).unwrap();
        }
    }
}
