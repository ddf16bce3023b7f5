// The convolution of `conv2d.wgsl` on matrix units: f16 products, summed in f32, of square matrices that the threads of a
// subgroup hold together. A workgroup of SUBGROUPS_M times SUBGROUPS_N subgroups of 32 threads makes TM pixels times TN
// channels, each subgroup 2 times COLUMNS matrices of them. Both edges are guarded.
//
// The weight is f16, [channel][tap][c_in padded to 4]. Matrices have no elements that a thread could name, so the sums go
// through workgroup memory to be finished.

enable f16;
enable wgpu_cooperative_matrix;

// What the buffers hold: f32, or f16 in half precision.
alias S = f32;
alias V = vec4<S>;
// The element type of x: V where the channels are a multiple of 4, else S.
alias X = V;
alias T = f32;

// The matrices: of 16 rows and columns, or of 8.
alias Left = coop_mat16x16<f16, A>;
alias Right = coop_mat16x16<f16, B>;
alias Sum = coop_mat16x16<f32, C>;
override SIDE: u32 = 16u;
// What workgroup memory is counted in: four numbers, or one where matrices are loaded from single numbers only.
alias Word = vec4<f16>;
override WORD: u32 = 4u;

struct Params {
    // Output pixels (batch * out_h * out_w); output channels that this dispatch makes.
    pixels: u32,
    channels: u32,
    // ceil(c_in / 4).
    quads: u32,
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
    // Pixel tiles along x before they go on in z.
    fold: u32,
    // Where the arguments start in their buffers, in elements (`w_at` in quads).
    x_at: u32,
    w_at: u32,
    bias_at: u32,
    residual_at: u32,
    y_at: u32,
    // The quads of the sum that a workgroup takes when the sum is split; a multiple of a step's.
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
@group(0) @binding(1) var<storage, read> w: array<vec4<f16>>;
@group(0) @binding(2) var<storage, read> bias: array<S>;
@group(0) @binding(3) var<storage, read> residual: array<S>;
@group(0) @binding(4) var<storage, read_write> y: array<S>;
// Where parts of sums meet: 0 where nobody waits, as it is before a dispatch and after it.
@group(0) @binding(5) var<storage, read_write> slots: array<atomic<u32>>;
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

override SUBGROUPS_M: u32 = 4u;
override SUBGROUPS_N: u32 = 2u;
// 4 or 2.
override COLUMNS: u32 = 4u;
override TM: u32 = SUBGROUPS_M * 2u * SIDE;
override TN: u32 = SUBGROUPS_N * COLUMNS * SIDE;
override THREADS: u32 = SUBGROUPS_M * SUBGROUPS_N * 32u;
// The quads of the sum at a step: two matrices.
override QUADS: u32 = SIDE / 2u;
// 1 when z counts parts of the sum, of the small tile alone.
override SPLIT: u32 = 0u;

// By [row][number of the step]; the pitch in numbers keeps neighbouring rows in different banks.
override PITCH: u32 = 2u * SIDE + 8u;
override PITCH_WORDS: u32 = PITCH / WORD;
const TILE = 1280u;
var<workgroup> tile_x: array<Word, TILE>;
var<workgroup> tile_w: array<Word, TILE>;
// A matrix of sums for each subgroup.
var<workgroup> stage: array<f32, 2048>;

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
fn tap_at(pixel: Pixel, at: Place) -> u32 {
    let iy = u32(pixel.y + i32(at.ky * p.dilation_h));
    let ix = u32(pixel.x + i32(at.kx * p.dilation_w));
    let is_there = (at.ky < p.kernel_h) & (iy < p.in_h) & (ix < p.in_w);
    return select(NOWHERE, ((pixel.image + iy) * p.in_w + ix) * p.c_in + p.x_at, is_there);
}

// Four channels of a tap from a quad on, or others where there are none. Loads have no condition and their values are not
// looked at here, so that they are under way while the step before is summed.
fn fetch_x(tap: u32, quad: u32) -> V {
    let at = select(tap + quad * 4u, p.x_at, tap == NOWHERE);
    if (WIDE == 1u) {
        return V(x[at >> 2u]);
    }
    let last = select(p.c_in - quad * 4u - 1u, 0u, tap == NOWHERE);
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
    return select(V(), four, (channels < vec4<u32>(p.c_in)) & vec4<bool>(tap != NOWHERE));
}

// A quad of a row of the weight, or another one past the row's end.
fn fetch_w(row_at: u32, at: u32, end: u32) -> vec4<f16> {
    return w[select(p.w_at, row_at + at, at < end)];
}

fn only_w(four: vec4<f16>, at: u32, end: u32) -> vec4<f16> {
    return select(vec4<f16>(), four, at < end);
}

// Puts a quad of a row into workgroup memory.
fn put_x(row: u32, quad: u32, four: V) {
    let v = vec4<f16>(four);
    tile_x[row * PITCH_WORDS + quad] = v; // words of x
}

fn put_w(row: u32, quad: u32, v: vec4<f16>) {
    tile_w[row * PITCH_WORDS + quad] = v; // words of w
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

// Stores the sum of a pixel and a channel, if the layer has them.
fn store(pixel: u32, channel: u32, sum: f32) {
    if (pixel < p.pixels && channel < p.channels) {
        finish(pixel, p.first + channel, sum);
    }
}

// Stores what a thread has of the matrix of sums that its subgroup put at `at`, which starts at this pixel and channel.
fn store_matrix(at: u32, lane: u32, pixel: u32, channel: u32) {
    for (var i = lane; i < SIDE * SIDE; i += 32u) {
        store(pixel + i / SIDE, channel + i % SIDE, stage[at + i]);
    }
}

// Four of what a thread has of a matrix: it has every 32nd element.
fn staged(at: u32) -> vec4<f32> {
    return vec4<f32>(stage[at], stage[at + 32u], stage[at + 64u], stage[at + 96u]);
}

// Which of four of a thread's elements of a matrix there are, from its element `skip` on.
fn there(pixel: u32, channel: u32, skip: u32) -> u32 {
    let i = vec4<u32>(skip) + vec4<u32>(0u, 1u, 2u, 3u);
    let pixels = vec4<u32>(pixel) + i * (32u / SIDE);
    let exist = i < vec4<u32>(SIDE * SIDE / 32u);
    return select(0u, bits_of(exist & (pixels < vec4<u32>(p.pixels))), channel < p.channels);
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group_id: vec3<u32>, @builtin(local_invocation_index) t: u32) {
    let first_channel = group_id.y * TN;
    let first_pixel = (select(group_id.z, 0u, SPLIT == 1u) * p.fold + group_id.x) * TM;
    let quads = p.kernel_h * p.kernel_w * p.quads;
    let start = select(0u, group_id.z * p.split_quads, SPLIT == 1u);
    let end = select(quads, min(quads, start + p.split_quads), SPLIT == 1u);

    // Each thread loads one quad of up to four rows of x and of w; what the tile has no rows for is not used.
    let load_quad = t % QUADS;
    let load_row = t / QUADS;
    let rows = THREADS / QUADS;
    let row1 = load_row + rows;
    let row2 = load_row + 2u * rows;
    let row3 = load_row + 3u * rows;
    let pixel0 = pixel_at(first_pixel + load_row);
    let pixel1 = pixel_at(first_pixel + row1);
    let pixel2 = pixel_at(first_pixel + row2);
    let pixel3 = pixel_at(first_pixel + row3);
    var place = carry(Place(start + load_quad, 0u, 0u));
    var tap0 = tap_at(pixel0, place);
    var tap1 = tap_at(pixel1, place);
    var tap2 = tap_at(pixel2, place);
    var tap3 = tap_at(pixel3, place);
    // A row that the layer does not have ends before it begins.
    let w_at0 = p.w_at + (first_channel + load_row) * quads;
    let w_at1 = w_at0 + rows * quads;
    let w_at2 = w_at1 + rows * quads;
    let w_at3 = w_at2 + rows * quads;
    let w_end0 = select(0u, quads, first_channel + load_row < p.channels);
    let w_end1 = select(0u, quads, first_channel + row1 < p.channels);
    let w_end2 = select(0u, quads, first_channel + row2 < p.channels);
    let w_end3 = select(0u, quads, first_channel + row3 < p.channels);
    var w_quad = start + load_quad;

    let subgroup = t / 32u;
    let lane = t % 32u;
    let own_row = subgroup / SUBGROUPS_N * 2u * SIDE;
    let own_column = subgroup % SUBGROUPS_N * COLUMNS * SIDE;
    var sum00 = Sum();
    var sum01 = Sum();
    var sum02 = Sum();
    var sum03 = Sum();
    var sum10 = Sum();
    var sum11 = Sum();
    var sum12 = Sum();
    var sum13 = Sum();
    var x0 = fetch_x(tap0, place.quad);
    var x1 = fetch_x(tap1, place.quad);
    var x2 = fetch_x(tap2, place.quad);
    var x3 = fetch_x(tap3, place.quad);
    var w0 = fetch_w(w_at0, w_quad, w_end0);
    var w1 = fetch_w(w_at1, w_quad, w_end1);
    var w2 = fetch_w(w_at2, w_quad, w_end2);
    var w3 = fetch_w(w_at3, w_quad, w_end3);
    for (var step = start; step < end; step += QUADS) {
        put_x(load_row, load_quad, only_x(x0, tap0, place.quad));
        put_w(load_row, load_quad, only_w(w0, w_quad, w_end0));
        if (rows < TM) { put_x(row1, load_quad, only_x(x1, tap1, place.quad)); }
        if (2u * rows < TM) { put_x(row2, load_quad, only_x(x2, tap2, place.quad)); }
        if (3u * rows < TM) { put_x(row3, load_quad, only_x(x3, tap3, place.quad)); }
        if (rows < TN) { put_w(row1, load_quad, only_w(w1, w_quad, w_end1)); }
        if (2u * rows < TN) { put_w(row2, load_quad, only_w(w2, w_quad, w_end2)); }
        if (3u * rows < TN) { put_w(row3, load_quad, only_w(w3, w_quad, w_end3)); }
        workgroupBarrier();
        // The next step's loads are on their way while this one is summed.
        place.quad += QUADS;
        w_quad += QUADS;
        if (place.quad >= p.quads) {
            place = carry(place);
            tap0 = tap_at(pixel0, place);
            tap1 = tap_at(pixel1, place);
            tap2 = tap_at(pixel2, place);
            tap3 = tap_at(pixel3, place);
        }
        x0 = fetch_x(tap0, place.quad);
        w0 = fetch_w(w_at0, w_quad, w_end0);
        x1 = fetch_x(tap1, place.quad);
        x2 = fetch_x(tap2, place.quad);
        x3 = fetch_x(tap3, place.quad);
        w1 = fetch_w(w_at1, w_quad, w_end1);
        w2 = fetch_w(w_at2, w_quad, w_end2);
        w3 = fetch_w(w_at3, w_quad, w_end3);
        let a00_at = ((own_row + 0u * SIDE) * PITCH + 0u * SIDE) / WORD;
        let a00 = coopLoadT<Left>(&tile_x[a00_at], PITCH_WORDS);
        let a01_at = ((own_row + 1u * SIDE) * PITCH + 0u * SIDE) / WORD;
        let a01 = coopLoadT<Left>(&tile_x[a01_at], PITCH_WORDS);
        let b00_at = ((own_column + 0u * SIDE) * PITCH + 0u * SIDE) / WORD;
        let b00 = coopLoad<Right>(&tile_w[b00_at], PITCH_WORDS);
        sum00 = coopMultiplyAdd(a00, b00, sum00);
        sum10 = coopMultiplyAdd(a01, b00, sum10);
        let b01_at = ((own_column + 1u * SIDE) * PITCH + 0u * SIDE) / WORD;
        let b01 = coopLoad<Right>(&tile_w[b01_at], PITCH_WORDS);
        sum01 = coopMultiplyAdd(a00, b01, sum01);
        sum11 = coopMultiplyAdd(a01, b01, sum11);
        if (COLUMNS == 4u) {
            let b02_at = ((own_column + 2u * SIDE) * PITCH + 0u * SIDE) / WORD;
            let b02 = coopLoad<Right>(&tile_w[b02_at], PITCH_WORDS);
            sum02 = coopMultiplyAdd(a00, b02, sum02);
            sum12 = coopMultiplyAdd(a01, b02, sum12);
            let b03_at = ((own_column + 3u * SIDE) * PITCH + 0u * SIDE) / WORD;
            let b03 = coopLoad<Right>(&tile_w[b03_at], PITCH_WORDS);
            sum03 = coopMultiplyAdd(a00, b03, sum03);
            sum13 = coopMultiplyAdd(a01, b03, sum13);
        }
        let a10_at = ((own_row + 0u * SIDE) * PITCH + 1u * SIDE) / WORD;
        let a10 = coopLoadT<Left>(&tile_x[a10_at], PITCH_WORDS);
        let a11_at = ((own_row + 1u * SIDE) * PITCH + 1u * SIDE) / WORD;
        let a11 = coopLoadT<Left>(&tile_x[a11_at], PITCH_WORDS);
        let b10_at = ((own_column + 0u * SIDE) * PITCH + 1u * SIDE) / WORD;
        let b10 = coopLoad<Right>(&tile_w[b10_at], PITCH_WORDS);
        sum00 = coopMultiplyAdd(a10, b10, sum00);
        sum10 = coopMultiplyAdd(a11, b10, sum10);
        let b11_at = ((own_column + 1u * SIDE) * PITCH + 1u * SIDE) / WORD;
        let b11 = coopLoad<Right>(&tile_w[b11_at], PITCH_WORDS);
        sum01 = coopMultiplyAdd(a10, b11, sum01);
        sum11 = coopMultiplyAdd(a11, b11, sum11);
        if (COLUMNS == 4u) {
            let b12_at = ((own_column + 2u * SIDE) * PITCH + 1u * SIDE) / WORD;
            let b12 = coopLoad<Right>(&tile_w[b12_at], PITCH_WORDS);
            sum02 = coopMultiplyAdd(a10, b12, sum02);
            sum12 = coopMultiplyAdd(a11, b12, sum12);
            let b13_at = ((own_column + 3u * SIDE) * PITCH + 1u * SIDE) / WORD;
            let b13 = coopLoad<Right>(&tile_w[b13_at], PITCH_WORDS);
            sum03 = coopMultiplyAdd(a10, b13, sum03);
            sum13 = coopMultiplyAdd(a11, b13, sum13);
        }
        workgroupBarrier();
    }

    let stage_at = subgroup * SIDE * SIDE;
    let pixel = first_pixel + own_row;
    let channel = first_channel + own_column;
    // As in `conv2d`.
    if (SPLIT == 1u) {
        // A thread's first element of a matrix, and the slots from there to its next ones.
        let row = pixel + lane / SIDE;
        let column = channel + lane % SIDE;
        let step = vec4<u32>(0u, 1u, 2u, 3u) * (32u / SIDE * p.channels);
        var live = 0u;
        var at = step + vec4<u32>(row * p.channels + column);
        let below = vec4<u32>(SIDE * p.channels);
        let more = vec4<u32>(128u / SIDE * p.channels);
        coopStoreT(sum00, &stage[stage_at], SIDE);
        workgroupBarrier();
        var part0 = staged(stage_at + lane);
        var part1 = staged(stage_at + lane + 128u);
        live |= there(row + 0u * SIDE, column + 0u * SIDE, 0u) << 0u;
        live |= there(row + 0u * SIDE, column + 0u * SIDE, 4u) << 4u;
        workgroupBarrier();
        coopStoreT(sum10, &stage[stage_at], SIDE);
        workgroupBarrier();
        var part2 = staged(stage_at + lane);
        var part3 = staged(stage_at + lane + 128u);
        live |= there(row + 1u * SIDE, column + 0u * SIDE, 0u) << 8u;
        live |= there(row + 1u * SIDE, column + 0u * SIDE, 4u) << 12u;
        workgroupBarrier();
        coopStoreT(sum01, &stage[stage_at], SIDE);
        workgroupBarrier();
        var part4 = staged(stage_at + lane);
        var part5 = staged(stage_at + lane + 128u);
        live |= there(row + 0u * SIDE, column + 1u * SIDE, 0u) << 16u;
        live |= there(row + 0u * SIDE, column + 1u * SIDE, 4u) << 20u;
        workgroupBarrier();
        coopStoreT(sum11, &stage[stage_at], SIDE);
        workgroupBarrier();
        var part6 = staged(stage_at + lane);
        var part7 = staged(stage_at + lane + 128u);
        live |= there(row + 1u * SIDE, column + 1u * SIDE, 0u) << 24u;
        live |= there(row + 1u * SIDE, column + 1u * SIDE, 4u) << 28u;
        workgroupBarrier();
        let beside = vec4<u32>(SIDE);
        var part = group_id.z;
        var count = (quads + p.split_quads - 1u) / p.split_quads;
        while (count > 1u) {
            let pairs = count / 2u;
            if (part / 2u < pairs) {
                let own = at + vec4<u32>(part / 2u * p.pixels * p.channels);
                let other0 = swap(own, live, part0);
                let other1 = swap(own + more, live >> 4u, part1);
                let other2 = swap(own + below, live >> 8u, part2);
                let other3 = swap(own + below + more, live >> 12u, part3);
                let other4 = swap(own + beside, live >> 16u, part4);
                let other5 = swap(own + beside + more, live >> 20u, part5);
                let other6 = swap(own + beside + below, live >> 24u, part6);
                let other7 = swap(own + beside + below + more, live >> 28u, part7);
                live = clear(own, other0);
                live |= clear(own + more, other1) << 4u;
                live |= clear(own + below, other2) << 8u;
                live |= clear(own + below + more, other3) << 12u;
                live |= clear(own + beside, other4) << 16u;
                live |= clear(own + beside + more, other5) << 20u;
                live |= clear(own + beside + below, other6) << 24u;
                live |= clear(own + beside + below + more, other7) << 28u;
                part0 = joined(part0, other0);
                part1 = joined(part1, other1);
                part2 = joined(part2, other2);
                part3 = joined(part3, other3);
                part4 = joined(part4, other4);
                part5 = joined(part5, other5);
                part6 = joined(part6, other6);
                part7 = joined(part7, other7);
            }
            at += vec4<u32>(pairs * p.pixels * p.channels);
            part /= 2u;
            count -= pairs;
        }
        var parts = array<vec4<f32>, 8>(part0, part1, part2, part3, part4, part5, part6, part7);
        for (var i = 0u; i < 32u; i++) {
            if (((live >> i) & 1u) == 1u) {
                let matrix = i / 8u;
                let pixel = row + matrix % 2u * SIDE + i % 8u * (32u / SIDE);
                store(pixel, column + matrix / 2u * SIDE, parts[i / 4u][i % 4u]);
            }
        }
        return;
    }
    coopStoreT(sum00, &stage[stage_at], SIDE);
    workgroupBarrier();
    store_matrix(stage_at, lane, pixel + 0u * SIDE, channel + 0u * SIDE);
    workgroupBarrier();
    coopStoreT(sum10, &stage[stage_at], SIDE);
    workgroupBarrier();
    store_matrix(stage_at, lane, pixel + 1u * SIDE, channel + 0u * SIDE);
    workgroupBarrier();
    coopStoreT(sum01, &stage[stage_at], SIDE);
    workgroupBarrier();
    store_matrix(stage_at, lane, pixel + 0u * SIDE, channel + 1u * SIDE);
    workgroupBarrier();
    coopStoreT(sum11, &stage[stage_at], SIDE);
    workgroupBarrier();
    store_matrix(stage_at, lane, pixel + 1u * SIDE, channel + 1u * SIDE);
    workgroupBarrier();
    if (COLUMNS == 4u) {
        coopStoreT(sum02, &stage[stage_at], SIDE);
        workgroupBarrier();
        store_matrix(stage_at, lane, pixel + 0u * SIDE, channel + 2u * SIDE);
        workgroupBarrier();
        coopStoreT(sum12, &stage[stage_at], SIDE);
        workgroupBarrier();
        store_matrix(stage_at, lane, pixel + 1u * SIDE, channel + 2u * SIDE);
        workgroupBarrier();
        coopStoreT(sum03, &stage[stage_at], SIDE);
        workgroupBarrier();
        store_matrix(stage_at, lane, pixel + 0u * SIDE, channel + 3u * SIDE);
        workgroupBarrier();
        coopStoreT(sum13, &stage[stage_at], SIDE);
        workgroupBarrier();
        store_matrix(stage_at, lane, pixel + 1u * SIDE, channel + 3u * SIDE);
        workgroupBarrier();
    }
}
