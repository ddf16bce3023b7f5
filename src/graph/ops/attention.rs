//! Attention.

use crate::error::{Error, Result};
use crate::graph::lower::{Lowering, Value};
use crate::graph::op::Op;
use crate::graph::step::{AttentionStep, Kernel};
use crate::graph::view::View;
use crate::graph::{Graph, Var};
use crate::shape::Shape;

impl Graph {
    /// `softmax(q k^T * scale + mask) v`: `q [..., l, e]`, `k [..., s, e]`, `v [..., s, ev]` with equal leading
    /// dimensions give `[..., l, ev]`. `mask` is a float tensor that broadcasts to `[..., l, s]`; with `is_causal`
    /// row `i` sees columns `0..=i`; `scale` is `1 / sqrt(e)` unless given. A row that sees no column, since its mask is
    /// minus infinity everywhere, gives zeros (a softmax written out gives NaN).
    /// [`torch.nn.functional.scaled_dot_product_attention`](https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.scaled_dot_product_attention.html).
    ///
    /// # Errors
    /// [`ErrorKind::Shape`](crate::ErrorKind::Shape) when the shapes do not fit,
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) for a mask together with `is_causal` or a mask that
    /// is not of floats.
    pub fn scaled_dot_product_attention(
        &mut self,
        q: Var,
        k: Var,
        v: Var,
        mask: Option<Var>,
        is_causal: bool,
        scale: Option<f32>,
    ) -> Result<Var> {
        self.attention(q, k, v, mask, is_causal, scale, false)
    }

    /// The same; with `blind_is_nan` a row that sees no column gives NaN.
    pub(in crate::graph) fn attention(
        &mut self,
        q: Var,
        k: Var,
        v: Var,
        mask: Option<Var>,
        is_causal: bool,
        scale: Option<f32>,
        blind_is_nan: bool,
    ) -> Result<Var> {
        const NAME: &str = "scaled_dot_product_attention";
        self.expect_float(NAME, &[&[q, k, v], mask.as_slice()].concat())?;
        if mask.is_some() && is_causal {
            return Err(Error::unsupported(format!("{NAME}: a mask and `is_causal` exclude each other")));
        }
        let shapes = [q, k, v].map(|x| self.shape(x).clone());
        let rank = shapes[0].len();
        let fits = rank >= 2
            && shapes.iter().all(|shape| shape.len() == rank && shape[..rank - 2] == shapes[0][..rank - 2])
            && shapes[0][rank - 1] == shapes[1][rank - 1]
            && shapes[1][rank - 2] == shapes[2][rank - 2];
        if !fits {
            let [q, k, v] = &shapes;
            return Err(Error::shape(format!("{NAME}: query {q}, key {k} and value {v} do not fit each other")));
        }
        let lead = Shape::from(&shapes[0][..rank - 2]);
        let (l, s, ev) = (shapes[0][rank - 2], shapes[1][rank - 2], shapes[2][rank - 1]);
        let scores: Shape = lead.iter().copied().chain([l, s]).collect();
        if let Some(mask) = mask {
            let fits = Shape::broadcast(self.shape(mask), &scores).is_ok_and(|shape| shape == scores);
            if !fits {
                return Err(Error::shape(format!(
                    "{NAME}: {} does not broadcast to {scores}",
                    self.describe(mask, "mask")
                )));
            }
        }
        let scale = scale.unwrap_or_else(|| (1.0 / (shapes[0][rank - 1] as f64).sqrt()) as f32);
        let heads = lead.last().copied().unwrap_or(1);
        let batch = lead.iter().rev().skip(1).product::<usize>();
        let four = |graph: &mut Self, x: Var| {
            let shape = graph.shape(x);
            let sizes = [batch, heads, shape[rank - 2], shape[rank - 1]].map(|size| size as isize);
            graph.reshape(x, &sizes)
        };
        let mut inputs = vec![four(self, q)?, four(self, k)?, four(self, v)?];
        if let Some(mask) = mask {
            inputs.push(self.mask_as_four(mask, &scores)?);
        }
        let op = Op::Attention { scale, causal: is_causal, blind_is_nan };
        let y = self.add_float(op, inputs, [batch, heads, l, ev]);
        let shape: Vec<isize> = lead.iter().chain(&[l, ev]).map(|&size| size as isize).collect();
        self.reshape(y, &shape)
    }

    /// A mask that broadcasts to `scores`, as one of four dimensions.
    fn mask_as_four(&mut self, mask: Var, scores: &Shape) -> Result<Var> {
        let rank = scores.len();
        if rank <= 4 {
            let mut shape = vec![1; 4 - self.shape(mask).len().min(4)];
            shape.extend(self.shape(mask).iter().map(|&size| size as isize));
            return self.reshape(mask, &shape);
        }
        let full: Vec<isize> = scores.iter().map(|&size| size as isize).collect();
        let mask = self.expand(mask, &full)?;
        let batch: isize = full[..rank - 3].iter().product();
        self.reshape(mask, &[batch, full[rank - 3], full[rank - 2], full[rank - 1]])
    }
}

impl Lowering<'_> {
    pub(in crate::graph) fn attention(
        &mut self,
        scale: f32,
        causal: bool,
        blind_is_nan: bool,
        inputs: &[Value],
        shape: &[usize],
    ) -> Value {
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
            blind_is_nan,
        });
        self.emit(kernel, &inputs, shape, &order)
    }
}
