//! What a tensor may have besides a strided view of a storage: a quantizer, a layout of its own, the attributes of a
//! Python subclass.

use std::fmt;
use std::sync::Arc;

use super::StoredTensor;
use crate::checkpoint::value::{Dict, DictKind, Object, Value};
use crate::dtype::DType;
use crate::error::Error;

/// How a tensor's elements are kept: PyTorch's
/// [`torch.layout`](https://docs.pytorch.org/docs/stable/tensor_attributes.html#torch-layout), and three kinds of
/// tensors that have no elements of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Layout {
    /// A strided view of a storage: the one layout whose elements can be read.
    Strided,
    /// The positions and values of the elements that are not zero.
    SparseCoo,
    /// Compressed sparse rows.
    SparseCsr,
    /// Compressed sparse columns.
    SparseCsc,
    /// Compressed sparse rows of blocks.
    SparseBsr,
    /// Compressed sparse columns of blocks.
    SparseBsc,
    /// Several tensors in one, of the older kind of `torch.nested`; the shape is that of the tensor that holds them all.
    Nested,
    /// Several tensors in one, of layout `torch.jagged`; the shape is that of the tensor that holds them all.
    Jagged,
    /// A tensor of the meta device: dtype and shape alone.
    Meta,
    /// A Python subclass that keeps its data in other tensors, which are among its attributes.
    Subclass,
}

impl Layout {
    /// PyTorch's name without the `torch.`: `strided`, `sparse_coo`.
    pub const fn name(self) -> &'static str {
        match self {
            Layout::Strided => "strided",
            Layout::SparseCoo => "sparse_coo",
            Layout::SparseCsr => "sparse_csr",
            Layout::SparseCsc => "sparse_csc",
            Layout::SparseBsr => "sparse_bsr",
            Layout::SparseBsc => "sparse_bsc",
            Layout::Nested => "nested",
            Layout::Jagged => "jagged",
            Layout::Meta => "meta",
            Layout::Subclass => "subclass",
        }
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// How the integers of a quantized tensor stand for numbers: `(integer - zero point) * scale`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Quantizer {
    /// One scale and zero point for all elements: `torch.per_tensor_affine`.
    PerTensor {
        /// The distance between neighbours.
        scale: f64,
        /// The integer that stands for 0.
        zero_point: i64,
    },
    /// One scale and zero point for each index of a dimension: `torch.per_channel_affine`.
    PerChannel {
        /// The distances between neighbours, one-dimensional.
        scales: Arc<StoredTensor>,
        /// The integers, or floats, that stand for 0, one-dimensional.
        zero_points: Arc<StoredTensor>,
        /// The dimension.
        axis: usize,
        /// Whether the file names the scheme `torch.per_channel_affine_float_qparams`.
        float_parameters: bool,
    },
}

/// What few tensors have beside their view.
#[derive(Clone, Default)]
pub(crate) struct Extra {
    pub(crate) kind: Kind,
    /// The Python class that it is of, if not plainly `Tensor` or `Parameter`, with its attributes.
    pub(crate) class: Option<Class>,
    /// The attributes of the parameter that it is.
    pub(crate) parameter_state: Option<Value>,
    /// Its backward hooks, if there are any.
    pub(crate) hooks: Option<Value>,
    /// The device that it goes to, where that is not its storage's.
    pub(crate) device: Option<Arc<str>>,
}

#[derive(Clone)]
pub(crate) struct Class {
    /// The class, or what names it.
    pub(crate) class: Value,
    /// The dict of its attributes, or that and a dict of its slots.
    pub(crate) state: Value,
}

#[derive(Clone, Default)]
pub(crate) enum Kind {
    #[default]
    Strided,
    Quantized(Quantizer),
    /// No strided view. The call that makes it in Python is kept as the file has it.
    Listed {
        layout: Layout,
        call: Arc<Object>,
    },
}

impl StoredTensor {
    /// How its elements are kept. Only those of [`Layout::Strided`] can be read; other tensors are listed and saved.
    pub fn layout(&self) -> Layout {
        match self.extra().map(|extra| &extra.kind) {
            Some(Kind::Listed { layout, .. }) => *layout,
            _ => Layout::Strided,
        }
    }

    /// How its integers stand for numbers, if it is quantized. [`to`](Self::to) gives the numbers.
    pub fn quantizer(&self) -> Option<&Quantizer> {
        match &self.extra()?.kind {
            Kind::Quantized(quantizer) => Some(quantizer),
            _ => None,
        }
    }

    /// Whether there are elements to read.
    pub(crate) fn has_data(&self) -> bool {
        self.layout() == Layout::Strided
    }

    /// The device that it was saved from: its storage's, as a rule.
    pub fn location(&self) -> &str {
        self.extra().and_then(|extra| extra.device.as_deref()).unwrap_or(self.storage().location())
    }

    /// The qualified name of its Python class, where that is not plainly `torch.Tensor` or `Parameter`.
    pub fn class(&self) -> Option<&str> {
        match &self.extra()?.class.as_ref()?.class {
            Value::Global(name) => Some(name),
            _ => None,
        }
    }

    /// Whether it has backward hooks, which nothing here runs.
    pub fn has_hooks(&self) -> bool {
        self.extra().is_some_and(|extra| extra.hooks.is_some())
    }

    /// The attribute called `name` that was set on it in Python: `tensor.name = ...`.
    pub fn attribute(&self, name: &str) -> Option<&Value> {
        let extra = self.extra()?;
        let states = [extra.parameter_state.as_ref(), extra.class.as_ref().map(|class| &class.state)];
        states.into_iter().flatten().find_map(|state| match state {
            Value::Tuple(parts) => parts.iter().find_map(|part| part.get(name)),
            state => state.get(name),
        })
    }

    /// The tensors that it consists of, if it is not strided, and its scales and zero points, if it is quantized.
    pub fn parts(&self) -> Vec<&StoredTensor> {
        let mut parts = Vec::new();
        match self.extra().map(|extra| &extra.kind) {
            Some(Kind::Quantized(Quantizer::PerChannel { scales, zero_points, .. })) => {
                parts.extend([&**scales, &**zero_points]);
            }
            Some(Kind::Listed { call, .. }) => call.args.iter().for_each(|arg| tensors(arg, 0, &mut parts)),
            _ => {}
        }
        parts
    }

    /// What it is, in a few words: `sparse_coo float32 [3, 3]`.
    pub fn describe(&self) -> String {
        let (dtype, shape) = (self.dtype(), self.shape());
        match self.layout() {
            Layout::Strided if self.quantizer().is_some() => format!("quantized {dtype} {shape}"),
            Layout::Strided => format!("{dtype} {shape}"),
            Layout::Subclass => format!("{} {dtype} {shape}", self.class().unwrap_or("subclass")),
            layout => format!("{layout} {dtype} {shape}"),
        }
    }

    /// What it is that no model computes with, and what can be done about it; `None` for a tensor that runs.
    pub(crate) fn refusal(&self) -> Option<(String, &'static str)> {
        let dtype = self.dtype();
        Some(match self.layout() {
            Layout::Strided if self.quantizer().is_some() => {
                (format!("a quantized {dtype} tensor"), "convert it to `float32` first: that dequantizes it")
            }
            Layout::Strided if dtype.is_runnable() => return None,
            Layout::Strided if dtype.is_complex() => {
                (format!("a {dtype} tensor"), "save its real and imaginary parts: `torch.view_as_real`")
            }
            Layout::Strided => (format!("a {dtype} tensor"), "convert it to `float32` first"),
            Layout::Meta => ("a meta tensor, which has no data".into(), "save the model with its weights"),
            Layout::Nested | Layout::Jagged => {
                (format!("a {} tensor", self.layout()), "save its parts, from `unbind()`, in PyTorch")
            }
            Layout::Subclass => (
                format!("a `{}`, which keeps its data in other tensors", self.class().unwrap_or("tensor subclass")),
                "save it as a plain tensor in PyTorch",
            ),
            sparse => (format!("a {sparse} tensor"), "save its `to_dense()` in PyTorch"),
        })
    }

    /// The error of using it in a model, under its name there; none for a tensor that runs.
    pub(crate) fn check_runnable(&self, name: &str) -> Result<(), Error> {
        match self.refusal() {
            None => Ok(()),
            Some((what, help)) => {
                Err(Error::unsupported(format!("`{name}` is {what}, which models cannot use")).help(help))
            }
        }
    }

    /// The error of reading elements where there are none.
    pub(super) fn no_data(&self) -> Error {
        let (what, help) = self.refusal().unwrap_or_default();
        Error::unsupported(format!("{what}: it has no elements that can be read")).help(help)
    }

    /// The call that makes it in Python, as `torch.save` writes it. Reading what it says gives this tensor again.
    pub(crate) fn reduce(&self) -> Object {
        let extra = self.extra();
        let state = extra.and_then(|extra| extra.parameter_state.clone());
        if !self.is_parameter() {
            return self.reduce_data(self.requires_grad());
        }
        let data = self.reduce_data(false);
        let name = if state.is_some() { "_rebuild_parameter_with_state" } else { "_rebuild_parameter" };
        let mut args = vec![Value::from(data), self.requires_grad().into(), self.hooks()];
        args.extend(state);
        call(&format!("torch._utils.{name}"), args)
    }

    /// The call that makes it, were it not a parameter.
    fn reduce_data(&self, requires_grad: bool) -> Object {
        let extra = self.extra();
        if let Some(Kind::Listed { call, .. }) = extra.map(|extra| &extra.kind) {
            return (**call).clone();
        }
        let plain = self.reduce_view(requires_grad);
        match extra.and_then(|extra| extra.class.as_ref()) {
            None => plain,
            Some(Class { class, state }) => call(
                "torch._tensor._rebuild_from_type_v2",
                vec![plain.callee, class.clone(), Value::Tuple(plain.args.into()), state.clone()],
            ),
        }
    }

    fn reduce_view(&self, requires_grad: bool) -> Object {
        let dtype = self.dtype();
        let tuple = |sizes: &[usize]| Value::Tuple(sizes.iter().map(|&size| Value::Int(size as i64)).collect());
        let storage = Value::Storage(Arc::clone(self.storage()), Some(dtype).filter(|dtype| dtype.has_storage_class()));
        let mut args = vec![storage, Value::Int(self.offset() as i64), tuple(self.shape()), tuple(self.stride())];
        if let Some(quantizer) = self.quantizer() {
            args.extend([quantizer.parameters(), requires_grad.into(), self.hooks()]);
            return call("torch._utils._rebuild_qtensor", args);
        }
        args.extend([requires_grad.into(), self.hooks()]);
        let mut name = "torch._utils._rebuild_tensor_v2";
        if !dtype.has_storage_class() {
            name = "torch._utils._rebuild_tensor_v3";
            args.push(dtype.into());
        }
        let (conj, neg) = self.bits();
        if conj || neg {
            let bits = [("conj", conj), ("neg", neg)].into_iter().filter(|(_, bit)| *bit);
            args.push(bits.map(|(name, bit)| (name, Value::Bool(bit))).collect::<Dict>().into());
        }
        call(name, args)
    }

    fn hooks(&self) -> Value {
        self.extra()
            .and_then(|extra| extra.hooks.clone())
            .unwrap_or_else(|| Dict::new(DictKind::OrderedDict, []).into())
    }
}

impl Quantizer {
    /// The tuple that `_rebuild_qtensor` takes.
    fn parameters(&self) -> Value {
        let scheme = |name: &str| Value::Global(format!("torch.{name}").into());
        Value::Tuple(match self {
            Quantizer::PerTensor { scale, zero_point } => {
                [scheme("per_tensor_affine"), Value::Float(*scale), Value::Int(*zero_point)].into()
            }
            Quantizer::PerChannel { scales, zero_points, axis, float_parameters } => [
                scheme(if *float_parameters { "per_channel_affine_float_qparams" } else { "per_channel_affine" }),
                Value::Tensor(Arc::clone(scales)),
                Value::Tensor(Arc::clone(zero_points)),
                Value::Int(*axis as i64),
            ]
            .into(),
        })
    }
}

fn call(function: &str, args: Vec<Value>) -> Object {
    Object::call(Value::Global(function.into()), args)
}

/// The tensors in the arguments of a call that makes a tensor.
fn tensors<'a>(value: &'a Value, depth: usize, found: &mut Vec<&'a StoredTensor>) {
    const DEEPEST: usize = 4;
    const MOST: usize = 32;
    if depth > DEEPEST || found.len() >= MOST {
        return;
    }
    match value {
        Value::Tensor(tensor) => found.push(tensor),
        Value::Tuple(items) => items.iter().for_each(|item| tensors(item, depth + 1, found)),
        Value::Dict(dict) => dict.values().for_each(|item| tensors(item, depth + 1, found)),
        _ => {}
    }
}

/// Whether PyTorch has a storage class of this dtype; tensors of the others are saved with untyped storages.
impl DType {
    pub(crate) fn has_storage_class(self) -> bool {
        crate::checkpoint::pickle::storage_class(self).is_some()
    }
}
