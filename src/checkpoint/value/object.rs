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

    /// The module that `torch.compile` wrapped, which its pickle has as an argument.
    pub(crate) fn compiled(&self) -> Option<&Arc<Object>> {
        match &self.args[..] {
            [Value::Object(module), ..] if self.class() == "torch._dynamo.eval_frame.OptimizedModule" => Some(module),
            _ => None,
        }
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

/// Calls that Python's older protocols write for what the newer ones have instructions for, and those that stand for a
/// string here.
impl Object {
    /// A string with surrogates, which no `str` of Rust can have, as the call that makes it.
    pub(crate) fn surrogates(text: &[u8]) -> Self {
        let args = vec![Value::Bytes(text.into()), "utf-8".into(), "surrogatepass".into()];
        Self::call(Value::Global("_codecs.decode".into()), args)
    }

    /// What `callee(*args)` makes, with nothing set on it afterwards.
    pub(crate) fn call(callee: Value, args: Vec<Value>) -> Self {
        Self { callee, bare: false, args, kwargs: None, items: Vec::new(), entries: Vec::new(), state: None }
    }

    /// The bytes of a string with surrogates, if this is one.
    pub(crate) fn as_surrogates(&self) -> Option<&[u8]> {
        match (&self.callee, &self.args[..]) {
            (Value::Global(name), [Value::Bytes(text), Value::Str(encoding), Value::Str(errors)])
                if (&**name, &**encoding, &**errors) == ("_codecs.decode", "utf-8", "surrogatepass")
                    && self.is_call() =>
            {
                Some(text)
            }
            _ => None,
        }
    }

    /// Whether nothing was done with it after it was made.
    fn is_call(&self) -> bool {
        self.kwargs.is_none() && self.items.is_empty() && self.entries.is_empty() && self.state.is_none()
    }

    /// The class that `getattr(class, "Inner")` names.
    fn nested_class(&self) -> Option<Value> {
        let (Value::Global(callee), [Value::Global(outer), Value::Str(inner)]) = (&self.callee, &self.args[..]) else {
            return None;
        };
        if &**callee != "builtins.getattr" || self.bare || !self.is_call() {
            return None;
        }
        let outer = match outer.contains(':') {
            true => outer.to_string(),
            false => outer.rsplit_once('.').map(|(module, name)| format!("{module}:{name}"))?,
        };
        Some(Value::Global(format!("{outer}.{inner}").into()))
    }

    /// `copyreg.__newobj_ex__(class, args, kwargs)` as what it makes.
    fn with_kwargs(mut self) -> Self {
        if matches!(&self.callee, Value::Global(name) if &**name == "copyreg.__newobj_ex__")
            && self.kwargs.is_none()
            && let [class, Value::Tuple(args), kwargs @ Value::Dict(_)] = &self.args[..]
        {
            (self.callee, self.args, self.kwargs) = (class.clone(), args.to_vec(), Some(kwargs.clone()));
        }
        self
    }
}

impl From<Object> for Value {
    fn from(object: Object) -> Self {
        object.nested_class().unwrap_or_else(|| Value::Object(Arc::new(object.with_kwargs())))
    }
}
