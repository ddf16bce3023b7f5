//! Checkpoints in several files: an index names the file of each tensor. The files lie beside the index.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use indexmap::IndexMap;
use serde_json::Value as Json;

use super::source::Source;
use super::value::{Dict, DictKind, Value};
use super::{Container, FREE_TEXT, Opened, in_file};
use crate::error::{Error, ErrorKind, Result};

/// Opens all files that an index names and joins their tensors in the order of the index.
pub(super) fn open(source: &Arc<Source>, directory: Option<&Path>) -> Result<Opened> {
    let Some(directory) = directory else {
        return Err(Error::unsupported(
            "the index of a checkpoint in several files, without a directory to find them in",
        )
        .help("open it by its path, or one of the files that it names"));
    };
    let index: Json =
        serde_json::from_slice(source).map_err(|error| Error::invalid(format!("the index is not JSON: {error}")))?;
    let files = files(&index)?;
    let mut bytes = source.len() as u64;
    let mut problems = Problems::default();
    let mut shards: IndexMap<&str, Value> = IndexMap::new();
    for (file, names) in &files {
        match shard(&directory.join(file), file) {
            Ok(Some(opened)) => {
                bytes += opened.bytes;
                let [root] = &opened.saves[..] else {
                    problems.add(format!("`{}` holds {} saves", show(file), opened.saves.len()));
                    continue;
                };
                problems.compare(file, names, root);
                shards.insert(file, root.clone());
            }
            Ok(None) => problems.add(format!("`{}` is missing, with {}", show(file), list(names.iter().copied()))),
            Err(error) => problems.add_error(&error),
        }
    }
    problems.check()?;
    let map = weight_map(&index)?;
    let tensors = map.iter().filter_map(|(name, file)| {
        let tensor = shards.get(file.as_str()?)?.get(name)?;
        Some((Value::from(name.as_str()), tensor.clone()))
    });
    let mut root = Dict::new(DictKind::OrderedDict, tensors);
    let about = index.get("metadata").map(|metadata| ("metadata", value(metadata)));
    let free_text = free_text(shards.values()).map(|text| (FREE_TEXT, text));
    let attributes: Vec<_> = about.into_iter().chain(free_text).collect();
    root.attributes = (!attributes.is_empty()).then(|| Dict::from_iter(attributes).into());
    Ok(Opened { container: Container::Shards, saves: vec![root.into()], bytes, exported: None })
}

/// The free text that all safetensors files of the checkpoint have.
fn free_text<'v>(shards: impl Iterator<Item = &'v Value>) -> Option<Value> {
    let of = |shard: &'v Value| shard.as_dict().ok()?.attributes()?.get(FREE_TEXT)?.as_dict().ok();
    let all: Vec<&Dict> = shards.map(of).collect::<Option<_>>()?;
    let (first, rest) = all.split_first()?;
    let same = |key: &str, text: &str| {
        rest.iter().all(|dict| matches!(dict.get(key), Some(Value::Str(other)) if **other == *text))
    };
    let common = first.iter().filter(|(key, text)| match (key, text) {
        (Value::Str(key), Value::Str(text)) => same(key, text),
        _ => false,
    });
    let common = Dict::new(DictKind::Dict, common.cloned());
    (!common.is_empty()).then(|| common.into())
}

/// What JSON says, as a value.
fn value(json: &Json) -> Value {
    match json {
        Json::Null => Value::None,
        Json::Bool(flag) => Value::Bool(*flag),
        Json::Number(number) => {
            number.as_i64().map_or_else(|| Value::Float(number.as_f64().unwrap_or(f64::NAN)), Value::Int)
        }
        Json::String(text) => text.as_str().into(),
        Json::Array(items) => items.iter().map(value).collect::<Vec<_>>().into(),
        Json::Object(entries) => entries.iter().map(|(key, json)| (key.as_str(), value(json))).collect::<Dict>().into(),
    }
}

fn weight_map(index: &Json) -> Result<&serde_json::Map<String, Json>> {
    index
        .get("weight_map")
        .and_then(Json::as_object)
        .ok_or_else(|| Error::invalid("the index has no dict `weight_map`"))
}

/// The names of the tensors of each file, both in the order of the index.
fn files(index: &Json) -> Result<IndexMap<&str, Vec<&str>>> {
    let mut files: IndexMap<&str, Vec<&str>> = IndexMap::new();
    for (name, file) in weight_map(index)? {
        let Some(file) = file.as_str() else {
            return Err(Error::invalid(format!("the index gives `{}` no file name", show(name))));
        };
        // Only a plain name cannot lead out of the directory, on any system.
        if file.is_empty() || file == "." || file == ".." || file.contains(['/', '\\', ':', '\0']) {
            return Err(Error::invalid(format!(
                "the index gives `{}` the file `{}`, not a name",
                show(name),
                show(file)
            ))
            .help("the files of a checkpoint lie beside its index"));
        }
        files.entry(file).or_default().push(name);
    }
    match files.is_empty() {
        true => Err(Error::invalid("the index names no tensors")),
        false => Ok(files),
    }
}

/// Opens one file; `None` when it is not there.
fn shard(path: &Path, file: &str) -> Result<Option<Opened>> {
    match std::fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        _ => {}
    }
    // An index cannot name another one: without a directory it is refused.
    Source::open(path).and_then(|source| super::open(&source, None)).map(Some).map_err(|error| in_file(error, file))
}

/// What is wrong with the files, told at once.
#[derive(Default)]
struct Problems {
    found: Vec<String>,
    kind: Option<ErrorKind>,
}

/// More problems than this are counted only.
const SHOWN: usize = 8;

impl Problems {
    fn add(&mut self, problem: String) {
        self.found.push(problem);
    }

    fn add_error(&mut self, error: &Error) {
        self.kind.get_or_insert(error.kind());
        let text = error.to_string();
        self.add(text.lines().next().unwrap_or_default().to_owned());
    }

    /// Compares the names that a file should have with those that it has.
    fn compare(&mut self, file: &str, names: &[&str], root: &Value) {
        let Value::Dict(dict) = root else {
            return self.add(format!("`{}` holds {}, not a dict of tensors", show(file), root.describe()));
        };
        let lacks = names.iter().copied().filter(|name| !matches!(dict.get(name), Some(Value::Tensor(_))));
        let lacks: Vec<&str> = lacks.collect();
        let known: HashSet<&str> = names.iter().copied().collect();
        let keys = dict.iter().filter_map(|(key, value)| match (key, value) {
            (Value::Str(key), Value::Tensor(_)) => Some(&**key),
            _ => None,
        });
        let extra: Vec<&str> = keys.filter(|key| !known.contains(key)).collect();
        if !lacks.is_empty() {
            self.add(format!("`{}` lacks {}", show(file), list(lacks.into_iter())));
        }
        if !extra.is_empty() {
            self.add(format!("the index does not name {} of `{}`", list(extra.into_iter()), show(file)));
        }
    }

    fn check(self) -> Result<()> {
        let more = self.found.len().saturating_sub(SHOWN);
        let mut text = self.found[..self.found.len() - more].join("; ");
        if more > 0 {
            text.push_str(&format!("; and {more} more"));
        }
        match self.found.is_empty() {
            true => Ok(()),
            false => Err(Error::new(self.kind.unwrap_or(ErrorKind::Invalid), text)),
        }
    }
}

/// `3 tensors: a, b, c`.
fn list<'n>(names: impl ExactSizeIterator<Item = &'n str>) -> String {
    let count = names.len();
    let mut shown: Vec<String> = names.take(SHOWN).map(|name| format!("`{}`", show(name))).collect();
    if count > SHOWN {
        shown.push(format!("and {} more", count - SHOWN));
    }
    let what = if count == 1 { "tensor" } else { "tensors" };
    format!("{count} {what} ({})", shown.join(", "))
}

fn show(text: &str) -> String {
    text.escape_debug().take(120).collect()
}
