//! Vision Transformer: "An Image is Worth 16x16 Words", <https://arxiv.org/abs/2010.11929>.

use super::num_classes;
use crate::error::{Error, Result};
use crate::graph::{Graph, Var};
use crate::nn::{Conv2d, Dropout, GELU, LayerNorm, Linear, Module, MultiheadAttention, Parameter, Sequential};
use crate::state_dict::StateDict;

const PATCH: usize = 16;
const HIDDEN: usize = 768;
const HEADS: usize = 12;
const LAYERS: usize = 12;

/// torchvision's `VisionTransformer`.
pub struct VisionTransformer {
    class_token: Parameter,
    conv_proj: Conv2d,
    encoder: Encoder,
    heads: Sequential,
    pub(super) image_size: usize,
}

crate::module!(VisionTransformer { class_token, conv_proj, encoder, heads });

/// [`torchvision.models.vit_b_16`](https://docs.pytorch.org/vision/stable/models/generated/torchvision.models.vit_b_16.html).
pub fn vit_b_16() -> VisionTransformer {
    VisionTransformer {
        class_token: Parameter::new([1, 1, HIDDEN]),
        conv_proj: Conv2d::new(3, HIDDEN, PATCH).stride(PATCH),
        encoder: Encoder::new(),
        heads: Sequential::new(),
        image_size: 0,
    }
    .image_size(224)
    .num_classes(1000)
}

impl VisionTransformer {
    /// A new head for `n` classes.
    #[must_use]
    pub fn num_classes(mut self, n: usize) -> Self {
        self.heads = Sequential::new().add_module("head", Linear::new(HIDDEN, n));
        self
    }

    /// The height and width of the images, a multiple of 16: 224 by default.
    #[must_use]
    pub fn image_size(mut self, size: usize) -> Self {
        self.image_size = size;
        self.encoder.pos_embedding = Parameter::new([1, (size / PATCH).pow(2) + 1, HIDDEN]);
        self
    }

    /// The height and width of the images.
    pub(super) fn size(&self) -> usize {
        self.image_size
    }

    /// The model with the image size and the number of classes of a state dict.
    pub(super) fn for_state(state: &StateDict) -> Self {
        let positions = state.get("encoder.pos_embedding").and_then(|tensor| tensor.shape().get(1).copied());
        let patches = positions.unwrap_or(0).saturating_sub(1);
        let side = patches.isqrt();
        let image_size = if side > 0 && side * side == patches { side.saturating_mul(PATCH) } else { 224 };
        vit_b_16().image_size(image_size).num_classes(num_classes(state, "heads.head.weight"))
    }
}

impl Module for VisionTransformer {
    fn forward(&self, g: &mut Graph, x: Var) -> Result<Var> {
        let size = self.image_size;
        let &[batch, _, height, width] = &g.shape(x)[..] else {
            return Err(Error::shape(format!(
                "vit_b_16: expected images [N, 3, {size}, {size}], found {}",
                g.shape(x)
            )));
        };
        if (height, width) != (size, size) {
            return Err(Error::shape(format!(
                "vit_b_16: expected images of {size} x {size}, found {height} x {width}"
            )));
        }
        let x = self.conv_proj.forward(g, x)?;
        let x = g.flatten(x, 2, 3)?;
        let x = g.permute(x, &[0, 2, 1])?;
        let class_token = self.class_token.var(g)?;
        let class_token = g.expand(class_token, &[batch as isize, -1, -1])?;
        let x = g.cat(&[class_token, x], 1)?;
        let x = self.encoder.forward(g, x)?;
        let x = g.slice(x, 1, 0, 1, 1)?;
        let x = g.squeeze(x, 1)?;
        self.heads.forward(g, x)
    }
}

struct Encoder {
    pos_embedding: Parameter,
    dropout: Dropout,
    layers: Sequential,
    ln: LayerNorm,
}

crate::module!(Encoder { pos_embedding, dropout, layers, ln });

impl Encoder {
    fn new() -> Self {
        Self {
            pos_embedding: Parameter::new([]),
            dropout: Dropout::new(0.0),
            layers: (0..LAYERS).fold(Sequential::new(), |layers, i| {
                layers.add_module(format!("encoder_layer_{i}"), EncoderBlock::new())
            }),
            ln: norm(),
        }
    }
}

impl Module for Encoder {
    fn forward(&self, g: &mut Graph, x: Var) -> Result<Var> {
        let positions = self.pos_embedding.var(g)?;
        let x = g.add(x, positions)?;
        let x = self.dropout.forward(g, x)?;
        let x = self.layers.forward(g, x)?;
        self.ln.forward(g, x)
    }
}

struct EncoderBlock {
    ln_1: LayerNorm,
    self_attention: MultiheadAttention,
    dropout: Dropout,
    ln_2: LayerNorm,
    mlp: Sequential,
}

crate::module!(EncoderBlock { ln_1, self_attention, dropout, ln_2, mlp });

impl EncoderBlock {
    fn new() -> Self {
        Self {
            ln_1: norm(),
            self_attention: MultiheadAttention::new(HIDDEN, HEADS).batch_first(true),
            dropout: Dropout::new(0.0),
            ln_2: norm(),
            mlp: Sequential::named("MLPBlock")
                .append(Linear::new(HIDDEN, 4 * HIDDEN))
                .append(GELU::new())
                .append(Dropout::new(0.0))
                .append(Linear::new(4 * HIDDEN, HIDDEN))
                .append(Dropout::new(0.0)),
        }
    }
}

impl Module for EncoderBlock {
    fn forward(&self, g: &mut Graph, x: Var) -> Result<Var> {
        let y = self.ln_1.forward(g, x)?;
        let y = self.self_attention.forward(g, y)?;
        let y = self.dropout.forward(g, y)?;
        let x = g.add(y, x)?;
        let y = self.ln_2.forward(g, x)?;
        let y = self.mlp.forward(g, y)?;
        g.add(x, y)
    }
}

fn norm() -> LayerNorm {
    LayerNorm::new([HIDDEN]).eps(1e-6)
}
