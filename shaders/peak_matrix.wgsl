// Multiplies matrices on the matrix units as fast as the device can and touches no memory: the peak that products of f16
// with sums of f32 are compared with. Eight sums, so that no step waits for the one before it.

enable f16;
enable wgpu_cooperative_matrix;

// The matrices: of 16 rows and columns, or of 8.
alias Left = coop_mat16x16<f16, A>;
alias Right = coop_mat16x16<f16, B>;
alias Sum = coop_mat16x16<f32, C>;
override SIDE: u32 = 16u;

struct Params {
    rounds: u32,
}

@group(0) @binding(0) var<storage, read_write> y: array<f32>;
var<immediate> p: Params;

// Four matrices for the left and two for the right, no two alike.
var<workgroup> factors: array<f16, 1536>;

@compute @workgroup_size(32)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) t: u32) {
    for (var i = t; i < 6u * SIDE * SIDE; i += 32u) {
        factors[i] = f16(f32(i % 7u) - 3.0) / 64.0;
    }
    workgroupBarrier();
    let left0_at = 0u * SIDE * SIDE;
    let left0 = coopLoadT<Left>(&factors[left0_at], SIDE);
    let left1_at = 1u * SIDE * SIDE;
    let left1 = coopLoadT<Left>(&factors[left1_at], SIDE);
    let left2_at = 2u * SIDE * SIDE;
    let left2 = coopLoadT<Left>(&factors[left2_at], SIDE);
    let left3_at = 3u * SIDE * SIDE;
    let left3 = coopLoadT<Left>(&factors[left3_at], SIDE);
    let right0_at = 4u * SIDE * SIDE;
    let right0 = coopLoad<Right>(&factors[right0_at], SIDE);
    let right1_at = 5u * SIDE * SIDE;
    let right1 = coopLoad<Right>(&factors[right1_at], SIDE);
    var sum00 = Sum();
    var sum01 = Sum();
    var sum10 = Sum();
    var sum11 = Sum();
    var sum20 = Sum();
    var sum21 = Sum();
    var sum30 = Sum();
    var sum31 = Sum();
    for (var round = 0u; round < p.rounds; round++) {
        sum00 = coopMultiplyAdd(left0, right0, sum00);
        sum01 = coopMultiplyAdd(left0, right1, sum01);
        sum10 = coopMultiplyAdd(left1, right0, sum10);
        sum11 = coopMultiplyAdd(left1, right1, sum11);
        sum20 = coopMultiplyAdd(left2, right0, sum20);
        sum21 = coopMultiplyAdd(left2, right1, sum21);
        sum30 = coopMultiplyAdd(left3, right0, sum30);
        sum31 = coopMultiplyAdd(left3, right1, sum31);
        sum00 = coopMultiplyAdd(left0, right0, sum00);
        sum01 = coopMultiplyAdd(left0, right1, sum01);
        sum10 = coopMultiplyAdd(left1, right0, sum10);
        sum11 = coopMultiplyAdd(left1, right1, sum11);
        sum20 = coopMultiplyAdd(left2, right0, sum20);
        sum21 = coopMultiplyAdd(left2, right1, sum21);
        sum30 = coopMultiplyAdd(left3, right0, sum30);
        sum31 = coopMultiplyAdd(left3, right1, sum31);
        sum00 = coopMultiplyAdd(left0, right0, sum00);
        sum01 = coopMultiplyAdd(left0, right1, sum01);
        sum10 = coopMultiplyAdd(left1, right0, sum10);
        sum11 = coopMultiplyAdd(left1, right1, sum11);
        sum20 = coopMultiplyAdd(left2, right0, sum20);
        sum21 = coopMultiplyAdd(left2, right1, sum21);
        sum30 = coopMultiplyAdd(left3, right0, sum30);
        sum31 = coopMultiplyAdd(left3, right1, sum31);
        sum00 = coopMultiplyAdd(left0, right0, sum00);
        sum01 = coopMultiplyAdd(left0, right1, sum01);
        sum10 = coopMultiplyAdd(left1, right0, sum10);
        sum11 = coopMultiplyAdd(left1, right1, sum11);
        sum20 = coopMultiplyAdd(left2, right0, sum20);
        sum21 = coopMultiplyAdd(left2, right1, sum21);
        sum30 = coopMultiplyAdd(left3, right0, sum30);
        sum31 = coopMultiplyAdd(left3, right1, sum31);
    }
    // What nobody reads would not be computed.
    let sum = sum00 + sum01 + sum10 + sum11 + sum20 + sum21 + sum30 + sum31;
    let at = group.x * SIDE * SIDE;
    coopStoreT(sum, &y[at], SIDE);
}
