//! ConvNeXt: "A ConvNet for the 2020s", <https://arxiv.org/abs/2201.03545>.

use super::blocks::{LayerNorm2d, Permute, StochasticDepth, conv_norm};
use crate::error::Result;
use crate::graph::{Graph, Var};
use crate::nn::{AdaptiveAvgPool2d, Conv2d, Flatten, GELU, LayerNorm, Linear, Module, Parameter, Sequential};

/// torchvision's `ConvNeXt`.
pub struct ConvNeXt {
    features: Sequential,
    avgpool: AdaptiveAvgPool2d,
    classifier: Sequential,
}

crate::module!(ConvNeXt { features, avgpool, classifier });

/// [`torchvision.models.convnext_tiny`](https://docs.pytorch.org/vision/stable/models/generated/torchvision.models.convnext_tiny.html).
pub fn convnext_tiny() -> ConvNeXt {
    const STAGES: [(usize, usize); 4] = [(96, 3), (192, 3), (384, 9), (768, 3)];
    let total: usize = STAGES.iter().map(|stage| stage.1).sum();
    let stem = Conv2d::new(3, STAGES[0].0, 4).stride(4);
    let mut features = Sequential::new().append(conv_norm(stem, LayerNorm2d::new(STAGES[0].0), None));
    let mut index = 0;
    for (i, (channels, blocks)) in STAGES.into_iter().enumerate() {
        let mut stage = Sequential::new();
        for _ in 0..blocks {
            stage = stage.append(CNBlock::new(channels, 0.1 * index as f64 / (total as f64 - 1.0)));
            index += 1;
        }
        features = features.append(stage);
        if let Some(&(next, _)) = STAGES.get(i + 1) {
            let downsample = Conv2d::new(channels, next, 2).stride(2);
            features = features.append(Sequential::new().append(LayerNorm2d::new(channels)).append(downsample));
        }
    }
    ConvNeXt { features, avgpool: AdaptiveAvgPool2d::new(1), classifier: Sequential::new() }.num_classes(1000)
}

impl ConvNeXt {
    /// A new head for `n` classes.
    #[must_use]
    pub fn num_classes(mut self, n: usize) -> Self {
        self.classifier =
            Sequential::new().append(LayerNorm2d::new(768)).append(Flatten::new()).append(Linear::new(768, n));
        self
    }
}

impl Module for ConvNeXt {
    fn forward(&self, g: &mut Graph, x: Var) -> Result<Var> {
        let x = self.features.forward(g, x)?;
        let x = self.avgpool.forward(g, x)?;
        self.classifier.forward(g, x)
    }
}

struct CNBlock {
    layer_scale: Parameter,
    block: Sequential,
    stochastic_depth: StochasticDepth,
}

crate::module!(CNBlock { layer_scale, block, stochastic_depth });

impl CNBlock {
    fn new(channels: usize, drop: f64) -> Self {
        let block = Sequential::new()
            .append(Conv2d::new(channels, channels, 7).padding(3).groups(channels))
            .append(Permute::new(&[0, 2, 3, 1]))
            .append(LayerNorm::new([channels]).eps(1e-6))
            .append(Linear::new(channels, 4 * channels))
            .append(GELU::new())
            .append(Linear::new(4 * channels, channels))
            .append(Permute::new(&[0, 3, 1, 2]));
        Self { layer_scale: Parameter::new([channels, 1, 1]), block, stochastic_depth: StochasticDepth::new(drop) }
    }
}

impl Module for CNBlock {
    fn forward(&self, g: &mut Graph, x: Var) -> Result<Var> {
        let y = self.block.forward(g, x)?;
        let scale = self.layer_scale.var(g)?;
        let y = g.mul(scale, y)?;
        let y = self.stochastic_depth.forward(g, y)?;
        g.add(y, x)
    }
}
