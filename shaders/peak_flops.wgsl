// Multiplies and adds as fast as the device can and touches no memory: the peak that kernels are compared with. Eight
// chains of `vec4`s, so that no step waits for the one before it.

struct Params {
    rounds: u32,
}

@group(0) @binding(0) var<storage, read_write> y: array<f32>;
var<immediate> p: Params;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    // The chains stay near 2, whatever the number of rounds.
    let a = vec4<f32>(0.5 + f32(id.x & 3u) * 0.001);
    let b = vec4<f32>(1.0, 1.01, 1.02, 1.03);
    var x0 = b;
    var x1 = b + 0.1;
    var x2 = b + 0.2;
    var x3 = b + 0.3;
    var x4 = b + 0.4;
    var x5 = b + 0.5;
    var x6 = b + 0.6;
    var x7 = b + 0.7;
    for (var round = 0u; round < p.rounds; round++) {
        x0 = fma(x0, a, b);
        x1 = fma(x1, a, b);
        x2 = fma(x2, a, b);
        x3 = fma(x3, a, b);
        x4 = fma(x4, a, b);
        x5 = fma(x5, a, b);
        x6 = fma(x6, a, b);
        x7 = fma(x7, a, b);
        x0 = fma(x0, a, b);
        x1 = fma(x1, a, b);
        x2 = fma(x2, a, b);
        x3 = fma(x3, a, b);
        x4 = fma(x4, a, b);
        x5 = fma(x5, a, b);
        x6 = fma(x6, a, b);
        x7 = fma(x7, a, b);
        x0 = fma(x0, a, b);
        x1 = fma(x1, a, b);
        x2 = fma(x2, a, b);
        x3 = fma(x3, a, b);
        x4 = fma(x4, a, b);
        x5 = fma(x5, a, b);
        x6 = fma(x6, a, b);
        x7 = fma(x7, a, b);
        x0 = fma(x0, a, b);
        x1 = fma(x1, a, b);
        x2 = fma(x2, a, b);
        x3 = fma(x3, a, b);
        x4 = fma(x4, a, b);
        x5 = fma(x5, a, b);
        x6 = fma(x6, a, b);
        x7 = fma(x7, a, b);
    }
    let sum = x0 + x1 + x2 + x3 + x4 + x5 + x6 + x7;
    y[id.x] = sum.x + sum.y + sum.z + sum.w;
}
