// Reads memory as fast as the device can: the peak that kernels are compared with. Each workgroup reads a block of its own.

struct Params {
    // The `vec4`s of a block, a multiple of the workgroup's threads.
    block: u32,
}

@group(0) @binding(0) var<storage, read_write> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
var<immediate> p: Params;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let start = (id.x - lane) / 64u * p.block;
    var sum = vec4<f32>();
    for (var i = start + lane; i < start + p.block; i += 64u) {
        sum += x[i];
    }
    y[id.x] = sum.x + sum.y + sum.z + sum.w;
}
