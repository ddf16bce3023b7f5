//! Values as Python prints them.

use std::fmt::Write as _;

use crate::checkpoint::Value;
use crate::nn::repr::float;

/// What is longer than this is cut short: arguments of layers are short.
const LONGEST: usize = 4000;

/// `str(value)`.
pub(super) fn str(value: &Value) -> String {
    match value {
        Value::Str(text) => text.to_string(),
        Value::Device(name) => name.to_string(),
        other => repr(other),
    }
}

/// `repr(value)`.
pub(super) fn repr(value: &Value) -> String {
    let mut out = String::new();
    write(&mut out, value);
    out
}

fn write(out: &mut String, value: &Value) {
    if out.len() > LONGEST {
        return;
    }
    match value {
        Value::Float(value) => out.push_str(&float(*value)),
        Value::Str(text) => string(out, text),
        Value::List(items) => sequence(out, "[", items, "]"),
        Value::Tuple(items) => sequence(out, "(", items, if items.len() == 1 { ",)" } else { ")" }),
        Value::Dict(dict) => {
            out.push('{');
            for (i, (key, value)) in dict.iter().enumerate() {
                out.push_str(if i > 0 { ", " } else { "" });
                write(out, key);
                out.push_str(": ");
                write(out, value);
                if out.len() > LONGEST {
                    break;
                }
            }
            out.push('}');
        }
        Value::Device(name) => {
            let _ = match name.split_once(':') {
                Some((kind, index)) => write!(out, "device(type='{kind}', index={index})"),
                None => write!(out, "device(type='{name}')"),
            };
        }
        Value::Global(name) => {
            let _ = write!(out, "<class '{name}'>");
        }
        Value::Object(object) if object.class() == "torch.Size" && object.args().len() == 1 => {
            if let Ok(sizes) = object.args()[0].as_list() {
                sequence(out, "torch.Size([", sizes, "])");
            }
        }
        other => {
            let _ = write!(out, "{other}");
        }
    }
}

fn sequence(out: &mut String, open: &str, items: &[Value], close: &str) {
    out.push_str(open);
    for (i, item) in items.iter().enumerate() {
        out.push_str(if i > 0 { ", " } else { "" });
        write(out, item);
        if out.len() > LONGEST {
            out.push_str("...");
            break;
        }
    }
    out.push_str(close);
}

/// In single quotes, unless that takes an escape that double quotes do not.
fn string(out: &mut String, text: &str) {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.push(quote);
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\\' => out.push_str("\\\\"),
            c if c == quote => out.extend(['\\', c]),
            c if c.is_control() => {
                let _ = write!(out, "\\x{:02x}", c as u32);
            }
            c => out.push(c),
        }
        if out.len() > LONGEST {
            break;
        }
    }
    out.push(quote);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_print_as_in_python() {
        let tuple = |items: Vec<Value>| Value::Tuple(items.into());
        for (value, text) in [
            (tuple(vec![Value::Int(3)]), "(3,)"),
            (tuple(vec![Value::Int(3), Value::None, Value::Bool(true)]), "(3, None, True)"),
            (Value::from("it's"), "\"it's\""),
            (Value::from("a\n'\"\\"), "'a\\n\\'\"\\\\'"),
            (Value::Float(1e-5), "1e-05"),
            (Value::Float(f64::NAN), "nan"),
            (Value::from(vec![0.5, 2.0]), "[0.5, 2.0]"),
            (Value::Device("cuda:1".into()), "device(type='cuda', index=1)"),
        ] {
            assert_eq!(repr(&value), text);
        }
        assert_eq!(str(&Value::from("mean")), "mean");
    }

    #[test]
    fn long_values_are_cut_short() {
        let mut value = Value::from(vec![1i64]);
        for _ in 0..60 {
            value = Value::from(vec![value.clone(), value]);
        }
        assert!(repr(&value).len() < 2 * LONGEST);
    }
}
