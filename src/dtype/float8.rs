//! The floats of 8 and 4 bits.

use super::DType;

/// A format of sign, exponent and mantissa in a byte.
struct Format {
    mantissa: u32,
    bias: u32,
    /// The first power of two times a mantissa that is too large, as an `f32`.
    limit: f32,
    /// Whether zero and NaN have one sign: NaN is the negative zero.
    is_fnuz: bool,
}

const E4M3FN: Format = Format { mantissa: 3, bias: 7, limit: 480.0, is_fnuz: false };
const E5M2: Format = Format { mantissa: 2, bias: 15, limit: 65536.0, is_fnuz: false };
const E4M3FNUZ: Format = Format { mantissa: 3, bias: 8, limit: 256.0, is_fnuz: true };
const E5M2FNUZ: Format = Format { mantissa: 2, bias: 16, limit: 65536.0, is_fnuz: true };

/// The value of a byte of an 8-bit float.
pub(super) fn decode(dtype: DType, bits: u8) -> f32 {
    match dtype {
        DType::F8E4M3FN if bits & 0x7f == 0x7f => f32::NAN.copysign(if bits >= 0x80 { -1.0 } else { 1.0 }),
        DType::F8E4M3FN => E4M3FN.decode(bits),
        // The upper half of a binary16.
        DType::F8E5M2 => half::f16::from_bits(u16::from(bits) << 8).to_f32(),
        DType::F8E4M3FNUZ | DType::F8E5M2FNUZ if bits == 0x80 => f32::NAN,
        DType::F8E4M3FNUZ => E4M3FNUZ.decode(bits),
        DType::F8E5M2FNUZ => E5M2FNUZ.decode(bits),
        _ => power(bits),
    }
}

/// The byte of an 8-bit float that is nearest to `x`, ties to even. What is too large becomes the largest number of
/// `float8_e4m3fn`, the infinity of `float8_e5m2`, NaN in the other formats, as in PyTorch. `None` for another dtype.
pub(super) fn encoder(dtype: DType) -> Option<fn(f32) -> u8> {
    Some(match dtype {
        DType::F8E4M3FN => |x| match E4M3FN.encode(x) {
            largest if largest & 0x7f == 0x7f && !x.is_nan() => largest - 1,
            byte => byte,
        },
        DType::F8E5M2 => |x| if x.abs() >= E5M2.limit { 0x7c | sign(x) } else { E5M2.encode(x) },
        DType::F8E4M3FNUZ => |x| E4M3FNUZ.encode(x),
        DType::F8E5M2FNUZ => |x| E5M2FNUZ.encode(x),
        DType::F8E8M0FNU => to_power,
        _ => return None,
    })
}

/// The value of 4 bits of `float4_e2m1fn_x2`.
pub(super) fn decode4(bits: u8) -> f32 {
    const VALUES: [f32; 8] = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0];
    let value = VALUES[usize::from(bits & 7)];
    if bits & 8 != 0 { -value } else { value }
}

fn sign(x: f32) -> u8 {
    (x.to_bits() >> 24) as u8 & 0x80
}

impl Format {
    fn decode(&self, bits: u8) -> f32 {
        let exponent = u32::from(bits & 0x7f) >> self.mantissa;
        let mantissa = u32::from(bits) & ((1 << self.mantissa) - 1);
        let two_to = |exponent: u32| f32::from_bits(exponent << 23);
        let unit = two_to(127 + exponent.max(1) - self.bias - self.mantissa);
        let implied = if exponent > 0 { 1 << self.mantissa } else { 0 };
        let value = (mantissa + implied) as f32 * unit;
        if bits & 0x80 != 0 { -value } else { value }
    }

    fn encode(&self, x: f32) -> u8 {
        let sign = sign(x);
        let bits = x.abs().to_bits();
        if bits >= self.limit.to_bits() {
            return if self.is_fnuz { 0x80 } else { 0x7f | sign };
        }
        let shift = 23 - self.mantissa;
        let rounded = if bits < (128 - self.bias) << 23 {
            // Adding a number whose last bit is the format's smallest number rounds to multiples of it.
            let magic = (128 - self.bias + shift) << 23;
            (f32::from_bits(bits) + f32::from_bits(magic)).to_bits() - magic
        } else {
            let is_odd = (bits >> shift) & 1;
            (bits - ((127 - self.bias) << 23) + (1 << (shift - 1)) - 1 + is_odd) >> shift
        };
        match rounded {
            0 if self.is_fnuz => 0,
            rounded => rounded as u8 | sign,
        }
    }
}

/// `float8_e8m0fnu`: 2 to the power of the byte less 127.
fn power(bits: u8) -> f32 {
    match bits {
        0 => f32::from_bits(0x0040_0000),
        0xff => f32::NAN,
        _ => f32::from_bits(u32::from(bits) << 23),
    }
}

/// The power of two nearest to the magnitude of `x`; ties go up, but for the smallest.
fn to_power(x: f32) -> u8 {
    let bits = x.to_bits();
    let exponent = (bits >> 23) as u8;
    if exponent == 0xff {
        return exponent;
    }
    let half = 0x0040_0000;
    let rest = bits & 0x007f_ffff;
    exponent + u8::from(rest > half || rest == half && exponent > 0)
}
