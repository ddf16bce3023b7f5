//! TransformerDecoderLayer, TransformerDecoder, Transformer.

use super::attention::{Activation, MultiheadAttention, TransformerEncoder};
use super::container::ModuleList;
use super::dropout::Dropout;
use super::linear::Linear;
use super::module::Module;
use super::norm::LayerNorm;
use crate::error::{Error, Result};
use crate::graph::{Graph, Var};

/// Self-attention, attention over the encoder's output, and a feed-forward net, each added to its input and normalised.
///
/// [`decode`](Self::decode) takes the target and the encoder's output; `forward`, which has one input, is an error.
///
/// [`nn.TransformerDecoderLayer`](https://docs.pytorch.org/docs/stable/generated/torch.nn.TransformerDecoderLayer.html).
pub struct TransformerDecoderLayer {
    /// The attention of the target over itself.
    pub self_attn: MultiheadAttention,
    /// The attention of the target over the encoder's output.
    pub multihead_attn: MultiheadAttention,
    /// `[d_model]` to `[dim_feedforward]`.
    pub linear1: Linear,
    dropout: Dropout,
    /// `[dim_feedforward]` to `[d_model]`.
    pub linear2: Linear,
    /// The norm of the self-attention.
    pub norm1: LayerNorm,
    /// The norm of the attention over the encoder's output.
    pub norm2: LayerNorm,
    /// The norm of the feed-forward net.
    pub norm3: LayerNorm,
    dropout1: Dropout,
    dropout2: Dropout,
    dropout3: Dropout,
    activation: Activation,
    norm_first: bool,
}

crate::module!(TransformerDecoderLayer {
    self_attn,
    multihead_attn,
    linear1,
    dropout,
    linear2,
    norm1,
    norm2,
    norm3,
    dropout1,
    dropout2,
    dropout3
});

impl TransformerDecoderLayer {
    /// `nn.TransformerDecoderLayer(d_model, nhead)`, with a feed-forward net of 2048.
    pub fn new(d_model: usize, nhead: usize) -> Self {
        Self::from_parts(
            [(); 2].map(|()| MultiheadAttention::new(d_model, nhead)),
            [Linear::new(d_model, 2048), Linear::new(2048, d_model)],
            [(); 3].map(|()| LayerNorm::new([d_model])),
            [(); 4].map(|()| Dropout::new(0.1)),
            false,
            false,
        )
    }

    /// A layer of these parts, with GELU or ReLU. The first dropout is that of the feed-forward net.
    pub(crate) fn from_parts(
        [self_attn, multihead_attn]: [MultiheadAttention; 2],
        [linear1, linear2]: [Linear; 2],
        [norm1, norm2, norm3]: [LayerNorm; 3],
        [dropout, dropout1, dropout2, dropout3]: [Dropout; 4],
        gelu: bool,
        norm_first: bool,
    ) -> Self {
        let activation = if gelu { Activation::Gelu } else { Activation::Relu };
        Self {
            self_attn,
            multihead_attn,
            linear1,
            dropout,
            linear2,
            norm1,
            norm2,
            norm3,
            dropout1,
            dropout2,
            dropout3,
            activation,
            norm_first,
        }
    }

    /// The width of the feed-forward net: 2048 by default.
    #[must_use]
    pub fn dim_feedforward(mut self, dim: usize) -> Self {
        let d_model = self.self_attn.embed_dim();
        (self.linear1, self.linear2) = (Linear::new(d_model, dim), Linear::new(dim, d_model));
        self
    }

    /// GELU instead of ReLU.
    #[must_use]
    pub fn gelu(mut self) -> Self {
        self.activation = Activation::Gelu;
        self
    }

    /// Whether the norms come before the attentions and the feed-forward net rather than after the sums: not by default.
    #[must_use]
    pub fn norm_first(mut self, norm_first: bool) -> Self {
        self.norm_first = norm_first;
        self
    }

    /// Whether the batch is the first dimension: not by default.
    #[must_use]
    pub fn batch_first(mut self, batch_first: bool) -> Self {
        self.self_attn = self.self_attn.batch_first(batch_first);
        self.multihead_attn = self.multihead_attn.batch_first(batch_first);
        self
    }

    /// What the norms add to the variance: 1e-5 by default.
    #[must_use]
    pub fn layer_norm_eps(mut self, eps: f64) -> Self {
        (self.norm1, self.norm2, self.norm3) = (self.norm1.eps(eps), self.norm2.eps(eps), self.norm3.eps(eps));
        self
    }

    /// What the layer makes of the target and the encoder's output, without masks.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`](crate::ErrorKind::Shape) when the inputs do not fit.
    pub fn decode(&self, graph: &mut Graph, target: Var, memory: Var) -> Result<Var> {
        let norms = [&self.norm1, &self.norm2, &self.norm3];
        let mut x = target;
        for (i, norm) in norms.into_iter().enumerate() {
            let y = if self.norm_first { norm.forward(graph, x)? } else { x };
            let y = match i {
                0 => self.self_attn.forward(graph, y)?,
                1 => self.multihead_attn.attend(graph, [y, memory, memory], None, false)?,
                _ => self.activation.feed_forward(graph, y, &self.linear1, &self.linear2)?,
            };
            x = graph.add(x, y)?;
            if !self.norm_first {
                x = norm.forward(graph, x)?;
            }
        }
        Ok(x)
    }
}

impl Module for TransformerDecoderLayer {
    fn forward(&self, _: &mut Graph, _: Var) -> Result<Var> {
        Err(two_inputs("TransformerDecoderLayer", "decode"))
    }
}

/// Decoder layers one after the other, and a norm if there is one.
///
/// [`nn.TransformerDecoder`](https://docs.pytorch.org/docs/stable/generated/torch.nn.TransformerDecoder.html).
pub struct TransformerDecoder {
    /// The layers.
    pub layers: ModuleList,
    /// The norm of the output.
    pub norm: Option<LayerNorm>,
}

crate::module!(TransformerDecoder { layers, norm });

impl TransformerDecoder {
    /// `nn.TransformerDecoder(layer, num_layers)`, where `layer` makes one of the equal layers.
    pub fn new(layer: impl Fn() -> TransformerDecoderLayer, num_layers: usize) -> Self {
        Self::from_parts((0..num_layers).map(|_| layer()).collect(), None)
    }

    /// A decoder of these layers.
    pub(crate) fn from_parts(layers: Vec<TransformerDecoderLayer>, norm: Option<LayerNorm>) -> Self {
        Self { layers: layers.into_iter().fold(ModuleList::new(), ModuleList::append), norm }
    }

    /// The norm of the output: none by default.
    #[must_use]
    pub fn norm(mut self, norm: LayerNorm) -> Self {
        self.norm = Some(norm);
        self
    }

    /// What the decoder makes of the target and the encoder's output, without masks.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`](crate::ErrorKind::Shape) when the inputs do not fit,
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) when a layer is no [`TransformerDecoderLayer`].
    pub fn decode(&self, graph: &mut Graph, target: Var, memory: Var) -> Result<Var> {
        let mut x = target;
        for (_, layer) in self.layers.iter() {
            let layer = layer.downcast_ref::<TransformerDecoderLayer>();
            let layer = layer.ok_or_else(|| Error::unsupported("a layer of the decoder is no decoder layer"))?;
            x = layer.decode(graph, x, memory)?;
        }
        match &self.norm {
            Some(norm) => norm.forward(graph, x),
            None => Ok(x),
        }
    }
}

impl Module for TransformerDecoder {
    fn forward(&self, _: &mut Graph, _: Var) -> Result<Var> {
        Err(two_inputs("TransformerDecoder", "decode"))
    }
}

/// An encoder and a decoder.
///
/// [`nn.Transformer`](https://docs.pytorch.org/docs/stable/generated/torch.nn.Transformer.html).
pub struct Transformer {
    /// The encoder.
    pub encoder: TransformerEncoder,
    /// The decoder.
    pub decoder: TransformerDecoder,
}

crate::module!(Transformer { encoder, decoder });

impl Transformer {
    /// `nn.Transformer(custom_encoder=encoder, custom_decoder=decoder)`; PyTorch's own have norms of their outputs.
    pub fn new(encoder: TransformerEncoder, decoder: TransformerDecoder) -> Self {
        Self { encoder, decoder }
    }

    /// What the model makes of the source and the target, without masks.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`](crate::ErrorKind::Shape) when the inputs do not fit.
    pub fn transform(&self, graph: &mut Graph, source: Var, target: Var) -> Result<Var> {
        let memory = self.encoder.forward(graph, source)?;
        self.decoder.decode(graph, target, memory)
    }
}

impl Module for Transformer {
    fn forward(&self, _: &mut Graph, _: Var) -> Result<Var> {
        Err(two_inputs("Transformer", "transform"))
    }
}

fn two_inputs(class: &str, method: &str) -> Error {
    Error::unsupported(format!("`{class}` takes two inputs")).help(format!("call its `{method}` in place of `forward`"))
}
