//! `sconce inspect`: what is in a file.

use std::collections::HashMap;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;

use sconce::checkpoint::{Dict, Storage, StoredTensor, Value};
use sconce::{Checkpoint, Tensor};
use serde_json::json;

use super::compare::values;
use super::{Context, Failure, Result, Verdict};

/// Values that are looked at: dicts that share others can make a small file say much.
const MOST: usize = 1_000_000;

/// Prints every value of the file with its name, and what its tensors take. Nothing in the file is executed.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// The file that PyTorch wrote
    file: PathBuf,

    /// Only these, with their values and statistics: a name as it is printed without NAME, or what it starts with, as
    /// `layer1`
    #[arg(value_name = "NAME")]
    names: Vec<String>,

    /// Print the tensors as JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args, context: &mut Context<'_>) -> Result<Verdict> {
    let checkpoint = sconce::load(&args.file)?;
    let mut content = Content::of(&checkpoint);
    content.select(&args.names, &args.file.display().to_string())?;
    if args.json {
        let tensors = content.tensors().map(|(name, tensor)| content.to_json(name, tensor));
        let answer = json!({
            "file": checkpoint.name(),
            "container": container(&checkpoint),
            "bytes": checkpoint.file_bytes(),
            "tensors": tensors.collect::<Vec<_>>(),
        });
        writeln!(context.out, "{}", serde_json::to_string_pretty(&answer).map_err(io::Error::from)?)?;
        return Ok(Verdict::Done);
    }
    if args.names.is_empty() {
        let bytes = show_bytes(checkpoint.file_bytes());
        writeln!(context.out, "{}: {}, {bytes}", checkpoint.name(), container(&checkpoint))?;
    }
    content.write(context.out, !args.names.is_empty())?;
    if args.names.is_empty() {
        writeln!(context.out, "{}", content.summary())?;
        for tie in content.ties() {
            writeln!(context.out, "shared: {tie}")?;
        }
    }
    Ok(Verdict::Done)
}

fn container(checkpoint: &Checkpoint) -> &'static str {
    checkpoint.container().name()
}

/// The values of a file that have nothing inside them, by name, and the storages of its tensors.
struct Content<'a> {
    leaves: Vec<(String, &'a Value)>,
    storages: HashMap<*const Storage, usize>,
    is_cut: bool,
}

impl<'a> Content<'a> {
    fn of(checkpoint: &'a Checkpoint) -> Self {
        let mut content = Self { leaves: Vec::new(), storages: HashMap::new(), is_cut: false };
        let mut looked_at = 0;
        content.visit(String::new(), checkpoint.root(), &mut looked_at);
        content
    }

    fn visit(&mut self, name: String, value: &'a Value, looked_at: &mut usize) {
        *looked_at += 1;
        if *looked_at > MOST {
            self.is_cut = true;
            return;
        }
        match value {
            Value::Dict(dict) if !dict.is_empty() => self.visit_dict(&name, dict, looked_at),
            Value::List(items) if has_parts(items) => self.visit_items(&name, items, looked_at),
            Value::Tuple(items) if has_parts(items) => self.visit_items(&name, items, looked_at),
            Value::Object(object) => {
                self.leaves.push((name.clone(), value));
                self.visit_items(&name, object.items(), looked_at);
                for (key, value) in object.entries() {
                    self.visit(join(&name, key), value, looked_at);
                }
                if let Some(Value::Dict(state)) = object.state() {
                    self.visit_dict(&name, state, looked_at);
                }
            }
            Value::Tensor(tensor) => {
                let next = self.storages.len();
                self.storages.entry(Arc::as_ptr(tensor.storage())).or_insert(next);
                self.leaves.push((name, value));
            }
            _ => self.leaves.push((name, value)),
        }
    }

    fn visit_dict(&mut self, name: &str, dict: &'a Dict, looked_at: &mut usize) {
        for (key, value) in dict.iter() {
            self.visit(join(name, key), value, looked_at);
        }
    }

    fn visit_items(&mut self, name: &str, items: &'a [Value], looked_at: &mut usize) {
        for (index, value) in items.iter().enumerate() {
            self.visit(format!("{name}[{index}]"), value, looked_at);
        }
    }

    /// Keeps what has one of the names, or is inside it.
    fn select(&mut self, names: &[String], file: &str) -> Result<()> {
        let inside = |leaf: &str, name: &str| {
            leaf.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        for name in names {
            if !self.leaves.iter().any(|(leaf, _)| inside(leaf, name)) {
                let near = self.leaves.iter().filter(|(leaf, _)| leaf.contains(name.as_str())).take(8);
                let near: Vec<String> = near.map(|(leaf, _)| format!("`{leaf}`")).collect();
                let failure = Failure::new(format!("`{file}` has no `{name}`"));
                return Err(match near.is_empty() {
                    true => failure.help("without NAME all names are printed"),
                    false => failure.help(format!("it has {}", near.join(", "))),
                });
            }
        }
        if !names.is_empty() {
            self.leaves.retain(|(leaf, _)| names.iter().any(|name| inside(leaf, name)));
        }
        Ok(())
    }

    fn tensors(&self) -> impl Iterator<Item = (&str, &'a StoredTensor)> {
        self.leaves.iter().filter_map(|(name, value)| match value {
            Value::Tensor(tensor) => Some((name.as_str(), &**tensor)),
            _ => None,
        })
    }

    fn write(&self, out: &mut dyn Write, with_values: bool) -> Result<()> {
        let width = |text: &str| text.chars().count();
        let names = self.leaves.iter().map(|(name, _)| width(name)).max().unwrap_or(0).min(60);
        let dtypes = self.tensors().map(|(_, tensor)| width(tensor.dtype().name())).max().unwrap_or(0);
        for (name, value) in &self.leaves {
            match value {
                Value::Tensor(tensor) => {
                    write!(out, "  {name:names$}  {:dtypes$}  {}", tensor.dtype(), tensor.shape())?;
                    let location = tensor.storage().location();
                    if location != "cpu" {
                        write!(out, "  {location}")?;
                    }
                    writeln!(out)?;
                    if with_values {
                        write_values(out, tensor)?;
                    }
                }
                Value::Object(object) => writeln!(out, "  {name:names$}  <{}>", object.class())?,
                _ if with_values => writeln!(out, "  {name:names$}  {value}")?,
                _ => writeln!(out, "  {name:names$}  {}", short(&value.to_string()))?,
            }
        }
        if self.is_cut {
            writeln!(out, "  ... and more")?;
        }
        Ok(())
    }

    /// How many tensors of which dtypes there are, and what they take.
    fn summary(&self) -> String {
        let mut dtypes: Vec<(&str, usize)> = Vec::new();
        let mut sizes: HashMap<*const Storage, u64> = HashMap::new();
        let (mut elements, mut count, mut trainable) = (0usize, 0, 0);
        for (_, tensor) in self.tensors() {
            let name = tensor.dtype().name();
            match dtypes.iter_mut().find(|(other, _)| *other == name) {
                Some((_, count)) => *count += 1,
                None => dtypes.push((name, 1)),
            }
            sizes.insert(Arc::as_ptr(tensor.storage()), tensor.storage().len() as u64);
            elements = elements.saturating_add(tensor.shape().numel());
            count += 1;
            trainable += usize::from(tensor.requires_grad());
        }
        if count == 0 {
            return "no tensors".to_owned();
        }
        let dtypes: Vec<String> = dtypes.iter().map(|(name, count)| format!("{count} {name}")).collect();
        let bytes = show_bytes(sizes.values().sum());
        let plural = if count == 1 { "" } else { "s" };
        let mut text = format!("{count} tensor{plural} ({}), {elements} elements, {bytes}", dtypes.join(", "));
        if trainable > 0 {
            text += &format!(", {trainable} with requires_grad");
        }
        text
    }

    /// The names of tensors that share a storage.
    fn ties(&self) -> Vec<String> {
        let mut names: Vec<Vec<&str>> = vec![Vec::new(); self.storages.len()];
        for (name, tensor) in self.tensors() {
            names[self.storages[&Arc::as_ptr(tensor.storage())]].push(name);
        }
        let shared = names.iter().filter(|names| names.len() > 1);
        shared
            .map(|names| {
                let first: Vec<String> = names.iter().take(4).map(|name| format!("`{name}`")).collect();
                let more = names.len().saturating_sub(4);
                first.join(", ") + &if more > 0 { format!(" and {more} more") } else { String::new() }
            })
            .collect()
    }

    /// The keys are an interface: they stay.
    fn to_json(&self, name: &str, tensor: &StoredTensor) -> serde_json::Value {
        json!({
            "name": name,
            "dtype": tensor.dtype().name(),
            "shape": tensor.shape().to_vec(),
            "stride": tensor.stride(),
            "location": tensor.storage().location(),
            "requires_grad": tensor.requires_grad(),
            "bytes": tensor.shape().numel().saturating_mul(tensor.dtype().size()),
            "storage": self.storages[&Arc::as_ptr(tensor.storage())],
        })
    }
}

/// Whether a list is more than a few numbers and words: its items are listed one by one.
fn has_parts(items: &[Value]) -> bool {
    let is_part = |value: &Value| {
        matches!(
            value,
            Value::Tensor(_)
                | Value::Dict(_)
                | Value::List(_)
                | Value::Tuple(_)
                | Value::Object(_)
                | Value::Storage(..)
        )
    };
    items.iter().any(is_part)
}

fn join(name: &str, key: &Value) -> String {
    match key {
        Value::Str(key) if name.is_empty() => key.to_string(),
        Value::Str(key) => format!("{name}.{key}"),
        other => format!("{name}[{other}]"),
    }
}

/// A printed value in one line of bounded length.
fn short(text: &str) -> String {
    const MOST: usize = 80;
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}...", &line[..end]),
        None => line,
    }
}

fn show_bytes(bytes: u64) -> String {
    match bytes {
        0..10_000 => format!("{bytes} bytes"),
        10_000..10_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        10_000_000..10_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.1} GB", bytes as f64 / 1e9),
    }
}

/// The statistics of a tensor, and its first elements.
fn write_values(out: &mut dyn Write, tensor: &StoredTensor) -> Result<()> {
    const FIRST: usize = 8;
    let elements = match Tensor::from_stored(tensor).map_err(Failure::from).and_then(|tensor| values(&tensor)) {
        Ok(elements) => elements,
        Err(failure) => return Ok(writeln!(out, "    {failure}")?),
    };
    if elements.is_empty() {
        return Ok(writeln!(out, "    no elements")?);
    }
    let finite: Vec<f64> = elements.iter().copied().filter(|x| x.is_finite()).collect();
    if !finite.is_empty() {
        let count = finite.len() as f64;
        let mean = finite.iter().sum::<f64>() / count;
        let deviation = (finite.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / count).sqrt();
        let (min, max) = finite.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), &x| (a.min(x), b.max(x)));
        let zeros = finite.iter().filter(|&&x| x == 0.0).count();
        writeln!(
            out,
            "    min {min:.6}, max {max:.6}, mean {mean:.6}, standard deviation {deviation:.6}, {zeros} zeros"
        )?;
    }
    let nan = elements.iter().filter(|x| x.is_nan()).count();
    let infinite = elements.len() - finite.len() - nan;
    if nan + infinite > 0 {
        writeln!(out, "    {nan} NaN, {infinite} infinite")?;
    }
    let first: Vec<String> = elements.iter().take(FIRST).map(|x| format!("{x:.6}")).collect();
    let more = if elements.len() > FIRST { ", ..." } else { "" };
    Ok(writeln!(out, "    {}{more}", first.join(", "))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_lines_are_short() {
        assert_eq!(show_bytes(9_999), "9999 bytes");
        assert_eq!(show_bytes(46_827_520), "46.8 MB");
        assert_eq!(short("{\n  'a': 1\n}"), "{ 'a': 1 }");
        assert_eq!(short(&"é".repeat(200)).chars().count(), 83);
    }
}
