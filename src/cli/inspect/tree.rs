//! The tree of values, for people.

use std::collections::HashMap;
use std::io::Write;
use std::sync::Arc;

use sconce::StoredModule;
use sconce::checkpoint::{DictKind, Layout, Object, Storage, StoredTensor, Value};

use super::super::{Result, text};
use super::digest::Digests;
use super::fold::{Row, rows};
use super::totals;
use super::walk::{Content, Item, is_module};

/// What is printed for a value that is not listed part by part.
const LINE: usize = 80;
/// Names are aligned up to this width.
const WIDEST: usize = 60;
/// Files of no more lines are printed whole.
const FEW: usize = 40;

pub(super) struct Tree<'t, 'a> {
    content: &'t Content<'a>,
    /// Nothing is left out.
    whole: bool,
    /// The digest of each tensor, by its position.
    digests: Digests,
    /// The first tensor of each storage.
    first: HashMap<*const Storage, usize>,
}

impl<'t, 'a> Tree<'t, 'a> {
    pub(super) fn new(content: &'t Content<'a>, whole: bool, digests: Digests) -> Self {
        let mut first = HashMap::new();
        for (at, item) in content.items.iter().enumerate() {
            if let Some(tensor) = item.tensor().filter(|tensor| !tensor.storage().is_empty()) {
                first.entry(Arc::as_ptr(tensor.storage())).or_insert(at);
            }
        }
        Self { content, whole: whole || content.items.len() <= FEW, digests, first }
    }

    /// Everything in the file.
    pub(super) fn write(&self, out: &mut dyn Write) -> Result<()> {
        match self.content.items.len() {
            1 => self.line(out, 0, "", 0, 0),
            _ => {
                if !matches!(self.content.items[0].value, Value::Dict(_)) {
                    writeln!(out, "{}", self.describe(0))?;
                }
                self.inside(out, 0, 1)
            }
        }
    }

    fn inside(&self, out: &mut dyn Write, parent: usize, depth: usize) -> Result<()> {
        let rows = rows(self.content, parent, self.whole);
        let shown = rows.iter().filter_map(|row| match row {
            Row::Item(at) => Some(&self.content.items[*at]).filter(|item| item.tensor().is_some()),
            _ => None,
        });
        let (names, dtypes) = shown.fold((0, 0), |(names, dtypes), item| {
            let dtype = item.tensor().map_or(0, |tensor| tensor.dtype().name().len());
            (names.max(item.label().chars().count()), dtypes.max(dtype))
        });
        let names = names.min(WIDEST);
        for row in &rows {
            match row {
                Row::Item(at) => {
                    self.line(out, *at, &"  ".repeat(depth), names, dtypes)?;
                    if self.content.items[*at].end > at + 1 {
                        self.inside(out, *at, depth + 1)?;
                    }
                }
                Row::Same { like, first, last, count, tensors, lines } => {
                    let range =
                        if count == &1 { clean(first) } else { format!("{} ... {}", clean(first), clean(last)) };
                    let what =
                        if *tensors > 0 { text::count(*tensors, "tensor") } else { text::count(*lines, "value") };
                    writeln!(out, "{}{range}: {what} like those of {}", "  ".repeat(depth), clean(like))?;
                }
                Row::More { first, last, count, tensors } => {
                    let tensors =
                        if *tensors > 0 { format!(", {}", text::count(*tensors, "tensor")) } else { String::new() };
                    writeln!(
                        out,
                        "{}{} ... {}: {} more{tensors}",
                        "  ".repeat(depth),
                        clean(first),
                        clean(last),
                        text::number(*count as u64)
                    )?;
                }
            }
        }
        Ok(())
    }

    fn line(&self, out: &mut dyn Write, at: usize, indent: &str, names: usize, dtypes: usize) -> Result<()> {
        let item = &self.content.items[at];
        let label = clean(item.label());
        match item.tensor() {
            Some(tensor) => {
                let space = if label.is_empty() { "" } else { "  " };
                writeln!(out, "{indent}{label:names$}{space}{:dtypes$}  {}", tensor.dtype(), self.tensor(at, tensor))?;
            }
            None if label.is_empty() => writeln!(out, "{indent}{}", self.describe(at))?,
            None => writeln!(out, "{indent}{label}: {}", self.describe(at))?,
        }
        Ok(())
    }

    /// One tensor with its whole name.
    pub(super) fn named(&self, out: &mut dyn Write, at: usize) -> Result<()> {
        let item = &self.content.items[at];
        let Some(tensor) = item.tensor() else { return Ok(writeln!(out, "{}: {}", clean(&item.name), item.value)?) };
        Ok(writeln!(out, "{}  {}  {}", clean(&item.name), tensor.dtype(), self.tensor(at, tensor))?)
    }

    /// A tensor's shape and whatever is unusual about it.
    fn tensor(&self, at: usize, tensor: &StoredTensor) -> String {
        let mut words = vec![tensor.shape().to_string()];
        if !tensor.is_contiguous() && tensor.layout() == Layout::Strided {
            words.push(format!("stride {:?}", tensor.stride()));
        }
        if tensor.layout() != Layout::Strided {
            words.push(tensor.layout().to_string());
        }
        words.extend(tensor.class().map(|class| format!("<{}>", clean(class))));
        if tensor.quantizer().is_some() {
            words.push("quantized".to_owned());
        }
        if tensor.location() != "cpu" && tensor.layout() != Layout::Meta {
            words.push(clean(tensor.location()));
        }
        if tensor.requires_grad() {
            words.push("requires_grad".to_owned());
        }
        if tensor.has_hooks() {
            words.push("hooks".to_owned());
        }
        let first = self.first.get(&Arc::as_ptr(tensor.storage())).copied().filter(|&first| first < at);
        if let Some(other) = first.map(|first| &self.content.items[first]) {
            let same = other.tensor().is_some_and(|other| other.is_same_view(tensor));
            let relation = if same { "the same as" } else { "shares its storage with" };
            words.push(format!("({relation} `{}`)", clean(&other.name)));
        }
        words.extend(self.digests.get(&at).map(|digest| match digest {
            Ok(digest) => format!("sha256:{digest}"),
            Err(why) => format!("sha256: none ({})", clean(why)),
        }));
        words.join("  ")
    }

    /// What a value is: its text, or what it has inside.
    fn describe(&self, at: usize) -> String {
        let item = &self.content.items[at];
        match item.value {
            Value::Object(object) if is_module(object) => describe_module(item.value, object),
            Value::Object(object) if !object.is_array() => describe_object(object),
            value if item.end == at + 1 => text::short(&value.to_string(), LINE),
            value => self.describe_container(at, item, value),
        }
    }

    fn describe_container(&self, at: usize, item: &Item<'_>, value: &Value) -> String {
        let parts = self.content.children(at).len();
        let kind = match value {
            Value::Dict(dict) if dict.kind() == DictKind::Dict => "dict".to_owned(),
            Value::Dict(dict) => dict.kind().to_string(),
            Value::Tuple(_) => "tuple".to_owned(),
            Value::Set(_) => "set".to_owned(),
            Value::FrozenSet(_) => "frozenset".to_owned(),
            _ => "list".to_owned(),
        };
        let tensors: Vec<&StoredTensor> = self.content.items[at..item.end].iter().filter_map(Item::tensor).collect();
        match tensors.len() {
            0 => format!("{kind} of {}", text::number(parts as u64)),
            count => {
                let bytes = tensors.iter().fold(0u64, |sum, tensor| sum.saturating_add(totals::bytes(tensor)));
                format!(
                    "{kind} of {}: {}, {}",
                    text::number(parts as u64),
                    text::count(count, "tensor"),
                    text::bytes(bytes)
                )
            }
        }
    }
}

/// A module as PyTorch prints it; of one with modules inside, which come below, the class.
fn describe_module(value: &Value, object: &Object) -> String {
    let leaf = StoredModule::try_from(value).ok().filter(|module| module.children().next().is_none());
    match (leaf, object.class().strip_prefix("torch.nn.modules.")) {
        (Some(module), Some(_)) => text::short(&module.to_string(), 160),
        (_, Some(path)) => clean(path.rsplit('.').next().unwrap_or_default()),
        (_, None) => format!("<{}>", clean(object.class())),
    }
}

/// An object's class and arguments.
fn describe_object(object: &Object) -> String {
    let parts: Vec<String> = object.args().iter().map(|value| text::short(&value.to_string(), 40)).collect();
    let args = if parts.is_empty() { String::new() } else { format!("({})", parts.join(", ")) };
    format!("<{}>{}", clean(object.class()), text::short(&args, 160))
}

fn clean(name: &str) -> String {
    text::clean(name).into_owned()
}
