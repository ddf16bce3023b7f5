//! torchvision's classes whose `forward` is that of one of PyTorch's own.

use super::StoredModule;
use super::build::{Builder, Built};
use super::layers;
use crate::error::Result;
use crate::nn;

/// The module, if it is of a class that is known.
pub(super) fn build(builder: &mut Builder, module: &StoredModule, path: &str) -> Result<Built> {
    Ok(match module.class() {
        "torchvision.ops.misc.Conv2dNormActivation"
        | "torchvision.ops.misc.ConvNormActivation"
        | "torchvision.models.mobilenetv2.ConvBNReLU"
        | "torchvision.ops.misc.MLP"
        | "torchvision.models.vision_transformer.MLPBlock" => layers::sequential(builder, module, path),
        "torchvision.ops.stochastic_depth.StochasticDepth" => Built::new(nn::Identity::new()),
        _ => Built::Unknown,
    })
}
