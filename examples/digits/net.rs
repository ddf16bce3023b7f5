//! The network, with the layers and the names that it has in `tools/digits.py`.

use sconce::nn::{self, Module};
use sconce::{Graph, Result, Var};

/// Reads images `[n, 1, 8, 8]` with pixels in 0..=1 and gives the probabilities of the ten digits, `[n, 10]`.
pub(crate) struct Net {
    features: nn::Sequential,
    classifier: nn::Linear,
}
sconce::module!(Net { features, classifier });

impl Net {
    /// The network without its weights.
    pub(crate) fn new() -> Self {
        let features = nn::Sequential::new()
            .append(nn::Conv2d::new(1, 16, 3).padding(1).bias(false))
            .append(nn::BatchNorm2d::new(16))
            .append(nn::ReLU::new())
            .append(nn::Conv2d::new(16, 32, 3).padding(1).bias(false))
            .append(nn::BatchNorm2d::new(32))
            .append(nn::ReLU::new())
            .append(nn::MaxPool2d::new(2))
            .append(nn::Conv2d::new(32, 64, 3).padding(1).bias(false))
            .append(nn::BatchNorm2d::new(64))
            .append(nn::ReLU::new())
            .append(nn::MaxPool2d::new(2));
        Self { features, classifier: nn::Linear::new(64 * 2 * 2, 10) }
    }
}

impl Module for Net {
    fn forward(&self, g: &mut Graph, x: Var) -> Result<Var> {
        let x = self.features.forward(g, x)?;
        let x = g.flatten(x, 1, -1)?;
        let x = self.classifier.forward(g, x)?;
        g.softmax(x, 1)
    }
}
