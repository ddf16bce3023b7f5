//! Every reference case through the plan, and what plans promise.

use std::sync::Arc;

use super::isa::Isa;
use super::{Plan, Weights};
use crate::backend::cases::{self, Case};
use crate::backend::key::WeightKey;
use crate::device::pool::Pool;
use crate::error::Result;
use crate::graph::step::{Arg, Kernel, Memory};
use crate::tensor::Tensor;

fn run(case: &Case, isa: Isa, pool: &Arc<Pool>) -> Result<Vec<Tensor>> {
    let mut weights = Weights::with_isa(isa, Arc::clone(pool));
    let mut plan = Plan::new(&case.schedule(), &mut weights)?;
    let inputs = case.tensors();
    let first = plan.run(&inputs)?;
    // The second run finds the memory as the first one left it.
    let second = plan.run(&inputs)?;
    assert_eq!(first[0].bytes(), second[0].bytes(), "{}: the second run differs", case.name);
    Ok(second)
}

#[test]
fn every_case_on_every_instruction_set_and_number_of_threads() {
    let cases = cases::all();
    let mut failures = Vec::new();
    for isa in Isa::available() {
        for threads in [1, 2, 3] {
            let pool = Arc::new(Pool::new(threads));
            for case in &cases {
                let result = run(case, isa, &pool)
                    .map_err(|error| format!("{}: {error}", case.name))
                    .and_then(|outputs| case.check(&outputs[0]));
                failures.extend(result.err().map(|error| format!("{} with {threads} threads: {error}", isa.name())));
            }
        }
    }
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures[..failures.len().min(40)].join("\n"));
}

fn case(name: &str) -> Case {
    cases::all().into_iter().find(|case| case.name == name).expect("the case exists")
}

fn weights() -> Weights {
    Weights::with_isa(Isa::available()[0], Arc::new(Pool::new(2)))
}

#[test]
fn bad_indices_are_one_error() {
    let case = case("embedding 5x7x3 float32");
    for (index, shown) in [(7i64, "7"), (-1, "-1")] {
        let mut plan = Plan::new(&case.schedule(), &mut weights()).unwrap();
        let indices = Tensor::new([5], [0, 6, index, 99, 1]).unwrap();
        let error = plan.run(&[indices]).unwrap_err().to_string();
        let want = format!("index {shown} at position 2 is out of range, expected 0..7");
        assert!(error.contains(&want), "{error}");
    }
    let mut plan = Plan::new(&case.schedule(), &mut weights()).unwrap();
    let error = plan.run(&[Tensor::new([5], [0, 1, 2, 1i64 << 40, 3]).unwrap()]).unwrap_err().to_string();
    assert!(error.contains("1099511627776") && error.contains("32 bits"), "{error}");
}

#[test]
fn wrong_inputs_are_errors() {
    let case = case("pointwise relu(a + b) [3]");
    let mut plan = Plan::new(&case.schedule(), &mut weights()).unwrap();
    let x = Tensor::new([3], [1f32, 2., 3.]).unwrap();
    assert!(plan.run(std::slice::from_ref(&x)).unwrap_err().to_string().contains("2 inputs, 1 were given"));
    let long = Tensor::new([4], [1f32; 4]).unwrap();
    assert!(plan.run(&[x.clone(), long]).unwrap_err().to_string().contains("for [3], not for [4]"));
    // Other dtypes are converted.
    let y = plan.run(&[x, Tensor::new([3], [-5i64, 7, 0]).unwrap()]).unwrap();
    assert_eq!(y[0].as_slice::<f32>().unwrap(), [0., 9., 3.]);
}

/// A second plan of the same model packs nothing again, and no copies are left but what is used.
#[test]
fn weights_are_shared_by_plans() {
    for name in ["conv2d 3x3", "linear 64x64x64 bias", "conv2d 3x3 bfloat16 strided_true", "linear 1x1024x256 bias"] {
        let case = case(name);
        let mut weights = weights();
        // The cases make storages of their own for every schedule; a model does not.
        let schedule = case.schedule();
        let again = {
            let mut again = case.schedule();
            again.buffers.clone_from(&schedule.buffers);
            again
        };
        let mut first = Plan::new(&schedule, &mut weights).unwrap();
        let bytes = weights.bytes();
        let mut second = Plan::new(&again, &mut weights).unwrap();
        assert_eq!(weights.bytes(), bytes, "{name}");
        let inputs = case.tensors();
        let a = first.run(&inputs).unwrap();
        drop(first);
        assert_eq!(a[0].bytes(), second.run(&inputs).unwrap()[0].bytes());
        case.check(&a[0]).unwrap();
    }
    // A few rows use the weight where it lies.
    let mut weights = weights();
    let _plan = Plan::new(&case("linear 1x1024x256 bias").schedule(), &mut weights).unwrap();
    assert_eq!(weights.bytes(), 0);
}

/// Derived values: a prologue step makes the scale that the convolution's weight is packed with.
#[test]
fn prologue_steps_run_once() {
    use crate::graph::op::{Instr, Program, Unary};
    use crate::graph::step::{Buffer, BufferId, PointwiseStep, Step};
    let case = case("conv2d 3x3 scale_true bias_true None none");
    let mut schedule = case.schedule();
    // Negates the scale first, and negates what the convolution gives without a bias: the outputs agree.
    let scale = schedule.steps[0].inputs[2];
    let len = schedule.buffers[scale.buffer.0].len;
    schedule.buffers.push(Buffer { len, is_int: false, memory: Memory::Derived(7) });
    let derived = Arg { buffer: BufferId(schedule.buffers.len() - 1), offset: 0 };
    let step = PointwiseStep {
        shape: vec![len],
        strides: vec![vec![1]],
        out_strides: vec![1],
        program: Program { instrs: vec![Instr::Input(0), Instr::Unary(Unary::Neg, 0)] },
        is_int: false,
    };
    let kernel = Kernel::Pointwise(step);
    schedule.prologue.push(Step { name: "negate".into(), kernel, inputs: vec![scale], output: derived });
    schedule.steps[0].inputs[2] = derived;
    let mut own = weights();
    let mut plan = Plan::new(&schedule, &mut own).unwrap();
    let negated = plan.run(&case.tensors()).unwrap();
    assert!(own.values(&WeightKey::Derived(7)).is_none(), "only packing needed it");
    let plain = Plan::new(&case.schedule(), &mut weights()).unwrap().run(&case.tensors()).unwrap();
    let (negated, plain) = (negated[0].to_f32().unwrap(), plain[0].to_f32().unwrap());
    let bias = match &case.inputs[3].data {
        cases::Data::F32(bias) => bias.clone(),
        cases::Data::I32(_) => unreachable!("a bias is a float"),
    };
    for (i, (a, b)) in negated.iter().zip(&plain).enumerate() {
        assert!((a + b - 2.0 * bias[i % bias.len()]).abs() < 1e-4, "element {i}: {a} {b}");
    }
}

#[test]
fn broken_schedules_are_refused() {
    let case = case("softmax log_false 3x64x1 scale 3");
    let mut overlapping = case.schedule();
    let input = overlapping.steps[0].inputs[0];
    overlapping.steps[0].output = input;
    assert!(Plan::new(&overlapping, &mut weights()).unwrap_err().to_string().contains("writes what it reads"));
    let mut short = case.schedule();
    short.buffers[input.buffer.0].len -= 1;
    assert!(Plan::new(&short, &mut weights()).is_err());
    let mut outside = case.schedule();
    outside.arenas[1] = 8;
    assert!(Plan::new(&outside, &mut weights()).is_err());
}
