//! Reading hyper-parameters.

use super::StoredModule;
use crate::checkpoint::Value;
use crate::error::{Error, Result};
use crate::nn::Dims;

/// Sizes beyond this are no layer's; products of a few sizes that pass do not overflow.
const LARGEST: i64 = 1 << 30;

impl StoredModule {
    fn required(&self, name: &str) -> Result<&Value> {
        self.attribute(name).ok_or_else(|| Error::invalid(format!("`{name}` is missing")))
    }

    /// An argument as it is read by `read`; `default` where the file is older than the argument.
    pub(super) fn or<T>(&self, name: &str, default: T, read: impl FnOnce(&Self, &str) -> Result<T>) -> Result<T> {
        if self.attribute(name).is_some() { read(self, name) } else { Ok(default) }
    }

    /// An argument that may be `None`.
    pub(super) fn optional<T>(&self, name: &str, read: impl FnOnce(&Self, &str) -> Result<T>) -> Result<Option<T>> {
        match self.attribute(name) {
            None | Some(Value::None) => Ok(None),
            Some(_) => read(self, name).map(Some),
        }
    }

    pub(super) fn boolean(&self, name: &str) -> Result<bool> {
        named(name, self.required(name)?.as_bool())
    }

    pub(super) fn float(&self, name: &str) -> Result<f64> {
        named(name, self.required(name)?.as_f64())
    }

    pub(super) fn string(&self, name: &str) -> Result<&str> {
        named(name, self.required(name)?.as_str())
    }

    /// An integer, negative or not.
    pub(super) fn int(&self, name: &str) -> Result<isize> {
        named(name, int(self.required(name)?)).map(|int| int as isize)
    }

    pub(super) fn size(&self, name: &str) -> Result<usize> {
        named(name, size(self.required(name)?))
    }

    /// A tuple, list or `torch.Size` of sizes.
    pub(super) fn sizes(&self, name: &str) -> Result<Vec<usize>> {
        named(name, sizes(self.required(name)?))
    }

    /// A tuple or list of integers, negative or not.
    pub(super) fn ints(&self, name: &str) -> Result<Vec<isize>> {
        let items = match self.required(name)? {
            Value::Size(shape) => return Ok(shape.iter().map(|&size| size as isize).collect()),
            // One with a -1 in it is no shape.
            Value::Object(object) if object.class() == "torch.Size" && object.args().len() == 1 => {
                named(name, object.args()[0].as_list())?
            }
            value => named(name, value.as_list())?,
        };
        items.iter().map(|item| named(name, int(item)).map(|int| int as isize)).collect()
    }

    /// One size for all dimensions, or one for each.
    pub(super) fn dims<const N: usize>(&self, name: &str) -> Result<Dims<N>> {
        match self.required(name)? {
            value @ (Value::Tuple(_) | Value::List(_) | Value::Size(_)) => each(name, named(name, sizes(value))?),
            value => Ok(named(name, size(value))?.into()),
        }
    }

    /// The same where `None` stands for the input's size.
    pub(super) fn output_size<const N: usize>(&self, name: &str) -> Result<Dims<N, Option<usize>>> {
        let one = |value: &Value| if value.is_none() { Ok(None) } else { size(value).map(Some) };
        match self.required(name)? {
            Value::None => Ok([None; N].into()),
            value @ (Value::Tuple(_) | Value::List(_)) => {
                let sizes = named(name, value.as_list()?.iter().map(one).collect::<Result<Vec<_>>>())?;
                let sizes: [Option<usize>; N] = sizes.try_into().map_err(|_| wrong_length(name, N))?;
                Ok(sizes.into())
            }
            value => Ok(named(name, size(value))?.into()),
        }
    }

    /// An error unless the argument lacks or is `expected`: others compute what this crate does not.
    pub(super) fn only(&self, name: &str, expected: &Value) -> Result<()> {
        let given = match self.attribute(name) {
            None => return Ok(()),
            Some(given) => given,
        };
        let is_same = match (given, expected) {
            (Value::None, Value::None) => true,
            (Value::Bool(a), Value::Bool(b)) => a == b,
            _ => false,
        };
        match is_same {
            true => Ok(()),
            false => Err(Error::unsupported(format!("`{name}` is {given}, only {expected} runs"))),
        }
    }
}

fn named<T>(name: &str, value: Result<T>) -> Result<T> {
    value.map_err(|error| error.context(format_args!("`{name}`")))
}

fn int(value: &Value) -> Result<i64> {
    let int = value.as_i64()?;
    if (-LARGEST..=LARGEST).contains(&int) {
        return Ok(int);
    }
    Err(Error::invalid(format!("{int} is out of range")))
}

fn size(value: &Value) -> Result<usize> {
    let int = int(value)?;
    usize::try_from(int).map_err(|_| Error::unsupported(format!("{int} is negative")))
}

fn sizes(value: &Value) -> Result<Vec<usize>> {
    match value {
        Value::Size(shape) => shape.iter().map(|&x| size(&Value::Int(i64::try_from(x).unwrap_or(i64::MAX)))).collect(),
        value => value.as_list()?.iter().map(size).collect(),
    }
}

fn each<const N: usize>(name: &str, sizes: Vec<usize>) -> Result<Dims<N>> {
    let sizes: [usize; N] = sizes.try_into().map_err(|_| wrong_length(name, N))?;
    Ok(sizes.into())
}

fn wrong_length(name: &str, expected: usize) -> Error {
    Error::invalid(format!("`{name}` has not {expected} sizes"))
}
