//! Normalisations and softmax.

use crate::error::{Error, Result};
use crate::graph::lower::{Lowering, Value};
use crate::graph::op::{Op, Reduce};
use crate::graph::step::Kernel;
use crate::graph::{Graph, Var};
use crate::shape::Shape;
use crate::tensor::Tensor;

impl Graph {
    /// `(x - mean) / sqrt(var + eps) * weight + bias` per channel of `x [n, c, ...]`, in eval mode. `running` is
    /// `(mean, var)`; without it the statistics are those of the batch, as PyTorch's BatchNorm without running
    /// statistics computes them (biased variance). `affine` is `(weight, bias)`.
    /// [`torch.nn.functional.batch_norm`](https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.batch_norm.html).
    ///
    /// # Errors
    /// [`ErrorKind::Shape`](crate::ErrorKind::Shape) when the shapes do not fit.
    pub fn batch_norm(
        &mut self,
        x: Var,
        running: Option<(Var, Var)>,
        affine: Option<(Var, Var)>,
        eps: f32,
    ) -> Result<Var> {
        let pairs = [running, affine];
        let given: Vec<Var> = pairs.iter().flatten().flat_map(|&(a, b)| [a, b]).collect();
        self.expect_float("batch_norm", &[&[x], &given[..]].concat())?;
        let shape = self.shape(x).clone();
        if shape.len() < 2 {
            return Err(Error::shape(format!("batch_norm: {} has no channels", self.describe(x, "input"))));
        }
        let channels = shape[1];
        if let Some(&wrong) = given.iter().find(|&&y| **self.shape(y) != [channels]) {
            return Err(Error::shape(format!(
                "batch_norm: {} has {channels} channels, {} does not fit",
                self.describe(x, "input"),
                self.describe(wrong, "parameter"),
            )));
        }
        let (mean, var) = match running {
            Some(statistics) => statistics,
            None => self.batch_statistics(x)?,
        };
        let (weight, bias) = match affine {
            Some(affine) => affine,
            None => (self.filled(1.0, channels)?, self.filled(0.0, channels)?),
        };
        let name = self.layer_name(affine.map_or(mean, |(weight, _)| weight));
        Ok(self.add_node(Op::BatchNorm { eps }, vec![x, mean, var, weight, bias], shape, false, &name))
    }

    /// The mean and the biased variance of every channel, `[c]` each.
    fn batch_statistics(&mut self, x: Var) -> Result<(Var, Var)> {
        let dims: Vec<isize> = (0..self.shape(x).len() as isize).filter(|&d| d != 1).collect();
        let mean = self.mean(x, &dims, true)?;
        let centred = self.sub(x, mean)?;
        let square = self.mul(centred, centred)?;
        let var = self.mean(square, &dims, false)?;
        let mean = self.reshape(mean, &[-1])?;
        Ok((mean, var))
    }

    fn filled(&mut self, value: f32, len: usize) -> Result<Var> {
        self.constant(Tensor::new([len], vec![value; len])?)
    }

    /// `(x - mean) / sqrt(var + eps) * weight + bias` over the last dimensions, which are `normalized_shape`;
    /// `weight` and `bias` have that shape.
    /// [`torch.nn.functional.layer_norm`](https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.layer_norm.html).
    ///
    /// # Errors
    /// [`ErrorKind::Shape`](crate::ErrorKind::Shape) when the shapes do not fit.
    pub fn layer_norm(
        &mut self,
        x: Var,
        normalized_shape: &[usize],
        weight: Option<Var>,
        bias: Option<Var>,
        eps: f32,
    ) -> Result<Var> {
        let given: Vec<Var> = weight.into_iter().chain(bias).collect();
        self.expect_float("layer_norm", &[&[x], &given[..]].concat())?;
        let normalized = Shape::from(normalized_shape);
        if normalized.is_empty() || !self.shape(x).ends_with(&normalized) {
            return Err(Error::shape(format!(
                "layer_norm: {} does not end with the normalized shape {normalized}",
                self.describe(x, "input")
            )));
        }
        if let Some(&wrong) = given.iter().find(|&&y| *self.shape(y) != normalized) {
            return Err(Error::shape(format!(
                "layer_norm: {} must be {normalized}",
                self.describe(wrong, "parameter")
            )));
        }
        let name = given.first().map(|&y| self.layer_name(y)).unwrap_or_default();
        let mut inputs = vec![x];
        if !given.is_empty() {
            let len = normalized.numel();
            for (parameter, default) in [(weight, 1.0), (bias, 0.0)] {
                let parameter = match parameter {
                    Some(parameter) => self.reshape(parameter, &[-1])?,
                    None => self.filled(default, len)?,
                };
                inputs.push(parameter);
            }
        }
        let op = Op::LayerNorm { dims: normalized.len(), eps, affine: inputs.len() == 3 };
        let shape = self.shape(x).clone();
        Ok(self.add_node(op, inputs, shape, false, &name))
    }

    /// `exp(x) / sum(exp(x))` along `dim`.
    /// [`torch.nn.functional.softmax`](https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.softmax.html).
    ///
    /// # Errors
    /// [`ErrorKind::Shape`](crate::ErrorKind::Shape) when there is no such dimension.
    pub fn softmax(&mut self, x: Var, dim: isize) -> Result<Var> {
        self.add_softmax(x, dim, false)
    }

    /// `x - log(sum(exp(x)))` along `dim`.
    /// [`torch.nn.functional.log_softmax`](https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.log_softmax.html).
    ///
    /// # Errors
    /// [`ErrorKind::Shape`](crate::ErrorKind::Shape) when there is no such dimension.
    pub fn log_softmax(&mut self, x: Var, dim: isize) -> Result<Var> {
        self.add_softmax(x, dim, true)
    }

    fn add_softmax(&mut self, x: Var, dim: isize, log: bool) -> Result<Var> {
        let op = if log { "log_softmax" } else { "softmax" };
        self.expect_float(op, &[x])?;
        let shape = self.shape(x).clone();
        let dim = shape.dim(dim).map_err(|error| error.context(op))?;
        Ok(self.add_float(Op::Softmax { dim, log }, vec![x], shape))
    }

    /// The mean over `dims` (all of them when empty).
    /// [`torch.mean`](https://docs.pytorch.org/docs/stable/generated/torch.mean.html).
    ///
    /// # Errors
    /// [`ErrorKind::Shape`](crate::ErrorKind::Shape) when there is no such dimension or it is named twice.
    pub fn mean(&mut self, x: Var, dims: &[isize], keepdim: bool) -> Result<Var> {
        self.reduce(Reduce::Mean, x, dims, keepdim)
    }
}

impl Lowering<'_> {
    pub(in crate::graph) fn softmax(&mut self, dim: usize, log: bool, x: &Value) -> Value {
        let (x, order, [outer, len, inner]) = self.lines(dim, x);
        let shape = x.view.shape.clone();
        self.emit(Kernel::Softmax { outer, len, inner, log }, &[x], &shape, &order)
    }

    pub(in crate::graph) fn layer_norm(&mut self, dims: usize, eps: f32, affine: bool, inputs: &[Value]) -> Value {
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
}
