//! Printing values for people.

use std::fmt::{self, Write};

use super::{Dict, Object, Value};

/// A printed value shows at most this many values, so that printing never takes long.
const BUDGET: usize = 1000;
/// Strings and byte strings are cut off here.
const LONGEST: usize = 200;
/// What is nested deeper is left out.
const DEEPEST: usize = 12;

impl fmt::Display for Value {
    /// As Python prints it, with one entry of a dict per line, and tensors by dtype and shape. Long and deep values are
    /// cut short with `...`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Printer { out: f, budget: BUDGET, depth: 0 }.value(self)
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for Dict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Printer { out: f, budget: BUDGET, depth: 0 }.dict(self)
    }
}

impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Printer { out: f, budget: BUDGET, depth: 0 }.object(self)
    }
}

struct Printer<'a, 'b> {
    out: &'a mut fmt::Formatter<'b>,
    budget: usize,
    depth: usize,
}

impl Printer<'_, '_> {
    fn value(&mut self, value: &Value) -> fmt::Result {
        self.budget = self.budget.saturating_sub(1);
        match value {
            Value::None => self.out.write_str("None"),
            Value::Bool(true) => self.out.write_str("True"),
            Value::Bool(false) => self.out.write_str("False"),
            Value::Int(value) => write!(self.out, "{value}"),
            Value::BigInt(value) => write!(self.out, "{value}"),
            Value::Float(value) => self.out.write_str(&float(*value)),
            Value::Complex(re, im) if im.is_sign_negative() => write!(self.out, "({}-{}j)", float(*re), float(-im)),
            Value::Complex(re, im) => write!(self.out, "({}+{}j)", float(*re), float(*im)),
            Value::Str(text) => self.text(text),
            Value::Bytes(bytes) => self.bytes(bytes),
            Value::ByteArray(bytes) => {
                self.out.write_str("bytearray(")?;
                self.bytes(bytes)?;
                self.out.write_char(')')
            }
            Value::List(items) => self.items("[", items, "]"),
            Value::Tuple(items) => self.items("(", items, if items.len() == 1 { ",)" } else { ")" }),
            Value::Set(items) if items.is_empty() => self.out.write_str("set()"),
            Value::Set(items) => self.items("{", items, "}"),
            Value::FrozenSet(items) => self.items("frozenset({", items, "})"),
            Value::Dict(dict) => self.dict(dict),
            Value::Tensor(tensor) => {
                self.out.write_str(&tensor.describe())?;
                match tensor.location() {
                    "cpu" | "meta" => Ok(()),
                    location => write!(self.out, " {location}"),
                }
            }
            Value::Storage(storage, dtype) => {
                let dtype = dtype.map_or("untyped", |dtype| dtype.name());
                write!(self.out, "{dtype} storage of {} bytes", storage.len())
            }
            Value::DType(dtype) => write!(self.out, "torch.{dtype}"),
            Value::Device(name) => write!(self.out, "device({name:?})"),
            Value::Size(shape) => write!(self.out, "torch.Size({shape})"),
            Value::Global(name) => write!(self.out, "<class {name}>"),
            Value::Object(object) => self.object(object),
            Value::Cycle(_) => self.out.write_str("..."),
        }
    }

    fn text(&mut self, text: &str) -> fmt::Result {
        match text.char_indices().nth(LONGEST) {
            None => write!(self.out, "{text:?}"),
            Some((end, _)) => write!(self.out, "{:?}...", &text[..end]),
        }
    }

    fn bytes(&mut self, bytes: &[u8]) -> fmt::Result {
        let shown = &bytes[..bytes.len().min(LONGEST)];
        write!(self.out, "b\"{}\"{}", shown.escape_ascii(), if shown.len() < bytes.len() { "..." } else { "" })
    }

    /// Whether there is room to go into a container.
    fn enter(&mut self) -> bool {
        if self.depth == DEEPEST || self.budget == 0 {
            return false;
        }
        self.depth += 1;
        true
    }

    fn line(&mut self) -> fmt::Result {
        write!(self.out, "\n{:1$}", "", self.depth * 2)
    }

    /// Items in one line, or each in its own when one of them takes several.
    fn items(&mut self, open: &str, items: &[Value], close: &str) -> fmt::Result {
        self.out.write_str(open)?;
        if items.is_empty() {
            return self.out.write_str(close);
        }
        if !self.enter() {
            write!(self.out, "...{close}")?;
            return Ok(());
        }
        let lines = items
            .iter()
            .any(|item| matches!(item, Value::Dict(dict) if !dict.is_empty()) || matches!(item, Value::Object(_)));
        for (i, item) in items.iter().enumerate() {
            if i > 0 {
                self.out.write_str(if lines { "," } else { ", " })?;
            }
            if lines {
                self.line()?;
            }
            if self.budget == 0 {
                write!(self.out, "... {} more", items.len() - i)?;
                break;
            }
            self.value(item)?;
        }
        self.depth -= 1;
        if lines {
            self.line()?;
        }
        self.out.write_str(close)
    }

    fn dict(&mut self, dict: &Dict) -> fmt::Result {
        let kind = match dict.kind() {
            super::DictKind::Dict => String::new(),
            other => format!("{other} "),
        };
        self.entries(&kind, dict.iter().map(|(key, value)| (key, value)), dict.len())
    }

    fn entries<'v>(
        &mut self,
        title: &str,
        entries: impl Iterator<Item = (&'v Value, &'v Value)>,
        len: usize,
    ) -> fmt::Result {
        write!(self.out, "{title}{{")?;
        if len == 0 {
            return self.out.write_char('}');
        }
        if !self.enter() {
            return self.out.write_str("...}");
        }
        for (i, (key, value)) in entries.enumerate() {
            self.line()?;
            if self.budget == 0 {
                write!(self.out, "... {} more", len - i)?;
                break;
            }
            self.value(key)?;
            self.out.write_str(": ")?;
            self.value(value)?;
            self.out.write_char(',')?;
        }
        self.depth -= 1;
        self.line()?;
        self.out.write_char('}')
    }

    fn object(&mut self, object: &Object) -> fmt::Result {
        if let Some(scalar) = object.numpy_scalar() {
            return self.value(&scalar);
        }
        if let Some(array) = object.describe_array() {
            return self.out.write_str(&array);
        }
        write!(self.out, "<{}", object.class())?;
        if !object.args.is_empty() {
            self.items("(", &object.args, ")")?;
        }
        if let Some(kwargs) = &object.kwargs {
            self.out.write_str(" ")?;
            self.value(kwargs)?;
        }
        if !object.items.is_empty() {
            self.items(" [", &object.items, "]")?;
        }
        if !object.entries.is_empty() {
            self.entries(" ", object.entries.iter().map(|(key, value)| (key, value)), object.entries.len())?;
        }
        if let Some(state) = &object.state {
            self.out.write_str(" ")?;
            self.value(state)?;
        }
        self.out.write_char('>')
    }
}

/// As Python prints floats.
fn float(value: f64) -> String {
    if value.is_nan() {
        return "nan".into();
    }
    let text = format!("{value:?}");
    // Python pads exponents to two digits and signs them.
    match text.split_once('e') {
        Some((digits, exponent)) => {
            let digits = digits.strip_suffix(".0").unwrap_or(digits);
            let exponent: i32 = exponent.parse().unwrap_or(0);
            format!("{digits}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
        }
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn prints_as_python_does() {
        let group = Dict::from_iter([
            ("lr", Value::Float(1e-5)),
            ("betas", Value::Tuple([0.9, 0.999].map(Value::Float).into())),
            ("nesterov", Value::Bool(false)),
            ("z", Value::Complex(1.0, -2.5)),
        ]);
        let value = Value::from(Dict::from_iter([("groups", vec![group])]));
        let expected = "{\n  \"groups\": [\n    {\n      \"lr\": 1e-05,\n      \"betas\": (0.9, 0.999),\n      \
                        \"nesterov\": False,\n      \"z\": (1.0-2.5j),\n    }\n  ],\n}";
        assert_eq!(value.to_string(), expected);
    }

    #[test]
    fn doubling_values_print_in_bounded_time() {
        let mut value = Value::from(vec![1i64]);
        for _ in 0..900 {
            value = Value::List(Arc::new(vec![value.clone(), value]));
        }
        assert!(value.to_string().len() < 100_000);
    }
}
