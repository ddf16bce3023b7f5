//! The elements of tensors as numbers, a piece at a time, and what is said about them.

use sconce::DType;
use sconce::checkpoint::StoredTensor;

use super::{Failure, Result};

/// The elements that are converted at once.
pub(crate) const PIECE: usize = 1 << 16;

/// Calls `work` with the elements of these little-endian bytes as `f64`, a piece at a time.
pub(crate) fn for_each_piece(dtype: DType, bytes: &[u8], mut work: impl FnMut(&[f64])) -> Result<()> {
    let mut numbers = Vec::with_capacity(PIECE.min(bytes.len() / dtype.size().max(1) + 1));
    for piece in bytes.chunks(PIECE * dtype.size()) {
        numbers.clear();
        to_f64(dtype, piece, &mut numbers)?;
        work(&numbers);
    }
    Ok(())
}

/// Appends the elements of these little-endian bytes.
pub(crate) fn to_f64(dtype: DType, bytes: &[u8], out: &mut Vec<f64>) -> Result<()> {
    fn read<const N: usize>(bytes: &[u8], out: &mut Vec<f64>, convert: impl Fn([u8; N]) -> f64) {
        out.extend(bytes.as_chunks::<N>().0.iter().map(|&x| convert(x)));
    }
    match dtype {
        DType::F64 => read(bytes, out, f64::from_le_bytes),
        DType::F32 => read(bytes, out, |x| f32::from_le_bytes(x).into()),
        DType::F16 => read(bytes, out, |x| half::f16::from_le_bytes(x).to_f64()),
        DType::BF16 => read(bytes, out, |x| half::bf16::from_le_bytes(x).to_f64()),
        DType::I64 => read(bytes, out, |x| i64::from_le_bytes(x) as f64),
        DType::I32 => read(bytes, out, |x| i32::from_le_bytes(x).into()),
        DType::I16 => read(bytes, out, |x| i16::from_le_bytes(x).into()),
        DType::I8 => read(bytes, out, |x| i8::from_le_bytes(x).into()),
        DType::U64 => read(bytes, out, |x| u64::from_le_bytes(x) as f64),
        DType::U32 => read(bytes, out, |x| u32::from_le_bytes(x).into()),
        DType::U16 => read(bytes, out, |x| u16::from_le_bytes(x).into()),
        DType::U8 => read(bytes, out, |x| u8::from_le_bytes(x).into()),
        DType::Bool => read(bytes, out, |[x]| f64::from(u8::from(x != 0))),
        other => {
            if other.name().starts_with("bits") {
                return Err(Failure::new(format!("no values: {other} has no numbers, only bits")));
            }
            let piece = StoredTensor::from_bytes(other, [bytes.len() / other.size()], bytes)?.to(DType::F64)?;
            read(&piece.contiguous_bytes()?, out, f64::from_le_bytes);
        }
    }
    Ok(())
}

/// What a tensor's elements are like. Numbers are of the finite elements.
#[derive(Debug, Default)]
pub(crate) struct Statistics {
    pub(crate) count: u64,
    pub(crate) finite: u64,
    pub(crate) zeros: u64,
    pub(crate) nan: u64,
    pub(crate) infinite: u64,
    pub(crate) min: f64,
    pub(crate) max: f64,
    pub(crate) mean: f64,
    /// The standard deviation, with `n - 1` below the root as `torch.std` has it; 0 for a single element.
    pub(crate) std: f64,
    /// How many elements lie in each of equal parts of `min..max`; empty when they are all equal.
    pub(crate) histogram: Vec<u64>,
}

const BINS: usize = 32;

impl Statistics {
    pub(crate) fn of(tensor: &StoredTensor) -> Result<Self> {
        let dtype = tensor.dtype();
        if dtype.is_complex() {
            return Err(Failure::new(format!("no statistics: {dtype} has no order")));
        }
        let numbers = match tensor.quantizer() {
            Some(_) => &tensor.to(DType::F32)?,
            None => tensor,
        };
        let (dtype, bytes) = (numbers.dtype(), numbers.contiguous_bytes()?);
        let mut all = Self { min: f64::INFINITY, max: f64::NEG_INFINITY, ..Self::default() };
        let mut sum = 0.0;
        for_each_piece(dtype, &bytes, |numbers| {
            all.count += numbers.len() as u64;
            for &x in numbers {
                if x.is_finite() {
                    all.finite += 1;
                    all.zeros += u64::from(x == 0.0);
                    all.min = all.min.min(x);
                    all.max = all.max.max(x);
                    sum += x;
                } else {
                    all.nan += u64::from(x.is_nan());
                }
            }
        })?;
        all.infinite = all.count - all.finite - all.nan;
        if all.finite == 0 {
            return Ok(all);
        }
        all.mean = sum / all.finite as f64;
        let width = all.max - all.min;
        if width > 0.0 && width.is_finite() {
            all.histogram = vec![0; BINS];
        }
        let mut squares = 0.0;
        for_each_piece(dtype, &bytes, |numbers| {
            for &x in numbers.iter().filter(|x| x.is_finite()) {
                squares += (x - all.mean).powi(2);
                if let Some(last) = all.histogram.len().checked_sub(1) {
                    let bin = ((x - all.min) / width * BINS as f64) as usize;
                    all.histogram[bin.min(last)] += 1;
                }
            }
        })?;
        all.std = if all.finite > 1 { (squares / (all.finite - 1) as f64).sqrt() } else { 0.0 };
        Ok(all)
    }

    /// The histogram as a line of bars; an empty bin is a space, any other at least the lowest bar.
    pub(crate) fn bars(&self) -> String {
        const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
        let most = self.histogram.iter().copied().max().unwrap_or(0).max(1);
        let bar = |&count: &u64| match count {
            0 => ' ',
            _ => BARS[(count as f64 / most as f64 * 7.0).round() as usize],
        };
        self.histogram.iter().map(bar).collect()
    }
}

/// A number with six digits, as `%g` prints it.
pub(crate) fn short(x: f64) -> String {
    const DIGITS: i32 = 6;
    if x == 0.0 || !x.is_finite() {
        return x.to_string();
    }
    let scientific = format!("{x:.*e}", DIGITS as usize - 1);
    let (digits, exponent) = scientific.split_once('e').expect("an exponent");
    let exponent: i32 = exponent.parse().expect("an exponent");
    let trim = |text: &str| match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text.to_owned(),
    };
    match exponent {
        -5..DIGITS => trim(&format!("{x:.*}", (DIGITS - 1 - exponent) as usize)),
        _ => format!("{}e{}{:02}", trim(digits), if exponent < 0 { '-' } else { '+' }, exponent.abs()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statistics(values: &[f32]) -> Statistics {
        let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        Statistics::of(&StoredTensor::from_bytes(DType::F32, [values.len()], bytes).unwrap()).unwrap()
    }

    #[test]
    fn sums_up_as_torch_does() {
        // torch.tensor([0., 1, 2, 4]).std() is 1.7078
        let all = statistics(&[0., 1., f32::NAN, 2., 4., f32::INFINITY]);
        assert_eq!((all.count, all.finite, all.zeros, all.nan, all.infinite), (6, 4, 1, 1, 1));
        assert_eq!((all.min, all.max, all.mean), (0., 4., 1.75));
        assert!((all.std - 1.707_825_127).abs() < 1e-8, "{}", all.std);
        assert_eq!((all.histogram.iter().sum::<u64>(), all.histogram[31], all.histogram[8]), (4, 1, 1));
        assert_eq!(all.bars().chars().count(), 32);
        let one = statistics(&[3.]);
        assert_eq!((one.std, one.histogram.len(), one.bars()), (0., 0, String::new()));
        assert_eq!(statistics(&[f32::NAN]).finite, 0);
        assert_eq!(statistics(&[]).count, 0);
    }

    #[test]
    fn numbers_are_short() {
        for (x, text) in [
            (0., "0"),
            (1., "1"),
            (-0.25, "-0.25"),
            (1e-5, "0.00001"),
            (1.5e-7, "1.5e-07"),
            (123_456.0, "123456"),
            (1_234_567.0, "1.23457e+06"),
            (f64::NAN, "NaN"),
        ] {
            assert_eq!(short(x), text);
        }
    }
}
