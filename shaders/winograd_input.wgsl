// The start of a 3x3 convolution by Winograd's F(2x2, 3x3): B^T d B of every tile's 4 x 4 pixels. A thread takes 4
// channels of a tile. What lies outside the image is zero.

alias T = vec4<f32>;

struct Params {
    // Threads: tiles * channels; the channels in elements of T.
    count: u32,
    channels: u32,
    in_h: u32,
    in_w: u32,
    pad_h: u32,
    pad_w: u32,
    // The rows and columns of tiles of an image.
    tiles_h: u32,
    tiles_w: u32,
    // Threads along x; the grid is folded into y.
    row: u32,
    // Where x starts in its buffer, in elements of T.
    x_at: u32,
}

@group(0) @binding(0) var<storage, read> x: array<T>;
// [tile][point][channel]
@group(0) @binding(1) var<storage, read_write> points: array<vec4<f32>>;
var<immediate> p: Params;

fn fetch(row: u32, column: u32, at: u32) -> vec4<f32> {
    if (row >= p.in_h || column >= p.in_w) {
        return vec4<f32>();
    }
    return vec4<f32>(x[at + (row * p.in_w + column) * p.channels]);
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let i = id.y * p.row + id.x;
    if (i >= p.count) {
        return;
    }
    let tile = i / p.channels;
    let channel = i - tile * p.channels;
    let tile_row = tile / p.tiles_w;
    let image = tile_row / p.tiles_h;
    // A position above or left of the image wraps around, and is past its end too.
    let left = (tile - tile_row * p.tiles_w) * 2u - p.pad_w;
    let top = (tile_row - image * p.tiles_h) * 2u - p.pad_h;
    let from_at = p.x_at + image * p.in_h * p.in_w * p.channels + channel;
    let to = tile * 16u * p.channels + channel;
    let d00 = fetch(top + 0u, left + 0u, from_at);
    let d10 = fetch(top + 1u, left + 0u, from_at);
    let d20 = fetch(top + 2u, left + 0u, from_at);
    let d30 = fetch(top + 3u, left + 0u, from_at);
    let b00 = d00 - d20;
    let b10 = d10 + d20;
    let b20 = d20 - d10;
    let b30 = d10 - d30;
    let d01 = fetch(top + 0u, left + 1u, from_at);
    let d11 = fetch(top + 1u, left + 1u, from_at);
    let d21 = fetch(top + 2u, left + 1u, from_at);
    let d31 = fetch(top + 3u, left + 1u, from_at);
    let b01 = d01 - d21;
    let b11 = d11 + d21;
    let b21 = d21 - d11;
    let b31 = d11 - d31;
    let d02 = fetch(top + 0u, left + 2u, from_at);
    let d12 = fetch(top + 1u, left + 2u, from_at);
    let d22 = fetch(top + 2u, left + 2u, from_at);
    let d32 = fetch(top + 3u, left + 2u, from_at);
    let b02 = d02 - d22;
    let b12 = d12 + d22;
    let b22 = d22 - d12;
    let b32 = d12 - d32;
    let d03 = fetch(top + 0u, left + 3u, from_at);
    let d13 = fetch(top + 1u, left + 3u, from_at);
    let d23 = fetch(top + 2u, left + 3u, from_at);
    let d33 = fetch(top + 3u, left + 3u, from_at);
    let b03 = d03 - d23;
    let b13 = d13 + d23;
    let b23 = d23 - d13;
    let b33 = d13 - d33;
    points[to + 0u * p.channels] = b00 - b02;
    points[to + 1u * p.channels] = b01 + b02;
    points[to + 2u * p.channels] = b02 - b01;
    points[to + 3u * p.channels] = b01 - b03;
    points[to + 4u * p.channels] = b10 - b12;
    points[to + 5u * p.channels] = b11 + b12;
    points[to + 6u * p.channels] = b12 - b11;
    points[to + 7u * p.channels] = b11 - b13;
    points[to + 8u * p.channels] = b20 - b22;
    points[to + 9u * p.channels] = b21 + b22;
    points[to + 10u * p.channels] = b22 - b21;
    points[to + 11u * p.channels] = b21 - b23;
    points[to + 12u * p.channels] = b30 - b32;
    points[to + 13u * p.channels] = b31 + b32;
    points[to + 14u * p.channels] = b32 - b31;
    points[to + 15u * p.channels] = b31 - b33;
}
