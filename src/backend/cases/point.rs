//! Cases of `Pointwise`: programs, broadcasting, copies.

use super::{Case, Data, Random, Value};
use crate::graph::op::{Binary, Instr, Program, Unary};
use crate::graph::step::{Kernel, PointwiseStep};
use crate::shape::Shape;

pub(super) fn cases() -> Vec<Case> {
    let mut cases = functions();
    cases.extend(programs());
    cases.extend(broadcasts());
    cases.extend(copies());
    cases
}

/// One of each function of one number.
pub(crate) fn every_unary() -> Vec<Unary> {
    vec![
        Unary::Relu,
        Unary::Clamp { min: 0.0, max: 6.0 },
        Unary::Clamp { min: -0.25, max: 0.5 },
        Unary::LeakyRelu { slope: 0.01 },
        Unary::Elu { alpha: 1.5 },
        Unary::Sigmoid,
        Unary::Tanh,
        Unary::Silu,
        Unary::Gelu,
        Unary::GeluTanh,
        Unary::Hardswish,
        Unary::Hardsigmoid,
        Unary::Neg,
        Unary::Abs,
        Unary::Exp,
        Unary::Log,
        Unary::Sqrt,
        Unary::Rsqrt,
        Unary::Erf,
        Unary::Sin,
        Unary::Cos,
        Unary::Floor,
        Unary::Ceil,
        Unary::Round,
        Unary::Trunc,
    ]
}

const EVERY_BINARY: [Binary; 14] = [
    Binary::Add,
    Binary::Sub,
    Binary::Mul,
    Binary::Div,
    Binary::Maximum,
    Binary::Minimum,
    Binary::Pow,
    Binary::Eq,
    Binary::Ne,
    Binary::Lt,
    Binary::Le,
    Binary::Gt,
    Binary::Ge,
    Binary::Keep,
];

/// A step over contiguous inputs and a contiguous output.
fn contiguous(shape: &[usize], program: Program, inputs: usize) -> PointwiseStep {
    let strides = Shape::from(shape).contiguous_strides();
    PointwiseStep {
        shape: shape.to_vec(),
        strides: vec![strides.clone(); inputs],
        out_strides: strides,
        program,
        is_int: false,
    }
}

/// The elements from the first to the last that `strides` reach.
fn reach(shape: &[usize], strides: &[usize]) -> usize {
    if shape.contains(&0) {
        return 0;
    }
    shape.iter().zip(strides).map(|(n, s)| (n - 1) * s).sum::<usize>() + 1
}

/// Makes the inputs that a step reaches to, and its output.
fn case(name: &str, step: PointwiseStep, tolerance: f64) -> Case {
    let name = format!("pointwise {name}");
    let mut random = Random::new(&name);
    let inputs = step.strides.iter().map(|s| random.floats(reach(&step.shape, s), 2.0).into()).collect();
    let out = reach(&step.shape, &step.out_strides);
    Case::new(name, Kernel::Pointwise(step), inputs, out, tolerance)
}

fn functions() -> Vec<Case> {
    let mut cases = Vec::new();
    for op in every_unary() {
        let program = Program { instrs: vec![Instr::Input(0), Instr::Unary(op, 0)] };
        let positive = matches!(op, Unary::Log | Unary::Sqrt | Unary::Rsqrt);
        for (len, scale) in [(1031, 8.0), (6, 0.01), (130, 80.0)] {
            let name = format!("pointwise {op:?} {scale}");
            let mut x = Random::new(&name).floats(len, scale);
            if positive {
                x.iter_mut().for_each(|x| *x = x.abs() + 1e-6);
            }
            let step = Kernel::Pointwise(contiguous(&[len], program.clone(), 1));
            cases.push(Case::new(name, step, vec![x.into()], len, 2e-5));
        }
    }
    for op in EVERY_BINARY {
        let program = Program { instrs: vec![Instr::Input(0), Instr::Input(1), Instr::Binary(op, 0, 1)] };
        let name = format!("pointwise {}", op.name());
        let mut random = Random::new(&name);
        let len = 263;
        let mut a = random.floats(len, 2.0);
        let mut b = random.floats(len, 2.0);
        match op {
            Binary::Div => b.iter_mut().for_each(|x| *x += x.signum() * 0.1),
            Binary::Pow => a.iter_mut().for_each(|x| *x = x.abs() + 0.01),
            Binary::Eq | Binary::Ne | Binary::Lt | Binary::Le | Binary::Gt | Binary::Ge | Binary::Keep => {
                a.iter_mut().chain(&mut b).for_each(|x| *x = x.round());
            }
            _ => {}
        }
        let step = Kernel::Pointwise(contiguous(&[len], program, 2));
        cases.push(Case::new(name, step, vec![a.into(), b.into()], len, 2e-5));
    }
    for len in [7, 64] {
        let program = Program { instrs: vec![Instr::Input(0), Instr::Unary(Unary::FromInt, 0)] };
        let ints = Value {
            data: Data::I32((0..len as i32).map(|i| (i - 3) * 1_000_003 % 16_777_216).collect()),
            offset: 0,
            stored: None,
        };
        let step = Kernel::Pointwise(contiguous(&[len], program, 1));
        cases.push(Case::new(format!("pointwise int_to_float {len}"), step, vec![ints], len, 0.0));
    }
    // x^2 and x^3 of negative numbers, as in hand-written GELUs.
    for exponent in [2.0, 3.0, 0.0, -1.0] {
        let program =
            Program { instrs: vec![Instr::Input(0), Instr::Const(exponent), Instr::Binary(Binary::Pow, 0, 1)] };
        let step = contiguous(&[40], program, 1);
        cases.push(case(&format!("pow {exponent}"), step, 1e-5));
    }
    cases
}

fn programs() -> Vec<Case> {
    let relu_add = Program {
        instrs: vec![Instr::Input(0), Instr::Input(1), Instr::Binary(Binary::Add, 0, 1), Instr::Unary(Unary::Relu, 2)],
    };
    let mut cases = Vec::new();
    for shape in [vec![], vec![0], vec![1], vec![3], vec![64], vec![1025], vec![4099], vec![70, 1000]] {
        cases.push(case(&format!("relu(a + b) {shape:?}"), contiguous(&shape, relu_add.clone(), 2), 1e-6));
    }
    // x * sigmoid(y) + 0.5, with values used twice and one not at all.
    let gate = Program {
        instrs: vec![
            Instr::Input(1),
            Instr::Unary(Unary::Sigmoid, 0),
            Instr::Input(0),
            Instr::Binary(Binary::Mul, 2, 1),
            Instr::Const(0.5),
            Instr::Unary(Unary::Neg, 3),
            Instr::Binary(Binary::Add, 3, 4),
        ],
    };
    cases.push(case("gate", contiguous(&[777], gate, 2), 1e-6));
    let mut long = vec![Instr::Input(0)];
    for i in 0..40 {
        long.push(Instr::Input(i % 4));
        let last = long.len() - 1;
        let op = [Binary::Add, Binary::Maximum, Binary::Sub, Binary::Minimum][i % 4];
        long.push(Instr::Binary(op, last - 1, last));
    }
    cases.push(case("long", contiguous(&[1300], Program { instrs: long }, 4), 1e-4));
    let constant = Program { instrs: vec![Instr::Input(0), Instr::Const(2.5)] };
    cases.push(case("constant", contiguous(&[9, 9], constant, 1), 0.0));
    cases
}

fn broadcasts() -> Vec<Case> {
    let add = Program { instrs: vec![Instr::Input(0), Instr::Input(1), Instr::Binary(Binary::Add, 0, 1)] };
    let mut cases = Vec::new();
    for (name, shape, other) in [
        ("channels", vec![35, 19], vec![0, 1]),
        ("rows", vec![35, 19], vec![1, 0]),
        ("scalar", vec![1003], vec![0]),
        ("squeeze and excite", vec![2, 30, 24], vec![24, 0, 1]),
        ("middle", vec![3, 5, 7], vec![7, 0, 1]),
        ("one channel", vec![3, 50, 7], vec![50, 1, 0]),
        ("four dimensions", vec![3, 4, 5, 6], vec![0, 6, 0, 1]),
        ("six dimensions", vec![2, 3, 2, 3, 2, 3], vec![0, 3, 0, 1, 0, 9]),
    ] {
        let mut step = contiguous(&shape, add.clone(), 2);
        step.strides[1] = other;
        cases.push(case(&format!("broadcast {name}"), step, 1e-6));
    }
    // Both, an outer sum.
    let mut step = contiguous(&[37, 41], add.clone(), 2);
    step.strides = vec![vec![1, 0], vec![0, 1]];
    cases.push(case("broadcast outer", step, 1e-6));
    let mut step = contiguous(&[9, 33], add, 2);
    (step.strides, step.out_strides) = (vec![vec![1, 9], vec![33, 1]], vec![1, 9]);
    cases.push(case("mixed orders", step, 1e-6));
    cases
}

fn copies() -> Vec<Case> {
    let copy = |shape: &[usize], strides: &[usize], out: &[usize]| PointwiseStep {
        shape: shape.to_vec(),
        strides: vec![strides.to_vec()],
        out_strides: out.to_vec(),
        program: Program::copy(),
        is_int: false,
    };
    let mut cases = Vec::new();
    let mut add = |name: &str, step: PointwiseStep| {
        cases.push(case(&format!("copy {name}"), step.clone(), 0.0));
        // The same with offsets, and with integers.
        let mut moved = case(&format!("copy {name} with offsets"), step.clone(), 0.0);
        if let Data::F32(x) = &mut moved.inputs[0].data {
            x.splice(0..0, [f32::NAN; 5]);
        }
        moved.inputs[0].offset = 5;
        (moved.output, moved.output_offset) = (moved.output + 7 + 2, 7);
        cases.push(moved);
        let len = reach(&step.shape, &step.strides[0]);
        let mut random = Random::new(name);
        let data = Data::I32((0..len).map(|_| random.next() as i32).collect());
        let mut ints = case(&format!("copy {name} of integers"), PointwiseStep { is_int: true, ..step }, 0.0);
        ints.inputs = vec![Value { data, offset: 0, stored: None }];
        cases.push(ints);
    };
    add("all", copy(&[1037], &[1], &[1]));
    add("transposed", copy(&[67, 131], &[1, 67], &[131, 1]));
    add("transposed write", copy(&[33, 70], &[70, 1], &[1, 33]));
    add("nchw to nhwc", copy(&[2, 35, 19], &[19 * 35, 1, 35], &[19 * 35, 19, 1]));
    add("three channels to nhwc", copy(&[2, 50, 3], &[150, 1, 50], &[150, 3, 1]));
    add("nhwc to nchw", copy(&[2, 19, 35], &[19 * 35, 1, 19], &[19 * 35, 35, 1]));
    add("permuted", copy(&[5, 3, 4, 2], &[2, 10, 30, 1], &[24, 8, 2, 1]));
    add("shuffled", copy(&[3, 4, 5, 2, 3, 2], &[1, 3, 12, 60, 120, 360], &[240, 60, 12, 6, 2, 1]));
    add("sliced", copy(&[9, 7], &[20, 1], &[7, 1]));
    add("every third", copy(&[41], &[3], &[1]));
    add("written with gaps", copy(&[11, 13], &[13, 1], &[29, 2]));
    add("concatenated", copy(&[25, 16], &[16, 1], &[48, 1]));
    add("expanded", copy(&[6, 31], &[0, 1], &[31, 1]));
    add("repeated", copy(&[31, 6], &[1, 0], &[6, 1]));
    add("scalar", copy(&[], &[], &[]));
    cases
}
