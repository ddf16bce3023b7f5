//! Values that are no tensors: what is compared, under which name, and when two are the same.

use std::collections::HashMap;

use sconce::checkpoint::{Object, Value};

use super::super::compare::Tolerance;
use super::super::inspect::{Content, is_module, is_rich, plain_attributes};
use super::tensors;

/// One value that is compared with the one of its name.
pub(super) struct Leaf<'a> {
    pub(super) name: String,
    pub(super) value: &'a Value,
    /// Whether it says something that the values inside it do not.
    pub(super) is_whole: bool,
}

/// The values of a file by name and in the order of the file.
pub(super) struct Leaves<'a> {
    leaves: Vec<Leaf<'a>>,
    by_name: HashMap<String, usize>,
    pub(super) is_cut: bool,
}

impl<'a> Leaves<'a> {
    pub(super) fn of(root: &'a Value) -> Self {
        let content = Content::of(root);
        let mut all = Self { leaves: Vec::new(), by_name: HashMap::new(), is_cut: content.is_cut };
        let mut counts = HashMap::new();
        for (at, item) in content.items.into_iter().enumerate() {
            let is_whole = item.end == at + 1 || matches!(item.value, Value::Object(_));
            let inside = match item.value {
                Value::Object(object) if is_module(object) => plain_attributes(&item.name, object),
                _ => Vec::new(),
            };
            all.push(&mut counts, Leaf { name: item.name, value: item.value, is_whole });
            for (name, value) in inside {
                all.push(&mut counts, Leaf { name, value, is_whole: true });
            }
        }
        all
    }

    /// Two values may have one name, as those of the keys `a.b` and `a` and `b`: the later ones are numbered.
    fn push(&mut self, counts: &mut HashMap<String, usize>, mut leaf: Leaf<'a>) {
        if self.by_name.contains_key(&leaf.name) {
            let count = counts.entry(leaf.name.clone()).or_insert(1);
            *count += 1;
            leaf.name = format!("{} ({count})", leaf.name);
        }
        self.by_name.insert(leaf.name.clone(), self.leaves.len());
        self.leaves.push(leaf);
    }

    pub(super) fn get(&self, name: &str) -> Option<&Leaf<'a>> {
        self.by_name.get(name).map(|&at| &self.leaves[at])
    }

    pub(super) fn iter(&self) -> std::slice::Iter<'_, Leaf<'a>> {
        self.leaves.iter()
    }
}

/// Whether two values of one name are the same, but for what is inside them under names of its own. Numbers are, within
/// the tolerance; dicts of all kinds are alike, as they are in Python. `None` when not all could be compared.
pub(super) fn same(a: &Leaf<'_>, b: &Leaf<'_>, tolerance: Tolerance) -> Option<bool> {
    let mut compared = Compared { tolerance, left: MOST, is_cut: false };
    let same = match (a.value, b.value) {
        (Value::Object(x), Value::Object(y)) if !is_array(a.value) && !is_array(b.value) => compared.objects(x, y),
        (x, y) if a.is_whole || b.is_whole => compared.values(x, y, 0),
        (x, y) => std::mem::discriminant(x) == std::mem::discriminant(y),
    };
    (!same || !compared.is_cut).then_some(same)
}

/// Whether what is attached to two dicts is the same: `_metadata` of a state dict, a safetensors file's `__metadata__`.
pub(super) fn same_attributes(a: &Value, b: &Value) -> bool {
    let (Value::Dict(a), Value::Dict(b)) = (a, b) else { return true };
    let mut compared = Compared { tolerance: Tolerance { atol: 0.0, rtol: 0.0 }, left: MOST, is_cut: false };
    compared.options(a.attributes(), b.attributes(), 0) && !compared.is_cut
}

pub(super) fn is_array(value: &Value) -> bool {
    matches!(value, Value::Object(object) if object.is_array())
}

/// Values that are looked at for one comparison: values that share others make a small file say much.
const MOST: usize = 1_000_000;
const DEEPEST: usize = 64;

struct Compared {
    tolerance: Tolerance,
    left: usize,
    /// Whether more is there.
    is_cut: bool,
}

impl Compared {
    /// Two objects, without what `Content` lists by names of its own.
    fn objects(&mut self, a: &Object, b: &Object) -> bool {
        if a.class() != b.class() || is_module(a) != is_module(b) {
            return false;
        }
        if is_module(a) {
            let is_dict = |object: &Object| matches!(object.state(), Some(Value::Dict(_)));
            return (is_dict(a) && is_dict(b) || self.options(a.state(), b.state(), 0)) && self.made(a, b, 0);
        }
        let listed = |value: &Value| match value {
            Value::Tuple(parts) => parts.iter().all(|part| matches!(part, Value::Dict(_) | Value::None)),
            value => matches!(value, Value::Dict(_)) || is_rich(value),
        };
        let args = a.args().len() == b.args().len()
            && a.args().iter().zip(b.args()).all(|(a, b)| is_rich(a) && is_rich(b) || self.values(a, b, 0));
        let state = match (a.state(), b.state()) {
            (Some(a), Some(b)) if listed(a) && listed(b) => true,
            (a, b) => self.options(a, b, 0),
        };
        args && state && a.kwargs().is_some() == b.kwargs().is_some()
    }

    /// All that makes two objects but their state.
    fn made(&mut self, a: &Object, b: &Object, depth: usize) -> bool {
        let keyed = |object: &Object| object.entries().iter().flat_map(|(key, value)| [key, value]).cloned().collect();
        let (x, y): (Vec<Value>, Vec<Value>) = (keyed(a), keyed(b));
        self.items(a.args(), b.args(), depth)
            && self.items(a.items(), b.items(), depth)
            && self.items(&x, &y, depth)
            && self.options(a.kwargs(), b.kwargs(), depth)
    }

    fn options(&mut self, a: Option<&Value>, b: Option<&Value>, depth: usize) -> bool {
        match (a, b) {
            (Some(a), Some(b)) => self.values(a, b, depth),
            (a, b) => a.is_none() && b.is_none(),
        }
    }

    fn items(&mut self, a: &[Value], b: &[Value], depth: usize) -> bool {
        a.len() == b.len() && a.iter().zip(b).all(|(a, b)| self.values(a, b, depth + 1))
    }

    /// Two values with all that is in them.
    fn values(&mut self, a: &Value, b: &Value, depth: usize) -> bool {
        if self.left == 0 || depth > DEEPEST {
            self.is_cut = true;
            return true;
        }
        self.left -= 1;
        match (a, b) {
            (Value::Object(_), Value::Object(_)) if is_array(a) && is_array(b) => same_array(a, b),
            (Value::Object(x), Value::Object(y)) => {
                x.class() == y.class() && self.made(x, y, depth + 1) && self.options(x.state(), y.state(), depth + 1)
            }
            (Value::Float(x), Value::Float(y)) => tensors::allows(self.tolerance, *x, *y),
            (Value::Str(x), Value::Str(y)) => x == y,
            (Value::Bytes(x), Value::Bytes(y)) | (Value::ByteArray(x), Value::ByteArray(y)) => x == y,
            (Value::List(x), Value::List(y)) => self.items(x, y, depth),
            (Value::Tuple(x), Value::Tuple(y)) => self.items(x, y, depth),
            // Their order is that of the hashes of one process.
            (Value::Set(x), Value::Set(y)) | (Value::FrozenSet(x), Value::FrozenSet(y)) => {
                let sorted = |items: &[Value]| {
                    let mut items: Vec<(String, Value)> =
                        items.iter().map(|item| (item.to_string(), item.clone())).collect();
                    items.sort_by(|a, b| a.0.cmp(&b.0));
                    items.into_iter().map(|(_, item)| item).collect::<Vec<_>>()
                };
                self.items(&sorted(x), &sorted(y), depth)
            }
            (Value::Dict(x), Value::Dict(y)) => {
                x.len() == y.len()
                    && x.iter()
                        .zip(y.iter())
                        .all(|((k, v), (l, w))| self.values(k, l, depth + 1) && self.values(v, w, depth + 1))
            }
            (Value::Tensor(x), Value::Tensor(y)) => {
                x.dtype() == y.dtype()
                    && x.shape() == y.shape()
                    && match tensors::compare(x, y, self.tolerance) {
                        Ok(found) => found.is_none_or(|found| found.outside == 0),
                        Err(_) => tensors::is_same_view(x, y),
                    }
            }
            (Value::Storage(x, p), Value::Storage(y, q)) => {
                p == q && matches!((x.bytes(), y.bytes()), (Ok(x), Ok(y)) if x == y)
            }
            _ => std::mem::discriminant(a) == std::mem::discriminant(b) && a.to_string() == b.to_string(),
        }
    }
}

fn same_array(a: &Value, b: &Value) -> bool {
    let (Ok(a), Ok(b)) = (a.as_array(), b.as_array()) else { return false };
    a.dtype() == b.dtype()
        && a.shape() == b.shape()
        && matches!((a.contiguous_bytes(), b.contiguous_bytes()), (Ok(a), Ok(b)) if a == b)
}
