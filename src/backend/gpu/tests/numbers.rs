//! Numbers at the edge of what `f32` holds.

use std::sync::Arc;

use super::on_every_gpu;
use crate::backend::cases::{Case, attention_step};
use crate::backend::gpu::{Plan, Weights};
use crate::device::gpu::{Gpu, GpuOptions};
use crate::graph::op::{Instr, Program, Unary};
use crate::graph::step::{AttentionStep, Kernel, PointwiseStep};

fn run(gpu: &Arc<Gpu>, case: &Case) -> Vec<f32> {
    let mut plan = Plan::new(&case.schedule(), &mut Weights::new(gpu)).unwrap();
    plan.run(&case.tensors()).unwrap()[0].to_f32().unwrap()
}

/// Activations of the largest numbers are what they tend to, by single elements and by quads.
#[test]
fn activations_of_large_numbers_are_right() {
    let numbers: Vec<f32> =
        [1.0, 20.0, 80.0, 87.0, 88.0, 89.0, 95.0, 104.0, 120.0, 1e3, 1e5, 1e10, 1.9e19, 1e30, 3e38, f32::MAX]
            .into_iter()
            .flat_map(|x| [x, -x])
            .collect();
    let functions = [
        Unary::Sigmoid,
        Unary::Silu,
        Unary::Tanh,
        Unary::Gelu,
        Unary::GeluTanh,
        Unary::Elu { alpha: 1.5 },
        Unary::Hardsigmoid,
        Unary::Erf,
        Unary::Exp,
    ];
    on_every_gpu(GpuOptions::default(), |gpu| {
        for function in functions {
            for len in [numbers.len(), numbers.len() - 1] {
                let step = PointwiseStep {
                    shape: vec![len],
                    strides: vec![vec![1]],
                    out_strides: vec![1],
                    program: Program { instrs: vec![Instr::Input(0), Instr::Unary(function, 0)] },
                    is_int: false,
                };
                let case = Case {
                    name: format!("{function:?}"),
                    kernel: Kernel::Pointwise(step),
                    inputs: vec![numbers[..len].to_vec().into()],
                    output: len,
                    output_offset: 0,
                    tolerance: 0.0,
                };
                for ((x, got), want) in numbers.iter().zip(run(gpu, &case)).zip(case.expected()) {
                    // The exponential loses digits as its result grows.
                    let want = want as f32;
                    let close = (got - want).abs() <= 2e-5 * want.abs().max(1.0) || got == want;
                    assert!(close, "{function:?}({x}) is {got}, expected {want}");
                }
            }
        }
    });
}

/// A row of attention that sees nothing gives zeros, as PyTorch 2.15 does, or NaN, as a softmax that is written out; a
/// row with NaN gives NaN.
#[test]
fn a_row_that_sees_nothing_is_zero() {
    let [q_len, kv_len, dim] = [3, 70, 8];
    let mask = Some([0, 0, kv_len, 1]);
    let step = AttentionStep { mask, scale: 1.0, ..attention_step(1, 1, q_len, kv_len, dim, dim) };
    let mut mask = vec![0.0; q_len * kv_len];
    mask[kv_len..2 * kv_len].fill(f32::NEG_INFINITY);
    let mut q = vec![0.5; q_len * dim];
    q[2 * dim] = f32::NAN;
    let (k, v) = (vec![1.0; kv_len * dim], vec![0.25; kv_len * dim]);
    let case = Case {
        name: "hidden row".into(),
        kernel: Kernel::Attention(step.clone()),
        inputs: vec![q.into(), k.into(), v.into(), mask.into()],
        output: q_len * dim,
        output_offset: 0,
        tolerance: 0.0,
    };
    let kernel = Kernel::Attention(AttentionStep { blind_is_nan: true, ..step });
    let written = Case { kernel, ..case.clone() };
    on_every_gpu(GpuOptions::default(), |gpu| {
        let y = run(gpu, &case);
        assert!(y[..dim].iter().all(|y| (y - 0.25).abs() < 1e-6), "{y:?}");
        assert!(y[dim..2 * dim].iter().all(|&y| y == 0.0), "{y:?}");
        assert!(y[2 * dim..].iter().all(|y| y.is_nan()), "{y:?}");
        let y = run(gpu, &written);
        assert!(y[..dim].iter().all(|y| (y - 0.25).abs() < 1e-6), "{y:?}");
        assert!(y[dim..].iter().all(|y| y.is_nan()), "{y:?}");
    });
}
