//! MobileNetV3: "Searching for MobileNetV3", <https://arxiv.org/abs/1905.02244>.

use super::blocks::{Activation, SqueezeExcitation, conv, conv_norm, make_divisible};
use crate::error::Result;
use crate::graph::{Graph, Var};
use crate::nn::{AdaptiveAvgPool2d, BatchNorm2d, Dropout, Hardsigmoid, Hardswish, Linear, Module, ReLU, Sequential};

/// torchvision's `MobileNetV3`.
pub struct MobileNetV3 {
    features: Sequential,
    avgpool: AdaptiveAvgPool2d,
    classifier: Sequential,
    channels: [usize; 2],
}

crate::module!(MobileNetV3 { features, avgpool, classifier });

const RELU: Activation = || Box::new(ReLU::new().inplace(true));
const SQUEEZE_RELU: Activation = || Box::new(ReLU::new());
const HARDSWISH: Activation = || Box::new(Hardswish::new());
const HARDSIGMOID: Activation = || Box::new(Hardsigmoid::new());

/// A block: kernel, expanded channels, output channels, squeeze-and-excitation, activation, stride.
type Block = (usize, usize, usize, bool, Activation, usize);

/// [`torchvision.models.mobilenet_v3_large`](https://docs.pytorch.org/vision/stable/models/generated/torchvision.models.mobilenet_v3_large.html).
pub fn mobilenet_v3_large() -> MobileNetV3 {
    const BLOCKS: &[Block] = &[
        (3, 16, 16, false, RELU, 1),
        (3, 64, 24, false, RELU, 2),
        (3, 72, 24, false, RELU, 1),
        (5, 72, 40, true, RELU, 2),
        (5, 120, 40, true, RELU, 1),
        (5, 120, 40, true, RELU, 1),
        (3, 240, 80, false, HARDSWISH, 2),
        (3, 200, 80, false, HARDSWISH, 1),
        (3, 184, 80, false, HARDSWISH, 1),
        (3, 184, 80, false, HARDSWISH, 1),
        (3, 480, 112, true, HARDSWISH, 1),
        (3, 672, 112, true, HARDSWISH, 1),
        (5, 672, 160, true, HARDSWISH, 2),
        (5, 960, 160, true, HARDSWISH, 1),
        (5, 960, 160, true, HARDSWISH, 1),
    ];
    MobileNetV3::new(BLOCKS, 1280)
}

/// [`torchvision.models.mobilenet_v3_small`](https://docs.pytorch.org/vision/stable/models/generated/torchvision.models.mobilenet_v3_small.html).
pub fn mobilenet_v3_small() -> MobileNetV3 {
    const BLOCKS: &[Block] = &[
        (3, 16, 16, true, RELU, 2),
        (3, 72, 24, false, RELU, 2),
        (3, 88, 24, false, RELU, 1),
        (5, 96, 40, true, HARDSWISH, 2),
        (5, 240, 40, true, HARDSWISH, 1),
        (5, 240, 40, true, HARDSWISH, 1),
        (5, 120, 48, true, HARDSWISH, 1),
        (5, 144, 48, true, HARDSWISH, 1),
        (5, 288, 96, true, HARDSWISH, 2),
        (5, 576, 96, true, HARDSWISH, 1),
        (5, 576, 96, true, HARDSWISH, 1),
    ];
    MobileNetV3::new(BLOCKS, 1024)
}

impl MobileNetV3 {
    fn new(blocks: &[Block], last_channel: usize) -> Self {
        let mut c_in = 16;
        let mut features = Sequential::new().append(conv_norm(conv(3, c_in, 3, 2, 1), norm(c_in), Some(HARDSWISH)));
        for &block in blocks {
            features = features.append(InvertedResidual::new(c_in, block));
            c_in = block.2;
        }
        let c_out = 6 * c_in;
        let features = features.append(conv_norm(conv(c_in, c_out, 1, 1, 1), norm(c_out), Some(HARDSWISH)));
        let (avgpool, classifier) = (AdaptiveAvgPool2d::new(1), Sequential::new());
        Self { features, avgpool, classifier, channels: [c_out, last_channel] }.num_classes(1000)
    }

    /// A new head for `n` classes.
    #[must_use]
    pub fn num_classes(mut self, n: usize) -> Self {
        let [c_in, hidden] = self.channels;
        self.classifier = Sequential::new()
            .append(Linear::new(c_in, hidden))
            .append(Hardswish::new())
            .append(Dropout::new(0.2).inplace(true))
            .append(Linear::new(hidden, n));
        self
    }
}

impl Module for MobileNetV3 {
    fn forward(&self, g: &mut Graph, x: Var) -> Result<Var> {
        let x = self.features.forward(g, x)?;
        let x = self.avgpool.forward(g, x)?;
        let x = g.flatten(x, 1, -1)?;
        self.classifier.forward(g, x)
    }
}

fn norm(channels: usize) -> BatchNorm2d {
    BatchNorm2d::new(channels).eps(0.001).momentum(0.01)
}

struct InvertedResidual {
    block: Sequential,
    has_residual: bool,
}

crate::module!(InvertedResidual { block });

impl InvertedResidual {
    fn new(c_in: usize, (kernel, expanded, c_out, squeeze, activation, stride): Block) -> Self {
        let mut block = Sequential::new();
        if expanded != c_in {
            block = block.append(conv_norm(conv(c_in, expanded, 1, 1, 1), norm(expanded), Some(activation)));
        }
        let depthwise = conv(expanded, expanded, kernel, stride, expanded);
        block = block.append(conv_norm(depthwise, norm(expanded), Some(activation)));
        if squeeze {
            block =
                block.append(SqueezeExcitation::new(expanded, make_divisible(expanded / 4), SQUEEZE_RELU, HARDSIGMOID));
        }
        let block = block.append(conv_norm(conv(expanded, c_out, 1, 1, 1), norm(c_out), None));
        Self { block, has_residual: stride == 1 && c_in == c_out }
    }
}

impl Module for InvertedResidual {
    fn forward(&self, g: &mut Graph, x: Var) -> Result<Var> {
        let y = self.block.forward(g, x)?;
        if self.has_residual { g.add(y, x) } else { Ok(y) }
    }
}
