//! AlexNet: "One weird trick for parallelizing convolutional neural networks", <https://arxiv.org/abs/1404.5997>.

use crate::error::Result;
use crate::graph::{Graph, Var};
use crate::nn::{AdaptiveAvgPool2d, Conv2d, Dropout, Linear, MaxPool2d, Module, ReLU, Sequential};

/// torchvision's `AlexNet`.
pub struct AlexNet {
    features: Sequential,
    avgpool: AdaptiveAvgPool2d,
    classifier: Sequential,
}

crate::module!(AlexNet { features, avgpool, classifier });

/// [`torchvision.models.alexnet`](https://docs.pytorch.org/vision/stable/models/generated/torchvision.models.alexnet.html).
pub fn alexnet() -> AlexNet {
    let relu = || ReLU::new().inplace(true);
    let pool = || MaxPool2d::new(3).stride(2);
    let features = Sequential::new()
        .append(Conv2d::new(3, 64, 11).stride(4).padding(2))
        .append(relu())
        .append(pool())
        .append(Conv2d::new(64, 192, 5).padding(2))
        .append(relu())
        .append(pool())
        .append(Conv2d::new(192, 384, 3).padding(1))
        .append(relu())
        .append(Conv2d::new(384, 256, 3).padding(1))
        .append(relu())
        .append(Conv2d::new(256, 256, 3).padding(1))
        .append(relu())
        .append(pool());
    AlexNet { features, avgpool: AdaptiveAvgPool2d::new((6, 6)), classifier: Sequential::new() }.num_classes(1000)
}

impl AlexNet {
    /// A new head for `n` classes.
    #[must_use]
    pub fn num_classes(mut self, n: usize) -> Self {
        self.classifier = Sequential::new()
            .append(Dropout::new(0.5))
            .append(Linear::new(256 * 6 * 6, 4096))
            .append(ReLU::new().inplace(true))
            .append(Dropout::new(0.5))
            .append(Linear::new(4096, 4096))
            .append(ReLU::new().inplace(true))
            .append(Linear::new(4096, n));
        self
    }
}

impl Module for AlexNet {
    fn forward(&self, g: &mut Graph, x: Var) -> Result<Var> {
        let x = self.features.forward(g, x)?;
        let x = self.avgpool.forward(g, x)?;
        let x = g.flatten(x, 1, -1)?;
        self.classifier.forward(g, x)
    }
}
