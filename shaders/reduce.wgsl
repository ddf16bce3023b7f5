// The sum, mean or maximum along the middle of [outer, len, inner]. With ROWS a workgroup takes one row;
// else a thread takes one column, summing 32 numbers at a time so that rounding errors stay small.

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

// 0 sum, 1 mean, 2 maximum (NaN wins).
override KIND: u32 = 0u;
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

fn store(column: u32, result: f32) {
    y[p.y_at + column] = S(select(result, result / f32(p.len), KIND == 1u));
}

// Reduces the numbers from `first` on at every `step`-th of `count` places, `stride` apart.
fn strided(first: u32, count: u32, step: u32, stride: u32) -> f32 {
    var best = from_bits(0xff800000u);
    var sum = 0.0;
    var part = 0.0;
    var parts = 0u;
    // Loads have no condition, so that several are under way; past the end they are of the number before.
    for (var i = 0u; i < count; i += 4u * step) {
        let i1 = i + step;
        let i2 = i1 + step;
        let i3 = i2 + step;
        let x0 = x[first + i * stride];
        let x1 = x[first + select(i, i1, i1 < count) * stride];
        let x2 = x[first + select(i, i2, i2 < count) * stride];
        let x3 = x[first + select(i, i3, i3 < count) * stride];
        best = larger(best, f32(x0));
        part += f32(x0);
        if (i1 < count) {
            best = larger(best, f32(x1));
            part += f32(x1);
        }
        if (i2 < count) {
            best = larger(best, f32(x2));
            part += f32(x2);
        }
        if (i3 < count) {
            best = larger(best, f32(x3));
            part += f32(x3);
        }
        parts += 4u;
        if (parts == 32u) {
            sum += part;
            part = 0.0;
            parts = 0u;
        }
    }
    return select(sum + part, best, KIND == 2u);
}

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) group_id: vec3<u32>,
    @builtin(global_invocation_id) id: vec3<u32>,
    @builtin(local_invocation_index) t: u32,
) {
    if (ROWS == 1u) {
        let row = group_id.y * p.row + group_id.x;
        if (row >= p.columns) {
            return;
        }
        let outer = row / p.inner;
        let first = p.x_at + outer * p.len * p.inner + row - outer * p.inner;
        let mine = strided(first + t * p.inner, max(p.len, t) - t, THREADS, p.inner);
        var result = 0.0;
        if (KIND == 2u) {
            result = maximum(t, mine);
        } else {
            result = total(t, mine);
        }
        if (t == 0u) {
            store(row, result);
        }
    } else {
        let column = id.y * p.row + id.x;
        if (column >= p.columns) {
            return;
        }
        let outer = column / p.inner;
        let first = p.x_at + outer * p.len * p.inner + column - outer * p.inner;
        store(column, strided(first, p.len, 1u, p.inner));
    }
}
