// A convolution over NHWC images, or a linear layer (an image of one row), as one matrix product on tiles that go
// through workgroup memory: output pixels times output channels, summed over the quads of every tap's channels. Where
// the tiles are too few to fill a GPU, several workgroups share the sum of one; the last to come finishes the layer.
//
// The weight is [channel][tap][c_in / groups padded to 4]. A workgroup makes TM pixels times TN channels of one group
// with TM * TN / 16 threads of 4 x 4, or 256 threads of 8 x 8 where the tile is 128 x 128; both edges are guarded.

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
    // The quads of the sum that a workgroup takes when the sum is split; a multiple of 4.
    split_quads: u32,
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
// Where parts of sums meet: 0 where nobody waits, as it is before a dispatch and after it.
@group(0) @binding(5) var<storage, read_write> slots: array<atomic<u32>>;
var<immediate> p: Params;

// a . b + c
fn dot_add(a: vec4<f32>, b: vec4<f32>, c: f32) -> f32 {
    return fma(a.w, b.w, fma(a.z, b.z, fma(a.y, b.y, fma(a.x, b.x, c))));
}

fn dot_add4(a: vec4<f32>, b0: vec4<f32>, b1: vec4<f32>, b2: vec4<f32>, b3: vec4<f32>, c: vec4<f32>) -> vec4<f32> {
    return vec4<f32>(dot_add(a, b0, c.x), dot_add(a, b1, c.y), dot_add(a, b2, c.z), dot_add(a, b3, c.w));
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

// The tile's shape; multiples of 4 whose TM * TN / 16 is a multiple of 4, and 64 at most each; or 128 x 128.
override TM: u32 = 64u;
override TN: u32 = 64u;
override THREADS: u32 = 256u;
// The quads of the sum at a step: 4, or 2 in the large tile, which has the same room for twice the rows.
override QUADS: u32 = 4u;
// 1 when z counts parts of the sum.
override SPLIT: u32 = 0u;

// Quads by [quad of the step][row], the pitch chosen so that neighbours write to different banks.
override PITCH: u32 = 264u / QUADS - 2u * (4u / QUADS - 1u);
var<workgroup> tile_x: array<vec4<f32>, 264>;
var<workgroup> tile_w: array<vec4<f32>, 264>;

// A pixel's place in the image: the row and column that tap (0, 0) reads (less than 0 in the padding), and its image.
struct Pixel {
    y: i32,
    x: i32,
    image: u32,
}

fn pixel_at(m: u32) -> Pixel {
    if (m >= p.pixels) {
        return Pixel(-2147483647, 0, 0u);
    }
    let row = m / p.out_w;
    let image = row / p.out_h;
    let oy = row - image * p.out_h;
    let ox = m - row * p.out_w;
    return Pixel(i32(oy * p.stride_h) - i32(p.pad_h), i32(ox * p.stride_w) - i32(p.pad_w), image * p.in_h);
}

// Where a thread stands in the sum: the quad of channels, the tap's column and row.
struct Place {
    quad: u32,
    kx: u32,
    ky: u32,
}

// The place whose quad has gone on beyond a tap's channels.
fn carry(start: Place) -> Place {
    var at = start;
    while (at.quad >= p.quads && at.ky < p.kernel_h) {
        at.quad -= p.quads;
        at.kx += 1u;
        if (at.kx == p.kernel_w) {
            at.kx = 0u;
            at.ky += 1u;
        }
    }
    return at;
}

// Where a tap reads nothing but padding.
const NOWHERE = 0xffffffffu;

// Where the channels are that a pixel's tap reads. This changes with the tap alone, not with every step.
fn tap_at(pixel: Pixel, at: Place, group_at: u32) -> u32 {
    let iy = u32(pixel.y + i32(at.ky * p.dilation_h));
    let ix = u32(pixel.x + i32(at.kx * p.dilation_w));
    let is_there = (at.ky < p.kernel_h) & (iy < p.in_h) & (ix < p.in_w);
    return select(NOWHERE, ((pixel.image + iy) * p.in_w + ix) * p.c_in + group_at, is_there);
}

// Four channels of a tap from a quad on, or others where there are none. Loads have no condition and their values are not
// looked at here, so that they are under way while the step before is summed.
fn fetch_x(tap: u32, quad: u32) -> V {
    let at = select(tap + quad * 4u, p.x_at, tap == NOWHERE);
    if (WIDE == 1u) {
        return V(x[at >> 2u]);
    }
    let last = select(p.group_in - quad * 4u - 1u, 0u, tap == NOWHERE);
    let x1 = V(x[at + min(1u, last)]).x;
    let x2 = V(x[at + min(2u, last)]).x;
    let x3 = V(x[at + min(3u, last)]).x;
    return V(V(x[at]).x, x1, x2, x3);
}

// What was fetched, with zeros for what there is not.
fn only_x(four: V, tap: u32, quad: u32) -> V {
    if (WIDE == 1u) {
        return select(four, V(), tap == NOWHERE);
    }
    let channels = vec4<u32>(quad * 4u) + vec4<u32>(0u, 1u, 2u, 3u);
    return select(V(), four, (channels < vec4<u32>(p.group_in)) & vec4<bool>(tap != NOWHERE));
}

// A quad of a row of the weight, or another one past the row's end.
fn fetch_w(row_at: u32, at: u32, end: u32) -> V {
    return w[select(p.w_at, row_at + at, at < end)];
}

fn only_w(four: V, at: u32, end: u32) -> V {
    return select(V(), four, at < end);
}

// What a slot holds is a sum's bits in exclusive or with these: a NaN that no operation makes, so that none leaves a 0.
const NOBODY = 0x7fa5a5a5u;

fn bits_of(lanes: vec4<bool>) -> u32 {
    return u32(lanes.x) | (u32(lanes.y) << 1u) | (u32(lanes.z) << 2u) | (u32(lanes.w) << 3u);
}

// Puts sums into slots `at`, and gives what was there. Only those whose bit is set in `live` count.
fn swap(at: vec4<u32>, live: u32, sums: vec4<f32>) -> vec4<u32> {
    let bits = bitcast<vec4<u32>>(sums);
    let mine = select(bits ^ vec4<u32>(NOBODY), vec4<u32>(1u), bits == vec4<u32>(NOBODY));
    var other = vec4<u32>();
    if ((live & 1u) != 0u) { other.x = atomicExchange(&slots[at.x], mine.x); }
    if ((live & 2u) != 0u) { other.y = atomicExchange(&slots[at.y], mine.y); }
    if ((live & 4u) != 0u) { other.z = atomicExchange(&slots[at.z], mine.z); }
    if ((live & 8u) != 0u) { other.w = atomicExchange(&slots[at.w], mine.w); }
    return other;
}

// Empties the slots `at` that held something, and gives the bits of these.
fn clear(at: vec4<u32>, other: vec4<u32>) -> u32 {
    if (other.x != 0u) { atomicStore(&slots[at.x], 0u); }
    if (other.y != 0u) { atomicStore(&slots[at.y], 0u); }
    if (other.z != 0u) { atomicStore(&slots[at.z], 0u); }
    if (other.w != 0u) { atomicStore(&slots[at.w], 0u); }
    return bits_of(other != vec4<u32>());
}

// The sums with those of the others where there are any.
fn joined(sums: vec4<f32>, other: vec4<u32>) -> vec4<f32> {
    return select(sums, sums + bitcast<vec4<f32>>(other ^ vec4<u32>(NOBODY)), other != vec4<u32>());
}

// Stores the sum of a pixel and one of a group's channels, if the layer has them.
fn store(pixel: u32, channel: u32, group: u32, sum: f32) {
    if (pixel < p.pixels && channel < p.channels) {
        finish(pixel, p.first + group * p.channels + channel, sum);
    }
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group_id: vec3<u32>, @builtin(local_invocation_index) t: u32) {
    let group = group_id.y / p.tiles;
    let first_channel = (group_id.y - group * p.tiles) * TN;
    let first_pixel = (select(group_id.z, 0u, SPLIT == 1u) * p.fold + group_id.x) * TM;
    let group_at = p.x_at + group * p.group_in;
    let quads = p.kernel_h * p.kernel_w * p.quads;
    let start = select(0u, group_id.z * p.split_quads, SPLIT == 1u);
    let end = select(quads, min(quads, start + p.split_quads), SPLIT == 1u);

    // Each thread loads one quad of one row, or of two rows where the threads are half as many.
    let load_quad = t % QUADS;
    let load_row = t / QUADS;
    let rows = THREADS / QUADS;
    let pixel0 = pixel_at(first_pixel + load_row);
    let pixel1 = pixel_at(first_pixel + load_row + rows);
    var place = carry(Place(start + load_quad, 0u, 0u));
    var tap0 = tap_at(pixel0, place, group_at);
    var tap1 = tap_at(pixel1, place, group_at);
    let channel0 = first_channel + load_row;
    let w_at0 = p.w_at + (group * p.channels + channel0) * quads;
    let w_at1 = w_at0 + rows * quads;
    // A row that the layer does not have ends before it begins.
    let w_end0 = select(0u, quads, channel0 < p.channels);
    let w_end1 = select(0u, quads, channel0 + rows < p.channels);
    var w_quad = start + load_quad;

    let across = select(TN / 4u, TN / 8u, QUADS == 2u);
    let tx = t % across;
    let ty = t / across;
    var acc0 = vec4<f32>();
    var acc1 = vec4<f32>();
    var acc2 = vec4<f32>();
    var acc3 = vec4<f32>();
    // Of the large tile: rows 0 to 7 by channels 0 to 3, then by channels 4 to 7.
    var acc4 = vec4<f32>();
    var acc5 = vec4<f32>();
    var acc6 = vec4<f32>();
    var acc7 = vec4<f32>();
    var acc8 = vec4<f32>();
    var acc9 = vec4<f32>();
    var acc10 = vec4<f32>();
    var acc11 = vec4<f32>();
    var acc12 = vec4<f32>();
    var acc13 = vec4<f32>();
    var acc14 = vec4<f32>();
    var acc15 = vec4<f32>();

    var x0 = fetch_x(tap0, place.quad);
    var x1 = V();
    if (rows < TM) {
        x1 = fetch_x(tap1, place.quad);
    }
    var w0 = fetch_w(w_at0, w_quad, w_end0);
    var w1 = V();
    if (rows < TN) {
        w1 = fetch_w(w_at1, w_quad, w_end1);
    }
    for (var step = start; step < end; step += QUADS) {
        tile_x[load_quad * PITCH + load_row] = vec4<f32>(only_x(x0, tap0, place.quad));
        tile_w[load_quad * PITCH + load_row] = vec4<f32>(only_w(w0, w_quad, w_end0));
        if (rows < TM) {
            tile_x[load_quad * PITCH + load_row + rows] = vec4<f32>(only_x(x1, tap1, place.quad));
        }
        if (rows < TN) {
            tile_w[load_quad * PITCH + load_row + rows] = vec4<f32>(only_w(w1, w_quad, w_end1));
        }
        workgroupBarrier();
        // The next step's loads are on their way while this one is summed.
        place.quad += QUADS;
        w_quad += QUADS;
        if (place.quad >= p.quads) {
            place = carry(place);
            tap0 = tap_at(pixel0, place, group_at);
            tap1 = tap_at(pixel1, place, group_at);
        }
        x0 = fetch_x(tap0, place.quad);
        w0 = fetch_w(w_at0, w_quad, w_end0);
        if (rows < TM) {
            x1 = fetch_x(tap1, place.quad);
        }
        if (rows < TN) {
            w1 = fetch_w(w_at1, w_quad, w_end1);
        }
        if (QUADS == 2u) {
            let c00 = tile_x[0u * PITCH + ty + 0u];
            let c01 = tile_x[0u * PITCH + ty + 16u];
            let c02 = tile_x[0u * PITCH + ty + 32u];
            let c03 = tile_x[0u * PITCH + ty + 48u];
            let c04 = tile_x[0u * PITCH + ty + 64u];
            let c05 = tile_x[0u * PITCH + ty + 80u];
            let c06 = tile_x[0u * PITCH + ty + 96u];
            let c07 = tile_x[0u * PITCH + ty + 112u];
            let d00 = tile_w[0u * PITCH + tx + 0u];
            let d01 = tile_w[0u * PITCH + tx + 16u];
            let d02 = tile_w[0u * PITCH + tx + 32u];
            let d03 = tile_w[0u * PITCH + tx + 48u];
            let d04 = tile_w[0u * PITCH + tx + 64u];
            let d05 = tile_w[0u * PITCH + tx + 80u];
            let d06 = tile_w[0u * PITCH + tx + 96u];
            let d07 = tile_w[0u * PITCH + tx + 112u];
            acc0 = dot_add4(c00, d00, d01, d02, d03, acc0);
            acc1 = dot_add4(c01, d00, d01, d02, d03, acc1);
            acc2 = dot_add4(c02, d00, d01, d02, d03, acc2);
            acc3 = dot_add4(c03, d00, d01, d02, d03, acc3);
            acc4 = dot_add4(c04, d00, d01, d02, d03, acc4);
            acc5 = dot_add4(c05, d00, d01, d02, d03, acc5);
            acc6 = dot_add4(c06, d00, d01, d02, d03, acc6);
            acc7 = dot_add4(c07, d00, d01, d02, d03, acc7);
            acc8 = dot_add4(c00, d04, d05, d06, d07, acc8);
            acc9 = dot_add4(c01, d04, d05, d06, d07, acc9);
            acc10 = dot_add4(c02, d04, d05, d06, d07, acc10);
            acc11 = dot_add4(c03, d04, d05, d06, d07, acc11);
            acc12 = dot_add4(c04, d04, d05, d06, d07, acc12);
            acc13 = dot_add4(c05, d04, d05, d06, d07, acc13);
            acc14 = dot_add4(c06, d04, d05, d06, d07, acc14);
            acc15 = dot_add4(c07, d04, d05, d06, d07, acc15);
            let c10 = tile_x[1u * PITCH + ty + 0u];
            let c11 = tile_x[1u * PITCH + ty + 16u];
            let c12 = tile_x[1u * PITCH + ty + 32u];
            let c13 = tile_x[1u * PITCH + ty + 48u];
            let c14 = tile_x[1u * PITCH + ty + 64u];
            let c15 = tile_x[1u * PITCH + ty + 80u];
            let c16 = tile_x[1u * PITCH + ty + 96u];
            let c17 = tile_x[1u * PITCH + ty + 112u];
            let d10 = tile_w[1u * PITCH + tx + 0u];
            let d11 = tile_w[1u * PITCH + tx + 16u];
            let d12 = tile_w[1u * PITCH + tx + 32u];
            let d13 = tile_w[1u * PITCH + tx + 48u];
            let d14 = tile_w[1u * PITCH + tx + 64u];
            let d15 = tile_w[1u * PITCH + tx + 80u];
            let d16 = tile_w[1u * PITCH + tx + 96u];
            let d17 = tile_w[1u * PITCH + tx + 112u];
            acc0 = dot_add4(c10, d10, d11, d12, d13, acc0);
            acc1 = dot_add4(c11, d10, d11, d12, d13, acc1);
            acc2 = dot_add4(c12, d10, d11, d12, d13, acc2);
            acc3 = dot_add4(c13, d10, d11, d12, d13, acc3);
            acc4 = dot_add4(c14, d10, d11, d12, d13, acc4);
            acc5 = dot_add4(c15, d10, d11, d12, d13, acc5);
            acc6 = dot_add4(c16, d10, d11, d12, d13, acc6);
            acc7 = dot_add4(c17, d10, d11, d12, d13, acc7);
            acc8 = dot_add4(c10, d14, d15, d16, d17, acc8);
            acc9 = dot_add4(c11, d14, d15, d16, d17, acc9);
            acc10 = dot_add4(c12, d14, d15, d16, d17, acc10);
            acc11 = dot_add4(c13, d14, d15, d16, d17, acc11);
            acc12 = dot_add4(c14, d14, d15, d16, d17, acc12);
            acc13 = dot_add4(c15, d14, d15, d16, d17, acc13);
            acc14 = dot_add4(c16, d14, d15, d16, d17, acc14);
            acc15 = dot_add4(c17, d14, d15, d16, d17, acc15);
        } else {
            let a00 = tile_x[0u * PITCH + ty];
            let a01 = tile_x[0u * PITCH + ty + TM / 4u];
            let a02 = tile_x[0u * PITCH + ty + TM / 2u];
            let a03 = tile_x[0u * PITCH + ty + TM / 4u * 3u];
            let b00 = tile_w[0u * PITCH + tx];
            let b01 = tile_w[0u * PITCH + tx + TN / 4u];
            let b02 = tile_w[0u * PITCH + tx + TN / 2u];
            let b03 = tile_w[0u * PITCH + tx + TN / 4u * 3u];
            acc0 = dot_add4(a00, b00, b01, b02, b03, acc0);
            acc1 = dot_add4(a01, b00, b01, b02, b03, acc1);
            acc2 = dot_add4(a02, b00, b01, b02, b03, acc2);
            acc3 = dot_add4(a03, b00, b01, b02, b03, acc3);
            let a10 = tile_x[1u * PITCH + ty];
            let a11 = tile_x[1u * PITCH + ty + TM / 4u];
            let a12 = tile_x[1u * PITCH + ty + TM / 2u];
            let a13 = tile_x[1u * PITCH + ty + TM / 4u * 3u];
            let b10 = tile_w[1u * PITCH + tx];
            let b11 = tile_w[1u * PITCH + tx + TN / 4u];
            let b12 = tile_w[1u * PITCH + tx + TN / 2u];
            let b13 = tile_w[1u * PITCH + tx + TN / 4u * 3u];
            acc0 = dot_add4(a10, b10, b11, b12, b13, acc0);
            acc1 = dot_add4(a11, b10, b11, b12, b13, acc1);
            acc2 = dot_add4(a12, b10, b11, b12, b13, acc2);
            acc3 = dot_add4(a13, b10, b11, b12, b13, acc3);
            let a20 = tile_x[2u * PITCH + ty];
            let a21 = tile_x[2u * PITCH + ty + TM / 4u];
            let a22 = tile_x[2u * PITCH + ty + TM / 2u];
            let a23 = tile_x[2u * PITCH + ty + TM / 4u * 3u];
            let b20 = tile_w[2u * PITCH + tx];
            let b21 = tile_w[2u * PITCH + tx + TN / 4u];
            let b22 = tile_w[2u * PITCH + tx + TN / 2u];
            let b23 = tile_w[2u * PITCH + tx + TN / 4u * 3u];
            acc0 = dot_add4(a20, b20, b21, b22, b23, acc0);
            acc1 = dot_add4(a21, b20, b21, b22, b23, acc1);
            acc2 = dot_add4(a22, b20, b21, b22, b23, acc2);
            acc3 = dot_add4(a23, b20, b21, b22, b23, acc3);
            let a30 = tile_x[3u * PITCH + ty];
            let a31 = tile_x[3u * PITCH + ty + TM / 4u];
            let a32 = tile_x[3u * PITCH + ty + TM / 2u];
            let a33 = tile_x[3u * PITCH + ty + TM / 4u * 3u];
            let b30 = tile_w[3u * PITCH + tx];
            let b31 = tile_w[3u * PITCH + tx + TN / 4u];
            let b32 = tile_w[3u * PITCH + tx + TN / 2u];
            let b33 = tile_w[3u * PITCH + tx + TN / 4u * 3u];
            acc0 = dot_add4(a30, b30, b31, b32, b33, acc0);
            acc1 = dot_add4(a31, b30, b31, b32, b33, acc1);
            acc2 = dot_add4(a32, b30, b31, b32, b33, acc2);
            acc3 = dot_add4(a33, b30, b31, b32, b33, acc3);
        }
        workgroupBarrier();
    }

    if (QUADS == 2u) {
        var sums = array<vec4<f32>, 16>(
            acc0, acc1, acc2, acc3, acc4, acc5, acc6, acc7,
            acc8, acc9, acc10, acc11, acc12, acc13, acc14, acc15,
        );
        for (var i = 0u; i < 16u; i++) {
            let pixel = first_pixel + ty + (i & 7u) * 16u;
            let channel = first_channel + tx + (i >> 3u) * 64u;
            for (var j = 0u; j < 4u; j++) {
                store(pixel, channel + j * 16u, group, sums[i][j]);
            }
        }
        return;
    }
    // The parts of a sum meet in pairs, and the sums of pairs in pairs again: who comes to a slot first leaves its sum there
    // and is done with it, who comes second goes on with both. Each slot decides for itself, since nothing promises in which
    // order stores to several are seen, and the additions are the same whoever comes first. All sums of a thread are under
    // way at once, because each takes as long as a read of memory.
    var live = 0xffffu;
    if (SPLIT == 1u) {
        let step = vec4<u32>(0u, 1u, 2u, 3u) * (TN / 4u);
        let pixel = first_pixel + ty;
        live = bits_of(vec4<u32>(first_channel + tx) + step < vec4<u32>(p.channels)) * 0x1111u;
        live &= select(0u, 0x000fu, pixel < p.pixels) | select(0u, 0x00f0u, pixel + TM / 4u < p.pixels)
            | select(0u, 0x0f00u, pixel + TM / 2u < p.pixels) | select(0u, 0xf000u, pixel + TM / 4u * 3u < p.pixels);
        var at = step + vec4<u32>(pixel * p.channels + first_channel + tx);
        let row = vec4<u32>(TM / 4u * p.channels);
        var part = group_id.z;
        var count = (quads + p.split_quads - 1u) / p.split_quads;
        while (count > 1u) {
            let pairs = count / 2u;
            if (part / 2u < pairs) {
                let own = at + vec4<u32>(part / 2u * p.pixels * p.channels);
                let other0 = swap(own, live, acc0);
                let other1 = swap(own + row, live >> 4u, acc1);
                let other2 = swap(own + row * 2u, live >> 8u, acc2);
                let other3 = swap(own + row * 3u, live >> 12u, acc3);
                live = clear(own, other0) | (clear(own + row, other1) << 4u)
                    | (clear(own + row * 2u, other2) << 8u) | (clear(own + row * 3u, other3) << 12u);
                acc0 = joined(acc0, other0);
                acc1 = joined(acc1, other1);
                acc2 = joined(acc2, other2);
                acc3 = joined(acc3, other3);
            }
            at += vec4<u32>(pairs * p.pixels * p.channels);
            part /= 2u;
            count -= pairs;
        }
    }
    for (var i = 0u; i < 4u; i++) {
        let pixel = first_pixel + ty + i * (TM / 4u);
        let acc = select(select(acc0, acc1, i == 1u), select(acc2, acc3, i == 3u), i > 1u);
        for (var j = 0u; j < 4u; j++) {
            if (((live >> (i * 4u + j)) & 1u) == 1u) {
                store(pixel, first_channel + tx + j * (TN / 4u), group, acc[j]);
            }
        }
    }
}
