//! DenseNet: "Densely Connected Convolutional Networks", <https://arxiv.org/abs/1608.06993>.

use super::blocks::conv;
use crate::error::Result;
use crate::graph::{Graph, Var};
use crate::nn::{
    AvgPool2d, BatchNorm2d, Conv2d, Fields, FieldsMut, Linear, MaxPool2d, Module, ModuleDict, ReLU, Sequential,
    Structure,
};

/// torchvision's `DenseNet`.
pub struct DenseNet {
    features: Sequential,
    /// The head.
    pub classifier: Linear,
}

crate::module!(DenseNet { features, classifier });

/// The channels that every layer adds.
const GROWTH: usize = 32;

/// [`torchvision.models.densenet121`](https://docs.pytorch.org/vision/stable/models/generated/torchvision.models.densenet121.html).
pub fn densenet121() -> DenseNet {
    const BLOCKS: [usize; 4] = [6, 12, 24, 16];
    let mut channels = 64;
    let mut features = Sequential::new()
        .add_module("conv0", conv(3, channels, 7, 2, 1))
        .add_module("norm0", BatchNorm2d::new(channels))
        .add_module("relu0", ReLU::new().inplace(true))
        .add_module("pool0", MaxPool2d::new(3).stride(2).padding(1));
    for (i, layers) in BLOCKS.into_iter().enumerate() {
        features = features.add_module(format!("denseblock{}", i + 1), DenseBlock::new(channels, layers));
        channels += layers * GROWTH;
        if i + 1 < BLOCKS.len() {
            features = features.add_module(format!("transition{}", i + 1), transition(channels));
            channels /= 2;
        }
    }
    let features = features.add_module("norm5", BatchNorm2d::new(channels));
    DenseNet { features, classifier: Linear::new(channels, 1000) }
}

impl DenseNet {
    /// A new head for `n` classes.
    #[must_use]
    pub fn num_classes(mut self, n: usize) -> Self {
        self.classifier = Linear::new(self.classifier.in_features(), n);
        self
    }
}

impl Module for DenseNet {
    fn forward(&self, g: &mut Graph, x: Var) -> Result<Var> {
        let x = self.features.forward(g, x)?;
        let x = g.relu(x)?;
        let x = g.adaptive_avg_pool2d(x, [Some(1), Some(1)])?;
        let x = g.flatten(x, 1, -1)?;
        self.classifier.forward(g, x)
    }
}

/// Halves the number of channels and the image.
fn transition(channels: usize) -> Sequential {
    Sequential::named("_Transition")
        .add_module("norm", BatchNorm2d::new(channels))
        .add_module("relu", ReLU::new().inplace(true))
        .add_module("conv", conv(channels, channels / 2, 1, 1, 1))
        .add_module("pool", AvgPool2d::new(2).stride(2))
}

/// Layers that each see the concatenation of the input and of all layers before.
struct DenseBlock(ModuleDict);

impl DenseBlock {
    fn new(channels: usize, layers: usize) -> Self {
        Self((0..layers).fold(ModuleDict::named("_DenseBlock"), |block, i| {
            block.add_module(format!("denselayer{}", i + 1), DenseLayer::new(channels + i * GROWTH))
        }))
    }
}

impl Structure for DenseBlock {
    fn class_name(&self) -> &str {
        self.0.class_name()
    }

    fn fields(&self) -> Fields<'_> {
        self.0.fields()
    }

    fn fields_mut(&mut self) -> FieldsMut<'_> {
        self.0.fields_mut()
    }

    crate::module!(@object);
}

impl Module for DenseBlock {
    fn forward(&self, g: &mut Graph, x: Var) -> Result<Var> {
        let mut features = vec![x];
        for (_, layer) in self.0.iter() {
            let all = g.cat(&features, 1)?;
            features.push(layer.forward(g, all)?);
        }
        g.cat(&features, 1)
    }
}

struct DenseLayer {
    norm1: BatchNorm2d,
    relu1: ReLU,
    conv1: Conv2d,
    norm2: BatchNorm2d,
    relu2: ReLU,
    conv2: Conv2d,
}

crate::module!(DenseLayer as "_DenseLayer" { norm1, relu1, conv1, norm2, relu2, conv2 });

impl DenseLayer {
    fn new(channels: usize) -> Self {
        let hidden = 4 * GROWTH;
        Self {
            norm1: BatchNorm2d::new(channels),
            relu1: ReLU::new().inplace(true),
            conv1: conv(channels, hidden, 1, 1, 1),
            norm2: BatchNorm2d::new(hidden),
            relu2: ReLU::new().inplace(true),
            conv2: conv(hidden, GROWTH, 3, 1, 1),
        }
    }
}

impl Module for DenseLayer {
    fn forward(&self, g: &mut Graph, x: Var) -> Result<Var> {
        let x = self.norm1.forward(g, x)?;
        let x = self.relu1.forward(g, x)?;
        let x = self.conv1.forward(g, x)?;
        let x = self.norm2.forward(g, x)?;
        let x = self.relu2.forward(g, x)?;
        self.conv2.forward(g, x)
    }
}
