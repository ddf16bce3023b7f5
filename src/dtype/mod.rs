//! Element types, by PyTorch's names.

mod convert;
mod float8;
mod precision;

use std::fmt;
use std::str::FromStr;

pub(crate) use convert::convert;
pub use precision::Precision;

use crate::error::{Error, Result};

macro_rules! dtypes {
    ($($(#[$doc:meta])* $variant:ident $name:literal $size:literal,)*) => {
        /// The type of a tensor's elements: every dtype that PyTorch stores. [`DType::is_runnable`] tells which of
        /// them a model computes with; the others are listed, carried and refused by name when they are used.
        ///
        /// Reference: <https://docs.pytorch.org/docs/stable/tensor_attributes.html#torch-dtype>.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum DType { $($(#[$doc])* $variant,)* }

        impl DType {
            /// Every dtype, in the order of the enum.
            pub const ALL: &'static [DType] = &[$(DType::$variant),*];

            /// PyTorch's name without the `torch.`: `float32`, `int64`, `bool`.
            pub const fn name(self) -> &'static str {
                match self { $(DType::$variant => $name),* }
            }

            /// Bytes per element.
            pub const fn size(self) -> usize {
                match self { $(DType::$variant => $size),* }
            }
        }
    };
}

dtypes! {
    /// IEEE 754 binary64.
    F64 "float64" 8,
    /// IEEE 754 binary32.
    F32 "float32" 4,
    /// IEEE 754 binary16.
    F16 "float16" 2,
    /// The upper half of a binary32.
    BF16 "bfloat16" 2,
    /// Signed, 64 bits.
    I64 "int64" 8,
    /// Signed, 32 bits.
    I32 "int32" 4,
    /// Signed, 16 bits.
    I16 "int16" 2,
    /// Signed, 8 bits.
    I8 "int8" 1,
    /// Unsigned, 8 bits.
    U8 "uint8" 1,
    /// One byte, 0 or 1.
    Bool "bool" 1,
    /// Unsigned, 16 bits.
    U16 "uint16" 2,
    /// Unsigned, 32 bits.
    U32 "uint32" 4,
    /// Unsigned, 64 bits.
    U64 "uint64" 8,
    /// 1 sign, 4 exponent, 3 mantissa bits, no infinities.
    F8E4M3FN "float8_e4m3fn" 1,
    /// 1 sign, 5 exponent, 2 mantissa bits.
    F8E5M2 "float8_e5m2" 1,
    /// As `float8_e4m3fn` with exponent bias 8 and no negative zero.
    F8E4M3FNUZ "float8_e4m3fnuz" 1,
    /// As `float8_e5m2` with exponent bias 16 and no negative zero.
    F8E5M2FNUZ "float8_e5m2fnuz" 1,
    /// 8 exponent bits: a power of two.
    F8E8M0FNU "float8_e8m0fnu" 1,
    /// Two 4-bit floats in a byte.
    F4E2M1FNX2 "float4_e2m1fn_x2" 1,
    /// A pair of binary16.
    Complex32 "complex32" 4,
    /// A pair of bfloat16.
    BComplex32 "bcomplex32" 4,
    /// A pair of binary32.
    Complex64 "complex64" 8,
    /// A pair of binary64.
    Complex128 "complex128" 16,
    /// Quantized, signed 8 bits.
    QI8 "qint8" 1,
    /// Quantized, unsigned 8 bits.
    QU8 "quint8" 1,
    /// Quantized, signed 32 bits.
    QI32 "qint32" 4,
    /// Quantized, two 4-bit elements in a byte.
    QU4X2 "quint4x2" 1,
    /// Quantized, four 2-bit elements in a byte.
    QU2X4 "quint2x4" 1,
    /// Untyped bits, 8.
    Bits8 "bits8" 1,
    /// Untyped bits, 16.
    Bits16 "bits16" 2,
    /// Untyped bits, eight 1-bit elements in a byte.
    Bits1X8 "bits1x8" 1,
    /// Untyped bits, four 2-bit elements in a byte.
    Bits2X4 "bits2x4" 1,
    /// Untyped bits, two 4-bit elements in a byte.
    Bits4X2 "bits4x2" 1,
}

impl DType {
    /// Whether a model's weights and inputs may have this dtype: the IEEE floats, bfloat16, the signed integers,
    /// `uint8` and `bool`.
    pub const fn is_runnable(self) -> bool {
        self.is_float() || matches!(self, DType::I64 | DType::I32 | DType::I16 | DType::I8 | DType::U8 | DType::Bool)
    }

    /// Whether this is `float64`, `float32`, `float16` or `bfloat16`.
    pub const fn is_float(self) -> bool {
        matches!(self, DType::F64 | DType::F32 | DType::F16 | DType::BF16)
    }
}

impl DType {
    /// Whether an element is a pair of numbers.
    pub const fn is_complex(self) -> bool {
        matches!(self, DType::Complex32 | DType::BComplex32 | DType::Complex64 | DType::Complex128)
    }

    /// How many elements of a shape there are in a byte, for the quantized dtypes whose elements are smaller; 1 for all
    /// others. The shapes of `float4_e2m1fn_x2` and of the bits count bytes.
    pub(crate) const fn per_byte(self) -> usize {
        match self {
            DType::QU4X2 => 2,
            DType::QU2X4 => 4,
            _ => 1,
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for DType {
    type Err = Error;

    /// Reads PyTorch's name (`float16`, `torch.float16`) or the short one (`f16`, `bf16`, `i64`).
    fn from_str(text: &str) -> Result<Self> {
        let name = text.strip_prefix("torch.").unwrap_or(text);
        let long = match name {
            "f64" | "double" => "float64",
            "f32" | "float" => "float32",
            "f16" | "half" => "float16",
            "bf16" => "bfloat16",
            "i64" | "long" => "int64",
            "i32" | "int" => "int32",
            "i16" | "short" => "int16",
            "i8" => "int8",
            "u8" => "uint8",
            other => other,
        };
        DType::ALL
            .iter()
            .copied()
            .find(|dtype| dtype.name() == long)
            .ok_or_else(|| Error::not_found(format!("`{text}` is not a dtype")).help("for example `float32` or `f16`"))
    }
}
