//! Dropout, Identity, Flatten: layers that move no numbers.

use super::module::Module;
use super::repr::{boolean, float};
use crate::error::Result;
use crate::graph::{Graph, Var};

/// Nothing: in eval mode dropout gives its input.
///
/// [`nn.Dropout`](https://docs.pytorch.org/docs/stable/generated/torch.nn.Dropout.html).
pub struct Dropout {
    p: f64,
    inplace: bool,
}

crate::module!(Dropout {});

impl Dropout {
    /// `nn.Dropout(p)`.
    pub fn new(p: f64) -> Self {
        Self { p, inplace: false }
    }

    /// Kept to be printed.
    #[must_use]
    pub fn inplace(mut self, inplace: bool) -> Self {
        self.inplace = inplace;
        self
    }
}

impl Module for Dropout {
    fn forward(&self, _: &mut Graph, x: Var) -> Result<Var> {
        Ok(x)
    }

    fn extra_repr(&self) -> String {
        format!("p={}, inplace={}", float(self.p), boolean(self.inplace))
    }
}

/// Its input.
///
/// [`nn.Identity`](https://docs.pytorch.org/docs/stable/generated/torch.nn.Identity.html).
#[derive(Default)]
pub struct Identity;

crate::module!(Identity {});

impl Identity {
    /// `nn.Identity()`.
    pub fn new() -> Self {
        Self
    }
}

impl Module for Identity {
    fn forward(&self, _: &mut Graph, x: Var) -> Result<Var> {
        Ok(x)
    }
}

/// Joins the dimensions from `start_dim` to `end_dim` into one: `[N, C, H, W]` gives `[N, C * H * W]`.
///
/// [`nn.Flatten`](https://docs.pytorch.org/docs/stable/generated/torch.nn.Flatten.html).
pub struct Flatten {
    start_dim: isize,
    end_dim: isize,
}

crate::module!(Flatten {});

impl Flatten {
    /// `nn.Flatten()`: all dimensions but the first.
    pub fn new() -> Self {
        Self::default()
    }

    /// The first dimension that is joined: 1 by default.
    #[must_use]
    pub fn start_dim(mut self, dim: isize) -> Self {
        self.start_dim = dim;
        self
    }

    /// The last dimension that is joined: -1 by default.
    #[must_use]
    pub fn end_dim(mut self, dim: isize) -> Self {
        self.end_dim = dim;
        self
    }
}

impl Default for Flatten {
    fn default() -> Self {
        Self { start_dim: 1, end_dim: -1 }
    }
}

impl Module for Flatten {
    fn forward(&self, graph: &mut Graph, x: Var) -> Result<Var> {
        graph.flatten(x, self.start_dim, self.end_dim)
    }

    fn extra_repr(&self) -> String {
        format!("start_dim={}, end_dim={}", self.start_dim, self.end_dim)
    }
}
