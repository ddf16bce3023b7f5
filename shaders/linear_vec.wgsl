// A linear layer of at most 8 rows: bound by the reading of the weight, which every workgroup reads once for all rows.
// 32 threads share an output channel, each taking every 32nd quad of the sum; a workgroup makes 2 channels. Four quads of
// the weight are under way at once, without which a GPU's memory would wait for its threads.
// The weight is [channel][k padded to 4].

// What the buffers hold: f32, or f16 in half precision. Sums are f32.
alias S = f32;
alias V = vec4<S>;
// The element type of x: V where the channels are a multiple of 4, else S.
alias X = V;
alias T = f32;

struct Params {
    k: u32,
    // Output channels that this dispatch makes, the first of them, and the pitch of the output's rows.
    channels: u32,
    first: u32,
    n: u32,
    // Workgroups along x; the grid is folded into y.
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

override ROWS: u32 = 8u;
// 1 when X is V.
override WIDE: u32 = 1u;

@group(0) @binding(0) var<storage, read> x: array<X>;
@group(0) @binding(1) var<storage, read> w: array<V>;
@group(0) @binding(2) var<storage, read> bias: array<S>;
@group(0) @binding(3) var<storage, read> residual: array<S>;
@group(0) @binding(4) var<storage, read_write> y: array<S>;
var<immediate> p: Params;

// The threads' sums by row.
var<workgroup> partial: array<f32, 512>;

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

fn fetch_x(row: u32, quad: u32) -> vec4<f32> {
    return load_x(p.x_at + row * p.k + quad * 4u, p.k - quad * 4u);
}

// A row's sum with every 32nd quad from `quad` on, of four.
fn four_quads(row: u32, quad: u32, w0: V, w1: V, w2: V, w3: V, sum: f32) -> f32 {
    let x0 = fetch_x(row, quad);
    let x1 = fetch_x(row, quad + 32u);
    let x2 = fetch_x(row, quad + 64u);
    let x3 = fetch_x(row, quad + 96u);
    let first = dot_add(x1, vec4<f32>(w1), dot_add(x0, vec4<f32>(w0), sum));
    return dot_add(x3, vec4<f32>(w3), dot_add(x2, vec4<f32>(w2), first));
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group_id: vec3<u32>, @builtin(local_invocation_index) t: u32) {
    let quads = (p.k + 3u) / 4u;
    let first_channel = (group_id.y * p.fold + group_id.x) * 2u;
    let channel = min(first_channel + t / 32u, p.channels - 1u);
    let row_at = p.w_at + channel * quads;
    var sum0 = 0.0;
    var sum1 = 0.0;
    var sum2 = 0.0;
    var sum3 = 0.0;
    var sum4 = 0.0;
    var sum5 = 0.0;
    var sum6 = 0.0;
    var sum7 = 0.0;
    var quad = t % 32u;
    for (; quad + 96u < quads; quad += 128u) {
        let w0 = w[row_at + quad];
        let w1 = w[row_at + quad + 32u];
        let w2 = w[row_at + quad + 64u];
        let w3 = w[row_at + quad + 96u];
        sum0 = four_quads(0u, quad, w0, w1, w2, w3, sum0);
        if (ROWS > 1u) {
            sum1 = four_quads(1u, quad, w0, w1, w2, w3, sum1);
        }
        if (ROWS > 2u) {
            sum2 = four_quads(2u, quad, w0, w1, w2, w3, sum2);
        }
        if (ROWS > 3u) {
            sum3 = four_quads(3u, quad, w0, w1, w2, w3, sum3);
        }
        if (ROWS > 4u) {
            sum4 = four_quads(4u, quad, w0, w1, w2, w3, sum4);
        }
        if (ROWS > 5u) {
            sum5 = four_quads(5u, quad, w0, w1, w2, w3, sum5);
        }
        if (ROWS > 6u) {
            sum6 = four_quads(6u, quad, w0, w1, w2, w3, sum6);
        }
        if (ROWS > 7u) {
            sum7 = four_quads(7u, quad, w0, w1, w2, w3, sum7);
        }
    }
    for (; quad < quads; quad += 32u) {
        let weight = vec4<f32>(w[row_at + quad]);
        sum0 = dot_add(fetch_x(0u, quad), weight, sum0);
        if (ROWS > 1u) {
            sum1 = dot_add(fetch_x(1u, quad), weight, sum1);
        }
        if (ROWS > 2u) {
            sum2 = dot_add(fetch_x(2u, quad), weight, sum2);
        }
        if (ROWS > 3u) {
            sum3 = dot_add(fetch_x(3u, quad), weight, sum3);
        }
        if (ROWS > 4u) {
            sum4 = dot_add(fetch_x(4u, quad), weight, sum4);
        }
        if (ROWS > 5u) {
            sum5 = dot_add(fetch_x(5u, quad), weight, sum5);
        }
        if (ROWS > 6u) {
            sum6 = dot_add(fetch_x(6u, quad), weight, sum6);
        }
        if (ROWS > 7u) {
            sum7 = dot_add(fetch_x(7u, quad), weight, sum7);
        }
    }
    partial[t] = sum0;
    if (ROWS > 1u) {
        partial[64u + t] = sum1;
    }
    if (ROWS > 2u) {
        partial[128u + t] = sum2;
    }
    if (ROWS > 3u) {
        partial[192u + t] = sum3;
    }
    if (ROWS > 4u) {
        partial[256u + t] = sum4;
    }
    if (ROWS > 5u) {
        partial[320u + t] = sum5;
    }
    if (ROWS > 6u) {
        partial[384u + t] = sum6;
    }
    if (ROWS > 7u) {
        partial[448u + t] = sum7;
    }
    workgroupBarrier();
    let own = first_channel + (t & 1u);
    let row = t >> 1u;
    if (row >= ROWS || own >= p.channels) {
        return;
    }
    var v = 0.0;
    for (var i = 0u; i < 32u; i++) {
        v += partial[row * 64u + (t & 1u) * 32u + i];
    }
    let at = row * p.n + p.first + own;
    if (p.bias == 1u) {
        v += f32(bias[p.bias_at + p.first + own]);
    }
    if (p.residual == 1u) {
        v += f32(residual[p.residual_at + at]);
    }
    v = unary(p.act, p.act_a, p.act_b, v);
    if (p.residual == 2u) {
        v += f32(residual[p.residual_at + at]);
    }
    y[p.y_at + at] = S(v);
}
