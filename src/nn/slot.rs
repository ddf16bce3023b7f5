//! Slots: the places in a module that the tensors of a state dict go to.

use std::ops::Deref;
use std::sync::Arc;

use crate::checkpoint::StoredTensor;
use crate::error::{Error, ErrorKind, Result};
use crate::graph::{Graph, Var};
use crate::shape::Shape;

/// A place for one tensor of a state dict. It knows its shape from the layer's arguments; it has a value once a state
/// dict was loaded. The value stays a view of the file.
#[derive(Clone, Debug)]
pub struct Slot {
    shape: Shape,
    name: Option<Arc<str>>,
    tensor: Option<StoredTensor>,
    /// The version of the module that introduced it: an older state dict may lack it.
    since: i64,
}

impl Slot {
    fn new(shape: Shape, since: i64) -> Self {
        Self { shape, name: None, tensor: None, since }
    }

    /// The shape that the layer expects.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// The name in the state dict (`layer1.0.conv1.weight`), once one was loaded.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// The value, once a state dict was loaded that has it.
    pub fn tensor(&self) -> Option<&StoredTensor> {
        self.tensor.as_ref()
    }

    /// Adds the value to a graph, under its name in the state dict.
    ///
    /// # Errors
    /// [`ErrorKind::StateDict`] when no value was loaded.
    pub fn var(&self, graph: &mut Graph) -> Result<Var> {
        match (&self.tensor, self.name()) {
            (Some(tensor), name) => graph.float_parameter(name.unwrap_or_default(), tensor),
            (None, Some(name)) => Err(Error::new(
                ErrorKind::StateDict,
                format!("`{name}` {} has no value: the state dict lacked it", self.shape),
            )),
            (None, None) => {
                let message = format!("a parameter of shape {} has no value: no state dict was loaded", self.shape);
                Err(Error::new(ErrorKind::StateDict, message).help("call `load_state_dict` first"))
            }
        }
    }

    /// Whether a state dict of this version of the module may lack the tensor.
    pub(super) fn may_be_missing(&self, version: Option<i64>) -> bool {
        version.unwrap_or(1) < self.since
    }

    /// Gives it its name, and its value unless the state dict lacks it.
    pub(super) fn assign(&mut self, name: &str, tensor: Option<StoredTensor>) {
        self.name = Some(name.into());
        if tensor.is_some() {
            self.tensor = tensor;
        }
    }
}

macro_rules! slots {
    ($($(#[$doc:meta])* $name:ident)*) => { $(
        $(#[$doc])*
        #[derive(Clone, Debug)]
        pub struct $name(pub(super) Slot);

        impl $name {
            /// A slot for a tensor of this shape, without a value.
            pub fn new(shape: impl Into<Shape>) -> Self {
                Self(Slot::new(shape.into(), 0))
            }
        }

        impl Deref for $name {
            type Target = Slot;

            fn deref(&self) -> &Slot {
                &self.0
            }
        }
    )* };
}

slots! {
    /// A [`Slot`] for what PyTorch trains: weights and biases.
    Parameter
    /// A [`Slot`] for what PyTorch saves but does not train: the running statistics of BatchNorm.
    Buffer
}

impl Buffer {
    /// A buffer that state dicts of module versions before `version` may lack.
    pub(super) fn since(shape: impl Into<Shape>, version: i64) -> Self {
        Self(Slot::new(shape.into(), version))
    }
}
