//! The `Module` trait, and the macro that tells it what a struct is made of.

use std::any::Any;
use std::borrow::Cow;
use std::fmt;

use super::slot::{Buffer, Parameter, Slot};
use super::{load, repr};
use crate::error::Result;
use crate::graph::{Graph, Var};
use crate::state_dict::{LoadReport, StateDict, Strict};

/// A layer or a net: what it is made of, and what it does to its input.
///
/// It is PyTorch's [`nn.Module`](https://docs.pytorch.org/docs/stable/generated/torch.nn.Module.html) in eval mode.
/// A net of one's own is a struct of layers, one line of [`module!`](crate::module), and its `forward`:
///
/// ```
/// use sconce::nn::{self, Module};
/// use sconce::{Graph, Result, Var};
///
/// struct Net {
///     conv1: nn::Conv2d,
///     fc1: nn::Linear,
/// }
/// sconce::module!(Net { conv1, fc1 });
///
/// impl Module for Net {
///     fn forward(&self, g: &mut Graph, x: Var) -> Result<Var> {
///         let x = self.conv1.forward(g, x)?;
///         let x = g.relu(x)?;
///         let x = g.flatten(x, 1, -1)?;
///         self.fc1.forward(g, x)
///     }
/// }
///
/// let net = Net { conv1: nn::Conv2d::new(1, 4, 3).padding(1), fc1: nn::Linear::new(4 * 8 * 8, 10) };
/// let names: Vec<String> = net.named_parameters().into_iter().map(|(name, _)| name).collect();
/// assert_eq!(names, ["conv1.weight", "conv1.bias", "fc1.weight", "fc1.bias"]);
/// assert_eq!(net.to_string(), "\
/// Net(
///   (conv1): Conv2d(1, 4, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1))
///   (fc1): Linear(in_features=256, out_features=10, bias=True)
/// )");
/// for (name, layer) in net.named_modules() {
///     if let Some(linear) = layer.downcast_ref::<nn::Linear>() {
///         assert_eq!((name.as_str(), &linear.weight.shape()[..]), ("fc1", &[10, 256][..]));
///     }
/// }
/// ```
pub trait Module: Structure {
    /// Adds what the module computes from `x` to the graph.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`](crate::ErrorKind::Shape) when `x` does not fit, and
    /// [`ErrorKind::StateDict`](crate::ErrorKind::StateDict) when a weight has no value.
    fn forward(&self, graph: &mut Graph, x: Var) -> Result<Var>;

    /// The arguments as PyTorch prints them between the parentheses.
    fn extra_repr(&self) -> String {
        String::new()
    }

    /// The module and every module in it, outermost first, by name; the module itself is `""`.
    fn named_modules(&self) -> Vec<(String, &dyn Module)> {
        let mut modules = Vec::new();
        collect_modules(self.as_module(), "", &mut modules);
        modules
    }

    /// Every parameter, by its name in a state dict.
    fn named_parameters(&self) -> Vec<(String, &Parameter)> {
        collect_fields(self.as_module(), |field| match field {
            Field::Parameter(parameter) => Some(parameter),
            _ => None,
        })
    }

    /// Every buffer, by its name in a state dict.
    fn named_buffers(&self) -> Vec<(String, &Buffer)> {
        collect_fields(self.as_module(), |field| match field {
            Field::Buffer(buffer) => Some(buffer),
            _ => None,
        })
    }

    /// The parameters and buffers that have a value, in PyTorch's order.
    fn state_dict(&self) -> StateDict {
        let with_value = |(name, slot): (String, &Slot)| slot.tensor().map(|tensor| (name, tensor.clone()));
        slots(self.as_module()).into_iter().filter_map(with_value).collect()
    }

    /// Checks that everything that `forward` needs has a value.
    ///
    /// # Errors
    /// [`ErrorKind::StateDict`](crate::ErrorKind::StateDict) with the names of what has none.
    fn check_loaded(&self) -> Result<()> {
        load::check_loaded(self.as_module())
    }

    /// Takes the tensors of a state dict as the values of the parameters and buffers. Everything is checked first:
    /// on an error nothing has changed. No tensor data is read or copied. Weights that the file has in parts, as
    /// `weight_g` and `weight_v` of `weight_norm`, are [folded](StateDict::fold).
    ///
    /// It takes a state dict, as PyTorch does, and not a path:
    ///
    /// ```compile_fail
    /// use sconce::{Strict, nn::{Linear, Module}};
    /// let _ = Linear::new(2, 2).load_state_dict("model.pth", Strict::Yes);
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::StateDict`](crate::ErrorKind::StateDict) with [`Strict::Yes`] when anything is missing,
    /// unexpected, has another shape, or a dtype that does not run; one error names all of them.
    fn load_state_dict(&mut self, state: &StateDict, strict: Strict) -> Result<LoadReport> {
        load::load(self.as_module_mut(), state, strict)
    }
}

/// What a module is made of. Written by [`module!`](crate::module).
pub trait Structure: Any + Send + Sync {
    /// The name that PyTorch prints: the class's.
    fn class_name(&self) -> &str;

    /// The parameters, buffers and modules in the order of registration.
    fn fields(&self) -> Fields<'_>;

    /// The same, to assign.
    fn fields_mut(&mut self) -> FieldsMut<'_>;

    /// As a trait object.
    fn as_module(&self) -> &dyn Module;

    /// As a trait object, to assign.
    fn as_module_mut(&mut self) -> &mut dyn Module;
}

/// The named parts of a module.
pub type Fields<'a> = Vec<(Cow<'a, str>, Field<'a>)>;
/// The named parts of a module, to assign.
pub type FieldsMut<'a> = Vec<(Cow<'a, str>, FieldMut<'a>)>;

/// A part of a module.
pub enum Field<'a> {
    /// A module.
    Module(&'a dyn Module),
    /// A parameter.
    Parameter(&'a Parameter),
    /// A buffer.
    Buffer(&'a Buffer),
}

/// A part of a module, to assign.
pub enum FieldMut<'a> {
    /// A module.
    Module(&'a mut dyn Module),
    /// A parameter.
    Parameter(&'a mut Parameter),
    /// A buffer.
    Buffer(&'a mut Buffer),
}

/// What a struct of [`module!`](crate::module) may have as a field: a module, a [`Parameter`], a [`Buffer`], an
/// `Option` of these.
pub trait AsField {
    /// Adds the part, if there is one.
    fn add_to<'a>(&'a self, name: &'a str, fields: &mut Fields<'a>);

    /// Adds the part, if there is one, to assign.
    fn add_to_mut<'a>(&'a mut self, name: &'a str, fields: &mut FieldsMut<'a>);
}

impl<M: Module> AsField for M {
    fn add_to<'a>(&'a self, name: &'a str, fields: &mut Fields<'a>) {
        fields.push((name.into(), Field::Module(self.as_module())));
    }

    fn add_to_mut<'a>(&'a mut self, name: &'a str, fields: &mut FieldsMut<'a>) {
        fields.push((name.into(), FieldMut::Module(self.as_module_mut())));
    }
}

impl AsField for Parameter {
    fn add_to<'a>(&'a self, name: &'a str, fields: &mut Fields<'a>) {
        fields.push((name.into(), Field::Parameter(self)));
    }

    fn add_to_mut<'a>(&'a mut self, name: &'a str, fields: &mut FieldsMut<'a>) {
        fields.push((name.into(), FieldMut::Parameter(self)));
    }
}

impl AsField for Buffer {
    fn add_to<'a>(&'a self, name: &'a str, fields: &mut Fields<'a>) {
        fields.push((name.into(), Field::Buffer(self)));
    }

    fn add_to_mut<'a>(&'a mut self, name: &'a str, fields: &mut FieldsMut<'a>) {
        fields.push((name.into(), FieldMut::Buffer(self)));
    }
}

impl<T: AsField> AsField for Option<T> {
    fn add_to<'a>(&'a self, name: &'a str, fields: &mut Fields<'a>) {
        if let Some(field) = self {
            field.add_to(name, fields);
        }
    }

    fn add_to_mut<'a>(&'a mut self, name: &'a str, fields: &mut FieldsMut<'a>) {
        if let Some(field) = self {
            field.add_to_mut(name, fields);
        }
    }
}

/// Says which fields of a struct are parameters, buffers and modules; their names are those of the state dict.
///
/// `module!(Net { conv1, fc1 })`, or `module!(Net as "MyNet" { conv1, fc1 })` to print another name. A field is a
/// [`Module`](crate::nn::Module), a [`Parameter`](crate::nn::Parameter), a [`Buffer`](crate::nn::Buffer) or an
/// `Option` of these, in the order in which PyTorch's class registers them; other fields are left out. The struct
/// then needs `impl Module`, where there is an example.
#[macro_export]
macro_rules! module {
    ($type:ident { $($field:ident),* $(,)? }) => {
        $crate::module!(@structure $type, |_: &$type| stringify!($type), $($field)*);
    };
    ($type:ty as $class:literal { $($field:ident),* $(,)? }) => {
        $crate::module!(@structure $type, |_: &$type| $class, $($field)*);
    };
    (@structure $type:ty, $class:expr, $($field:ident)*) => {
        impl $crate::nn::Structure for $type {
            fn class_name(&self) -> &str {
                ($class)(self)
            }

            fn fields(&self) -> $crate::nn::Fields<'_> {
                #[allow(unused_mut)]
                let mut fields = $crate::nn::Fields::new();
                $($crate::nn::AsField::add_to(&self.$field, stringify!($field), &mut fields);)*
                fields
            }

            fn fields_mut(&mut self) -> $crate::nn::FieldsMut<'_> {
                #[allow(unused_mut)]
                let mut fields = $crate::nn::FieldsMut::new();
                $($crate::nn::AsField::add_to_mut(&mut self.$field, stringify!($field), &mut fields);)*
                fields
            }

            $crate::module!(@object);
        }

        $crate::module!(@display $type);
    };
    (@object) => {
        fn as_module(&self) -> &dyn $crate::nn::Module {
            self
        }

        fn as_module_mut(&mut self) -> &mut dyn $crate::nn::Module {
            self
        }
    };
    (@display $type:ty) => {
        impl ::std::fmt::Display for $type {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                ::std::fmt::Display::fmt($crate::nn::Structure::as_module(self), f)
            }
        }
    };
}

impl dyn Module {
    /// The module as its own type, if that is `T`.
    pub fn downcast_ref<T: Module>(&self) -> Option<&T> {
        let module: &dyn Any = self.as_module();
        module.downcast_ref()
    }

    /// Whether the module's own type is `T`: Python's `isinstance`.
    pub fn is<T: Module>(&self) -> bool {
        self.downcast_ref::<T>().is_some()
    }
}

impl fmt::Display for dyn Module {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&repr::repr(self))
    }
}

impl fmt::Debug for dyn Module {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<M: Module + ?Sized> Structure for Box<M> {
    fn class_name(&self) -> &str {
        (**self).class_name()
    }

    fn fields(&self) -> Fields<'_> {
        (**self).fields()
    }

    fn fields_mut(&mut self) -> FieldsMut<'_> {
        (**self).fields_mut()
    }

    fn as_module(&self) -> &dyn Module {
        (**self).as_module()
    }

    fn as_module_mut(&mut self) -> &mut dyn Module {
        (**self).as_module_mut()
    }
}

impl<M: Module + ?Sized> Module for Box<M> {
    fn forward(&self, graph: &mut Graph, x: Var) -> Result<Var> {
        (**self).forward(graph, x)
    }

    fn extra_repr(&self) -> String {
        (**self).extra_repr()
    }
}

/// Every parameter and buffer, in the order of PyTorch's state dicts: of each module the parameters, then the buffers,
/// then the modules in it.
pub(crate) fn slots(module: &dyn Module) -> Vec<(String, &Slot)> {
    let mut slots: Vec<(String, &Slot)> = Vec::new();
    for (path, module) in module.named_modules() {
        let (mut parameters, mut buffers) = (Vec::new(), Vec::new());
        for (name, field) in module.fields() {
            match field {
                Field::Parameter(parameter) => parameters.push((join(&path, &name), &**parameter)),
                Field::Buffer(buffer) => buffers.push((join(&path, &name), &**buffer)),
                Field::Module(_) => {}
            }
        }
        slots.append(&mut parameters);
        slots.append(&mut buffers);
    }
    slots
}

/// The fields of every module that `choose` takes, by their full names.
fn collect_fields<'a, T>(module: &'a dyn Module, choose: impl Fn(Field<'a>) -> Option<T>) -> Vec<(String, T)> {
    let mut chosen = Vec::new();
    for (path, module) in module.named_modules() {
        for (name, field) in module.fields() {
            chosen.extend(choose(field).map(|field| (join(&path, &name), field)));
        }
    }
    chosen
}

fn collect_modules<'a>(module: &'a dyn Module, path: &str, modules: &mut Vec<(String, &'a dyn Module)>) {
    modules.push((path.to_string(), module));
    for (name, field) in module.fields() {
        if let Field::Module(child) = field {
            collect_modules(child, &join(path, &name), modules);
        }
    }
}

/// The dotted name of `name` inside `path`.
pub(super) fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_string() } else { format!("{path}.{name}") }
}
