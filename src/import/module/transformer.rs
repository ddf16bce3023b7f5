//! PyTorch's transformers.

use super::build::{Builder, Built};
use super::check::is_function;
use super::extra_repr::torch_class;
use super::layers::{dropout, layer_norm, linear};
use super::{StoredModule, join};
use crate::checkpoint::Value;
use crate::error::{Error, Result};
use crate::nn::{self, TransformerDecoderLayer as DecoderLayer, TransformerEncoderLayer as EncoderLayer};

/// A transformer or a part of one.
pub(super) fn build(builder: &mut Builder, module: &StoredModule, path: &str) -> Result<Built> {
    Ok(match module.class_name() {
        "TransformerEncoderLayer" => encoder_layer(builder, module, path)?.map_or(Built::Broken, Built::new),
        "TransformerDecoderLayer" => decoder_layer(builder, module, path)?.map_or(Built::Broken, Built::new),
        "TransformerEncoder" => encoder(builder, module, path)?.map_or(Built::Broken, Built::new),
        "TransformerDecoder" => decoder(builder, module, path)?.map_or(Built::Broken, Built::new),
        _ => {
            let encoder = builder.nested(module, path, "encoder", &["TransformerEncoder"], encoder)?;
            let decoder = builder.nested(module, path, "decoder", &["TransformerDecoder"], decoder)?;
            match (encoder, decoder) {
                (Some(encoder), Some(decoder)) => Built::new(nn::Transformer::new(encoder, decoder)),
                _ => Built::Broken,
            }
        }
    })
}

/// The attention in a layer of a transformer.
pub(super) fn attention(builder: &mut Builder, m: &StoredModule, path: &str) -> Result<Option<nn::MultiheadAttention>> {
    let output = builder.part(m, path, "out_proj", &["NonDynamicallyQuantizableLinear", "Linear"], linear)?;
    m.only("_qkv_same_embed_dim", &Value::Bool(true))?;
    m.only("add_zero_attn", &Value::Bool(false))?;
    if m.has("bias_k") || m.has("bias_v") {
        return Err(Error::unsupported("`add_bias_kv` is true, which does not run"));
    }
    let heads = nn::MultiheadAttention::new(m.size("embed_dim")?, m.size("num_heads")?);
    let heads = heads.bias(m.has("in_proj_bias")).batch_first(m.or("batch_first", false, StoredModule::boolean)?);
    Ok(output.map(|_| heads))
}

fn encoder_layer(builder: &mut Builder, module: &StoredModule, path: &str) -> Result<Option<EncoderLayer>> {
    let attn = builder.nested(module, path, "self_attn", &["MultiheadAttention"], attention)?;
    let [linear1, linear2] = builder.parts(module, path, ["linear1", "linear2"], &["Linear"], linear)?;
    let [norm1, norm2] = builder.parts(module, path, ["norm1", "norm2"], &["LayerNorm"], layer_norm)?;
    let [dropout, dropout1, dropout2] =
        builder.parts(module, path, ["dropout", "dropout1", "dropout2"], &["Dropout"], dropout)?;
    let activation = activation(builder, module, path)?;
    let norm_first = module.or("norm_first", false, StoredModule::boolean)?;
    let make = || {
        let linears = [linear1?, linear2?];
        let dropouts = [dropout?, dropout1?, dropout2?];
        Some(EncoderLayer::from_parts(attn?, linears, [norm1?, norm2?], dropouts, activation?, norm_first))
    };
    Ok(make())
}

/// Whether a layer of a transformer has GELU between its linear layers, or ReLU.
fn activation(builder: &mut Builder, module: &StoredModule, path: &str) -> Result<Option<bool>> {
    let unknown = |what: String| Err(Error::unsupported(format!("`activation` is {what}, `relu` and `gelu` run")));
    if module.children().any(|(name, _)| name == "activation") {
        let is_gelu = |m: &StoredModule| match m.class_name() {
            "GELU" if m.attribute("approximate").is_none_or(|a| matches!(a, Value::Str(a) if &**a == "none")) => {
                Ok(true)
            }
            "ReLU" => Ok(false),
            name => unknown(format!("`{name}`")),
        };
        return builder.part(module, path, "activation", &["ReLU", "GELU"], is_gelu);
    }
    match module.attribute("activation") {
        None => Ok(Some(false)),
        Some(function) if is_function(function, "relu") => Ok(Some(false)),
        Some(function) if is_function(function, "gelu") => Ok(Some(true)),
        Some(other) => unknown(other.describe()).map(Some),
    }
}

fn decoder_layer(builder: &mut Builder, module: &StoredModule, path: &str) -> Result<Option<DecoderLayer>> {
    let own = builder.nested(module, path, "self_attn", &["MultiheadAttention"], attention)?;
    let other = builder.nested(module, path, "multihead_attn", &["MultiheadAttention"], attention)?;
    let [linear1, linear2] = builder.parts(module, path, ["linear1", "linear2"], &["Linear"], linear)?;
    let [norm1, norm2, norm3] = builder.parts(module, path, ["norm1", "norm2", "norm3"], &["LayerNorm"], layer_norm)?;
    let names = ["dropout", "dropout1", "dropout2", "dropout3"];
    let [dropout, dropout1, dropout2, dropout3] = builder.parts(module, path, names, &["Dropout"], dropout)?;
    let activation = activation(builder, module, path)?;
    let norm_first = module.or("norm_first", false, StoredModule::boolean)?;
    let make = || {
        let norms = [norm1?, norm2?, norm3?];
        let dropouts = [dropout?, dropout1?, dropout2?, dropout3?];
        Some(DecoderLayer::from_parts([own?, other?], [linear1?, linear2?], norms, dropouts, activation?, norm_first))
    };
    Ok(make())
}

fn encoder(builder: &mut Builder, module: &StoredModule, path: &str) -> Result<Option<nn::TransformerEncoder>> {
    let parts = stack(builder, module, path, "TransformerEncoderLayer", encoder_layer)?;
    Ok(parts.map(|(layers, norm)| nn::TransformerEncoder::from_parts(layers, norm)))
}

fn decoder(builder: &mut Builder, module: &StoredModule, path: &str) -> Result<Option<nn::TransformerDecoder>> {
    let parts = stack(builder, module, path, "TransformerDecoderLayer", decoder_layer)?;
    Ok(parts.map(|(layers, norm)| nn::TransformerDecoder::from_parts(layers, norm)))
}

/// The layers of an encoder or a decoder, and the norm of its output if it has one.
fn stack<T>(
    builder: &mut Builder,
    module: &StoredModule,
    path: &str,
    class: &str,
    make: impl Fn(&mut Builder, &StoredModule, &str) -> Result<Option<T>>,
) -> Result<Option<(Vec<T>, Option<nn::LayerNorm>)>> {
    let list = |builder: &mut Builder, list: &StoredModule, path: &str| {
        let mut layers = Vec::new();
        for (name, layer) in list.children() {
            let path = join(path, name);
            builder.inspect(&layer, &path);
            if torch_class(layer.class()) == Some(class) {
                layers.push(make(builder, &layer, &path)?);
            } else {
                builder.refuse(&layer, &path, &format!("it is no `{class}`"));
                layers.push(None);
            }
        }
        Ok(layers.into_iter().collect::<Option<Vec<T>>>())
    };
    let layers = builder.nested(module, path, "layers", &["ModuleList"], list)?;
    let norm = match module.children().any(|(name, _)| name == "norm") {
        true => builder.part(module, path, "norm", &["LayerNorm"], layer_norm)?.map(Some),
        false => Some(None),
    };
    Ok(layers.zip(norm))
}
