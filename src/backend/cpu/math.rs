//! Functions of one number without branches, so that loops over them become vectors. NaN stays NaN and infinities give
//! what PyTorch gives. The errors stated are the largest relative ones, found by the tests; an ulp is 1.2e-7.

use super::isa::Level;

/// Adding it to a number below 2^22 rounds that to an integer, which is then in the low bits.
const ROUND: f32 = 12_582_912.0;
/// The bits of [`ROUND`].
const ROUND_BITS: i32 = 0x4b40_0000;
/// The natural logarithm of 2 in two parts; small integers times the first are exact.
const LN2_HIGH: f32 = 0.693_359_4;
const LN2_LOW: f32 = -2.121_944_4e-4;

/// `c[0] + x (c[1] + x (c[2] + ...))`
#[inline(always)]
fn polynomial<L: Level, const N: usize>(x: f32, c: [f32; N]) -> f32 {
    let mut y = c[N - 1];
    for i in (0..N - 1).rev() {
        y = L::mul_add(y, x, c[i]);
    }
    y
}

/// `(n, p)` so that `exp(x) = 2^n * (1 + p)` with `|p|` below 0.42. `x` must be within -150 ..= 150, or NaN.
#[inline(always)]
fn split_exp<L: Level>(x: f32) -> (i32, f32) {
    let rounded = L::mul_add(x, std::f32::consts::LOG2_E, ROUND);
    let n = rounded - ROUND;
    let r = L::mul_add(n, -LN2_LOW, L::mul_add(n, -LN2_HIGH, x));
    // Minimax on |r| <= ln(2) / 2, relative error 2.4e-10.
    let c = [0.5, 0.166_666_67, 0.041_666_355, 0.008_333_274, 0.001_394_101_4, 0.000_199_135_63];
    let p = L::mul_add(polynomial::<L, 6>(r, c) * r, r, r);
    ((rounded.to_bits() as i32).wrapping_sub(ROUND_BITS), p)
}

/// 2^n for n in -126 ..= 127.
#[inline(always)]
fn power_of_two(n: i32) -> f32 {
    f32::from_bits((n.wrapping_add(127) as u32) << 23)
}

#[inline(always)]
fn clamp_keeping_nan(x: f32, min: f32, max: f32) -> f32 {
    let x = if x < min { min } else { x };
    if x > max { max } else { x }
}

/// The exponential; error 1.5e-7, also of results that are denormal to their precision.
#[inline(always)]
pub(crate) fn exp<L: Level>(x: f32) -> f32 {
    let (n, p) = split_exp::<L>(clamp_keeping_nan(x, -104.0, 89.0));
    // In two steps, since 2^n alone may be too large or too small.
    let half = n >> 1;
    (1.0 + p) * power_of_two(half) * power_of_two(n.wrapping_sub(half))
}

/// The exponential of `x <= 0`, for sums: 0 below -87. Error 1.5e-7 above.
#[inline(always)]
pub(crate) fn exp_negative<L: Level>(x: f32) -> f32 {
    let (n, p) = split_exp::<L>(clamp_keeping_nan(x, -87.0, 1.0));
    let y = L::mul_add(p, power_of_two(n), power_of_two(n));
    if x < -87.0 { 0.0 } else { y }
}

/// `exp(x) - 1` for `x <= 88`; error 4e-7.
#[inline(always)]
fn exp_m1<L: Level>(x: f32) -> f32 {
    let (n, p) = split_exp::<L>(clamp_keeping_nan(x, -50.0, 88.0));
    let power = power_of_two(n);
    L::mul_add(p, power, power - 1.0)
}

/// Error 6e-7.
#[inline(always)]
pub(crate) fn tanh<L: Level>(x: f32) -> f32 {
    let e = exp_m1::<L>(clamp_keeping_nan(2.0 * x.abs(), 0.0, 40.0));
    (e / (e + 2.0)).copysign(x)
}

/// Error 3e-7 down to x = -88, then 0.
#[inline(always)]
pub(crate) fn sigmoid<L: Level>(x: f32) -> f32 {
    1.0 / (1.0 + exp::<L>(-x))
}

/// Error 5e-7.
#[inline(always)]
pub(crate) fn erf<L: Level>(x: f32) -> f32 {
    // x P(x^2) / Q(x^2), relative error 2.1e-8; all coefficients have one sign, so nothing cancels.
    let u = clamp_keeping_nan(x * x, 0.0, 15.6);
    let p = [
        std::f32::consts::FRAC_2_SQRT_PI,
        0.191_538_33,
        0.052_874_118,
        0.003_807_717,
        0.000_284_689_92,
        2.026_161_8e-6,
    ];
    let q = [1.0, 0.503_079_1, 0.114_554_904, 0.015_054_19, 0.001_170_640_6, 3.783_454e-5];
    let y = x * polynomial::<L, 6>(u, p) / polynomial::<L, 6>(u, q);
    clamp_keeping_nan(if x.abs() > 3.9 { x } else { y }, -1.0, 1.0)
}

/// `x / 2 (1 + erf(x / sqrt(2)))`; error 4e-7 of `x`, not of the result, which is PyTorch's way.
#[inline(always)]
pub(crate) fn gelu<L: Level>(x: f32) -> f32 {
    0.5 * x * (1.0 + erf::<L>(x * std::f32::consts::FRAC_1_SQRT_2))
}

/// Error 4e-7 of `x`.
#[inline(always)]
pub(crate) fn gelu_tanh<L: Level>(x: f32) -> f32 {
    let inner = 0.797_884_6 * L::mul_add(x * x * x, 0.044_715, x);
    0.5 * x * (1.0 + tanh::<L>(inner))
}

/// `alpha (exp(x) - 1)` for negative `x`.
#[inline(always)]
pub(crate) fn elu<L: Level>(x: f32, alpha: f32) -> f32 {
    let y = alpha * exp_m1::<L>(x);
    if x > 0.0 { x } else { y }
}

/// The natural logarithm; error 2e-7, near 1 relative to `x - 1`.
#[inline(always)]
pub(crate) fn log<L: Level>(x: f32) -> f32 {
    let denormal = x < f32::MIN_POSITIVE;
    let scaled = if denormal { x * 8_388_608.0 } else { x };
    let shift = if denormal { -23.0 } else { 0.0 };
    // x = 2^n m with m in sqrt(1/2) .. sqrt(2).
    let bits = (scaled.to_bits() as i32).wrapping_sub(0x3f35_04f3);
    let n = (bits >> 23) as f32 + shift;
    let m = f32::from_bits((bits & 0x007f_ffff).wrapping_add(0x3f35_04f3) as u32);
    let f = m - 1.0;
    let c = [
        0.333_333_1,
        -0.249_999_87,
        0.200_022_27,
        -0.166_692_51,
        0.142_186_58,
        -0.123_843_48,
        0.118_729_76,
        -0.117_898_08,
        0.069_153_68,
    ];
    let square = f * f;
    let tail = L::mul_add(n, LN2_LOW, L::mul_add(polynomial::<L, 9>(f, c) * f, square, -0.5 * square));
    let y = L::mul_add(n, LN2_HIGH, f + tail);
    let y = if x == 0.0 { f32::NEG_INFINITY } else { y };
    let y = if x == f32::INFINITY { x } else { y };
    // Also for NaN.
    if x >= 0.0 { y } else { f32::NAN }
}

#[inline(always)]
pub(crate) fn relu(x: f32) -> f32 {
    if x < 0.0 { 0.0 } else { x }
}

#[inline(always)]
pub(crate) fn clamp(x: f32, min: f32, max: f32) -> f32 {
    clamp_keeping_nan(x, min, max)
}

/// The larger number; NaN wins.
#[inline(always)]
pub(crate) fn maximum(a: f32, b: f32) -> f32 {
    let larger = if a > b { a } else { b };
    if a.is_nan() { a } else { larger }
}

/// The smaller number; NaN wins.
#[inline(always)]
pub(crate) fn minimum(a: f32, b: f32) -> f32 {
    let smaller = if a < b { a } else { b };
    if a.is_nan() { a } else { smaller }
}

/// `min(max(x + 3, 0), 6) / 6`
#[inline(always)]
pub(crate) fn hardsigmoid(x: f32) -> f32 {
    clamp_keeping_nan(x + 3.0, 0.0, 6.0) * (1.0 / 6.0)
}
