//! MobileNetV2: "Inverted Residuals and Linear Bottlenecks", <https://arxiv.org/abs/1801.04381>.

use super::blocks::{Activation, conv, conv_norm};
use crate::error::Result;
use crate::graph::{Graph, Var};
use crate::nn::{BatchNorm2d, Dropout, Linear, Module, ReLU6, Sequential};

/// torchvision's `MobileNetV2`.
pub struct MobileNetV2 {
    features: Sequential,
    classifier: Sequential,
}

crate::module!(MobileNetV2 { features, classifier });

const RELU6: Option<Activation> = Some(|| Box::new(ReLU6::new().inplace(true)));

/// [`torchvision.models.mobilenet_v2`](https://docs.pytorch.org/vision/stable/models/generated/torchvision.models.mobilenet_v2.html).
pub fn mobilenet_v2() -> MobileNetV2 {
    // The expansion, the channels, the number of blocks and the stride of the first.
    const STAGES: [[usize; 4]; 7] =
        [[1, 16, 1, 1], [6, 24, 2, 2], [6, 32, 3, 2], [6, 64, 4, 2], [6, 96, 3, 1], [6, 160, 3, 2], [6, 320, 1, 1]];
    let mut c_in = 32;
    let mut features = Sequential::new().append(conv_norm(conv(3, c_in, 3, 2, 1), BatchNorm2d::new(c_in), RELU6));
    for [expansion, c_out, blocks, stride] in STAGES {
        for block in 0..blocks {
            let stride = if block == 0 { stride } else { 1 };
            features = features.append(InvertedResidual::new(c_in, c_out, stride, expansion));
            c_in = c_out;
        }
    }
    let features = features.append(conv_norm(conv(c_in, 1280, 1, 1, 1), BatchNorm2d::new(1280), RELU6));
    MobileNetV2 { features, classifier: Sequential::new() }.num_classes(1000)
}

impl MobileNetV2 {
    /// A new head for `n` classes.
    #[must_use]
    pub fn num_classes(mut self, n: usize) -> Self {
        self.classifier = Sequential::new().append(Dropout::new(0.2)).append(Linear::new(1280, n));
        self
    }
}

impl Module for MobileNetV2 {
    fn forward(&self, g: &mut Graph, x: Var) -> Result<Var> {
        let x = self.features.forward(g, x)?;
        let x = g.adaptive_avg_pool2d(x, [Some(1), Some(1)])?;
        let x = g.flatten(x, 1, -1)?;
        self.classifier.forward(g, x)
    }
}

struct InvertedResidual {
    conv: Sequential,
    has_residual: bool,
}

crate::module!(InvertedResidual { conv });

impl InvertedResidual {
    fn new(c_in: usize, c_out: usize, stride: usize, expansion: usize) -> Self {
        let hidden = c_in * expansion;
        let mut layers = Sequential::new();
        if expansion != 1 {
            layers = layers.append(conv_norm(conv(c_in, hidden, 1, 1, 1), BatchNorm2d::new(hidden), RELU6));
        }
        let layers = layers
            .append(conv_norm(conv(hidden, hidden, 3, stride, hidden), BatchNorm2d::new(hidden), RELU6))
            .append(conv(hidden, c_out, 1, 1, 1))
            .append(BatchNorm2d::new(c_out));
        Self { conv: layers, has_residual: stride == 1 && c_in == c_out }
    }
}

impl Module for InvertedResidual {
    fn forward(&self, g: &mut Graph, x: Var) -> Result<Var> {
        let y = self.conv.forward(g, x)?;
        if self.has_residual { g.add(x, y) } else { Ok(y) }
    }
}
