// Rows of tables by the same indices. An index outside the table gives zeros and its position plus 1 in the status word.
// A table larger than a binding comes in parts, one dispatch each, of which the first also does the checking.

// vec4<u32> where a row is a multiple of 4 words, else u32: the bits are copied.
alias T = vec4<u32>;

struct Params {
    // Tables * indices * dim.
    count: u32,
    // The length of a row, in elements of T.
    dim: u32,
    // The rows of the whole table, and those of this part.
    rows: u32,
    first: u32,
    end: u32,
    // Where the arguments start in their buffers, in elements.
    indices_at: u32,
    table_at: u32,
    y_at: u32,
    // Threads along x; the grid is folded into y.
    row: u32,
    // Indices.
    wanted: u32,
}

@group(0) @binding(0) var<storage, read> indices: array<i32>;
@group(0) @binding(1) var<storage, read> table: array<T>;
@group(0) @binding(2) var<storage, read_write> y: array<T>;
@group(0) @binding(3) var<storage, read_write> status: array<atomic<u32>>;
var<immediate> p: Params;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let i = id.y * p.row + id.x;
    if (i >= p.count) {
        return;
    }
    let place = i / p.dim;
    let lane = i - place * p.dim;
    let outer = place / p.wanted;
    let position = place - outer * p.wanted;
    // A negative index becomes one past any table.
    let index = u32(indices[p.indices_at + position]);
    if (index >= p.rows) {
        if (p.first == 0u) {
            y[p.y_at + i] = T();
            atomicMax(&status[0], position + 1u);
        }
        return;
    }
    if (index >= p.first && index < p.end) {
        y[p.y_at + i] = table[p.table_at + (outer * p.rows + index - p.first) * p.dim + lane];
    }
}
