//! Sequential, ModuleList, ModuleDict.

use std::borrow::Cow;

use indexmap::IndexMap;

use super::module::{Field, FieldMut, Fields, FieldsMut, Module, Structure};
use crate::error::{Error, Result};
use crate::graph::{Graph, Var};

macro_rules! container {
    ($($(#[$doc:meta])* $name:ident)*) => { $(
        $(#[$doc])*
        pub struct $name {
            class: &'static str,
            modules: IndexMap<String, Box<dyn Module>>,
        }

        impl $name {
            /// An empty container.
            pub fn new() -> Self {
                Self::named(stringify!($name))
            }

            /// An empty container that prints as the subclass `class`.
            pub(crate) fn named(class: &'static str) -> Self {
                Self { class, modules: IndexMap::new() }
            }

            /// Adds a module at the end under a name, in the place of one that has it.
            #[must_use]
            pub fn add_module(mut self, name: impl Into<String>, module: impl Module) -> Self {
                self.modules.insert(name.into(), Box::new(module));
                self
            }

            /// The number of modules.
            pub fn len(&self) -> usize {
                self.modules.len()
            }

            /// Whether there are no modules.
            pub fn is_empty(&self) -> bool {
                self.modules.is_empty()
            }

            /// The module called `name`: `"0"`, `"1"` unless it was given one.
            pub fn get(&self, name: &str) -> Option<&dyn Module> {
                self.modules.get(name).map(|module| module.as_module())
            }

            /// The names and modules in order.
            pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&str, &dyn Module)> {
                self.modules.iter().map(|(name, module)| (name.as_str(), module.as_module()))
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self::new()
            }
        }

        impl Structure for $name {
            fn class_name(&self) -> &str {
                self.class
            }

            fn fields(&self) -> Fields<'_> {
                self.iter().map(|(name, module)| (Cow::Borrowed(name), Field::Module(module))).collect()
            }

            fn fields_mut(&mut self) -> FieldsMut<'_> {
                let modules = self.modules.iter_mut();
                modules.map(|(name, module)| (name.as_str().into(), FieldMut::Module(module.as_module_mut()))).collect()
            }

            crate::module!(@object);
        }

        crate::module!(@display $name);
    )* };
}

container! {
    /// Modules one after the other, each on the output of the one before.
    ///
    /// [`nn.Sequential`](https://docs.pytorch.org/docs/stable/generated/torch.nn.Sequential.html).
    ///
    /// ```
    /// use sconce::nn::{self, Module};
    /// let net = nn::Sequential::new().append(nn::Linear::new(784, 10)).append(nn::Softmax::new(-1));
    /// assert_eq!(net.named_parameters()[0].0, "0.weight");
    /// assert_eq!(net.to_string(), "\
    /// Sequential(
    ///   (0): Linear(in_features=784, out_features=10, bias=True)
    ///   (1): Softmax(dim=-1)
    /// )");
    /// ```
    Sequential
    /// Modules by position, for a `forward` of one's own; its own `forward` is an error, as in PyTorch.
    ///
    /// [`nn.ModuleList`](https://docs.pytorch.org/docs/stable/generated/torch.nn.ModuleList.html).
    ModuleList
    /// Modules by name, for a `forward` of one's own; its own `forward` is an error, as in PyTorch.
    ///
    /// [`nn.ModuleDict`](https://docs.pytorch.org/docs/stable/generated/torch.nn.ModuleDict.html).
    ModuleDict
}

macro_rules! append {
    ($($name:ident)*) => { $(
        impl $name {
            /// Adds a module at the end, under its position.
            #[must_use]
            pub fn append(self, module: impl Module) -> Self {
                let position = self.len().to_string();
                self.add_module(position, module)
            }
        }

        impl FromIterator<Box<dyn Module>> for $name {
            fn from_iter<I: IntoIterator<Item = Box<dyn Module>>>(modules: I) -> Self {
                modules.into_iter().fold(Self::new(), Self::append)
            }
        }
    )* };
}

append!(Sequential ModuleList);

impl Module for Sequential {
    fn forward(&self, graph: &mut Graph, x: Var) -> Result<Var> {
        self.modules.values().try_fold(x, |x, module| module.forward(graph, x))
    }
}

impl Module for ModuleList {
    fn forward(&self, _: &mut Graph, _: Var) -> Result<Var> {
        Err(no_forward(self.class))
    }
}

impl Module for ModuleDict {
    fn forward(&self, _: &mut Graph, _: Var) -> Result<Var> {
        Err(no_forward(self.class))
    }
}

fn no_forward(class: &str) -> Error {
    Error::unsupported(format!("`{class}` holds modules and has no `forward`"))
        .help("call the modules in it, or use `Sequential`")
}
