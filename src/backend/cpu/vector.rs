//! Functions of whole slices.

use super::isa::simd;
use super::math;
use crate::graph::op::{Binary, Unary};

#[inline(always)]
fn map(x: &[f32], y: &mut [f32], f: impl Fn(f32) -> f32) {
    for (y, x) in y.iter_mut().zip(x) {
        *y = f(*x);
    }
}

#[inline(always)]
fn map_in_place(y: &mut [f32], f: impl Fn(f32) -> f32) {
    for y in y {
        *y = f(*y);
    }
}

#[inline(always)]
fn zip(a: &[f32], b: &[f32], y: &mut [f32], f: impl Fn(f32, f32) -> f32) {
    for ((y, a), b) in y.iter_mut().zip(a).zip(b) {
        *y = f(*a, *b);
    }
}

#[inline(always)]
fn flag(holds: bool) -> f32 {
    if holds { 1.0 } else { 0.0 }
}

/// Evaluates `$body` with `$f` bound to the function that `$op` is.
macro_rules! with_unary {
    ($level:ident, $op:expr, $f:ident => $body:expr) => {
        match $op {
            Unary::Relu => with_unary!(@ $f = math::relu => $body),
            Unary::Clamp { min, max } => with_unary!(@ $f = |x| math::clamp(x, min, max) => $body),
            Unary::LeakyRelu { slope } => with_unary!(@ $f = |x: f32| if x > 0.0 { x } else { x * slope } => $body),
            Unary::Elu { alpha } => with_unary!(@ $f = |x| math::elu::<$level>(x, alpha) => $body),
            Unary::Sigmoid => with_unary!(@ $f = math::sigmoid::<$level> => $body),
            Unary::Tanh => with_unary!(@ $f = math::tanh::<$level> => $body),
            Unary::Silu => with_unary!(@ $f = |x| x * math::sigmoid::<$level>(x) => $body),
            Unary::Gelu => with_unary!(@ $f = math::gelu::<$level> => $body),
            Unary::GeluTanh => with_unary!(@ $f = math::gelu_tanh::<$level> => $body),
            Unary::Hardswish => with_unary!(@ $f = |x| x * math::hardsigmoid(x) => $body),
            Unary::Hardsigmoid => with_unary!(@ $f = math::hardsigmoid => $body),
            Unary::Neg => with_unary!(@ $f = |x: f32| -x => $body),
            Unary::Abs => with_unary!(@ $f = f32::abs => $body),
            Unary::Exp => with_unary!(@ $f = math::exp::<$level> => $body),
            Unary::Log => with_unary!(@ $f = math::log::<$level> => $body),
            Unary::Sqrt => with_unary!(@ $f = f32::sqrt => $body),
            Unary::Rsqrt => with_unary!(@ $f = |x: f32| 1.0 / x.sqrt() => $body),
            Unary::Erf => with_unary!(@ $f = math::erf::<$level> => $body),
            Unary::Sin => with_unary!(@ $f = f32::sin => $body),
            Unary::Cos => with_unary!(@ $f = f32::cos => $body),
            Unary::Floor => with_unary!(@ $f = f32::floor => $body),
            Unary::Ceil => with_unary!(@ $f = f32::ceil => $body),
            Unary::Round => with_unary!(@ $f = f32::round_ties_even => $body),
            Unary::Trunc => with_unary!(@ $f = f32::trunc => $body),
            // An integer's word is read and written as a float's.
            Unary::FromInt => with_unary!(@ $f = |x: f32| x.to_bits() as i32 as f32 => $body),
            Unary::ToInt => with_unary!(@ $f = |x: f32| f32::from_bits(x as i32 as u32) => $body),
        }
    };
    (@ $f:ident = $function:expr => $body:expr) => {{
        let $f = $function;
        $body
    }};
}

/// Evaluates `$body` with `$f` bound to the function that `$op` is, of vectors alone.
macro_rules! with_binary {
    ($op:expr, $f:ident => $body:expr) => {
        match $op {
            Binary::Add => with_unary!(@ $f = |a: f32, b: f32| a + b => $body),
            Binary::Sub => with_unary!(@ $f = |a: f32, b: f32| a - b => $body),
            Binary::Mul => with_unary!(@ $f = |a: f32, b: f32| a * b => $body),
            Binary::Div => with_unary!(@ $f = |a: f32, b: f32| a / b => $body),
            Binary::Maximum => with_unary!(@ $f = math::maximum => $body),
            Binary::Minimum => with_unary!(@ $f = math::minimum => $body),
            Binary::Pow => with_unary!(@ $f = f32::powf => $body),
            Binary::Eq => with_unary!(@ $f = |a: f32, b: f32| flag(a == b) => $body),
            Binary::Ne => with_unary!(@ $f = |a: f32, b: f32| flag(a != b) => $body),
            Binary::Lt => with_unary!(@ $f = |a: f32, b: f32| flag(a < b) => $body),
            Binary::Le => with_unary!(@ $f = |a: f32, b: f32| flag(a <= b) => $body),
            Binary::Gt => with_unary!(@ $f = |a: f32, b: f32| flag(a > b) => $body),
            Binary::Ge => with_unary!(@ $f = |a: f32, b: f32| flag(a >= b) => $body),
            Binary::Keep => with_unary!(@ $f = |a: f32, b: f32| if a != 0.0 { b } else { 0.0 } => $body),
        }
    };
}

simd! {
    /// `y = op(x)`.
    pub(crate) fn unary<L>(op: Unary, x: &[f32], y: &mut [f32]) {
        with_unary!(L, op, f => map(x, y, f));
    }

    /// `y = op(y)`.
    pub(crate) fn unary_in_place<L>(op: Unary, y: &mut [f32]) {
        with_unary!(L, op, f => map_in_place(y, f));
    }

    /// `y = op(a, b)`.
    pub(crate) fn binary<L>(op: Binary, a: &[f32], b: &[f32], y: &mut [f32]) {
        with_binary!(op, f => zip(a, b, y, f));
    }

    /// `y = op(a, b)` with a number on the right.
    pub(crate) fn binary_right<L>(op: Binary, a: &[f32], b: f32, y: &mut [f32]) {
        match op {
            Binary::Pow if b == 2.0 => map(a, y, |x| x * x),
            Binary::Pow if b == 3.0 => map(a, y, |x| x * x * x),
            _ => with_binary!(op, f => map(a, y, |x| f(x, b))),
        }
    }

    /// `y = op(a, b)` with a number on the left.
    pub(crate) fn binary_left<L>(op: Binary, a: f32, b: &[f32], y: &mut [f32]) {
        with_binary!(op, f => map(b, y, |x| f(a, x)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::cases::Random;
    use crate::backend::cpu::isa::Isa;
    use crate::backend::naive;

    /// The largest error of `op` on `inputs`, relative to the expected value or to `x * floor`, which is larger.
    fn error(isa: Isa, op: Unary, inputs: &[f32], floor: f64) -> (f64, f32) {
        let mut y = vec![0.0; inputs.len()];
        unary(isa, op, inputs, &mut y);
        let mut in_place = inputs.to_vec();
        unary_in_place(isa, op, &mut in_place);
        let mut worst = (0.0, 0.0);
        for ((&x, &y), &z) in inputs.iter().zip(&y).zip(&in_place) {
            assert!(y == z || (y.is_nan() && z.is_nan()), "{op:?}({x}) depends on where it is written");
            let want = naive::unary(op, x.into());
            let same = f64::from(y) == want || (y.is_nan() && want.is_nan()) || f64::from(want as f32) == f64::from(y);
            let error = if same {
                0.0
            } else {
                (f64::from(y) - want).abs() / want.abs().max((f64::from(x) * floor).abs()).max(1e-37)
            };
            assert!(!error.is_nan(), "{isa:?} {op:?}({x}) is {y}, expected {want}");
            if error > worst.0 {
                worst = (error, x);
            }
        }
        worst
    }

    #[test]
    fn functions_are_exact() {
        let mut random = Random::new("functions");
        let mut inputs: Vec<f32> = vec![0.0, -0.0, 1.0, -1.0, 1e-30, -1e-30, 1e30, f32::MAX];
        for scale in [1e-3, 0.1, 1.0, 4.0, 10.0, 30.0, 87.0] {
            inputs.extend(random.floats(20_000, scale));
        }
        let positive: Vec<f32> =
            (0..2_000_000u32).map(|i| f32::from_bits(i * 1069 + 1)).filter(|x| x.is_finite()).collect();
        for isa in Isa::available() {
            for (op, bound, floor) in [
                (Unary::Exp, 1.5e-7, 0.0),
                (Unary::Tanh, 6e-7, 0.0),
                (Unary::Sigmoid, 3e-7, 0.0),
                (Unary::Silu, 4e-7, 0.0),
                (Unary::Erf, 5e-7, 0.0),
                (Unary::Gelu, 4e-7, 1.0),
                (Unary::GeluTanh, 4e-7, 1.0),
                (Unary::Elu { alpha: 1.5 }, 5e-7, 0.0),
                (Unary::Hardswish, 4e-7, 1.0),
                (Unary::Hardsigmoid, 4e-7, 0.1),
                (Unary::Relu, 0.0, 0.0),
                (Unary::Clamp { min: -1.0, max: 2.0 }, 0.0, 0.0),
                (Unary::LeakyRelu { slope: 0.01 }, 1e-7, 0.0),
            ] {
                let (worst, at) = error(isa, op, &inputs, floor);
                assert!(worst <= bound, "{isa:?} {op:?}: {worst:e} at {at}");
            }
            for (op, bound) in [(Unary::Log, 2e-7), (Unary::Sqrt, 6.1e-8), (Unary::Rsqrt, 1.3e-7)] {
                let (worst, at) = error(isa, op, &positive, 0.0);
                assert!(worst <= bound, "{isa:?} {op:?}: {worst:e} at {at}");
            }
        }
    }

    #[test]
    fn special_values_are_pytorchs() {
        let inf = f32::INFINITY;
        let inputs = [f32::NAN, inf, -inf, 0.0, -200.0, 200.0];
        for isa in Isa::available() {
            for op in crate::backend::cases::every_unary() {
                let mut y = [0.0; 6];
                unary(isa, op, &inputs, &mut y);
                assert!(y[0].is_nan(), "{isa:?} {op:?}(NaN) is {}", y[0]);
                for (x, y) in inputs.into_iter().zip(y) {
                    let want = naive::unary(op, x.into()) as f32;
                    // PyTorch's f32 formulas give these, too.
                    let want = match op {
                        Unary::Gelu | Unary::GeluTanh if x < -100.0 => y,
                        _ => want,
                    };
                    let close = (y - want).abs() <= 1e-6 * want.abs() || (y - want).abs() < 1e-37;
                    assert!(
                        y == want || close || (y.is_nan() && want.is_nan()),
                        "{isa:?} {op:?}({x}) is {y}, not {want}"
                    );
                }
            }
            let mut y = [0.0; 4];
            binary(isa, Binary::Maximum, &[1.0, f32::NAN, 2.0, f32::NAN], &[f32::NAN, 1.0, 3.0, 0.0], &mut y);
            assert!(y[0].is_nan() && y[1].is_nan() && y[2] == 3.0 && y[3].is_nan());
            binary(isa, Binary::Minimum, &[1.0, f32::NAN, 2.0, f32::NAN], &[f32::NAN, 1.0, 3.0, 0.0], &mut y);
            assert!(y[0].is_nan() && y[1].is_nan() && y[2] == 2.0 && y[3].is_nan());
        }
    }
}
