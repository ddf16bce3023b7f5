//! ResNet, ResNeXt and Wide ResNet: "Deep Residual Learning for Image Recognition", <https://arxiv.org/abs/1512.03385>.

use super::blocks::conv;
use crate::error::Result;
use crate::graph::{Graph, Var};
use crate::nn::{AdaptiveAvgPool2d, BatchNorm2d, Conv2d, Linear, MaxPool2d, Module, ReLU, Sequential};

/// torchvision's `ResNet`.
pub struct ResNet {
    /// The stem's convolution.
    pub conv1: Conv2d,
    bn1: BatchNorm2d,
    relu: ReLU,
    maxpool: MaxPool2d,
    layer1: Sequential,
    layer2: Sequential,
    layer3: Sequential,
    layer4: Sequential,
    avgpool: AdaptiveAvgPool2d,
    /// The head.
    pub fc: Linear,
}

crate::module!(ResNet { conv1, bn1, relu, maxpool, layer1, layer2, layer3, layer4, avgpool, fc });

/// What the models of the family differ in.
#[derive(Clone, Copy)]
struct Config {
    blocks: [usize; 4],
    bottleneck: bool,
    groups: usize,
    width_per_group: usize,
}

impl ResNet {
    fn new(config: Config) -> Self {
        let mut c_in = 64;
        let expansion = if config.bottleneck { 4 } else { 1 };
        let mut layer = |i: usize| {
            let planes = 64 << i;
            (0..config.blocks[i]).fold(Sequential::new(), |layer, block| {
                let stride = if i > 0 && block == 0 { 2 } else { 1 };
                let block_in = std::mem::replace(&mut c_in, planes * expansion);
                match config.bottleneck {
                    true => layer.append(Bottleneck::new(block_in, planes, stride, config)),
                    false => layer.append(BasicBlock::new(block_in, planes, stride)),
                }
            })
        };
        Self {
            conv1: conv(3, 64, 7, 2, 1),
            bn1: BatchNorm2d::new(64),
            relu: ReLU::new().inplace(true),
            maxpool: MaxPool2d::new(3).stride(2).padding(1),
            layer1: layer(0),
            layer2: layer(1),
            layer3: layer(2),
            layer4: layer(3),
            avgpool: AdaptiveAvgPool2d::new((1, 1)),
            fc: Linear::new(512 * expansion, 1000),
        }
    }

    /// A new head for `n` classes.
    #[must_use]
    pub fn num_classes(mut self, n: usize) -> Self {
        self.fc = Linear::new(self.fc.in_features(), n);
        self
    }
}

impl Module for ResNet {
    fn forward(&self, g: &mut Graph, x: Var) -> Result<Var> {
        let x = self.conv1.forward(g, x)?;
        let x = self.bn1.forward(g, x)?;
        let x = self.relu.forward(g, x)?;
        let mut x = self.maxpool.forward(g, x)?;
        for layer in [&self.layer1, &self.layer2, &self.layer3, &self.layer4] {
            x = layer.forward(g, x)?;
        }
        let x = self.avgpool.forward(g, x)?;
        let x = g.flatten(x, 1, -1)?;
        self.fc.forward(g, x)
    }
}

/// The projection of a block's input where its output has another shape.
fn downsample(c_in: usize, c_out: usize, stride: usize) -> Option<Sequential> {
    (stride != 1 || c_in != c_out)
        .then(|| Sequential::new().append(conv(c_in, c_out, 1, stride, 1)).append(BatchNorm2d::new(c_out)))
}

struct BasicBlock {
    conv1: Conv2d,
    bn1: BatchNorm2d,
    relu: ReLU,
    conv2: Conv2d,
    bn2: BatchNorm2d,
    downsample: Option<Sequential>,
}

crate::module!(BasicBlock { conv1, bn1, relu, conv2, bn2, downsample });

impl BasicBlock {
    fn new(c_in: usize, planes: usize, stride: usize) -> Self {
        Self {
            conv1: conv(c_in, planes, 3, stride, 1),
            bn1: BatchNorm2d::new(planes),
            relu: ReLU::new().inplace(true),
            conv2: conv(planes, planes, 3, 1, 1),
            bn2: BatchNorm2d::new(planes),
            downsample: downsample(c_in, planes, stride),
        }
    }
}

impl Module for BasicBlock {
    fn forward(&self, g: &mut Graph, x: Var) -> Result<Var> {
        let y = self.conv1.forward(g, x)?;
        let y = self.bn1.forward(g, y)?;
        let y = self.relu.forward(g, y)?;
        let y = self.conv2.forward(g, y)?;
        let y = self.bn2.forward(g, y)?;
        add_identity(g, x, y, self.downsample.as_ref(), &self.relu)
    }
}

struct Bottleneck {
    conv1: Conv2d,
    bn1: BatchNorm2d,
    conv2: Conv2d,
    bn2: BatchNorm2d,
    conv3: Conv2d,
    bn3: BatchNorm2d,
    relu: ReLU,
    downsample: Option<Sequential>,
}

crate::module!(Bottleneck { conv1, bn1, conv2, bn2, conv3, bn3, relu, downsample });

impl Bottleneck {
    fn new(c_in: usize, planes: usize, stride: usize, config: Config) -> Self {
        let width = planes * config.width_per_group / 64 * config.groups;
        let c_out = planes * 4;
        Self {
            conv1: conv(c_in, width, 1, 1, 1),
            bn1: BatchNorm2d::new(width),
            conv2: conv(width, width, 3, stride, config.groups),
            bn2: BatchNorm2d::new(width),
            conv3: conv(width, c_out, 1, 1, 1),
            bn3: BatchNorm2d::new(c_out),
            relu: ReLU::new().inplace(true),
            downsample: downsample(c_in, c_out, stride),
        }
    }
}

impl Module for Bottleneck {
    fn forward(&self, g: &mut Graph, x: Var) -> Result<Var> {
        let y = self.conv1.forward(g, x)?;
        let y = self.bn1.forward(g, y)?;
        let y = self.relu.forward(g, y)?;
        let y = self.conv2.forward(g, y)?;
        let y = self.bn2.forward(g, y)?;
        let y = self.relu.forward(g, y)?;
        let y = self.conv3.forward(g, y)?;
        let y = self.bn3.forward(g, y)?;
        add_identity(g, x, y, self.downsample.as_ref(), &self.relu)
    }
}

/// `relu(y + x)`, with `x` projected to the shape of `y` where that differs.
fn add_identity(g: &mut Graph, x: Var, y: Var, downsample: Option<&Sequential>, relu: &ReLU) -> Result<Var> {
    let identity = match downsample {
        Some(downsample) => downsample.forward(g, x)?,
        None => x,
    };
    let y = g.add(y, identity)?;
    relu.forward(g, y)
}

macro_rules! resnets {
    ($($name:ident: $blocks:expr, $bottleneck:literal, $groups:literal, $width:literal;)*) => { $(
        #[doc = concat!("[`torchvision.models.", stringify!($name), "`](https://docs.pytorch.org/vision/stable/models/generated/torchvision.models.", stringify!($name), ".html).")]
        pub fn $name() -> ResNet {
            ResNet::new(Config { blocks: $blocks, bottleneck: $bottleneck, groups: $groups, width_per_group: $width })
        }
    )* };
}

resnets! {
    resnet18: [2, 2, 2, 2], false, 1, 64;
    resnet34: [3, 4, 6, 3], false, 1, 64;
    resnet50: [3, 4, 6, 3], true, 1, 64;
    resnet101: [3, 4, 23, 3], true, 1, 64;
    resnet152: [3, 8, 36, 3], true, 1, 64;
    resnext50_32x4d: [3, 4, 6, 3], true, 32, 4;
    wide_resnet50_2: [3, 4, 6, 3], true, 1, 128;
}
