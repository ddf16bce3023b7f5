//! torchvision's classes, whose `forward` is public and fixed: the modules in them come from the file as any others.

use indexmap::IndexMap;

use super::build::{Builder, Built, child};
use super::extra_repr::{extra_repr, torch_class};
use super::{StoredModule, join, layers, transformer};
use crate::error::{Error, Result};
use crate::graph::{Graph, Var};
use crate::nn::{Field, FieldMut, Fields, FieldsMut, Module, Parameter, Structure};

/// What a class computes.
type Forward = dyn Fn(&Block, &mut Graph, Var) -> Result<Var> + Send + Sync;

/// A module of a class with a `forward` of its own.
struct Block {
    class: String,
    extra: String,
    parameters: IndexMap<String, Parameter>,
    modules: IndexMap<String, Box<dyn Module>>,
    forward: Box<Forward>,
}

impl Block {
    /// What the part `name` makes of `x`; nothing else when the block has no such part, which was checked where it must.
    fn run(&self, graph: &mut Graph, name: &str, x: Var) -> Result<Var> {
        self.modules.get(name).map_or(Ok(x), |module| module.forward(graph, x))
    }

    /// The parts one after the other.
    fn chain(&self, graph: &mut Graph, names: &[&str], x: Var) -> Result<Var> {
        names.iter().try_fold(x, |x, name| self.run(graph, name, x))
    }

    fn parameter(&self, graph: &mut Graph, name: &str) -> Result<Var> {
        let parameter = self.parameters.get(name).ok_or_else(|| Error::invalid(format!("it has no `{name}`")))?;
        parameter.var(graph)
    }
}

impl Structure for Block {
    fn class_name(&self) -> &str {
        &self.class
    }

    fn fields(&self) -> Fields<'_> {
        let parameters = self.parameters.iter().map(|(name, x)| (name.as_str().into(), Field::Parameter(x)));
        let modules = self.modules.iter().map(|(name, x)| (name.as_str().into(), Field::Module(x.as_module())));
        parameters.chain(modules).collect()
    }

    fn fields_mut(&mut self) -> FieldsMut<'_> {
        let parameters = self.parameters.iter_mut().map(|(name, x)| (name.as_str().into(), FieldMut::Parameter(x)));
        let modules =
            self.modules.iter_mut().map(|(name, x)| (name.as_str().into(), FieldMut::Module(x.as_module_mut())));
        parameters.chain(modules).collect()
    }

    crate::module!(@object);
}

impl Module for Block {
    fn forward(&self, graph: &mut Graph, x: Var) -> Result<Var> {
        (self.forward)(self, graph, x)
    }

    fn extra_repr(&self) -> String {
        self.extra.clone()
    }
}

/// The module, if it is of a class that is known.
pub(super) fn build(builder: &mut Builder, module: &StoredModule, path: &str) -> Result<Built> {
    let Some(class) = module.class().strip_prefix("torchvision.") else { return Ok(Built::Unknown) };
    let mut block = |required: &[&str], forward: Box<Forward>| block(builder, module, path, required, forward);
    match class {
        "models.resnet.ResNet" => block(
            &["conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4", "avgpool", "fc"],
            Box::new(|b, g, x| {
                let stem = ["conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4", "avgpool"];
                let x = b.chain(g, &stem, x)?;
                head(b, g, x, "fc")
            }),
        ),
        "models.resnet.BasicBlock" => block(&["conv1", "bn1", "relu", "conv2", "bn2"], residual(&["conv2", "bn2"])),
        "models.resnet.Bottleneck" => block(
            &["conv1", "bn1", "relu", "conv2", "bn2", "conv3", "bn3"],
            residual(&["conv2", "bn2", "relu", "conv3", "bn3"]),
        ),
        "models.alexnet.AlexNet"
        | "models.vgg.VGG"
        | "models.mobilenetv3.MobileNetV3"
        | "models.efficientnet.EfficientNet" => block(
            &["features", "avgpool", "classifier"],
            Box::new(|b, g, x| {
                let x = b.chain(g, &["features", "avgpool"], x)?;
                head(b, g, x, "classifier")
            }),
        ),
        "models.mobilenetv2.MobileNetV2" => block(
            &["features", "classifier"],
            Box::new(|b, g, x| {
                let x = b.run(g, "features", x)?;
                let x = g.adaptive_avg_pool2d(x, [Some(1); 2])?;
                head(b, g, x, "classifier")
            }),
        ),
        "models.densenet.DenseNet" => block(
            &["features", "classifier"],
            Box::new(|b, g, x| {
                let x = b.run(g, "features", x)?;
                let x = g.relu(x)?;
                let x = g.adaptive_avg_pool2d(x, [Some(1); 2])?;
                head(b, g, x, "classifier")
            }),
        ),
        "models.squeezenet.SqueezeNet" => block(
            &["features", "classifier"],
            Box::new(|b, g, x| {
                let x = b.chain(g, &["features", "classifier"], x)?;
                g.flatten(x, 1, -1)
            }),
        ),
        "models.convnext.ConvNeXt" => block(
            &["features", "avgpool", "classifier"],
            Box::new(|b, g, x| b.chain(g, &["features", "avgpool", "classifier"], x)),
        ),
        "models.regnet.RegNet" => block(
            &["stem", "trunk_output", "avgpool", "fc"],
            Box::new(|b, g, x| {
                let x = b.chain(g, &["stem", "trunk_output", "avgpool"], x)?;
                head(b, g, x, "fc")
            }),
        ),
        "models.vision_transformer.VisionTransformer" => vision_transformer(builder, module, path),
        _ => parts(builder, module, path, class),
    }
}

/// `flatten`, then the part that classifies.
fn head(b: &Block, g: &mut Graph, x: Var, name: &str) -> Result<Var> {
    let x = g.flatten(x, 1, -1)?;
    b.run(g, name, x)
}

/// A residual block of a ResNet: `conv1`, `bn1`, `relu`, the rest, and the shortcut.
fn residual(rest: &'static [&'static str]) -> Box<Forward> {
    Box::new(move |b, g, x| {
        let y = b.chain(g, &["conv1", "bn1", "relu"], x)?;
        let y = b.chain(g, rest, y)?;
        let shortcut = b.run(g, "downsample", x)?;
        let y = g.add(y, shortcut)?;
        b.run(g, "relu", y)
    })
}

/// What torchvision's models are built of.
fn parts(builder: &mut Builder, module: &StoredModule, path: &str, class: &str) -> Result<Built> {
    let mut block = |required: &[&str], forward: Box<Forward>| block(builder, module, path, required, forward);
    match class {
        "ops.misc.Conv2dNormActivation"
        | "ops.misc.ConvNormActivation"
        | "ops.misc.MLP"
        | "models.mobilenetv2.ConvBNReLU"
        | "models.vision_transformer.MLPBlock"
        | "models.densenet._Transition"
        | "models.regnet.SimpleStemIN"
        | "models.regnet.AnyStage"
        | "models.regnet.BottleneckTransform" => {
            block(&[], Box::new(|b, g, x| b.modules.values().try_fold(x, |x, module| module.forward(g, x))))
        }
        "ops.stochastic_depth.StochasticDepth" => block(&[], Box::new(|_, _, x| Ok(x))),
        "ops.misc.Permute" => {
            let dims = module.ints("dims")?;
            block(&[], Box::new(move |_, g, x| g.permute(x, &dims)))
        }
        "ops.misc.SqueezeExcitation" => block(
            &["avgpool", "fc1", "fc2", "activation", "scale_activation"],
            Box::new(|b, g, x| {
                let scale = b.chain(g, &["avgpool", "fc1", "activation", "fc2", "scale_activation"], x)?;
                g.mul(scale, x)
            }),
        ),
        "models.mobilenetv2.InvertedResidual" => inverted_residual(builder, module, path, "conv"),
        "models.mobilenetv3.InvertedResidual" | "models.efficientnet.MBConv" | "models.efficientnet.FusedMBConv" => {
            inverted_residual(builder, module, path, "block")
        }
        "models.squeezenet.Fire" => block(
            &[
                "squeeze",
                "squeeze_activation",
                "expand1x1",
                "expand1x1_activation",
                "expand3x3",
                "expand3x3_activation",
            ],
            Box::new(|b, g, x| {
                let x = b.chain(g, &["squeeze", "squeeze_activation"], x)?;
                let one = b.chain(g, &["expand1x1", "expand1x1_activation"], x)?;
                let three = b.chain(g, &["expand3x3", "expand3x3_activation"], x)?;
                g.cat(&[one, three], 1)
            }),
        ),
        "models.densenet._DenseLayer" => block(
            &["norm1", "relu1", "conv1", "norm2", "relu2", "conv2"],
            Box::new(|b, g, x| b.chain(g, &["norm1", "relu1", "conv1", "norm2", "relu2", "conv2"], x)),
        ),
        "models.densenet._DenseBlock" => block(
            &[],
            Box::new(|b, g, x| {
                b.modules.values().try_fold(x, |x, layer| {
                    let new = layer.forward(g, x)?;
                    g.cat(&[x, new], 1)
                })
            }),
        ),
        "models.convnext.LayerNorm2d" => {
            let norm: Box<dyn Module> = Box::new(layers::layer_norm(module)?);
            Ok(Built::new(ChannelNorm { norm }))
        }
        "models.convnext.CNBlock" => block(
            &["block"],
            Box::new(|b, g, x| {
                let y = b.run(g, "block", x)?;
                let scale = b.parameter(g, "layer_scale")?;
                let y = g.mul(scale, y)?;
                g.add(y, x)
            }),
        ),
        "models.regnet.ResBottleneckBlock" => block(
            &["f", "activation"],
            Box::new(|b, g, x| {
                let y = b.run(g, "f", x)?;
                let shortcut = b.run(g, "proj", x)?;
                let y = g.add(shortcut, y)?;
                b.run(g, "activation", y)
            }),
        ),
        "models.vision_transformer.Encoder" => block(
            &["dropout", "layers", "ln"],
            Box::new(|b, g, x| {
                let positions = b.parameter(g, "pos_embedding")?;
                let x = g.add(x, positions)?;
                b.chain(g, &["layers", "ln"], x)
            }),
        ),
        "models.vision_transformer.EncoderBlock" => block(
            &["ln_1", "self_attention", "dropout", "ln_2", "mlp"],
            Box::new(|b, g, x| {
                let y = b.chain(g, &["ln_1", "self_attention"], x)?;
                let x = g.add(y, x)?;
                let y = b.chain(g, &["ln_2", "mlp"], x)?;
                g.add(x, y)
            }),
        ),
        _ => Ok(Built::Unknown),
    }
}

fn inverted_residual(builder: &mut Builder, module: &StoredModule, path: &str, name: &'static str) -> Result<Built> {
    let adds = module.boolean("use_res_connect")?;
    let forward = move |b: &Block, g: &mut Graph, x: Var| {
        let y = b.run(g, name, x)?;
        if adds { g.add(y, x) } else { Ok(y) }
    };
    block(builder, module, path, &[name], Box::new(forward))
}

fn vision_transformer(builder: &mut Builder, module: &StoredModule, path: &str) -> Result<Built> {
    let image = module.size("image_size")?;
    let forward = move |b: &Block, g: &mut Graph, x: Var| {
        let shape = g.shape(x).clone();
        if shape.len() != 4 || shape[2..] != [image; 2] {
            return Err(Error::shape(format!("vision_transformer: expected [N, C, {image}, {image}], found {shape}")));
        }
        let x = b.run(g, "conv_proj", x)?;
        let x = g.flatten(x, 2, -1)?;
        let x = g.permute(x, &[0, 2, 1])?;
        let token = b.parameter(g, "class_token")?;
        let token = g.expand(token, &[shape[0] as isize, -1, -1])?;
        let x = g.cat(&[token, x], 1)?;
        let x = b.run(g, "encoder", x)?;
        let x = g.slice(x, 1, 0, 1, 1)?;
        let x = g.squeeze(x, 1)?;
        b.run(g, "heads", x)
    };
    block(builder, module, path, &["conv_proj", "encoder", "heads"], Box::new(forward))
}

/// A block with everything that is in the module, which has these parts at least.
fn block(
    builder: &mut Builder,
    module: &StoredModule,
    path: &str,
    required: &[&str],
    forward: Box<Forward>,
) -> Result<Built> {
    for name in required {
        child(module, name)?;
    }
    let parameters =
        module.parameters().map(|(name, tensor)| (name.to_owned(), Parameter::new(tensor.shape().clone())));
    let parameters = parameters.collect();
    let mut modules = IndexMap::new();
    let mut is_whole = true;
    for (name, part) in module.children() {
        let built = match torch_class(part.class()) {
            // Self-attention, in the block of a vision transformer.
            Some(class @ "MultiheadAttention") if name == "self_attention" => builder
                .nested(module, path, name, &[class], transformer::attention)?
                .map(|heads| Box::new(heads) as Box<dyn Module>),
            _ => builder.module(&part, &join(path, name)),
        };
        match built {
            Some(built) => _ = modules.insert(name.to_owned(), built),
            None => is_whole = false,
        }
    }
    let (class, extra) = (module.class_name().to_owned(), extra_repr(module));
    Ok(if is_whole { Built::new(Block { class, extra, parameters, modules, forward }) } else { Built::Broken })
}

/// A layer norm over the channels of `[N, C, H, W]`.
struct ChannelNorm {
    norm: Box<dyn Module>,
}

impl Structure for ChannelNorm {
    fn class_name(&self) -> &str {
        "LayerNorm2d"
    }

    fn fields(&self) -> Fields<'_> {
        self.norm.fields()
    }

    fn fields_mut(&mut self) -> FieldsMut<'_> {
        self.norm.fields_mut()
    }

    crate::module!(@object);
}

impl Module for ChannelNorm {
    fn forward(&self, graph: &mut Graph, x: Var) -> Result<Var> {
        let x = graph.permute(x, &[0, 2, 3, 1])?;
        let x = self.norm.forward(graph, x)?;
        graph.permute(x, &[0, 3, 1, 2])
    }

    fn extra_repr(&self) -> String {
        self.norm.extra_repr()
    }
}
