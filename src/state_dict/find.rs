//! Finding the state dicts in a checkpoint.

use std::collections::HashSet;
use std::sync::Arc;

use super::StateDict;
use crate::checkpoint::{Checkpoint, Dict, FREE_TEXT, Object, Value};
use crate::error::{Error, ErrorKind, Result};

/// Containers inside each other beyond which nothing is looked for.
const MAX_DEPTH: usize = 64;
/// Entries that are looked at for one state dict: dicts that share others make a small file say much.
const MAX_ENTRIES: usize = 200_000;

impl Checkpoint {
    /// The state dict that the file holds: the file's own dict, or the one inside it, under whatever key, which
    /// [`StateDict::key`] tells. A saved model counts as the state dict that it has.
    ///
    /// ```no_run
    /// let state = sconce::load("training.pth")?.state_dict()?;
    /// for (name, tensor) in state.iter() {
    ///     println!("{name} {}", tensor.shape());
    /// }
    /// # Ok::<(), sconce::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::StateDict`] when there is none, or when there are several, which the error lists:
    /// [`state_dict_at`](Self::state_dict_at) takes one of them.
    pub fn state_dict(&self) -> Result<StateDict> {
        StateDict::try_from(self.root()).map_err(|error| error.context(format_args!("`{}`", self.name())))
    }

    /// Every state dict that the file holds, with its [`key`](StateDict::key): several models of one file. All are
    /// views of the same mapping.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] when one has too many entries to be one.
    pub fn state_dicts(&self) -> Result<Vec<StateDict>> {
        let found = found(self.root()).into_iter().map(|(path, value)| collect(value, path));
        found.collect::<Result<_>>().map_err(|error| error.context(format_args!("`{}`", self.name())))
    }

    /// The state dict under a key: `"model_state_dict"`, `"nets.encoder"` for a key in a dict in a dict, `"nets[0]"` for an
    /// item of a list. The empty
    /// key is the whole file. Dicts inside it become part of the names: `encoder.weight`.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] when there is no such key, [`ErrorKind::StateDict`] when there is no tensor under it.
    pub fn state_dict_at(&self, key: &str) -> Result<StateDict> {
        state_dict_at(self.root(), key).map_err(|error| error.context(format_args!("`{}`", self.name())))
    }
}

impl TryFrom<&Value> for StateDict {
    type Error = Error;

    /// The one state dict in a value: see [`Checkpoint::state_dict`].
    fn try_from(root: &Value) -> Result<Self> {
        let found = found(root);
        match &found[..] {
            [] => Err(none(root)),
            [(path, value)] => collect(value, path.clone()),
            [(first, _), ..] => {
                let count = |(path, value): &(String, &Value)| {
                    format!("`{path}` ({} tensors)", collect(value, String::new()).map_or(0, |state| state.len()))
                };
                let keys = list(found.iter().map(count).collect());
                let message = format!("expected one state dict, found {}: {keys}", found.len());
                Err(Error::new(ErrorKind::StateDict, message)
                    .help(format!("name one: `checkpoint.state_dict_at(\"{first}\")`, `--key {first}`")))
            }
        }
    }
}

/// The state dicts inside a value: those that look like one, else those that have any tensor.
fn found(root: &Value) -> Vec<(String, &Value)> {
    let found = candidates(root, true);
    if found.is_empty() { candidates(root, false) } else { found }
}

/// The error of a value without a state dict.
fn none(value: &Value) -> Error {
    let error = Error::new(ErrorKind::StateDict, format!("expected a state dict, found {}", value.describe()));
    match value {
        Value::Dict(dict) if !dict.is_empty() => error.help(format!("its keys are {}", keys(dict))),
        Value::Object(_) => error.help("save `model.state_dict()` in Python"),
        _ => error,
    }
}

fn state_dict_at(root: &Value, key: &str) -> Result<StateDict> {
    let Some(value) = resolve(root, key) else {
        let error = Error::not_found(format!("there is no key `{key}` in {}", root.describe()));
        let paths: Vec<String> = candidates(root, true).into_iter().map(|(path, _)| format!("`{path}`")).collect();
        return Err(match root {
            _ if paths.iter().any(|path| path != "``") => error.help(format!("the state dicts are {}", list(paths))),
            Value::Dict(dict) if !dict.is_empty() => error.help(format!("the keys are {}", keys(dict))),
            _ => error,
        });
    };
    let state = collect(value, key.to_string())?;
    if state.is_empty() {
        return Err(none(value).context(format_args!("key `{key}`")));
    }
    Ok(state)
}

/// The keys of a dict, for messages.
pub(super) fn keys(dict: &Dict) -> String {
    list(
        dict.keys().map(|key| if let Value::Str(name) = key { format!("`{name}`") } else { key.to_string() }).collect(),
    )
}

/// The first of some names, for messages.
fn list(mut names: Vec<String>) -> String {
    const SHOWN: usize = 12;
    let more = names.len().saturating_sub(SHOWN);
    names.truncate(SHOWN);
    let more = if more > 0 { format!(" ... and {more} more") } else { String::new() };
    names.join(", ") + &more
}

/// The value under a path of keys with dots between them and positions in brackets, `nets[0].state`, or with dots too. Keys
/// may have dots and brackets themselves.
fn resolve<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    if path.is_empty() {
        return Some(value);
    }
    let step = |key: &str| value.get(key).or_else(|| value.get(&key.parse::<usize>().ok()?));
    let bracket = path.strip_prefix('[').and_then(|path| path.split_once(']'));
    let bracket = bracket.filter(|(position, _)| position.parse::<usize>().is_ok());
    let bracket = bracket.map(|(position, rest)| (position, rest.strip_prefix('.').unwrap_or(rest)));
    let splits =
        path.rmatch_indices(['.', '[']).map(|(at, mark)| (&path[..at], &path[at + usize::from(mark == ".")..]));
    std::iter::once((path, "")).chain(splits).chain(bracket).find_map(|(key, rest)| resolve(step(key)?, rest))
}

/// The state dicts inside a value, with their paths. A dict that has some inside it is not one itself. When `strict`,
/// most of a state dict's entries are tensors.
fn candidates(root: &Value, strict: bool) -> Vec<(String, &Value)> {
    let mut search = Search { strict, seen: HashSet::new(), found: Vec::new() };
    search.visit(root, "", 0);
    search.found
}

struct Search<'a> {
    strict: bool,
    seen: HashSet<*const Dict>,
    found: Vec<(String, &'a Value)>,
}

impl<'a> Search<'a> {
    fn visit(&mut self, value: &'a Value, path: &str, depth: usize) {
        if depth > MAX_DEPTH {
            return;
        }
        match value {
            Value::Dict(dict) => {
                // An optimizer's dicts hold tensors too; they are not a model's.
                let is_optimizer = dict.get("state").is_some() && dict.get("param_groups").is_some();
                if is_optimizer || !self.seen.insert(Arc::as_ptr(dict)) {
                    return;
                }
                let before = self.found.len();
                for (key, value) in dict.iter() {
                    if let (Value::Str(key), Value::Dict(_) | Value::List(_) | Value::Object(_)) = (key, value) {
                        self.visit(value, &join(path, key), depth + 1);
                    }
                }
                if self.found.len() == before && is_state_dict(dict, self.strict) {
                    self.found.push((path.to_string(), value));
                }
            }
            Value::List(items) => {
                // A list of plain numbers or tensors can be long and has no state dict.
                for (i, item) in items.iter().enumerate() {
                    if matches!(item, Value::Dict(_) | Value::Object(_)) {
                        self.visit(item, &format!("{path}[{i}]"), depth + 1);
                    }
                }
            }
            Value::Object(object) if is_module(object) => self.found.push((path.to_string(), value)),
            _ => {}
        }
    }
}

fn is_state_dict(dict: &Dict, strict: bool) -> bool {
    let (mut tensors, mut others) = (0, 0);
    for (key, value) in dict.iter() {
        match (key, value) {
            (Value::Str(_), Value::Tensor(_)) => tensors += 1,
            (Value::Str(key), _) if &**key == "_metadata" || key.ends_with("_extra_state") => {}
            _ => others += 1,
        }
    }
    tensors > 0 && (tensors > others || !strict)
}

/// Whether an object is an instance of a subclass of `nn.Module`.
fn is_module(object: &Object) -> bool {
    object.compiled().is_some_and(|module| is_module(module))
        || ["_parameters", "_buffers", "_modules"].iter().all(|name| matches!(object.get(name), Some(Value::Dict(_))))
}

/// The tensors in a value by dotted names, and the metadata of the modules. It was found under `key`.
fn collect(value: &Value, key: String) -> Result<StateDict> {
    let mut collector = Collector { state: StateDict { key, ..StateDict::new() }, visited: 0 };
    collector.add(value, &"".into(), 0)?;
    Ok(match value {
        Value::Dict(dict) => {
            let free_text = dict.attributes().and_then(|attributes| attributes.get(FREE_TEXT)).cloned();
            StateDict { free_text, ..collector.state.with_metadata(metadata(dict)) }
        }
        _ => collector.state,
    })
}

struct Collector {
    state: StateDict,
    visited: usize,
}

impl Collector {
    fn add(&mut self, value: &Value, name: &Arc<str>, depth: usize) -> Result<()> {
        self.visited += 1;
        if depth > MAX_DEPTH || self.visited > MAX_ENTRIES {
            return Err(Error::unsupported(format!(
                "a state dict of more than {MAX_ENTRIES} entries or nested more than {MAX_DEPTH} times"
            )));
        }
        match value {
            Value::Tensor(tensor) => {
                self.state.tensors.insert(Arc::clone(name), Arc::clone(tensor));
                Ok(())
            }
            Value::Dict(dict) => self.add_entries(dict, name, depth, |_, _| true),
            Value::Object(object) if is_module(object) => self.add_module(object, name, depth),
            _ => Ok(()),
        }
    }

    /// What `state_dict()` of a saved module would give.
    fn add_module(&mut self, object: &Object, name: &Arc<str>, depth: usize) -> Result<()> {
        if let Some(module) = object.compiled() {
            return self.add_module(module, &join(name, "_orig_mod").into(), depth + 1);
        }
        let skipped: HashSet<&str> = match object.get("_non_persistent_buffers_set") {
            Some(Value::Set(names)) => names.iter().filter_map(|name| name.as_str().ok()).collect(),
            _ => HashSet::new(),
        };
        for part in ["_parameters", "_buffers", "_modules"] {
            if let Some(Value::Dict(dict)) = object.get(part) {
                self.add_entries(dict, name, depth, |key, value| match value {
                    Value::Tensor(_) => part != "_modules" && !(part == "_buffers" && skipped.contains(key)),
                    Value::Object(_) => part == "_modules",
                    _ => false,
                })?;
            }
        }
        Ok(())
    }

    fn add_entries(
        &mut self,
        dict: &Dict,
        name: &Arc<str>,
        depth: usize,
        keep: impl Fn(&str, &Value) -> bool,
    ) -> Result<()> {
        self.state.tensors.reserve(dict.len());
        for (key, value) in dict.iter() {
            let Value::Str(key) = key else { continue };
            if keep(key, value) {
                let name = if name.is_empty() { Arc::clone(key) } else { join(name, key).into() };
                self.add(value, &name, depth + 1)?;
            }
        }
        Ok(())
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_string() } else { format!("{path}.{key}") }
}

/// What PyTorch saves about each module, as an attribute of the dict.
fn metadata(dict: &Dict) -> Vec<(String, Value)> {
    let metadata =
        dict.attributes().and_then(|attributes| attributes.get("_metadata")).or_else(|| dict.get("_metadata"));
    let Some(Value::Dict(metadata)) = metadata else { return Vec::new() };
    let named = metadata.iter().filter_map(|(module, entry)| match module {
        Value::Str(module) => Some((module.to_string(), entry.clone())),
        _ => None,
    });
    named.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::StoredTensor;
    use crate::dtype::DType;

    fn state_dict(value: &Value) -> Result<StateDict> {
        StateDict::try_from(value)
    }

    fn tensor() -> Value {
        StoredTensor::from_bytes(DType::U8, [1], vec![0]).unwrap().into()
    }

    fn dict<const N: usize>(entries: [(&str, Value); N]) -> Value {
        Dict::from_iter(entries).into()
    }

    fn weights() -> Value {
        dict([("fc.weight", tensor()), ("fc.bias", tensor())])
    }

    fn names(state: &StateDict) -> Vec<&str> {
        state.names().collect()
    }

    fn optimizer() -> Value {
        let moments = dict([("step", tensor()), ("exp_avg", tensor())]);
        dict([("state", Dict::from_iter([(0i64, moments)]).into()), ("param_groups", Value::from(vec![dict([])]))])
    }

    #[test]
    fn the_one_state_dict_is_found_wherever_it_is() {
        let training = dict([
            ("epoch", Value::Int(3)),
            ("loss", tensor()),
            ("best", tensor()),
            ("optimizer", optimizer()),
            ("callbacks", dict([("c", dict([("best", tensor()), ("path", "x".into()), ("mode", "min".into())]))])),
            ("model_state_dict", weights()),
        ]);
        let wrapped = |key: &str| dict([(key, weights())]);
        let roots = [
            ("", weights()),
            ("state_dict", wrapped("state_dict")),
            ("model", wrapped("model")),
            ("params_ema", wrapped("params_ema")),
            ("model_state_dict", training),
        ];
        for (key, root) in roots {
            let state = state_dict(&root).unwrap();
            assert_eq!((state.key(), names(&state)), (key, vec!["fc.weight", "fc.bias"]));
        }
        let loose = dict([("epoch", Value::Int(3)), ("lr", Value::Float(0.1)), ("weight", tensor())]);
        assert_eq!(names(&state_dict(&loose).unwrap()), ["weight"]);
    }

    #[test]
    fn several_are_listed_with_their_keys() {
        let root = dict([("nets", dict([("g", weights()), ("d", weights())])), ("ema", Value::from(vec![weights()]))]);
        assert_eq!(
            state_dict(&root).unwrap_err().to_string(),
            "expected one state dict, found 3: `nets.g` (2 tensors), `nets.d` (2 tensors), `ema[0]` (2 tensors)\n  \
             help: name one: `checkpoint.state_dict_at(\"nets.g\")`, `--key nets.g`"
        );
        for key in ["nets.g", "nets.d", "ema[0]"] {
            let state = state_dict_at(&root, key).unwrap();
            assert_eq!((state.key(), names(&state)), (key, vec!["fc.weight", "fc.bias"]));
        }
        assert_eq!(
            names(&state_dict_at(&root, "nets").unwrap()),
            ["g.fc.weight", "g.fc.bias", "d.fc.weight", "d.fc.bias"]
        );
        assert_eq!(
            state_dict_at(&root, "net").unwrap_err().to_string(),
            "there is no key `net` in a dict of 2 items\n  help: the state dicts are `nets.g`, `nets.d`, `ema[0]`"
        );
    }

    #[test]
    fn what_is_no_state_dict_is_named() {
        let error = |value: &Value| state_dict(value).unwrap_err().to_string();
        assert_eq!(error(&Value::from(vec![1i64, 2])), "expected a state dict, found a list of 2 items");
        assert_eq!(error(&dict([])), "expected a state dict, found a dict of 0 items");
        assert_eq!(
            error(&dict([("optimizer", optimizer()), ("epoch", Value::Int(3))])),
            "expected a state dict, found a dict of 2 items\n  help: its keys are `optimizer`, `epoch`"
        );
        let root = dict([("epoch", Value::Int(3)), ("m", weights())]);
        assert_eq!(
            state_dict_at(&root, "epoch").unwrap_err().to_string(),
            "key `epoch`: expected a state dict, found the integer 3"
        );
    }

    #[test]
    fn module_versions_come_along() {
        let mut state: Dict = [("bn.weight", tensor())].into_iter().collect();
        let version = dict([("bn", dict([("version", Value::Int(2))]))]);
        state.attributes = Some(dict([("_metadata", version)]));
        assert_eq!(state_dict(&state.into()).unwrap().version("bn"), Some(2));
    }

    #[test]
    fn keys_may_have_dots() {
        let root = dict([("a.b", dict([("c", weights())])), ("a", dict([("x", weights())]))]);
        assert_eq!(state_dict_at(&root, "a.b.c").unwrap().len(), 2);
        assert_eq!(state_dict_at(&root, "a.x").unwrap().len(), 2);
        assert_eq!(state_dict_at(&root, "").unwrap().len(), 4);
    }

    #[test]
    fn positions_are_in_brackets_as_inspect_shows_them() {
        let root = Value::from(vec![dict([("l", Value::from(vec![weights()])), ("[0]", dict([("x", tensor())]))])]);
        for key in ["[0].l[0]", "0.l.0", "[0].l.0", "0.l[0]"] {
            assert_eq!(names(&state_dict_at(&root, key).unwrap()), ["fc.weight", "fc.bias"], "{key}");
        }
        assert_eq!(names(&state_dict_at(&root, "[0].[0]").unwrap()), ["x"]);
        assert!(state_dict_at(&root, "[1]").is_err() && state_dict_at(&root, "[0").is_err());
    }

    #[test]
    fn shared_dicts_are_found_once_and_deep_ones_end() {
        let mut value = weights();
        for _ in 0..40 {
            value = dict([("a", value.clone()), ("b", value)]);
        }
        assert_eq!(state_dict(&value).unwrap().len(), 2);
        assert!(state_dict_at(&value, "").is_err());
    }
}
