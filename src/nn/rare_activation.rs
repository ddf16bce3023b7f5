//! The rarer activations, computed from plainer functions.

use super::module::Module;
use super::repr::float;
use super::slot::Parameter;
use crate::error::{Error, Result};
use crate::graph::{Graph, Var};

/// Activations without arguments that matter; those with `inplace` print it when it is set.
macro_rules! simple {
    ($($(#[$doc:meta])* $name:ident($inplace:literal) => $function:expr;)*) => { $(
        $(#[$doc])*
        #[derive(Default)]
        pub struct $name {
            inplace: bool,
        }

        crate::module!($name {});

        impl $name {
            /// The activation.
            pub fn new() -> Self {
                Self::default()
            }

            /// Kept to be printed, where PyTorch prints it: the result is the same.
            #[must_use]
            pub fn inplace(mut self, inplace: bool) -> Self {
                self.inplace = inplace && $inplace;
                self
            }
        }

        impl Module for $name {
            fn forward(&self, graph: &mut Graph, x: Var) -> Result<Var> {
                let function: fn(&mut Graph, Var) -> Result<Var> = $function;
                function(graph, x)
            }

            fn extra_repr(&self) -> String {
                if self.inplace { "inplace=True".into() } else { String::new() }
            }
        }
    )* };
}

simple! {
    /// `x * tanh(softplus(x))`.
    ///
    /// [`nn.Mish`](https://docs.pytorch.org/docs/stable/generated/torch.nn.Mish.html).
    Mish(true) => |g, x| {
        let y = softplus(g, x)?;
        let y = g.tanh(y)?;
        g.mul(x, y)
    };
    /// `scale * elu(x, alpha)` with the constants of self-normalizing networks.
    ///
    /// [`nn.SELU`](https://docs.pytorch.org/docs/stable/generated/torch.nn.SELU.html).
    SELU(true) => |g, x| {
        let y = g.elu(x, 1.673_263_2)?;
        g.mul_scalar(y, 1.050_701)
    };
    /// `log(sigmoid(x))`.
    ///
    /// [`nn.LogSigmoid`](https://docs.pytorch.org/docs/stable/generated/torch.nn.LogSigmoid.html).
    LogSigmoid(false) => |g, x| {
        let y = g.neg(x)?;
        let y = softplus(g, y)?;
        g.neg(y)
    };
    /// `x / (1 + |x|)`.
    ///
    /// [`nn.Softsign`](https://docs.pytorch.org/docs/stable/generated/torch.nn.Softsign.html).
    Softsign(false) => |g, x| {
        let y = g.abs(x)?;
        let y = g.add_scalar(y, 1.0)?;
        g.div(x, y)
    };
    /// `x - tanh(x)`.
    ///
    /// [`nn.Tanhshrink`](https://docs.pytorch.org/docs/stable/generated/torch.nn.Tanhshrink.html).
    Tanhshrink(false) => |g, x| {
        let y = g.tanh(x)?;
        g.sub(x, y)
    };
    /// Softmax over the channels of every pixel of `[N, C, H, W]` or `[C, H, W]`.
    ///
    /// [`nn.Softmax2d`](https://docs.pytorch.org/docs/stable/generated/torch.nn.Softmax2d.html).
    Softmax2d(false) => |g, x| match g.shape(x).len() {
        3 | 4 => g.softmax(x, -3),
        _ => Err(Error::shape(format!("softmax2d: expected 3 or 4 dimensions, found {}", g.shape(x)))),
    };
}

/// `log(1 + exp(x))`, by a formula that does not overflow.
fn softplus(graph: &mut Graph, x: Var) -> Result<Var> {
    let y = graph.abs(x)?;
    let y = graph.neg(y)?;
    let y = graph.exp(y)?;
    let y = graph.add_scalar(y, 1.0)?;
    let y = graph.log(y)?;
    let positive = graph.relu(x)?;
    graph.add(positive, y)
}

/// `log(1 + exp(beta * x)) / beta`.
///
/// [`nn.Softplus`](https://docs.pytorch.org/docs/stable/generated/torch.nn.Softplus.html). PyTorch gives `x` itself above
/// `threshold / beta`, which is the same number for the default threshold; a threshold below 17 is refused.
pub struct Softplus {
    beta: f64,
    threshold: f64,
}

crate::module!(Softplus {});

impl Softplus {
    /// `nn.Softplus()`, with a `beta` of 1 and a `threshold` of 20.
    pub fn new() -> Self {
        Self { beta: 1.0, threshold: 20.0 }
    }

    /// How steep it is.
    #[must_use]
    pub fn beta(mut self, beta: f64) -> Self {
        self.beta = beta;
        self
    }

    /// From where on it is `x`, times `beta`.
    #[must_use]
    pub fn threshold(mut self, threshold: f64) -> Self {
        self.threshold = threshold;
        self
    }
}

impl Default for Softplus {
    fn default() -> Self {
        Self::new()
    }
}

impl Module for Softplus {
    fn forward(&self, graph: &mut Graph, x: Var) -> Result<Var> {
        // From 17 on `log(1 + exp(x))` is `x` to the precision of `f32`.
        if self.threshold < 17.0 {
            return Err(Error::unsupported(format!("softplus: a threshold of {}, at least 17 runs", self.threshold)));
        }
        if self.beta == 1.0 {
            return softplus(graph, x);
        }
        let y = graph.mul_scalar(x, self.beta as f32)?;
        let y = softplus(graph, y)?;
        graph.mul_scalar(y, (1.0 / self.beta) as f32)
    }

    fn extra_repr(&self) -> String {
        format!("beta={}, threshold={}", float(self.beta), float(self.threshold))
    }
}

/// `x` where it is positive, `alpha * (exp(x / alpha) - 1)` elsewhere.
///
/// [`nn.CELU`](https://docs.pytorch.org/docs/stable/generated/torch.nn.CELU.html).
pub struct CELU {
    alpha: f64,
    inplace: bool,
}

crate::module!(CELU {});

impl CELU {
    /// `nn.CELU(alpha)`, where `alpha` is positive; PyTorch's default is 1.
    pub fn new(alpha: f64) -> Self {
        Self { alpha, inplace: false }
    }

    /// Kept to be printed: the result is the same.
    #[must_use]
    pub fn inplace(mut self, inplace: bool) -> Self {
        self.inplace = inplace;
        self
    }
}

impl Module for CELU {
    fn forward(&self, graph: &mut Graph, x: Var) -> Result<Var> {
        let alpha = self.alpha as f32;
        if alpha.is_nan() || alpha <= 0.0 {
            return Err(Error::unsupported(format!("celu: an alpha of {}, only positive ones run", self.alpha)));
        }
        if alpha == 1.0 {
            return graph.elu(x, 1.0);
        }
        let positive = graph.relu(x)?;
        let y = graph.neg(x)?;
        let y = graph.relu(y)?;
        let y = graph.mul_scalar(y, -1.0 / alpha)?;
        let y = graph.elu(y, alpha)?;
        graph.add(positive, y)
    }

    fn extra_repr(&self) -> String {
        format!("alpha={}{}", float(self.alpha), if self.inplace { ", inplace=True" } else { "" })
    }
}

/// `x` where it is further than `lambd` from 0, moved by `lambd` towards it; 0 elsewhere.
///
/// [`nn.Softshrink`](https://docs.pytorch.org/docs/stable/generated/torch.nn.Softshrink.html).
pub struct Softshrink {
    lambd: f64,
}

crate::module!(Softshrink {});

impl Softshrink {
    /// `nn.Softshrink(lambd)`; PyTorch's default is 0.5.
    pub fn new(lambd: f64) -> Self {
        Self { lambd }
    }
}

impl Module for Softshrink {
    fn forward(&self, graph: &mut Graph, x: Var) -> Result<Var> {
        let near = graph.hardtanh(x, -self.lambd as f32, self.lambd as f32)?;
        graph.sub(x, near)
    }

    fn extra_repr(&self) -> String {
        float(self.lambd)
    }
}

/// In eval mode a leaky ReLU whose slope is the mean of `lower` and `upper`.
///
/// [`nn.RReLU`](https://docs.pytorch.org/docs/stable/generated/torch.nn.RReLU.html).
pub struct RReLU {
    lower: f64,
    upper: f64,
    inplace: bool,
}

crate::module!(RReLU {});

impl RReLU {
    /// `nn.RReLU(lower, upper)`; PyTorch's defaults are 1/8 and 1/3.
    pub fn new(lower: f64, upper: f64) -> Self {
        Self { lower, upper, inplace: false }
    }

    /// Kept to be printed: the result is the same.
    #[must_use]
    pub fn inplace(mut self, inplace: bool) -> Self {
        self.inplace = inplace;
        self
    }
}

impl Module for RReLU {
    fn forward(&self, graph: &mut Graph, x: Var) -> Result<Var> {
        graph.leaky_relu(x, ((self.lower + self.upper) / 2.0) as f32)
    }

    fn extra_repr(&self) -> String {
        let inplace = if self.inplace { ", inplace=True" } else { "" };
        format!("lower={}, upper={}{inplace}", float(self.lower), float(self.upper))
    }
}

/// `x` where it is positive, `weight * x` elsewhere, with one weight or one for each channel (dimension 1).
///
/// [`nn.PReLU`](https://docs.pytorch.org/docs/stable/generated/torch.nn.PReLU.html).
pub struct PReLU {
    /// `[num_parameters]`.
    pub weight: Parameter,
}

crate::module!(PReLU { weight });

impl PReLU {
    /// `nn.PReLU(num_parameters)`; PyTorch's default is 1.
    pub fn new(num_parameters: usize) -> Self {
        Self { weight: Parameter::new([num_parameters]) }
    }
}

impl Module for PReLU {
    fn forward(&self, graph: &mut Graph, x: Var) -> Result<Var> {
        let (count, rank) = (self.weight.shape()[0], graph.shape(x).len());
        let mut weight = self.weight.var(graph)?;
        if count != 1 {
            if rank < 2 || graph.shape(x)[1] != count {
                return Err(Error::shape(format!("prelu: {count} weights do not fit an input {}", graph.shape(x))));
            }
            let mut shape = vec![1isize; rank - 1];
            shape[0] = count as isize;
            weight = graph.reshape(weight, &shape)?;
        }
        let positive = graph.relu(x)?;
        let y = graph.neg(x)?;
        let y = graph.relu(y)?;
        let y = graph.mul(y, weight)?;
        graph.sub(positive, y)
    }

    fn extra_repr(&self) -> String {
        format!("num_parameters={}", self.weight.shape()[0])
    }
}

macro_rules! along {
    ($($(#[$doc:meta])* $name:ident => $function:expr;)*) => { $(
        $(#[$doc])*
        pub struct $name {
            dim: isize,
        }

        crate::module!($name {});

        impl $name {
            /// Along `dim`, which counts from the end when it is negative.
            pub fn new(dim: isize) -> Self {
                Self { dim }
            }
        }

        impl Module for $name {
            fn forward(&self, graph: &mut Graph, x: Var) -> Result<Var> {
                let function: fn(&mut Graph, Var, isize) -> Result<Var> = $function;
                function(graph, x, self.dim)
            }

            fn extra_repr(&self) -> String {
                format!("dim={}", self.dim)
            }
        }
    )* };
}

along! {
    /// The first half of `x` along `dim` times the sigmoid of the second half.
    ///
    /// [`nn.GLU`](https://docs.pytorch.org/docs/stable/generated/torch.nn.GLU.html).
    GLU => |g, x, dim| {
        let dim_index = g.shape(x).dim(dim).map_err(|error| error.context("glu"))?;
        let size = g.shape(x)[dim_index];
        if !size.is_multiple_of(2) {
            return Err(Error::shape(format!("glu: dimension {dim} of {} has no halves", g.shape(x))));
        }
        let a = g.slice(x, dim, 0, size / 2, 1)?;
        let b = g.slice(x, dim, size / 2, size, 1)?;
        let b = g.sigmoid(b)?;
        g.mul(a, b)
    };
    /// `exp(-x_i) / sum_j exp(-x_j)`.
    ///
    /// [`nn.Softmin`](https://docs.pytorch.org/docs/stable/generated/torch.nn.Softmin.html).
    Softmin => |g, x, dim| {
        let y = g.neg(x)?;
        g.softmax(y, dim)
    };
}
