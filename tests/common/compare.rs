//! Compares outputs with what PyTorch gives.

use sconce::{DType, Tensor};

/// How far an output may be from the expected one.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Tolerance {
    /// Each element by itself: `2e-5 |expected| + 1e-6`. WGSL allows `exp` an error of `3 + 2 |x|` units in the last
    /// place, 2e-5 at the ends of its range, and `tanh` an absolute error of about 1e-6.
    Elementwise,
    /// So large a part of the largest expected element.
    OfLargest(f32),
}

impl Tolerance {
    /// For sums of `terms` products in `f32` whose order is free: rounding errors walk randomly, so that they grow as
    /// the square root of the number of terms, and a few more roundings come before and after the sum.
    pub(crate) fn sums(terms: usize) -> Self {
        Tolerance::OfLargest(f32::EPSILON * (16.0 + 4.0 * (terms as f32).sqrt()))
    }

    fn allowed(self, expected: f32, largest: f32) -> f32 {
        match self {
            Tolerance::Elementwise => 2e-5 * expected.abs() + 1e-6,
            Tolerance::OfLargest(part) => part * largest,
        }
    }
}

/// Says how `found` differs from `expected` in number, dtype, shape or values.
pub(crate) fn compare(found: &[Tensor], expected: &[Tensor], tolerance: Tolerance) -> Result<(), String> {
    if found.len() != expected.len() {
        return Err(format!("expected {} outputs, found {}", expected.len(), found.len()));
    }
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        compare_one(found, expected, tolerance).map_err(|error| format!("output {i}: {error}"))?;
    }
    Ok(())
}

fn compare_one(found: &Tensor, expected: &Tensor, tolerance: Tolerance) -> Result<(), String> {
    if (found.dtype(), found.shape()) != (expected.dtype(), expected.shape()) {
        return Err(format!(
            "expected {} {}, found {} {}",
            expected.dtype(),
            expected.shape(),
            found.dtype(),
            found.shape()
        ));
    }
    if expected.dtype() == DType::I64 {
        let [found, expected] = [found, expected].map(|x| x.to_i64().expect("integers"));
        return if found == expected { Ok(()) } else { Err(format!("expected {expected:?}, found {found:?}")) };
    }
    let [found, expected] = [found, expected].map(|x| x.as_slice::<f32>().expect("floats"));
    let largest = expected.iter().filter(|x| x.is_finite()).fold(0f32, |a, x| a.max(x.abs()));
    let is_wrong = |found: f32, expected: f32| {
        // NaN equals NaN here; an infinity equals only itself.
        let same = found == expected || (found.is_nan() && expected.is_nan());
        !(same || (found - expected).abs() <= tolerance.allowed(expected, largest))
    };
    let wrong: Vec<usize> = (0..found.len()).filter(|&i| is_wrong(found[i], expected[i])).collect();
    let Some(&first) = wrong.first() else { return Ok(()) };
    let difference = |&i: &usize| (found[i] - expected[i]).abs();
    let worst = wrong.iter().copied().max_by(|a, b| difference(a).total_cmp(&difference(b))).expect("one at least");
    let show = |i: usize| format!("[{i}] expected {:e}, found {:e}", expected[i], found[i]);
    Err(format!(
        "{} of {} elements differ by more than {:.1e} (the largest is {largest:e}): first {}, worst {}",
        wrong.len(),
        found.len(),
        tolerance.allowed(expected[worst], largest),
        show(first),
        show(worst)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn floats(shape: &[usize], data: &[f32]) -> Tensor {
        Tensor::new(shape, data).unwrap()
    }

    fn differs(found: &Tensor, expected: &Tensor, tolerance: Tolerance) -> bool {
        compare(std::slice::from_ref(found), std::slice::from_ref(expected), tolerance).is_err()
    }

    #[test]
    fn a_wrong_shape_dtype_or_number_of_outputs_fails() {
        let x = floats(&[2, 3], &[1.0; 6]);
        assert!(!differs(&x, &x, Tolerance::Elementwise));
        assert!(differs(&floats(&[3, 2], &[1.0; 6]), &x, Tolerance::Elementwise));
        assert!(differs(&floats(&[6], &[1.0; 6]), &x, Tolerance::Elementwise));
        assert!(differs(&Tensor::new([2, 3], [1f64; 6]).unwrap(), &x, Tolerance::Elementwise));
        assert!(differs(&Tensor::new([2, 3], [1i64; 6]).unwrap(), &x, Tolerance::Elementwise));
        assert!(compare(&[], std::slice::from_ref(&x), Tolerance::Elementwise).is_err());
        assert!(compare(&[x.clone(), x.clone()], &[x], Tolerance::Elementwise).is_err());
    }

    #[test]
    fn one_wrong_value_fails() {
        for tolerance in [Tolerance::Elementwise, Tolerance::sums(1), Tolerance::sums(1000)] {
            let expected = floats(&[3], &[100.0, -1.0, 0.5]);
            assert!(!differs(&floats(&[3], &[100.0, -1.0, 0.500_000_1]), &expected, tolerance));
            assert!(differs(&floats(&[3], &[100.0, -1.0, 0.51]), &expected, tolerance), "{tolerance:?}");
            assert!(differs(&floats(&[3], &[100.1, -1.0, 0.5]), &expected, tolerance), "{tolerance:?}");
            assert!(differs(&floats(&[3], &[100.0, 1.0, 0.5]), &expected, tolerance), "{tolerance:?}");
            for special in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                assert!(differs(&floats(&[3], &[special, -1.0, 0.5]), &expected, tolerance), "{tolerance:?}");
            }
        }
        let tokens = Tensor::new([2], [1i64, 2]).unwrap();
        assert!(differs(&Tensor::new([2], [1i64, 3]).unwrap(), &tokens, Tolerance::sums(100)));
    }

    #[test]
    fn nan_and_infinities_equal_themselves_alone() {
        let expected = floats(&[4], &[f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1.0]);
        assert!(!differs(&expected, &expected, Tolerance::sums(1)));
        for wrong in [0.0, f32::INFINITY] {
            assert!(differs(
                &floats(&[4], &[wrong, f32::INFINITY, f32::NEG_INFINITY, 1.0]),
                &expected,
                Tolerance::sums(1)
            ));
        }
        for wrong in [f32::NAN, f32::NEG_INFINITY, f32::MAX] {
            assert!(differs(&floats(&[4], &[f32::NAN, wrong, f32::NEG_INFINITY, 1.0]), &expected, Tolerance::sums(1)));
        }
    }

    #[test]
    fn all_zero_outputs_are_exact() {
        assert!(differs(&floats(&[2], &[0.0, 1e-20]), &floats(&[2], &[0.0, 0.0]), Tolerance::sums(1000)));
    }
}
