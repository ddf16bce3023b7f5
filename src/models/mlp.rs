//! A multilayer perceptron whose sizes are read from its state dict.

use std::borrow::Cow;

use crate::error::{Error, ErrorKind, Result};
use crate::graph::{Graph, Var};
use crate::nn::{Field, FieldMut, Fields, FieldsMut, Linear, Module, Structure};
use crate::state_dict::StateDict;

/// Linear layers with ReLU between them: `[N, in]` gives `[N, out]`.
///
/// The layers are those of a state dict in its order, whatever their names (`net.0.weight`, `fc1.weight`); the state
/// dict does not say what lies between them, and ReLU is taken.
pub struct Mlp {
    layers: Vec<(String, Linear)>,
}

impl Mlp {
    /// The layers of `state`, without the weights.
    ///
    /// ```
    /// use sconce::nn::Module;
    /// use sconce::{DType, StateDict, checkpoint::StoredTensor, models::Mlp};
    /// let tensor = |shape: &[usize]| StoredTensor::from_bytes(DType::U8, shape, vec![0; shape.iter().product()]);
    /// let mut state = StateDict::new();
    /// state.insert("net.0.weight", tensor(&[8, 4])?);
    /// state.insert("net.0.bias", tensor(&[8])?);
    /// state.insert("net.2.weight", tensor(&[2, 8])?);
    /// let net = Mlp::from_state_dict(&state)?;
    /// assert_eq!(net.named_parameters().len(), 3);
    /// # Ok::<(), sconce::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::StateDict`] when a tensor is neither the matrix nor the bias of a linear layer, or when a layer
    /// does not fit the one before.
    pub fn from_state_dict(state: &StateDict) -> Result<Self> {
        let fail = |message: String| Err(Error::new(ErrorKind::StateDict, format!("mlp: {message}")));
        let mut layers: Vec<(String, Linear)> = Vec::new();
        for (name, tensor) in state.iter() {
            let (path, last) = name.rsplit_once('.').unwrap_or(("", name));
            let shape = tensor.shape();
            match (last, &shape[..]) {
                ("weight", &[out, features]) => {
                    if let Some((before, linear)) = layers.last().filter(|(_, l)| l.out_features() != features) {
                        let found = linear.out_features();
                        return fail(format!("`{name}` {shape} expects {features} features, `{before}` gives {found}"));
                    }
                    let bias = state.get(&if path.is_empty() { "bias".into() } else { format!("{path}.bias") });
                    layers.push((path.to_string(), Linear::new(features, out).bias(bias.is_some())));
                }
                ("bias", [_]) => {}
                _ => return fail(format!("`{name}` {shape} is not of a linear layer")),
            }
        }
        if layers.is_empty() {
            return fail("the state dict has no linear layer".into());
        }
        Ok(Self { layers })
    }

    /// The number of features of an input.
    pub fn in_features(&self) -> usize {
        self.layers[0].1.in_features()
    }
}

impl Structure for Mlp {
    fn class_name(&self) -> &str {
        "Mlp"
    }

    fn fields(&self) -> Fields<'_> {
        self.layers.iter().map(|(name, linear)| (Cow::Borrowed(name.as_str()), Field::Module(linear))).collect()
    }

    fn fields_mut(&mut self) -> FieldsMut<'_> {
        let layers = self.layers.iter_mut();
        layers.map(|(name, linear)| (Cow::Borrowed(name.as_str()), FieldMut::Module(linear as _))).collect()
    }

    crate::module!(@object);
}

crate::module!(@display Mlp);

impl Module for Mlp {
    fn forward(&self, g: &mut Graph, x: Var) -> Result<Var> {
        let mut x = x;
        for (i, (_, linear)) in self.layers.iter().enumerate() {
            if i > 0 {
                x = g.relu(x)?;
            }
            x = linear.forward(g, x)?;
        }
        Ok(x)
    }
}
