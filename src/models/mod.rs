//! torchvision's architectures, with its state-dict names and module trees.
//!
//! A constructor makes the net of [ImageNet's](https://www.image-net.org) 1000 classes without weights; `num_classes`
//! changes the head as torchvision's argument does. All take images `[N, 3, H, W]`, normalised as in training, and
//! give scores `[N, num_classes]`.
//!
//! ```no_run
//! use sconce::nn::Module;
//! use sconce::{Device, Model, Strict, models};
//! let checkpoint = sconce::load("resnet18.pth")?;
//! let mut net = models::resnet18();
//! net.load_state_dict(&checkpoint.state_dict()?, Strict::Yes)?;
//! let model = Model::new(net, &Device::cpu())?;
//! # Ok::<(), sconce::Error>(())
//! ```
//!
//! Reference: <https://docs.pytorch.org/vision/stable/models.html>.

mod alexnet;
mod blocks;
mod convnext;
mod densenet;
mod efficientnet;
mod mlp;
mod mobilenet_v2;
mod mobilenet_v3;
mod resnet;
mod squeezenet;
#[cfg(test)]
mod tests;
mod vgg;
mod vision_transformer;

pub use alexnet::{AlexNet, alexnet};
pub use convnext::{ConvNeXt, convnext_tiny};
pub use densenet::{DenseNet, densenet121};
pub use efficientnet::{EfficientNet, efficientnet_b0};
pub use mlp::Mlp;
pub use mobilenet_v2::{MobileNetV2, mobilenet_v2};
pub use mobilenet_v3::{MobileNetV3, mobilenet_v3_large, mobilenet_v3_small};
pub use resnet::{ResNet, resnet18, resnet34, resnet50, resnet101, resnet152, resnext50_32x4d, wide_resnet50_2};
pub use squeezenet::{SqueezeNet, squeezenet1_0, squeezenet1_1};
pub use vgg::{VGG, vgg11, vgg11_bn, vgg13, vgg13_bn, vgg16, vgg16_bn, vgg19, vgg19_bn};
pub use vision_transformer::{VisionTransformer, vit_b_16};

use crate::error::{Error, Result};
use crate::nn::Module;
use crate::shape::Shape;
use crate::state_dict::StateDict;

/// How a model is made for a state dict.
type Build = fn(&StateDict) -> Result<Box<dyn Module>>;

macro_rules! models {
    ($($constructor:ident $head:literal,)*) => {
        /// The names that [`by_name`] knows.
        pub const NAMES: &[&str] = &[$(stringify!($constructor),)* "vit_b_16", "mlp"];

        const BUILDS: &[Build] = &[
            $(|state| Ok(Box::new($constructor().num_classes(num_classes(state, $head)))),)*
            |state| Ok(Box::new(VisionTransformer::for_state(state))),
            |state| Ok(Box::new(Mlp::from_state_dict(state)?)),
        ];
    };
}

models! {
    resnet18 "fc.weight",
    resnet34 "fc.weight",
    resnet50 "fc.weight",
    resnet101 "fc.weight",
    resnet152 "fc.weight",
    resnext50_32x4d "fc.weight",
    wide_resnet50_2 "fc.weight",
    vgg11 "classifier.6.weight",
    vgg11_bn "classifier.6.weight",
    vgg13 "classifier.6.weight",
    vgg13_bn "classifier.6.weight",
    vgg16 "classifier.6.weight",
    vgg16_bn "classifier.6.weight",
    vgg19 "classifier.6.weight",
    vgg19_bn "classifier.6.weight",
    alexnet "classifier.6.weight",
    mobilenet_v2 "classifier.1.weight",
    mobilenet_v3_small "classifier.3.weight",
    mobilenet_v3_large "classifier.3.weight",
    squeezenet1_0 "classifier.1.weight",
    squeezenet1_1 "classifier.1.weight",
    densenet121 "classifier.weight",
    efficientnet_b0 "classifier.1.weight",
    convnext_tiny "classifier.2.weight",
}

/// The model called `name`, one of [`NAMES`], with as many classes as the head of `state` has. The weights are not
/// loaded.
///
/// ```
/// use sconce::{StateDict, models};
/// let net = models::by_name("resnet18", &StateDict::new())?;
/// assert_eq!(net.named_parameters().len(), 62);
/// # Ok::<(), sconce::Error>(())
/// ```
///
/// # Errors
/// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) for any other name; for `mlp` also
/// [`ErrorKind::StateDict`](crate::ErrorKind::StateDict) when the state dict is not one of linear layers.
pub fn by_name(name: &str, state: &StateDict) -> Result<Box<dyn Module>> {
    let Some(index) = NAMES.iter().position(|known| *known == name) else {
        return Err(Error::not_found(format!("there is no model `{name}`"))
            .help(format!("the models are {}", NAMES.join(", "))));
    };
    BUILDS[index](state)
}

/// The shape of one input of the model called `name` with the weights of `state`, without the batch: `[3, 224, 224]`
/// for images, `[in_features]` for `mlp`.
///
/// # Errors
/// Those of [`by_name`].
pub fn input_shape(name: &str, state: &StateDict) -> Result<Shape> {
    let net = by_name(name, state)?;
    if let Some(mlp) = net.downcast_ref::<Mlp>() {
        return Ok([mlp.in_features()].into());
    }
    let size = net.downcast_ref::<VisionTransformer>().map_or(224, VisionTransformer::size);
    Ok([3, size, size].into())
}

/// The number of classes of the state dict whose last layer is `head`.
fn num_classes(state: &StateDict, head: &str) -> usize {
    state.get(head).and_then(|weight| weight.shape().first().copied()).unwrap_or(1000)
}
