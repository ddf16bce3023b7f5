//! Opaque objects.

use std::sync::Arc;

use super::Value;

/// An object of a class that is not known here: what the file says about it, as data.
///
/// A file makes an object by calling a class or function with arguments, then fills it with items or entries, or sets
/// its state; a plain Python object has no arguments and its attributes, as a dict, for its state.
#[derive(Clone)]
pub struct Object {
    pub(crate) callee: Value,
    /// Whether the callee is a class whose `__new__` made the object, and not a call of the callee itself.
    pub(crate) bare: bool,
    pub(crate) args: Vec<Value>,
    pub(crate) kwargs: Option<Value>,
    pub(crate) items: Vec<Value>,
    pub(crate) entries: Vec<(Value, Value)>,
    pub(crate) state: Option<Value>,
}

impl Object {
    /// The qualified name of the class, or of the function that makes the object: `argparse.Namespace`.
    pub fn class(&self) -> &str {
        // A function that is itself an object goes by that object's class.
        let mut callee = &self.callee;
        while let Value::Object(object) = callee {
            callee = &object.callee;
        }
        match callee {
            Value::Global(name) => name,
            _ => "unknown",
        }
    }

    /// The arguments that it is made with.
    pub fn args(&self) -> &[Value] {
        &self.args
    }

    /// The keyword arguments that it is made with: a dict, if there are any.
    pub fn kwargs(&self) -> Option<&Value> {
        self.kwargs.as_ref()
    }

    /// The state set on it after it was made, as a rule the dict of its attributes.
    pub fn state(&self) -> Option<&Value> {
        self.state.as_ref()
    }

    /// The items appended to it, as to a list.
    pub fn items(&self) -> &[Value] {
        &self.items
    }

    /// The entries set in it, as in a dict.
    pub fn entries(&self) -> &[(Value, Value)] {
        &self.entries
    }

    /// The entry or attribute called `name`.
    pub fn get(&self, name: &str) -> Option<&Value> {
        let named = |key: &Value| matches!(key, Value::Str(key) if &**key == name);
        if let Some((_, value)) = self.entries.iter().rfind(|(key, _)| named(key)) {
            return Some(value);
        }
        self.attribute_dicts().find_map(|dict| dict.get(name))
    }

    /// The dicts that hold the attributes: the state, or the parts of it when the class has `__slots__`.
    pub(crate) fn attribute_dicts(&self) -> impl Iterator<Item = &super::Dict> {
        let parts: &[Value] = match &self.state {
            Some(Value::Tuple(parts)) if parts.len() == 2 => parts,
            Some(state) => std::slice::from_ref(state),
            None => &[],
        };
        parts.iter().filter_map(|part| match part {
            Value::Dict(dict) => Some(&**dict),
            _ => None,
        })
    }
}

impl From<Object> for Value {
    fn from(object: Object) -> Self {
        Value::Object(Arc::new(object))
    }
}
