// (x - mean) / sqrt(variance + eps) of each row, times weight plus bias; the variance is summed from the differences
// to the mean, which does not cancel. A workgroup takes one row. All numbers are taken less the row's first one, so that
// rows which hardly vary lose nothing to the size of their mean.

// What the buffers hold: f32, or f16 in half precision.
alias S = f32;

struct Params {
    rows: u32,
    len: u32,
    eps: f32,
    x_at: u32,
    weight_at: u32,
    bias_at: u32,
    y_at: u32,
    // Rows along x; the grid is folded into y.
    row: u32,
}

override AFFINE: u32 = 1u;
// A power of 2, at most 256.
override THREADS: u32 = 64u;

var<workgroup> shared_words: array<f32, 256>;

@group(0) @binding(0) var<storage, read> x: array<S>;
@group(0) @binding(1) var<storage, read> weight: array<S>;
@group(0) @binding(2) var<storage, read> bias: array<S>;
@group(0) @binding(3) var<storage, read_write> y: array<S>;
var<immediate> p: Params;

// The sum of every thread's number.
fn total(t: u32, mine: f32) -> f32 {
    shared_words[t] = mine;
    workgroupBarrier();
    for (var half = THREADS / 2u; half > 0u; half /= 2u) {
        if (t < half) {
            shared_words[t] += shared_words[t + half];
        }
        workgroupBarrier();
    }
    let sum = shared_words[0];
    workgroupBarrier();
    return sum;
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group_id: vec3<u32>, @builtin(local_invocation_index) t: u32) {
    let row = group_id.y * p.row + group_id.x;
    if (row >= p.rows) {
        return;
    }
    let at = p.x_at + row * p.len;
    let first = f32(x[at]);
    var sum = 0.0;
    for (var i = t; i < p.len; i += THREADS) {
        sum += f32(x[at + i]) - first;
    }
    let mean = total(t, sum) / f32(p.len);
    var squares = 0.0;
    for (var i = t; i < p.len; i += THREADS) {
        let d = (f32(x[at + i]) - first) - mean;
        squares = fma(d, d, squares);
    }
    let factor = 1.0 / sqrt(total(t, squares) / f32(p.len) + p.eps);
    for (var i = t; i < p.len; i += THREADS) {
        var v = ((f32(x[at + i]) - first) - mean) * factor;
        if (AFFINE == 1u) {
            v = fma(v, f32(weight[p.weight_at + i]), f32(bias[p.bias_at + i]));
        }
        y[p.y_at + row * p.len + i] = S(v);
    }
}
