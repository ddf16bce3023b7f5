//! What several of torchvision's models are built of: its `ops`.

use crate::error::Result;
use crate::graph::{Graph, Var};
use crate::nn::repr::float;
use crate::nn::{AdaptiveAvgPool2d, Conv2d, Fields, FieldsMut, LayerNorm, Module, Sequential, Structure};

/// Makes a layer, once for each place that it has.
pub(super) type Activation = fn() -> Box<dyn Module>;

/// A convolution without bias that keeps the image's size but for the stride.
pub(super) fn conv(c_in: usize, c_out: usize, kernel: usize, stride: usize, groups: usize) -> Conv2d {
    Conv2d::new(c_in, c_out, kernel).stride(stride).padding((kernel - 1) / 2).groups(groups).bias(false)
}

/// `Conv2dNormActivation`: a convolution, its norm and its activation.
pub(super) fn conv_norm(conv: Conv2d, norm: impl Module, activation: Option<Activation>) -> Sequential {
    let block = Sequential::named("Conv2dNormActivation").append(conv).append(norm);
    match activation {
        Some(activation) => block.append(activation()),
        None => block,
    }
}

/// The multiple of 8 that is nearest to `channels`, and not below 90 % of it.
pub(super) fn make_divisible(channels: usize) -> usize {
    let rounded = ((channels + 4) / 8 * 8).max(8);
    if rounded * 10 < channels * 9 { rounded + 8 } else { rounded }
}

/// Multiplies every channel by a number in 0 to 1 that two 1x1 convolutions compute from the channels' means.
pub(super) struct SqueezeExcitation {
    avgpool: AdaptiveAvgPool2d,
    fc1: Conv2d,
    fc2: Conv2d,
    activation: Box<dyn Module>,
    scale_activation: Box<dyn Module>,
}

crate::module!(SqueezeExcitation { avgpool, fc1, fc2, activation, scale_activation });

impl SqueezeExcitation {
    pub(super) fn new(channels: usize, squeeze: usize, activation: Activation, scale_activation: Activation) -> Self {
        Self {
            avgpool: AdaptiveAvgPool2d::new(1),
            fc1: Conv2d::new(channels, squeeze, 1),
            fc2: Conv2d::new(squeeze, channels, 1),
            activation: activation(),
            scale_activation: scale_activation(),
        }
    }
}

impl Module for SqueezeExcitation {
    fn forward(&self, g: &mut Graph, x: Var) -> Result<Var> {
        let scale = self.avgpool.forward(g, x)?;
        let scale = self.fc1.forward(g, scale)?;
        let scale = self.activation.forward(g, scale)?;
        let scale = self.fc2.forward(g, scale)?;
        let scale = self.scale_activation.forward(g, scale)?;
        g.mul(scale, x)
    }
}

/// Nothing in eval mode; in training it drops whole residual branches.
pub(super) struct StochasticDepth {
    p: f64,
}

crate::module!(StochasticDepth {});

impl StochasticDepth {
    pub(super) fn new(p: f64) -> Self {
        Self { p }
    }
}

impl Module for StochasticDepth {
    fn forward(&self, _: &mut Graph, x: Var) -> Result<Var> {
        Ok(x)
    }

    fn extra_repr(&self) -> String {
        format!("p={}, mode=row", float(self.p))
    }
}

/// Another order of the dimensions.
pub(super) struct Permute {
    dims: &'static [isize],
}

crate::module!(Permute {});

impl Permute {
    pub(super) fn new(dims: &'static [isize]) -> Self {
        Self { dims }
    }
}

impl Module for Permute {
    fn forward(&self, g: &mut Graph, x: Var) -> Result<Var> {
        g.permute(x, self.dims)
    }
}

/// LayerNorm over the channels of images `[N, C, H, W]`.
pub(super) struct LayerNorm2d(LayerNorm);

impl LayerNorm2d {
    pub(super) fn new(channels: usize) -> Self {
        Self(LayerNorm::new([channels]).eps(1e-6))
    }
}

impl Structure for LayerNorm2d {
    fn class_name(&self) -> &str {
        "LayerNorm2d"
    }

    fn fields(&self) -> Fields<'_> {
        self.0.fields()
    }

    fn fields_mut(&mut self) -> FieldsMut<'_> {
        self.0.fields_mut()
    }

    crate::module!(@object);
}

impl Module for LayerNorm2d {
    fn forward(&self, g: &mut Graph, x: Var) -> Result<Var> {
        let x = g.permute(x, &[0, 2, 3, 1])?;
        let x = self.0.forward(g, x)?;
        g.permute(x, &[0, 3, 1, 2])
    }

    fn extra_repr(&self) -> String {
        self.0.extra_repr()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_round_as_in_torchvision() {
        let rounded = [1, 4, 11, 12, 18, 24, 60, 120, 168, 1001].map(make_divisible);
        assert_eq!(rounded, [8, 8, 16, 16, 24, 24, 64, 120, 168, 1000]);
    }
}
