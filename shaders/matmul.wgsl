// The product of two strided matrices per batch entry, on tiles of 64 x 64 that go through workgroup memory; 256 threads
// of 4 x 4. The result is contiguous.

// What the buffers hold: f32, or f16 in half precision.
alias S = f32;

struct Params {
    m: u32,
    n: u32,
    k: u32,
    // Past the last of the tiles that this dispatch makes, counted through all batch entries: along m, then n, then the
    // batch. The sizes of the inner two of three batch dimensions.
    end: u32,
    batch1: u32,
    batch2: u32,
    a_batch0: u32,
    a_batch1: u32,
    a_batch2: u32,
    b_batch0: u32,
    b_batch1: u32,
    b_batch2: u32,
    // The strides of a along m and k, of b along k and n.
    a_m: u32,
    a_k: u32,
    b_k: u32,
    b_n: u32,
    // Where the arguments start in their buffers.
    a_at: u32,
    b_at: u32,
    y_at: u32,
    // The first of these tiles; workgroups along x before they go on in y.
    first: u32,
    fold: u32,
}

// Whether neighbouring threads read neighbours along k (1) or along the other dimension (0).
override A_ALONG_K: u32 = 1u;
override B_ALONG_K: u32 = 0u;

@group(0) @binding(0) var<storage, read> a: array<S>;
@group(0) @binding(1) var<storage, read> b: array<S>;
@group(0) @binding(2) var<storage, read_write> y: array<S>;
var<immediate> p: Params;

// Quads along k by [quad of the step][row], the pitch chosen so that neighbours write to different banks.
const PITCH = 66u;
var<workgroup> tile_a: array<vec4<f32>, 264>;
var<workgroup> tile_b: array<vec4<f32>, 264>;

// a . b + c
fn dot_add(a: vec4<f32>, b: vec4<f32>, c: f32) -> f32 {
    return fma(a.w, b.w, fma(a.z, b.z, fma(a.y, b.y, fma(a.x, b.x, c))));
}

fn dot_add4(a: vec4<f32>, b0: vec4<f32>, b1: vec4<f32>, b2: vec4<f32>, b3: vec4<f32>, c: vec4<f32>) -> vec4<f32> {
    return vec4<f32>(dot_add(a, b0, c.x), dot_add(a, b1, c.y), dot_add(a, b2, c.z), dot_add(a, b3, c.w));
}

// Four numbers along k as the buffer has them: they are not looked at before they are used, since they would be waited for.
struct Four {
    x: S,
    y: S,
    z: S,
    w: S,
}

// Rows and columns past the end repeat the last one; what they give is not stored.
fn fetch_a(at: u32, row: u32, k: u32) -> Four {
    let first = at + min(row, p.m - 1u) * p.a_m + min(k, p.k - 1u) * p.a_k;
    return Four(
        a[first],
        a[first + select(0u, p.a_k, k + 1u < p.k)],
        a[first + select(0u, 2u * p.a_k, k + 2u < p.k)],
        a[first + select(0u, 3u * p.a_k, k + 3u < p.k)],
    );
}

fn fetch_b(at: u32, column: u32, k: u32) -> Four {
    let first = at + min(column, p.n - 1u) * p.b_n + min(k, p.k - 1u) * p.b_k;
    return Four(
        b[first],
        b[first + select(0u, p.b_k, k + 1u < p.k)],
        b[first + select(0u, 2u * p.b_k, k + 2u < p.k)],
        b[first + select(0u, 3u * p.b_k, k + 3u < p.k)],
    );
}

// The four numbers from `k` on, with zeros past the end.
fn quad_of(v: Four, k: u32) -> vec4<f32> {
    let there = vec4<u32>(k) + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(p.k);
    return select(vec4<f32>(), vec4<f32>(f32(v.x), f32(v.y), f32(v.z), f32(v.w)), there);
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group_id: vec3<u32>, @builtin(local_invocation_index) t: u32) {
    let tile = p.first + group_id.y * p.fold + group_id.x;
    if (tile >= p.end) {
        return;
    }
    let down = (p.m - 1u) / 64u + 1u;
    let across = (p.n - 1u) / 64u + 1u;
    let column_tile = tile / down;
    let batch = column_tile / across;
    let first_row = (tile - column_tile * down) * 64u;
    let first_column = (column_tile - batch * across) * 64u;
    let tx = t % 16u;
    let ty = t / 16u;
    // The quad and the row of the tile that this thread loads.
    let a_quad = select(t / 64u, t % 4u, A_ALONG_K == 1u);
    let a_row = select(t % 64u, t / 4u, A_ALONG_K == 1u);
    let b_quad = select(t / 64u, t % 4u, B_ALONG_K == 1u);
    let b_row = select(t % 64u, t / 4u, B_ALONG_K == 1u);
    let outer = batch / p.batch2;
    let i2 = batch - outer * p.batch2;
    let i0 = outer / p.batch1;
    let i1 = outer - i0 * p.batch1;
    let a_at = p.a_at + i0 * p.a_batch0 + i1 * p.a_batch1 + i2 * p.a_batch2;
    let b_at = p.b_at + i0 * p.b_batch0 + i1 * p.b_batch1 + i2 * p.b_batch2;
    var acc0 = vec4<f32>();
    var acc1 = vec4<f32>();
    var acc2 = vec4<f32>();
    var acc3 = vec4<f32>();
    var next_a = Four();
    var next_b = Four();
    if (p.k > 0u) {
        next_a = fetch_a(a_at, first_row + a_row, a_quad * 4u);
        next_b = fetch_b(b_at, first_column + b_row, b_quad * 4u);
    }
    for (var step = 0u; step < p.k; step += 16u) {
        tile_a[a_quad * PITCH + a_row] = quad_of(next_a, step + a_quad * 4u);
        tile_b[b_quad * PITCH + b_row] = quad_of(next_b, step + b_quad * 4u);
        workgroupBarrier();
        // The next step's loads are on their way while this one is summed.
        next_a = fetch_a(a_at, first_row + a_row, step + 16u + a_quad * 4u);
        next_b = fetch_b(b_at, first_column + b_row, step + 16u + b_quad * 4u);
        let a00 = tile_a[0u * PITCH + ty + 0u];
        let a01 = tile_a[0u * PITCH + ty + 16u];
        let a02 = tile_a[0u * PITCH + ty + 32u];
        let a03 = tile_a[0u * PITCH + ty + 48u];
        let b00 = tile_b[0u * PITCH + tx + 0u];
        let b01 = tile_b[0u * PITCH + tx + 16u];
        let b02 = tile_b[0u * PITCH + tx + 32u];
        let b03 = tile_b[0u * PITCH + tx + 48u];
        acc0 = dot_add4(a00, b00, b01, b02, b03, acc0);
        acc1 = dot_add4(a01, b00, b01, b02, b03, acc1);
        acc2 = dot_add4(a02, b00, b01, b02, b03, acc2);
        acc3 = dot_add4(a03, b00, b01, b02, b03, acc3);
        let a10 = tile_a[1u * PITCH + ty + 0u];
        let a11 = tile_a[1u * PITCH + ty + 16u];
        let a12 = tile_a[1u * PITCH + ty + 32u];
        let a13 = tile_a[1u * PITCH + ty + 48u];
        let b10 = tile_b[1u * PITCH + tx + 0u];
        let b11 = tile_b[1u * PITCH + tx + 16u];
        let b12 = tile_b[1u * PITCH + tx + 32u];
        let b13 = tile_b[1u * PITCH + tx + 48u];
        acc0 = dot_add4(a10, b10, b11, b12, b13, acc0);
        acc1 = dot_add4(a11, b10, b11, b12, b13, acc1);
        acc2 = dot_add4(a12, b10, b11, b12, b13, acc2);
        acc3 = dot_add4(a13, b10, b11, b12, b13, acc3);
        let a20 = tile_a[2u * PITCH + ty + 0u];
        let a21 = tile_a[2u * PITCH + ty + 16u];
        let a22 = tile_a[2u * PITCH + ty + 32u];
        let a23 = tile_a[2u * PITCH + ty + 48u];
        let b20 = tile_b[2u * PITCH + tx + 0u];
        let b21 = tile_b[2u * PITCH + tx + 16u];
        let b22 = tile_b[2u * PITCH + tx + 32u];
        let b23 = tile_b[2u * PITCH + tx + 48u];
        acc0 = dot_add4(a20, b20, b21, b22, b23, acc0);
        acc1 = dot_add4(a21, b20, b21, b22, b23, acc1);
        acc2 = dot_add4(a22, b20, b21, b22, b23, acc2);
        acc3 = dot_add4(a23, b20, b21, b22, b23, acc3);
        let a30 = tile_a[3u * PITCH + ty + 0u];
        let a31 = tile_a[3u * PITCH + ty + 16u];
        let a32 = tile_a[3u * PITCH + ty + 32u];
        let a33 = tile_a[3u * PITCH + ty + 48u];
        let b30 = tile_b[3u * PITCH + tx + 0u];
        let b31 = tile_b[3u * PITCH + tx + 16u];
        let b32 = tile_b[3u * PITCH + tx + 32u];
        let b33 = tile_b[3u * PITCH + tx + 48u];
        acc0 = dot_add4(a30, b30, b31, b32, b33, acc0);
        acc1 = dot_add4(a31, b30, b31, b32, b33, acc1);
        acc2 = dot_add4(a32, b30, b31, b32, b33, acc2);
        acc3 = dot_add4(a33, b30, b31, b32, b33, acc3);
        workgroupBarrier();
    }
    for (var i = 0u; i < 4u; i++) {
        let row = first_row + ty + i * 16u;
        let acc = select(select(acc0, acc1, i == 1u), select(acc2, acc3, i == 3u), i > 1u);
        for (var j = 0u; j < 4u; j++) {
            let column = first_column + tx + j * 16u;
            if (row < p.m && column < p.n) {
                y[p.y_at + (batch * p.m + row) * p.n + column] = S(acc[j]);
            }
        }
    }
}
