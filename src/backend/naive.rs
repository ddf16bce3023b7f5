//! Every kernel the slow and obvious way, in `f64`: what the tests of both backends compare with.

use crate::graph::op::{Binary, Fused, Instr, PadMode, PoolKind, Program, Reduce, Residual, Unary};
use crate::graph::step::{
    AdaptivePoolStep, AttentionStep, ConvStep, Kernel, LinearStep, MatmulStep, PointwiseStep, PoolStep,
};

/// Runs `kernel`. Inputs and output start at the arguments' offsets; only what the kernel writes changes in `out`.
/// Integers are exact in `f64`.
pub(crate) fn run(kernel: &Kernel, inputs: &[&[f64]], out: &mut [f64]) {
    match kernel {
        Kernel::Conv2d(step) => conv2d(step, inputs, out),
        Kernel::Linear(step) => linear(step, inputs, out),
        Kernel::Matmul(step) => matmul(step, inputs, out),
        Kernel::Pointwise(step) => pointwise(step, inputs, out),
        Kernel::Pool2d(step) => pool2d(step, inputs[0], out),
        Kernel::AdaptivePool2d(step) => adaptive_pool2d(step, inputs[0], out),
        Kernel::Reduce { kind, outer, len, inner } => {
            for (o, i) in pairs(*outer, *inner) {
                let line = (0..*len).map(|l| inputs[0][(o * len + l) * inner + i]);
                out[o * inner + i] = match kind {
                    Reduce::Sum => line.sum(),
                    Reduce::Mean => line.sum::<f64>() / *len as f64,
                    Reduce::Max => line.fold(f64::NEG_INFINITY, maximum),
                };
            }
        }
        Kernel::Softmax { outer, len, inner, log } => {
            for (o, i) in pairs(*outer, *inner) {
                let at = |l: usize| (o * len + l) * inner + i;
                let max = (0..*len).map(|l| inputs[0][at(l)]).fold(f64::NEG_INFINITY, maximum);
                let sum: f64 = (0..*len).map(|l| (inputs[0][at(l)] - max).exp()).sum();
                for l in 0..*len {
                    let x = inputs[0][at(l)] - max;
                    out[at(l)] = if *log { x - sum.ln() } else { x.exp() / sum };
                }
            }
        }
        Kernel::Cumsum { outer, len, inner } => {
            for (o, i) in pairs(*outer, *inner) {
                let mut sum = 0.0;
                for l in 0..*len {
                    let at = (o * len + l) * inner + i;
                    sum += inputs[0][at];
                    out[at] = sum;
                }
            }
        }
        Kernel::LayerNorm { rows, len, eps, affine } => {
            for row in 0..*rows {
                let x = &inputs[0][row * len..][..*len];
                let mean = x.iter().sum::<f64>() / *len as f64;
                let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / *len as f64;
                for i in 0..*len {
                    let y = (x[i] - mean) / (variance + f64::from(*eps)).sqrt();
                    out[row * len + i] = if *affine { y * inputs[1][i] + inputs[2][i] } else { y };
                }
            }
        }
        Kernel::Attention(step) => attention(step, inputs, out),
        Kernel::Embedding { outer, count, rows, dim } => {
            for (o, i) in pairs(*outer, *count) {
                let index = inputs[0][i] as usize;
                assert!(inputs[0][i] >= 0.0 && index < *rows, "the caller tests bad indices");
                out[(o * count + i) * dim..][..*dim].copy_from_slice(&inputs[1][(o * rows + index) * dim..][..*dim]);
            }
        }
        Kernel::Pad { shape, pads, mode } => pad(shape, pads, *mode, inputs[0], out),
    }
}

/// All `(a, b)` with `a` below the first and `b` below the second number.
fn pairs(a: usize, b: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..a).flat_map(move |x| (0..b).map(move |y| (x, y)))
}

/// Calls `visit` with every index below `shape`, in row-major order.
fn for_each_index(shape: &[usize], mut visit: impl FnMut(&[usize])) {
    if shape.contains(&0) {
        return;
    }
    let mut index = vec![0; shape.len()];
    loop {
        visit(&index);
        let Some(dim) = (0..shape.len()).rev().find(|&d| index[d] + 1 < shape[d]) else { return };
        index[dim] += 1;
        index[dim + 1..].fill(0);
    }
}

fn dot(index: &[usize], strides: &[usize]) -> usize {
    index.iter().zip(strides).map(|(i, s)| i * s).sum()
}

/// What follows the product: `y` at output position `at` of channel `channel`. The scale is applied by the caller.
fn fuse(fused: &Fused, inputs: &[&[f64]], channel: usize, at: usize, mut y: f64) -> f64 {
    if let Some(i) = fused.bias_index() {
        y += inputs[i][channel];
    }
    let residual = fused.residual_index().map_or(0.0, |i| inputs[i][at]);
    if fused.residual == Residual::BeforeActivation {
        y += residual;
    }
    if let Some(activation) = fused.activation {
        y = unary(activation, y);
    }
    if fused.residual == Residual::AfterActivation {
        y += residual;
    }
    y
}

fn scale_of(fused: &Fused, inputs: &[&[f64]], channel: usize) -> f64 {
    fused.scale_index().map_or(1.0, |i| inputs[i][channel])
}

fn conv2d(step: &ConvStep, inputs: &[&[f64]], out: &mut [f64]) {
    let (x, weight) = (inputs[0], inputs[1]);
    let [height, width] = step.input;
    let [kernel_y, kernel_x] = step.kernel;
    let (in_group, out_group) = (step.c_in / step.groups, step.c_out / step.groups);
    for_each_index(&[step.batch, step.output[0], step.output[1], step.c_out], |index| {
        let &[n, y, xx, channel] = index else { unreachable!() };
        let group = channel / out_group;
        let mut sum = 0.0;
        for (i, j) in pairs(kernel_y, kernel_x) {
            let in_y = (y * step.stride[0] + i * step.dilation[0]).wrapping_sub(step.padding[0]);
            let in_x = (xx * step.stride[1] + j * step.dilation[1]).wrapping_sub(step.padding[1]);
            if in_y >= height || in_x >= width {
                continue;
            }
            for c in 0..in_group {
                let pixel = x[((n * height + in_y) * width + in_x) * step.c_in + group * in_group + c];
                sum += pixel * weight[((channel * in_group + c) * kernel_y + i) * kernel_x + j];
            }
        }
        sum *= scale_of(&step.fused, inputs, channel);
        let at = ((n * step.output[0] + y) * step.output[1] + xx) * step.c_out + channel;
        out[at] = fuse(&step.fused, inputs, channel, at, sum);
    });
}

fn linear(step: &LinearStep, inputs: &[&[f64]], out: &mut [f64]) {
    for (row, n) in pairs(step.rows, step.n) {
        let sum: f64 = (0..step.k).map(|k| inputs[0][row * step.k + k] * inputs[1][n * step.k + k]).sum();
        let at = row * step.n + n;
        out[at] = fuse(&step.fused, inputs, n, at, sum * scale_of(&step.fused, inputs, n));
    }
}

fn matmul(step: &MatmulStep, inputs: &[&[f64]], out: &mut [f64]) {
    let mut batch = 0;
    for_each_index(&step.batch, |index| {
        let (a, b) = (dot(index, &step.a_batch), dot(index, &step.b_batch));
        for (m, n) in pairs(step.m, step.n) {
            out[(batch * step.m + m) * step.n + n] = (0..step.k)
                .map(|k| inputs[0][a + m * step.a[0] + k * step.a[1]] * inputs[1][b + k * step.b[0] + n * step.b[1]])
                .sum();
        }
        batch += 1;
    });
}

fn pointwise(step: &PointwiseStep, inputs: &[&[f64]], out: &mut [f64]) {
    for_each_index(&step.shape, |index| {
        let values: Vec<f64> = inputs.iter().zip(&step.strides).map(|(x, strides)| x[dot(index, strides)]).collect();
        out[dot(index, &step.out_strides)] = evaluate(&step.program, &values);
    });
}

/// The program's result for one element of each input.
pub(crate) fn evaluate(program: &Program, inputs: &[f64]) -> f64 {
    let mut values: Vec<f64> = Vec::new();
    for instr in &program.instrs {
        values.push(match *instr {
            Instr::Input(i) => inputs[i],
            Instr::Const(x) => x.into(),
            Instr::Unary(op, a) => unary(op, values[a]),
            Instr::Binary(op, a, b) => binary(op, values[a], values[b]),
        });
    }
    *values.last().expect("a program has an instruction")
}

/// Pools the input positions `ys` x `xs`, signed because they may lie in the padding.
fn window(
    kind: PoolKind,
    plane: impl Fn(usize, usize) -> f64,
    [ys, xs]: [&[isize]; 2],
    [height, width]: [usize; 2],
    counted: usize,
) -> f64 {
    let mut values = Vec::new();
    for &y in ys {
        for &x in xs {
            if (0..height as isize).contains(&y) && (0..width as isize).contains(&x) {
                values.push(plane(y as usize, x as usize));
            }
        }
    }
    match kind {
        PoolKind::Max => values.into_iter().fold(f64::NEG_INFINITY, maximum),
        PoolKind::Avg { count_include_pad, divisor } => {
            let count = if count_include_pad { counted } else { values.len() };
            values.iter().sum::<f64>() / divisor.unwrap_or(count) as f64
        }
    }
}

fn pool2d(step: &PoolStep, x: &[f64], out: &mut [f64]) {
    let positions = |out: usize, d: usize| -> Vec<isize> {
        (0..step.kernel[d])
            .map(|i| (out * step.stride[d] + i * step.dilation[d]) as isize - step.padding[d] as isize)
            // What lies beyond the padding never counts.
            .filter(|&p| p < (step.input[d] + step.padding[d]) as isize)
            .collect()
    };
    let [height, width] = step.input;
    for_each_index(&[step.batch, step.output[0], step.output[1], step.channels], |index| {
        let &[n, y, xx, c] = index else { unreachable!() };
        let (ys, xs) = (positions(y, 0), positions(xx, 1));
        let plane = |y: usize, xx: usize| x[((n * height + y) * width + xx) * step.channels + c];
        out[((n * step.output[0] + y) * step.output[1] + xx) * step.channels + c] =
            window(step.kind, plane, [&ys, &xs], step.input, ys.len() * xs.len());
    });
}

fn adaptive_pool2d(step: &AdaptivePoolStep, x: &[f64], out: &mut [f64]) {
    let positions = |i: usize, d: usize| -> Vec<isize> {
        let (input, output) = (step.input[d], step.output[d]);
        ((i * input / output) as isize..((i + 1) * input).div_ceil(output) as isize).collect()
    };
    let [height, width] = step.input;
    for_each_index(&[step.batch, step.output[0], step.output[1], step.channels], |index| {
        let &[n, y, xx, c] = index else { unreachable!() };
        let (ys, xs) = (positions(y, 0), positions(xx, 1));
        let plane = |y: usize, xx: usize| x[((n * height + y) * width + xx) * step.channels + c];
        out[((n * step.output[0] + y) * step.output[1] + xx) * step.channels + c] =
            window(step.kind, plane, [&ys, &xs], step.input, ys.len() * xs.len());
    });
}

fn attention(step: &AttentionStep, inputs: &[&[f64]], out: &mut [f64]) {
    for_each_index(&[step.batch, step.heads, step.q_len], |index| {
        let &[b, h, i] = index else { unreachable!() };
        let scores: Vec<f64> = (0..step.kv_len)
            .map(|j| {
                if step.causal && j > i {
                    return f64::NEG_INFINITY;
                }
                let (q, k) = (dot(index, &step.q), dot(&[b, h, j], &step.k));
                let product: f64 = (0..step.head_dim).map(|d| inputs[0][q + d] * inputs[1][k + d]).sum();
                product * f64::from(step.scale) + step.mask.map_or(0.0, |mask| inputs[3][dot(&[b, h, i, j], &mask)])
            })
            .collect();
        let max = scores.iter().copied().fold(f64::NEG_INFINITY, maximum);
        let sum: f64 = scores.iter().map(|s| (s - max).exp()).sum();
        let is_blind = max == f64::NEG_INFINITY && !step.blind_is_nan;
        let weights: Vec<f64> = scores.iter().map(|s| if is_blind { 0.0 } else { (s - max).exp() / sum }).collect();
        for d in 0..step.v_dim {
            let weighted = |(j, weight): (usize, &f64)| weight * inputs[2][dot(&[b, h, j], &step.v) + d];
            out[dot(index, &step.out) + d] = weights.iter().enumerate().map(weighted).sum();
        }
    });
}

fn pad(shape: &[usize], pads: &[(usize, usize)], mode: PadMode, x: &[f64], out: &mut [f64]) {
    let padded: Vec<usize> = shape.iter().zip(pads).map(|(size, (before, after))| before + size + after).collect();
    let mut at = 0;
    for_each_index(&padded, |index| {
        let mut source = 0;
        let mut inside = true;
        for dim in 0..shape.len() {
            let size = shape[dim] as isize;
            let position = index[dim] as isize - pads[dim].0 as isize;
            inside &= (0..size).contains(&position);
            let position = match mode {
                PadMode::Constant(_) => position.clamp(0, (size - 1).max(0)),
                PadMode::Replicate => position.clamp(0, size - 1),
                PadMode::Circular => position.rem_euclid(size),
                PadMode::Reflect if position < 0 => -position,
                PadMode::Reflect if position >= size => 2 * (size - 1) - position,
                PadMode::Reflect => position,
            };
            source = source * shape[dim] + position as usize;
        }
        out[at] = match mode {
            PadMode::Constant(value) if !inside => value.into(),
            _ => x[source],
        };
        at += 1;
    });
}

/// The larger number; NaN wins.
fn maximum(a: f64, b: f64) -> f64 {
    if a.is_nan() || a > b { a } else { b }
}

/// PyTorch's function of one number.
pub(crate) fn unary(op: Unary, x: f64) -> f64 {
    let clamp = |x: f64, min: f64, max: f64| if x < min { min } else { if x > max { max } else { x } };
    match op {
        Unary::Relu => clamp(x, 0.0, f64::INFINITY),
        Unary::Clamp { min, max } => clamp(x, min.into(), max.into()),
        Unary::LeakyRelu { slope } => x * if x > 0.0 { 1.0 } else { f64::from(slope) },
        Unary::Elu { alpha } => {
            if x > 0.0 {
                x
            } else {
                f64::from(alpha) * x.exp_m1()
            }
        }
        Unary::Sigmoid => 1.0 / (1.0 + (-x).exp()),
        Unary::Tanh => x.tanh(),
        Unary::Silu => x / (1.0 + (-x).exp()),
        Unary::Gelu => x / 2.0 * erfc(-x * std::f64::consts::FRAC_1_SQRT_2),
        Unary::GeluTanh => x / 2.0 * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x)).tanh()),
        Unary::Hardswish => x * clamp(x + 3.0, 0.0, 6.0) / 6.0,
        Unary::Hardsigmoid => clamp(x + 3.0, 0.0, 6.0) / 6.0,
        Unary::Neg => -x,
        Unary::Abs => x.abs(),
        Unary::Exp => x.exp(),
        Unary::Log => x.ln(),
        Unary::Sqrt => x.sqrt(),
        Unary::Rsqrt => 1.0 / x.sqrt(),
        Unary::Erf => erf(x),
        Unary::Sin => x.sin(),
        Unary::Cos => x.cos(),
        Unary::Floor => x.floor(),
        Unary::Ceil => x.ceil(),
        Unary::Round => x.round_ties_even(),
        // Integers are numbers here.
        Unary::Trunc | Unary::ToInt => x.trunc(),
        Unary::FromInt => x,
    }
}

/// PyTorch's function of two numbers.
pub(crate) fn binary(op: Binary, a: f64, b: f64) -> f64 {
    match op {
        Binary::Add => a + b,
        Binary::Sub => a - b,
        Binary::Mul => a * b,
        Binary::Div => a / b,
        Binary::Maximum => maximum(a, b),
        Binary::Minimum => -maximum(-a, -b),
        Binary::Pow => a.powf(b),
        Binary::Eq => f64::from(u8::from(a == b)),
        Binary::Ne => f64::from(u8::from(a != b)),
        Binary::Lt => f64::from(u8::from(a < b)),
        Binary::Le => f64::from(u8::from(a <= b)),
        Binary::Gt => f64::from(u8::from(a > b)),
        Binary::Ge => f64::from(u8::from(a >= b)),
        Binary::Keep if a == 0.0 => 0.0,
        Binary::Keep => b,
    }
}

/// The error function, by its series near zero.
pub(crate) fn erf(x: f64) -> f64 {
    if x.is_nan() {
        return x;
    }
    if x.abs() > 2.5 {
        return if x > 0.0 { 1.0 - erfc(x) } else { erfc(-x) - 1.0 };
    }
    // 2 / sqrt(pi) * exp(-x^2) * sum 2^n x^(2n+1) / (2n+1)!!, all terms of one sign.
    let (mut term, mut sum) = (x, x);
    for n in 1..200 {
        term *= 2.0 * x * x / (2 * n + 1) as f64;
        sum += term;
    }
    sum * std::f64::consts::FRAC_2_SQRT_PI * (-x * x).exp()
}

/// `1 - erf(x)` without cancellation, by Laplace's continued fraction far from zero.
pub(crate) fn erfc(x: f64) -> f64 {
    if x.is_nan() || x <= 2.5 {
        return if x < -2.5 { 2.0 - erfc(-x) } else { 1.0 - erf(x) };
    }
    let mut tail = x;
    for n in (1..200).rev() {
        tail = x + n as f64 / 2.0 / tail;
    }
    (-x * x).exp() / (tail * std::f64::consts::PI.sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of Python's `math.erf` and `math.erfc`.
    #[test]
    fn error_function() {
        for (x, want) in [(0.0, 0.0), (0.5, 0.5204998778130465), (1.0, 0.8427007929497149), (2.6, 0.9997639655834707)] {
            assert!((erf(x) - want).abs() < 1e-15 && (erf(-x) + want).abs() < 1e-15, "{x}");
        }
        for (x, want) in [(-3.0, 1.9999779095030015), (2.0, 0.004677734981047266), (5.0, 1.5374597944280347e-12)] {
            assert!((erfc(x) - want).abs() < 1e-13 * want, "{x}: {}", erfc(x));
        }
    }
}
