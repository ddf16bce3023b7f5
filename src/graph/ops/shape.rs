//! Shapes and places: views, concatenation, padding.

use crate::checkpoint::StoredTensor;
use crate::error::{Error, Result};
use crate::graph::lower::{Lowering, Value, pointwise};
use crate::graph::op::{Op, PadMode, Parameter, Program};
use crate::graph::step::Kernel;
use crate::graph::view::View;
use crate::graph::{Graph, Var};
use crate::shape::Shape;

impl Graph {
    /// The same elements in the same order as another shape; one size may be -1, the rest decides it.
    /// [`torch.reshape`](https://docs.pytorch.org/docs/stable/generated/torch.reshape.html).
    ///
    /// # Errors
    /// [`ErrorKind::Shape`](crate::ErrorKind::Shape) when the numbers of elements differ.
    pub fn reshape(&mut self, x: Var, shape: &[isize]) -> Result<Var> {
        let numel = self.shape(x).numel();
        let fail = || Error::shape(format!("reshape: {} does not become {shape:?}", self.describe(x, "input")));
        let known: usize = shape.iter().filter(|&&size| size != -1).map(|&size| size as usize).product();
        let free = shape.iter().filter(|&&size| size == -1).count();
        if free > 1 || shape.iter().any(|&size| size < -1) || (free == 1 && known == 0) {
            return Err(fail());
        }
        let sizes: Shape = shape.iter().map(|&size| if size == -1 { numel / known } else { size as usize }).collect();
        if sizes.numel() != numel {
            return Err(fail());
        }
        // A reshape back to what was there before.
        let mut before = x;
        loop {
            if sizes == *self.shape(before) {
                return Ok(before);
            }
            match self.node(before).op {
                Op::Reshape => before = self.node(before).inputs[0],
                _ => break,
            }
        }
        Ok(self.view(Op::Reshape, x, sizes.clone(), |view| view.reshape(&sizes)))
    }

    /// Merges the dimensions from `start_dim` to `end_dim`, both included.
    /// [`torch.flatten`](https://docs.pytorch.org/docs/stable/generated/torch.flatten.html).
    ///
    /// # Errors
    /// [`ErrorKind::Shape`](crate::ErrorKind::Shape) when there are no such dimensions.
    pub fn flatten(&mut self, x: Var, start_dim: isize, end_dim: isize) -> Result<Var> {
        let shape = self.shape(x).clone();
        if shape.is_empty() {
            return self.reshape(x, &[1]);
        }
        let context = |error: Error| error.context("flatten");
        let (start, end) = (shape.dim(start_dim).map_err(context)?, shape.dim(end_dim).map_err(context)?);
        if start > end {
            return Err(Error::shape(format!("flatten: dimension {start_dim} comes after {end_dim} in {shape}")));
        }
        let merged = shape[start..=end].iter().product();
        let sizes = shape[..start].iter().copied().chain([merged]).chain(shape[end + 1..].iter().copied());
        let sizes: Vec<isize> = sizes.map(|size: usize| size as isize).collect();
        self.reshape(x, &sizes)
    }

    /// Output dimension `i` is input dimension `dims[i]`.
    /// [`torch.permute`](https://docs.pytorch.org/docs/stable/generated/torch.permute.html).
    ///
    /// # Errors
    /// [`ErrorKind::Shape`](crate::ErrorKind::Shape) when `dims` does not name every dimension once.
    pub fn permute(&mut self, x: Var, dims: &[isize]) -> Result<Var> {
        let shape = self.shape(x).clone();
        let order =
            dims.iter().map(|&d| shape.dim(d)).collect::<Result<Vec<_>>>().map_err(|error| error.context("permute"))?;
        let mut sorted = order.clone();
        sorted.sort_unstable();
        if !sorted.iter().copied().eq(0..shape.len()) {
            return Err(Error::shape(format!("permute: {dims:?} does not name every dimension of {shape} once")));
        }
        let sizes: Shape = order.iter().map(|&d| shape[d]).collect();
        Ok(self.view(Op::Permute(order.clone()), x, sizes, |view| Some(view.permute(&order))))
    }

    /// Swaps two dimensions.
    /// [`torch.transpose`](https://docs.pytorch.org/docs/stable/generated/torch.transpose.html).
    ///
    /// # Errors
    /// [`ErrorKind::Shape`](crate::ErrorKind::Shape) when there are no such dimensions.
    pub fn transpose(&mut self, x: Var, dim0: isize, dim1: isize) -> Result<Var> {
        let shape = self.shape(x);
        let context = |error: Error| error.context("transpose");
        let (a, b) = (shape.dim(dim0).map_err(context)?, shape.dim(dim1).map_err(context)?);
        let mut dims: Vec<isize> = (0..shape.len() as isize).collect();
        dims.swap(a, b);
        self.permute(x, &dims)
    }

    /// Inserts a dimension of size 1; -1 appends it.
    /// [`torch.unsqueeze`](https://docs.pytorch.org/docs/stable/generated/torch.unsqueeze.html).
    ///
    /// # Errors
    /// [`ErrorKind::Shape`](crate::ErrorKind::Shape) when `dim` is out of range.
    pub fn unsqueeze(&mut self, x: Var, dim: isize) -> Result<Var> {
        let mut sizes: Vec<isize> = self.shape(x).iter().map(|&size| size as isize).collect();
        let rank = sizes.len() as isize;
        let at = if dim < 0 { dim + rank + 1 } else { dim };
        if !(0..=rank).contains(&at) {
            return Err(Error::shape(format!("unsqueeze: dimension {dim} is out of range for {}", self.shape(x))));
        }
        sizes.insert(at as usize, 1);
        self.reshape(x, &sizes)
    }

    /// Removes a dimension if its size is 1.
    /// [`torch.squeeze`](https://docs.pytorch.org/docs/stable/generated/torch.squeeze.html).
    ///
    /// # Errors
    /// [`ErrorKind::Shape`](crate::ErrorKind::Shape) when `dim` is out of range.
    pub fn squeeze(&mut self, x: Var, dim: isize) -> Result<Var> {
        let at = self.shape(x).dim(dim).map_err(|error| error.context("squeeze"))?;
        let mut sizes: Vec<isize> = self.shape(x).iter().map(|&size| size as isize).collect();
        if sizes[at] == 1 {
            sizes.remove(at);
        }
        self.reshape(x, &sizes)
    }

    /// Broadcasts dimensions of size 1, and new leading ones, to `shape`; -1 keeps a size.
    /// [`torch.Tensor.expand`](https://docs.pytorch.org/docs/stable/generated/torch.Tensor.expand.html).
    ///
    /// # Errors
    /// [`ErrorKind::Shape`](crate::ErrorKind::Shape) when the shapes do not fit.
    pub fn expand(&mut self, x: Var, shape: &[isize]) -> Result<Var> {
        let own = self.shape(x).clone();
        let fail = || Error::shape(format!("expand: {own} does not expand to {shape:?}"));
        let lead = shape.len().checked_sub(own.len()).ok_or_else(fail)?;
        let size = |(d, &want): (usize, &isize)| match (d.checked_sub(lead).map(|d| own[d]), want) {
            (Some(size), -1) => Ok(size),
            (_, want) if want < 0 => Err(fail()),
            (Some(size), want) if size != 1 && size != want as usize => Err(fail()),
            (_, want) => Ok(want as usize),
        };
        let sizes: Shape = shape.iter().enumerate().map(size).collect::<Result<Vec<_>>>()?.into();
        if sizes == own {
            return Ok(x);
        }
        Ok(self.view(Op::Expand, x, sizes.clone(), |view| Some(view.expand(&sizes))))
    }

    /// Every `step`th element from `start` to before `end` (cut to the size) along `dim`.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`](crate::ErrorKind::Shape) when there is no such dimension or the step is 0.
    pub fn slice(&mut self, x: Var, dim: isize, start: usize, end: usize, step: usize) -> Result<Var> {
        let shape = self.shape(x).clone();
        let dim = shape.dim(dim).map_err(|error| error.context("slice"))?;
        if step == 0 {
            return Err(Error::shape("slice: the step must be at least 1"));
        }
        let end = end.min(shape[dim]);
        let len = end.saturating_sub(start).div_ceil(step);
        if (start, len) == (0, shape[dim]) {
            return Ok(x);
        }
        let mut sizes = shape.to_vec();
        sizes[dim] = len;
        let op = Op::Slice { dim, start, step };
        Ok(self.view(op, x, sizes.into(), |view| Some(view.slice(dim, start, step, len))))
    }

    /// `chunks` equal parts along `dim` (the last may be smaller, and there may be fewer).
    /// [`torch.chunk`](https://docs.pytorch.org/docs/stable/generated/torch.chunk.html).
    ///
    /// # Errors
    /// [`ErrorKind::Shape`](crate::ErrorKind::Shape) when there is no such dimension or `chunks` is 0.
    pub fn chunk(&mut self, x: Var, chunks: usize, dim: isize) -> Result<Vec<Var>> {
        let size = self.shape(x)[self.shape(x).dim(dim).map_err(|error| error.context("chunk"))?];
        if chunks == 0 {
            return Err(Error::shape("chunk: the number of chunks must be at least 1"));
        }
        let each = size.div_ceil(chunks).max(1);
        (0..size.max(1)).step_by(each).map(|start| self.slice(x, dim, start, start + each, 1)).collect()
    }

    /// The tensors one after the other along `dim`; their other sizes are equal.
    /// [`torch.cat`](https://docs.pytorch.org/docs/stable/generated/torch.cat.html).
    ///
    /// # Errors
    /// [`ErrorKind::Shape`](crate::ErrorKind::Shape) when the shapes or kinds of numbers do not fit.
    pub fn cat(&mut self, xs: &[Var], dim: isize) -> Result<Var> {
        let Some(&first) = xs.first() else {
            return Err(Error::shape("cat: at least one tensor is needed"));
        };
        let mut sizes = self.shape(first).to_vec();
        let dim = self.shape(first).dim(dim).map_err(|error| error.context("cat"))?;
        let is_int = self.node(first).is_int;
        for &x in &xs[1..] {
            let shape = self.shape(x);
            let fits = shape.len() == sizes.len() && (0..sizes.len()).all(|d| d == dim || shape[d] == sizes[d]);
            if !fits || self.node(x).is_int != is_int {
                return Err(Error::shape(format!(
                    "cat: {} and {} do not fit along dimension {dim}",
                    self.describe(first, "input"),
                    self.describe(x, "input")
                )));
            }
            sizes[dim] += shape[dim];
        }
        if xs.len() == 1 {
            return Ok(first);
        }
        Ok(self.add_node(Op::Cat { dim }, xs.to_vec(), sizes.into(), is_int, ""))
    }

    /// Adds `(before, after)` elements to each dimension; `pads` has one pair a dimension, outermost first.
    /// [`torch.nn.functional.pad`](https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.pad.html).
    ///
    /// # Errors
    /// [`ErrorKind::Shape`](crate::ErrorKind::Shape) when the pairs do not fit the shape or reach past what the mode
    /// can repeat.
    pub fn pad(&mut self, x: Var, pads: &[(usize, usize)], mode: PadMode) -> Result<Var> {
        self.expect_float("pad", &[x])?;
        let shape = self.shape(x).clone();
        if pads.len() != shape.len() {
            return Err(Error::shape(format!("pad: {} pairs do not fit {shape}", pads.len())));
        }
        for (&size, &(before, after)) in shape.iter().zip(pads) {
            let most = match mode {
                PadMode::Constant(_) => usize::MAX,
                PadMode::Reflect => size.saturating_sub(1),
                PadMode::Replicate if size > 0 => usize::MAX,
                PadMode::Replicate => 0,
                PadMode::Circular => size,
            };
            if before.max(after) > most {
                return Err(Error::shape(format!("pad: {mode:?} cannot add {} to {shape}", before.max(after))));
            }
        }
        let sizes: Shape = shape.iter().zip(pads).map(|(&size, &(before, after))| size + before + after).collect();
        if sizes == shape {
            return Ok(x);
        }
        Ok(self.add_float(Op::Pad { pads: pads.to_vec(), mode }, vec![x], sizes))
    }

    /// Adds a node that only looks at `x` in another way. A view of a parameter is a parameter where strides can
    /// express it, so that it is read from the file in its new shape.
    fn view(&mut self, op: Op, x: Var, shape: Shape, apply: impl FnOnce(&View) -> Option<View>) -> Var {
        let is_int = self.node(x).is_int;
        if let Op::Parameter(Parameter { name, tensor }) = self.node(x).op.clone() {
            let view =
                View { shape: tensor.shape().to_vec(), strides: tensor.stride().to_vec(), offset: tensor.offset() };
            let viewed = apply(&view).and_then(|view| {
                let (conj, neg) = tensor.bits();
                StoredTensor::new(tensor.storage().clone(), tensor.dtype(), view.shape, view.strides, view.offset)
                    .map(|tensor| tensor.with_bits(conj, neg))
                    .ok()
            });
            if let Some(viewed) = viewed {
                return self.parameter_as(&name, &viewed, is_int).expect("its dtype runs");
            }
        }
        self.add_node(op, vec![x], shape, is_int, "")
    }
}

impl Lowering<'_> {
    /// Copies each input into its part of the output.
    pub(in crate::graph) fn cat(&mut self, dim: usize, inputs: &[Value], shape: &[usize]) -> Value {
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

    pub(in crate::graph) fn pad(&mut self, pads: &[(usize, usize)], mode: PadMode, x: &Value) -> Value {
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
