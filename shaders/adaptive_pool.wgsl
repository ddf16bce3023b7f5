// Adaptive max and average pooling over NHWC images: window i of `out` is floor(i in / out) .. ceil((i + 1) in / out).
// A thread makes one pixel of 4 channels when T is a vector.

// vec4<f32> where the channels are a multiple of 4, else f32.
alias T = vec4<f32>;
// What the buffers hold: T, or as many f16 in half precision.
alias E = vec4<f32>;
// The bits of T.
alias Bits = vec4<u32>;

struct Params {
    // Output pixels * channels.
    count: u32,
    // In elements of T.
    channels: u32,
    in_h: u32,
    in_w: u32,
    out_h: u32,
    out_w: u32,
    // Where the arguments start in their buffers, in elements of T.
    x_at: u32,
    y_at: u32,
    // Threads along x; the grid is folded into y.
    row: u32,
}

override MAX: u32 = 0u;

@group(0) @binding(0) var<storage, read> x: array<E>;
@group(0) @binding(1) var<storage, read_write> y: array<E>;
var<immediate> p: Params;

// Keeps the compiler from folding numbers that WGSL has no literals for.
fn from_bits(word: u32) -> f32 {
    var w = word;
    return bitcast<f32>(w);
}

// The largest of two numbers; NaN wins. It is known by its bits: a compiler may take it that no number is one, as Metal's
// does.
fn larger(a: T, b: T) -> T {
    return select(a, b, (b > a) | ((bitcast<Bits>(b) & Bits(0x7fffffffu)) > Bits(0x7f800000u)));
}

// floor(i size / count), where i size may be more than 32 bits hold.
fn first(i: u32, size: u32, count: u32) -> u32 {
    return i * (size / count) + i * (size % count) / count;
}

// ceil((i + 1) size / count)
fn last(i: u32, size: u32, count: u32) -> u32 {
    return (i + 1u) * (size / count) + ((i + 1u) * (size % count) + count - 1u) / count;
}

// A number of a window's row, or its last one. Loads have no condition, so that several are under way.
fn fetch(row_at: u32, ix: u32, right: u32) -> E {
    return x[row_at + min(ix, right - 1u) * p.channels];
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let i = id.y * p.row + id.x;
    if (i >= p.count) {
        return;
    }
    let pixel = i / p.channels;
    let channel = i - pixel * p.channels;
    let out_row = pixel / p.out_w;
    let ox = pixel - out_row * p.out_w;
    let image = out_row / p.out_h;
    let oy = out_row - image * p.out_h;
    let top = first(oy, p.in_h, p.out_h);
    let bottom = last(oy, p.in_h, p.out_h);
    let left = first(ox, p.in_w, p.out_w);
    let right = last(ox, p.in_w, p.out_w);
    var best = T(from_bits(0xff800000u));
    var sum = T();
    for (var iy = top; iy < bottom; iy++) {
        // Row by row, so that rounding errors stay small.
        var row_sum = T();
        let row_at = p.x_at + (image * p.in_h + iy) * p.in_w * p.channels + channel;
        for (var ix = left; ix < right; ix += 4u) {
            let x0 = fetch(row_at, ix, right);
            let x1 = fetch(row_at, ix + 1u, right);
            let x2 = fetch(row_at, ix + 2u, right);
            let x3 = fetch(row_at, ix + 3u, right);
            best = larger(best, T(x0));
            row_sum += T(x0);
            if (ix + 1u < right) {
                best = larger(best, T(x1));
                row_sum += T(x1);
            }
            if (ix + 2u < right) {
                best = larger(best, T(x2));
                row_sum += T(x2);
            }
            if (ix + 3u < right) {
                best = larger(best, T(x3));
                row_sum += T(x3);
            }
        }
        sum += row_sum;
    }
    y[p.y_at + i] = E(select(sum / f32((bottom - top) * (right - left)), best, MAX == 1u));
}
