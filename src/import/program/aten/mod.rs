//! The operations of ATen: a function for each overload, a file for each family, and the arguments as they read them.
//!
//! A function is found by the overload's name, such as `aten.conv2d.default`; an in-place one, such as
//! `aten.relu_.default`, by that of its counterpart, whose result is then written.

mod arrange;
mod attention;
mod bits;
mod conv;
mod copy;
mod create;
mod gather;
mod linear;
mod math;
mod norm;
mod order;
mod pointwise;
mod pool;
mod reduce;
mod rnn;
mod sample;
mod scan;
mod scatter;
mod shape;
mod sym;

use super::alias::{Handle, ViewOp};
use super::build::{Build, Value};
use super::schema::{Arg, Node, Sym};
use super::value::X;
use crate::dtype::DType;
use crate::error::{Error, Result};

/// What an operation gives.
pub(super) enum Out {
    /// A tensor with memory of its own, the first result if there are several.
    X(X),
    Xs(Vec<X>),
    /// A view of a tensor.
    View(Handle, Vec<ViewOp>),
    Views(Handle, Vec<Vec<ViewOp>>),
    Value(Value),
    Nothing,
}

type Function = fn(&mut Call<'_, '_>) -> Result<Out>;

/// How an operation is done.
pub(super) struct Handler {
    function: Function,
    /// Whether the result is written to `self`.
    in_place: bool,
}

/// One operation with its arguments.
pub(super) struct Call<'b, 'a> {
    pub(super) build: &'b mut Build<'a>,
    pub(super) node: &'a Node,
}

/// The operations that hold a graph which runs as it stands, with the number of the first operand.
pub(super) fn block(target: &str) -> Option<usize> {
    match target {
        "higher_order.wrap_with_set_grad_enabled" => Some(2),
        "higher_order.wrap_with_autocast" => Some(5),
        _ => None,
    }
}

pub(super) fn is_supported(target: &str) -> bool {
    block(target).is_some() || find(target).is_some()
}

pub(super) fn find(target: &str) -> Option<Handler> {
    if let Some(function) = find_function(target) {
        return Some(Handler { function, in_place: false });
    }
    let (name, overload) = target.rsplit_once('.')?;
    // `x &= y` is `__iand__`, others end with `_`.
    let name = match name.strip_prefix("aten.__i").filter(|name| name.ends_with("__")) {
        Some(name) => format!("aten.__{name}"),
        None => name.strip_suffix('_')?.to_string(),
    };
    let function = find_function(&format!("{name}.{overload}"))?;
    Some(Handler { function, in_place: true })
}

fn find_function(target: &str) -> Option<Function> {
    let families = [
        linear::find,
        conv::find,
        norm::find,
        bits::find,
        pointwise::find,
        math::find,
        shape::find,
        arrange::find,
        pool::find,
        reduce::find,
        attention::find,
        gather::find,
        sample::find,
        scatter::find,
        order::find,
        rnn::find,
        scan::find,
        create::find,
        copy::find,
        sym::find,
    ];
    families.iter().find_map(|find| find(target))
}

impl Handler {
    pub(super) fn run(&self, call: &mut Call<'_, '_>) -> Result<Out> {
        let out = (self.function)(call)?;
        if !self.in_place {
            return Ok(out);
        }
        let target = call.handle("self").or_else(|_| call.handle("input"))?;
        match out {
            Out::X(x) => {
                let before = call.build.read(&target)?;
                let shape = call.build.shape(&before);
                let x = call.build.cast(&x, before.dtype)?;
                if call.build.shape(&x) != shape {
                    return Err(Error::shape(format!("an in-place result does not fit {shape:?}")));
                }
                call.build.write(&target, x)?;
                Ok(Out::View(target, vec![]))
            }
            // Nothing was computed (dropout in eval mode, `detach_`), or the shape alone: the result is what is used.
            Out::View(handle, views) => Ok(Out::View(handle, views)),
            _ => Err(Error::unsupported("an operation in place with several results")),
        }
    }
}

impl Call<'_, '_> {
    fn arg(&self, name: &str) -> Option<&Arg> {
        self.node.args.iter().find(|(own, _)| own == name).map(|(_, arg)| arg).filter(|arg| !matches!(arg, Arg::None))
    }

    fn missing(name: &str) -> Error {
        Error::invalid(format!("the argument `{name}` is missing"))
    }

    fn wrong(name: &str, arg: &Arg) -> Error {
        Error::unsupported(format!("the argument `{name}` is {arg:?}"))
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.arg(name).is_some()
    }

    /// A tensor that may be written, or seen through a view.
    pub(super) fn handle(&mut self, name: &str) -> Result<Handle> {
        let node = self.node;
        match node.args.iter().find(|(own, _)| own == name) {
            Some((_, Arg::Tensor(tensor))) => self.build.handle(tensor),
            Some((_, arg)) => Err(Self::wrong(name, arg)),
            None => Err(Self::missing(name)),
        }
    }

    /// The name of the tensor that an argument is.
    pub(super) fn tensor_name(&self, name: &str) -> Result<&str> {
        match self.arg(name) {
            Some(Arg::Tensor(tensor)) => Ok(tensor),
            Some(arg) => Err(Self::wrong(name, arg)),
            None => Err(Self::missing(name)),
        }
    }

    /// A tensor or a number.
    pub(super) fn x(&mut self, name: &str) -> Result<X> {
        self.opt_x(name)?.ok_or_else(|| Self::missing(name))
    }

    /// A tensor or a number, unless it is None.
    pub(super) fn opt_x(&mut self, name: &str) -> Result<Option<X>> {
        let node = self.node;
        let Some((_, arg)) = node.args.iter().find(|(own, _)| own == name) else { return Ok(None) };
        Ok(Some(match arg {
            Arg::None => return Ok(None),
            Arg::Tensor(tensor) | Arg::Sym(tensor) => match self.build.value(tensor)? {
                Value::Tensor(handle) => self.build.read(&handle)?,
                Value::Int(value) => X::int(value),
                Value::Float(value) => X::number(value, DType::F32),
                Value::Bool(value) => X::number(f64::from(u8::from(value)), DType::Bool),
                Value::None | Value::Missing(_) => return Ok(None),
            },
            Arg::Int(value) => X::int(*value),
            Arg::Float(value) => X::number(*value, DType::F64),
            Arg::Bool(value) => X::number(f64::from(u8::from(*value)), DType::Bool),
            other => return Err(Self::wrong(name, other)),
        }))
    }

    /// Tensors, some of which may be None.
    pub(super) fn opt_xs(&mut self, name: &str) -> Result<Vec<Option<X>>> {
        let node = self.node;
        match node.args.iter().find(|(own, _)| own == name) {
            Some((_, Arg::Tensors(names))) => names
                .iter()
                .map(|name| match name {
                    Some(name) => {
                        let handle = self.build.handle(name)?;
                        self.build.read(&handle).map(Some)
                    }
                    None => Ok(None),
                })
                .collect(),
            Some((_, arg)) => Err(Self::wrong(name, arg)),
            None => Err(Self::missing(name)),
        }
    }

    pub(super) fn xs(&mut self, name: &str) -> Result<Vec<X>> {
        self.opt_xs(name)?.into_iter().map(|x| x.ok_or_else(|| Self::missing(name))).collect()
    }

    fn sym(&mut self, name: &str) -> Result<i64> {
        match self.build.value(name)? {
            Value::Int(value) => Ok(value),
            Value::Bool(value) => Ok(value.into()),
            other => Err(Error::unsupported(format!("`{name}` is no integer, but {other:?}"))),
        }
    }

    pub(super) fn opt_int(&mut self, name: &str) -> Result<Option<i64>> {
        let node = self.node;
        match node.args.iter().find(|(own, _)| own == name).map(|(_, arg)| arg) {
            None | Some(Arg::None) => Ok(None),
            Some(Arg::Int(value)) => Ok(Some(*value)),
            Some(Arg::Bool(value)) => Ok(Some((*value).into())),
            Some(Arg::Sym(sym)) => self.sym(sym).map(Some),
            Some(arg) => Err(Self::wrong(name, arg)),
        }
    }

    pub(super) fn int(&mut self, name: &str) -> Result<i64> {
        self.opt_int(name)?.ok_or_else(|| Self::missing(name))
    }

    pub(super) fn int_or(&mut self, name: &str, default: i64) -> Result<i64> {
        Ok(self.opt_int(name)?.unwrap_or(default))
    }

    pub(super) fn opt_ints(&mut self, name: &str) -> Result<Option<Vec<i64>>> {
        let node = self.node;
        match node.args.iter().find(|(own, _)| own == name).map(|(_, arg)| arg) {
            None | Some(Arg::None) => Ok(None),
            Some(Arg::Ints(all)) => all
                .iter()
                .map(|item| match item {
                    Sym::Int(value) => Ok(*value),
                    Sym::Name(name) => self.sym(name),
                })
                .collect::<Result<_>>()
                .map(Some),
            // An empty list has no kind.
            Some(Arg::Tensors(none)) if none.is_empty() => Ok(Some(vec![])),
            Some(Arg::Int(value)) => Ok(Some(vec![*value])),
            Some(Arg::Sym(sym)) => Ok(Some(vec![self.sym(sym)?])),
            Some(arg) => Err(Self::wrong(name, arg)),
        }
    }

    pub(super) fn ints(&mut self, name: &str) -> Result<Vec<i64>> {
        self.opt_ints(name)?.ok_or_else(|| Self::missing(name))
    }

    /// Sizes, of which one may stand for all.
    pub(super) fn sizes<const N: usize>(&mut self, name: &str, default: usize) -> Result<[usize; N]> {
        let Some(given) = self.opt_ints(name)?.filter(|given| !given.is_empty()) else { return Ok([default; N]) };
        let size = |i: usize| {
            let value = if given.len() == 1 { given[0] } else { *given.get(i)? };
            usize::try_from(value).ok()
        };
        let sizes: Option<Vec<usize>> = (0..N).map(size).collect();
        let sizes = sizes.filter(|_| given.len() == 1 || given.len() == N);
        let sizes = sizes.ok_or_else(|| Error::invalid(format!("the argument `{name}` is {given:?}")))?;
        Ok(sizes.try_into().expect("N sizes"))
    }

    pub(super) fn shape(&mut self, name: &str) -> Result<Vec<usize>> {
        let ints = self.ints(name)?;
        let size = |&size: &i64| usize::try_from(size).map_err(|_| Error::shape(format!("`{name}` is {ints:?}")));
        checked(ints.iter().map(size).collect::<Result<_>>()?)
    }

    pub(super) fn opt_float(&mut self, name: &str) -> Result<Option<f64>> {
        let node = self.node;
        match node.args.iter().find(|(own, _)| own == name).map(|(_, arg)| arg) {
            None | Some(Arg::None) => Ok(None),
            Some(Arg::Float(value)) => Ok(Some(*value)),
            Some(Arg::Int(value)) => Ok(Some(*value as f64)),
            Some(Arg::Bool(value)) => Ok(Some(f64::from(u8::from(*value)))),
            Some(Arg::Sym(sym)) => match self.build.value(sym)? {
                Value::Float(value) => Ok(Some(value)),
                Value::Int(value) => Ok(Some(value as f64)),
                other => Err(Error::unsupported(format!("`{sym}` is no number, but {other:?}"))),
            },
            Some(arg) => Err(Self::wrong(name, arg)),
        }
    }

    pub(super) fn float(&mut self, name: &str) -> Result<f64> {
        self.opt_float(name)?.ok_or_else(|| Self::missing(name))
    }

    pub(super) fn float_or(&mut self, name: &str, default: f64) -> Result<f64> {
        Ok(self.opt_float(name)?.unwrap_or(default))
    }

    pub(super) fn bool_or(&mut self, name: &str, default: bool) -> Result<bool> {
        let node = self.node;
        match node.args.iter().find(|(own, _)| own == name).map(|(_, arg)| arg) {
            None | Some(Arg::None) => Ok(default),
            Some(Arg::Bool(value)) => Ok(*value),
            Some(Arg::Sym(sym)) => Ok(self.sym(sym)? != 0),
            Some(arg) => Err(Self::wrong(name, arg)),
        }
    }

    pub(super) fn str_or<'s>(&'s self, name: &str, default: &'s str) -> Result<&'s str> {
        match self.arg(name) {
            None => Ok(default),
            Some(Arg::Str(value)) => Ok(value),
            Some(arg) => Err(Self::wrong(name, arg)),
        }
    }

    pub(super) fn opt_dtype(&self, name: &str) -> Result<Option<DType>> {
        match self.arg(name) {
            None => Ok(None),
            Some(Arg::DType(dtype)) if dtype.is_runnable() => Ok(Some(*dtype)),
            Some(Arg::DType(dtype)) => Err(Error::unsupported(format!("{dtype} does not run"))),
            Some(arg) => Err(Self::wrong(name, arg)),
        }
    }

    /// A dimension of a tensor of so many dimensions.
    pub(super) fn dim_of(&mut self, name: &str, rank: usize, default: i64) -> Result<usize> {
        let dim = self.int_or(name, default)?;
        wrap_dim(dim, rank)
    }

    /// Dimensions, all of them when there are none.
    pub(super) fn dims_of(&mut self, name: &str, rank: usize) -> Result<Vec<usize>> {
        if rank == 0 {
            return Ok(vec![]);
        }
        let mut dims = match self.opt_ints(name)?.filter(|dims| !dims.is_empty()) {
            Some(dims) => dims.iter().map(|&dim| wrap_dim(dim, rank)).collect::<Result<Vec<_>>>()?,
            None => (0..rank).collect(),
        };
        dims.sort_unstable();
        Ok(dims)
    }
}

/// Sizes whose product fits everything that is computed from it.
pub(in crate::import::program) fn checked(sizes: Vec<usize>) -> Result<Vec<usize>> {
    let numel = sizes.iter().try_fold(1usize, |product, &size| product.checked_mul(size.max(1)));
    match numel {
        Some(numel) if numel <= i32::MAX as usize => Ok(sizes),
        _ => Err(Error::unsupported(format!("the shape {sizes:?} is too large"))),
    }
}

/// A dimension counted from the front.
pub(super) fn wrap_dim(dim: i64, rank: usize) -> Result<usize> {
    let size = rank as i64;
    let index = if dim < 0 { dim + size } else { dim };
    match (0..size).contains(&index) {
        true => Ok(index as usize),
        false => Err(Error::shape(format!("dimension {dim} is out of range for {rank} dimensions"))),
    }
}
