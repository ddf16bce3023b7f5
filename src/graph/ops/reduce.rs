//! Reductions.

use crate::error::{Error, Result};
use crate::graph::lower::{Lowering, Value};
use crate::graph::op::{Op, Reduce};
use crate::graph::step::Kernel;
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

    /// The running sums along `dim`: `y[i] = x[0] + ... + x[i]`.
    /// [`torch.cumsum`](https://docs.pytorch.org/docs/stable/generated/torch.cumsum.html).
    ///
    /// # Errors
    /// [`ErrorKind::Shape`](crate::ErrorKind::Shape) when there is no such dimension.
    pub fn cumsum(&mut self, x: Var, dim: isize) -> Result<Var> {
        self.expect_float("cumsum", &[x])?;
        let shape = self.shape(x).clone();
        let dim = shape.dim(dim).map_err(|error| error.context("cumsum"))?;
        Ok(self.add_float(Op::Cumsum { dim }, vec![x], shape))
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

impl Lowering<'_> {
    pub(in crate::graph) fn reduce(&mut self, kind: Reduce, dims: &[usize], x: &Value, shape: &[usize]) -> Value {
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

    pub(in crate::graph) fn cumsum(&mut self, dim: usize, x: &Value) -> Value {
        let (x, order, [outer, len, inner]) = self.lines(dim, x);
        let shape = x.view.shape.clone();
        self.emit(Kernel::Cumsum { outer, len, inner }, &[x], &shape, &order)
    }
}
