// (x - mean) / sqrt(variance + eps) of each row, times weight plus bias; the variance is summed from the differences
// to the mean, which does not cancel. A workgroup takes one row, and reads it once where its threads can keep it. All
// numbers are taken less the row's first one, so that rows which hardly vary lose nothing to the size of their mean.

// What the buffers hold: f32, or f16 in half precision.
alias S = f32;
alias V = vec4<S>;
// The element type of x, weight, bias and y: V where len and the offsets are multiples of 4, else S.
alias X = V;

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

// 1 when X is V.
override WIDE: u32 = 1u;
override AFFINE: u32 = 1u;
// The quads of a row that a thread keeps, at most 4; 0 where rows are longer than that.
override QUADS: u32 = 1u;
// A power of 2, at most 256.
override THREADS: u32 = 64u;

var<workgroup> shared_words: array<f32, 256>;

@group(0) @binding(0) var<storage, read> x: array<X>;
@group(0) @binding(1) var<storage, read> weight: array<X>;
@group(0) @binding(2) var<storage, read> bias: array<X>;
@group(0) @binding(3) var<storage, read_write> y: array<X>;
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

// Four elements from element `at` on, of which `left` exist.
fn x_quad(at: u32, left: u32) -> V {
    if (WIDE == 1u) {
        return V(x[at >> 2u]);
    }
    var v = V(V(x[at]).x, 0.0, 0.0, 0.0);
    if (left > 1u) {
        v.y = V(x[at + 1u]).x;
    }
    if (left > 2u) {
        v.z = V(x[at + 2u]).x;
    }
    if (left > 3u) {
        v.w = V(x[at + 3u]).x;
    }
    return v;
}

fn weight_quad(at: u32, left: u32) -> V {
    if (WIDE == 1u) {
        return V(weight[at >> 2u]);
    }
    var v = V(V(weight[at]).x, 0.0, 0.0, 0.0);
    if (left > 1u) {
        v.y = V(weight[at + 1u]).x;
    }
    if (left > 2u) {
        v.z = V(weight[at + 2u]).x;
    }
    if (left > 3u) {
        v.w = V(weight[at + 3u]).x;
    }
    return v;
}

fn bias_quad(at: u32, left: u32) -> V {
    if (WIDE == 1u) {
        return V(bias[at >> 2u]);
    }
    var v = V(V(bias[at]).x, 0.0, 0.0, 0.0);
    if (left > 1u) {
        v.y = V(bias[at + 1u]).x;
    }
    if (left > 2u) {
        v.z = V(bias[at + 2u]).x;
    }
    if (left > 3u) {
        v.w = V(bias[at + 3u]).x;
    }
    return v;
}

// A quad of a row, as the buffer has it: what is converted here would be waited for here.
fn fetch(at: u32, quad: u32) -> V {
    if (quad * 4u >= p.len) {
        return V();
    }
    return x_quad(at + quad * 4u, p.len - quad * 4u);
}

// The numbers of a quad less another; zeros where the row has none.
fn less(numbers: vec4<f32>, other: f32, quad: u32) -> vec4<f32> {
    let at = vec4<u32>(quad * 4u) + vec4<u32>(0u, 1u, 2u, 3u);
    return select(vec4<f32>(), numbers - vec4<f32>(other), at < vec4<u32>(p.len));
}

fn sum_of(v: vec4<f32>) -> f32 {
    return v.x + v.y + v.z + v.w;
}

// What a place in y holds: four numbers, or the first of them where X is S.
fn element(v: V) -> X {
    return v; // as X
}

fn store(row_at: u32, quad: u32, normal: vec4<f32>) {
    let at = quad * 4u;
    if (at >= p.len) {
        return;
    }
    let left = p.len - at;
    var v = normal;
    if (AFFINE == 1u) {
        let scale = weight_quad(p.weight_at + at, left);
        let shift = bias_quad(p.bias_at + at, left);
        v = fma(v, vec4<f32>(scale), vec4<f32>(shift));
    }
    let result = V(v);
    if (WIDE == 1u) {
        y[(row_at + at) >> 2u] = element(result);
        return;
    }
    y[row_at + at] = element(result);
    if (left > 1u) {
        y[row_at + at + 1u] = element(result.yyyy);
    }
    if (left > 2u) {
        y[row_at + at + 2u] = element(result.zzzz);
    }
    if (left > 3u) {
        y[row_at + at + 3u] = element(result.wwww);
    }
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group_id: vec3<u32>, @builtin(local_invocation_index) t: u32) {
    let row = group_id.y * p.row + group_id.x;
    if (row >= p.rows) {
        return;
    }
    let at = p.x_at + row * p.len;
    let y_at = p.y_at + row * p.len;
    if (QUADS == 0u) {
        let first = f32(fetch(at, 0u).x);
        var sum = 0.0;
        for (var quad = t; quad * 4u < p.len; quad += THREADS) {
            sum += sum_of(less(vec4<f32>(fetch(at, quad)), first, quad));
        }
        let mean = total(t, sum) / f32(p.len);
        var squares = 0.0;
        for (var quad = t; quad * 4u < p.len; quad += THREADS) {
            let d = less(less(vec4<f32>(fetch(at, quad)), first, quad), mean, quad);
            squares += dot(d, d);
        }
        let factor = 1.0 / sqrt(total(t, squares) / f32(p.len) + p.eps);
        for (var quad = t; quad * 4u < p.len; quad += THREADS) {
            let d = less(less(vec4<f32>(fetch(at, quad)), first, quad), mean, quad);
            store(y_at, quad, d * factor);
        }
        return;
    }
    let quad1 = t + THREADS;
    let quad2 = t + 2u * THREADS;
    let quad3 = t + 3u * THREADS;
    let x0 = fetch(at, t);
    var x1 = V();
    var x2 = V();
    var x3 = V();
    if (QUADS > 1u) {
        x1 = fetch(at, quad1);
    }
    if (QUADS > 2u) {
        x2 = fetch(at, quad2);
    }
    if (QUADS > 3u) {
        x3 = fetch(at, quad3);
    }
    let first = f32(fetch(at, 0u).x);
    var d0 = less(vec4<f32>(x0), first, t);
    var d1 = less(vec4<f32>(x1), first, quad1);
    var d2 = less(vec4<f32>(x2), first, quad2);
    var d3 = less(vec4<f32>(x3), first, quad3);
    let mean = total(t, sum_of(d0) + sum_of(d1) + sum_of(d2) + sum_of(d3)) / f32(p.len);
    d0 = less(d0, mean, t);
    d1 = less(d1, mean, quad1);
    d2 = less(d2, mean, quad2);
    d3 = less(d3, mean, quad3);
    let squares = dot(d0, d0) + dot(d1, d1) + dot(d2, d2) + dot(d3, d3);
    let factor = 1.0 / sqrt(total(t, squares) / f32(p.len) + p.eps);
    store(y_at, t, d0 * factor);
    if (QUADS > 1u) {
        store(y_at, quad1, d1 * factor);
    }
    if (QUADS > 2u) {
        store(y_at, quad2, d2 * factor);
    }
    if (QUADS > 3u) {
        store(y_at, quad3, d3 * factor);
    }
}
