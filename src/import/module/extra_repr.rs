//! What PyTorch's classes print between their parentheses.

use super::StoredModule;
use super::python::{repr, str};
use crate::checkpoint::Value;

/// The arguments of a module of a class that is known, as PyTorch prints them; nothing for others.
pub(super) fn extra_repr(module: &StoredModule) -> String {
    let name = match module.class() {
        "torchvision.models.convnext.LayerNorm2d" => "LayerNorm",
        "torchvision.ops.stochastic_depth.StochasticDepth" => return fill(module, "p={p}, mode={mode}"),
        "torchvision.ops.misc.FrozenBatchNorm2d" => {
            let size =
                module.buffers().find(|(name, ..)| *name == "weight").map_or(0, |(_, tensor, _)| tensor.shape()[0]);
            return fill(module, &format!("{size}, eps={{eps}}"));
        }
        _ => match torch_class(module.class()) {
            Some(name) => name,
            None => return String::new(),
        },
    };
    match name {
        "ParameterList" => parameter_list(module),
        "ParameterDict" => parameter_dict(module),
        "Upsample" | "UpsamplingNearest2d" | "UpsamplingBilinear2d" => upsample(module),
        _ => template(name).map_or_else(|| conditional(name, module), |text| fill(module, text)),
    }
}

/// The name of a class of `torch.nn`: `Conv2d` of `torch.nn.modules.conv.Conv2d`.
pub(super) fn torch_class(class: &str) -> Option<&str> {
    let (file, name) = class.strip_prefix("torch.nn.modules.")?.split_once('.')?;
    (!file.is_empty() && !name.contains('.')).then_some(name)
}

/// The arguments of classes that always print all of them. `{x}` is the attribute `x`, `{x!r}` its `repr`, `{x?}`
/// whether the parameter `x` is there, `{inplace}` only something when it is set.
fn template(name: &str) -> Option<&'static str> {
    Some(match name {
        "Linear" | "NonDynamicallyQuantizableLinear" | "LazyLinear" => {
            "in_features={in_features}, out_features={out_features}, bias={bias?}"
        }
        "Bilinear" => {
            "in1_features={in1_features}, in2_features={in2_features}, out_features={out_features}, bias={bias?}"
        }
        "BatchNorm1d" | "BatchNorm2d" | "BatchNorm3d" | "SyncBatchNorm" | "InstanceNorm1d" | "InstanceNorm2d"
        | "InstanceNorm3d" => {
            "{num_features}, eps={eps}, momentum={momentum}, affine={affine}, bias={bias?}, \
             track_running_stats={track_running_stats}"
        }
        "LayerNorm" => "{normalized_shape}, eps={eps}, elementwise_affine={elementwise_affine}, bias={bias?}",
        "RMSNorm" => "{normalized_shape}, eps={eps}, elementwise_affine={elementwise_affine}",
        "GroupNorm" => "{num_groups}, {num_channels}, eps={eps}, affine={affine}, bias={bias?}",
        "LocalResponseNorm" | "CrossMapLRN2d" => "{size}, alpha={alpha}, beta={beta}, k={k}",
        "ReLU" | "ReLU6" | "SiLU" | "Mish" | "SELU" => "{inplace}",
        "Threshold" => "threshold={threshold}, value={value}{, inplace}",
        "RReLU" => "lower={lower}, upper={upper}{, inplace}",
        "Hardtanh" => "min_val={min_val}, max_val={max_val}{, inplace}",
        "ELU" | "CELU" => "alpha={alpha}{, inplace}",
        "LeakyReLU" => "negative_slope={negative_slope}{, inplace}",
        "GELU" => "approximate={approximate!r}",
        "GLU" | "Softmax" | "LogSoftmax" | "Softmin" => "dim={dim}",
        "Hardshrink" | "Softshrink" => "{lambd}",
        "Softplus" => "beta={beta}, threshold={threshold}",
        "PReLU" => "num_parameters={num_parameters}",
        "Dropout" | "Dropout1d" | "Dropout2d" | "Dropout3d" | "AlphaDropout" | "FeatureAlphaDropout" => {
            "p={p}, inplace={inplace!r}"
        }
        "Flatten" => "start_dim={start_dim}, end_dim={end_dim}",
        "Unflatten" => "dim={dim}, unflattened_size={unflattened_size}",
        "MaxPool1d" | "MaxPool2d" | "MaxPool3d" => {
            "kernel_size={kernel_size}, stride={stride}, padding={padding}, dilation={dilation}, ceil_mode={ceil_mode}"
        }
        "AvgPool1d" | "AvgPool2d" | "AvgPool3d" | "MaxUnpool1d" | "MaxUnpool2d" | "MaxUnpool3d" => {
            "kernel_size={kernel_size}, stride={stride}, padding={padding}"
        }
        "LPPool1d" | "LPPool2d" | "LPPool3d" => {
            "norm_type={norm_type}, kernel_size={kernel_size}, stride={stride}, ceil_mode={ceil_mode}"
        }
        "AdaptiveAvgPool1d" | "AdaptiveAvgPool2d" | "AdaptiveAvgPool3d" | "AdaptiveMaxPool1d" | "AdaptiveMaxPool2d"
        | "AdaptiveMaxPool3d" => "output_size={output_size}",
        "ConstantPad1d" | "ConstantPad2d" | "ConstantPad3d" => "padding={padding}, value={value}",
        "ZeroPad1d" | "ZeroPad2d" | "ZeroPad3d" | "ReflectionPad1d" | "ReflectionPad2d" | "ReflectionPad3d"
        | "ReplicationPad1d" | "ReplicationPad2d" | "ReplicationPad3d" | "CircularPad1d" | "CircularPad2d"
        | "CircularPad3d" => "{padding}",
        "ChannelShuffle" => "groups={groups}",
        "PixelShuffle" => "upscale_factor={upscale_factor}",
        "PixelUnshuffle" => "downscale_factor={downscale_factor}",
        "Fold" => {
            "output_size={output_size}, kernel_size={kernel_size}, dilation={dilation}, padding={padding}, \
             stride={stride}"
        }
        "Unfold" => "kernel_size={kernel_size}, dilation={dilation}, padding={padding}, stride={stride}",
        _ => return None,
    })
}

/// The arguments of classes that leave out those with their default value.
fn conditional(name: &str, module: &StoredModule) -> String {
    let mut text = Arguments { module, text: String::new() };
    match name {
        "Conv1d" | "Conv2d" | "Conv3d" | "ConvTranspose1d" | "ConvTranspose2d" | "ConvTranspose3d" => {
            text.add("{in_channels}, {out_channels}, kernel_size={kernel_size}, stride={stride}");
            let all = |value: &Value, number: i64| matches!(value, Value::Tuple(items) if items.iter().all(|item| matches!(item, Value::Int(x) if *x == number)));
            text.unless("padding", |padding| all(padding, 0));
            text.unless("dilation", |dilation| all(dilation, 1));
            text.unless("output_padding", |padding| all(padding, 0));
            text.unless("groups", |groups| matches!(groups, Value::Int(1)));
            if !module.has("bias") {
                text.text += ", bias=False";
            }
            text.unless("padding_mode", |mode| matches!(mode, Value::Str(mode) if &**mode == "zeros"));
        }
        "Embedding" | "EmbeddingBag" => {
            let is_bag = name == "EmbeddingBag";
            text.add("{num_embeddings}, {embedding_dim}");
            if !is_bag {
                text.unless("padding_idx", Value::is_none);
            }
            text.unless("max_norm", Value::is_none);
            text.unless("norm_type", |norm| norm.as_f64().is_ok_and(|norm| norm == 2.0));
            text.unless("scale_grad_by_freq", is_false);
            if is_bag {
                text.add(", mode={mode!r}");
                text.unless("padding_idx", Value::is_none);
            } else {
                text.unless("sparse", is_false);
            }
        }
        "RNN" | "LSTM" | "GRU" => {
            text.add("{input_size}, {hidden_size}");
            text.unless("proj_size", |size| matches!(size, Value::Int(0)));
            text.unless("num_layers", |layers| matches!(layers, Value::Int(1)));
            text.unless("bias", |bias| matches!(bias, Value::Bool(true)));
            text.unless("batch_first", is_false);
            text.unless("dropout", |dropout| dropout.as_f64().is_ok_and(|dropout| dropout == 0.0));
            text.unless("bidirectional", is_false);
        }
        "RNNCell" | "LSTMCell" | "GRUCell" => {
            text.add("{input_size}, {hidden_size}");
            text.unless("bias", |bias| matches!(bias, Value::Bool(true)));
            text.unless("nonlinearity", |name| matches!(name, Value::Str(name) if &**name == "tanh"));
        }
        _ => {}
    }
    text.text
}

fn is_false(value: &Value) -> bool {
    matches!(value, Value::Bool(false))
}

struct Arguments<'a> {
    module: &'a StoredModule,
    text: String,
}

impl Arguments<'_> {
    fn add(&mut self, template: &str) {
        self.text += &fill(self.module, template);
    }

    /// `, name=value`, unless the value is the default, or lacks because the file is older than the argument.
    fn unless(&mut self, name: &str, is_default: impl Fn(&Value) -> bool) {
        if let Some(value) = self.module.attribute(name).filter(|value| !is_default(value)) {
            self.text += &format!(", {name}={}", str(value));
        }
    }
}

/// The template with the module's attributes in it.
fn fill(module: &StoredModule, template: &str) -> String {
    let mut text = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        let (name, after) = after.split_once('}').unwrap_or((after, ""));
        text += before;
        text += &match name {
            "inplace" | ", inplace" => match module.attribute("inplace") {
                Some(Value::Bool(true)) => format!("{name}=True"),
                _ => String::new(),
            },
            _ => match (name.strip_suffix('?'), name.strip_suffix("!r")) {
                (Some(parameter), _) => str(&Value::Bool(module.has(parameter))),
                (_, Some(name)) => attribute(module, name).map_or("?".into(), |value| repr(&value)),
                _ => attribute(module, name).map_or("?".into(), |value| str(&value)),
            },
        };
        rest = after;
    }
    text + rest
}

/// An attribute, or what it was before PyTorch had it.
fn attribute(module: &StoredModule, name: &str) -> Option<Value> {
    let given = module.attribute(name).cloned();
    given.or_else(|| match name {
        "approximate" => Some(Value::from("none")),
        "track_running_stats" | "affine" | "elementwise_affine" => Some(Value::Bool(true)),
        "inplace" => Some(Value::Bool(false)),
        _ => None,
    })
}

fn upsample(module: &StoredModule) -> String {
    match module.attribute("scale_factor") {
        None | Some(Value::None) => fill(module, "size={size!r}, mode={mode!r}"),
        Some(_) => fill(module, "scale_factor={scale_factor!r}, mode={mode!r}"),
    }
}

/// One line for each entry of a `ParameterList`.
fn parameter_list(module: &StoredModule) -> String {
    let size = module.attribute("_size").and_then(|size| size.as_i64().ok());
    let len = match size {
        Some(size) => usize::try_from(size).unwrap_or_default(),
        None => module.parameters().count(),
    };
    let entry = |i: usize| entry(module, &i.to_string(), |dtype| format!("torch.{dtype}"));
    (0..len).map_while(entry).collect::<Vec<_>>().join("\n")
}

fn parameter_dict(module: &StoredModule) -> String {
    let keys: Vec<&str> = match module.attribute("_keys") {
        Some(Value::Dict(keys)) => keys.keys().filter_map(|key| key.as_str().ok()).collect(),
        _ => module.parameters().map(|(name, _)| name).collect(),
    };
    let class = |dtype: &str| {
        let name = match dtype {
            "float64" => "Double",
            "float16" => "Half",
            "bfloat16" => "BFloat16",
            "int64" => "Long",
            "int32" => "Int",
            "int16" => "Short",
            "int8" => "Char",
            "uint8" => "Byte",
            "bool" => "Bool",
            _ => "Float",
        };
        format!("torch.{name}Tensor")
    };
    keys.into_iter().filter_map(|key| entry(module, key, class)).collect::<Vec<_>>().join("\n")
}

fn entry(module: &StoredModule, key: &str, type_name: impl Fn(&str) -> String) -> Option<String> {
    let (kind, tensor) = match module.dict("_parameters")?.get(key).or_else(|| module.object.get(key))? {
        Value::Tensor(tensor) if module.dict("_parameters")?.get(key).is_some() => ("Parameter", tensor),
        Value::Tensor(tensor) => ("Tensor", tensor),
        other => return Some(format!("  ({key}): Object of type: {}", type_of(other))),
    };
    let sizes: Vec<String> = tensor.shape().iter().map(usize::to_string).collect();
    let class = type_name(tensor.dtype().name());
    let device = match tensor.storage().location() {
        location if location.starts_with("cuda") => format!(" ({location})"),
        _ => String::new(),
    };
    Some(format!("  ({key}): {kind} containing: [{class} of size {}{device}]", sizes.join("x")))
}

fn type_of(value: &Value) -> String {
    match value {
        Value::None => "NoneType".into(),
        Value::Bool(_) => "bool".into(),
        Value::Int(_) | Value::BigInt(_) => "int".into(),
        Value::Float(_) => "float".into(),
        Value::Str(_) => "str".into(),
        Value::List(_) => "list".into(),
        Value::Tuple(_) => "tuple".into(),
        Value::Dict(_) => "dict".into(),
        Value::Object(object) => object.class().rsplit('.').next().unwrap_or_default().into(),
        other => other.describe(),
    }
}
