//! Finding the state dict inside what a file holds.

use super::StateDict;
use crate::checkpoint::{Checkpoint, Dict, Value};
use crate::error::{Error, ErrorKind, Result};

/// How many state dicts, or keys, an error lists.
const SHOWN: usize = 20;

impl Checkpoint {
    /// The one state dict in the file: what was saved itself, or the only one under some key of it, as
    /// `model_state_dict`.
    ///
    /// A state dict is a dict of tensors whose keys are strings. The states of optimizers are not looked into.
    ///
    /// ```no_run
    /// let state = sconce::load("resnet18.pth")?.state_dict()?;
    /// for (name, tensor) in state.iter() {
    ///     println!("{name} {}", tensor.shape());
    /// }
    /// # Ok::<(), sconce::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::StateDict`] when there is none, or more than one: [`Checkpoint::state_dict_at`] then says which.
    pub fn state_dict(&self) -> Result<StateDict> {
        StateDict::try_from(self.root()).map_err(|error| error.context(format_args!("`{}`", self.name())))
    }

    /// The state dict under a key of what was saved. Keys of nested dicts have a dot between them:
    /// `ema.state_dict`.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] when there is no such key, [`ErrorKind::StateDict`] when there is no state dict under it.
    pub fn state_dict_at(&self, key: &str) -> Result<StateDict> {
        let context = |error: Error| error.context(format_args!("`{}`", self.name()));
        let value = value_at(self.root(), key).ok_or_else(|| {
            let error = Error::not_found(format!("there is no key `{key}`"));
            context(match list(keys(self.root(), "")) {
                Some(keys) => error.help(format!("there is {keys}")),
                None => error,
            })
        })?;
        StateDict::try_from(value).map_err(|error| context(error.context(format_args!("key `{key}`"))))
    }
}

impl TryFrom<&Value> for StateDict {
    type Error = Error;

    /// The one state dict in a value: see [`Checkpoint::state_dict`].
    fn try_from(value: &Value) -> Result<Self> {
        let mut found = Vec::new();
        find(value, "", &mut found);
        match found.as_slice() {
            [(_, dict)] => Ok(Self::from_dict(dict)),
            [] => Err(none(value)),
            several => {
                let names = list(several.iter().map(|(key, _)| key.clone()).collect()).unwrap_or_default();
                let message = format!("it holds {} state dicts", several.len());
                Err(Error::new(ErrorKind::StateDict, message).help(format!("choose one by its key: {names}")))
            }
        }
    }
}

impl StateDict {
    /// The tensors of a dict, and the module versions of its `_metadata`.
    fn from_dict(dict: &Dict) -> Self {
        let tensors = dict.iter().filter_map(|(key, value)| match (key, value) {
            (Value::Str(name), Value::Tensor(tensor)) => Some((name.to_string(), (**tensor).clone())),
            _ => None,
        });
        let state: Self = tensors.collect();
        let Some(Value::Dict(metadata)) = dict.attributes().and_then(|attributes| attributes.get("_metadata")) else {
            return state;
        };
        state.with_versions(metadata.iter().filter_map(|(module, entry)| match (module, entry.get("version")) {
            (Value::Str(module), Some(Value::Int(version))) => Some((module.to_string(), *version)),
            _ => None,
        }))
    }
}

/// Whether it is a module's state dict: tensors by name. `_extra_state` may be anything.
fn is_state_dict(dict: &Dict) -> bool {
    dict.values().any(|value| matches!(value, Value::Tensor(_)))
        && dict.iter().all(|(key, value)| match key {
            Value::Str(name) => matches!(value, Value::Tensor(_)) || name.ends_with("_extra_state"),
            _ => false,
        })
}

/// Adds the state dicts in `value` with their keys, the outermost only.
fn find<'a>(value: &'a Value, path: &str, found: &mut Vec<(String, &'a Dict)>) {
    let Value::Dict(dict) = value else { return };
    if is_state_dict(dict) {
        found.push((path.to_owned(), dict));
    } else if dict.get("param_groups").is_none() {
        for (key, value) in dict.iter() {
            if let Value::Str(name) = key {
                find(value, &join(path, name), found);
            }
        }
    }
}

/// The value under `key`, which may itself have dots in it at any level.
fn value_at<'a>(value: &'a Value, key: &str) -> Option<&'a Value> {
    let dots = key.match_indices('.').map(|(at, _)| at);
    value.get(key).or_else(|| dots.into_iter().find_map(|at| value_at(value.get(&key[..at])?, &key[at + 1..])))
}

/// The error of a value without a state dict.
fn none(value: &Value) -> Error {
    let error = |message: String| Error::new(ErrorKind::StateDict, message);
    match value {
        Value::Dict(dict) if dict.is_empty() => error("it holds an empty dict, a state dict is expected".into()),
        Value::Dict(dict) if dict.values().any(|value| matches!(value, Value::Tensor(_))) => {
            let other = dict.iter().find(|(key, value)| !matches!((key, value), (Value::Str(_), Value::Tensor(_))));
            let (key, value) = other.expect("otherwise it is a state dict");
            error(format!("it holds no state dict: under {key} is {}, a tensor is expected", value.describe()))
        }
        Value::Dict(_) => {
            let error = error("it holds no state dict: no dict in it has tensors by name".into());
            match list(keys(value, "")) {
                Some(keys) => error.help(format!("it has {keys}")),
                None => error,
            }
        }
        Value::Object(_) => error(format!("it holds {}, a state dict is expected", value.describe()))
            .help("save `model.state_dict()` in Python: a pickled model runs only with its own source code"),
        other => error(format!("it holds {}, a state dict is expected", other.describe())),
    }
}

/// The string keys of a dict.
fn keys(value: &Value, path: &str) -> Vec<String> {
    let Value::Dict(dict) = value else { return Vec::new() };
    let names = dict.keys().filter_map(|key| if let Value::Str(name) = key { Some(join(path, name)) } else { None });
    names.collect()
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// The first of the names, in backticks.
fn list(names: Vec<String>) -> Option<String> {
    let more = names.len().saturating_sub(SHOWN);
    let shown = names.iter().take(SHOWN).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    match (names.is_empty(), more) {
        (true, _) => None,
        (false, 0) => Some(shown),
        (false, more) => Some(format!("{shown} and {more} more")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::{DictKind, StoredTensor};
    use crate::dtype::DType;

    fn tensor() -> Value {
        StoredTensor::from_bytes(DType::F32, [1], vec![0; 4]).unwrap().into()
    }

    fn dict(entries: Vec<(&str, Value)>) -> Value {
        entries.into_iter().collect::<Dict>().into()
    }

    fn weights() -> Value {
        dict(vec![("fc.weight", tensor()), ("fc.bias", tensor())])
    }

    fn names(value: &Value) -> Vec<String> {
        StateDict::try_from(value).unwrap().names().map(String::from).collect()
    }

    fn error(value: &Value) -> String {
        StateDict::try_from(value).unwrap_err().to_string()
    }

    /// What a training script saves; the optimizer's state has dicts of tensors, too.
    fn training() -> Value {
        let moments = dict(vec![("exp_avg", tensor()), ("exp_avg_sq", tensor())]);
        let optimizer = dict(vec![("state", dict(vec![("fc.weight", moments)])), ("param_groups", vec![1i64].into())]);
        dict(vec![("epoch", Value::Int(3)), ("optimizer", optimizer), ("model_state_dict", weights())])
    }

    #[test]
    fn finds_the_only_one() {
        assert_eq!(names(&weights()), ["fc.weight", "fc.bias"]);
        assert_eq!(names(&training()), ["fc.weight", "fc.bias"]);
        let extra = dict(vec![("fc.weight", tensor()), ("fc._extra_state", Value::Int(7))]);
        assert_eq!(names(&extra), ["fc.weight"]);
    }

    #[test]
    fn lists_several() {
        let two = dict(vec![("model", weights()), ("ema", dict(vec![("state", weights())]))]);
        assert_eq!(error(&two), "it holds 2 state dicts\n  help: choose one by its key: `model`, `ema.state`");
    }

    #[test]
    fn says_what_is_there_instead() {
        assert!(error(&Value::Int(3)).contains("it holds the integer 3, a state dict is expected"));
        assert!(error(&dict(vec![])).contains("an empty dict"));
        let mixed = dict(vec![("weight", tensor()), ("epoch", Value::Int(3))]);
        assert!(error(&mixed).contains("epoch") && error(&mixed).contains("the integer 3"), "{}", error(&mixed));
        let numbers = dict(vec![("epoch", Value::Int(3)), ("loss", Value::Float(0.5))]);
        assert!(error(&numbers).ends_with("help: it has `epoch`, `loss`"), "{}", error(&numbers));
        let integers = Value::from(Dict::new(DictKind::Dict, [(Value::Int(0), tensor())]));
        assert!(error(&integers).contains("no state dict"), "{}", error(&integers));
    }

    #[test]
    fn keys_may_have_dots() {
        let nested = dict(vec![("a.b", dict(vec![("c", weights())])), ("a", dict(vec![("d", Value::Int(1))]))]);
        assert!(value_at(&nested, "a.b.c").is_some_and(|value| names(value) == ["fc.weight", "fc.bias"]));
        assert!(value_at(&nested, "a.d").is_some());
        assert!(value_at(&nested, "a.b.d").is_none() && value_at(&nested, "").is_none());
    }

    #[test]
    fn keeps_module_versions() {
        let mut state: Dict = [("bn.weight", tensor())].into_iter().collect();
        let version = dict(vec![("bn", dict(vec![("version", Value::Int(2))]))]);
        state.attributes = Some(dict(vec![("_metadata", version)]));
        assert_eq!(StateDict::try_from(&state.into()).unwrap().version("bn"), Some(2));
    }
}
