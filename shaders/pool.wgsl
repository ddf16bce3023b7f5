// Max and average pooling over NHWC images; a thread makes one pixel of 4 channels when T is a vector.

// vec4<f32> where the channels are a multiple of 4, else f32.
alias T = vec4<f32>;
// What the buffers hold: T, or as many f16 in half precision.
alias E = vec4<f32>;
// The bits of T.
alias Bits = vec4<u32>;

struct Params {
    // Past the last thread: output pixels * channels, or fewer where they are cut.
    count: u32,
    // In elements of T.
    channels: u32,
    in_h: u32,
    in_w: u32,
    out_h: u32,
    out_w: u32,
    kernel_h: u32,
    kernel_w: u32,
    stride_h: u32,
    stride_w: u32,
    dilation_h: u32,
    dilation_w: u32,
    pad_h: u32,
    pad_w: u32,
    // The divisor of an average; 0 for the number of elements.
    divisor: u32,
    // Where the arguments start in their buffers, in elements of T.
    x_at: u32,
    y_at: u32,
    // The first thread; threads along x, before the grid goes on in y.
    first: u32,
    row: u32,
}

override MAX: u32 = 1u;
override COUNT_PAD: u32 = 1u;

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

// The column that a tap reads, at least `in_w` where there is none.
fn tap(left: i32, kx: u32) -> u32 {
    return select(p.in_w, u32(left + i32(kx * p.dilation_w)), kx < p.kernel_w);
}

// A number of an image's row, or its first one where there is none. Loads have no condition, so that several are under way.
fn fetch(row_at: u32, ix: u32) -> E {
    return x[row_at + select(0u, ix, ix < p.in_w) * p.channels];
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let i = p.first + id.y * p.row + id.x;
    if (i >= p.count) {
        return;
    }
    let pixel = i / p.channels;
    let channel = i - pixel * p.channels;
    let out_row = pixel / p.out_w;
    let ox = pixel - out_row * p.out_w;
    let image = out_row / p.out_h;
    let oy = out_row - image * p.out_h;
    let top = i32(oy * p.stride_h) - i32(p.pad_h);
    let left = i32(ox * p.stride_w) - i32(p.pad_w);
    var best = T(from_bits(0xff800000u));
    var sum = T();
    var inside = 0u;
    for (var ky = 0u; ky < p.kernel_h; ky++) {
        let iy = u32(top + i32(ky * p.dilation_h));
        if (iy < p.in_h) {
            let row_at = p.x_at + (image * p.in_h + iy) * p.in_w * p.channels + channel;
            for (var kx = 0u; kx < p.kernel_w; kx += 3u) {
                let ix0 = tap(left, kx);
                let ix1 = tap(left, kx + 1u);
                let ix2 = tap(left, kx + 2u);
                let x0 = fetch(row_at, ix0);
                let x1 = fetch(row_at, ix1);
                let x2 = fetch(row_at, ix2);
                best = select(best, larger(best, T(x0)), ix0 < p.in_w);
                sum += select(T(), T(x0), ix0 < p.in_w);
                inside += u32(ix0 < p.in_w);
                best = select(best, larger(best, T(x1)), ix1 < p.in_w);
                sum += select(T(), T(x1), ix1 < p.in_w);
                inside += u32(ix1 < p.in_w);
                best = select(best, larger(best, T(x2)), ix2 < p.in_w);
                sum += select(T(), T(x2), ix2 < p.in_w);
                inside += u32(ix2 < p.in_w);
            }
        }
    }
    if (MAX == 1u) {
        y[p.y_at + i] = E(best);
        return;
    }
    var divisor = inside;
    if (p.divisor > 0u) {
        divisor = p.divisor;
    } else if (COUNT_PAD == 1u) {
        // What lies beyond the padding does not count.
        let height = min(top + i32(p.kernel_h), i32(p.in_h + p.pad_h)) - top;
        let width = min(left + i32(p.kernel_w), i32(p.in_w + p.pad_w)) - left;
        divisor = u32(height * width);
    }
    y[p.y_at + i] = E(sum / f32(divisor));
}
