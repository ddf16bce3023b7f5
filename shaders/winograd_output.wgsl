// The end of a 3x3 convolution by Winograd's F(2x2, 3x3): A^T m A of every tile's 16 sums, finished as the layer asks. A
// thread makes the 2 x 2 pixels of a tile, of 4 channels.
//
// An infinity, or a number so large that a difference overflows, makes NaN of what is transformed. It does so in the sums
// of the very pixels that it belongs to: these are computed by the definition.

alias T = vec4<f32>;

struct Params {
    // Threads: tiles * channels; the channels in elements of T.
    count: u32,
    channels: u32,
    out_h: u32,
    out_w: u32,
    // The rows and columns of tiles of an image.
    tiles_h: u32,
    tiles_w: u32,
    // Threads along x; the grid is folded into y.
    row: u32,
    // Where the arguments start in their buffers, in elements of T.
    bias_at: u32,
    residual_at: u32,
    y_at: u32,
    // The image and its weight: sizes, padding, quads of inputs, and where x starts in its buffer, in quads.
    in_h: u32,
    in_w: u32,
    pad_h: u32,
    pad_w: u32,
    quads: u32,
    x_at: u32,
    // What is fused: the activation and its arguments, whether there is a bias, and when the residual is added (0 never,
    // 1 before the activation, 2 after it). These are no constants, so that layers share pipelines.
    act: u32,
    act_a: f32,
    act_b: f32,
    bias: u32,
    residual: u32,
}

// [tile][point][channel]
@group(0) @binding(0) var<storage, read> sums: array<T>;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
// [16 points, then 9 taps][channel][quad of inputs]
@group(0) @binding(2) var<storage, read> w: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> bias: array<T>;
@group(0) @binding(4) var<storage, read> residual: array<T>;
@group(0) @binding(5) var<storage, read_write> y: array<T>;
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
        v += bias[p.bias_at + channel];
    }
    let at = pixel * p.channels + channel;
    if (p.residual == 1u) {
        v += residual[p.residual_at + at];
    }
    v = unary(p.act, p.act_a, p.act_b, v);
    if (p.residual == 2u) {
        v += residual[p.residual_at + at];
    }
    y[p.y_at + at] = v;
}

// The sum of a pixel by the definition.
fn direct(image: u32, row: u32, column: u32, channel: u32) -> T {
    var sum = T();
    for (var tap = 0u; tap < 9u; tap++) {
        // A position above or left of the image wraps around, and is past its end too.
        let top = row + tap / 3u - p.pad_h;
        let left = column + tap % 3u - p.pad_w;
        if (top < p.in_h && left < p.in_w) {
            let from_at = p.x_at + ((image * p.in_h + top) * p.in_w + left) * p.quads;
            let w_at = ((16u + tap) * p.channels + channel) * 4u * p.quads;
            for (var quad = 0u; quad < p.quads; quad++) {
                let v = x[from_at + quad];
                let at = w_at + quad;
                sum += T(
                    dot(v, w[at]),
                    dot(v, w[at + p.quads]),
                    dot(v, w[at + 2u * p.quads]),
                    dot(v, w[at + 3u * p.quads]),
                );
            }
        }
    }
    return sum;
}

// Whether all are finite, by their bits: a comparison may be compiled as if there were nothing else.
fn is_finite(v: T) -> bool {
    let exponent = vec4<u32>(0x7f800000u);
    return all((bitcast<vec4<u32>>(v) & exponent) != exponent);
}

// Finishes a pixel whose transformed sum is `sum`.
fn store(image: u32, row: u32, column: u32, channel: u32, sum: T) {
    var v = sum;
    if (!is_finite(v)) {
        v = direct(image, row, column, channel);
    }
    finish((image * p.out_h + row) * p.out_w + column, channel, v);
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let i = id.y * p.row + id.x;
    if (i >= p.count) {
        return;
    }
    let tile = i / p.channels;
    let channel = i - tile * p.channels;
    let tile_row = tile / p.tiles_w;
    let ox = (tile - tile_row * p.tiles_w) * 2u;
    let image = tile_row / p.tiles_h;
    let oy = (tile_row - image * p.tiles_h) * 2u;
    let at = tile * 16u * p.channels + channel;
    let m00 = sums[at + 0u * p.channels];
    let m10 = sums[at + 4u * p.channels];
    let m20 = sums[at + 8u * p.channels];
    let m30 = sums[at + 12u * p.channels];
    let a00 = m00 + m10 + m20;
    let a10 = m10 - m20 - m30;
    let m01 = sums[at + 1u * p.channels];
    let m11 = sums[at + 5u * p.channels];
    let m21 = sums[at + 9u * p.channels];
    let m31 = sums[at + 13u * p.channels];
    let a01 = m01 + m11 + m21;
    let a11 = m11 - m21 - m31;
    let m02 = sums[at + 2u * p.channels];
    let m12 = sums[at + 6u * p.channels];
    let m22 = sums[at + 10u * p.channels];
    let m32 = sums[at + 14u * p.channels];
    let a02 = m02 + m12 + m22;
    let a12 = m12 - m22 - m32;
    let m03 = sums[at + 3u * p.channels];
    let m13 = sums[at + 7u * p.channels];
    let m23 = sums[at + 11u * p.channels];
    let m33 = sums[at + 15u * p.channels];
    let a03 = m03 + m13 + m23;
    let a13 = m13 - m23 - m33;
    let right = ox + 1u < p.out_w;
    store(image, oy, ox, channel, a00 + a01 + a02);
    if (right) {
        store(image, oy, ox + 1u, channel, a01 - a02 - a03);
    }
    if (oy + 1u < p.out_h) {
        store(image, oy + 1u, ox, channel, a10 + a11 + a12);
        if (right) {
            store(image, oy + 1u, ox + 1u, channel, a11 - a12 - a13);
        }
    }
}
