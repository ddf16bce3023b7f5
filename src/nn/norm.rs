//! BatchNorm1d, BatchNorm2d, BatchNorm3d, LayerNorm.

use super::module::Module;
use super::repr::{boolean, float, tuple};
use super::slot::{Buffer, Parameter};
use crate::error::{Error, Result};
use crate::graph::{Graph, Var};
use crate::tensor::Tensor;

/// Batch normalization over `N` dimensions: [`BatchNorm1d`], [`BatchNorm2d`], [`BatchNorm3d`].
///
/// `y = (x - mean) / sqrt(var + eps) * weight + bias` per channel, with the running mean and variance of the training;
/// without them (`track_running_stats(false)`) with those of the batch, as in PyTorch.
pub struct BatchNorm<const N: usize> {
    /// `[num_features]`.
    pub weight: Option<Parameter>,
    /// `[num_features]`.
    pub bias: Option<Parameter>,
    /// `[num_features]`.
    pub running_mean: Option<Buffer>,
    /// `[num_features]`.
    pub running_var: Option<Buffer>,
    /// A scalar that PyTorch saves; nothing is computed with it.
    pub num_batches_tracked: Option<Buffer>,
    num_features: usize,
    eps: f64,
    momentum: Option<f64>,
}

/// Over `[N, C]` or `[N, C, L]`.
///
/// [`nn.BatchNorm1d`](https://docs.pytorch.org/docs/stable/generated/torch.nn.BatchNorm1d.html).
pub type BatchNorm1d = BatchNorm<1>;
/// Over `[N, C, H, W]`.
///
/// [`nn.BatchNorm2d`](https://docs.pytorch.org/docs/stable/generated/torch.nn.BatchNorm2d.html).
pub type BatchNorm2d = BatchNorm<2>;
/// Over `[N, C, D, H, W]`.
///
/// [`nn.BatchNorm3d`](https://docs.pytorch.org/docs/stable/generated/torch.nn.BatchNorm3d.html).
pub type BatchNorm3d = BatchNorm<3>;

crate::module!(BatchNorm<1> as "BatchNorm1d" { weight, bias, running_mean, running_var, num_batches_tracked });
crate::module!(BatchNorm<2> as "BatchNorm2d" { weight, bias, running_mean, running_var, num_batches_tracked });
crate::module!(BatchNorm<3> as "BatchNorm3d" { weight, bias, running_mean, running_var, num_batches_tracked });

impl<const N: usize> BatchNorm<N> {
    /// `nn.BatchNorm2d(num_features)`.
    pub fn new(num_features: usize) -> Self {
        let norm = Self {
            weight: None,
            bias: None,
            running_mean: None,
            running_var: None,
            num_batches_tracked: None,
            num_features,
            eps: 1e-5,
            momentum: Some(0.1),
        };
        norm.affine(true).track_running_stats(true)
    }

    /// What is added to the variance: 1e-5 by default.
    #[must_use]
    pub fn eps(mut self, eps: f64) -> Self {
        self.eps = eps;
        self
    }

    /// The weight of a new batch in the running statistics, 0.1 by default. It matters in training only, and is kept
    /// to be printed.
    #[must_use]
    pub fn momentum(mut self, momentum: impl Into<Option<f64>>) -> Self {
        self.momentum = momentum.into();
        self
    }

    /// Whether there are a weight and a bias: by default.
    #[must_use]
    pub fn affine(mut self, affine: bool) -> Self {
        let parameter = || Parameter::new([self.num_features]);
        (self.weight, self.bias) = (affine.then(parameter), affine.then(parameter));
        self
    }

    /// Whether the weight comes with a bias: by default.
    #[must_use]
    pub fn bias(mut self, bias: bool) -> Self {
        self.bias = (bias && self.weight.is_some()).then(|| Parameter::new([self.num_features]));
        self
    }

    /// Whether the statistics are those of the training (by default) or those of the batch.
    #[must_use]
    pub fn track_running_stats(mut self, track: bool) -> Self {
        let buffer = || Buffer::new([self.num_features]);
        (self.running_mean, self.running_var) = (track.then(buffer), track.then(buffer));
        self.num_batches_tracked = track.then(|| Buffer::since([], 2));
        self
    }

    pub(super) fn epsilon(&self) -> f64 {
        self.eps
    }

    fn run(&self, graph: &mut Graph, x: Var, ranks: &[usize]) -> Result<Var> {
        let rank = graph.shape(x).len();
        if !ranks.contains(&rank) {
            let expected: Vec<_> = ranks.iter().map(usize::to_string).collect();
            return Err(Error::shape(format!(
                "batch_norm{N}d: expected an input of {} dimensions, found {}",
                expected.join(" or "),
                graph.shape(x)
            )));
        }
        let running = match (&self.running_mean, &self.running_var) {
            (Some(mean), Some(var)) => Some((mean.var(graph)?, var.var(graph)?)),
            _ => None,
        };
        let affine = match (&self.weight, &self.bias) {
            (Some(weight), Some(bias)) => Some((weight.var(graph)?, bias.var(graph)?)),
            (Some(weight), None) => {
                let zeros = Tensor::new([self.num_features], vec![0f32; self.num_features])?;
                Some((weight.var(graph)?, graph.constant(zeros)?))
            }
            _ => None,
        };
        graph.batch_norm(x, running, affine, self.eps as f32)
    }

    fn print(&self) -> String {
        format!(
            "{}, eps={}, momentum={}, affine={}, bias={}, track_running_stats={}",
            self.num_features,
            float(self.eps),
            self.momentum.map_or("None".into(), float),
            boolean(self.weight.is_some()),
            boolean(self.bias.is_some()),
            boolean(self.running_mean.is_some())
        )
    }
}

macro_rules! batch_norm {
    ($($n:literal: $ranks:expr;)*) => { $(
        impl Module for BatchNorm<$n> {
            fn forward(&self, graph: &mut Graph, x: Var) -> Result<Var> {
                self.run(graph, x, &$ranks)
            }

            fn extra_repr(&self) -> String {
                self.print()
            }
        }
    )* };
}

batch_norm! {
    1: [2, 3];
    2: [4];
    3: [5];
}

/// `y = (x - mean) / sqrt(var + eps) * weight + bias` over the last dimensions, those of `normalized_shape`.
///
/// [`nn.LayerNorm`](https://docs.pytorch.org/docs/stable/generated/torch.nn.LayerNorm.html).
pub struct LayerNorm {
    /// `normalized_shape`.
    pub weight: Option<Parameter>,
    /// `normalized_shape`.
    pub bias: Option<Parameter>,
    normalized_shape: Vec<usize>,
    eps: f64,
}

crate::module!(LayerNorm { weight, bias });

impl LayerNorm {
    /// `nn.LayerNorm(normalized_shape)`: `[768]`, for example.
    pub fn new(normalized_shape: impl Into<Vec<usize>>) -> Self {
        let norm = Self { weight: None, bias: None, normalized_shape: normalized_shape.into(), eps: 1e-5 };
        norm.elementwise_affine(true)
    }

    /// What is added to the variance: 1e-5 by default.
    #[must_use]
    pub fn eps(mut self, eps: f64) -> Self {
        self.eps = eps;
        self
    }

    /// Whether there are a weight and a bias: by default.
    #[must_use]
    pub fn elementwise_affine(mut self, affine: bool) -> Self {
        let parameter = || Parameter::new(self.normalized_shape.clone());
        (self.weight, self.bias) = (affine.then(parameter), affine.then(parameter));
        self
    }

    /// Whether the weight comes with a bias: by default.
    #[must_use]
    pub fn bias(mut self, bias: bool) -> Self {
        self.bias = (bias && self.weight.is_some()).then(|| Parameter::new(self.normalized_shape.clone()));
        self
    }
}

impl Module for LayerNorm {
    fn forward(&self, graph: &mut Graph, x: Var) -> Result<Var> {
        let weight = self.weight.as_ref().map(|weight| weight.var(graph)).transpose()?;
        let bias = self.bias.as_ref().map(|bias| bias.var(graph)).transpose()?;
        graph.layer_norm(x, &self.normalized_shape, weight, bias, self.eps as f32)
    }

    fn extra_repr(&self) -> String {
        format!(
            "{}, eps={}, elementwise_affine={}, bias={}",
            tuple(&self.normalized_shape),
            float(self.eps),
            boolean(self.weight.is_some()),
            boolean(self.bias.is_some())
        )
    }
}
