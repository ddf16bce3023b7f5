//! The dropouts, Identity, Flatten, Unflatten: layers that move no numbers.

use super::module::Module;
use super::repr::{boolean, float, tuple};
use crate::error::{Error, Result};
use crate::graph::{Graph, Var};

macro_rules! dropouts {
    ($($(#[$doc:meta])* $name:ident)*) => { $(
        $(#[$doc])*
        pub struct $name {
            p: f64,
            inplace: bool,
        }

        crate::module!($name {});

        impl $name {
            /// Elements are dropped in training with probability `p`.
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

        impl Module for $name {
            fn forward(&self, _: &mut Graph, x: Var) -> Result<Var> {
                Ok(x)
            }

            fn extra_repr(&self) -> String {
                format!("p={}, inplace={}", float(self.p), boolean(self.inplace))
            }
        }
    )* };
}

dropouts! {
    /// Nothing: in eval mode dropout gives its input.
    ///
    /// [`nn.Dropout`](https://docs.pytorch.org/docs/stable/generated/torch.nn.Dropout.html).
    Dropout
    /// Nothing: in eval mode dropout gives its input.
    ///
    /// [`nn.Dropout1d`](https://docs.pytorch.org/docs/stable/generated/torch.nn.Dropout1d.html).
    Dropout1d
    /// Nothing: in eval mode dropout gives its input.
    ///
    /// [`nn.Dropout2d`](https://docs.pytorch.org/docs/stable/generated/torch.nn.Dropout2d.html).
    Dropout2d
    /// Nothing: in eval mode dropout gives its input.
    ///
    /// [`nn.Dropout3d`](https://docs.pytorch.org/docs/stable/generated/torch.nn.Dropout3d.html).
    Dropout3d
    /// Nothing: in eval mode dropout gives its input.
    ///
    /// [`nn.AlphaDropout`](https://docs.pytorch.org/docs/stable/generated/torch.nn.AlphaDropout.html).
    AlphaDropout
    /// Nothing: in eval mode dropout gives its input.
    ///
    /// [`nn.FeatureAlphaDropout`](https://docs.pytorch.org/docs/stable/generated/torch.nn.FeatureAlphaDropout.html).
    FeatureAlphaDropout
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

/// Splits dimension `dim` into those of `unflattened_size`, of which one may be -1: the rest decides it.
///
/// [`nn.Unflatten`](https://docs.pytorch.org/docs/stable/generated/torch.nn.Unflatten.html).
pub struct Unflatten {
    dim: isize,
    unflattened_size: Vec<isize>,
}

crate::module!(Unflatten {});

impl Unflatten {
    /// `nn.Unflatten(dim, unflattened_size)`.
    pub fn new(dim: isize, unflattened_size: impl Into<Vec<isize>>) -> Self {
        Self { dim, unflattened_size: unflattened_size.into() }
    }
}

impl Module for Unflatten {
    fn forward(&self, graph: &mut Graph, x: Var) -> Result<Var> {
        let shape = graph.shape(x).clone();
        let dim = shape.dim(self.dim).map_err(|error| error.context("unflatten"))?;
        let known: isize = self.unflattened_size.iter().filter(|&&size| size != -1).product();
        let own = shape[dim] as isize;
        let fits = match self.unflattened_size.contains(&-1) {
            true => known > 0 && own % known == 0,
            false => known == own,
        };
        if !fits {
            let sizes = tuple(&self.unflattened_size);
            return Err(Error::shape(format!("unflatten: dimension {dim} of {shape} does not become {sizes}")));
        }
        let sizes = |range: &[usize]| range.iter().map(|&size| size as isize).collect::<Vec<_>>();
        let split: Vec<isize> =
            self.unflattened_size.iter().map(|&size| if size == -1 { own / known } else { size }).collect();
        graph.reshape(x, &[sizes(&shape[..dim]), split, sizes(&shape[dim + 1..])].concat())
    }

    fn extra_repr(&self) -> String {
        format!("dim={}, unflattened_size={}", self.dim, tuple(&self.unflattened_size))
    }
}
