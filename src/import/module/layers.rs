//! PyTorch's own classes: from their hyper-parameters to the layers of [`nn`].

use super::StoredModule;
use super::build::{Builder, Built};
use super::extra_repr::torch_class;
use super::transformer;
use crate::checkpoint::Value;
use crate::error::{Error, Result};
use crate::nn::{self, Approximate, Module, Padding, PaddingMode, UpsampleMode};

/// A layer without weights.
type Layer = Result<Box<dyn Module>>;

/// The module, if it is of a class of `torch.nn`.
pub(super) fn build(builder: &mut Builder, module: &StoredModule, path: &str) -> Result<Built> {
    let Some(class) = torch_class(module.class()) else { return Ok(Built::Unknown) };
    match class {
        "Sequential" => return Ok(sequential(builder, module, path)),
        "TransformerEncoder"
        | "TransformerEncoderLayer"
        | "TransformerDecoder"
        | "TransformerDecoderLayer"
        | "Transformer" => return transformer::build(builder, module, path),
        "MultiheadAttention" => {
            let heads = transformer::attention(builder, module, path)?;
            return Ok(heads.map_or(Built::Broken, Built::new));
        }
        _ => {}
    }
    let layer = norm(class, module).or_else(|| activation(class, module)).or_else(|| spatial(class, module));
    match layer.or_else(|| other(class, module)) {
        Some(layer) => layer.map(Built::Module),
        None => Ok(Built::Unknown),
    }
}

fn boxed(layer: impl Module) -> Box<dyn Module> {
    Box::new(layer)
}

/// `Some` of what a block computes, so that it can use `?`.
macro_rules! layer {
    ($body:expr) => {{
        let make = || -> Result<_> { Ok(boxed($body)) };
        Some(make())
    }};
}

macro_rules! recurrent {
    ($m:ident, $layer:ident) => {
        nn::$layer::new($m.size("input_size")?, $m.size("hidden_size")?)
            .num_layers($m.size("num_layers")?)
            .bias($m.boolean("bias")?)
            .batch_first($m.boolean("batch_first")?)
            .dropout($m.float("dropout")?)
            .bidirectional($m.boolean("bidirectional")?)
    };
}

fn other(class: &str, m: &StoredModule) -> Option<Layer> {
    match class {
        "Linear" | "NonDynamicallyQuantizableLinear" => layer!(linear(m)?),
        "Embedding" => layer!(embedding(m)?),
        "Identity" => layer!(nn::Identity::new()),
        "Dropout" => layer!(dropout(m)?),
        "Dropout1d" => layer!(nn::Dropout1d::new(m.float("p")?).inplace(inplace(m)?)),
        "Dropout2d" => layer!(nn::Dropout2d::new(m.float("p")?).inplace(inplace(m)?)),
        "Dropout3d" => layer!(nn::Dropout3d::new(m.float("p")?).inplace(inplace(m)?)),
        "AlphaDropout" => layer!(nn::AlphaDropout::new(m.float("p")?).inplace(inplace(m)?)),
        "FeatureAlphaDropout" => layer!(nn::FeatureAlphaDropout::new(m.float("p")?).inplace(inplace(m)?)),
        "Flatten" => layer!(nn::Flatten::new().start_dim(m.int("start_dim")?).end_dim(m.int("end_dim")?)),
        "Unflatten" => layer!(nn::Unflatten::new(m.int("dim")?, m.ints("unflattened_size")?)),
        "PixelShuffle" => layer!(nn::PixelShuffle::new(m.size("upscale_factor")?)),
        "PixelUnshuffle" => layer!(nn::PixelUnshuffle::new(m.size("downscale_factor")?)),
        "ChannelShuffle" => layer!(nn::ChannelShuffle::new(m.size("groups")?)),
        "RNN" => layer!(match m.string("mode")? {
            "RNN_RELU" => recurrent!(m, RNN).relu(),
            _ => recurrent!(m, RNN),
        }),
        "LSTM" => layer!(recurrent!(m, LSTM).proj_size(m.or("proj_size", 0, StoredModule::size)?)),
        "GRU" => layer!(recurrent!(m, GRU)),
        "Upsample" => layer!(upsample(m)?),
        "UpsamplingNearest2d" => layer!(upsample(m)?.named("UpsamplingNearest2d")),
        "UpsamplingBilinear2d" => layer!(upsample(m)?.named("UpsamplingBilinear2d")),
        _ => None,
    }
}

pub(super) fn linear(m: &StoredModule) -> Result<nn::Linear> {
    let layer = nn::Linear::new(m.size("in_features")?, m.size("out_features")?).bias(m.has("bias"));
    Ok(if m.class_name() == "Linear" { layer } else { layer.named("NonDynamicallyQuantizableLinear") })
}

pub(super) fn dropout(m: &StoredModule) -> Result<nn::Dropout> {
    Ok(nn::Dropout::new(m.float("p")?).inplace(inplace(m)?))
}

fn embedding(m: &StoredModule) -> Result<nn::Embedding> {
    // With a norm PyTorch changes the weight itself when it runs.
    m.only("max_norm", &Value::None)?;
    let layer = nn::Embedding::new(m.size("num_embeddings")?, m.size("embedding_dim")?);
    Ok(match m.optional("padding_idx", StoredModule::size)? {
        Some(index) => layer.padding_idx(index),
        None => layer,
    })
}

fn inplace(m: &StoredModule) -> Result<bool> {
    m.or("inplace", false, StoredModule::boolean)
}

fn upsample(m: &StoredModule) -> Result<nn::Upsample> {
    let tuple = |value: &Value| matches!(value, Value::Tuple(_) | Value::List(_));
    let layer = match m.attribute("scale_factor") {
        Some(factor) if tuple(factor) => {
            nn::Upsample::scale_factor(factor.as_list()?.iter().map(Value::as_f64).collect::<Result<Vec<_>>>()?)
        }
        Some(factor) if !factor.is_none() => nn::Upsample::scale_factor(vec![factor.as_f64()?]),
        _ if m.attribute("size").is_some_and(tuple) => nn::Upsample::size(m.sizes("size")?),
        _ => nn::Upsample::size(vec![m.size("size")?]),
    };
    let name = m.string("mode")?;
    let modes = [
        UpsampleMode::Nearest,
        UpsampleMode::NearestExact,
        UpsampleMode::Linear,
        UpsampleMode::Bilinear,
        UpsampleMode::Trilinear,
        UpsampleMode::Bicubic,
    ];
    let mode = modes.into_iter().find(|mode| mode.name() == name);
    let mode = mode.ok_or_else(|| Error::unsupported(format!("`mode` is `{name}`, which does not run")))?;
    let align = m.optional("align_corners", StoredModule::boolean)?.unwrap_or(false);
    let recompute = m.optional("recompute_scale_factor", StoredModule::boolean)?.unwrap_or(false);
    Ok(layer.mode(mode).align_corners(align).recompute_scale_factor(recompute))
}

fn norm(class: &str, m: &StoredModule) -> Option<Layer> {
    macro_rules! batch {
        ($layer:ident) => {
            layer!(
                nn::$layer::new(m.size("num_features")?)
                    .eps(m.float("eps")?)
                    .momentum(m.optional("momentum", StoredModule::float)?)
                    .affine(m.has("weight"))
                    .bias(m.has("bias"))
                    .track_running_stats(m.has("running_mean"))
            )
        };
    }
    match class {
        "BatchNorm1d" => batch!(BatchNorm1d),
        "BatchNorm2d" => batch!(BatchNorm2d),
        "BatchNorm3d" => batch!(BatchNorm3d),
        "InstanceNorm1d" => batch!(InstanceNorm1d),
        "InstanceNorm2d" => batch!(InstanceNorm2d),
        "InstanceNorm3d" => batch!(InstanceNorm3d),
        "LayerNorm" => layer!(layer_norm(m)?),
        "RMSNorm" => layer!(
            nn::RMSNorm::new(m.sizes("normalized_shape")?)
                .eps(m.optional("eps", StoredModule::float)?)
                .elementwise_affine(m.has("weight"))
        ),
        "GroupNorm" => layer!(
            nn::GroupNorm::new(m.size("num_groups")?, m.size("num_channels")?)
                .eps(m.float("eps")?)
                .affine(m.has("weight"))
                .bias(m.has("bias"))
        ),
        "LocalResponseNorm" => layer!(
            nn::LocalResponseNorm::new(m.size("size")?)
                .alpha(m.float("alpha")?)
                .beta(m.float("beta")?)
                .k(m.float("k")?)
        ),
        _ => None,
    }
}

pub(super) fn layer_norm(m: &StoredModule) -> Result<nn::LayerNorm> {
    Ok(nn::LayerNorm::new(m.sizes("normalized_shape")?)
        .eps(m.float("eps")?)
        .elementwise_affine(m.has("weight"))
        .bias(m.has("bias")))
}

fn activation(class: &str, m: &StoredModule) -> Option<Layer> {
    macro_rules! simple {
        ($layer:ident) => {
            layer!(nn::$layer::new().inplace(inplace(m)?))
        };
        ($layer:ident($($argument:literal $read:ident),*)) => {
            layer!(nn::$layer::new($(m.$read($argument)?),*).inplace(inplace(m)?))
        };
    }
    match class {
        "ReLU" => simple!(ReLU),
        "ReLU6" => simple!(ReLU6),
        "SiLU" => simple!(SiLU),
        "Mish" => simple!(Mish),
        "SELU" => simple!(SELU),
        "ELU" => simple!(ELU("alpha" float)),
        "CELU" => simple!(CELU("alpha" float)),
        "LeakyReLU" => simple!(LeakyReLU("negative_slope" float)),
        "Hardtanh" => simple!(Hardtanh("min_val" float, "max_val" float)),
        "RReLU" => simple!(RReLU("lower" float, "upper" float)),
        "Sigmoid" => layer!(nn::Sigmoid::new()),
        "Tanh" => layer!(nn::Tanh::new()),
        "Hardswish" => layer!(nn::Hardswish::new()),
        "Hardsigmoid" => layer!(nn::Hardsigmoid::new()),
        "LogSigmoid" => layer!(nn::LogSigmoid::new()),
        "Softsign" => layer!(nn::Softsign::new()),
        "Tanhshrink" => layer!(nn::Tanhshrink::new()),
        "Softmax2d" => layer!(nn::Softmax2d::new()),
        "GELU" => layer!(gelu(m)?),
        "GLU" => layer!(nn::GLU::new(m.int("dim")?)),
        "Softmax" => layer!(nn::Softmax::new(m.int("dim")?)),
        "LogSoftmax" => layer!(nn::LogSoftmax::new(m.int("dim")?)),
        "Softmin" => layer!(nn::Softmin::new(m.int("dim")?)),
        "Softplus" => layer!(nn::Softplus::new().beta(m.float("beta")?).threshold(m.float("threshold")?)),
        "Softshrink" => layer!(nn::Softshrink::new(m.float("lambd")?)),
        "PReLU" => layer!(nn::PReLU::new(m.size("num_parameters")?)),
        _ => None,
    }
}

fn gelu(m: &StoredModule) -> Result<nn::GELU> {
    let approximate = match m.or("approximate", "none", |m, name| m.string(name).map(|_| "given"))? {
        "given" => m.string("approximate")?,
        default => default,
    };
    Ok(nn::GELU::new().approximate(match approximate {
        "none" => Approximate::None,
        "tanh" => Approximate::Tanh,
        other => return Err(Error::unsupported(format!("`approximate` is `{other}`, which does not run"))),
    }))
}

fn spatial(class: &str, m: &StoredModule) -> Option<Layer> {
    macro_rules! conv {
        ($layer:ident) => {
            layer!(
                nn::$layer::new(m.size("in_channels")?, m.size("out_channels")?, m.dims("kernel_size")?)
                    .stride(m.dims("stride")?)
                    .padding(padding(m)?)
                    .dilation(m.dims("dilation")?)
                    .groups(m.size("groups")?)
                    .bias(m.has("bias"))
                    .padding_mode(padding_mode(m)?)
            )
        };
    }
    macro_rules! conv_transpose {
        ($layer:ident) => {
            layer!(
                nn::$layer::new(m.size("in_channels")?, m.size("out_channels")?, m.dims("kernel_size")?)
                    .stride(m.dims("stride")?)
                    .padding(m.dims("padding")?)
                    .output_padding(m.dims("output_padding")?)
                    .dilation(m.dims("dilation")?)
                    .groups(m.size("groups")?)
                    .bias(m.has("bias"))
            )
        };
    }
    macro_rules! max_pool {
        ($layer:ident) => {
            layer!({
                m.only("return_indices", &Value::Bool(false))?;
                nn::$layer::new(m.dims("kernel_size")?)
                    .stride(m.dims("stride")?)
                    .padding(m.dims("padding")?)
                    .dilation(m.dims("dilation")?)
                    .ceil_mode(m.boolean("ceil_mode")?)
            })
        };
    }
    macro_rules! avg_pool {
        ($layer:ident) => {
            layer!(
                nn::$layer::new(m.dims("kernel_size")?)
                    .stride(m.dims("stride")?)
                    .padding(m.dims("padding")?)
                    .ceil_mode(m.boolean("ceil_mode")?)
                    .count_include_pad(m.boolean("count_include_pad")?)
            )
        };
    }
    macro_rules! adaptive_max {
        ($size:expr, $layer:ident) => {
            layer!({
                m.only("return_indices", &Value::Bool(false))?;
                nn::$layer::new($size)
            })
        };
    }
    macro_rules! pad {
        ($kind:ident $n:literal) => {
            layer!(nn::$kind::<$n>::new(pads(m, 2 * $n)?))
        };
    }
    match class {
        "Conv1d" => conv!(Conv1d),
        "Conv2d" => conv!(Conv2d),
        "Conv3d" => conv!(Conv3d),
        "ConvTranspose1d" => conv_transpose!(ConvTranspose1d),
        "ConvTranspose2d" => conv_transpose!(ConvTranspose2d),
        "ConvTranspose3d" => conv_transpose!(ConvTranspose3d),
        "MaxPool1d" => max_pool!(MaxPool1d),
        "MaxPool2d" => max_pool!(MaxPool2d),
        "AvgPool1d" => avg_pool!(AvgPool1d),
        "AvgPool2d" => match m.attribute("divisor_override") {
            None | Some(Value::None) => avg_pool!(AvgPool2d),
            Some(_) => layer!(
                nn::AvgPool2d::new(m.dims("kernel_size")?)
                    .stride(m.dims("stride")?)
                    .padding(m.dims("padding")?)
                    .ceil_mode(m.boolean("ceil_mode")?)
                    .count_include_pad(m.boolean("count_include_pad")?)
                    .divisor_override(m.size("divisor_override")?)
            ),
        },
        "AdaptiveAvgPool1d" => layer!(nn::AdaptiveAvgPool1d::new(m.dims::<1>("output_size")?.sizes()[0])),
        "AdaptiveAvgPool2d" => layer!(nn::AdaptiveAvgPool2d::new(m.output_size::<2>("output_size")?)),
        "AdaptiveMaxPool1d" => adaptive_max!(m.dims::<1>("output_size")?.sizes()[0], AdaptiveMaxPool1d),
        "AdaptiveMaxPool2d" => adaptive_max!(m.output_size::<2>("output_size")?, AdaptiveMaxPool2d),
        "ZeroPad1d" => pad!(ZeroPad 1),
        "ZeroPad2d" => pad!(ZeroPad 2),
        "ZeroPad3d" => pad!(ZeroPad 3),
        "ReflectionPad1d" => pad!(ReflectionPad 1),
        "ReflectionPad2d" => pad!(ReflectionPad 2),
        "ReflectionPad3d" => pad!(ReflectionPad 3),
        "ReplicationPad1d" => pad!(ReplicationPad 1),
        "ReplicationPad2d" => pad!(ReplicationPad 2),
        "ReplicationPad3d" => pad!(ReplicationPad 3),
        "CircularPad1d" => pad!(CircularPad 1),
        "CircularPad2d" => pad!(CircularPad 2),
        "CircularPad3d" => pad!(CircularPad 3),
        "ConstantPad1d" => layer!(nn::ConstantPad1d::new(pads(m, 2)?, m.float("value")?)),
        "ConstantPad2d" => layer!(nn::ConstantPad2d::new(pads(m, 4)?, m.float("value")?)),
        "ConstantPad3d" => layer!(nn::ConstantPad3d::new(pads(m, 6)?, m.float("value")?)),
        _ => None,
    }
}

/// The padding of a layer that only pads; negative numbers, which crop, are refused.
fn pads(m: &StoredModule, len: usize) -> Result<Vec<usize>> {
    let pads = m.sizes("padding")?;
    if pads.len() != len {
        return Err(Error::invalid(format!("`padding` has {} numbers, {len} are expected", pads.len())));
    }
    Ok(pads)
}

fn padding<const N: usize>(m: &StoredModule) -> Result<Padding<N>> {
    Ok(match m.attribute("padding") {
        Some(Value::Str(name)) => match &**name {
            "same" => Padding::Same,
            "valid" => Padding::Valid,
            other => return Err(Error::invalid(format!("`padding` is `{other}`"))),
        },
        _ => Padding::Explicit(m.dims::<N>("padding")?.sizes()),
    })
}

fn padding_mode(m: &StoredModule) -> Result<PaddingMode> {
    let Some(mode) = m.attribute("padding_mode") else { return Ok(PaddingMode::Zeros) };
    Ok(match mode.as_str()? {
        "zeros" => PaddingMode::Zeros,
        "reflect" => PaddingMode::Reflect,
        "replicate" => PaddingMode::Replicate,
        "circular" => PaddingMode::Circular,
        other => return Err(Error::unsupported(format!("`padding_mode` is `{other}`, which does not run"))),
    })
}

/// The modules in it, one after the other.
fn sequential(builder: &mut Builder, module: &StoredModule, path: &str) -> Built {
    let mut all = nn::Sequential::new();
    let mut is_whole = true;
    for (name, child) in module.children() {
        match builder.module(&child, &super::join(path, name)) {
            Some(child) => all = all.add_module(name, child),
            None => is_whole = false,
        }
    }
    if is_whole { Built::new(all) } else { Built::Broken }
}
