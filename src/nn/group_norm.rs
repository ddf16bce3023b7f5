//! GroupNorm, InstanceNorm1d, InstanceNorm2d, InstanceNorm3d, RMSNorm, LocalResponseNorm.

use super::module::{Fields, FieldsMut, Module, Structure};
use super::norm::BatchNorm;
use super::repr::{boolean, float, tuple};
use super::slot::Parameter;
use crate::error::{Error, Result};
use crate::graph::{AvgPoolOptions, Graph, PadMode, Var};

/// `y = (x - mean) / sqrt(var + eps) * weight + bias` with the mean and the variance of each group of channels of
/// `[N, C, *]`.
///
/// [`nn.GroupNorm`](https://docs.pytorch.org/docs/stable/generated/torch.nn.GroupNorm.html).
pub struct GroupNorm {
    /// `[num_channels]`.
    pub weight: Option<Parameter>,
    /// `[num_channels]`.
    pub bias: Option<Parameter>,
    num_groups: usize,
    num_channels: usize,
    eps: f64,
}

crate::module!(GroupNorm { weight, bias });

impl GroupNorm {
    /// `nn.GroupNorm(num_groups, num_channels)`. `forward` refuses a number of groups that does not divide that of the
    /// channels.
    pub fn new(num_groups: usize, num_channels: usize) -> Self {
        Self { weight: None, bias: None, num_groups, num_channels, eps: 1e-5 }.affine(true)
    }

    /// What is added to the variance: 1e-5 by default.
    #[must_use]
    pub fn eps(mut self, eps: f64) -> Self {
        self.eps = eps;
        self
    }

    /// Whether there are a weight and a bias: by default.
    #[must_use]
    pub fn affine(mut self, affine: bool) -> Self {
        let parameter = || Parameter::new([self.num_channels]);
        (self.weight, self.bias) = (affine.then(parameter), affine.then(parameter));
        self
    }

    /// Whether the weight comes with a bias: by default.
    #[must_use]
    pub fn bias(mut self, bias: bool) -> Self {
        self.bias = (bias && self.weight.is_some()).then(|| Parameter::new([self.num_channels]));
        self
    }
}

impl Module for GroupNorm {
    fn forward(&self, graph: &mut Graph, x: Var) -> Result<Var> {
        let shape = graph.shape(x).clone();
        let (groups, channels) = (self.num_groups, self.num_channels);
        if shape.len() < 2 || shape[1] != channels || groups == 0 || !channels.is_multiple_of(groups) {
            let message = format!("group_norm: {shape} does not fit {groups} groups of {channels} channels");
            return Err(Error::shape(message).help("expected [N, C, ...]"));
        }
        let y = normalize(graph, x, groups, self.eps)?;
        scale(graph, y, self.weight.as_ref(), self.bias.as_ref())
    }

    fn extra_repr(&self) -> String {
        format!(
            "{}, {}, eps={}, affine={}, bias={}",
            self.num_groups,
            self.num_channels,
            float(self.eps),
            boolean(self.weight.is_some()),
            boolean(self.bias.is_some())
        )
    }
}

/// `(x - mean) / sqrt(var + eps)` over the channels and positions of each group of `x [N, C, *]`.
fn normalize(graph: &mut Graph, x: Var, groups: usize, eps: f64) -> Result<Var> {
    let shape = graph.shape(x).clone();
    let len = shape[1..].iter().product::<usize>() / groups;
    let y = graph.reshape(x, &[shape[0] as isize, groups as isize, len as isize])?;
    let y = graph.layer_norm(y, &[len], None, None, eps as f32)?;
    let sizes: Vec<isize> = shape.iter().map(|&size| size as isize).collect();
    graph.reshape(y, &sizes)
}

/// `x * weight + bias` per channel (dimension 1).
fn scale(graph: &mut Graph, x: Var, weight: Option<&Parameter>, bias: Option<&Parameter>) -> Result<Var> {
    let mut sizes = vec![1isize; graph.shape(x).len() - 1];
    sizes[0] = -1;
    let mut y = x;
    if let Some(weight) = weight {
        let weight = weight.var(graph)?;
        let weight = graph.reshape(weight, &sizes)?;
        y = graph.mul(y, weight)?;
    }
    if let Some(bias) = bias {
        let bias = bias.var(graph)?;
        let bias = graph.reshape(bias, &sizes)?;
        y = graph.add(y, bias)?;
    }
    Ok(y)
}

/// Normalization of each channel of each instance, over `N` dimensions: [`InstanceNorm1d`], [`InstanceNorm2d`],
/// [`InstanceNorm3d`].
///
/// With `track_running_stats(true)` by the statistics of the training, as PyTorch's in eval mode.
pub struct InstanceNorm<const N: usize>(BatchNorm<N>);

/// Over `[N, C, L]` or `[C, L]`.
///
/// [`nn.InstanceNorm1d`](https://docs.pytorch.org/docs/stable/generated/torch.nn.InstanceNorm1d.html).
pub type InstanceNorm1d = InstanceNorm<1>;
/// Over `[N, C, H, W]` or `[C, H, W]`.
///
/// [`nn.InstanceNorm2d`](https://docs.pytorch.org/docs/stable/generated/torch.nn.InstanceNorm2d.html).
pub type InstanceNorm2d = InstanceNorm<2>;
/// Over `[N, C, D, H, W]` or `[C, D, H, W]`.
///
/// [`nn.InstanceNorm3d`](https://docs.pytorch.org/docs/stable/generated/torch.nn.InstanceNorm3d.html).
pub type InstanceNorm3d = InstanceNorm<3>;

impl<const N: usize> InstanceNorm<N> {
    /// `nn.InstanceNorm2d(num_features)`, without a weight and without running statistics.
    pub fn new(num_features: usize) -> Self {
        Self(BatchNorm::new(num_features).affine(false).track_running_stats(false))
    }

    /// What is added to the variance: 1e-5 by default.
    #[must_use]
    pub fn eps(self, eps: f64) -> Self {
        Self(self.0.eps(eps))
    }

    /// The weight of a new batch in the running statistics, 0.1 by default, kept to be printed.
    #[must_use]
    pub fn momentum(self, momentum: impl Into<Option<f64>>) -> Self {
        Self(self.0.momentum(momentum))
    }

    /// Whether there are a weight and a bias: not by default.
    #[must_use]
    pub fn affine(self, affine: bool) -> Self {
        Self(self.0.affine(affine))
    }

    /// Whether the weight comes with a bias: by default.
    #[must_use]
    pub fn bias(self, bias: bool) -> Self {
        Self(self.0.bias(bias))
    }

    /// Whether the statistics are those of the training: not by default.
    #[must_use]
    pub fn track_running_stats(self, track: bool) -> Self {
        Self(self.0.track_running_stats(track))
    }
}

macro_rules! instance_norm {
    ($($n:literal $class:literal)*) => { $(
        impl Structure for InstanceNorm<$n> {
            fn class_name(&self) -> &str {
                $class
            }

            fn fields(&self) -> Fields<'_> {
                self.0.fields()
            }

            fn fields_mut(&mut self) -> FieldsMut<'_> {
                self.0.fields_mut()
            }

            crate::module!(@object);
        }

        crate::module!(@display InstanceNorm<$n>);

        impl Module for InstanceNorm<$n> {
            fn forward(&self, graph: &mut Graph, x: Var) -> Result<Var> {
                let rank = graph.shape(x).len();
                if rank == $n + 1 {
                    let y = graph.unsqueeze(x, 0)?;
                    let y = self.forward(graph, y)?;
                    return graph.squeeze(y, 0);
                }
                if rank != $n + 2 {
                    let message = format!(
                        "instance_norm{}d: expected an input of {} or {} dimensions, found {}",
                        $n, $n + 1, $n + 2, graph.shape(x)
                    );
                    return Err(Error::shape(message));
                }
                if self.0.running_mean.is_some() {
                    return self.0.forward(graph, x);
                }
                let channels = graph.shape(x)[1];
                if graph.shape(x)[2..].iter().product::<usize>() == 1 {
                    let message = format!("instance_norm{}d: {} has one element a channel", $n, graph.shape(x));
                    return Err(Error::shape(message));
                }
                let y = normalize(graph, x, channels, self.0.epsilon())?;
                scale(graph, y, self.0.weight.as_ref(), self.0.bias.as_ref())
            }

            fn extra_repr(&self) -> String {
                self.0.extra_repr()
            }
        }
    )* };
}

instance_norm!(1 "InstanceNorm1d" 2 "InstanceNorm2d" 3 "InstanceNorm3d");

/// `y = x / sqrt(mean(x^2) + eps) * weight` over the last dimensions, those of `normalized_shape`.
///
/// [`nn.RMSNorm`](https://docs.pytorch.org/docs/stable/generated/torch.nn.RMSNorm.html).
pub struct RMSNorm {
    /// `normalized_shape`.
    pub weight: Option<Parameter>,
    normalized_shape: Vec<usize>,
    eps: Option<f64>,
}

crate::module!(RMSNorm { weight });

impl RMSNorm {
    /// `nn.RMSNorm(normalized_shape)`: `[768]`, for example.
    pub fn new(normalized_shape: impl Into<Vec<usize>>) -> Self {
        Self { weight: None, normalized_shape: normalized_shape.into(), eps: None }.elementwise_affine(true)
    }

    /// What is added to the mean: by default the smallest number that makes a difference to 1.
    #[must_use]
    pub fn eps(mut self, eps: impl Into<Option<f64>>) -> Self {
        self.eps = eps.into();
        self
    }

    /// Whether there is a weight: by default.
    #[must_use]
    pub fn elementwise_affine(mut self, affine: bool) -> Self {
        self.weight = affine.then(|| Parameter::new(self.normalized_shape.clone()));
        self
    }
}

impl Module for RMSNorm {
    fn forward(&self, graph: &mut Graph, x: Var) -> Result<Var> {
        if self.normalized_shape.is_empty() || !graph.shape(x).ends_with(&self.normalized_shape) {
            return Err(Error::shape(format!(
                "rms_norm: {} does not end with the normalized shape {}",
                graph.shape(x),
                tuple(&self.normalized_shape)
            )));
        }
        let dims: Vec<isize> = (1..=self.normalized_shape.len() as isize).map(|d| -d).collect();
        let square = graph.mul(x, x)?;
        let mean = graph.mean(square, &dims, true)?;
        let mean = graph.add_scalar(mean, self.eps.map_or(f32::EPSILON, |eps| eps as f32))?;
        let factor = graph.rsqrt(mean)?;
        let y = graph.mul(x, factor)?;
        match &self.weight {
            Some(weight) => {
                let weight = weight.var(graph)?;
                graph.mul(y, weight)
            }
            None => Ok(y),
        }
    }

    fn extra_repr(&self) -> String {
        format!(
            "{}, eps={}, elementwise_affine={}",
            tuple(&self.normalized_shape),
            self.eps.map_or("None".into(), float),
            boolean(self.weight.is_some())
        )
    }
}

/// `y = x / (k + alpha * mean(x^2))^beta`, with the mean over `size` neighbouring channels of `[N, C, *]`.
///
/// [`nn.LocalResponseNorm`](https://docs.pytorch.org/docs/stable/generated/torch.nn.LocalResponseNorm.html).
pub struct LocalResponseNorm {
    size: usize,
    alpha: f64,
    beta: f64,
    k: f64,
}

crate::module!(LocalResponseNorm {});

impl LocalResponseNorm {
    /// `nn.LocalResponseNorm(size)`, with `alpha` 1e-4, `beta` 0.75 and `k` 1.
    pub fn new(size: usize) -> Self {
        Self { size, alpha: 1e-4, beta: 0.75, k: 1.0 }
    }

    /// What the mean is multiplied by.
    #[must_use]
    pub fn alpha(mut self, alpha: f64) -> Self {
        self.alpha = alpha;
        self
    }

    /// The exponent.
    #[must_use]
    pub fn beta(mut self, beta: f64) -> Self {
        self.beta = beta;
        self
    }

    /// What is added to the mean.
    #[must_use]
    pub fn k(mut self, k: f64) -> Self {
        self.k = k;
        self
    }
}

impl Module for LocalResponseNorm {
    fn forward(&self, graph: &mut Graph, x: Var) -> Result<Var> {
        let shape = graph.shape(x).clone();
        if shape.len() < 3 || self.size == 0 {
            return Err(Error::shape(format!("local_response_norm: expected [N, C, ...], found {shape}")));
        }
        let y = graph.mul(x, x)?;
        let y = graph
            .reshape(y, &[shape[0] as isize, 1, shape[1] as isize, shape[2..].iter().product::<usize>() as isize])?;
        let around = (self.size / 2, (self.size - 1) / 2);
        let y = graph.pad(y, &[(0, 0), (0, 0), around, (0, 0)], PadMode::Constant(0.0))?;
        let mut window = AvgPoolOptions::new([self.size, 1]);
        window.stride = [1, 1];
        let y = graph.avg_pool2d(y, &window)?;
        let sizes: Vec<isize> = shape.iter().map(|&size| size as isize).collect();
        let y = graph.reshape(y, &sizes)?;
        let y = graph.mul_scalar(y, self.alpha as f32)?;
        let y = graph.add_scalar(y, self.k as f32)?;
        let beta = graph.scalar(self.beta as f32);
        let y = graph.pow(y, beta)?;
        graph.div(x, y)
    }

    fn extra_repr(&self) -> String {
        format!("{}, alpha={}, beta={}, k={}", self.size, float(self.alpha), float(self.beta), float(self.k))
    }
}
