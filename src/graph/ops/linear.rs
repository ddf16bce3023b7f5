//! Products with matrices, and look-ups in tables.

use crate::error::{Error, Result};
use crate::graph::lower::{Lowering, Value, pointwise};
use crate::graph::op::{Fused, Op, Program};
use crate::graph::step::{Kernel, LinearStep, MatmulStep};
use crate::graph::view::View;
use crate::graph::{Graph, Var};
use crate::shape::Shape;

impl Graph {
    /// `x weight^T + bias`: `x [..., in]`, `weight [out, in]`, `bias [out]`, giving `[..., out]`.
    /// [`torch.nn.functional.linear`](https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.linear.html).
    ///
    /// # Errors
    /// [`ErrorKind::Shape`](crate::ErrorKind::Shape) when the shapes do not fit.
    pub fn linear(&mut self, x: Var, weight: Var, bias: Option<Var>) -> Result<Var> {
        self.expect_float("linear", &[&[x, weight], bias.as_slice()].concat())?;
        let [out, features] = self.shape(weight)[..] else {
            return Err(Error::shape(format!("linear: {} must have 2 dimensions", self.describe(weight, "weight"))));
        };
        match self.shape(x).last() {
            Some(&size) if size == features => {}
            found => {
                return Err(Error::shape(format!(
                    "linear: {} has {} features, {} expects {features}",
                    self.describe(x, "input"),
                    found.copied().unwrap_or(0),
                    self.describe(weight, "weight"),
                )));
            }
        }
        if let Some(bias) = bias.filter(|&bias| **self.shape(bias) != [out]) {
            return Err(Error::shape(format!("linear: {} must be [{out}]", self.describe(bias, "bias"))));
        }
        if !self.node(weight).is_constant {
            let transposed = self.transpose(weight, 0, 1)?;
            let y = self.matmul(x, transposed)?;
            return bias.map_or(Ok(y), |bias| self.add(y, bias));
        }
        let mut shape = self.shape(x).to_vec();
        *shape.last_mut().expect("checked above") = out;
        let fused = Fused { bias: bias.is_some(), ..Fused::default() };
        let name = self.layer_name(weight);
        let inputs = [x, weight].into_iter().chain(bias).collect();
        Ok(self.add_node(Op::Linear(fused), inputs, shape.into(), false, &name))
    }

    /// The matrix product by the rules of
    /// [`torch.matmul`](https://docs.pytorch.org/docs/stable/generated/torch.matmul.html): vectors, matrices, and
    /// batches of matrices whose leading dimensions broadcast.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`](crate::ErrorKind::Shape) when the shapes do not fit.
    pub fn matmul(&mut self, a: Var, b: Var) -> Result<Var> {
        self.expect_float("matmul", &[a, b])?;
        let (a_rank, b_rank) = (self.shape(a).len(), self.shape(b).len());
        if a_rank == 0 || b_rank == 0 {
            return Err(Error::shape("matmul: both arguments must have at least 1 dimension"));
        }
        if a_rank == 1 {
            let row = self.unsqueeze(a, 0)?;
            let y = self.matmul(row, b)?;
            return self.squeeze(y, if b_rank == 1 { -1 } else { -2 });
        }
        if b_rank == 1 {
            let column = self.unsqueeze(b, 1)?;
            let y = self.matmul(a, column)?;
            return self.squeeze(y, -1);
        }
        let (a_shape, b_shape) = (self.shape(a).clone(), self.shape(b).clone());
        let (m, k, n) = (a_shape[a_rank - 2], a_shape[a_rank - 1], b_shape[b_rank - 1]);
        if b_shape[b_rank - 2] != k {
            return Err(Error::shape(format!(
                "matmul: {} has {k} columns, {} has {} rows",
                self.describe(a, "input"),
                self.describe(b, "other"),
                b_shape[b_rank - 2]
            )));
        }
        if b_rank == 2 && self.node(b).is_constant && !self.node(a).is_constant {
            let weight = self.transpose(b, 0, 1)?;
            return self.linear(a, weight, None);
        }
        let batch = Shape::broadcast(&a_shape[..a_rank - 2].into(), &b_shape[..b_rank - 2].into())
            .map_err(|error| error.context("matmul"))?;
        let shape: Shape = batch.iter().copied().chain([m, n]).collect();
        Ok(self.add_float(Op::Matmul, vec![a, b], shape))
    }

    /// Rows of `table [rows, dim]`: `indices [...]` of an integer dtype give `[..., dim]`. An index outside of the
    /// table is an error of the run.
    /// [`torch.nn.functional.embedding`](https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.embedding.html).
    ///
    /// # Errors
    /// [`ErrorKind::Shape`](crate::ErrorKind::Shape) when the table is not a matrix or the indices are floats.
    pub fn embedding(&mut self, indices: Var, table: Var) -> Result<Var> {
        self.expect_float("embedding", &[table])?;
        if !self.node(indices).is_int {
            return Err(Error::shape(format!(
                "embedding: {} holds floats, integers are expected",
                self.describe(indices, "indices")
            )));
        }
        let [_, dim] = self.shape(table)[..] else {
            return Err(Error::shape(format!("embedding: {} must have 2 dimensions", self.describe(table, "weight"))));
        };
        let shape: Shape = self.shape(indices).iter().copied().chain([dim]).collect();
        let name = self.layer_name(table);
        Ok(self.add_node(Op::Embedding, vec![indices, table], shape, false, &name))
    }

    /// The places `indices [n]`, of an integer dtype, of `x` along `dim`. An index that is not there is an error of the
    /// run. [`torch.index_select`](https://docs.pytorch.org/docs/stable/generated/torch.index_select.html).
    ///
    /// # Errors
    /// [`ErrorKind::Shape`](crate::ErrorKind::Shape) when there is no such dimension or the indices are no vector of
    /// integers.
    pub fn index_select(&mut self, x: Var, dim: isize, indices: Var) -> Result<Var> {
        self.expect_float("index_select", &[x])?;
        let dim = self.shape(x).dim(dim).map_err(|error| error.context("index_select"))?;
        let [count] = self.shape(indices)[..] else {
            return Err(Error::shape(format!("index_select: {} is no vector", self.describe(indices, "index"))));
        };
        if !self.node(indices).is_int {
            return Err(Error::shape("index_select: the index holds floats, integers are expected"));
        }
        let mut shape = self.shape(x).to_vec();
        shape[dim] = count;
        Ok(self.add_float(Op::IndexSelect { dim }, vec![x, indices], shape))
    }

    /// The layer's name from its weight's: `layer1.0.conv1` from `layer1.0.conv1.weight`.
    pub(crate) fn layer_name(&self, weight: Var) -> String {
        let name = self.name(weight);
        name.rsplit_once('.').map_or(name, |(layer, _)| layer).to_string()
    }
}

impl Lowering<'_> {
    pub(in crate::graph) fn linear(&mut self, fused: Fused, inputs: &[Value], shape: &[usize]) -> Value {
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

    pub(in crate::graph) fn matmul(&mut self, inputs: &[Value], shape: &[usize]) -> Result<Value> {
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

    pub(in crate::graph) fn embedding(&mut self, inputs: &[Value], shape: &[usize]) -> Value {
        let inputs = [self.contiguous(&inputs[0]), self.contiguous(&inputs[1])];
        let kernel = Kernel::Embedding {
            outer: 1,
            count: inputs[0].view.numel(),
            rows: inputs[1].view.shape[0],
            dim: inputs[1].view.shape[1],
        };
        let order: Vec<usize> = (0..shape.len()).collect();
        self.emit(kernel, &inputs, shape, &order)
    }

    pub(in crate::graph) fn index_select(&mut self, dim: usize, inputs: &[Value], shape: &[usize]) -> Value {
        let (x, order, [outer, rows, inner]) = self.lines(dim, &inputs[0]);
        let indices = self.contiguous(&inputs[1]);
        let kernel = Kernel::Embedding { outer, count: shape[dim], rows, dim: inner };
        self.emit(kernel, &[indices, x], shape, &order)
    }
}
