//! Reductions.

use crate::error::{Error, Result};
use crate::graph::op::{Op, Reduce};
use crate::graph::{Graph, Var};
use crate::shape::Shape;

impl Graph {
    /// The sum over `dims` (all of them when empty).
    /// [`torch.sum`](https://docs.pytorch.org/docs/stable/generated/torch.sum.html).
    ///
    /// # Errors
    /// [`ErrorKind::Shape`](crate::ErrorKind::Shape) when there is no such dimension or it is named twice.
    pub fn sum(&mut self, x: Var, dims: &[isize], keepdim: bool) -> Result<Var> {
        self.reduce(Reduce::Sum, x, dims, keepdim)
    }

    /// The largest element over `dims` (all of them when empty).
    /// [`torch.amax`](https://docs.pytorch.org/docs/stable/generated/torch.amax.html).
    ///
    /// # Errors
    /// [`ErrorKind::Shape`](crate::ErrorKind::Shape) when there is no such dimension, it is named twice or is empty.
    pub fn amax(&mut self, x: Var, dims: &[isize], keepdim: bool) -> Result<Var> {
        self.reduce(Reduce::Max, x, dims, keepdim)
    }

    pub(super) fn reduce(&mut self, kind: Reduce, x: Var, dims: &[isize], keepdim: bool) -> Result<Var> {
        let name = Op::Reduce { kind, dims: vec![], keepdim }.name();
        self.expect_float(name, &[x])?;
        let shape = self.shape(x).clone();
        let mut dims =
            dims.iter().map(|&d| shape.dim(d)).collect::<Result<Vec<_>>>().map_err(|error| error.context(name))?;
        if dims.is_empty() {
            dims = (0..shape.len()).collect();
        }
        dims.sort_unstable();
        if dims.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(Error::shape(format!("{name}: a dimension of {shape} is named twice")));
        }
        if kind == Reduce::Max && dims.iter().any(|&d| shape[d] == 0) {
            return Err(Error::shape(format!("{name}: {} has nothing to reduce", self.describe(x, "input"))));
        }
        let kept = |d: usize| if dims.contains(&d) { keepdim.then_some(1) } else { Some(shape[d]) };
        let out: Shape = (0..shape.len()).filter_map(kept).collect();
        Ok(self.add_float(Op::Reduce { kind, dims, keepdim }, vec![x], out))
    }
}
