// The convolution of `conv2d.wgsl` without workgroup memory: a thread sums 8 output pixels times 16 output channels in
// registers, straight from storage. For adapters that run shaders on the CPU, where a load costs far more than a
// product and workgroup memory is no faster than any other; there a workgroup is one SIMD vector of 8 threads.

// What the buffers hold: f32, or f16 in half precision. Sums are f32.
alias S = f32;
alias V = vec4<S>;
// The element type of x: V where the channels are a multiple of 4, else S.
alias X = V;
alias T = f32;

struct Params {
    // Output pixels (batch * out_h * out_w); output channels of a group that this dispatch makes.
    pixels: u32,
    channels: u32,
    // ceil(c_in / groups / 4); c_in / groups.
    quads: u32,
    group_in: u32,
    in_h: u32,
    in_w: u32,
    c_in: u32,
    out_h: u32,
    out_w: u32,
    // The pitch of the output's pixels, and the first channel that this dispatch makes.
    c_out: u32,
    first: u32,
    kernel_h: u32,
    kernel_w: u32,
    stride_h: u32,
    stride_w: u32,
    dilation_h: u32,
    dilation_w: u32,
    pad_h: u32,
    pad_w: u32,
    // Channel tiles of a group; pixel tiles along x before they go on in z.
    tiles: u32,
    fold: u32,
    // Where the arguments start in their buffers, in elements (`w_at` in quads).
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
}

// 1 when X is V.
override WIDE: u32 = 1u;

@group(0) @binding(0) var<storage, read> x: array<X>;
@group(0) @binding(1) var<storage, read> w: array<V>;
@group(0) @binding(2) var<storage, read> bias: array<S>;
@group(0) @binding(3) var<storage, read> residual: array<S>;
@group(0) @binding(4) var<storage, read_write> y: array<S>;
var<immediate> p: Params;

// Four channels from element `at` on, of which `left` exist.
fn load_x(at: u32, left: u32) -> vec4<f32> {
    if (WIDE == 1u) {
        return vec4<f32>(V(x[at >> 2u]));
    }
    var v = vec4<f32>(f32(V(x[at]).x), 0.0, 0.0, 0.0);
    if (left > 1u) {
        v.y = f32(V(x[at + 1u]).x);
    }
    if (left > 2u) {
        v.z = f32(V(x[at + 2u]).x);
    }
    if (left > 3u) {
        v.w = f32(V(x[at + 3u]).x);
    }
    return v;
}

// a . b + c
fn dot_add(a: vec4<f32>, b: vec4<f32>, c: f32) -> f32 {
    return fma(a.w, b.w, fma(a.z, b.z, fma(a.y, b.y, fma(a.x, b.x, c))));
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

// Adds what the layer adds to the sum of output `channel` of pixel `pixel`, and stores it.
fn finish(pixel: u32, channel: u32, sum: f32) {
    var v = sum;
    if (p.bias == 1u) {
        v += f32(bias[p.bias_at + channel]);
    }
    let at = pixel * p.c_out + channel;
    if (p.residual == 1u) {
        v += f32(residual[p.residual_at + at]);
    }
    v = unary(p.act, p.act_a, p.act_b, v);
    if (p.residual == 2u) {
        v += f32(residual[p.residual_at + at]);
    }
    y[p.y_at + at] = S(v);
}

// A pixel's place in the image: the row and column that tap (0, 0) reads (less than 0 in the padding), and its image.
struct Pixel {
    y: i32,
    x: i32,
    image: u32,
}

fn pixel_at(m: u32) -> Pixel {
    let row = m / p.out_w;
    let image = row / p.out_h;
    let oy = row - image * p.out_h;
    let ox = m - row * p.out_w;
    return Pixel(i32(oy * p.stride_h) - i32(p.pad_h), i32(ox * p.stride_w) - i32(p.pad_w), image * p.in_h);
}

// Where a tap of a pixel starts in x; outside the image `inside` is false and the place is any that exists.
struct Tap {
    at: u32,
    inside: bool,
}

fn tap_at(pixel: Pixel, ky: u32, kx: u32) -> Tap {
    let iy = u32(pixel.y + i32(ky * p.dilation_h));
    let ix = u32(pixel.x + i32(kx * p.dilation_w));
    let inside = iy < p.in_h && ix < p.in_w;
    return Tap(select(0u, ((pixel.image + iy) * p.in_w + ix) * p.c_in, inside), inside);
}

fn fetch_x(tap: Tap, channel: u32) -> vec4<f32> {
    return select(vec4<f32>(), load_x(tap.at + channel, p.group_in - channel), tap.inside);
}

@compute @workgroup_size(8)
fn main(@builtin(workgroup_id) group_id: vec3<u32>, @builtin(local_invocation_index) t: u32) {
    let group = group_id.y / p.tiles;
    let first_channel = (group_id.y - group * p.tiles) * 16u;
    let first_pixel = (group_id.z * p.fold + group_id.x) * 64u + t;
    let group_at = p.x_at + group * p.group_in;
    let pitch = p.kernel_h * p.kernel_w * p.quads;
    // Rows and pixels past the end repeat the last one; they are not stored.
    let last = p.channels - 1u;
    let w_at = p.w_at + group * p.channels * pitch;
    let pixel0 = pixel_at(min(first_pixel + 0u, p.pixels - 1u));
    let pixel1 = pixel_at(min(first_pixel + 8u, p.pixels - 1u));
    let pixel2 = pixel_at(min(first_pixel + 16u, p.pixels - 1u));
    let pixel3 = pixel_at(min(first_pixel + 24u, p.pixels - 1u));
    let pixel4 = pixel_at(min(first_pixel + 32u, p.pixels - 1u));
    let pixel5 = pixel_at(min(first_pixel + 40u, p.pixels - 1u));
    let pixel6 = pixel_at(min(first_pixel + 48u, p.pixels - 1u));
    let pixel7 = pixel_at(min(first_pixel + 56u, p.pixels - 1u));
    let row0 = w_at + min(first_channel + 0u, last) * pitch;
    let row1 = w_at + min(first_channel + 1u, last) * pitch;
    let row2 = w_at + min(first_channel + 2u, last) * pitch;
    let row3 = w_at + min(first_channel + 3u, last) * pitch;
    let row4 = w_at + min(first_channel + 4u, last) * pitch;
    let row5 = w_at + min(first_channel + 5u, last) * pitch;
    let row6 = w_at + min(first_channel + 6u, last) * pitch;
    let row7 = w_at + min(first_channel + 7u, last) * pitch;
    let row8 = w_at + min(first_channel + 8u, last) * pitch;
    let row9 = w_at + min(first_channel + 9u, last) * pitch;
    let row10 = w_at + min(first_channel + 10u, last) * pitch;
    let row11 = w_at + min(first_channel + 11u, last) * pitch;
    let row12 = w_at + min(first_channel + 12u, last) * pitch;
    let row13 = w_at + min(first_channel + 13u, last) * pitch;
    let row14 = w_at + min(first_channel + 14u, last) * pitch;
    let row15 = w_at + min(first_channel + 15u, last) * pitch;
    var acc0_0 = 0.0; var acc0_1 = 0.0; var acc0_2 = 0.0; var acc0_3 = 0.0;
    var acc0_4 = 0.0; var acc0_5 = 0.0; var acc0_6 = 0.0; var acc0_7 = 0.0;
    var acc1_0 = 0.0; var acc1_1 = 0.0; var acc1_2 = 0.0; var acc1_3 = 0.0;
    var acc1_4 = 0.0; var acc1_5 = 0.0; var acc1_6 = 0.0; var acc1_7 = 0.0;
    var acc2_0 = 0.0; var acc2_1 = 0.0; var acc2_2 = 0.0; var acc2_3 = 0.0;
    var acc2_4 = 0.0; var acc2_5 = 0.0; var acc2_6 = 0.0; var acc2_7 = 0.0;
    var acc3_0 = 0.0; var acc3_1 = 0.0; var acc3_2 = 0.0; var acc3_3 = 0.0;
    var acc3_4 = 0.0; var acc3_5 = 0.0; var acc3_6 = 0.0; var acc3_7 = 0.0;
    var acc4_0 = 0.0; var acc4_1 = 0.0; var acc4_2 = 0.0; var acc4_3 = 0.0;
    var acc4_4 = 0.0; var acc4_5 = 0.0; var acc4_6 = 0.0; var acc4_7 = 0.0;
    var acc5_0 = 0.0; var acc5_1 = 0.0; var acc5_2 = 0.0; var acc5_3 = 0.0;
    var acc5_4 = 0.0; var acc5_5 = 0.0; var acc5_6 = 0.0; var acc5_7 = 0.0;
    var acc6_0 = 0.0; var acc6_1 = 0.0; var acc6_2 = 0.0; var acc6_3 = 0.0;
    var acc6_4 = 0.0; var acc6_5 = 0.0; var acc6_6 = 0.0; var acc6_7 = 0.0;
    var acc7_0 = 0.0; var acc7_1 = 0.0; var acc7_2 = 0.0; var acc7_3 = 0.0;
    var acc7_4 = 0.0; var acc7_5 = 0.0; var acc7_6 = 0.0; var acc7_7 = 0.0;
    var acc8_0 = 0.0; var acc8_1 = 0.0; var acc8_2 = 0.0; var acc8_3 = 0.0;
    var acc8_4 = 0.0; var acc8_5 = 0.0; var acc8_6 = 0.0; var acc8_7 = 0.0;
    var acc9_0 = 0.0; var acc9_1 = 0.0; var acc9_2 = 0.0; var acc9_3 = 0.0;
    var acc9_4 = 0.0; var acc9_5 = 0.0; var acc9_6 = 0.0; var acc9_7 = 0.0;
    var acc10_0 = 0.0; var acc10_1 = 0.0; var acc10_2 = 0.0; var acc10_3 = 0.0;
    var acc10_4 = 0.0; var acc10_5 = 0.0; var acc10_6 = 0.0; var acc10_7 = 0.0;
    var acc11_0 = 0.0; var acc11_1 = 0.0; var acc11_2 = 0.0; var acc11_3 = 0.0;
    var acc11_4 = 0.0; var acc11_5 = 0.0; var acc11_6 = 0.0; var acc11_7 = 0.0;
    var acc12_0 = 0.0; var acc12_1 = 0.0; var acc12_2 = 0.0; var acc12_3 = 0.0;
    var acc12_4 = 0.0; var acc12_5 = 0.0; var acc12_6 = 0.0; var acc12_7 = 0.0;
    var acc13_0 = 0.0; var acc13_1 = 0.0; var acc13_2 = 0.0; var acc13_3 = 0.0;
    var acc13_4 = 0.0; var acc13_5 = 0.0; var acc13_6 = 0.0; var acc13_7 = 0.0;
    var acc14_0 = 0.0; var acc14_1 = 0.0; var acc14_2 = 0.0; var acc14_3 = 0.0;
    var acc14_4 = 0.0; var acc14_5 = 0.0; var acc14_6 = 0.0; var acc14_7 = 0.0;
    var acc15_0 = 0.0; var acc15_1 = 0.0; var acc15_2 = 0.0; var acc15_3 = 0.0;
    var acc15_4 = 0.0; var acc15_5 = 0.0; var acc15_6 = 0.0; var acc15_7 = 0.0;
    var at = 0u;
    for (var ky = 0u; ky < p.kernel_h; ky++) {
        for (var kx = 0u; kx < p.kernel_w; kx++) {
            let tap0 = tap_at(pixel0, ky, kx);
            let tap1 = tap_at(pixel1, ky, kx);
            let tap2 = tap_at(pixel2, ky, kx);
            let tap3 = tap_at(pixel3, ky, kx);
            let tap4 = tap_at(pixel4, ky, kx);
            let tap5 = tap_at(pixel5, ky, kx);
            let tap6 = tap_at(pixel6, ky, kx);
            let tap7 = tap_at(pixel7, ky, kx);
            for (var quad = 0u; quad < p.quads; quad++) {
                let x0 = fetch_x(Tap(tap0.at + group_at, tap0.inside), quad * 4u);
                let x1 = fetch_x(Tap(tap1.at + group_at, tap1.inside), quad * 4u);
                let x2 = fetch_x(Tap(tap2.at + group_at, tap2.inside), quad * 4u);
                let x3 = fetch_x(Tap(tap3.at + group_at, tap3.inside), quad * 4u);
                let x4 = fetch_x(Tap(tap4.at + group_at, tap4.inside), quad * 4u);
                let x5 = fetch_x(Tap(tap5.at + group_at, tap5.inside), quad * 4u);
                let x6 = fetch_x(Tap(tap6.at + group_at, tap6.inside), quad * 4u);
                let x7 = fetch_x(Tap(tap7.at + group_at, tap7.inside), quad * 4u);
                let w0 = vec4<f32>(w[row0 + at]);
                acc0_0 = dot_add(x0, w0, acc0_0);
                acc0_1 = dot_add(x1, w0, acc0_1);
                acc0_2 = dot_add(x2, w0, acc0_2);
                acc0_3 = dot_add(x3, w0, acc0_3);
                acc0_4 = dot_add(x4, w0, acc0_4);
                acc0_5 = dot_add(x5, w0, acc0_5);
                acc0_6 = dot_add(x6, w0, acc0_6);
                acc0_7 = dot_add(x7, w0, acc0_7);
                let w1 = vec4<f32>(w[row1 + at]);
                acc1_0 = dot_add(x0, w1, acc1_0);
                acc1_1 = dot_add(x1, w1, acc1_1);
                acc1_2 = dot_add(x2, w1, acc1_2);
                acc1_3 = dot_add(x3, w1, acc1_3);
                acc1_4 = dot_add(x4, w1, acc1_4);
                acc1_5 = dot_add(x5, w1, acc1_5);
                acc1_6 = dot_add(x6, w1, acc1_6);
                acc1_7 = dot_add(x7, w1, acc1_7);
                let w2 = vec4<f32>(w[row2 + at]);
                acc2_0 = dot_add(x0, w2, acc2_0);
                acc2_1 = dot_add(x1, w2, acc2_1);
                acc2_2 = dot_add(x2, w2, acc2_2);
                acc2_3 = dot_add(x3, w2, acc2_3);
                acc2_4 = dot_add(x4, w2, acc2_4);
                acc2_5 = dot_add(x5, w2, acc2_5);
                acc2_6 = dot_add(x6, w2, acc2_6);
                acc2_7 = dot_add(x7, w2, acc2_7);
                let w3 = vec4<f32>(w[row3 + at]);
                acc3_0 = dot_add(x0, w3, acc3_0);
                acc3_1 = dot_add(x1, w3, acc3_1);
                acc3_2 = dot_add(x2, w3, acc3_2);
                acc3_3 = dot_add(x3, w3, acc3_3);
                acc3_4 = dot_add(x4, w3, acc3_4);
                acc3_5 = dot_add(x5, w3, acc3_5);
                acc3_6 = dot_add(x6, w3, acc3_6);
                acc3_7 = dot_add(x7, w3, acc3_7);
                let w4 = vec4<f32>(w[row4 + at]);
                acc4_0 = dot_add(x0, w4, acc4_0);
                acc4_1 = dot_add(x1, w4, acc4_1);
                acc4_2 = dot_add(x2, w4, acc4_2);
                acc4_3 = dot_add(x3, w4, acc4_3);
                acc4_4 = dot_add(x4, w4, acc4_4);
                acc4_5 = dot_add(x5, w4, acc4_5);
                acc4_6 = dot_add(x6, w4, acc4_6);
                acc4_7 = dot_add(x7, w4, acc4_7);
                let w5 = vec4<f32>(w[row5 + at]);
                acc5_0 = dot_add(x0, w5, acc5_0);
                acc5_1 = dot_add(x1, w5, acc5_1);
                acc5_2 = dot_add(x2, w5, acc5_2);
                acc5_3 = dot_add(x3, w5, acc5_3);
                acc5_4 = dot_add(x4, w5, acc5_4);
                acc5_5 = dot_add(x5, w5, acc5_5);
                acc5_6 = dot_add(x6, w5, acc5_6);
                acc5_7 = dot_add(x7, w5, acc5_7);
                let w6 = vec4<f32>(w[row6 + at]);
                acc6_0 = dot_add(x0, w6, acc6_0);
                acc6_1 = dot_add(x1, w6, acc6_1);
                acc6_2 = dot_add(x2, w6, acc6_2);
                acc6_3 = dot_add(x3, w6, acc6_3);
                acc6_4 = dot_add(x4, w6, acc6_4);
                acc6_5 = dot_add(x5, w6, acc6_5);
                acc6_6 = dot_add(x6, w6, acc6_6);
                acc6_7 = dot_add(x7, w6, acc6_7);
                let w7 = vec4<f32>(w[row7 + at]);
                acc7_0 = dot_add(x0, w7, acc7_0);
                acc7_1 = dot_add(x1, w7, acc7_1);
                acc7_2 = dot_add(x2, w7, acc7_2);
                acc7_3 = dot_add(x3, w7, acc7_3);
                acc7_4 = dot_add(x4, w7, acc7_4);
                acc7_5 = dot_add(x5, w7, acc7_5);
                acc7_6 = dot_add(x6, w7, acc7_6);
                acc7_7 = dot_add(x7, w7, acc7_7);
                let w8 = vec4<f32>(w[row8 + at]);
                acc8_0 = dot_add(x0, w8, acc8_0);
                acc8_1 = dot_add(x1, w8, acc8_1);
                acc8_2 = dot_add(x2, w8, acc8_2);
                acc8_3 = dot_add(x3, w8, acc8_3);
                acc8_4 = dot_add(x4, w8, acc8_4);
                acc8_5 = dot_add(x5, w8, acc8_5);
                acc8_6 = dot_add(x6, w8, acc8_6);
                acc8_7 = dot_add(x7, w8, acc8_7);
                let w9 = vec4<f32>(w[row9 + at]);
                acc9_0 = dot_add(x0, w9, acc9_0);
                acc9_1 = dot_add(x1, w9, acc9_1);
                acc9_2 = dot_add(x2, w9, acc9_2);
                acc9_3 = dot_add(x3, w9, acc9_3);
                acc9_4 = dot_add(x4, w9, acc9_4);
                acc9_5 = dot_add(x5, w9, acc9_5);
                acc9_6 = dot_add(x6, w9, acc9_6);
                acc9_7 = dot_add(x7, w9, acc9_7);
                let w10 = vec4<f32>(w[row10 + at]);
                acc10_0 = dot_add(x0, w10, acc10_0);
                acc10_1 = dot_add(x1, w10, acc10_1);
                acc10_2 = dot_add(x2, w10, acc10_2);
                acc10_3 = dot_add(x3, w10, acc10_3);
                acc10_4 = dot_add(x4, w10, acc10_4);
                acc10_5 = dot_add(x5, w10, acc10_5);
                acc10_6 = dot_add(x6, w10, acc10_6);
                acc10_7 = dot_add(x7, w10, acc10_7);
                let w11 = vec4<f32>(w[row11 + at]);
                acc11_0 = dot_add(x0, w11, acc11_0);
                acc11_1 = dot_add(x1, w11, acc11_1);
                acc11_2 = dot_add(x2, w11, acc11_2);
                acc11_3 = dot_add(x3, w11, acc11_3);
                acc11_4 = dot_add(x4, w11, acc11_4);
                acc11_5 = dot_add(x5, w11, acc11_5);
                acc11_6 = dot_add(x6, w11, acc11_6);
                acc11_7 = dot_add(x7, w11, acc11_7);
                let w12 = vec4<f32>(w[row12 + at]);
                acc12_0 = dot_add(x0, w12, acc12_0);
                acc12_1 = dot_add(x1, w12, acc12_1);
                acc12_2 = dot_add(x2, w12, acc12_2);
                acc12_3 = dot_add(x3, w12, acc12_3);
                acc12_4 = dot_add(x4, w12, acc12_4);
                acc12_5 = dot_add(x5, w12, acc12_5);
                acc12_6 = dot_add(x6, w12, acc12_6);
                acc12_7 = dot_add(x7, w12, acc12_7);
                let w13 = vec4<f32>(w[row13 + at]);
                acc13_0 = dot_add(x0, w13, acc13_0);
                acc13_1 = dot_add(x1, w13, acc13_1);
                acc13_2 = dot_add(x2, w13, acc13_2);
                acc13_3 = dot_add(x3, w13, acc13_3);
                acc13_4 = dot_add(x4, w13, acc13_4);
                acc13_5 = dot_add(x5, w13, acc13_5);
                acc13_6 = dot_add(x6, w13, acc13_6);
                acc13_7 = dot_add(x7, w13, acc13_7);
                let w14 = vec4<f32>(w[row14 + at]);
                acc14_0 = dot_add(x0, w14, acc14_0);
                acc14_1 = dot_add(x1, w14, acc14_1);
                acc14_2 = dot_add(x2, w14, acc14_2);
                acc14_3 = dot_add(x3, w14, acc14_3);
                acc14_4 = dot_add(x4, w14, acc14_4);
                acc14_5 = dot_add(x5, w14, acc14_5);
                acc14_6 = dot_add(x6, w14, acc14_6);
                acc14_7 = dot_add(x7, w14, acc14_7);
                let w15 = vec4<f32>(w[row15 + at]);
                acc15_0 = dot_add(x0, w15, acc15_0);
                acc15_1 = dot_add(x1, w15, acc15_1);
                acc15_2 = dot_add(x2, w15, acc15_2);
                acc15_3 = dot_add(x3, w15, acc15_3);
                acc15_4 = dot_add(x4, w15, acc15_4);
                acc15_5 = dot_add(x5, w15, acc15_5);
                acc15_6 = dot_add(x6, w15, acc15_6);
                acc15_7 = dot_add(x7, w15, acc15_7);
                at += 1u;
            }
        }
    }

    var sums: array<f32, 128>;
    sums[0] = acc0_0;
    sums[1] = acc1_0;
    sums[2] = acc2_0;
    sums[3] = acc3_0;
    sums[4] = acc4_0;
    sums[5] = acc5_0;
    sums[6] = acc6_0;
    sums[7] = acc7_0;
    sums[8] = acc8_0;
    sums[9] = acc9_0;
    sums[10] = acc10_0;
    sums[11] = acc11_0;
    sums[12] = acc12_0;
    sums[13] = acc13_0;
    sums[14] = acc14_0;
    sums[15] = acc15_0;
    sums[16] = acc0_1;
    sums[17] = acc1_1;
    sums[18] = acc2_1;
    sums[19] = acc3_1;
    sums[20] = acc4_1;
    sums[21] = acc5_1;
    sums[22] = acc6_1;
    sums[23] = acc7_1;
    sums[24] = acc8_1;
    sums[25] = acc9_1;
    sums[26] = acc10_1;
    sums[27] = acc11_1;
    sums[28] = acc12_1;
    sums[29] = acc13_1;
    sums[30] = acc14_1;
    sums[31] = acc15_1;
    sums[32] = acc0_2;
    sums[33] = acc1_2;
    sums[34] = acc2_2;
    sums[35] = acc3_2;
    sums[36] = acc4_2;
    sums[37] = acc5_2;
    sums[38] = acc6_2;
    sums[39] = acc7_2;
    sums[40] = acc8_2;
    sums[41] = acc9_2;
    sums[42] = acc10_2;
    sums[43] = acc11_2;
    sums[44] = acc12_2;
    sums[45] = acc13_2;
    sums[46] = acc14_2;
    sums[47] = acc15_2;
    sums[48] = acc0_3;
    sums[49] = acc1_3;
    sums[50] = acc2_3;
    sums[51] = acc3_3;
    sums[52] = acc4_3;
    sums[53] = acc5_3;
    sums[54] = acc6_3;
    sums[55] = acc7_3;
    sums[56] = acc8_3;
    sums[57] = acc9_3;
    sums[58] = acc10_3;
    sums[59] = acc11_3;
    sums[60] = acc12_3;
    sums[61] = acc13_3;
    sums[62] = acc14_3;
    sums[63] = acc15_3;
    sums[64] = acc0_4;
    sums[65] = acc1_4;
    sums[66] = acc2_4;
    sums[67] = acc3_4;
    sums[68] = acc4_4;
    sums[69] = acc5_4;
    sums[70] = acc6_4;
    sums[71] = acc7_4;
    sums[72] = acc8_4;
    sums[73] = acc9_4;
    sums[74] = acc10_4;
    sums[75] = acc11_4;
    sums[76] = acc12_4;
    sums[77] = acc13_4;
    sums[78] = acc14_4;
    sums[79] = acc15_4;
    sums[80] = acc0_5;
    sums[81] = acc1_5;
    sums[82] = acc2_5;
    sums[83] = acc3_5;
    sums[84] = acc4_5;
    sums[85] = acc5_5;
    sums[86] = acc6_5;
    sums[87] = acc7_5;
    sums[88] = acc8_5;
    sums[89] = acc9_5;
    sums[90] = acc10_5;
    sums[91] = acc11_5;
    sums[92] = acc12_5;
    sums[93] = acc13_5;
    sums[94] = acc14_5;
    sums[95] = acc15_5;
    sums[96] = acc0_6;
    sums[97] = acc1_6;
    sums[98] = acc2_6;
    sums[99] = acc3_6;
    sums[100] = acc4_6;
    sums[101] = acc5_6;
    sums[102] = acc6_6;
    sums[103] = acc7_6;
    sums[104] = acc8_6;
    sums[105] = acc9_6;
    sums[106] = acc10_6;
    sums[107] = acc11_6;
    sums[108] = acc12_6;
    sums[109] = acc13_6;
    sums[110] = acc14_6;
    sums[111] = acc15_6;
    sums[112] = acc0_7;
    sums[113] = acc1_7;
    sums[114] = acc2_7;
    sums[115] = acc3_7;
    sums[116] = acc4_7;
    sums[117] = acc5_7;
    sums[118] = acc6_7;
    sums[119] = acc7_7;
    sums[120] = acc8_7;
    sums[121] = acc9_7;
    sums[122] = acc10_7;
    sums[123] = acc11_7;
    sums[124] = acc12_7;
    sums[125] = acc13_7;
    sums[126] = acc14_7;
    sums[127] = acc15_7;
    for (var i = 0u; i < 128u; i++) {
        let pixel = first_pixel + i / 16u * 8u;
        let channel = first_channel + i % 16u;
        if (pixel < p.pixels && channel <= last) {
            finish(pixel, p.first + group * p.channels + channel, sums[i]);
        }
    }
}
