//! What a step becomes on the CPU: a kernel that is ready to run.

use std::sync::Arc;

use super::Engine;
use super::attention::Attention;
use super::conv::{Conv, ConvWeights};
use super::gather::{self, Pad};
use super::linear::{Linear, LinearWeights};
use super::matmul::Matmul;
use super::pointwise::Pointwise;
use super::pools::Pools;
use super::rows::{self, Lines};
use super::weights::Weights;
use crate::error::Result;
use crate::graph::op::{Fused, Reduce};
use crate::graph::step::{self, Arg, Buffer, Step};

/// A step's kernel with its weights packed and its tables made. `lens` are the elements of the input, of the output,
/// and of the bias.
pub(super) enum Kernel {
    Conv2d { conv: Conv, weights: Arc<ConvWeights>, fused: Fused, lens: [usize; 3] },
    Linear { linear: Linear, weights: Arc<LinearWeights>, fused: Fused, lens: [usize; 3] },
    Matmul(Matmul, usize),
    Pointwise(Pointwise),
    Pool2d(Pools, usize),
    Reduce(Reduce, Lines),
    Softmax { log: bool, lines: Lines },
    LayerNorm { rows: usize, len: usize, eps: f32 },
    Attention(Attention),
    Embedding { count: usize, rows: usize, dim: usize },
    Pad { pad: Pad, lens: [usize; 2] },
}

impl Kernel {
    /// Prepares the kernel of a step; packs its weight unless that has been done.
    pub(super) fn new(step: &Step, buffers: &[Buffer], weights: &mut Weights) -> Result<Self> {
        let engine = weights.engine.clone();
        let constant = |index: usize| &buffers[step.inputs[index].buffer.0];
        Ok(match &step.kernel {
            step::Kernel::Conv2d(conv) => Self::Conv2d {
                weights: weights.conv(conv, constant(1), conv.fused.scale_index().map(constant))?,
                fused: conv.fused,
                lens: [
                    conv.batch * conv.input[0] * conv.input[1] * conv.c_in,
                    conv.batch * conv.output[0] * conv.output[1] * conv.c_out,
                    conv.c_out,
                ],
                conv: Conv::new(conv, engine.isa),
            },
            step::Kernel::Linear(linear) => Self::Linear {
                weights: weights.linear(linear, constant(1), linear.fused.scale_index().map(constant))?,
                fused: linear.fused,
                lens: [linear.rows * linear.k, linear.rows * linear.n, linear.n],
                linear: Linear::new(linear, engine.isa),
            },
            step::Kernel::Matmul(matmul) => {
                let len = matmul.batch.iter().product::<usize>() * matmul.m * matmul.n;
                Self::Matmul(Matmul::new(matmul, engine.isa, engine.pool.threads()), len)
            }
            step::Kernel::Pointwise(step) => Self::Pointwise(Pointwise::new(step)?),
            step::Kernel::Pool2d(pool) => {
                let len = pool.batch * pool.output[0] * pool.output[1] * pool.channels;
                Self::Pool2d(Pools::new(pool), len)
            }
            step::Kernel::AdaptivePool2d(pool) => {
                let len = pool.batch * pool.output[0] * pool.output[1] * pool.channels;
                Self::Pool2d(Pools::adaptive(pool), len)
            }
            &step::Kernel::Reduce { kind, outer, len, inner } => Self::Reduce(kind, Lines { outer, len, inner }),
            &step::Kernel::Softmax { outer, len, inner, log } => {
                Self::Softmax { log, lines: Lines { outer, len, inner } }
            }
            &step::Kernel::LayerNorm { rows, len, eps, .. } => Self::LayerNorm { rows, len, eps },
            step::Kernel::Attention(step) => Self::Attention(Attention::new(step, engine.isa, engine.pool.threads())),
            &step::Kernel::Embedding { count, rows, dim } => Self::Embedding { count, rows, dim },
            step::Kernel::Pad { shape, pads, mode } => Self::Pad {
                pad: Pad::new(shape, pads, *mode),
                lens: [
                    shape.iter().product(),
                    shape.iter().zip(pads).map(|(&size, &(before, after))| size + before + after).product(),
                ],
            },
        })
    }

    /// The arguments that are read in every run: all but a packed weight and its scale.
    pub(super) fn arguments(&self, step: &Step) -> Vec<Arg> {
        let packed = match self {
            Self::Conv2d { fused, .. } | Self::Linear { fused, .. } => 1..2 + usize::from(fused.scale),
            _ => 0..0,
        };
        step.inputs.iter().enumerate().filter(|(i, _)| !packed.contains(i)).map(|(_, arg)| *arg).collect()
    }

    /// The elements of scratch memory that a run needs.
    pub(super) fn scratch_len(&self) -> usize {
        match self {
            Self::Conv2d { conv, .. } => conv.scratch_len(),
            Self::Matmul(matmul, _) => matmul.scratch_len(),
            Self::Attention(attention) => attention.scratch_len(),
            _ => 0,
        }
    }

    /// Runs the kernel on its arguments, each from its first element to its buffer's end, or a little past it.
    ///
    /// # Errors
    /// When an index is out of range.
    pub(super) fn run(&self, engine: &Engine, inputs: &[&[f32]], out: &mut [f32], scratch: &mut [f32]) -> Result<()> {
        match self {
            Self::Conv2d { conv, weights, fused, lens: [x, y, n] } => {
                let (bias, residual) = operands(*fused, inputs, *y, *n);
                conv.run(weights, &inputs[0][..*x], bias, residual, &mut out[..*y], scratch, &engine.pool);
            }
            Self::Linear { linear, weights, fused, lens: [x, y, n] } => {
                let (bias, residual) = operands(*fused, inputs, *y, *n);
                linear.run(weights, &inputs[0][..*x], bias, residual, &mut out[..*y], &engine.pool);
            }
            Self::Matmul(matmul, len) => matmul.run(inputs[0], inputs[1], &mut out[..*len], scratch, &engine.pool),
            Self::Pointwise(pointwise) => pointwise.run(engine, inputs, out),
            Self::Pool2d(pools, len) => pools.run(engine, inputs[0], &mut out[..*len]),
            Self::Reduce(kind, lines) => rows::reduce(engine, *kind, *lines, inputs[0], out),
            Self::Softmax { log, lines } => rows::softmax(engine, *log, *lines, inputs[0], out),
            Self::LayerNorm { rows, len, eps } => {
                let affine = inputs.get(1).map(|weight| (&weight[..*len], &inputs[2][..*len]));
                let x = &inputs[0][..rows * len];
                rows::layer_norm(engine, *len, *eps, x, affine, &mut out[..rows * len]);
            }
            Self::Attention(attention) => {
                let operands = [inputs[0], inputs[1], inputs[2]];
                attention.run(engine, operands, inputs.get(3).copied(), out, scratch);
            }
            &Self::Embedding { count, rows, dim } => {
                let indices = bytemuck::cast_slice(&inputs[0][..count]);
                return gather::embedding(engine, indices, inputs[1], [rows, dim], &mut out[..count * dim]);
            }
            Self::Pad { pad, lens: [x, y] } => pad.run(engine, &inputs[0][..*x], &mut out[..*y]),
        }
        Ok(())
    }
}

/// The bias and the residual, which follow `x`.
fn operands<'a>(fused: Fused, inputs: &[&'a [f32]], len: usize, channels: usize) -> (Option<&'a [f32]>, Option<&'a [f32]>) {
    let mut rest = inputs[1..].iter().copied();
    let bias = if fused.bias { rest.next().map(|bias| &bias[..channels]) } else { None };
    (bias, rest.next().map(|residual| &residual[..len]))
}
