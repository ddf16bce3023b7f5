//! SqueezeNet: "AlexNet-level accuracy with 50x fewer parameters", <https://arxiv.org/abs/1602.07360>.

use crate::error::Result;
use crate::graph::{Graph, Var};
use crate::nn::{AdaptiveAvgPool2d, Conv2d, Dropout, MaxPool2d, Module, ReLU, Sequential};

/// torchvision's `SqueezeNet`.
pub struct SqueezeNet {
    features: Sequential,
    classifier: Sequential,
}

crate::module!(SqueezeNet { features, classifier });

/// [`torchvision.models.squeezenet1_0`](https://docs.pytorch.org/vision/stable/models/generated/torchvision.models.squeezenet1_0.html).
pub fn squeezenet1_0() -> SqueezeNet {
    SqueezeNet::new(Conv2d::new(3, 96, 7).stride(2), 96, [2, 6])
}

/// [`torchvision.models.squeezenet1_1`](https://docs.pytorch.org/vision/stable/models/generated/torchvision.models.squeezenet1_1.html).
pub fn squeezenet1_1() -> SqueezeNet {
    SqueezeNet::new(Conv2d::new(3, 64, 3).stride(2), 64, [1, 3])
}

impl SqueezeNet {
    /// Eight fire modules after the stem's convolution and pool, with a pool after those of these positions.
    fn new(stem: Conv2d, channels: usize, pools: [usize; 2]) -> Self {
        let pool = || MaxPool2d::new(3).stride(2).ceil_mode(true);
        let mut features = Sequential::new().append(stem).append(ReLU::new().inplace(true)).append(pool());
        let mut c_in = channels;
        for (i, [squeeze, expand]) in
            [[16, 64], [16, 64], [32, 128], [32, 128], [48, 192], [48, 192], [64, 256], [64, 256]]
                .into_iter()
                .enumerate()
        {
            features = features.append(Fire::new(c_in, squeeze, expand));
            c_in = 2 * expand;
            if pools.contains(&i) {
                features = features.append(pool());
            }
        }
        Self { features, classifier: Sequential::new() }.num_classes(1000)
    }

    /// A new head for `n` classes.
    #[must_use]
    pub fn num_classes(mut self, n: usize) -> Self {
        self.classifier = Sequential::new()
            .append(Dropout::new(0.5))
            .append(Conv2d::new(512, n, 1))
            .append(ReLU::new().inplace(true))
            .append(AdaptiveAvgPool2d::new((1, 1)));
        self
    }
}

impl Module for SqueezeNet {
    fn forward(&self, g: &mut Graph, x: Var) -> Result<Var> {
        let x = self.features.forward(g, x)?;
        let x = self.classifier.forward(g, x)?;
        g.flatten(x, 1, -1)
    }
}

struct Fire {
    squeeze: Conv2d,
    squeeze_activation: ReLU,
    expand1x1: Conv2d,
    expand1x1_activation: ReLU,
    expand3x3: Conv2d,
    expand3x3_activation: ReLU,
}

crate::module!(Fire { squeeze, squeeze_activation, expand1x1, expand1x1_activation, expand3x3, expand3x3_activation });

impl Fire {
    fn new(c_in: usize, squeeze: usize, expand: usize) -> Self {
        let relu = || ReLU::new().inplace(true);
        Self {
            squeeze: Conv2d::new(c_in, squeeze, 1),
            squeeze_activation: relu(),
            expand1x1: Conv2d::new(squeeze, expand, 1),
            expand1x1_activation: relu(),
            expand3x3: Conv2d::new(squeeze, expand, 3).padding(1),
            expand3x3_activation: relu(),
        }
    }
}

impl Module for Fire {
    fn forward(&self, g: &mut Graph, x: Var) -> Result<Var> {
        let x = self.squeeze.forward(g, x)?;
        let x = self.squeeze_activation.forward(g, x)?;
        let a = self.expand1x1.forward(g, x)?;
        let a = self.expand1x1_activation.forward(g, a)?;
        let b = self.expand3x3.forward(g, x)?;
        let b = self.expand3x3_activation.forward(g, b)?;
        g.cat(&[a, b], 1)
    }
}
