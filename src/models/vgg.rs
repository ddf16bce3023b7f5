//! VGG: "Very Deep Convolutional Networks for Large-Scale Image Recognition", <https://arxiv.org/abs/1409.1556>.

use crate::error::Result;
use crate::graph::{Graph, Var};
use crate::nn::{AdaptiveAvgPool2d, BatchNorm2d, Conv2d, Dropout, Linear, MaxPool2d, Module, ReLU, Sequential};

/// torchvision's `VGG`.
pub struct VGG {
    features: Sequential,
    avgpool: AdaptiveAvgPool2d,
    classifier: Sequential,
}

crate::module!(VGG { features, avgpool, classifier });

impl VGG {
    /// `convs[i]` convolutions in stage `i`, each with a norm if `batch_norm`.
    fn new(convs: [usize; 5], batch_norm: bool) -> Self {
        let relu = || ReLU::new().inplace(true);
        let mut features = Sequential::new();
        let mut c_in = 3;
        for (count, c_out) in convs.into_iter().zip([64, 128, 256, 512, 512]) {
            for _ in 0..count {
                features = features.append(Conv2d::new(c_in, c_out, 3).padding(1));
                if batch_norm {
                    features = features.append(BatchNorm2d::new(c_out));
                }
                features = features.append(relu());
                c_in = c_out;
            }
            features = features.append(MaxPool2d::new(2).stride(2));
        }
        Self { features, avgpool: AdaptiveAvgPool2d::new((7, 7)), classifier: Sequential::new() }.num_classes(1000)
    }

    /// A new head for `n` classes.
    #[must_use]
    pub fn num_classes(mut self, n: usize) -> Self {
        self.classifier = Sequential::new()
            .append(Linear::new(512 * 7 * 7, 4096))
            .append(ReLU::new().inplace(true))
            .append(Dropout::new(0.5))
            .append(Linear::new(4096, 4096))
            .append(ReLU::new().inplace(true))
            .append(Dropout::new(0.5))
            .append(Linear::new(4096, n));
        self
    }
}

impl Module for VGG {
    fn forward(&self, g: &mut Graph, x: Var) -> Result<Var> {
        let x = self.features.forward(g, x)?;
        let x = self.avgpool.forward(g, x)?;
        let x = g.flatten(x, 1, -1)?;
        self.classifier.forward(g, x)
    }
}

macro_rules! vggs {
    ($($name:ident: $convs:expr, $batch_norm:literal;)*) => { $(
        #[doc = concat!("[`torchvision.models.", stringify!($name), "`](https://docs.pytorch.org/vision/stable/models/generated/torchvision.models.", stringify!($name), ".html).")]
        pub fn $name() -> VGG {
            VGG::new($convs, $batch_norm)
        }
    )* };
}

vggs! {
    vgg11: [1, 1, 2, 2, 2], false;
    vgg11_bn: [1, 1, 2, 2, 2], true;
    vgg13: [2, 2, 2, 2, 2], false;
    vgg13_bn: [2, 2, 2, 2, 2], true;
    vgg16: [2, 2, 3, 3, 3], false;
    vgg16_bn: [2, 2, 3, 3, 3], true;
    vgg19: [2, 2, 4, 4, 4], false;
    vgg19_bn: [2, 2, 4, 4, 4], true;
}
