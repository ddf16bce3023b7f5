//! JSON for programs that people can read too: one line for each item of a list.

use std::io::Write;

use serde_json::{Map, Value};

use super::Result;

/// Writes an object with one line a key, and one line an item where a value is a list.
pub(crate) fn write(out: &mut dyn Write, answer: &Map<String, Value>) -> Result<()> {
    writeln!(out, "{{")?;
    for (i, (key, value)) in answer.iter().enumerate() {
        write!(out, "  {}: ", Value::from(key.as_str()))?;
        match value.as_array().filter(|items| !items.is_empty()) {
            Some(items) => {
                for (i, item) in items.iter().enumerate() {
                    write!(out, "{}\n    {item}", if i == 0 { "[" } else { "," })?;
                }
                write!(out, "\n  ]")?;
            }
            None => write!(out, "{value}")?,
        }
        writeln!(out, "{}", if i + 1 < answer.len() { "," } else { "" })?;
    }
    Ok(writeln!(out, "}}")?)
}
