//! The values of a file in the order of the file, each with its name.

use std::collections::HashMap;
use std::sync::Arc;

use sconce::checkpoint::{Dict, Object, Storage, StoredTensor, Value};

/// Values that are looked at, and bytes of their names: values that share others make a small file say much.
const MOST: usize = 1_000_000;
const MOST_TEXT: usize = 64 << 20;
/// What lies deeper is left out.
const DEEPEST: usize = 64;

/// One value. Those inside it follow it directly, up to `end`.
pub(crate) struct Item<'a> {
    /// From the root: `model_state_dict.fc.weight`, `optimizer.param_groups[0].lr`.
    pub(crate) name: String,
    /// Where the name of the value in its container starts.
    label: usize,
    pub(crate) end: usize,
    pub(crate) value: &'a Value,
    /// Whether it is a part of an optimizer's state.
    pub(crate) in_optimizer: bool,
    /// Whether it lies in a dict of names with tensors for the most part, as a state dict is.
    pub(crate) in_state_dict: bool,
}

impl<'a> Item<'a> {
    /// The name in its container: `fc.weight`, `[0]`.
    pub(crate) fn label(&self) -> &str {
        let label = &self.name[self.label..];
        label.strip_prefix('.').unwrap_or(label)
    }

    pub(crate) fn tensor(&self) -> Option<&'a StoredTensor> {
        match self.value {
            Value::Tensor(tensor) => Some(tensor),
            _ => None,
        }
    }
}

/// What a file holds.
pub(crate) struct Content<'a> {
    /// The root first.
    pub(crate) items: Vec<Item<'a>>,
    /// Each storage by its address, numbered in the order of the file.
    pub(crate) storages: HashMap<*const Storage, usize>,
    /// Whether there is more than was looked at.
    pub(crate) is_cut: bool,
    text: usize,
}

impl<'a> Content<'a> {
    pub(crate) fn of(root: &'a Value) -> Self {
        let mut content = Self { items: Vec::new(), storages: HashMap::new(), is_cut: false, text: 0 };
        content.visit(String::new(), 0, root, Place { depth: 0, in_optimizer: false, in_state_dict: false });
        content
    }

    /// The positions of the values directly inside the one at `parent`.
    pub(crate) fn children(&self, parent: usize) -> Vec<usize> {
        let mut children = Vec::new();
        let mut at = parent + 1;
        while at < self.items[parent].end {
            children.push(at);
            at = self.items[at].end;
        }
        children
    }

    /// The tensors with their names.
    pub(crate) fn tensors(&self) -> impl Iterator<Item = (&Item<'a>, &'a StoredTensor)> {
        self.items.iter().filter_map(|item| Some((item, item.tensor()?)))
    }

    pub(crate) fn storage(&self, tensor: &StoredTensor) -> usize {
        self.storages[&Arc::as_ptr(tensor.storage())]
    }

    fn visit(&mut self, name: String, label: usize, value: &'a Value, place: Place) {
        if self.items.len() >= MOST || self.text > MOST_TEXT || place.depth > DEEPEST {
            self.is_cut = true;
            return;
        }
        self.text += name.len();
        let at = self.items.len();
        let inside = name.clone();
        let Place { in_optimizer, in_state_dict, .. } = place;
        self.items.push(Item { name, label, end: at + 1, value, in_optimizer, in_state_dict });
        if let Value::Tensor(tensor) = value {
            for tensor in std::iter::once(&**tensor).chain(tensor.parts()) {
                let next = self.storages.len();
                self.storages.entry(Arc::as_ptr(tensor.storage())).or_insert(next);
            }
        }
        self.visit_parts(&inside, value, Place { depth: place.depth + 1, in_state_dict: false, ..place });
        self.items[at].end = self.items.len();
    }

    fn visit_parts(&mut self, name: &str, value: &'a Value, mut place: Place) {
        match value {
            Value::Dict(dict) => {
                place.in_optimizer |= is_optimizer(dict.get("state"), dict.get("param_groups"));
                place.in_state_dict = is_state_dict(dict);
                self.visit_dict(name, dict, place);
            }
            Value::List(items) | Value::Set(items) | Value::FrozenSet(items) if has_parts(items) => {
                self.visit_items(name, items, place);
            }
            Value::Tuple(items) if has_parts(items) => self.visit_items(name, items, place),
            Value::Object(object) if is_module(object) => self.visit_module(name, object, place),
            Value::Object(object) if object.is_array() => {}
            Value::Object(object) => {
                // One that was saved whole, as it is inside a scheduler.
                place.in_optimizer |= is_optimizer(object.get("state"), object.get("param_groups"));
                for (index, value) in object.args().iter().enumerate().filter(|(_, value)| is_rich(value)) {
                    self.visit(format!("{name}({index})"), name.len(), value, place);
                }
                if let Some(Value::Dict(dict)) = object.kwargs() {
                    self.visit_dict(name, dict, place);
                }
                self.visit_items(name, object.items(), place);
                for (key, value) in object.entries() {
                    self.visit(join(name, key), name.len(), value, place);
                }
                self.visit_state(name, object, place);
            }
            _ => {}
        }
    }

    fn visit_dict(&mut self, name: &str, dict: &'a Dict, place: Place) {
        for (key, value) in dict.iter() {
            self.visit(join(name, key), name.len(), value, place);
        }
    }

    fn visit_items(&mut self, name: &str, items: &'a [Value], place: Place) {
        for (index, value) in items.iter().enumerate() {
            self.visit(format!("{name}[{index}]"), name.len(), value, place);
        }
    }

    /// The attributes of an object: a dict, or a dict and those of `__slots__`.
    fn visit_state(&mut self, name: &str, object: &'a Object, place: Place) {
        match object.state() {
            Some(Value::Dict(dict)) => self.visit_dict(name, dict, place),
            Some(Value::Tuple(parts)) if parts.iter().all(|part| matches!(part, Value::Dict(_) | Value::None)) => {
                parts.iter().for_each(|part| self.visit_parts(name, part, place));
            }
            Some(other) if is_rich(other) => self.visit(format!("{name}(state)"), name.len(), other, place),
            _ => {}
        }
    }

    /// A module's parameters, buffers and modules by the names that a state dict has for them, and the other attributes
    /// that hold something: plain ones are a part of the module's line.
    fn visit_module(&mut self, name: &str, object: &'a Object, place: Place) {
        for part in MODULE_PARTS {
            if let Some(Value::Dict(dict)) = object.get(part) {
                for (key, value) in dict.iter().filter(|(_, value)| !value.is_none()) {
                    self.visit(join(name, key), name.len(), value, place);
                }
            }
        }
        if let Some(Value::Dict(attributes)) = object.state() {
            for (key, value) in attributes.iter() {
                let known = matches!(key, Value::Str(key) if MODULE_PARTS.contains(&&**key));
                if !known && is_rich(value) {
                    self.visit(join(name, key), name.len(), value, place);
                }
            }
        }
    }
}

#[derive(Clone, Copy)]
struct Place {
    depth: usize,
    in_optimizer: bool,
    in_state_dict: bool,
}

const MODULE_PARTS: [&str; 3] = ["_parameters", "_buffers", "_modules"];

/// The attributes of a module that are a part of its line and no values of their own, by the names that these would have.
pub(crate) fn plain_attributes<'a>(name: &str, object: &'a Object) -> Vec<(String, &'a Value)> {
    match object.state() {
        Some(Value::Dict(attributes)) => attributes
            .iter()
            .filter(|(key, value)| !matches!(key, Value::Str(key) if MODULE_PARTS.contains(&&**key)) && !is_rich(value))
            .map(|(key, value)| (join(name, key), value))
            .collect(),
        _ => Vec::new(),
    }
}

/// Whether an object is an instance of a subclass of `nn.Module`.
pub(crate) fn is_module(object: &Object) -> bool {
    MODULE_PARTS.iter().all(|name| matches!(object.get(name), Some(Value::Dict(_))))
}

/// Whether these are the parts of what `optimizer.state_dict()` gives, and of the optimizer itself.
fn is_optimizer(state: Option<&Value>, groups: Option<&Value>) -> bool {
    matches!((state, groups), (Some(Value::Dict(_)), Some(Value::List(_))))
}

/// Whether most values of a dict are tensors, by name.
fn is_state_dict(dict: &Dict) -> bool {
    let is_named = |(key, value): &&(Value, Value)| matches!((key, value), (Value::Str(_), Value::Tensor(_)));
    dict.iter().filter(is_named).count() * 2 > dict.len()
}

/// Whether a list is more than a few numbers and words: its items are listed one by one.
fn has_parts(items: &[Value]) -> bool {
    items.iter().any(is_part)
}

/// Whether a value says more than fits into the line of the object that it belongs to.
pub(crate) fn is_rich(value: &Value) -> bool {
    match value {
        Value::Dict(dict) => !dict.is_empty(),
        Value::List(items) | Value::Set(items) | Value::FrozenSet(items) => has_parts(items),
        Value::Tuple(items) => has_parts(items),
        Value::Tensor(_) | Value::Object(_) => true,
        _ => false,
    }
}

fn is_part(value: &Value) -> bool {
    match value {
        Value::Object(object) => !object.is_array(),
        Value::Tensor(_) | Value::Dict(_) | Value::Storage(..) => true,
        Value::List(_) | Value::Tuple(_) | Value::Set(_) | Value::FrozenSet(_) => true,
        _ => false,
    }
}

fn join(name: &str, key: &Value) -> String {
    match key {
        Value::Str(key) if name.is_empty() => key.to_string(),
        Value::Str(key) => format!("{name}.{key}"),
        other => format!("{name}[{}]", super::super::text::short(&other.to_string(), 40)),
    }
}
