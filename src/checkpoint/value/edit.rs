//! Changing values in place.

use std::ops::IndexMut;
use std::sync::Arc;

use super::{Dict, Key, Value};
use crate::error::{Error, Result};

impl Value {
    /// What is stored under a key, to change: a dict's value, an object's attribute, a list's or tuple's item. A
    /// container that is also somewhere else in the checkpoint changes here only.
    pub fn get_mut<K: Key + ?Sized>(&mut self, key: &K) -> Option<&mut Value> {
        match self {
            Value::Dict(dict) => Arc::make_mut(dict).get_mut(key),
            Value::List(items) => Arc::make_mut(items).get_mut(key.position()?),
            Value::Tuple(items) => Arc::make_mut(items).get_mut(key.position()?),
            Value::Object(object) => {
                let state = &mut Arc::make_mut(object).state;
                match state.as_mut()? {
                    Value::Dict(dict) => Arc::make_mut(dict).get_mut(key),
                    _ => None,
                }
            }
            _ => None,
        }
    }

    /// The value as a dict, to change.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid), naming what was found, when it is something else.
    pub fn as_dict_mut(&mut self) -> Result<&mut Dict> {
        match self {
            Value::Dict(dict) => Ok(Arc::make_mut(dict)),
            other => Err(Error::invalid(format!("expected a dict, found {}", other.describe()))),
        }
    }

    /// The items of a list, to change.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid), naming what was found, when it is something else.
    pub fn as_list_mut(&mut self) -> Result<&mut Vec<Value>> {
        match self {
            Value::List(items) => Ok(Arc::make_mut(items)),
            other => Err(Error::invalid(format!("expected a list, found {}", other.describe()))),
        }
    }
}

impl IndexMut<&str> for Value {
    /// The value of a string key, or an object's attribute, to change. In a dict, a key that is missing is added, with
    /// the value `None`.
    ///
    /// # Panics
    /// When this is no dict and there is no such key; [`Value::get_mut`] returns `None` instead.
    #[track_caller]
    fn index_mut(&mut self, key: &str) -> &mut Value {
        if let Value::Dict(dict) = self {
            return Arc::make_mut(dict).entry(key.into());
        }
        if self.get(key).is_none() {
            panic!("{}", self.missing(&key));
        }
        self.get_mut(key).unwrap_or_else(|| panic!("the value of {key:?} cannot be changed"))
    }
}

impl IndexMut<usize> for Value {
    /// The item at a position, or the value of an integer key, to change. In a dict, a key that is missing is added, with
    /// the value `None`.
    ///
    /// # Panics
    /// When this is no dict and there is no such item; [`Value::get_mut`] returns `None` instead.
    #[track_caller]
    fn index_mut(&mut self, key: usize) -> &mut Value {
        if let Value::Dict(dict) = self {
            return Arc::make_mut(dict).entry(Value::Int(key as i64));
        }
        if self.get(&key).is_none() {
            panic!("{}", self.missing(&key));
        }
        self.get_mut(&key).unwrap_or_else(|| panic!("item {key} cannot be changed"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_seen_where_it_was_made() {
        let inner = Value::from(vec![1i64, 2]);
        let mut root = Value::from(Dict::from_iter([("a", inner.clone()), ("b", inner)]));
        root["a"][1] = Value::from("new");
        root["c"] = Value::from(7i64);
        root[3] = Value::None;
        assert_eq!(root["a"][1].as_str().unwrap(), "new");
        assert_eq!(root["b"][1].as_i64().unwrap(), 2);
        assert_eq!(root.as_dict().unwrap().len(), 4);
        assert_eq!(root.as_dict_mut().unwrap().remove("a").unwrap()[0].as_i64().unwrap(), 1);
        assert!(root.get("a").is_none() && root[3].is_none() && root["c"].as_i64().unwrap() == 7);
        root["b"].as_list_mut().unwrap().push(Value::from(3i64));
        assert_eq!(root["b"].as_list().unwrap().len(), 3);
        assert!(root.get_mut("missing").is_none());
    }

    #[test]
    fn removing_keeps_the_order_and_the_index() {
        let mut dict = Dict::from_iter((0..50i64).map(|i| (Value::Int(i), Value::Int(i * i))));
        assert_eq!(dict.remove(&20).unwrap().as_i64().unwrap(), 400);
        assert!(dict.remove(&20).is_none());
        assert_eq!(dict.get(&49).unwrap().as_i64().unwrap(), 49 * 49);
        assert!(dict.insert(49i64, 1i64).is_some() && dict.insert("x", 2i64).is_none());
        assert_eq!((dict.len(), dict.get("x").unwrap().as_i64().unwrap()), (50, 2));
        assert_eq!(dict.get(&49).unwrap().as_i64().unwrap(), 1);
    }

    #[test]
    #[should_panic(expected = "no key \"x\" in the integer 3")]
    fn a_number_has_no_keys() {
        Value::from(3i64)["x"] = Value::None;
    }
}
