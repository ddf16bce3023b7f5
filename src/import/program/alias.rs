//! Which tensors of a program share memory, so that a write into one is seen by the others: each tensor is a chain of
//! views of a base, a write makes a new base, and a tensor is derived again from its base when it is read after that.

use std::rc::Rc;

use super::build::Build;
use super::host::{Host, MAX_ELEMENTS};
use super::value::{Data, X};
use crate::error::{Error, Result};
use crate::graph::view::View;

/// One view of another tensor. All of PyTorch's views are made of these.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum ViewOp {
    Reshape(Vec<usize>),
    Permute(Vec<usize>),
    Expand(Vec<usize>),
    Slice {
        dim: usize,
        start: usize,
        step: usize,
        len: usize,
    },
    /// Windows of so many elements along `dim`, `step` apart; their elements are a new last dimension.
    Windows {
        dim: usize,
        size: usize,
        step: usize,
    },
}

impl ViewOp {
    /// The view of a tensor that lies row-major.
    fn of(&self, shape: &[usize]) -> View {
        let whole = View::contiguous(shape);
        match self {
            ViewOp::Reshape(_) => unreachable!("a reshape keeps the elements' order"),
            ViewOp::Permute(dims) => whole.permute(dims),
            ViewOp::Expand(sizes) => whole.expand(sizes),
            &ViewOp::Slice { dim, start, step, len } => whole.slice(dim, start, step, len),
            &ViewOp::Windows { dim, size, step } => {
                let mut view = whole;
                view.shape.push(size);
                view.strides.push(view.strides[dim]);
                view.shape[dim] = (shape[dim] - size) / step + 1;
                view.strides[dim] *= step;
                view
            }
        }
    }
}

/// Memory that tensors share.
#[derive(Debug)]
pub(super) struct Base {
    current: X,
    /// How often it was written.
    generation: u32,
    /// The parameter or buffer that it is.
    weight: Option<Rc<str>>,
}

/// A tensor: a base, and the way from it.
#[derive(Clone, Debug)]
pub(super) struct Handle {
    base: usize,
    chain: Rc<[ViewOp]>,
    cached: X,
    generation: u32,
}

impl Build<'_> {
    /// A tensor with memory of its own.
    pub(super) fn fresh(&mut self, x: X) -> Handle {
        self.base(x, None)
    }

    /// A tensor of the file, which nothing may write.
    pub(super) fn weight(&mut self, x: X, name: &str) -> Handle {
        self.base(x, Some(name.into()))
    }

    fn base(&mut self, x: X, weight: Option<Rc<str>>) -> Handle {
        let x = X { is_number: false, ..x };
        self.bases.push(Base { current: x.clone(), generation: 0, weight });
        Handle { base: self.bases.len() - 1, chain: Rc::new([]), cached: x, generation: 0 }
    }

    /// What the tensor holds now.
    pub(super) fn read(&mut self, handle: &Handle) -> Result<X> {
        let base = &self.bases[handle.base];
        if base.generation == handle.generation {
            return Ok(handle.cached.clone());
        }
        let mut x = base.current.clone();
        for op in handle.chain.iter() {
            x = self.view(&x, op)?;
        }
        Ok(x)
    }

    /// A tensor that shares the memory of `handle`.
    pub(super) fn alias(&mut self, handle: &Handle, views: &[ViewOp]) -> Result<Handle> {
        let mut cached = self.read(handle)?;
        for op in views {
            cached = self.view(&cached, op)?;
        }
        let generation = self.bases[handle.base].generation;
        let chain = handle.chain.iter().chain(views).cloned().collect();
        Ok(Handle { base: handle.base, chain, cached, generation })
    }

    /// Writes `new` where `handle` is.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) when that is a parameter or a buffer, or a view that
    /// cannot be written.
    pub(super) fn write(&mut self, handle: &Handle, new: X) -> Result<()> {
        let base = &self.bases[handle.base];
        if let Some(name) = &base.weight {
            return Err(Error::unsupported(format!("the program changes its buffer `{name}`, which is not supported"))
                .help("a model that keeps state between runs cannot run; export it in eval mode"));
        }
        let mut before = vec![base.current.clone()];
        for op in handle.chain.iter() {
            let last = before.last().expect("never empty").clone();
            before.push(self.view(&last, op)?);
        }
        before.pop();
        let mut value = X { is_number: false, ..new };
        for (op, before) in handle.chain.iter().zip(&before).rev() {
            value = self.put(op, before, value)?;
        }
        let base = &mut self.bases[handle.base];
        base.current = value;
        base.generation += 1;
        Ok(())
    }

    /// `before` with what `op` sees of it replaced by `new`.
    pub(super) fn put(&mut self, op: &ViewOp, before: &X, new: X) -> Result<X> {
        let shape = self.shape(before);
        match op {
            ViewOp::Reshape(_) => self.view(&new, &ViewOp::Reshape(shape)),
            ViewOp::Permute(dims) => {
                let mut back = vec![0; dims.len()];
                dims.iter().enumerate().for_each(|(to, &from)| back[from] = to);
                self.view(&new, &ViewOp::Permute(back))
            }
            ViewOp::Expand(sizes) if *sizes == shape => Ok(new),
            ViewOp::Expand(_) => Err(Error::unsupported("a write into an expanded tensor, whose elements overlap")),
            ViewOp::Windows { .. } => Err(Error::unsupported("a write into windows, whose elements may overlap")),
            &ViewOp::Slice { dim, start, step, len } => self.put_slice(before, new, dim, start, step, len),
        }
    }

    fn put_slice(&mut self, before: &X, new: X, dim: usize, start: usize, step: usize, len: usize) -> Result<X> {
        let shape = self.shape(before);
        if len == shape[dim] {
            return Ok(new);
        }
        if let (Data::Host(old), Data::Host(part)) = (&before.data, &new.data) {
            let view = View::contiguous(&shape).slice(dim, start, step, len);
            return Ok(X::host(old.scatter(&view, part)?, before.dtype));
        }
        if len == 0 {
            return Ok(before.clone());
        }
        let mut parts = Vec::new();
        let keep = |build: &mut Self, from: usize, to: usize, parts: &mut Vec<X>| -> Result<()> {
            if from < to {
                parts.push(build.view(before, &ViewOp::Slice { dim, start: from, step: 1, len: to - from })?);
            }
            Ok(())
        };
        keep(self, 0, start, &mut parts)?;
        if step == 1 {
            parts.push(new);
        } else {
            for i in 0..len {
                parts.push(self.view(&new, &ViewOp::Slice { dim, start: i, step: 1, len: 1 })?);
                if i + 1 < len {
                    keep(self, start + i * step + 1, start + (i + 1) * step, &mut parts)?;
                }
            }
        }
        keep(self, start + (len - 1) * step + 1, shape[dim], &mut parts)?;
        self.cat(&parts, dim)
    }

    /// A view of a value.
    pub(super) fn view(&mut self, x: &X, op: &ViewOp) -> Result<X> {
        let signed = |sizes: &[usize]| sizes.iter().map(|&size| size as isize).collect::<Vec<_>>();
        Ok(match &x.data {
            Data::Host(host) => {
                let host = match op {
                    ViewOp::Expand(sizes) if sizes.iter().product::<usize>() > MAX_ELEMENTS => {
                        return Err(Error::unsupported(format!("a constant of the shape {sizes:?}")));
                    }
                    ViewOp::Reshape(sizes) if sizes.iter().product::<usize>() == host.len() => {
                        Host { shape: sizes.clone(), data: host.data.clone() }
                    }
                    ViewOp::Reshape(sizes) => {
                        return Err(Error::shape(format!("{:?} does not become {sizes:?}", host.shape)));
                    }
                    _ => host.gather(&op.of(&host.shape)),
                };
                X::host(host, x.dtype)
            }
            &Data::Var(var) => {
                let var = match op {
                    &ViewOp::Windows { dim, size, step } => return self.windows(x, dim, size, step),
                    ViewOp::Reshape(sizes) => self.graph.reshape(var, &signed(sizes))?,
                    ViewOp::Permute(dims) => self.graph.permute(var, &signed(dims))?,
                    ViewOp::Expand(sizes) => self.graph.expand(var, &signed(sizes))?,
                    &ViewOp::Slice { dim, start, step, len } => {
                        // So that a slice of one element has the right length whatever the step.
                        let end = if len == 0 { start } else { start + (len - 1) * step + 1 };
                        self.graph.slice(var, dim as isize, start, end, step)?
                    }
                };
                X::var(var, x.dtype)
            }
        })
    }

    fn windows(&mut self, x: &X, dim: usize, size: usize, step: usize) -> Result<X> {
        let len = (self.shape(x)[dim] - size) / step + 1;
        let parts = (0..size)
            .map(|start| {
                let part = self.view(x, &ViewOp::Slice { dim, start, step, len })?;
                let shape = [&self.shape(&part)[..], &[1]].concat();
                self.view(&part, &ViewOp::Reshape(shape))
            })
            .collect::<Result<Vec<_>>>()?;
        let last = self.shape(x).len();
        self.cat(&parts, last)
    }
}
