// Softmax, or its logarithm, along the middle of [outer, len, inner]. With ROWS a workgroup takes one row;
// else a thread takes one column.

// What the buffers hold: f32, or f16 in half precision.
alias S = f32;

struct Params {
    // outer * inner
    columns: u32,
    len: u32,
    inner: u32,
    x_at: u32,
    y_at: u32,
    // Rows, or threads, along x; the grid is folded into y.
    row: u32,
}

override LOG: u32 = 0u;
override ROWS: u32 = 1u;
// A power of 2, at most 256.
override THREADS: u32 = 64u;

var<workgroup> shared_words: array<f32, 256>;

@group(0) @binding(0) var<storage, read> x: array<S>;
@group(0) @binding(1) var<storage, read_write> y: array<S>;
var<immediate> p: Params;

// Keeps the compiler from folding numbers that WGSL has no literals for.
fn from_bits(word: u32) -> f32 {
    var w = word;
    return bitcast<f32>(w);
}

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

// The largest of two numbers; NaN wins. It is known by its bits: a compiler may take it that no number is one, as Metal's
// does.
fn larger(a: f32, b: f32) -> f32 {
    return select(a, b, b > a || (bitcast<u32>(b) & 0x7fffffffu) > 0x7f800000u);
}

// The largest of every thread's number.
fn maximum(t: u32, mine: f32) -> f32 {
    shared_words[t] = mine;
    workgroupBarrier();
    for (var half = THREADS / 2u; half > 0u; half /= 2u) {
        if (t < half) {
            shared_words[t] = larger(shared_words[t], shared_words[t + half]);
        }
        workgroupBarrier();
    }
    let best = shared_words[0];
    workgroupBarrier();
    return best;
}

fn share(value: f32, best: f32, sum: f32) -> f32 {
    if (LOG == 1u) {
        return value - best - log(sum);
    }
    return exp(value - best) / sum;
}

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) group_id: vec3<u32>,
    @builtin(global_invocation_id) id: vec3<u32>,
    @builtin(local_invocation_index) t: u32,
) {
    var best = from_bits(0xff800000u);
    var sum = 0.0;
    if (ROWS == 1u) {
        let row = group_id.y * p.row + group_id.x;
        if (row >= p.columns) {
            return;
        }
        let outer = row / p.inner;
        let at = outer * p.len * p.inner + row - outer * p.inner;
        for (var i = t; i < p.len; i += THREADS) {
            best = larger(best, f32(x[p.x_at + at + i * p.inner]));
        }
        best = maximum(t, best);
        for (var i = t; i < p.len; i += THREADS) {
            sum += exp(f32(x[p.x_at + at + i * p.inner]) - best);
        }
        sum = total(t, sum);
        for (var i = t; i < p.len; i += THREADS) {
            y[p.y_at + at + i * p.inner] = S(share(f32(x[p.x_at + at + i * p.inner]), best, sum));
        }
    } else {
        let column = id.y * p.row + id.x;
        if (column >= p.columns) {
            return;
        }
        let outer = column / p.inner;
        let at = outer * p.len * p.inner + column - outer * p.inner;
        for (var i = 0u; i < p.len; i++) {
            best = larger(best, f32(x[p.x_at + at + i * p.inner]));
        }
        for (var i = 0u; i < p.len; i++) {
            sum += exp(f32(x[p.x_at + at + i * p.inner]) - best);
        }
        for (var i = 0u; i < p.len; i++) {
            y[p.y_at + at + i * p.inner] = S(share(f32(x[p.x_at + at + i * p.inner]), best, sum));
        }
    }
}
