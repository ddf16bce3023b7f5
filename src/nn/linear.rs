//! Linear.

use super::module::Module;
use super::repr::boolean;
use super::slot::Parameter;
use crate::error::Result;
use crate::graph::{Graph, Var};

/// `y = x A^T + b` over the last dimension: `[*, in_features]` gives `[*, out_features]`.
///
/// [`nn.Linear`](https://docs.pytorch.org/docs/stable/generated/torch.nn.Linear.html).
pub struct Linear {
    /// `A`, `[out_features, in_features]`.
    pub weight: Parameter,
    /// `b`, `[out_features]`.
    pub bias: Option<Parameter>,
    class: &'static str,
}

crate::module!(@structure Linear, |linear: &Linear| linear.class, weight bias);

impl Linear {
    /// `nn.Linear(in_features, out_features)`.
    pub fn new(in_features: usize, out_features: usize) -> Self {
        let weight = Parameter::new([out_features, in_features]);
        Self { weight, bias: Some(Parameter::new([out_features])), class: "Linear" }
    }

    /// Whether there is a bias: by default.
    #[must_use]
    pub fn bias(mut self, bias: bool) -> Self {
        self.bias = bias.then(|| Parameter::new([self.out_features()]));
        self
    }

    /// Prints as the subclass `class`.
    pub(crate) fn named(mut self, class: &'static str) -> Self {
        self.class = class;
        self
    }

    /// The size of the last dimension of the input.
    pub fn in_features(&self) -> usize {
        self.weight.shape()[1]
    }

    /// The size of the last dimension of the output.
    pub fn out_features(&self) -> usize {
        self.weight.shape()[0]
    }
}

impl Module for Linear {
    fn forward(&self, graph: &mut Graph, x: Var) -> Result<Var> {
        let weight = self.weight.var(graph)?;
        let bias = self.bias.as_ref().map(|bias| bias.var(graph)).transpose()?;
        graph.linear(x, weight, bias)
    }

    fn extra_repr(&self) -> String {
        format!(
            "in_features={}, out_features={}, bias={}",
            self.in_features(),
            self.out_features(),
            boolean(self.bias.is_some())
        )
    }
}
