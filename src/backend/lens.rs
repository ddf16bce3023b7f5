//! How many elements a kernel reads of each argument and writes of its output, from the arguments' offsets on.

use crate::graph::op::Fused;
use crate::graph::step::{AttentionStep, Kernel};

/// The elements of a kernel's inputs and of its output.
#[derive(Debug, PartialEq)]
pub(crate) struct Lens {
    pub(crate) inputs: Vec<usize>,
    pub(crate) output: usize,
}

/// The elements from the first to the last one that `strides` reach, none when there are none.
fn reach(shape: &[usize], strides: &[usize]) -> usize {
    if shape.contains(&0) {
        return 0;
    }
    shape.iter().zip(strides).map(|(size, stride)| (size - 1) * stride).sum::<usize>() + 1
}

/// The lengths of what `fused` adds after `x` and the weight.
fn fused_inputs(inputs: &mut Vec<usize>, fused: &Fused, channels: usize, output: usize) {
    inputs.extend(fused.scale_index().map(|_| channels));
    inputs.extend(fused.bias_index().map(|_| channels));
    inputs.extend(fused.residual_index().map(|_| output));
}

impl Lens {
    pub(crate) fn of(kernel: &Kernel) -> Self {
        let (inputs, output) = match kernel {
            Kernel::Conv2d(s) => {
                let output = s.batch * s.output[0] * s.output[1] * s.c_out;
                let weight = s.c_out * (s.c_in / s.groups) * s.kernel[0] * s.kernel[1];
                let mut inputs = vec![s.batch * s.input[0] * s.input[1] * s.c_in, weight];
                fused_inputs(&mut inputs, &s.fused, s.c_out, output);
                (inputs, output)
            }
            Kernel::Linear(s) => {
                let mut inputs = vec![s.rows * s.k, s.n * s.k];
                fused_inputs(&mut inputs, &s.fused, s.n, s.rows * s.n);
                (inputs, s.rows * s.n)
            }
            Kernel::Matmul(s) => {
                let side = |batch: &[usize], sizes: [usize; 2], strides: [usize; 2]| {
                    let shape: Vec<usize> = s.batch.iter().copied().chain(sizes).collect();
                    let strides: Vec<usize> = batch.iter().copied().chain(strides).collect();
                    reach(&shape, &strides)
                };
                let inputs = vec![side(&s.a_batch, [s.m, s.k], s.a), side(&s.b_batch, [s.k, s.n], s.b)];
                (inputs, s.batch.iter().product::<usize>() * s.m * s.n)
            }
            Kernel::Pointwise(s) => {
                (s.strides.iter().map(|strides| reach(&s.shape, strides)).collect(), reach(&s.shape, &s.out_strides))
            }
            Kernel::Pool2d(s) => {
                let pixel = s.batch * s.channels;
                (vec![pixel * s.input[0] * s.input[1]], pixel * s.output[0] * s.output[1])
            }
            Kernel::AdaptivePool2d(s) => {
                let pixel = s.batch * s.channels;
                (vec![pixel * s.input[0] * s.input[1]], pixel * s.output[0] * s.output[1])
            }
            Kernel::Reduce { outer, len, inner, .. } => (vec![outer * len * inner], outer * inner),
            Kernel::Softmax { outer, len, inner, .. } | Kernel::Cumsum { outer, len, inner } => {
                (vec![outer * len * inner], outer * len * inner)
            }
            Kernel::LayerNorm { rows, len, affine, .. } => {
                let mut inputs = vec![rows * len];
                if *affine {
                    inputs.extend([*len, *len]);
                }
                (inputs, rows * len)
            }
            Kernel::Attention(s) => attention(s),
            Kernel::Embedding { outer, count, rows, dim } => (vec![*count, outer * rows * dim], outer * count * dim),
            Kernel::Pad { shape, pads, .. } => {
                let padded = shape.iter().zip(pads).map(|(size, (before, after))| before + size + after);
                (vec![shape.iter().product()], padded.product())
            }
        };
        Self { inputs, output }
    }
}

fn attention(s: &AttentionStep) -> (Vec<usize>, usize) {
    let side = |strides: [usize; 3], rows: usize, dim: usize| {
        let [b, h, row] = strides;
        reach(&[s.batch, s.heads, rows, dim], &[b, h, row, 1])
    };
    let mut inputs =
        vec![side(s.q, s.q_len, s.head_dim), side(s.k, s.kv_len, s.head_dim), side(s.v, s.kv_len, s.v_dim)];
    inputs.extend(s.mask.map(|mask| reach(&[s.batch, s.heads, s.q_len, s.kv_len], &mask)));
    (inputs, side(s.out, s.q_len, s.v_dim))
}
