//! The activations.

use super::module::Module;
use super::repr::float;
use crate::error::Result;
use crate::graph::{Approximate, Graph, Var};

/// Activations without numbers to choose; those with `inplace` print it when it is set.
macro_rules! plain {
    ($($(#[$doc:meta])* $name:ident => $method:ident;)*) => { $(
        $(#[$doc])*
        #[derive(Default)]
        pub struct $name;

        crate::module!($name {});

        impl $name {
            /// The activation.
            pub fn new() -> Self {
                Self
            }
        }

        impl Module for $name {
            fn forward(&self, graph: &mut Graph, x: Var) -> Result<Var> {
                graph.$method(x)
            }
        }
    )* };
}

macro_rules! inplace {
    ($($(#[$doc:meta])* $name:ident => $method:ident;)*) => { $(
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

            /// Kept to be printed: the result is the same.
            #[must_use]
            pub fn inplace(mut self, inplace: bool) -> Self {
                self.inplace = inplace;
                self
            }
        }

        impl Module for $name {
            fn forward(&self, graph: &mut Graph, x: Var) -> Result<Var> {
                graph.$method(x)
            }

            fn extra_repr(&self) -> String {
                if self.inplace { "inplace=True".into() } else { String::new() }
            }
        }
    )* };
}

inplace! {
    /// `max(x, 0)`.
    ///
    /// [`nn.ReLU`](https://docs.pytorch.org/docs/stable/generated/torch.nn.ReLU.html).
    ReLU => relu;
    /// `min(max(x, 0), 6)`.
    ///
    /// [`nn.ReLU6`](https://docs.pytorch.org/docs/stable/generated/torch.nn.ReLU6.html).
    ReLU6 => relu6;
    /// `x * sigmoid(x)`.
    ///
    /// [`nn.SiLU`](https://docs.pytorch.org/docs/stable/generated/torch.nn.SiLU.html).
    SiLU => silu;
}

plain! {
    /// `1 / (1 + exp(-x))`.
    ///
    /// [`nn.Sigmoid`](https://docs.pytorch.org/docs/stable/generated/torch.nn.Sigmoid.html).
    Sigmoid => sigmoid;
    /// `tanh(x)`.
    ///
    /// [`nn.Tanh`](https://docs.pytorch.org/docs/stable/generated/torch.nn.Tanh.html).
    Tanh => tanh;
    /// `x * min(max(x + 3, 0), 6) / 6`.
    ///
    /// [`nn.Hardswish`](https://docs.pytorch.org/docs/stable/generated/torch.nn.Hardswish.html).
    Hardswish => hardswish;
    /// `min(max(x + 3, 0), 6) / 6`.
    ///
    /// [`nn.Hardsigmoid`](https://docs.pytorch.org/docs/stable/generated/torch.nn.Hardsigmoid.html).
    Hardsigmoid => hardsigmoid;
}

/// `x` where it is positive, `negative_slope * x` elsewhere.
///
/// [`nn.LeakyReLU`](https://docs.pytorch.org/docs/stable/generated/torch.nn.LeakyReLU.html).
pub struct LeakyReLU {
    negative_slope: f64,
    inplace: bool,
}

crate::module!(LeakyReLU {});

impl LeakyReLU {
    /// `nn.LeakyReLU(negative_slope)`; PyTorch's default is 0.01.
    pub fn new(negative_slope: f64) -> Self {
        Self { negative_slope, inplace: false }
    }

    /// Kept to be printed: the result is the same.
    #[must_use]
    pub fn inplace(mut self, inplace: bool) -> Self {
        self.inplace = inplace;
        self
    }
}

impl Default for LeakyReLU {
    fn default() -> Self {
        Self::new(0.01)
    }
}

impl Module for LeakyReLU {
    fn forward(&self, graph: &mut Graph, x: Var) -> Result<Var> {
        graph.leaky_relu(x, self.negative_slope as f32)
    }

    fn extra_repr(&self) -> String {
        let inplace = if self.inplace { ", inplace=True" } else { "" };
        format!("negative_slope={}{inplace}", float(self.negative_slope))
    }
}

/// `x` where it is positive, `alpha * (exp(x) - 1)` elsewhere.
///
/// [`nn.ELU`](https://docs.pytorch.org/docs/stable/generated/torch.nn.ELU.html).
pub struct ELU {
    alpha: f64,
    inplace: bool,
}

crate::module!(ELU {});

impl ELU {
    /// `nn.ELU(alpha)`; PyTorch's default is 1.
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

impl Default for ELU {
    fn default() -> Self {
        Self::new(1.0)
    }
}

impl Module for ELU {
    fn forward(&self, graph: &mut Graph, x: Var) -> Result<Var> {
        graph.elu(x, self.alpha as f32)
    }

    fn extra_repr(&self) -> String {
        format!("alpha={}{}", float(self.alpha), if self.inplace { ", inplace=True" } else { "" })
    }
}

/// `min(max(x, min), max)`.
///
/// [`nn.Hardtanh`](https://docs.pytorch.org/docs/stable/generated/torch.nn.Hardtanh.html).
pub struct Hardtanh {
    min: f64,
    max: f64,
    inplace: bool,
}

crate::module!(Hardtanh {});

impl Hardtanh {
    /// `nn.Hardtanh(min_val, max_val)`; PyTorch's defaults are -1 and 1.
    pub fn new(min: f64, max: f64) -> Self {
        Self { min, max, inplace: false }
    }

    /// Kept to be printed: the result is the same.
    #[must_use]
    pub fn inplace(mut self, inplace: bool) -> Self {
        self.inplace = inplace;
        self
    }
}

impl Module for Hardtanh {
    fn forward(&self, graph: &mut Graph, x: Var) -> Result<Var> {
        graph.hardtanh(x, self.min as f32, self.max as f32)
    }

    fn extra_repr(&self) -> String {
        let inplace = if self.inplace { ", inplace=True" } else { "" };
        format!("min_val={}, max_val={}{inplace}", float(self.min), float(self.max))
    }
}

/// `x / 2 * (1 + erf(x / sqrt(2)))`, or its approximation by `tanh`.
///
/// [`nn.GELU`](https://docs.pytorch.org/docs/stable/generated/torch.nn.GELU.html).
pub struct GELU {
    approximate: Approximate,
}

crate::module!(GELU {});

impl GELU {
    /// `nn.GELU()`.
    pub fn new() -> Self {
        Self { approximate: Approximate::None }
    }

    /// The formula: [`Approximate::None`] by default.
    #[must_use]
    pub fn approximate(mut self, approximate: Approximate) -> Self {
        self.approximate = approximate;
        self
    }
}

impl Default for GELU {
    fn default() -> Self {
        Self::new()
    }
}

impl Module for GELU {
    fn forward(&self, graph: &mut Graph, x: Var) -> Result<Var> {
        graph.gelu(x, self.approximate)
    }

    fn extra_repr(&self) -> String {
        let name = match self.approximate {
            Approximate::None => "none",
            Approximate::Tanh => "tanh",
        };
        format!("approximate='{name}'")
    }
}

macro_rules! softmax {
    ($($(#[$doc:meta])* $name:ident => $method:ident;)*) => { $(
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
                graph.$method(x, self.dim)
            }

            fn extra_repr(&self) -> String {
                format!("dim={}", self.dim)
            }
        }
    )* };
}

softmax! {
    /// `exp(x_i) / sum_j exp(x_j)`.
    ///
    /// [`nn.Softmax`](https://docs.pytorch.org/docs/stable/generated/torch.nn.Softmax.html).
    Softmax => softmax;
    /// `log(exp(x_i) / sum_j exp(x_j))`.
    ///
    /// [`nn.LogSoftmax`](https://docs.pytorch.org/docs/stable/generated/torch.nn.LogSoftmax.html).
    LogSoftmax => log_softmax;
}
