// The weights of a 3x3 convolution by Winograd's F(2x2, 3x3): G g G^T, from [channel][tap][quad of inputs] to
// [point][channel][quad of inputs]. The taps themselves follow in that order: `winograd_output` computes sums with them
// that are not finite. A thread takes one quad of one channel.

alias T = vec4<f32>;

struct Params {
    // Threads: channels * quads.
    count: u32,
    quads: u32,
    // Threads along x; the grid is folded into y.
    row: u32,
}

@group(0) @binding(0) var<storage, read> w: array<T>;
@group(0) @binding(1) var<storage, read_write> points: array<T>;
var<immediate> p: Params;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let i = id.y * p.row + id.x;
    if (i >= p.count) {
        return;
    }
    let channel = i / p.quads;
    let at = channel * 9u * p.quads + i - channel * p.quads;
    let g00 = w[at + 0u * p.quads];
    let g10 = w[at + 3u * p.quads];
    let g20 = w[at + 6u * p.quads];
    let h10 = 0.5 * (g00 + g10 + g20);
    let h20 = 0.5 * (g00 - g10 + g20);
    let g01 = w[at + 1u * p.quads];
    let g11 = w[at + 4u * p.quads];
    let g21 = w[at + 7u * p.quads];
    let h11 = 0.5 * (g01 + g11 + g21);
    let h21 = 0.5 * (g01 - g11 + g21);
    let g02 = w[at + 2u * p.quads];
    let g12 = w[at + 5u * p.quads];
    let g22 = w[at + 8u * p.quads];
    let h12 = 0.5 * (g02 + g12 + g22);
    let h22 = 0.5 * (g02 - g12 + g22);
    points[i] = g00;
    points[1u * p.count + i] = 0.5 * (g00 + g01 + g02);
    points[2u * p.count + i] = 0.5 * (g00 - g01 + g02);
    points[3u * p.count + i] = g02;
    points[4u * p.count + i] = h10;
    points[5u * p.count + i] = 0.5 * (h10 + h11 + h12);
    points[6u * p.count + i] = 0.5 * (h10 - h11 + h12);
    points[7u * p.count + i] = h12;
    points[8u * p.count + i] = h20;
    points[9u * p.count + i] = 0.5 * (h20 + h21 + h22);
    points[10u * p.count + i] = 0.5 * (h20 - h21 + h22);
    points[11u * p.count + i] = h22;
    points[12u * p.count + i] = g20;
    points[13u * p.count + i] = 0.5 * (g20 + g21 + g22);
    points[14u * p.count + i] = 0.5 * (g20 - g21 + g22);
    points[15u * p.count + i] = g22;
    points[16u * p.count + i] = g00;
    points[17u * p.count + i] = g01;
    points[18u * p.count + i] = g02;
    points[19u * p.count + i] = g10;
    points[20u * p.count + i] = g11;
    points[21u * p.count + i] = g12;
    points[22u * p.count + i] = g20;
    points[23u * p.count + i] = g21;
    points[24u * p.count + i] = g22;
}
