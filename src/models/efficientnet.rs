//! EfficientNet: "Rethinking Model Scaling for Convolutional Neural Networks", <https://arxiv.org/abs/1905.11946>.

use super::blocks::{Activation, SqueezeExcitation, StochasticDepth, conv, conv_norm};
use crate::error::Result;
use crate::graph::{Graph, Var};
use crate::nn::{AdaptiveAvgPool2d, BatchNorm2d, Dropout, Linear, Module, Sequential, SiLU, Sigmoid};

/// torchvision's `EfficientNet`.
pub struct EfficientNet {
    features: Sequential,
    avgpool: AdaptiveAvgPool2d,
    classifier: Sequential,
}

crate::module!(EfficientNet { features, avgpool, classifier });

const SILU: Activation = || Box::new(SiLU::new().inplace(true));
const SIGMOID: Activation = || Box::new(Sigmoid::new());

/// [`torchvision.models.efficientnet_b0`](https://docs.pytorch.org/vision/stable/models/generated/torchvision.models.efficientnet_b0.html).
pub fn efficientnet_b0() -> EfficientNet {
    // Expansion, kernel, stride of the first block, channels, number of blocks.
    const STAGES: [[usize; 5]; 7] = [
        [1, 3, 1, 16, 1],
        [6, 3, 2, 24, 2],
        [6, 5, 2, 40, 2],
        [6, 3, 2, 80, 3],
        [6, 5, 1, 112, 3],
        [6, 5, 2, 192, 4],
        [6, 3, 1, 320, 1],
    ];
    let total: usize = STAGES.iter().map(|stage| stage[4]).sum();
    let (mut c_in, mut index) = (32, 0);
    let mut features = Sequential::new().append(conv_norm(conv(3, c_in, 3, 2, 1), BatchNorm2d::new(c_in), Some(SILU)));
    for [expansion, kernel, stride, c_out, blocks] in STAGES {
        let mut stage = Sequential::new();
        for block in 0..blocks {
            let stride = if block == 0 { stride } else { 1 };
            let drop = 0.2 * index as f64 / total as f64;
            stage = stage.append(MBConv::new(c_in, c_out, expansion, kernel, stride, drop));
            c_in = c_out;
            index += 1;
        }
        features = features.append(stage);
    }
    let features = features.append(conv_norm(conv(c_in, 1280, 1, 1, 1), BatchNorm2d::new(1280), Some(SILU)));
    let avgpool = AdaptiveAvgPool2d::new(1);
    EfficientNet { features, avgpool, classifier: Sequential::new() }.num_classes(1000)
}

impl EfficientNet {
    /// A new head for `n` classes.
    #[must_use]
    pub fn num_classes(mut self, n: usize) -> Self {
        self.classifier = Sequential::new().append(Dropout::new(0.2).inplace(true)).append(Linear::new(1280, n));
        self
    }
}

impl Module for EfficientNet {
    fn forward(&self, g: &mut Graph, x: Var) -> Result<Var> {
        let x = self.features.forward(g, x)?;
        let x = self.avgpool.forward(g, x)?;
        let x = g.flatten(x, 1, -1)?;
        self.classifier.forward(g, x)
    }
}

struct MBConv {
    block: Sequential,
    stochastic_depth: StochasticDepth,
    has_residual: bool,
}

crate::module!(MBConv { block, stochastic_depth });

impl MBConv {
    fn new(c_in: usize, c_out: usize, expansion: usize, kernel: usize, stride: usize, drop: f64) -> Self {
        let expanded = c_in * expansion;
        let mut block = Sequential::new();
        if expansion != 1 {
            block = block.append(conv_norm(conv(c_in, expanded, 1, 1, 1), BatchNorm2d::new(expanded), Some(SILU)));
        }
        let depthwise = conv(expanded, expanded, kernel, stride, expanded);
        let block = block
            .append(conv_norm(depthwise, BatchNorm2d::new(expanded), Some(SILU)))
            .append(SqueezeExcitation::new(expanded, (c_in / 4).max(1), SILU, SIGMOID))
            .append(conv_norm(conv(expanded, c_out, 1, 1, 1), BatchNorm2d::new(c_out), None));
        Self { block, stochastic_depth: StochasticDepth::new(drop), has_residual: stride == 1 && c_in == c_out }
    }
}

impl Module for MBConv {
    fn forward(&self, g: &mut Graph, x: Var) -> Result<Var> {
        let y = self.block.forward(g, x)?;
        if !self.has_residual {
            return Ok(y);
        }
        let y = self.stochastic_depth.forward(g, y)?;
        g.add(y, x)
    }
}
