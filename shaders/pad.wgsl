// Pads a contiguous tensor of up to six dimensions. The bits are copied; a thread makes one element.

// What the buffers hold: words, or f16 in half precision.
alias E = u32;

struct Params {
    count: u32,
    // The bits of the constant.
    value: u32,
    // The sizes of the output but the outermost, of the input, and the elements added before, outermost first.
    out1: u32,
    out2: u32,
    out3: u32,
    out4: u32,
    out5: u32,
    in0: u32,
    in1: u32,
    in2: u32,
    in3: u32,
    in4: u32,
    in5: u32,
    before0: u32,
    before1: u32,
    before2: u32,
    before3: u32,
    before4: u32,
    before5: u32,
    x_at: u32,
    y_at: u32,
    // Threads along x; the grid is folded into y.
    row: u32,
}

// 0 constant, 1 reflect, 2 replicate, 3 circular.
override MODE: u32 = 0u;

@group(0) @binding(0) var<storage, read> x: array<E>;
@group(0) @binding(1) var<storage, read_write> y: array<E>;
var<immediate> p: Params;

// The input's coordinate for an output's, in one dimension; less than 0 or past the end only for a constant.
fn from_input(out: u32, before: u32, size: u32) -> i32 {
    let i = i32(out) - i32(before);
    let n = i32(size);
    switch MODE {
        case 1u: { return select(select(i, 2 * (n - 1) - i, i >= n), -i, i < 0); }
        case 2u: { return clamp(i, 0, n - 1); }
        case 3u: { return select(select(i, i - n, i >= n), i + n, i < 0); }
        default: { return i; }
    }
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let i = id.y * p.row + id.x;
    if (i >= p.count) {
        return;
    }
    let r4 = i / p.out5;
    let r3 = r4 / p.out4;
    let r2 = r3 / p.out3;
    let r1 = r2 / p.out2;
    let r0 = r1 / p.out1;
    let i0 = from_input(r0, p.before0, p.in0);
    let i1 = from_input(r1 - r0 * p.out1, p.before1, p.in1);
    let i2 = from_input(r2 - r1 * p.out2, p.before2, p.in2);
    let i3 = from_input(r3 - r2 * p.out3, p.before3, p.in3);
    let i4 = from_input(r4 - r3 * p.out4, p.before4, p.in4);
    let i5 = from_input(i - r4 * p.out5, p.before5, p.in5);
    // Negative coordinates are past any end as u32.
    let inside = u32(i0) < p.in0 && u32(i1) < p.in1 && u32(i2) < p.in2
        && u32(i3) < p.in3 && u32(i4) < p.in4 && u32(i5) < p.in5;
    var bits = p.value; // constant
    if (inside) {
        let at = ((((u32(i0) * p.in1 + u32(i1)) * p.in2 + u32(i2)) * p.in3 + u32(i3)) * p.in4 + u32(i4)) * p.in5 + u32(i5);
        bits = x[p.x_at + at];
    }
    y[p.y_at + i] = bits;
}
