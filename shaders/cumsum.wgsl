// Running sums along the middle of [outer, len, inner]. A thread takes one column, from `start` to `end`; what is before
// `start` is summed already.

// What the buffers hold: f32, or f16 in half precision.
alias S = f32;

struct Params {
    // outer * inner
    columns: u32,
    len: u32,
    inner: u32,
    x_at: u32,
    y_at: u32,
    // Threads along x; the grid is folded into y.
    row: u32,
    start: u32,
    end: u32,
}

@group(0) @binding(0) var<storage, read> x: array<S>;
@group(0) @binding(1) var<storage, read_write> y: array<S>;
var<immediate> p: Params;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let column = id.y * p.row + id.x;
    if (column >= p.columns) {
        return;
    }
    let outer = column / p.inner;
    let at = outer * p.len * p.inner + column - outer * p.inner;
    var sum = 0.0;
    if (p.start > 0u) {
        sum = f32(y[p.y_at + at + (p.start - 1u) * p.inner]);
    }
    for (var i = p.start; i < p.end; i++) {
        sum += f32(x[p.x_at + at + i * p.inner]);
        y[p.y_at + at + i * p.inner] = S(sum);
    }
}
