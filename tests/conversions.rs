//! Conversions between dtypes, compared with PyTorch's by the checksums of tools/conversions.py: every value of the small
//! dtypes, many of the wide ones.

use sconce::{DType, Tensor};
use serde_json::Value as Json;

fn words(seed: u64, count: u64) -> impl Iterator<Item = u64> {
    (1..=count).map(move |i| {
        let z = (i + seed * count).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    })
}

/// The numbers that the tool calls moderate.
fn moderate(dtype: DType, z: u64) -> u64 {
    match dtype {
        DType::F64 => z & 1 << 63 | (1023 - 40 + (z >> 52) % 80) << 52 | z & ((1 << 52) - 1),
        DType::F32 => {
            let mantissa = if z & 1 == 0 { z & 0x7f_ffff } else { z & 0x7f_0000 };
            z >> 32 & 1 << 31 | (127 - 30 + (z >> 40) % 60) << 23 | mantissa
        }
        DType::U32 | DType::U64 => z >> (z % 63),
        _ => ((z as i64) >> (z % 63)) as u64,
    }
}

fn source(dtype: DType, kind: &str, count: u64) -> Tensor {
    let bytes: Vec<u8> = match (kind, dtype.size()) {
        ("all", 1) => (0..=255).collect(),
        ("all", _) => (0..=u16::MAX).flat_map(u16::to_le_bytes).collect(),
        ("any", 16..) => words(0, count).flat_map(u64::to_le_bytes).collect(),
        ("any", _) if dtype.is_complex() => words(0, count).flat_map(u64::to_le_bytes).collect(),
        ("any", size) => words(0, count).flat_map(|z| z.to_le_bytes()[..size].to_vec()).collect(),
        (_, size) => words(1, count).flat_map(|z| moderate(dtype, z).to_le_bytes()[..size].to_vec()).collect(),
    };
    Tensor::from_bytes(dtype, [bytes.len() / dtype.size()], &bytes).unwrap()
}

/// The bytes, with one NaN, and 0 for an integer of NaN or out of a `uint32`'s range.
fn canonical(x: &Tensor, source: &Tensor) -> Vec<u8> {
    let mut bytes = x.bytes().to_vec();
    let is_float = |dtype: DType| dtype.is_float() || dtype.name().starts_with("float8");
    let is_int = !is_float(x.dtype()) && !x.dtype().is_complex() && x.dtype() != DType::Bool;
    if is_int && is_float(source.dtype()) {
        let values = source.to(DType::F64).unwrap();
        for (bytes, &value) in bytes.chunks_mut(x.dtype().size()).zip(values.as_slice::<f64>().unwrap()) {
            let is_kept = x.dtype() != DType::U32 || value > -1.0 && value < 2f64.powi(32);
            if value.is_nan() || !is_kept {
                bytes.fill(0);
            }
        }
    }
    let part = match x.dtype() {
        DType::Complex32 => DType::F16,
        DType::Complex64 => DType::F32,
        DType::Complex128 => DType::F64,
        real => real,
    };
    if is_float(part) {
        let parts = Tensor::from_bytes(part, [bytes.len() / part.size()], &bytes).unwrap().to(DType::F64).unwrap();
        for (bytes, value) in bytes.chunks_mut(part.size()).zip(parts.as_slice::<f64>().unwrap()) {
            if value.is_nan() {
                bytes.fill(0xff);
            }
        }
    }
    bytes
}

#[test]
fn all_pairs_of_dtypes_convert_as_in_pytorch() {
    let expected: Json = serde_json::from_str(include_str!("data/conversions.json")).unwrap();
    let cases = expected["cases"].as_array().unwrap();
    let mut wrong = Vec::new();
    for case in cases {
        let [from, to] = [0, 2].map(|i| case[i].as_str().unwrap().parse::<DType>().unwrap());
        let kind = case[1].as_str().unwrap();
        let source = source(from, kind, expected["count"].as_u64().unwrap());
        let bytes = canonical(&source.to(to).unwrap(), &source);
        if u64::from(crc32fast::hash(&bytes)) != case[3].as_u64().unwrap() {
            wrong.push(format!("{from} ({kind}) to {to}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {} differ from torch: {}", wrong.len(), cases.len(), wrong.join(", "));
    assert!(cases.len() > 350);
}
