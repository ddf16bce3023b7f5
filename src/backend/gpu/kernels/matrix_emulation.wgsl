// Matrices in plain loops, to run the shader where there are no matrix units: a matrix is where it lies in workgroup
// memory, a matrix of sums is what the thread's lane has of it.
alias Left = u32;
alias Right = u32;
alias Sum = array<f32, 8>;
var<private> own_lane: u32;

// SIDE, but nothing that a compiler could know: drivers of software adapters compile unrolled loops for minutes.
fn side() -> u32 {
    return SIDE + (p.pixels >> 31u);
}

fn number_x(at: u32) -> f32 {
    return f32(vec4<f16>(tile_x[at / WORD])[at % WORD]);
}

fn number_w(at: u32) -> f32 {
    return f32(vec4<f16>(tile_w[at / WORD])[at % WORD]);
}

fn multiply_add(a: Left, b: Right, c: Sum) -> Sum {
    var sums = c;
    for (var i = 0u; i < side() * side() / 32u; i++) {
        let element = own_lane + i * 32u;
        for (var k = 0u; k < side(); k++) {
            let left = number_x(a * WORD + element / SIDE * PITCH + k);
            sums[i] = fma(left, number_w(b * WORD + element % SIDE * PITCH + k), sums[i]);
        }
    }
    return sums;
}

fn keep(c: Sum, at: u32) {
    var sums = c;
    for (var i = 0u; i < side() * side() / 32u; i++) {
        stage[at + own_lane + i * 32u] = sums[i];
    }
}
