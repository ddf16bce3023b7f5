//! The numbers by which the shaders' `unary` knows the functions of one number.

use crate::graph::op::Unary;

/// A function's number and its two arguments.
pub(super) fn code(unary: Unary) -> (u32, f32, f32) {
    match unary {
        Unary::Relu => (1, 0.0, 0.0),
        // WGSL has no infinite literals.
        Unary::Clamp { min, max } if max == f32::INFINITY && min == f32::NEG_INFINITY => (0, 0.0, 0.0),
        Unary::Clamp { min, max } if max == f32::INFINITY => (3, min, 0.0),
        Unary::Clamp { min, max } if min == f32::NEG_INFINITY => (4, 0.0, max),
        Unary::Clamp { min, max } => (2, min, max),
        Unary::LeakyRelu { slope } => (5, slope, 0.0),
        Unary::Elu { alpha } => (6, alpha, 0.0),
        Unary::Sigmoid => (7, 0.0, 0.0),
        Unary::Tanh => (8, 0.0, 0.0),
        Unary::Silu => (9, 0.0, 0.0),
        Unary::Gelu => (10, 0.0, 0.0),
        Unary::GeluTanh => (11, 0.0, 0.0),
        Unary::Hardswish => (12, 0.0, 0.0),
        Unary::Hardsigmoid => (13, 0.0, 0.0),
        Unary::Neg => (14, 0.0, 0.0),
        Unary::Abs => (15, 0.0, 0.0),
        Unary::Exp => (16, 0.0, 0.0),
        Unary::Log => (17, 0.0, 0.0),
        Unary::Sqrt => (18, 0.0, 0.0),
        Unary::Rsqrt => (19, 0.0, 0.0),
        Unary::Erf => (20, 0.0, 0.0),
        // Written by the pointwise programs themselves.
        Unary::Sin
        | Unary::Cos
        | Unary::Floor
        | Unary::Ceil
        | Unary::Round
        | Unary::Trunc
        | Unary::FromInt
        | Unary::ToInt => unreachable!("no activation"),
    }
}
