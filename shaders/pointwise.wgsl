// A pointwise expression of up to eight inputs over one shape; a thread makes one element of T. This is the program that
// copies one contiguous input. The others have their own text in place of the three marked lines: the inputs, where
// thread `i` reads and writes (`at0`, ..., `to`), and the value (`r`).

// f32 or vec4<f32>: what the functions take.
alias T = f32;
// The bits of T.
alias Bits = u32;
// What y holds: T, or as many u32 for copies, which keep every bit; in half precision as many f16.
alias E = u32;

struct Params {
    // Threads.
    count: u32,
    // Where the arguments start in their buffers, in their elements.
    y_at: u32,
    at0: u32,
    at1: u32,
    at2: u32,
    at3: u32,
    at4: u32,
    at5: u32,
    at6: u32,
    at7: u32,
    // Threads along x; the grid is folded into y.
    row: u32,
    // 0, which a compiler does not know: it would take a product with it for 0, that of NaN too.
    zero: u32,
}

@group(0) @binding(0) var<storage, read_write> y: array<E>;
@group(0) @binding(1) var<storage, read> x0: array<E>; // inputs
var<immediate> p: Params;

// Keeps the compiler from folding numbers that WGSL has no literals for.
fn from_bits(word: u32) -> f32 {
    var w = word;
    return bitcast<f32>(w);
}

// Not all devices know e to the power of large numbers; these limits lose nothing that f32 can hold.
fn exponential(x: T) -> T {
    let low = select(x, T(-104.0), x < T(-104.0));
    return exp(select(low, T(89.0), low > T(89.0)));
}

// 0 where the true value is below the smallest normal number, so that the product with a large one is 0 too.
fn logistic(x: T) -> T {
    return select(T(1.0) / (T(1.0) + exponential(-x)), T(0.0), x < T(-87.0));
}

// 1 - erf(z) for z >= 0: Abramowitz and Stegun 7.1.26, absolute error below 2e-7.
fn erfc_positive(z: T) -> T {
    let c = select(z, T(12.0), z > T(12.0));
    let t = T(1.0) / (T(1.0) + 0.3275911 * c);
    let poly = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))));
    return poly * exp(-c * c);
}

// The function of one number that `kind` names, with its arguments `a` and `b`; NaN stays NaN. `unary_code` in the
// selectors has the same numbers.
fn unary(kind: u32, a: f32, b: f32, x: T) -> T {
    switch kind {
        case 1u: { return select(x, T(0.0), x < T(0.0)); }
        case 2u: {
            let low = select(x, T(a), x < T(a));
            return select(low, T(b), low > T(b));
        }
        case 3u: { return select(x, T(a), x < T(a)); }
        case 4u: { return select(x, T(b), x > T(b)); }
        case 5u: { return select(a * x, x, x > T(0.0)); }
        case 6u: {
            let small = x * (1.0 + x * (0.5 + x * (0.16666667 + x * (0.041666667 + x * (0.008333333 + x * 0.0013888889)))));
            let n = select(x, T(0.0), x > T(0.0));
            return select(a * select(exponential(n) - T(1.0), small, abs(x) < T(0.3)), x, x > T(0.0));
        }
        case 7u: { return logistic(x); }
        case 8u: {
            let s = x * x;
            let small = x * (1.0 + s * (-0.33333333 + s * (0.13333333 + s * (-0.053968254 + s * 0.021869489))));
            let e = exponential(-2.0 * abs(x));
            let large = (T(1.0) - e) / (T(1.0) + e);
            return select(select(large, -large, x < T(0.0)), small, abs(x) < T(0.3));
        }
        case 9u: { return x * logistic(x); }
        case 10u: {
            let tail = 0.5 * erfc_positive(0.70710678 * abs(x));
            return x * select(T(1.0) - tail, tail, x < T(0.0));
        }
        case 11u: { return x * logistic(1.5957691216 * x * (1.0 + 0.044715 * x * x)); }
        case 12u: { return x * clamp(x + T(3.0), T(0.0), T(6.0)) / 6.0; }
        case 13u: {
            let low = select(x + T(3.0), T(0.0), x < T(-3.0));
            return select(low, T(6.0), low > T(6.0)) / 6.0;
        }
        case 14u: { return -x; }
        case 15u: { return abs(x); }
        case 16u: { return exponential(x); }
        case 17u: { return log(x); }
        case 18u: { return sqrt(x); }
        case 19u: { return inverseSqrt(x); }
        case 20u: {
            let z = abs(x);
            let s = x * x;
            let small = x * (1.1283792 + s * (-0.37612639 + s * (0.11283792 + s * (-0.026866171 + s * (0.0052239776 - s * 0.00085483273)))));
            let large = T(1.0) - erfc_positive(z);
            return select(select(large, -large, x < T(0.0)), small, z < T(0.5));
        }
        default: { return x; }
    }
}

// x less whole turns, so that the device's sine is as exact as it can be.
fn turned(x: T) -> T {
    let k = round(x * 0.15915494);
    return (x - k * 6.28125) - k * 0.0019353072;
}

// Infinity. It and NaN, which has greater ones, are known by their bits: a compiler may take it that no number is either,
// as Metal's does.
const INFINITY = 0x7f800000u;

fn size_bits(x: T) -> Bits {
    return bitcast<Bits>(x) & Bits(0x7fffffffu);
}

// PyTorch's pow: a negative base has a power for every whole exponent.
fn power(x: T, e: T) -> T {
    let size = pow(abs(x), e);
    let half = e * 0.5;
    let odd = fract(half) != T(0.0);
    let infinity = T(from_bits(0x7f800000u));
    let other = select(T(from_bits(0x7fc00000u)), size, size_bits(x) == Bits(INFINITY));
    let whole = select(other, select(size, -size, odd), fract(e) == T(0.0));
    let zero = select(select(infinity, T(0.0), e > T(0.0)), T(1.0), e == T(0.0));
    let known = select(select(size, whole, x < T(0.0)), zero, x == T(0.0));
    let is_nan = (size_bits(x) > Bits(INFINITY)) | (size_bits(e) > Bits(INFINITY));
    // NaN stays.
    return select(select(known, x + e, is_nan), T(1.0), (e == T(0.0)) | (x == T(1.0)));
}

// NaN wins.
fn larger(a: T, b: T) -> T {
    return select(a, b, (b > a) | (size_bits(b) > Bits(INFINITY)));
}

fn smaller(a: T, b: T) -> T {
    return select(a, b, (b < a) | (size_bits(b) > Bits(INFINITY)));
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let i = id.y * p.row + id.x;
    if (i >= p.count) {
        return;
    }
    let to = i; let at0 = i; // places
    let r = x0[p.at0 + at0]; // value
    y[p.y_at + to] = E(r);
}
