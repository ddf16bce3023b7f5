//! The steps of each op.

use super::{Lowering, Value, pointwise};
use crate::error::{Error, Result};
use crate::graph::op::{Conv2d, Fused, Op, PadMode, Pool2d, PoolKind, Program, Reduce};
use crate::graph::step::{AdaptivePoolStep, AttentionStep, ConvStep, Kernel, LinearStep, MatmulStep, PoolStep};
use crate::graph::view::{CHANNELS_LAST, View};
use crate::graph::{Node, Var};

impl Lowering<'_> {
    /// The value of a node that computes something.
    pub(super) fn compute(&mut self, var: Var, node: &Node) -> Result<Value> {
        let inputs: Vec<Value> = node.inputs.iter().map(|&x| self.value(x)).collect();
        let shape = &node.shape[..];
        match &node.op {
            Op::Pointwise(program) => Ok(self.pointwise(program, &inputs, shape)),
            Op::Conv2d(conv, fused) => Ok(self.conv2d(conv, *fused, &inputs, shape)),
            Op::Linear(fused) => Ok(self.linear(*fused, &inputs, shape)),
            Op::Matmul => self.matmul(&inputs, shape),
            Op::Pool2d(pool) => Ok(self.pool2d(pool, &inputs[0], shape)),
            Op::AdaptivePool2d { kind, .. } => Ok(self.adaptive_pool2d(*kind, &inputs[0], shape)),
            Op::Reduce { kind, dims, .. } => Ok(self.reduce(*kind, dims, &inputs[0], shape)),
            Op::Softmax { dim, log } => Ok(self.softmax(*dim, *log, &inputs[0])),
            Op::LayerNorm { dims, eps, affine } => Ok(self.layer_norm(*dims, *eps, *affine, &inputs)),
            Op::Attention { scale, causal, .. } => Ok(self.attention(*scale, *causal, &inputs, shape)),
            Op::Embedding => Ok(self.embedding(&inputs, shape)),
            Op::Cat { dim } => Ok(self.cat(*dim, &inputs, shape)),
            Op::Pad { pads, mode } => Ok(self.pad(pads, *mode, &inputs[0])),
            op => Err(Error::unsupported(format!("value {} is `{}`, which has no step", var.0, op.name()))),
        }
    }

    /// Adds a step whose result is dense in `order`.
    fn emit(&mut self, kernel: Kernel, inputs: &[Value], shape: &[usize], order: &[usize]) -> Value {
        let out = self.dense(shape, order, false, inputs, &kernel);
        self.push(kernel, inputs, &out);
        out
    }

    fn pointwise(&mut self, program: &Program, inputs: &[Value], shape: &[usize]) -> Value {
        // The output lies in memory as the first dense input of its shape does.
        let order = inputs
            .iter()
            .filter(|value| value.view.shape == shape)
            .map(|value| (value, value.view.order()))
            .find(|(value, order)| value.view.is_dense_in(order))
            .map_or_else(|| (0..shape.len()).collect(), |(_, order)| order);
        let out = View::dense(shape, &order);
        let views: Vec<&View> = inputs.iter().map(|value| &value.view).collect();
        let kernel = Kernel::Pointwise(pointwise(program.clone(), &views, &out, false));
        self.emit(kernel, inputs, shape, &order)
    }

    fn conv2d(&mut self, conv: &Conv2d, fused: Fused, inputs: &[Value], shape: &[usize]) -> Value {
        let mut inputs = inputs.to_vec();
        let image = inputs[0].view.shape.clone();
        let weight = inputs[1].view.shape.clone();
        inputs[0] = self.dense_in(&inputs[0], &CHANNELS_LAST);
        for (i, input) in inputs.iter_mut().enumerate().skip(1) {
            *input = if Some(i) == fused.residual_index() {
                self.dense_in(input, &CHANNELS_LAST)
            } else {
                self.contiguous(input)
            };
        }
        let kernel = Kernel::Conv2d(ConvStep {
            batch: image[0],
            input: [image[2], image[3]],
            c_in: image[1],
            output: [shape[2], shape[3]],
            c_out: shape[1],
            kernel: [weight[2], weight[3]],
            stride: conv.stride,
            dilation: conv.dilation,
            padding: [conv.padding[0], conv.padding[2]],
            groups: conv.groups,
            fused,
        });
        self.emit(kernel, &inputs, shape, &CHANNELS_LAST)
    }

    /// The dimensions in memory with the last `dims` innermost in their own order: as the value lies if that is so,
    /// else row-major.
    fn rows_order(value: &Value, dims: usize) -> Vec<usize> {
        let rank = value.view.shape.len();
        let order = value.view.order();
        let last = (rank - dims..rank).collect::<Vec<_>>();
        if order.ends_with(&last) && value.view.is_dense_in(&order) { order } else { (0..rank).collect() }
    }

    fn linear(&mut self, fused: Fused, inputs: &[Value], shape: &[usize]) -> Value {
        let mut inputs = inputs.to_vec();
        let order = Self::rows_order(&inputs[0], 1);
        inputs[0] = self.dense_in(&inputs[0], &order);
        for (i, input) in inputs.iter_mut().enumerate().skip(1) {
            *input =
                if Some(i) == fused.residual_index() { self.dense_in(input, &order) } else { self.contiguous(input) };
        }
        let (n, k) = (inputs[1].view.shape[0], inputs[1].view.shape[1]);
        let rows = shape[..shape.len() - 1].iter().product();
        self.emit(Kernel::Linear(LinearStep { rows, k, n, fused }), &inputs, shape, &order)
    }

    fn matmul(&mut self, inputs: &[Value], shape: &[usize]) -> Result<Value> {
        let rank = shape.len();
        let batch_shape = &shape[..rank - 2];
        let mut inputs = inputs.to_vec();
        let mut merged = None;
        for attempt in 0..2 {
            let sides: Vec<(View, [usize; 2])> = inputs
                .iter()
                .map(|value| {
                    let own = value.view.shape.len();
                    let lead = View {
                        shape: value.view.shape[..own - 2].to_vec(),
                        strides: value.view.strides[..own - 2].to_vec(),
                        offset: 0,
                    };
                    (lead.expand(batch_shape), [value.view.strides[own - 2], value.view.strides[own - 1]])
                })
                .collect();
            let out = View::contiguous(batch_shape);
            let step = pointwise(Program::copy(), &[&sides[0].0, &sides[1].0], &out, false);
            if step.shape.len() <= 3 {
                merged = Some((step, sides[0].1, sides[1].1));
                break;
            }
            if attempt == 0 {
                inputs = inputs.iter().map(|value| self.contiguous(value)).collect();
            }
        }
        let Some((batch, a, b)) = merged else {
            return Err(Error::unsupported(format!("matmul: batch dimensions {batch_shape:?} do not merge to three")));
        };
        let k = inputs[0].view.shape[inputs[0].view.shape.len() - 1];
        let [a_batch, b_batch]: [Vec<usize>; 2] = batch.strides.try_into().expect("two inputs");
        let step = MatmulStep { m: shape[rank - 2], n: shape[rank - 1], k, batch: batch.shape, a_batch, b_batch, a, b };
        let order: Vec<usize> = (0..rank).collect();
        Ok(self.emit(Kernel::Matmul(step), &inputs, shape, &order))
    }

    fn pool2d(&mut self, pool: &Pool2d, x: &Value, shape: &[usize]) -> Value {
        let x = self.dense_in(x, &CHANNELS_LAST);
        let kernel = Kernel::Pool2d(PoolStep {
            kind: pool.kind,
            batch: shape[0],
            channels: shape[1],
            input: [x.view.shape[2], x.view.shape[3]],
            output: [shape[2], shape[3]],
            kernel: pool.kernel,
            stride: pool.stride,
            padding: pool.padding,
            dilation: pool.dilation,
        });
        self.emit(kernel, &[x], shape, &CHANNELS_LAST)
    }

    fn adaptive_pool2d(&mut self, kind: PoolKind, x: &Value, shape: &[usize]) -> Value {
        let x = self.dense_in(x, &CHANNELS_LAST);
        let kernel = Kernel::AdaptivePool2d(AdaptivePoolStep {
            kind,
            batch: shape[0],
            channels: shape[1],
            input: [x.view.shape[2], x.view.shape[3]],
            output: [shape[2], shape[3]],
        });
        self.emit(kernel, &[x], shape, &CHANNELS_LAST)
    }

    fn reduce(&mut self, kind: Reduce, dims: &[usize], x: &Value, shape: &[usize]) -> Value {
        let rank = x.view.shape.len();
        let mut order = x.view.order();
        // The reduced dimensions must be neighbours in memory; those of size 1 are nowhere in particular.
        let sized: Vec<usize> = order.iter().copied().filter(|&d| x.view.shape[d] != 1).collect();
        let reduced: Vec<bool> = sized.iter().map(|d| dims.contains(d)).collect();
        let runs =
            reduced.iter().zip(std::iter::once(&false).chain(&reduced)).filter(|(now, before)| **now && !**before);
        if runs.count() > 1 || !x.view.is_dense_in(&order) {
            order = (0..rank).filter(|d| !dims.contains(d)).chain(dims.iter().copied()).collect();
        }
        let x = self.dense_in(x, &order);
        let sizes = |keep: &dyn Fn(usize) -> bool| -> usize {
            order.iter().enumerate().filter(|&(i, _)| keep(i)).map(|(_, &d)| x.view.shape[d]).product()
        };
        let is_reduced = |i: usize| dims.contains(&order[i]) && x.view.shape[order[i]] != 1;
        let first = (0..rank).find(|&i| is_reduced(i)).unwrap_or(rank);
        let end = (0..rank).rfind(|&i| is_reduced(i)).map_or(rank, |i| i + 1);
        let outer = sizes(&|i| i < first);
        let len = sizes(&|i| (first..end).contains(&i));
        let inner = sizes(&|i| i >= end);
        let kernel = Kernel::Reduce { kind, outer, len, inner };
        // The kept dimensions lie as they lay.
        let keepdim = shape.len() == rank;
        let out_order: Vec<usize> = if keepdim {
            order
        } else {
            let position = |d: usize| (0..d).filter(|other| !dims.contains(other)).count();
            order.iter().filter(|d| !dims.contains(d)).map(|&d| position(d)).collect()
        };
        self.emit(kernel, &[x], shape, &out_order)
    }

    fn softmax(&mut self, dim: usize, log: bool, x: &Value) -> Value {
        let mut order = x.view.order();
        if !x.view.is_dense_in(&order) {
            order = (0..x.view.shape.len()).collect();
        }
        let x = self.dense_in(x, &order);
        let shape = x.view.shape.clone();
        let at = order.iter().position(|&d| d == dim).expect("a dimension of the value");
        let product = |dims: &[usize]| dims.iter().map(|&d| shape[d]).product();
        let kernel =
            Kernel::Softmax { outer: product(&order[..at]), len: shape[dim], inner: product(&order[at + 1..]), log };
        self.emit(kernel, &[x], &shape, &order)
    }

    fn layer_norm(&mut self, dims: usize, eps: f32, affine: bool, inputs: &[Value]) -> Value {
        let order = Self::rows_order(&inputs[0], dims);
        let mut inputs = inputs.to_vec();
        inputs[0] = self.dense_in(&inputs[0], &order);
        for input in &mut inputs[1..] {
            *input = self.contiguous(input);
        }
        let shape = inputs[0].view.shape.clone();
        let (rows, len) = shape.split_at(shape.len() - dims);
        let kernel = Kernel::LayerNorm { rows: rows.iter().product(), len: len.iter().product(), eps, affine };
        self.emit(kernel, &inputs, &shape, &order)
    }

    fn attention(&mut self, scale: f32, causal: bool, inputs: &[Value], shape: &[usize]) -> Value {
        let mut inputs = inputs.to_vec();
        for input in &mut inputs[..3] {
            // The heads' rows may lie anywhere; their elements are neighbours.
            if input.view.shape[3] != 1 && input.view.strides[3] != 1 {
                *input = self.contiguous(input);
            }
        }
        let strides = |value: &Value| [value.view.strides[0], value.view.strides[1], value.view.strides[2]];
        // Heads are interleaved in the output, since what follows puts them side by side.
        let order = [0, 2, 1, 3];
        let out = View::dense(shape, &order);
        let mask = inputs.get(3).map(|mask| {
            let scores = [shape[0], shape[1], shape[2], inputs[1].view.shape[2]];
            let strides = mask.view.expand(&scores).strides;
            [strides[0], strides[1], strides[2], strides[3]]
        });
        let kernel = Kernel::Attention(AttentionStep {
            batch: shape[0],
            heads: shape[1],
            q_len: shape[2],
            kv_len: inputs[1].view.shape[2],
            head_dim: inputs[0].view.shape[3],
            v_dim: shape[3],
            q: strides(&inputs[0]),
            k: strides(&inputs[1]),
            v: strides(&inputs[2]),
            out: [out.strides[0], out.strides[1], out.strides[2]],
            mask,
            scale,
            causal,
        });
        self.emit(kernel, &inputs, shape, &order)
    }

    fn embedding(&mut self, inputs: &[Value], shape: &[usize]) -> Value {
        let inputs = [self.contiguous(&inputs[0]), self.contiguous(&inputs[1])];
        let kernel = Kernel::Embedding {
            count: inputs[0].view.numel(),
            rows: inputs[1].view.shape[0],
            dim: inputs[1].view.shape[1],
        };
        let order: Vec<usize> = (0..shape.len()).collect();
        self.emit(kernel, &inputs, shape, &order)
    }

    /// Copies each input into its part of the output.
    fn cat(&mut self, dim: usize, inputs: &[Value], shape: &[usize]) -> Value {
        let is_int = inputs[0].is_int;
        let order = inputs
            .iter()
            .find(|value| value.view.numel() > 0)
            .map_or_else(|| (0..shape.len()).collect(), |value| value.view.order());
        let views: Vec<&View> = inputs.iter().map(|value| &value.view).collect();
        let out = self.dense(shape, &order, is_int, inputs, &("cat", dim, &order, &views));
        let mut start = 0;
        for value in inputs {
            let size = value.view.shape[dim];
            let part = Value { view: out.view.slice(dim, start, 1, size), ..out.clone() };
            let kernel = Kernel::Pointwise(pointwise(Program::copy(), &[&value.view], &part.view, is_int));
            self.push(kernel, std::slice::from_ref(value), &part);
            start += size;
        }
        out
    }

    fn pad(&mut self, pads: &[(usize, usize)], mode: PadMode, x: &Value) -> Value {
        let mut order = x.view.order();
        if !x.view.is_dense_in(&order) {
            order = (0..x.view.shape.len()).collect();
        }
        let x = self.dense_in(x, &order);
        let padded: Vec<usize> =
            x.view.shape.iter().zip(pads).map(|(&n, &(before, after))| n + before + after).collect();
        let kernel = Kernel::Pad {
            shape: order.iter().map(|&d| x.view.shape[d]).collect(),
            pads: order.iter().map(|&d| pads[d]).collect(),
            mode,
        };
        self.emit(kernel, &[x], &padded, &order)
    }
}
