//! Functions of numbers in host memory, as PyTorch computes them.

use super::host::{Host, Numbers, round, wrap};
use super::prims::{Bin, Fold};
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::graph::op::Unary;

pub(super) fn on_host(unary: Unary) -> Option<fn(f64) -> f64> {
    Some(match unary {
        Unary::Relu => |x| if x < 0.0 { 0.0 } else { x },
        Unary::Neg => |x| -x,
        Unary::Abs => f64::abs,
        Unary::Exp => f64::exp,
        Unary::Log => f64::ln,
        Unary::Sqrt => f64::sqrt,
        Unary::Rsqrt => |x| 1.0 / x.sqrt(),
        Unary::Sin => f64::sin,
        Unary::Cos => f64::cos,
        Unary::Tanh => f64::tanh,
        Unary::Sigmoid => |x| 1.0 / (1.0 + (-x).exp()),
        Unary::Floor => f64::floor,
        Unary::Ceil => f64::ceil,
        Unary::Round => f64::round_ties_even,
        Unary::Trunc => f64::trunc,
        _ => return None,
    })
}

pub(super) fn host_binary(bin: Bin, a: &Host, b: &Host, common: DType, dtype: DType) -> Result<Host> {
    let shape = a.shape.clone();
    let (a, b) = (a.cast(common), b.cast(common));
    if let (Numbers::Int(a), Numbers::Int(b)) = (&a.data, &b.data) {
        let pairs = a.iter().zip(b);
        let data = pairs.map(|(&a, &b)| int_binary(bin, a, b).map(|y| wrap(y, dtype))).collect::<Result<_>>()?;
        return Ok(Host::ints(&shape, data));
    }
    let one = |i: usize| match bin {
        // The quotient is rounded before it is cut off.
        Bin::TruncDivide => round(a.at(i) / b.at(i), dtype).trunc(),
        _ => float_binary(bin, a.at(i), b.at(i)),
    };
    let data: Vec<f64> = (0..a.len()).map(one).collect();
    Ok(match dtype.is_float() {
        true => Host::floats(&shape, data.into_iter().map(|y| round(y, dtype)).collect()),
        false => Host::ints(&shape, data.into_iter().map(|y| y as i64).collect()),
    })
}

fn int_binary(bin: Bin, a: i64, b: i64) -> Result<i64> {
    let divides = matches!(bin, Bin::FloorDivide | Bin::TruncDivide | Bin::Remainder | Bin::Fmod);
    if divides && b == 0 {
        return Err(Error::shape("an integer division by zero"));
    }
    Ok(match bin {
        Bin::Add => a.wrapping_add(b),
        Bin::Sub => a.wrapping_sub(b),
        Bin::Mul => a.wrapping_mul(b),
        Bin::Div => return Err(Error::invalid("true division gives floats")),
        Bin::FloorDivide => {
            let quotient = a.wrapping_div(b);
            if a.wrapping_rem(b) != 0 && (a < 0) != (b < 0) { quotient - 1 } else { quotient }
        }
        Bin::TruncDivide => a.wrapping_div(b),
        Bin::Remainder => {
            let rest = a.wrapping_rem(b);
            if rest != 0 && (rest < 0) != (b < 0) { rest + b } else { rest }
        }
        Bin::Fmod => a.wrapping_rem(b),
        Bin::Pow => match u32::try_from(b) {
            Ok(b) => a.wrapping_pow(b),
            Err(_) => return Err(Error::shape("integers to negative powers are not integers")),
        },
        Bin::Maximum => a.max(b),
        Bin::Minimum => a.min(b),
        Bin::Eq => i64::from(a == b),
        Bin::Ne => i64::from(a != b),
        Bin::Lt => i64::from(a < b),
        Bin::Le => i64::from(a <= b),
        Bin::Gt => i64::from(a > b),
        Bin::Ge => i64::from(a >= b),
        Bin::And => i64::from(a != 0 && b != 0),
        Bin::Or => i64::from(a != 0 || b != 0),
        Bin::Xor => i64::from((a != 0) != (b != 0)),
    })
}

fn float_binary(bin: Bin, a: f64, b: f64) -> f64 {
    let flag = |flag: bool| f64::from(u8::from(flag));
    match bin {
        Bin::Add => a + b,
        Bin::Sub => a - b,
        Bin::Mul => a * b,
        Bin::Div => a / b,
        Bin::FloorDivide if b == 0.0 => a / b,
        Bin::FloorDivide => {
            let rest = a % b;
            let is_below = rest != 0.0 && (rest < 0.0) != (b < 0.0);
            ((a - rest) / b - flag(is_below)).round()
        }
        Bin::TruncDivide => (a / b).trunc(),
        Bin::Remainder => {
            let rest = a % b;
            if rest != 0.0 && (rest < 0.0) != (b < 0.0) { rest + b } else { rest }
        }
        Bin::Fmod => a % b,
        Bin::Pow => a.powf(b),
        Bin::Maximum => {
            if a.is_nan() || a > b {
                a
            } else {
                b
            }
        }
        Bin::Minimum => {
            if a.is_nan() || a < b {
                a
            } else {
                b
            }
        }
        Bin::Eq => flag(a == b),
        Bin::Ne => flag(a != b),
        Bin::Lt => flag(a < b),
        Bin::Le => flag(a <= b),
        Bin::Gt => flag(a > b),
        Bin::Ge => flag(a >= b),
        Bin::And => flag(a != 0.0 && b != 0.0),
        Bin::Or => flag(a != 0.0 || b != 0.0),
        Bin::Xor => flag((a != 0.0) != (b != 0.0)),
    }
}

pub(super) fn fold_line(fold: Fold, line: &[f64]) -> f64 {
    match fold {
        Fold::Sum => line.iter().sum(),
        Fold::Mean => line.iter().sum::<f64>() / line.len() as f64,
        Fold::Max | Fold::Any => line.iter().copied().fold(f64::NEG_INFINITY, |a, b| float_binary(Bin::Maximum, a, b)),
        Fold::Min | Fold::All => line.iter().copied().fold(f64::INFINITY, |a, b| float_binary(Bin::Minimum, a, b)),
        Fold::Prod => line.iter().product(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of PyTorch.
    #[test]
    fn divides_integers_as_pytorch_does() {
        let all = |bin: Bin| [(7, 2), (-7, 2), (7, -2), (-7, -2)].map(|(a, b)| int_binary(bin, a, b).unwrap());
        assert_eq!(all(Bin::FloorDivide), [3, -4, -4, 3]);
        assert_eq!(all(Bin::TruncDivide), [3, -3, -3, 3]);
        assert_eq!(all(Bin::Remainder), [1, 1, -1, -1]);
        assert_eq!(all(Bin::Fmod), [1, -1, 1, -1]);
        assert!(int_binary(Bin::FloorDivide, 1, 0).is_err());
        assert_eq!(float_binary(Bin::Remainder, -7.5, 2.0), 0.5);
        // 10 as `float32`, whose quotient is rounded, and 9 by the rest.
        let (one, tenth) = (Host::floats(&[1], vec![1.0]), Host::floats(&[1], vec![f64::from(0.1f32)]));
        for (bin, quotient) in [(Bin::TruncDivide, 10.0), (Bin::FloorDivide, 9.0)] {
            assert_eq!(host_binary(bin, &one, &tenth, DType::F32, DType::F32).unwrap().at(0), quotient);
        }
    }
}
