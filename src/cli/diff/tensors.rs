//! How the elements of two tensors differ.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use sconce::DType;
use sconce::checkpoint::{Layout, StoredTensor};

use serde_json::{Value as Json, json};

use super::super::compare::{Tolerance, show};
use super::super::numbers::{PIECE, to_f64};
use super::super::{Failure, Result};

/// What differs between two tensors of the same shape.
#[derive(Debug, PartialEq)]
pub(super) struct Difference {
    pub(super) count: u64,
    /// The elements that are out of tolerance.
    pub(super) outside: u64,
    /// The largest distance of two elements; infinite for a NaN or an infinity that only one of them is.
    pub(super) absolute: f64,
    /// The largest distance as a part of the larger one's magnitude, at most 2 unless it is infinite.
    pub(super) relative: f64,
    /// Where the largest distance is, and the two elements.
    pub(super) index: Vec<usize>,
    pub(super) a: Number,
    pub(super) b: Number,
}

/// An element: of integers that `f64` may not tell apart, the integer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Number {
    Float(f64),
    Int(i128),
}

impl Number {
    /// JSON has no form for what is not finite: that is a text.
    pub(super) fn to_json(self) -> Json {
        match self {
            Number::Float(x) if x.is_finite() => json!(x),
            Number::Float(x) => json!(x.to_string()),
            Number::Int(x) => i64::try_from(x).map_or_else(|_| json!(x as u64), |x| json!(x)),
        }
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Number::Float(x) => f.write_str(&show(x)),
            Number::Int(x) => x.fmt(f),
        }
    }
}

/// Numbers in their order, NaN last.
#[derive(PartialEq)]
pub(super) struct Ordered(pub(super) f64);

impl Eq for Ordered {}

impl PartialOrd for Ordered {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Ordered {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

/// Whether two elements count as equal; two NaNs do.
pub(super) fn allows(tolerance: Tolerance, a: f64, b: f64) -> bool {
    (a.is_nan() && b.is_nan()) || tolerance.allows(a, b)
}

/// Compares the elements of two tensors of the same shape, a piece at a time. `None` when none differs.
///
/// # Errors
/// Of elements that differ and are no numbers.
pub(super) fn compare(a: &StoredTensor, b: &StoredTensor, tolerance: Tolerance) -> Result<Option<Difference>> {
    let is_plain = |tensor: &StoredTensor| tensor.layout() == Layout::Strided && tensor.quantizer().is_none();
    if !is_plain(a) || !is_plain(b) {
        return compare_parts(a, b, tolerance);
    }
    let (x, y) = (a.contiguous_bytes()?, b.contiguous_bytes()?);
    if a.dtype() == b.dtype() && x == y {
        return Ok(None);
    }
    let parts = parts(a.dtype()).max(parts(b.dtype()));
    let mut found = Difference {
        count: a.shape().numel() as u64,
        outside: 0,
        absolute: 0.0,
        relative: 0.0,
        index: Vec::new(),
        a: Number::Float(0.0),
        b: Number::Float(0.0),
    };
    let (mut worst, mut last_outside) = (None, None);
    let (mut left, mut right) = (Vec::new(), Vec::new());
    let (x_size, y_size) = (a.dtype().size(), b.dtype().size());
    for (piece, (x, y)) in x.chunks(PIECE * x_size).zip(y.chunks(PIECE * y_size)).enumerate() {
        left.clear();
        right.clear();
        elements(a.dtype(), x, parts, &mut left)?;
        elements(b.dtype(), y, parts, &mut right)?;
        for (i, (&p, &q)) in left.iter().zip(&right).enumerate() {
            // The common case first: most elements are equal, and all but a few are finite.
            if p == q && !is_wide(a.dtype()) || p.is_nan() && q.is_nan() {
                continue;
            }
            let at = i / parts;
            let distance = match exact(a.dtype(), b.dtype(), x, y, at) {
                Some(distance) => distance,
                None => distance(p, q),
            };
            if distance == 0.0 {
                continue;
            }
            let is_outside = distance > tolerance.atol + tolerance.rtol * q.abs() || !distance.is_finite();
            if is_outside && last_outside != Some((piece, at)) {
                found.outside += 1;
                last_outside = Some((piece, at));
            }
            found.relative =
                found.relative.max(if distance.is_finite() { distance / p.abs().max(q.abs()) } else { f64::INFINITY });
            if worst.is_none() || distance > found.absolute {
                worst = Some(piece * PIECE + at);
                found.absolute = distance;
                (found.a, found.b) = (number(a.dtype(), x, at, p), number(b.dtype(), y, at, q));
            }
        }
    }
    let Some(at) = worst else { return Ok(None) };
    found.index = unravel(at, a.shape());
    Ok(Some(found))
}

/// Whether two tensors are the same view of the same bytes, however much it would take to look at each element.
pub(super) fn is_same_view(a: &StoredTensor, b: &StoredTensor) -> bool {
    // One that is not read in another way, negated or by a quantizer.
    let is_plain = |tensor: &StoredTensor| {
        let (shape, stride) = (tensor.shape().clone(), tensor.stride().to_vec());
        StoredTensor::new(Arc::clone(tensor.storage()), tensor.dtype(), shape, stride, tensor.offset())
            .is_ok_and(|view| view.is_same_view(tensor))
            && tensor.layout() == Layout::Strided
            && tensor.quantizer().is_none()
            && !tensor.storage().is_empty()
    };
    is_plain(a)
        && is_plain(b)
        && (a.dtype(), a.shape(), a.stride(), a.offset()) == (b.dtype(), b.shape(), b.stride(), b.offset())
        && matches!((a.storage().bytes(), b.storage().bytes()), (Ok(a), Ok(b)) if a == b)
}

/// Compares sparse, nested and quantized tensors part by part: quantized ones by the numbers that they stand for.
fn compare_parts(a: &StoredTensor, b: &StoredTensor, tolerance: Tolerance) -> Result<Option<Difference>> {
    if a.layout() == Layout::Strided && b.layout() == Layout::Strided {
        let floats = |tensor: &StoredTensor| match tensor.quantizer() {
            Some(_) => tensor.to(DType::F32),
            None => Ok(tensor.clone()),
        };
        return compare(&floats(a)?, &floats(b)?, tolerance);
    }
    let (x, y) = (a.parts(), b.parts());
    let same = |(x, y): (&&StoredTensor, &&StoredTensor)| x.shape() == y.shape();
    if a.layout() != b.layout() || x.len() != y.len() || !x.iter().zip(&y).all(same) {
        return Err(Failure::new(format!("{} and {} have other parts", a.describe(), b.describe())));
    }
    let mut worst: Option<Difference> = None;
    for (x, y) in x.into_iter().zip(y) {
        let found = compare(x, y, tolerance)?;
        if found.as_ref().is_some_and(|found| worst.as_ref().is_none_or(|worst| found.absolute > worst.absolute)) {
            worst = found;
        }
    }
    Ok(worst)
}

/// A NaN, or an infinity that the other is not, is further off than any number.
fn distance(a: f64, b: f64) -> f64 {
    let distance = (a - b).abs();
    match a == b {
        true => 0.0,
        false if distance.is_nan() => f64::INFINITY,
        false => distance,
    }
}

fn is_wide(dtype: DType) -> bool {
    matches!(dtype, DType::I64 | DType::U64)
}

/// The integer number `at` of these, where it is of a dtype that `f64` may not tell apart.
fn wide(dtype: DType, bytes: &[u8], at: usize) -> Option<i128> {
    let word = || bytes.as_chunks::<8>().0.get(at).copied();
    match dtype {
        DType::I64 => Some(i64::from_le_bytes(word()?).into()),
        DType::U64 => Some(u64::from_le_bytes(word()?).into()),
        _ => None,
    }
}

fn number(dtype: DType, bytes: &[u8], at: usize, x: f64) -> Number {
    wide(dtype, bytes, at).map_or(Number::Float(x), Number::Int)
}

/// The distance of two integers that `f64` may not tell apart.
fn exact(a: DType, b: DType, x: &[u8], y: &[u8], at: usize) -> Option<f64> {
    Some((wide(a, x, at)? - wide(b, y, at)?).unsigned_abs() as f64)
}

/// The numbers in an element.
fn parts(dtype: DType) -> usize {
    match dtype {
        _ if dtype.is_complex() => 2,
        DType::F4E2M1FNX2 => 2,
        _ => 1,
    }
}

/// The elements as `parts` numbers each: a real number has an imaginary part of 0.
fn elements(dtype: DType, bytes: &[u8], wanted: usize, out: &mut Vec<f64>) -> Result<()> {
    let dtype = match dtype {
        DType::Complex32 => DType::F16,
        DType::BComplex32 => DType::BF16,
        DType::Complex64 => DType::F32,
        DType::Complex128 => DType::F64,
        DType::F4E2M1FNX2 => dtype,
        real if wanted == 1 => real,
        real => {
            let mut numbers = Vec::new();
            to_f64(real, bytes, &mut numbers)?;
            out.extend(numbers.into_iter().flat_map(|x| [x, 0.0]));
            return Ok(());
        }
    };
    to_f64(dtype, bytes, out)
}

/// The position in `shape` of the element number `at` in row-major order.
fn unravel(mut at: usize, shape: &[usize]) -> Vec<usize> {
    let mut index = vec![0; shape.len()];
    for (place, &size) in index.iter_mut().zip(shape).rev() {
        *place = at % size;
        at /= size;
    }
    index
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXACT: Tolerance = Tolerance { atol: 0.0, rtol: 0.0 };

    fn floats(values: &[f32]) -> StoredTensor {
        let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        StoredTensor::from_bytes(DType::F32, [values.len()], bytes).unwrap()
    }

    #[test]
    fn finds_the_largest_difference() {
        let found = compare(&floats(&[1., 2., 3., 4.]), &floats(&[1., 2.5, 3., 2.]), EXACT).unwrap().unwrap();
        assert_eq!((found.count, found.outside, found.absolute, found.relative), (4, 2, 2., 0.5));
        assert_eq!((found.index, found.a, found.b), (vec![3], Number::Float(4.), Number::Float(2.)));
        let within = compare(&floats(&[1., 2.]), &floats(&[1., 2.5]), Tolerance { atol: 0.5, rtol: 0. });
        assert_eq!(within.unwrap().unwrap().outside, 0);
        let within = compare(&floats(&[1., 2.]), &floats(&[1., 2.5]), Tolerance { atol: 0., rtol: 0.2 });
        assert_eq!(within.unwrap().unwrap().outside, 0);
        let long: Vec<f32> = (0..PIECE + 9).map(|x| x as f32).collect();
        let mut other = long.clone();
        other[PIECE + 3] += 1.0;
        assert_eq!(compare(&floats(&long), &floats(&other), EXACT).unwrap().unwrap().index, [PIECE + 3]);
    }

    #[test]
    fn nan_equals_nan_and_nothing_else() {
        let (nan, inf) = (f32::NAN, f32::INFINITY);
        assert_eq!(compare(&floats(&[nan, 1., inf]), &floats(&[-nan, 1., inf]), EXACT).unwrap(), None);
        for (a, b) in [(nan, 1.), (1., nan), (inf, 1.), (inf, -inf), (nan, inf)] {
            let found = compare(&floats(&[0., a]), &floats(&[0., b]), Tolerance { atol: 1e9, rtol: 1e9 });
            let found = found.unwrap().unwrap();
            assert_eq!((found.outside, found.absolute, found.index), (1, f64::INFINITY, vec![1]), "{a} {b}");
        }
        assert_eq!(compare(&floats(&[0.]), &floats(&[-0.]), EXACT).unwrap(), None, "0 equals -0");
    }

    #[test]
    fn integers_are_compared_exactly_and_dtypes_by_value() {
        let long = |x: i64| StoredTensor::from_bytes(DType::I64, [1], x.to_le_bytes()).unwrap();
        let found = compare(&long(i64::MAX), &long(i64::MAX - 1), EXACT).unwrap().unwrap();
        assert_eq!((found.outside, found.absolute), (1, 1.0));
        assert_eq!((found.a.to_string(), found.b.to_json()), (i64::MAX.to_string(), json!(i64::MAX - 1)));
        let half = |x: f32| {
            let bytes = half::f16::from_f32(x).to_le_bytes();
            StoredTensor::from_bytes(DType::F16, [1], bytes).unwrap()
        };
        assert_eq!(compare(&half(0.5), &floats(&[0.5]), EXACT).unwrap(), None);
        assert!(compare(&half(0.1), &floats(&[0.1]), EXACT).unwrap().unwrap().absolute < 1e-4);
        assert_eq!(compare(&long(7), &floats(&[7.]), EXACT).unwrap(), None);
        let complex: Vec<u8> = [1f32, 2.].iter().flat_map(|x| x.to_le_bytes()).collect();
        let complex = StoredTensor::from_bytes(DType::Complex64, [1], complex).unwrap();
        let found = compare(&complex, &floats(&[1.]), EXACT).unwrap().unwrap();
        assert_eq!((found.outside, found.absolute, found.index), (1, 2., vec![0]));
    }
}
