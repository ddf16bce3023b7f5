//! Conversion between dtypes, by PyTorch's rules: floats are rounded to nearest, ties to even, by way of `f32` where one
//! side has 16 bits or fewer; integers wrap; floats lose their fraction on the way to integers.

use super::{DType, float8};
use crate::error::{Error, Result};

/// Elements that are converted at a time: they stay in the first cache.
const BLOCK: usize = 1024;

/// Converts little-endian elements.
///
/// # Errors
/// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) when there is no such conversion.
pub(crate) fn convert(from: DType, to: DType, bytes: &[u8]) -> Result<Vec<u8>> {
    if from == to {
        return Ok(bytes.to_vec());
    }
    let refuse = || Error::unsupported(format!("{from} elements cannot be converted to {to}"));
    match (from.part(), to.part()) {
        (Some(from), Some(to)) => return convert(from, to, bytes),
        (Some(_), None) => {
            return Err(refuse().help("take the real or the imaginary part first: `torch.view_as_real`"));
        }
        (None, Some(part)) => return Ok(with_zeros(&convert(from, part, bytes)?, part.size())),
        (None, None) => {}
    }
    let wide = Wide::of(from).ok_or_else(refuse)?;
    if Wide::of(to).is_none() || to == DType::F4E2M1FNX2 {
        return Err(refuse());
    }
    let per_byte = if from == DType::F4E2M1FNX2 { 2 } else { 1 };
    let count = bytes.len() / from.size() * per_byte;
    let mut out = Vec::new();
    out.try_reserve_exact(count * to.size())
        .map_err(|_| Error::unsupported(format!("{count} {to} elements do not fit into memory")))?;
    out.resize(count * to.size(), 0);
    let blocks = bytes.chunks(BLOCK * from.size()).zip(out.chunks_mut(BLOCK * to.size() * per_byte));
    match wide {
        Wide::F32 => blocks.for_each(|(block, out)| from_f32(&to_f32(from, block), to, out)),
        Wide::F64 => blocks.for_each(|(block, out)| from_f64(&read(block, f64::from_le_bytes), to, out)),
        Wide::I64 => blocks.for_each(|(block, out)| from_i64(&to_i64(from, block), to, out)),
        Wide::U64 => blocks.for_each(|(block, out)| from_u64(&read(block, u64::from_le_bytes), to, out)),
    }
    Ok(out)
}

/// A type that holds every value of a dtype.
enum Wide {
    F32,
    F64,
    I64,
    U64,
}

impl Wide {
    fn of(dtype: DType) -> Option<Self> {
        Some(match dtype {
            DType::F64 => Wide::F64,
            DType::U64 => Wide::U64,
            DType::I64 | DType::I32 | DType::I16 | DType::I8 => Wide::I64,
            DType::U8 | DType::Bool | DType::U16 | DType::U32 => Wide::I64,
            DType::F32 | DType::F16 | DType::BF16 | DType::F4E2M1FNX2 => Wide::F32,
            float8 => float8::encoder(float8).map(|_| Wide::F32)?,
        })
    }
}

impl DType {
    /// The dtype of a complex dtype's real and imaginary parts.
    pub(crate) const fn part(self) -> Option<DType> {
        match self {
            DType::Complex32 => Some(DType::F16),
            DType::BComplex32 => Some(DType::BF16),
            DType::Complex64 => Some(DType::F32),
            DType::Complex128 => Some(DType::F64),
            _ => None,
        }
    }
}

/// Real parts, each with an imaginary part of 0.
fn with_zeros(parts: &[u8], size: usize) -> Vec<u8> {
    let mut out = vec![0; parts.len() * 2];
    for (part, out) in parts.chunks_exact(size).zip(out.chunks_exact_mut(size * 2)) {
        out[..size].copy_from_slice(part);
    }
    out
}

fn read<const N: usize, T>(bytes: &[u8], convert: impl Fn([u8; N]) -> T) -> Vec<T> {
    bytes.as_chunks::<N>().0.iter().map(|bytes| convert(*bytes)).collect()
}

fn to_f32(from: DType, bytes: &[u8]) -> Vec<f32> {
    match from {
        DType::F32 => read(bytes, f32::from_le_bytes),
        DType::F16 => read(bytes, |x| half::f16::from_le_bytes(x).to_f32()),
        DType::BF16 => read(bytes, |x| half::bf16::from_le_bytes(x).to_f32()),
        DType::F4E2M1FNX2 => bytes.iter().flat_map(|&x| [float8::decode4(x & 15), float8::decode4(x >> 4)]).collect(),
        float8 => bytes.iter().map(|&x| float8::decode(float8, x)).collect(),
    }
}

fn to_i64(from: DType, bytes: &[u8]) -> Vec<i64> {
    match from {
        DType::I64 => read(bytes, i64::from_le_bytes),
        DType::I32 => read(bytes, |x| i32::from_le_bytes(x).into()),
        DType::I16 => read(bytes, |x| i16::from_le_bytes(x).into()),
        DType::I8 => read(bytes, |x| i8::from_le_bytes(x).into()),
        DType::U32 => read(bytes, |x| u32::from_le_bytes(x).into()),
        DType::U16 => read(bytes, |x| u16::from_le_bytes(x).into()),
        // Any byte but 0 is true.
        DType::Bool => bytes.iter().map(|&x| (x != 0).into()).collect(),
        _ => bytes.iter().map(|&x| x.into()).collect(),
    }
}

fn write<const N: usize, T: Copy>(values: &[T], out: &mut [u8], convert: impl Fn(T) -> [u8; N]) {
    for (out, &value) in out.as_chunks_mut::<N>().0.iter_mut().zip(values) {
        *out = convert(value);
    }
}

/// What is the same for all types: floats of up to 32 bits are made from `f32`, integers by `as`.
macro_rules! from_wide {
    ($values:ident, $to:ident, $out:ident, $($dtype:pat => $convert:expr,)*) => {
        match $to {
            $($dtype => write($values, $out, |x| $convert(x).to_le_bytes()),)*
            DType::F32 => write($values, $out, |x| (x as f32).to_le_bytes()),
            DType::F64 => write($values, $out, |x| (x as f64).to_le_bytes()),
            DType::F16 => write($values, $out, |x| half::f16::from_f32(x as f32).to_le_bytes()),
            DType::BF16 => write($values, $out, |x| half::bf16::from_f32(x as f32).to_le_bytes()),
            float8 => {
                let encode = float8::encoder(float8).expect("a dtype with a wide type");
                write($values, $out, |x| [encode(x as f32)]);
            }
        }
    };
}

macro_rules! from_float {
    ($name:ident, $type:ty) => {
        fn $name(values: &[$type], to: DType, out: &mut [u8]) {
            // Out of range the result is that of x86-64, as in PyTorch, where C++ leaves it open: no number of Rust's
            // saturating casts.
            let i64 = |x: $type| if x >= -(2f64.powi(63)) as $type && x < 2f64.powi(63) as $type { x as i64 } else { i64::MIN };
            let i32 = |x: $type| i32::try_from(i64(x)).unwrap_or(i32::MIN);
            let u64 = |x: $type| if x >= 2f64.powi(63) as $type { i64(x - 2f64.powi(63) as $type) ^ i64::MIN } else { i64(x) };
            from_wide!(values, to, out,
                DType::I64 => i64,
                DType::I32 => i32,
                DType::I16 => |x| i32(x) as i16,
                DType::I8 => |x| i32(x) as i8,
                DType::U8 => |x| i64(x) as u8,
                DType::U16 => |x| i32(x) as u16,
                DType::U32 => |x| i64(x) as u32,
                DType::U64 => |x| u64(x) as u64,
                DType::Bool => |x: $type| u8::from(x != 0.0),
            );
        }
    };
}

macro_rules! int_to_float {
    ($name:ident, $type:ty) => {
        fn $name(values: &[$type], to: DType, out: &mut [u8]) {
            from_wide!(values, to, out,
                DType::I64 => |x| x as i64,
                DType::I32 => |x| x as i32,
                DType::I16 => |x| x as i16,
                DType::I8 => |x| x as i8,
                DType::U8 => |x| x as u8,
                DType::U16 => |x| x as u16,
                DType::U32 => |x| x as u32,
                DType::U64 => |x| x as u64,
                DType::Bool => |x: $type| u8::from(x != 0),
            );
        }
    };
}

from_float!(from_f32, f32);
from_float!(from_f64, f64);
int_to_float!(from_i64, i64);
int_to_float!(from_u64, u64);

#[cfg(test)]
mod tests {
    use super::*;

    fn one(from: DType, to: DType, bytes: &[u8]) -> Vec<u8> {
        convert(from, to, bytes).unwrap()
    }

    #[test]
    fn floats_are_rounded_to_even_and_integers_wrap() {
        let f32 = |x: f32| x.to_le_bytes();
        assert_eq!(one(DType::F32, DType::I64, &f32(-1.9)), (-1i64).to_le_bytes());
        assert_eq!(one(DType::F32, DType::U8, &f32(300.5)), [44]);
        assert_eq!(one(DType::F32, DType::F8E4M3FN, &f32(464.0)), [0x7e]);
        assert_eq!(one(DType::F32, DType::F8E4M3FN, &f32(f32::NEG_INFINITY)), [0xfe]);
        assert_eq!(one(DType::F32, DType::F8E5M2, &f32(-1e9)), [0xfc]);
        assert_eq!(one(DType::F32, DType::F8E4M3FNUZ, &f32(-1e-9)), [0]);
        assert_eq!(one(DType::I64, DType::F32, &(1i64 << 24 | 1).to_le_bytes()), f32(16_777_216.0));
        assert_eq!(one(DType::U64, DType::F64, &u64::MAX.to_le_bytes()), 2f64.powi(64).to_le_bytes());
        assert_eq!(one(DType::Bool, DType::F32, &[2]), f32(1.0));
        assert_eq!(one(DType::F4E2M1FNX2, DType::F32, &[0xf1]), [f32(0.5), f32(-6.0)].concat());
        assert_eq!(one(DType::F32, DType::Complex64, &f32(1.5)), [f32(1.5), f32(0.0)].concat());
        assert!(convert(DType::Complex64, DType::F32, &[0; 8]).is_err());
        assert!(convert(DType::QI8, DType::F32, &[0]).is_err());
        assert!(convert(DType::F32, DType::F4E2M1FNX2, &[0; 8]).is_err());
    }

    #[test]
    fn every_pair_of_dtypes_converts_any_bytes_or_refuses() {
        let bytes: Vec<u8> = (0..=255).chain(0..=255).collect();
        for &from in DType::ALL {
            for &to in DType::ALL {
                if let Ok(out) = convert(from, to, &bytes) {
                    let per_byte = if from == DType::F4E2M1FNX2 && from != to { 2 } else { 1 };
                    assert_eq!(out.len(), bytes.len() / from.size() * to.size() * per_byte, "{from} to {to}");
                }
            }
        }
    }

    #[test]
    fn eight_bit_floats_survive_the_way_to_f32_and_back() {
        for &dtype in DType::ALL.iter().filter(|&&dtype| float8::encoder(dtype).is_some()) {
            let all: Vec<u8> = (0..=255).collect();
            let there = one(dtype, DType::F32, &all);
            let back = one(DType::F32, dtype, &there);
            for (bits, (back, value)) in all.iter().zip(back.iter().zip(there.as_chunks::<4>().0)) {
                let is_nan = f32::from_le_bytes(*value).is_nan();
                assert!(bits == back || is_nan, "{dtype} {bits:#x} gives {back:#x}");
            }
        }
    }
}
