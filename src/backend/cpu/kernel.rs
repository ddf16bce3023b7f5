//! Kernels made ready to run.

use std::sync::Arc;

use super::Engine;
use super::attention::Attention;
use super::conv::{Conv, ConvWeights, Method};
use super::gather::{self, Pad};
use super::linear::{Linear, LinearWeights};
use super::matmul::Matmul;
use super::pack::WeightSource;
use super::pointwise::Pointwise;
use super::pools::Pools;
use super::rows::{self, Lines};
use crate::error::Result;
use crate::graph::op::{Fused, Reduce};
use crate::graph::step::{ConvStep, Kernel, LinearStep};

/// A kernel with everything that does not change from run to run.
#[derive(Debug)]
pub(crate) enum Prepared {
    Conv(Box<ConvKernel>),
    Linear(Box<LinearKernel>),
    Matmul(Matmul),
    Pointwise(Pointwise),
    Pools(Pools),
    Reduce { kind: Reduce, lines: Lines },
    Softmax { lines: Lines, log: bool },
    Cumsum(Lines),
    LayerNorm { len: usize, eps: f32 },
    Attention(Attention),
    Embedding { rows: usize, dim: usize },
    Pad(Pad),
}

#[derive(Debug)]
pub(crate) struct ConvKernel {
    conv: Conv,
    step: ConvStep,
    /// Nothing when the weight is computed in every run.
    weights: Option<Arc<ConvWeights>>,
}

#[derive(Debug)]
pub(crate) struct LinearKernel {
    linear: Linear,
    step: LinearStep,
    /// As for a convolution.
    weights: Option<Arc<LinearWeights>>,
}

impl Prepared {
    /// A kernel that needs no packed weights.
    pub(crate) fn new(kernel: &Kernel, engine: &Engine) -> Result<Self> {
        let threads = engine.pool.threads();
        Ok(match kernel {
            Kernel::Conv2d(step) => Self::conv(step, None, engine),
            Kernel::Linear(step) => Self::linear(step, None, engine),
            Kernel::Matmul(step) => Prepared::Matmul(Matmul::new(step, engine.isa, threads)),
            Kernel::Pointwise(step) => Prepared::Pointwise(Pointwise::new(step)?),
            Kernel::Pool2d(step) => Prepared::Pools(Pools::new(step)),
            Kernel::AdaptivePool2d(step) => Prepared::Pools(Pools::adaptive(step)),
            &Kernel::Reduce { kind, outer, len, inner } => {
                Prepared::Reduce { kind, lines: Lines { outer, len, inner } }
            }
            &Kernel::Softmax { outer, len, inner, log } => {
                Prepared::Softmax { lines: Lines { outer, len, inner }, log }
            }
            &Kernel::Cumsum { outer, len, inner } => Prepared::Cumsum(Lines { outer, len, inner }),
            &Kernel::LayerNorm { len, eps, .. } => Prepared::LayerNorm { len, eps },
            Kernel::Attention(step) => Prepared::Attention(Attention::new(step, engine.isa, threads)),
            &Kernel::Embedding { rows, dim, .. } => Prepared::Embedding { rows, dim },
            Kernel::Pad { shape, pads, mode } => Prepared::Pad(Pad::new(shape, pads, *mode)),
        })
    }

    pub(crate) fn conv(step: &ConvStep, weights: Option<Arc<ConvWeights>>, engine: &Engine) -> Self {
        let method = weights.as_ref().map_or_else(|| Method::plain(step), |weights| weights.method());
        Prepared::Conv(Box::new(ConvKernel { conv: Conv::new(step, method, engine.isa), step: step.clone(), weights }))
    }

    pub(crate) fn linear(step: &LinearStep, weights: Option<Arc<LinearWeights>>, engine: &Engine) -> Self {
        Prepared::Linear(Box::new(LinearKernel { linear: Linear::new(step, engine.isa), step: step.clone(), weights }))
    }

    /// The elements of scratch memory that a run needs.
    pub(crate) fn scratch_len(&self) -> usize {
        match self {
            Prepared::Conv(kernel) => kernel.conv.scratch_len(),
            Prepared::Matmul(matmul) => matmul.scratch_len(),
            Prepared::Attention(attention) => attention.scratch_len(),
            _ => 0,
        }
    }

    /// How it is computed, where there are several ways.
    pub(crate) fn method(&self) -> Option<&'static str> {
        match self {
            Prepared::Conv(kernel) => Some(kernel.conv.method().name()),
            Prepared::Linear(kernel) => kernel.weights.as_ref().map(|weights| weights.method()),
            _ => None,
        }
    }

    /// Runs the kernel. Every argument has the length that `Lens` gives.
    ///
    /// # Errors
    /// When an index is out of range, or a weight that is packed in every run does not fit into memory.
    pub(crate) fn run(&self, engine: &Engine, inputs: &[&[f32]], out: &mut [f32], scratch: &mut [f32]) -> Result<()> {
        match self {
            Prepared::Conv(kernel) => kernel.run(engine, inputs, out, scratch)?,
            Prepared::Linear(kernel) => kernel.run(engine, inputs, out)?,
            Prepared::Matmul(matmul) => matmul.run(inputs[0], inputs[1], out, scratch, &engine.pool),
            Prepared::Pointwise(pointwise) => pointwise.run(engine, inputs, out),
            Prepared::Pools(pools) => pools.run(engine, inputs[0], out),
            Prepared::Reduce { kind, lines } => rows::reduce(engine, *kind, *lines, inputs[0], out),
            Prepared::Softmax { lines, log } => rows::softmax(engine, *log, *lines, inputs[0], out),
            Prepared::Cumsum(lines) => rows::cumsum(engine, *lines, inputs[0], out),
            Prepared::LayerNorm { len, eps } => {
                let affine = inputs.get(1).zip(inputs.get(2)).map(|(weight, bias)| (*weight, *bias));
                rows::layer_norm(engine, *len, *eps, inputs[0], affine, out);
            }
            Prepared::Attention(attention) => {
                let operands = [inputs[0], inputs[1], inputs[2]];
                attention.run(engine, operands, inputs.get(3).copied(), out, scratch);
            }
            Prepared::Embedding { rows, dim } => {
                gather::embedding(engine, bytemuck::cast_slice(inputs[0]), inputs[1], [*rows, *dim], out)?;
            }
            Prepared::Pad(pad) => pad.run(engine, inputs[0], out),
        }
        Ok(())
    }
}

/// The bias and the residual among a step's inputs.
fn operands<'a>(fused: &Fused, inputs: &[&'a [f32]]) -> [Option<&'a [f32]>; 2] {
    [fused.bias_index(), fused.residual_index()].map(|index| index.map(|index| inputs[index]))
}

impl ConvKernel {
    fn run(&self, engine: &Engine, inputs: &[&[f32]], out: &mut [f32], scratch: &mut [f32]) -> Result<()> {
        let [bias, residual] = operands(&self.step.fused, inputs);
        let packed;
        let weights = match &self.weights {
            Some(weights) => weights,
            None => {
                let scale = self.step.fused.scale_index().map(|index| inputs[index]);
                let source = WeightSource::Computed(inputs[1]);
                let method = self.conv.method();
                packed = Arc::new(ConvWeights::new(&self.step, method, source, scale, engine.isa, &engine.pool)?);
                &packed
            }
        };
        self.conv.run(weights, inputs[0], bias, residual, out, scratch, &engine.pool);
        Ok(())
    }
}

impl LinearKernel {
    fn run(&self, engine: &Engine, inputs: &[&[f32]], out: &mut [f32]) -> Result<()> {
        let [bias, residual] = operands(&self.step.fused, inputs);
        let packed;
        let weights = match &self.weights {
            Some(weights) => weights,
            None => {
                let scale = self.step.fused.scale_index().map(|index| inputs[index]);
                let source = WeightSource::Computed(inputs[1]);
                packed = Arc::new(LinearWeights::new(&self.step, source, scale, engine.isa, &engine.pool)?);
                &packed
            }
        };
        self.linear.run(weights, inputs[0], bias, residual, out, &engine.pool);
        Ok(())
    }
}
