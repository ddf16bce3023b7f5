//! Whether an output is what was expected.

use std::fmt;

use sconce::{DType, Shape, Tensor};

use super::Result;

/// How far an element may be from the expected one: `|a - b| <= atol + rtol * |b|`, as `numpy.isclose` has it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tolerance {
    pub(crate) atol: f64,
    pub(crate) rtol: f64,
}

impl Tolerance {
    /// Equal infinities are close; NaN is close to nothing.
    pub(crate) fn allows(self, actual: f64, expected: f64) -> bool {
        let bound = self.atol + self.rtol * expected.abs();
        actual == expected || (expected.is_finite() && (actual - expected).abs() <= bound)
    }
}

/// What comparing an output with the expected tensor found.
#[derive(Debug)]
pub(crate) enum Comparison {
    /// The shapes are not the same.
    Shapes { actual: Shape, expected: Shape },
    /// The elements were compared: how many there are, how many are out of tolerance, and the one that is furthest off.
    Values { tolerance: Tolerance, count: usize, failed: usize, worst: Option<Worst> },
}

/// One element, and how far it is from the expected one.
#[derive(Debug)]
pub(crate) struct Worst {
    index: Vec<usize>,
    actual: f64,
    expected: f64,
    difference: f64,
}

impl Comparison {
    pub(crate) fn new(actual: &Tensor, expected: &Tensor, tolerance: Tolerance) -> Result<Self> {
        let shape = actual.shape();
        if shape != expected.shape() {
            return Ok(Self::Shapes { actual: shape.clone(), expected: expected.shape().clone() });
        }
        let (a, b) = (values(actual)?, values(expected)?);
        let failed = a.iter().zip(&b).filter(|&(&a, &b)| !tolerance.allows(a, b)).count();
        let worst = (0..a.len())
            .map(|at| (at, difference(a[at], b[at])))
            .reduce(|worst, next| if next.1 > worst.1 { next } else { worst })
            .map(|(at, difference)| Worst { index: unravel(at, shape), actual: a[at], expected: b[at], difference });
        Ok(Self::Values { tolerance, count: a.len(), failed, worst })
    }

    pub(crate) fn passed(&self) -> bool {
        matches!(self, Self::Values { failed: 0, .. })
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shapes { actual, expected } => write!(f, "differs: shape {expected} is expected, it is {actual}"),
            Self::Values { worst: None, .. } => f.write_str("matches: there are no elements"),
            Self::Values { tolerance: Tolerance { atol, rtol }, count, failed, worst: Some(worst) } => {
                match failed {
                    0 => write!(f, "matches: all {count} elements are")?,
                    1 => write!(f, "differs: 1 of {count} elements is not")?,
                    _ => write!(f, "differs: {failed} of {count} elements are not")?,
                }
                let Worst { index, actual, expected, difference } = worst;
                write!(f, " within {atol:e} + {rtol:e} * |expected|, the largest difference is {difference:.3e} ")?;
                write!(f, "at {index:?}: {}, expected {}", show(*actual), show(*expected))
            }
        }
    }
}

/// The distance of two elements; a NaN is further off than any number.
pub(crate) fn difference(actual: f64, expected: f64) -> f64 {
    if actual == expected {
        return 0.0;
    }
    let difference = (actual - expected).abs();
    if difference.is_nan() { f64::INFINITY } else { difference }
}

/// The position in `shape` of the element number `at` in row-major order.
fn unravel(mut at: usize, shape: &[usize]) -> Vec<usize> {
    let mut index: Vec<usize> = shape
        .iter()
        .rev()
        .map(|&size| {
            let here = at % size;
            at /= size;
            here
        })
        .collect();
    index.reverse();
    index
}

/// A number with as many digits as tell it from its neighbours, those of `f32` where it is one.
pub(crate) fn show(x: f64) -> String {
    let short = x as f32;
    if f64::from(short) == x { short.to_string() } else { x.to_string() }
}

/// The elements of a tensor as `f64`.
pub(crate) fn values(tensor: &Tensor) -> Result<Vec<f64>> {
    Ok(match tensor.dtype() {
        DType::F64 => tensor.as_slice::<f64>()?.to_vec(),
        dtype if dtype.is_float() => tensor.to_f32()?.into_iter().map(f64::from).collect(),
        DType::U16 => tensor.as_slice::<u16>()?.iter().map(|&x| x.into()).collect(),
        DType::U32 => tensor.as_slice::<u32>()?.iter().map(|&x| x.into()).collect(),
        DType::U64 => tensor.as_slice::<u64>()?.iter().map(|&x| x as f64).collect(),
        _ => tensor.to_i64()?.into_iter().map(|x| x as f64).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compare(actual: &[f32], expected: &[f32], atol: f64, rtol: f64) -> Comparison {
        let (actual, expected) = (Tensor::new([actual.len()], actual), Tensor::new([expected.len()], expected));
        Comparison::new(&actual.unwrap(), &expected.unwrap(), Tolerance { atol, rtol }).unwrap()
    }

    #[test]
    fn passes_within_tolerance_only() {
        assert!(compare(&[1.0, 2.0], &[1.0, 2.0], 0.0, 0.0).passed());
        assert!(compare(&[1.5, -2.0], &[1.0, -2.0], 0.5, 0.0).passed());
        assert!(!compare(&[1.5, 2.0], &[1.0, 2.0], 0.49, 0.0).passed());
        assert!(compare(&[-110.0], &[-100.0], 0.0, 0.1).passed());
        assert!(!compare(&[-100.0], &[-90.0], 0.0, 0.11).passed(), "rtol is of the expected value");
    }

    #[test]
    fn nan_and_infinity() {
        let (nan, inf) = (f32::NAN, f32::INFINITY);
        for (actual, expected) in
            [(nan, nan), (nan, 1.0), (1.0, nan), (inf, -inf), (inf, 1.0), (1.0, inf), (nan, inf), (inf, nan)]
        {
            let comparison = compare(&[0.0, actual], &[0.0, expected], 1e9, 1e9);
            assert!(!comparison.passed(), "{actual} for {expected}");
            assert!(comparison.to_string().contains("1 of 2 elements is not"), "{comparison}");
            assert!(comparison.to_string().contains("at [1]"), "{comparison}");
        }
        assert!(compare(&[inf, -inf], &[inf, -inf], 0.0, 0.0).passed());
    }

    #[test]
    fn names_the_worst_element() {
        let actual = Tensor::new([2, 3], [0f32, 1., 2., 3., 4., 5.25]).unwrap();
        let expected = Tensor::new([2, 3], [0f32, 1., 2., 3., 4.125, 5.]).unwrap();
        let comparison = Comparison::new(&actual, &expected, Tolerance { atol: 0.1, rtol: 0.0 }).unwrap();
        assert_eq!(
            comparison.to_string(),
            "differs: 2 of 6 elements are not within 1e-1 + 0e0 * |expected|, the largest difference is 2.500e-1 \
             at [1, 2]: 5.25, expected 5"
        );
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!(show(0.1f32.into()), "0.1");
        assert_eq!(show(0.1), "0.1");
        assert_eq!(show(1.0 / 3.0), "0.3333333333333333");
        assert_eq!((show(f64::NAN), show(f64::NEG_INFINITY)), ("NaN".into(), "-inf".into()));
    }

    #[test]
    fn shapes_must_be_equal() {
        let (row, column) = (Tensor::zeros(DType::F32, [1, 3]), Tensor::zeros(DType::F32, [3, 1]));
        let comparison = Comparison::new(&row, &column, Tolerance { atol: 1.0, rtol: 1.0 }).unwrap();
        assert!(!comparison.passed());
        assert_eq!(comparison.to_string(), "differs: shape [3, 1] is expected, it is [1, 3]");
    }

    #[test]
    fn every_dtype_is_compared_by_value() {
        let long = Tensor::new([2], [1i64, 7]).unwrap();
        for other in [
            Tensor::new([2], [1f64, 7.]).unwrap(),
            Tensor::new([2], [1u16, 7]).unwrap(),
            Tensor::new([2], [1i8, 7]).unwrap(),
        ] {
            assert!(Comparison::new(&other, &long, Tolerance { atol: 0.0, rtol: 0.0 }).unwrap().passed(), "{other:?}");
        }
    }
}
