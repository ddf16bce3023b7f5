//! MultiheadAttention, TransformerEncoderLayer, TransformerEncoder.

use super::container::ModuleList;
use super::dropout::Dropout;
use super::linear::Linear;
use super::module::Module;
use super::norm::LayerNorm;
use super::slot::Parameter;
use crate::error::{Error, Result};
use crate::graph::{Approximate, Graph, Var};

/// Attention with `num_heads` heads: `softmax(Q K^T / sqrt(head_dim)) V` of projections of its inputs, projected again.
///
/// Inputs and output are `[L, N, embed_dim]`, or `[N, L, embed_dim]` with `batch_first(true)`, or `[L, embed_dim]`.
/// `forward` is self-attention; [`attend`](Self::attend) takes query, key and value.
///
/// [`nn.MultiheadAttention`](https://docs.pytorch.org/docs/stable/generated/torch.nn.MultiheadAttention.html).
pub struct MultiheadAttention {
    /// The projections of query, key and value, one above the other: `[3 * embed_dim, embed_dim]`.
    pub in_proj_weight: Parameter,
    /// `[3 * embed_dim]`.
    pub in_proj_bias: Option<Parameter>,
    /// The projection of the output.
    pub out_proj: Linear,
    num_heads: usize,
    batch_first: bool,
}

crate::module!(MultiheadAttention { in_proj_weight, in_proj_bias, out_proj });

impl MultiheadAttention {
    /// `nn.MultiheadAttention(embed_dim, num_heads)`. `forward` refuses a number of heads that does not divide
    /// `embed_dim`.
    pub fn new(embed_dim: usize, num_heads: usize) -> Self {
        let in_proj_weight = Parameter::new([3 * embed_dim, embed_dim]);
        let in_proj_bias = Some(Parameter::new([3 * embed_dim]));
        let out_proj = Linear::new(embed_dim, embed_dim).named("NonDynamicallyQuantizableLinear");
        Self { in_proj_weight, in_proj_bias, out_proj, num_heads, batch_first: false }
    }

    /// Whether the projections have biases: by default.
    #[must_use]
    pub fn bias(mut self, bias: bool) -> Self {
        self.in_proj_bias = bias.then(|| Parameter::new([3 * self.embed_dim()]));
        self.out_proj = self.out_proj.bias(bias);
        self
    }

    /// Whether the batch is the first dimension: not by default.
    #[must_use]
    pub fn batch_first(mut self, batch_first: bool) -> Self {
        self.batch_first = batch_first;
        self
    }

    /// The size of the last dimension of inputs and output.
    pub fn embed_dim(&self) -> usize {
        self.out_proj.in_features()
    }

    /// The number of heads.
    pub fn num_heads(&self) -> usize {
        self.num_heads
    }

    /// Attention of `query [N, L, E]` over `key` and `value [N, S, E]` (dimensions in the order that the module has),
    /// with a float `mask` that broadcasts to `[N, num_heads, L, S]` and is added to the scores, or with position `i`
    /// seeing positions up to `i` when `is_causal`.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`](crate::ErrorKind::Shape) when the inputs do not fit.
    pub fn attend(
        &self,
        graph: &mut Graph,
        [query, key, value]: [Var; 3],
        mask: Option<Var>,
        is_causal: bool,
    ) -> Result<Var> {
        let rank = graph.shape(query).len();
        if !matches!(rank, 2 | 3) || self.num_heads == 0 || !self.embed_dim().is_multiple_of(self.num_heads) {
            return Err(Error::shape(format!(
                "multihead_attention: an input {} does not fit {} heads of an embedding of {}",
                graph.shape(query),
                self.num_heads,
                self.embed_dim()
            ))
            .help("expected [L, N, E], [N, L, E] or [L, E], and heads that divide E"));
        }
        let [q, k, v] = if query == key && key == value {
            let x = self.to_batch_first(graph, query)?;
            self.project_together(graph, x)?
        } else {
            let mut heads = [query, key, value];
            for (part, x) in heads.iter_mut().enumerate() {
                let batched = self.to_batch_first(graph, *x)?;
                *x = self.project(graph, batched, part..part + 1)?;
            }
            heads
        };
        let y = graph.scaled_dot_product_attention(q, k, v, mask, is_causal, None)?;
        let y = graph.permute(y, &[0, 2, 1, 3])?;
        let y = graph.flatten(y, 2, 3)?;
        let y = self.out_proj.forward(graph, y)?;
        match (rank, self.batch_first) {
            (2, _) => graph.squeeze(y, 0),
            (_, true) => Ok(y),
            (_, false) => graph.transpose(y, 0, 1),
        }
    }

    /// The weights of the attention of `query` over `key`, `[N, L, S]`: the mean over the heads, as PyTorch gives them
    /// beside the output. Without a batch `[L, S]`.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`](crate::ErrorKind::Shape) when the inputs do not fit.
    pub fn attention_weights(&self, graph: &mut Graph, query: Var, key: Var) -> Result<Var> {
        let rank = graph.shape(query).len();
        let mut heads = [query, key];
        for (part, x) in heads.iter_mut().enumerate() {
            let batched = self.to_batch_first(graph, *x)?;
            *x = self.project(graph, batched, part..part + 1)?;
        }
        let [q, k] = heads;
        let k = graph.transpose(k, -2, -1)?;
        let scores = graph.matmul(q, k)?;
        let head_dim = (self.embed_dim() / self.num_heads) as f32;
        let scores = graph.mul_scalar(scores, 1.0 / head_dim.sqrt())?;
        let weights = graph.softmax(scores, -1)?;
        let weights = graph.mean(weights, &[1], false)?;
        if rank == 2 { graph.squeeze(weights, 0) } else { Ok(weights) }
    }

    fn to_batch_first(&self, graph: &mut Graph, x: Var) -> Result<Var> {
        match (graph.shape(x).len(), self.batch_first) {
            (2, _) => graph.unsqueeze(x, 0),
            (_, true) => Ok(x),
            (_, false) => graph.transpose(x, 0, 1),
        }
    }

    /// The query, key and value heads of one input, by one product.
    fn project_together(&self, graph: &mut Graph, x: Var) -> Result<[Var; 3]> {
        let all = self.project(graph, x, 0..3)?;
        let heads = self.num_heads;
        let mut part = |i: usize| graph.slice(all, 1, i * heads, (i + 1) * heads, 1);
        Ok([part(0)?, part(1)?, part(2)?])
    }

    /// The heads `[N, parts * num_heads, L, head_dim]` of these parts (query, key, value) of the projection.
    fn project(&self, graph: &mut Graph, x: Var, parts: std::ops::Range<usize>) -> Result<Var> {
        let (embed, all) = (self.embed_dim(), 0..3);
        let mut weight = self.in_proj_weight.var(graph)?;
        let mut bias = self.in_proj_bias.as_ref().map(|bias| bias.var(graph)).transpose()?;
        if parts != all {
            weight = graph.slice(weight, 0, parts.start * embed, parts.end * embed, 1)?;
            bias = bias.map(|bias| graph.slice(bias, 0, parts.start * embed, parts.end * embed, 1)).transpose()?;
        }
        let y = graph.linear(x, weight, bias)?;
        let [batch, len] = [graph.shape(y)[0], graph.shape(y)[1]].map(|size| size as isize);
        let heads = parts.len() * self.num_heads;
        let y = graph.reshape(y, &[batch, len, heads as isize, (embed / self.num_heads) as isize])?;
        graph.permute(y, &[0, 2, 1, 3])
    }
}

impl Module for MultiheadAttention {
    fn forward(&self, graph: &mut Graph, x: Var) -> Result<Var> {
        self.attend(graph, [x, x, x], None, false)
    }
}

/// The activation between the two linear layers of a [`TransformerEncoderLayer`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Activation {
    Relu,
    Gelu,
}

impl Activation {
    pub(super) fn feed_forward(self, graph: &mut Graph, x: Var, linear1: &Linear, linear2: &Linear) -> Result<Var> {
        let y = linear1.forward(graph, x)?;
        let y = match self {
            Activation::Relu => graph.relu(y)?,
            Activation::Gelu => graph.gelu(y, Approximate::None)?,
        };
        linear2.forward(graph, y)
    }
}

/// Self-attention and a feed-forward net, each added to its input and normalised.
///
/// [`nn.TransformerEncoderLayer`](https://docs.pytorch.org/docs/stable/generated/torch.nn.TransformerEncoderLayer.html).
pub struct TransformerEncoderLayer {
    /// The attention.
    pub self_attn: MultiheadAttention,
    /// `[d_model]` to `[dim_feedforward]`.
    pub linear1: Linear,
    dropout: Dropout,
    /// `[dim_feedforward]` to `[d_model]`.
    pub linear2: Linear,
    /// The norm of the attention.
    pub norm1: LayerNorm,
    /// The norm of the feed-forward net.
    pub norm2: LayerNorm,
    dropout1: Dropout,
    dropout2: Dropout,
    activation: Activation,
    norm_first: bool,
}

crate::module!(TransformerEncoderLayer { self_attn, linear1, dropout, linear2, norm1, norm2, dropout1, dropout2 });

impl TransformerEncoderLayer {
    /// `nn.TransformerEncoderLayer(d_model, nhead)`, with a feed-forward net of 2048.
    pub fn new(d_model: usize, nhead: usize) -> Self {
        let [dropout, dropout1, dropout2] = [(); 3].map(|()| Dropout::new(0.1));
        Self {
            self_attn: MultiheadAttention::new(d_model, nhead),
            linear1: Linear::new(d_model, 2048),
            dropout,
            linear2: Linear::new(2048, d_model),
            norm1: LayerNorm::new([d_model]),
            norm2: LayerNorm::new([d_model]),
            dropout1,
            dropout2,
            activation: Activation::Relu,
            norm_first: false,
        }
    }

    /// A layer of these parts, with GELU or ReLU.
    pub(crate) fn from_parts(
        self_attn: MultiheadAttention,
        [linear1, linear2]: [Linear; 2],
        [norm1, norm2]: [LayerNorm; 2],
        [dropout, dropout1, dropout2]: [Dropout; 3],
        gelu: bool,
        norm_first: bool,
    ) -> Self {
        let activation = if gelu { Activation::Gelu } else { Activation::Relu };
        Self { self_attn, linear1, dropout, linear2, norm1, norm2, dropout1, dropout2, activation, norm_first }
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

    /// Whether the norms come before attention and feed-forward net rather than after the sums: not by default.
    #[must_use]
    pub fn norm_first(mut self, norm_first: bool) -> Self {
        self.norm_first = norm_first;
        self
    }

    /// Whether the batch is the first dimension: not by default.
    #[must_use]
    pub fn batch_first(mut self, batch_first: bool) -> Self {
        self.self_attn = self.self_attn.batch_first(batch_first);
        self
    }

    /// What the norms add to the variance: 1e-5 by default.
    #[must_use]
    pub fn layer_norm_eps(mut self, eps: f64) -> Self {
        (self.norm1, self.norm2) = (self.norm1.eps(eps), self.norm2.eps(eps));
        self
    }
}

impl Module for TransformerEncoderLayer {
    fn forward(&self, graph: &mut Graph, x: Var) -> Result<Var> {
        if self.norm_first {
            let y = self.norm1.forward(graph, x)?;
            let y = self.self_attn.forward(graph, y)?;
            let x = graph.add(x, y)?;
            let y = self.norm2.forward(graph, x)?;
            let y = self.activation.feed_forward(graph, y, &self.linear1, &self.linear2)?;
            return graph.add(x, y);
        }
        let y = self.self_attn.forward(graph, x)?;
        let y = graph.add(x, y)?;
        let x = self.norm1.forward(graph, y)?;
        let y = self.activation.feed_forward(graph, x, &self.linear1, &self.linear2)?;
        let y = graph.add(x, y)?;
        self.norm2.forward(graph, y)
    }
}

/// Encoder layers one after the other, and a norm if there is one.
///
/// [`nn.TransformerEncoder`](https://docs.pytorch.org/docs/stable/generated/torch.nn.TransformerEncoder.html).
pub struct TransformerEncoder {
    /// The layers.
    pub layers: ModuleList,
    /// The norm of the output.
    pub norm: Option<LayerNorm>,
}

crate::module!(TransformerEncoder { layers, norm });

impl TransformerEncoder {
    /// `nn.TransformerEncoder(layer, num_layers)`, where `layer` makes one of the equal layers.
    pub fn new(layer: impl Fn() -> TransformerEncoderLayer, num_layers: usize) -> Self {
        Self { layers: (0..num_layers).fold(ModuleList::new(), |list, _| list.append(layer())), norm: None }
    }

    /// An encoder of these layers.
    pub(crate) fn from_parts(layers: Vec<TransformerEncoderLayer>, norm: Option<LayerNorm>) -> Self {
        Self { layers: layers.into_iter().fold(ModuleList::new(), ModuleList::append), norm }
    }

    /// The norm of the output: none by default.
    #[must_use]
    pub fn norm(mut self, norm: LayerNorm) -> Self {
        self.norm = Some(norm);
        self
    }
}

impl Module for TransformerEncoder {
    fn forward(&self, graph: &mut Graph, x: Var) -> Result<Var> {
        let x = self.layers.iter().try_fold(x, |x, (_, layer)| layer.forward(graph, x))?;
        match &self.norm {
            Some(norm) => norm.forward(graph, x),
            None => Ok(x),
        }
    }
}
