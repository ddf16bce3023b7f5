//! Embedding.

use super::module::Module;
use super::slot::Parameter;
use crate::error::Result;
use crate::graph::{Graph, Var};

/// Rows of a table by their indices: integers of any shape `[*]` give `[*, embedding_dim]`. An index outside
/// `0..num_embeddings` is an error of the run.
///
/// [`nn.Embedding`](https://docs.pytorch.org/docs/stable/generated/torch.nn.Embedding.html).
pub struct Embedding {
    /// `[num_embeddings, embedding_dim]`.
    pub weight: Parameter,
    padding_idx: Option<usize>,
}

crate::module!(Embedding { weight });

impl Embedding {
    /// `nn.Embedding(num_embeddings, embedding_dim)`.
    pub fn new(num_embeddings: usize, embedding_dim: usize) -> Self {
        Self { weight: Parameter::new([num_embeddings, embedding_dim]), padding_idx: None }
    }

    /// The row that training leaves alone. It is read as any other, and is kept to be printed.
    #[must_use]
    pub fn padding_idx(mut self, index: usize) -> Self {
        self.padding_idx = Some(index);
        self
    }
}

impl Module for Embedding {
    fn forward(&self, graph: &mut Graph, indices: Var) -> Result<Var> {
        let table = self.weight.var(graph)?;
        graph.embedding(indices, table)
    }

    fn extra_repr(&self) -> String {
        let shape = self.weight.shape();
        let padding = self.padding_idx.map_or(String::new(), |index| format!(", padding_idx={index}"));
        format!("{}, {}{padding}", shape[0], shape[1])
    }
}
