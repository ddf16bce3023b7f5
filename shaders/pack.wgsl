// Brings a weight, or a part of one, from the bytes of its file into the order that its kernel reads: f32 (or i32),
// contiguous, scaled by channel. What pads the innermost dimension stays zero, as new buffers are.
//
// The part is a box of up to five dimensions. One thread writes a run of elements along dimension 0, one element of
// each other dimension; threads beside each other write beside each other along dimension 4. Where a weight is
// transposed, dimension 0 is the innermost of the source, so that a thread reads a run of neighbours.

// What the result holds: words, or f16 in half precision.
alias E = u32;

struct Params {
    // Threads: the runs of dimension 0 times the sizes of the others.
    count: u32,
    size1: u32,
    size2: u32,
    size3: u32,
    size4: u32,
    // The elements of a run, and of dimension 0.
    run: u32,
    size0: u32,
    // The box's first element in `source` and the steps along each dimension, in elements of the source's dtype.
    source_at: u32,
    source0: u32,
    source1: u32,
    source2: u32,
    source3: u32,
    source4: u32,
    // The box's first element in `packed` and the steps along each dimension.
    packed_at: u32,
    packed0: u32,
    packed1: u32,
    packed2: u32,
    packed3: u32,
    packed4: u32,
    // The scale of the box's first channel.
    scale_at: u32,
    // Threads along x; the grid is folded into y.
    row: u32,
}

// 0 f32, 1 f64, 2 f16, 3 bf16, 4 i64, 5 i32, 6 i16, 7 i8, 8 u8, 9 bool.
override DTYPE: u32 = 0u;
// Whether the result is i32 (integer dtypes only).
override INT: u32 = 0u;
// The dimension of the box that `scale` runs along; 5 for no scale.
override SCALE_DIM: u32 = 5u;

@group(0) @binding(0) var<storage, read> source: array<u32>;
@group(0) @binding(1) var<storage, read> scale: array<f32>;
@group(0) @binding(2) var<storage, read_write> packed: array<E>;
var<immediate> p: Params;

fn half_word(at: u32) -> u32 {
    return (source[at >> 1u] >> ((at & 1u) * 16u)) & 0xffffu;
}

fn byte(at: u32) -> u32 {
    return (source[at >> 2u] >> ((at & 3u) * 8u)) & 0xffu;
}

// The bits of the f32 nearest to the f64, ties to even.
fn from_f64(lo: u32, hi: u32) -> u32 {
    let sign = hi & 0x80000000u;
    let exponent = (hi >> 20u) & 0x7ffu;
    let mantissa = ((hi & 0xfffffu) << 3u) | (lo >> 29u);
    let rest = lo & 0x1fffffffu;
    if (exponent == 0x7ffu) {
        return sign | 0x7f800000u | select(0u, 0x400000u, ((hi & 0xfffffu) | lo) != 0u);
    }
    let e = i32(exponent) - 896;
    if (e >= 255) {
        return sign | 0x7f800000u;
    }
    if (e > 0) {
        let up = rest > 0x10000000u || (rest == 0x10000000u && (mantissa & 1u) == 1u);
        return sign | (((u32(e) << 23u) | mantissa) + select(0u, 1u, up));
    }
    if (e < -23) {
        return sign;
    }
    let shift = u32(1 - e);
    let full = 0x800000u | mantissa;
    let kept = full >> shift;
    let dropped = full & ((1u << shift) - 1u);
    let half = 1u << (shift - 1u);
    let up = dropped > half || (dropped == half && (rest != 0u || (kept & 1u) == 1u));
    return sign | (kept + select(0u, 1u, up));
}

fn from_f16(bits: u32) -> u32 {
    let sign = (bits & 0x8000u) << 16u;
    let exponent = (bits >> 10u) & 31u;
    let mantissa = bits & 0x3ffu;
    if (exponent == 0u) {
        // Subnormal: a multiple of 2^-24.
        return sign | bitcast<u32>(f32(mantissa) * 5.9604644775390625e-8);
    }
    if (exponent == 31u) {
        return sign | 0x7f800000u | (mantissa << 13u);
    }
    return sign | ((exponent + 112u) << 23u) | (mantissa << 13u);
}

// The bits of the f32 nearest to the 64-bit integer, ties to even.
fn from_i64(lo: u32, hi: u32) -> u32 {
    let sign = hi & 0x80000000u;
    var low = lo;
    var high = hi;
    if (sign != 0u) {
        low = ~lo + 1u;
        high = ~hi + select(0u, 1u, low == 0u);
    }
    if ((high | low) == 0u) {
        return 0u;
    }
    // Moves the highest bit to the top of `high`.
    var exponent = 63u;
    if (high == 0u) {
        high = low;
        low = 0u;
        exponent = 31u;
    }
    let zeros = countLeadingZeros(high);
    if (zeros > 0u) {
        high = (high << zeros) | (low >> (32u - zeros));
        low = low << zeros;
    }
    exponent -= zeros;
    let mantissa = (high >> 8u) & 0x7fffffu;
    let rest = high & 0xffu;
    let up = rest > 0x80u || (rest == 0x80u && (low != 0u || (mantissa & 1u) == 1u));
    return sign | ((((exponent + 127u) << 23u) | mantissa) + select(0u, 1u, up));
}

fn integer(at: u32) -> i32 {
    switch DTYPE {
        case 4u: {
            let lo = source[2u * at];
            let hi = bitcast<i32>(source[2u * at + 1u]);
            if (hi == bitcast<i32>(lo) >> 31u) {
                return bitcast<i32>(lo);
            }
            return select(2147483647, -2147483647 - 1, hi < 0);
        }
        case 5u: { return bitcast<i32>(source[at]); }
        case 6u: { return bitcast<i32>(half_word(at) << 16u) >> 16u; }
        case 7u: { return bitcast<i32>(byte(at) << 24u) >> 24u; }
        case 8u: { return i32(byte(at)); }
        default: { return select(0, 1, byte(at) != 0u); }
    }
}

fn value(at: u32) -> u32 {
    if (INT == 1u) {
        return bitcast<u32>(integer(at));
    }
    switch DTYPE {
        case 0u: { return source[at]; }
        case 1u: { return from_f64(source[2u * at], source[2u * at + 1u]); }
        case 2u: { return from_f16(half_word(at)); }
        case 3u: { return half_word(at) << 16u; }
        case 4u: { return from_i64(source[2u * at], source[2u * at + 1u]); }
        default: { return bitcast<u32>(f32(integer(at))); }
    }
}

fn stored(bits: u32) -> E {
    return bits; // stored
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let i = id.y * p.row + id.x;
    if (i >= p.count) {
        return;
    }
    let r3 = i / p.size4;
    let r2 = r3 / p.size3;
    let r1 = r2 / p.size2;
    let block = r1 / p.size1;
    let i1 = r1 - block * p.size1;
    let i2 = r2 - r1 * p.size2;
    let i3 = r3 - r2 * p.size3;
    let i4 = i - r3 * p.size4;
    let i0 = block * p.run;
    let end = min(p.run, p.size0 - i0);
    var at = p.source_at + i0 * p.source0 + i1 * p.source1 + i2 * p.source2 + i3 * p.source3 + i4 * p.source4;
    var to = p.packed_at + i0 * p.packed0 + i1 * p.packed1 + i2 * p.packed2 + i3 * p.packed3 + i4 * p.packed4;
    if (SCALE_DIM == 0u) {
        for (var r = 0u; r < end; r++) {
            packed[to] = stored(bitcast<u32>(bitcast<f32>(value(at)) * scale[p.scale_at + i0 + r]));
            at += p.source0;
            to += p.packed0;
        }
    } else if (SCALE_DIM < 5u) {
        let channel = select(select(select(i4, i3, SCALE_DIM == 3u), i2, SCALE_DIM == 2u), i1, SCALE_DIM == 1u);
        let factor = scale[p.scale_at + channel];
        for (var r = 0u; r < end; r++) {
            packed[to] = stored(bitcast<u32>(bitcast<f32>(value(at)) * factor));
            at += p.source0;
            to += p.packed0;
        }
    } else {
        for (var r = 0u; r < end; r++) {
            packed[to] = stored(value(at));
            at += p.source0;
            to += p.packed0;
        }
    }
}
