//! Dicts: ordered, with keys of any kind.

use std::fmt;

use super::Value;
use super::access::Key;
use crate::checkpoint::hash::Positions;

/// Which class of dict it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DictKind {
    /// A plain `dict`.
    Dict,
    /// `collections.OrderedDict`: what `state_dict()` gives.
    OrderedDict,
    /// `collections.defaultdict`.
    DefaultDict,
    /// `collections.Counter`.
    Counter,
}

impl fmt::Display for DictKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            DictKind::Dict => "dict",
            DictKind::OrderedDict => "OrderedDict",
            DictKind::DefaultDict => "defaultdict",
            DictKind::Counter => "Counter",
        })
    }
}

/// A dict of a checkpoint: ordered, with keys of any kind. Values are found by string or by integer key.
///
/// A key that is set twice keeps its place and takes the later value, as in Python; so do `1`, `1.0` and `True`, which
/// are one key there.
#[derive(Clone)]
pub struct Dict {
    kind: DictKind,
    entries: Vec<(Value, Value)>,
    /// Where each string and each integer key is; only made for dicts that are too long to search.
    index: Option<Box<Positions>>,
    pub(crate) factory: Option<Value>,
    pub(crate) attributes: Option<Value>,
}

/// Dicts up to this length are searched from the front.
const SHORT: usize = 8;

impl Dict {
    /// A dict of this kind with these entries.
    pub fn new(kind: DictKind, entries: impl IntoIterator<Item = (Value, Value)>) -> Self {
        let mut dict = Dict { kind, entries: Vec::new(), index: None, factory: None, attributes: None };
        let entries = entries.into_iter();
        let expected = entries.size_hint().0;
        dict.entries.reserve(expected);
        if expected > SHORT {
            dict.index = Some(Box::new(Positions::with_capacity(expected)));
        }
        for (key, value) in entries {
            dict.set(key, value);
        }
        dict
    }

    /// Sets the value of a key, at the end if it is a new one, and returns the old value.
    pub fn insert(&mut self, key: impl Into<Value>, value: impl Into<Value>) -> Option<Value> {
        self.set(key.into(), value.into())
    }

    /// Takes a key and its value out.
    pub fn remove<K: Key + ?Sized>(&mut self, key: &K) -> Option<Value> {
        let at = self.find(key)?;
        let (_, value) = self.entries.remove(at);
        if let Some(index) = &mut self.index {
            **index = index_of(&self.entries);
        }
        Some(value)
    }

    /// The value of a key, to change.
    pub fn get_mut<K: Key + ?Sized>(&mut self, key: &K) -> Option<&mut Value> {
        self.find(key).map(|at| &mut self.entries[at].1)
    }

    /// The value of a key, which is added if there is none.
    pub(super) fn entry(&mut self, key: Value) -> &mut Value {
        let at = match &key {
            Value::Str(name) => self.find_str(name),
            other => integer(other).and_then(|int| self.find_int(int)),
        };
        let at = at.unwrap_or_else(|| {
            self.set(key, Value::None);
            self.entries.len() - 1
        });
        &mut self.entries[at].1
    }

    fn set(&mut self, key: Value, value: Value) -> Option<Value> {
        let end = self.entries.len();
        let at = match &mut self.index {
            Some(index) => place(index, &self.entries, &key, end),
            None => match &key {
                Value::Str(name) => self.find_str(name),
                other => integer(other).and_then(|int| self.find_int(int)),
            },
        };
        if let Some(at) = at {
            return Some(std::mem::replace(&mut self.entries[at].1, value));
        }
        self.entries.push((key, value));
        if self.index.is_none() && self.entries.len() > SHORT {
            self.index = Some(Box::new(index_of(&self.entries)));
        }
        None
    }

    fn find_str(&self, name: &str) -> Option<usize> {
        let is_same = |at: usize| matches!(&self.entries[at].0, Value::Str(key) if **key == *name);
        match &self.index {
            Some(index) => index.find(index.hash(name), is_same),
            None => (0..self.entries.len()).find(|&at| is_same(at)),
        }
    }

    fn find_int(&self, int: i64) -> Option<usize> {
        let is_same = |at: usize| integer(&self.entries[at].0) == Some(int);
        match &self.index {
            Some(index) => index.find(index.hash(&int), is_same),
            None => (0..self.entries.len()).find(|&at| is_same(at)),
        }
    }

    /// Which class of dict it is.
    pub fn kind(&self) -> DictKind {
        self.kind
    }

    /// The number of entries.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The value of a key: a `&str`, or a `usize` for an integer key.
    pub fn get<K: Key + ?Sized>(&self, key: &K) -> Option<&Value> {
        self.find(key).map(|at| &self.entries[at].1)
    }

    fn find<K: Key + ?Sized>(&self, key: &K) -> Option<usize> {
        match key.text() {
            Some(name) => self.find_str(name),
            None => self.find_int(key.position().and_then(|int| i64::try_from(int).ok())?),
        }
    }

    /// The keys and values, in the order of the file.
    pub fn iter(&self) -> std::slice::Iter<'_, (Value, Value)> {
        self.entries.iter()
    }

    /// The keys, in the order of the file.
    pub fn keys(&self) -> impl ExactSizeIterator<Item = &Value> {
        self.entries.iter().map(|(key, _)| key)
    }

    /// The values, in the order of the file.
    pub fn values(&self) -> impl ExactSizeIterator<Item = &Value> {
        self.entries.iter().map(|(_, value)| value)
    }

    /// The attributes set on the dict itself, a dict too. A state dict has `_metadata` there: the versions of its
    /// modules.
    pub fn attributes(&self) -> Option<&Value> {
        self.attributes.as_ref()
    }

    /// The class that a `defaultdict` makes its missing values with.
    pub fn factory(&self) -> Option<&Value> {
        self.factory.as_ref()
    }
}

/// Where the keys are.
fn index_of(entries: &[(Value, Value)]) -> Positions {
    let mut index = Positions::with_capacity(entries.len());
    for (at, (key, _)) in entries.iter().enumerate() {
        place(&mut index, entries, key, at);
    }
    index
}

/// Where `key` is among the entries; it is put at `end` if it is none of them. Keys that are neither strings nor
/// integers are not looked up.
fn place(index: &mut Positions, entries: &[(Value, Value)], key: &Value, end: usize) -> Option<usize> {
    let hash = hash(index, key)?;
    let is_same = |at: usize| match (key, &entries[at].0) {
        (Value::Str(key), Value::Str(other)) => key == other,
        (Value::Str(_), _) => false,
        (key, other) => integer(key) == integer(other),
    };
    index.find_or_insert(hash, end, is_same, |index, at| hash_of(index, &entries[at].0))
}

fn hash(index: &Positions, key: &Value) -> Option<u64> {
    match key {
        Value::Str(name) => Some(index.hash(&**name)),
        other => integer(other).map(|int| index.hash(&int)),
    }
}

fn hash_of(index: &Positions, key: &Value) -> u64 {
    hash(index, key).expect("only keys with a hash have a position")
}

/// The integer that a key equals in Python.
fn integer(key: &Value) -> Option<i64> {
    match *key {
        Value::Int(int) => Some(int),
        Value::Bool(flag) => Some(flag.into()),
        Value::Float(float) if float.trunc() == float && float.abs() < 9e15 => Some(float as i64),
        _ => None,
    }
}

impl<'a> IntoIterator for &'a Dict {
    type Item = &'a (Value, Value);
    type IntoIter = std::slice::Iter<'a, (Value, Value)>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<K: Into<Value>, V: Into<Value>> FromIterator<(K, V)> for Dict {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        Self::new(DictKind::Dict, entries.into_iter().map(|(key, value)| (key.into(), value.into())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_values_replace_earlier_ones_in_their_place() {
        for fill in [0, 100] {
            let mut entries = vec![(Value::from("a"), Value::Int(1)), (Value::Int(1), Value::Int(2))];
            entries.extend((0..fill).map(|i| (Value::from(format!("fill{i}")), Value::None)));
            entries.push((Value::Bool(true), Value::Int(3)));
            entries.push((Value::from("a"), Value::Int(4)));
            entries.push((Value::Float(1.0), Value::Int(5)));
            let dict = Dict::new(DictKind::Dict, entries);
            assert_eq!(dict.len(), 2 + fill);
            assert_eq!(dict.get("a").unwrap().as_i64().unwrap(), 4);
            assert_eq!(dict.get(&1).unwrap().as_i64().unwrap(), 5);
            assert!(dict.get("b").is_none() && dict.get(&2).is_none());
            assert!(matches!(dict.keys().nth(1), Some(Value::Int(1))));
        }
    }
}
