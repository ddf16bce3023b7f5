//! Products with matrices, and look-ups in tables.

use crate::error::{Error, Result};
use crate::graph::op::{Fused, Op};
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

    /// The layer's name from its weight's: `layer1.0.conv1` from `layer1.0.conv1.weight`.
    pub(crate) fn layer_name(&self, weight: Var) -> String {
        let name = self.name(weight);
        name.rsplit_once('.').map_or(name, |(layer, _)| layer).to_string()
    }
}
