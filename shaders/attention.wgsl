// softmax(q k^T * scale + mask) v, fused: the scores of 16 rows by 64 columns at a time stay in workgroup memory, the
// sums of a row are rescaled when its maximum grows, and the score matrix is never written.
//
// 64 threads as 4 x 16: thread (ty, tx) scores rows 4 ty .. 4 ty + 4 and columns tx, tx + 16, ..., then sums the same
// rows over the quads tx, tx + 16, ... of v. What a row that
// sees no column gives is chosen.

// What the buffers hold: f32, or f16 in half precision. Sums are f32.
alias S = f32;
alias V = vec4<S>;
// The element type of q, k and v: V where head_dim, v_dim and all strides and offsets are multiples of 4, else S.
alias X = V;

struct Params {
    q_len: u32,
    kv_len: u32,
    head_dim: u32,
    v_dim: u32,
    heads: u32,
    // Past the last of the blocks of 16 rows that this dispatch takes, counted through all heads.
    end: u32,
    // Strides along batch, head and row.
    q_batch: u32,
    q_head: u32,
    q_row: u32,
    k_batch: u32,
    k_head: u32,
    k_row: u32,
    v_batch: u32,
    v_head: u32,
    v_row: u32,
    y_batch: u32,
    y_head: u32,
    y_row: u32,
    mask_batch: u32,
    mask_head: u32,
    mask_row: u32,
    mask_column: u32,
    scale: f32,
    // Where the arguments start in their buffers.
    q_at: u32,
    k_at: u32,
    v_at: u32,
    mask_at: u32,
    y_at: u32,
    // The first of these blocks; workgroups along x, one a block, before they go on in y.
    first: u32,
    fold: u32,
}

// 1 when X is V.
override WIDE: u32 = 1u;
override CAUSAL: u32 = 0u;
override MASK: u32 = 0u;
// The quads of v that a thread sums: ceil(v_dim / 64), at most 4.
override V_QUADS: u32 = 1u;
// What a row that sees no column gives: 0, or NaN where this is 1.
override BLIND_IS_NAN: u32 = 0u;

@group(0) @binding(0) var<storage, read> q: array<X>;
@group(0) @binding(1) var<storage, read> k: array<X>;
@group(0) @binding(2) var<storage, read> v: array<X>;
@group(0) @binding(3) var<storage, read> mask: array<S>;
@group(0) @binding(4) var<storage, read_write> y: array<S>;
var<immediate> p: Params;

// Scores, then weights, by [row][column]; the pitch keeps rows in different banks.
const PITCH = 65u;
var<workgroup> scores: array<f32, 1040>;
// What the 4 threads that share a row found: its maximum, its sum.
var<workgroup> maxima: array<f32, 64>;
var<workgroup> sums: array<f32, 64>;
// By row: the factor for what was summed so far; at the end, the sum of the weights.
var<workgroup> factors: array<f32, 16>;

// Minus infinity, known by its bits: a compiler may take it that no number is infinite, as Metal's does.
const LOWEST = 0xff800000u;

// Keeps the compiler from folding numbers that WGSL has no literals for.
fn from_bits(word: u32) -> f32 {
    var w = word;
    return bitcast<f32>(w);
}

// a . b + c
fn dot_add(a: vec4<f32>, b: vec4<f32>, c: f32) -> f32 {
    return fma(a.w, b.w, fma(a.z, b.z, fma(a.y, b.y, fma(a.x, b.x, c))));
}

fn dot_add4(a: vec4<f32>, b0: vec4<f32>, b1: vec4<f32>, b2: vec4<f32>, b3: vec4<f32>, c: vec4<f32>) -> vec4<f32> {
    return vec4<f32>(dot_add(a, b0, c.x), dot_add(a, b1, c.y), dot_add(a, b2, c.z), dot_add(a, b3, c.w));
}

fn load_q(at: u32, left: u32) -> vec4<f32> {
    if (WIDE == 1u) {
        return vec4<f32>(V(q[at >> 2u]));
    }
    var r = vec4<f32>(f32(V(q[at]).x), 0.0, 0.0, 0.0);
    if (left > 1u) {
        r.y = f32(V(q[at + 1u]).x);
    }
    if (left > 2u) {
        r.z = f32(V(q[at + 2u]).x);
    }
    if (left > 3u) {
        r.w = f32(V(q[at + 3u]).x);
    }
    return r;
}

fn load_k(at: u32, left: u32) -> vec4<f32> {
    if (WIDE == 1u) {
        return vec4<f32>(V(k[at >> 2u]));
    }
    var r = vec4<f32>(f32(V(k[at]).x), 0.0, 0.0, 0.0);
    if (left > 1u) {
        r.y = f32(V(k[at + 1u]).x);
    }
    if (left > 2u) {
        r.z = f32(V(k[at + 2u]).x);
    }
    if (left > 3u) {
        r.w = f32(V(k[at + 3u]).x);
    }
    return r;
}

// As the buffer has it, since what is converted in a condition is waited for there; zeros where nothing is left.
fn load_v(at: u32, left: u32) -> V {
    if (left == 0u) {
        return V();
    }
    if (WIDE == 1u) {
        return V(v[at >> 2u]);
    }
    var r = V(V(v[at]).x, 0.0, 0.0, 0.0);
    if (left > 1u) {
        r.y = V(v[at + 1u]).x;
    }
    if (left > 2u) {
        r.z = V(v[at + 2u]).x;
    }
    if (left > 3u) {
        r.w = V(v[at + 3u]).x;
    }
    return r;
}

// w.x a + w.y b + w.z c + w.w d + sum
fn weighted(w: vec4<f32>, a: V, b: V, c: V, d: V, sum: vec4<f32>) -> vec4<f32> {
    let two = fma(vec4<f32>(w.y), vec4<f32>(b), fma(vec4<f32>(w.x), vec4<f32>(a), sum));
    return fma(vec4<f32>(w.w), vec4<f32>(d), fma(vec4<f32>(w.z), vec4<f32>(c), two));
}

// The sum, finished, as the quad `quad` of `row`.
fn store(at: u32, quad: u32, sum: vec4<f32>, total: f32) {
    let blind = vec4<f32>(from_bits(select(0u, 0x7fc00000u, BLIND_IS_NAN == 1u)));
    let r = select(sum / total, blind, total == 0.0);
    let first = quad * 4u;
    y[at + first] = S(r.x);
    if (first + 1u < p.v_dim) {
        y[at + first + 1u] = S(r.y);
    }
    if (first + 2u < p.v_dim) {
        y[at + first + 2u] = S(r.z);
    }
    if (first + 3u < p.v_dim) {
        y[at + first + 3u] = S(r.w);
    }
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group_id: vec3<u32>, @builtin(local_invocation_index) t: u32) {
    let block = p.first + group_id.y * p.fold + group_id.x;
    if (block >= p.end) {
        return;
    }
    let blocks = (p.q_len - 1u) / 16u + 1u;
    let head_index = block / blocks;
    let batch = head_index / p.heads;
    let head = head_index - batch * p.heads;
    let first_row = (block - head_index * blocks) * 16u;
    let q_at = p.q_at + batch * p.q_batch + head * p.q_head;
    let k_at = p.k_at + batch * p.k_batch + head * p.k_head;
    let v_at = p.v_at + batch * p.v_batch + head * p.v_head;
    let mask_at = p.mask_at + batch * p.mask_batch + head * p.mask_head;
    let lowest = from_bits(LOWEST);

    let tx = t % 16u;
    let ty = t / 16u;
    // Rows and columns past the end repeat the last one; their scores are not used.
    let row0 = q_at + min(first_row + ty * 4u + 0u, p.q_len - 1u) * p.q_row;
    let row1 = q_at + min(first_row + ty * 4u + 1u, p.q_len - 1u) * p.q_row;
    let row2 = q_at + min(first_row + ty * 4u + 2u, p.q_len - 1u) * p.q_row;
    let row3 = q_at + min(first_row + ty * 4u + 3u, p.q_len - 1u) * p.q_row;
    // The row whose maximum and sum this thread shares in.
    let own = t / 4u;
    var highest = lowest;
    var total = 0.0;
    var acc00 = vec4<f32>();
    var acc01 = vec4<f32>();
    var acc02 = vec4<f32>();
    var acc03 = vec4<f32>();
    var acc10 = vec4<f32>();
    var acc11 = vec4<f32>();
    var acc12 = vec4<f32>();
    var acc13 = vec4<f32>();
    var acc20 = vec4<f32>();
    var acc21 = vec4<f32>();
    var acc22 = vec4<f32>();
    var acc23 = vec4<f32>();
    var acc30 = vec4<f32>();
    var acc31 = vec4<f32>();
    var acc32 = vec4<f32>();
    var acc33 = vec4<f32>();
    var end = p.kv_len;
    if (CAUSAL == 1u) {
        end = min(end, first_row + 16u);
    }
    for (var first = 0u; first < end; first += 64u) {
        let column0 = k_at + min(first + tx + 0u, p.kv_len - 1u) * p.k_row;
        let column1 = k_at + min(first + tx + 16u, p.kv_len - 1u) * p.k_row;
        let column2 = k_at + min(first + tx + 32u, p.kv_len - 1u) * p.k_row;
        let column3 = k_at + min(first + tx + 48u, p.kv_len - 1u) * p.k_row;
        var score0 = vec4<f32>();
        var score1 = vec4<f32>();
        var score2 = vec4<f32>();
        var score3 = vec4<f32>();
        // All loads of a round are under way before one is waited for.
        var d = 0u;
        for (; d + 8u <= p.head_dim; d += 8u) {
            let left = p.head_dim - d;
            let k0 = load_k(column0 + d, left);
            let k1 = load_k(column1 + d, left);
            let k2 = load_k(column2 + d, left);
            let k3 = load_k(column3 + d, left);
            let q0 = load_q(row0 + d, left);
            let q1 = load_q(row1 + d, left);
            let q2 = load_q(row2 + d, left);
            let q3 = load_q(row3 + d, left);
            let k0b = load_k(column0 + d + 4u, left - 4u);
            let k1b = load_k(column1 + d + 4u, left - 4u);
            let k2b = load_k(column2 + d + 4u, left - 4u);
            let k3b = load_k(column3 + d + 4u, left - 4u);
            let q0b = load_q(row0 + d + 4u, left - 4u);
            let q1b = load_q(row1 + d + 4u, left - 4u);
            let q2b = load_q(row2 + d + 4u, left - 4u);
            let q3b = load_q(row3 + d + 4u, left - 4u);
            score0 = dot_add4(q0, k0, k1, k2, k3, score0);
            score1 = dot_add4(q1, k0, k1, k2, k3, score1);
            score2 = dot_add4(q2, k0, k1, k2, k3, score2);
            score3 = dot_add4(q3, k0, k1, k2, k3, score3);
            score0 = dot_add4(q0b, k0b, k1b, k2b, k3b, score0);
            score1 = dot_add4(q1b, k0b, k1b, k2b, k3b, score1);
            score2 = dot_add4(q2b, k0b, k1b, k2b, k3b, score2);
            score3 = dot_add4(q3b, k0b, k1b, k2b, k3b, score3);
        }
        for (; d < p.head_dim; d += 4u) {
            let left = p.head_dim - d;
            let k0 = load_k(column0 + d, left);
            let k1 = load_k(column1 + d, left);
            let k2 = load_k(column2 + d, left);
            let k3 = load_k(column3 + d, left);
            let q0 = load_q(row0 + d, left);
            let q1 = load_q(row1 + d, left);
            let q2 = load_q(row2 + d, left);
            let q3 = load_q(row3 + d, left);
            score0 = dot_add4(q0, k0, k1, k2, k3, score0);
            score1 = dot_add4(q1, k0, k1, k2, k3, score1);
            score2 = dot_add4(q2, k0, k1, k2, k3, score2);
            score3 = dot_add4(q3, k0, k1, k2, k3, score3);
        }
        for (var i = 0u; i < 4u; i++) {
            let row = ty * 4u + i;
            let score = select(select(score0, score1, i == 1u), select(score2, score3, i == 3u), i > 1u);
            for (var j = 0u; j < 4u; j++) {
                let column = first + tx + j * 16u;
                var s = score[j] * p.scale;
                if (column >= p.kv_len || (CAUSAL == 1u && column > first_row + row)) {
                    s = lowest;
                } else if (MASK == 1u) {
                    let mask_row = min(first_row + row, p.q_len - 1u);
                    s += f32(mask[mask_at + mask_row * p.mask_row + column * p.mask_column]);
                }
                scores[row * PITCH + tx + j * 16u] = s;
            }
        }
        workgroupBarrier();

        var best = lowest;
        for (var c = t % 4u; c < 64u; c += 16u) {
            let at = own * PITCH + c;
            let s = vec4<f32>(scores[at], scores[at + 4u], scores[at + 8u], scores[at + 12u]);
            let first_two = select(s.x, s.y, s.y > s.x);
            let last_two = select(s.z, s.w, s.w > s.z);
            let s4 = select(first_two, last_two, last_two > first_two);
            best = select(best, s4, s4 > best);
        }
        maxima[t] = best;
        workgroupBarrier();
        for (var i = 0u; i < 4u; i++) {
            let s = maxima[own * 4u + i];
            best = select(best, s, s > best);
        }
        best = select(highest, best, best > highest);
        let factor = select(exp(highest - best), 0.0, bitcast<u32>(highest) == LOWEST);
        highest = best;
        var sum = 0.0;
        for (var c = t % 4u; c < 64u; c += 16u) {
            let at = own * PITCH + c;
            let s = vec4<f32>(scores[at], scores[at + 4u], scores[at + 8u], scores[at + 12u]);
            let seen = bitcast<vec4<u32>>(s) != vec4<u32>(LOWEST);
            let weight = select(vec4<f32>(), exp(s - vec4<f32>(best)), seen);
            scores[at] = weight.x;
            scores[at + 4u] = weight.y;
            scores[at + 8u] = weight.z;
            scores[at + 12u] = weight.w;
            sum += weight.x + weight.y + weight.z + weight.w;
        }
        sums[t] = sum;
        if (t % 4u == 0u) {
            factors[own] = factor;
        }
        workgroupBarrier();
        total = total * factor + sums[own * 4u] + sums[own * 4u + 1u] + sums[own * 4u + 2u] + sums[own * 4u + 3u];
        let factor0 = factors[ty * 4u + 0u];
        let factor1 = factors[ty * 4u + 1u];
        let factor2 = factors[ty * 4u + 2u];
        let factor3 = factors[ty * 4u + 3u];
        acc00 *= factor0;
        acc01 *= factor0;
        acc02 *= factor0;
        acc03 *= factor0;
        acc10 *= factor1;
        acc11 *= factor1;
        acc12 *= factor1;
        acc13 *= factor1;
        acc20 *= factor2;
        acc21 *= factor2;
        acc22 *= factor2;
        acc23 *= factor2;
        acc30 *= factor3;
        acc31 *= factor3;
        acc32 *= factor3;
        acc33 *= factor3;
        let count = min(64u, end - first);
        for (var c = 0u; c < count; c += 4u) {
            // Four columns at a time, so that their values are under way together; those past the end weigh nothing.
            let at0 = (ty * 4u) * PITCH + c;
            let w0 = vec4<f32>(scores[at0], scores[at0 + 1u], scores[at0 + 2u], scores[at0 + 3u]);
            let at1 = (ty * 4u + 1u) * PITCH + c;
            let w1 = vec4<f32>(scores[at1], scores[at1 + 1u], scores[at1 + 2u], scores[at1 + 3u]);
            let at2 = (ty * 4u + 2u) * PITCH + c;
            let w2 = vec4<f32>(scores[at2], scores[at2 + 1u], scores[at2 + 2u], scores[at2 + 3u]);
            let at3 = (ty * 4u + 3u) * PITCH + c;
            let w3 = vec4<f32>(scores[at3], scores[at3 + 1u], scores[at3 + 2u], scores[at3 + 3u]);
            let column = v_at + (first + c) * p.v_row + tx * 4u;
            if (tx * 4u < p.v_dim) {
                let left = p.v_dim - tx * 4u;
                let c0 = load_v(column, left);
                let c1 = load_v(column + p.v_row, select(0u, left, c + 1u < count));
                let c2 = load_v(column + 2u * p.v_row, select(0u, left, c + 2u < count));
                let c3 = load_v(column + 3u * p.v_row, select(0u, left, c + 3u < count));
                acc00 = weighted(w0, c0, c1, c2, c3, acc00);
                acc10 = weighted(w1, c0, c1, c2, c3, acc10);
                acc20 = weighted(w2, c0, c1, c2, c3, acc20);
                acc30 = weighted(w3, c0, c1, c2, c3, acc30);
            }
            if (V_QUADS > 1u && tx * 4u + 64u < p.v_dim) {
                let left = p.v_dim - tx * 4u - 64u;
                let c0 = load_v(column + 64u, left);
                let c1 = load_v(column + 64u + p.v_row, select(0u, left, c + 1u < count));
                let c2 = load_v(column + 64u + 2u * p.v_row, select(0u, left, c + 2u < count));
                let c3 = load_v(column + 64u + 3u * p.v_row, select(0u, left, c + 3u < count));
                acc01 = weighted(w0, c0, c1, c2, c3, acc01);
                acc11 = weighted(w1, c0, c1, c2, c3, acc11);
                acc21 = weighted(w2, c0, c1, c2, c3, acc21);
                acc31 = weighted(w3, c0, c1, c2, c3, acc31);
            }
            if (V_QUADS > 2u && tx * 4u + 128u < p.v_dim) {
                let left = p.v_dim - tx * 4u - 128u;
                let c0 = load_v(column + 128u, left);
                let c1 = load_v(column + 128u + p.v_row, select(0u, left, c + 1u < count));
                let c2 = load_v(column + 128u + 2u * p.v_row, select(0u, left, c + 2u < count));
                let c3 = load_v(column + 128u + 3u * p.v_row, select(0u, left, c + 3u < count));
                acc02 = weighted(w0, c0, c1, c2, c3, acc02);
                acc12 = weighted(w1, c0, c1, c2, c3, acc12);
                acc22 = weighted(w2, c0, c1, c2, c3, acc22);
                acc32 = weighted(w3, c0, c1, c2, c3, acc32);
            }
            if (V_QUADS > 3u && tx * 4u + 192u < p.v_dim) {
                let left = p.v_dim - tx * 4u - 192u;
                let c0 = load_v(column + 192u, left);
                let c1 = load_v(column + 192u + p.v_row, select(0u, left, c + 1u < count));
                let c2 = load_v(column + 192u + 2u * p.v_row, select(0u, left, c + 2u < count));
                let c3 = load_v(column + 192u + 3u * p.v_row, select(0u, left, c + 3u < count));
                acc03 = weighted(w0, c0, c1, c2, c3, acc03);
                acc13 = weighted(w1, c0, c1, c2, c3, acc13);
                acc23 = weighted(w2, c0, c1, c2, c3, acc23);
                acc33 = weighted(w3, c0, c1, c2, c3, acc33);
            }
        }
        workgroupBarrier();
    }

    if (t % 4u == 0u) {
        factors[own] = total;
    }
    workgroupBarrier();
    let y_at = p.y_at + batch * p.y_batch + head * p.y_head;
    if (first_row + ty * 4u + 0u < p.q_len) {
        let total0 = factors[ty * 4u + 0u];
        let at0 = y_at + (first_row + ty * 4u + 0u) * p.y_row;
        if ((tx + 0u) * 4u < p.v_dim) {
            store(at0, tx + 0u, acc00, total0);
        }
        if (V_QUADS > 1u && (tx + 16u) * 4u < p.v_dim) {
            store(at0, tx + 16u, acc01, total0);
        }
        if (V_QUADS > 2u && (tx + 32u) * 4u < p.v_dim) {
            store(at0, tx + 32u, acc02, total0);
        }
        if (V_QUADS > 3u && (tx + 48u) * 4u < p.v_dim) {
            store(at0, tx + 48u, acc03, total0);
        }
    }
    if (first_row + ty * 4u + 1u < p.q_len) {
        let total1 = factors[ty * 4u + 1u];
        let at1 = y_at + (first_row + ty * 4u + 1u) * p.y_row;
        if ((tx + 0u) * 4u < p.v_dim) {
            store(at1, tx + 0u, acc10, total1);
        }
        if (V_QUADS > 1u && (tx + 16u) * 4u < p.v_dim) {
            store(at1, tx + 16u, acc11, total1);
        }
        if (V_QUADS > 2u && (tx + 32u) * 4u < p.v_dim) {
            store(at1, tx + 32u, acc12, total1);
        }
        if (V_QUADS > 3u && (tx + 48u) * 4u < p.v_dim) {
            store(at1, tx + 48u, acc13, total1);
        }
    }
    if (first_row + ty * 4u + 2u < p.q_len) {
        let total2 = factors[ty * 4u + 2u];
        let at2 = y_at + (first_row + ty * 4u + 2u) * p.y_row;
        if ((tx + 0u) * 4u < p.v_dim) {
            store(at2, tx + 0u, acc20, total2);
        }
        if (V_QUADS > 1u && (tx + 16u) * 4u < p.v_dim) {
            store(at2, tx + 16u, acc21, total2);
        }
        if (V_QUADS > 2u && (tx + 32u) * 4u < p.v_dim) {
            store(at2, tx + 32u, acc22, total2);
        }
        if (V_QUADS > 3u && (tx + 48u) * 4u < p.v_dim) {
            store(at2, tx + 48u, acc23, total2);
        }
    }
    if (first_row + ty * 4u + 3u < p.q_len) {
        let total3 = factors[ty * 4u + 3u];
        let at3 = y_at + (first_row + ty * 4u + 3u) * p.y_row;
        if ((tx + 0u) * 4u < p.v_dim) {
            store(at3, tx + 0u, acc30, total3);
        }
        if (V_QUADS > 1u && (tx + 16u) * 4u < p.v_dim) {
            store(at3, tx + 16u, acc31, total3);
        }
        if (V_QUADS > 2u && (tx + 32u) * 4u < p.v_dim) {
            store(at3, tx + 32u, acc32, total3);
        }
        if (V_QUADS > 3u && (tx + 48u) * 4u < p.v_dim) {
            store(at3, tx + 48u, acc33, total3);
        }
    }
}
