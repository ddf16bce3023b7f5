// A depthwise convolution over NHWC images: every channel has its own kernel. A thread makes 4 neighbouring pixels of a
// row, of 4 channels when T is a vector. The weight is [kernel_h][kernel_w][channels padded to 4].

// vec4<f32> where the channels are a multiple of 4, else f32.
alias T = vec4<f32>;
// What the buffers hold: T, or as many f16 in half precision.
alias E = vec4<f32>;

struct Params {
    // Past the last thread: rows of output pixels * ceil(out_w / 4) * channels, or fewer where they are cut; the last two
    // factors.
    count: u32,
    strips: u32,
    // Channels, and the weight's pitch, in elements of T.
    channels: u32,
    pitch: u32,
    in_h: u32,
    in_w: u32,
    out_h: u32,
    out_w: u32,
    kernel_h: u32,
    kernel_w: u32,
    stride_h: u32,
    stride_w: u32,
    dilation_h: u32,
    dilation_w: u32,
    pad_h: u32,
    pad_w: u32,
    // Where the arguments start in their buffers, in elements of T.
    x_at: u32,
    w_at: u32,
    bias_at: u32,
    residual_at: u32,
    y_at: u32,
    // What is fused: the activation and its arguments, whether there is a bias, and when the residual is added (0 never,
    // 1 before the activation, 2 after it). These are no constants, so that layers share pipelines.
    act: u32,
    act_a: f32,
    act_b: f32,
    bias: u32,
    residual: u32,
    // The first thread; threads along x, before the grid goes on in y.
    first: u32,
    row: u32,
}


@group(0) @binding(0) var<storage, read> x: array<E>;
@group(0) @binding(1) var<storage, read> w: array<E>;
@group(0) @binding(2) var<storage, read> bias: array<E>;
@group(0) @binding(3) var<storage, read> residual: array<E>;
@group(0) @binding(4) var<storage, read_write> y: array<E>;
var<immediate> p: Params;

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

// Adds what the layer adds to the sum of `channel` of output pixel `pixel`, and stores it.
fn finish(pixel: u32, channel: u32, sum: T) {
    var v = sum;
    if (p.bias == 1u) {
        v += T(bias[p.bias_at + channel]);
    }
    let at = pixel * p.channels + channel;
    if (p.residual == 1u) {
        v += T(residual[p.residual_at + at]);
    }
    v = unary(p.act, p.act_a, p.act_b, v);
    if (p.residual == 2u) {
        v += T(residual[p.residual_at + at]);
    }
    y[p.y_at + at] = E(v);
}

// A number of an image's row, or its first one where there is none. Loads have no condition, so that several are under way.
fn fetch(row_at: u32, ix: u32, channel: u32) -> E {
    return x[p.x_at + (row_at + select(0u, ix, ix < p.in_w)) * p.channels + channel];
}

// What was fetched, or 0 where there is none.
fn only(value: E, ix: u32) -> T {
    return select(T(), T(value), ix < p.in_w);
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let i = p.first + id.y * p.row + id.x;
    if (i >= p.count) {
        return;
    }
    let strip = i / p.channels;
    let channel = i - strip * p.channels;
    let out_row = strip / p.strips;
    let ox = (strip - out_row * p.strips) * 4u;
    let image = out_row / p.out_h;
    let oy = out_row - image * p.out_h;
    let top = i32(oy * p.stride_h) - i32(p.pad_h);
    let left = i32(ox * p.stride_w) - i32(p.pad_w);
    var sum0 = T();
    var sum1 = T();
    var sum2 = T();
    var sum3 = T();
    for (var ky = 0u; ky < p.kernel_h; ky++) {
        let iy = u32(top + i32(ky * p.dilation_h));
        if (iy < p.in_h) {
            let row_at = (image * p.in_h + iy) * p.in_w;
            for (var kx = 0u; kx < p.kernel_w; kx++) {
                let w0 = w[p.w_at + (ky * p.kernel_w + kx) * p.pitch + channel];
                let ix = u32(left + i32(kx * p.dilation_w));
                let x0 = fetch(row_at, ix, channel);
                let x1 = fetch(row_at, ix + p.stride_w, channel);
                let x2 = fetch(row_at, ix + 2u * p.stride_w, channel);
                let x3 = fetch(row_at, ix + 3u * p.stride_w, channel);
                let weight = T(w0);
                sum0 = fma(only(x0, ix), weight, sum0);
                sum1 = fma(only(x1, ix + p.stride_w), weight, sum1);
                sum2 = fma(only(x2, ix + 2u * p.stride_w), weight, sum2);
                sum3 = fma(only(x3, ix + 3u * p.stride_w), weight, sum3);
            }
        }
    }
    let pixel = out_row * p.out_w + ox;
    finish(pixel, channel, sum0);
    if (ox + 1u < p.out_w) {
        finish(pixel + 1u, channel, sum1);
    }
    if (ox + 2u < p.out_w) {
        finish(pixel + 2u, channel, sum2);
    }
    if (ox + 3u < p.out_w) {
        finish(pixel + 3u, channel, sum3);
    }
}
