//! What keeps a module from running, besides its class.

use super::StoredModule;
use super::extra_repr::torch_class;
use crate::checkpoint::Value;

/// Methods of PyTorch's classes that a model may have replaced on one module.
const METHODS: [&str; 9] = [
    "forward",
    "_call_impl",
    "_conv_forward",
    "_forward_impl",
    "_check_input_dim",
    "_sa_block",
    "_mha_block",
    "_ff_block",
    "_wrapped_call_impl",
];

/// Wrappers that replace `forward` by that of the module in them.
pub(super) fn wrapped(class: &str) -> Option<&'static str> {
    match class {
        "torch.nn.parallel.data_parallel.DataParallel"
        | "torch.nn.parallel.distributed.DistributedDataParallel"
        | "torch.optim.swa_utils.AveragedModel" => Some("module"),
        "torch._dynamo.eval_frame.OptimizedModule" => Some("_orig_mod"),
        _ => None,
    }
}

/// The method that was replaced on this module, if one was.
pub(super) fn patched(module: &StoredModule) -> Option<&'static str> {
    METHODS.into_iter().find(|name| module.attribute(name).is_some())
}

/// Whether the module computes something else in train mode, and is in it.
pub(super) fn trains(module: &StoredModule) -> bool {
    let drops = |name: &str| module.attribute(name).and_then(|p| p.as_f64().ok()).is_some_and(|p| p > 0.0);
    let has_statistics = || module.has("running_mean") || module.has("running_var");
    if !module.is_training() {
        return false;
    }
    // In training the norm itself is computed anew.
    if module.hooks().iter().any(|(_, class)| *class == SPECTRAL_NORM) {
        return true;
    }
    match torch_class(module.class()) {
        Some("Dropout" | "Dropout1d" | "Dropout2d" | "Dropout3d" | "AlphaDropout" | "FeatureAlphaDropout") => {
            drops("p")
        }
        Some("MultiheadAttention" | "RNN" | "LSTM" | "GRU") => drops("dropout"),
        Some("RReLU") => true,
        Some(name) if name.contains("BatchNorm") || name.contains("InstanceNorm") => has_statistics(),
        _ => module.class() == "torchvision.ops.stochastic_depth.StochasticDepth" && drops("p"),
    }
}

/// Whether a hook only computes a weight from others, which loading a state dict does too.
fn makes_weight(class: &str) -> bool {
    class == "torch.nn.utils.weight_norm.WeightNorm"
        || class == SPECTRAL_NORM
        || class.starts_with("torch.nn.utils.prune.")
}

const SPECTRAL_NORM: &str = "torch.nn.utils.spectral_norm.SpectralNorm";

/// The hooks that run with the module and change what it computes, in words.
pub(super) fn hooks(module: &StoredModule) -> Option<String> {
    let hooks: Vec<(&str, &str)> = module.hooks().into_iter().filter(|(_, class)| !makes_weight(class)).collect();
    let (kind, class) = hooks.first()?;
    let kind = if *kind == "_forward_hooks" { "forward hook" } else { "forward pre-hook" };
    let more = if hooks.len() > 1 { format!(" and {} more", hooks.len() - 1) } else { String::new() };
    Some(format!("it has a {kind} `{class}`{more}, which is code"))
}

/// Whether a value is the function `name` of one of PyTorch's modules of functions.
pub(super) fn is_function(value: &Value, name: &str) -> bool {
    match value {
        Value::Global(global) => ["torch.nn.functional.", "torch._C._nn.", "torch."]
            .iter()
            .any(|path| global.strip_prefix(path) == Some(name)),
        _ => false,
    }
}
