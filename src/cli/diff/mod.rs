//! `sconce diff`: how the contents of two files differ.

mod tensors;

use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use sconce::Checkpoint;
use sconce::checkpoint::{StoredTensor, Value};
use serde_json::{Map, Value as Json, json};

use self::tensors::Difference;
use super::compare::{Tolerance, show};
use super::inspect::{Content, Item};
use super::{Context, Failure, Result, Verdict, numbers, text};

/// Compares the contents of two files by name: tensors by dtype, shape and elements, other values as they are printed.
/// Where tensors lie, their strides and `requires_grad` make no difference. The exit status is 0 when all is equal, 1 when
/// not.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    a: PathBuf,
    b: PathBuf,

    /// Compare the state dicts in the files, wherever in the files they are
    #[arg(long)]
    state_dict: bool,

    /// Elements are equal when |a - b| <= atol + rtol * |b|
    #[arg(long, value_name = "A", default_value_t = 0.0, value_parser = super::parse_tolerance)]
    atol: f64,

    /// See --atol
    #[arg(long, value_name = "R", default_value_t = 0.0, value_parser = super::parse_tolerance)]
    rtol: f64,

    /// Print every difference, not only the first ones of each kind
    #[arg(long)]
    all: bool,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args, context: &mut Context<'_>) -> Result<Verdict> {
    let (a, b) = (open(&args.a, args.state_dict)?, open(&args.b, args.state_dict)?);
    let (left, right) = (Leaves::of(&a), Leaves::of(&b));
    let tolerance = Tolerance { atol: args.atol, rtol: args.rtol };
    let report = compare(&left, &right, tolerance, &mut context.console.progress())?;
    if args.json {
        super::json::write(context.out, &report.to_json(&a.name, &b.name))?;
    } else {
        report.write(context.out, [&a.name, &b.name], args.all)?;
    }
    Ok(if report.is_equal() { Verdict::Done } else { Verdict::CheckFailed })
}

/// A file, or the state dict in it.
struct Opened {
    name: String,
    root: Value,
}

fn open(path: &Path, state_dict: bool) -> Result<Opened> {
    let checkpoint: Checkpoint = sconce::load(path)?;
    let name = text::clean(checkpoint.name()).into_owned();
    let root = match state_dict {
        false => checkpoint.root().clone(),
        true => {
            let state = checkpoint.state_dict()?;
            Value::from(state.into_iter().collect::<sconce::checkpoint::Dict>())
        }
    };
    Ok(Opened { name, root })
}

/// What has nothing inside it, by name and in the order of the file.
struct Leaves<'a> {
    content: Content<'a>,
    by_name: HashMap<String, usize>,
}

impl<'a> Leaves<'a> {
    fn of(opened: &'a Opened) -> Self {
        let content = Content::of(&opened.root);
        let is_leaf = |at: usize| {
            let item = &content.items[at];
            item.end == at + 1 || matches!(item.value, Value::Object(_))
        };
        let by_name = (0..content.items.len()).filter(|&at| is_leaf(at));
        let by_name = by_name.map(|at| (content.items[at].name.clone(), at)).collect();
        Self { content, by_name }
    }

    fn get(&self, name: &str) -> Option<&Item<'a>> {
        self.by_name.get(name).map(|&at| &self.content.items[at])
    }

    fn iter(&self) -> impl Iterator<Item = &Item<'a>> {
        self.content
            .items
            .iter()
            .enumerate()
            .filter(|(at, item)| self.by_name.get(&item.name) == Some(at))
            .map(|(_, item)| item)
    }
}

/// All that differs.
#[derive(Default)]
struct Report {
    /// Names, with what is there.
    only_a: Vec<(String, String)>,
    only_b: Vec<(String, String)>,
    /// Tensors whose dtypes or shapes differ.
    kinds: Vec<(String, String, String)>,
    /// Tensors whose elements differ, the largest difference first.
    elements: Vec<(String, Difference)>,
    /// Tensors whose elements cannot be compared as numbers, and why.
    opaque: Vec<(String, String)>,
    /// Other values.
    values: Vec<(String, String, String)>,
    common: usize,
    /// Of elements within the tolerance.
    largest: Option<(String, Difference)>,
    is_cut: bool,
}

fn compare(
    a: &Leaves<'_>,
    b: &Leaves<'_>,
    tolerance: Tolerance,
    progress: &mut super::console::Progress,
) -> Result<Report> {
    let mut report = Report { is_cut: a.content.is_cut || b.content.is_cut, ..Report::default() };
    for item in b.iter().filter(|item| a.get(&item.name).is_none()) {
        report.only_b.push((item.name.clone(), describe(item.value)));
    }
    let count = a.by_name.len();
    for (at, item) in a.iter().enumerate() {
        let Some(other) = b.get(&item.name) else {
            report.only_a.push((item.name.clone(), describe(item.value)));
            continue;
        };
        match (item.tensor(), other.tensor()) {
            (Some(x), Some(y)) => {
                progress.show(format_args!("comparing {} of {}: {}", at + 1, count, text::clean(&item.name)));
                report.compare_tensors(&item.name, x, y, tolerance)?;
            }
            (None, None) if is_array(item.value) && is_array(other.value) => {
                match (item.value.as_array(), other.value.as_array()) {
                    (Ok(x), Ok(y)) => report.compare_tensors(&item.name, &x, &y, tolerance)?,
                    (Err(error), _) | (_, Err(error)) => report.opaque.push((item.name.clone(), error.to_string())),
                }
            }
            (None, None) if same_value(item.value, other.value, tolerance) => {}
            _ => report.values.push((item.name.clone(), describe(item.value), describe(other.value))),
        }
    }
    let by_size = |(_, difference): &(String, Difference)| std::cmp::Reverse(tensors::Ordered(difference.absolute));
    report.elements.sort_by_key(by_size);
    Ok(report)
}

/// Values are equal when they print equal; numbers, within the tolerance.
fn same_value(a: &Value, b: &Value, tolerance: Tolerance) -> bool {
    match (a, b) {
        // Of a list: the others are compared as tensors.
        (Value::Object(_), Value::Object(_)) if is_array(a) && is_array(b) => same_array(a, b),
        (Value::Object(a), Value::Object(b)) => {
            a.class() == b.class() && a.args().len() == b.args().len() && {
                let shown = |args: &[Value]| args.iter().map(Value::to_string).collect::<Vec<_>>();
                shown(a.args()) == shown(b.args())
            }
        }
        (Value::Float(a), Value::Float(b)) => tensors::allows(tolerance, *a, *b),
        (Value::Str(a), Value::Str(b)) => a == b,
        (Value::Bytes(a), Value::Bytes(b)) | (Value::ByteArray(a), Value::ByteArray(b)) => a == b,
        (Value::List(a), Value::List(b)) => same_items(a, b, tolerance),
        (Value::Tuple(a), Value::Tuple(b)) => same_items(a, b, tolerance),
        (Value::Dict(a), Value::Dict(b)) => a.kind() == b.kind() && a.len() == b.len(),
        (Value::Storage(a, x), Value::Storage(b, y)) => {
            x == y && matches!((a.bytes(), b.bytes()), (Ok(a), Ok(b)) if a == b)
        }
        _ => std::mem::discriminant(a) == std::mem::discriminant(b) && a.to_string() == b.to_string(),
    }
}

fn is_array(value: &Value) -> bool {
    matches!(value, Value::Object(object) if object.is_array())
}

fn same_array(a: &Value, b: &Value) -> bool {
    let (Ok(a), Ok(b)) = (a.as_array(), b.as_array()) else { return false };
    a.dtype() == b.dtype()
        && a.shape() == b.shape()
        && matches!((a.contiguous_bytes(), b.contiguous_bytes()), (Ok(a), Ok(b)) if a == b)
}

/// Lists that are leaves have nothing but plain values in them.
fn same_items(a: &[Value], b: &[Value], tolerance: Tolerance) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same_value(a, b, tolerance))
}

fn describe(value: &Value) -> String {
    match value {
        Value::Tensor(tensor) => format!("{} {}", tensor.dtype(), tensor.shape()),
        Value::Object(object) if !object.is_array() => format!("<{}>", text::clean(object.class())),
        other => text::short(&other.to_string(), 60),
    }
}

impl Report {
    fn compare_tensors(&mut self, name: &str, a: &StoredTensor, b: &StoredTensor, tolerance: Tolerance) -> Result<()> {
        self.common += 1;
        let shapes = a.shape() != b.shape();
        if a.dtype() != b.dtype() || shapes {
            let kind = |tensor: &StoredTensor| format!("{} {}", tensor.dtype(), tensor.shape());
            self.kinds.push((name.to_owned(), kind(a), kind(b)));
        }
        if shapes {
            return Ok(());
        }
        match tensors::compare(a, b, tolerance) {
            Ok(None) => {}
            Ok(Some(difference)) if difference.outside > 0 => self.elements.push((name.to_owned(), difference)),
            Ok(Some(difference)) => {
                if self.largest.as_ref().is_none_or(|(_, largest)| difference.absolute > largest.absolute) {
                    self.largest = Some((name.to_owned(), difference));
                }
            }
            Err(Failure::Output(error)) => return Err(Failure::Output(error)),
            Err(failure) => self.opaque.push((name.to_owned(), failure.to_string())),
        }
        Ok(())
    }

    fn is_equal(&self) -> bool {
        let lists = [self.only_a.len(), self.only_b.len(), self.kinds.len(), self.elements.len()];
        lists.iter().all(|&len| len == 0) && self.opaque.is_empty() && self.values.is_empty() && !self.is_cut
    }

    fn write(&self, out: &mut dyn Write, [a, b]: [&str; 2], all: bool) -> Result<()> {
        let most = if all { usize::MAX } else { 10 };
        let rows = |list: &[(String, String)]| -> Vec<Vec<String>> {
            list.iter().map(|(name, what)| vec![clean(name), what.clone()]).collect()
        };
        section(out, &format!("only in {a}"), &rows(&self.only_a), most)?;
        section(out, &format!("only in {b}"), &rows(&self.only_b), most)?;
        let pairs = |list: &[(String, String, String)]| -> Vec<Vec<String>> {
            list.iter().map(|(name, a, b)| vec![clean(name), a.clone(), "->".to_owned(), b.clone()]).collect()
        };
        section(out, "other dtype or shape", &pairs(&self.kinds), most)?;
        let elements: Vec<_> = self.elements.iter().map(|(name, difference)| difference.row(clean(name))).collect();
        section(out, "other elements, the largest difference first", &elements, most)?;
        section(out, "not compared", &rows(&self.opaque), most)?;
        section(out, "other values", &pairs(&self.values), most)?;
        let common = text::count(self.common, "tensor");
        if self.is_equal() {
            writeln!(out, "equal: {common} and the other values are the same")?;
        } else {
            let equal = self.common.saturating_sub(self.elements.len() + self.opaque.len());
            writeln!(
                out,
                "different: {common} in both, {} of them with the same elements",
                text::number(equal as u64)
            )?;
        }
        if let Some((name, difference)) = &self.largest {
            let absolute = numbers::short(difference.absolute);
            writeln!(out, "the largest difference within the tolerance is {absolute}, in `{}`", clean(name))?;
        }
        if self.is_cut {
            writeln!(out, "the files hold more values than are compared")?;
        }
        Ok(())
    }

    /// The keys are an interface: they stay.
    fn to_json(&self, a: &str, b: &str) -> Map<String, Json> {
        let named =
            |list: &[(String, String)]| list.iter().map(|(name, what)| json!({"name": name, "value": what})).collect();
        let pairs = |list: &[(String, String, String)]| -> Json {
            list.iter().map(|(name, a, b)| json!({"name": name, "a": a, "b": b})).collect()
        };
        let rows: [(&str, Json); 10] = [
            ("a", json!(a)),
            ("b", json!(b)),
            ("equal", json!(self.is_equal())),
            ("common_tensors", json!(self.common)),
            ("only_a", named(&self.only_a)),
            ("only_b", named(&self.only_b)),
            ("kinds", pairs(&self.kinds)),
            ("elements", self.elements.iter().map(|(name, difference)| difference.to_json(name)).collect()),
            ("not_compared", self.opaque.iter().map(|(name, why)| json!({"name": name, "why": why})).collect()),
            ("values", pairs(&self.values)),
        ];
        rows.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
    }
}

/// A title and aligned rows, when there are any.
fn section(out: &mut dyn Write, title: &str, rows: &[Vec<String>], most: usize) -> Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    writeln!(out, "{title} ({})", text::number(rows.len() as u64))?;
    let shown = &rows[..rows.len().min(most)];
    let columns = shown.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| shown.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0).min(60)).collect();
    for row in shown {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}")).collect();
        writeln!(out, "  {}", cells.join("  ").trim_end())?;
    }
    if rows.len() > shown.len() {
        writeln!(out, "  ... and {} more (--all prints them)", text::number((rows.len() - shown.len()) as u64))?;
    }
    Ok(())
}

fn clean(name: &str) -> String {
    if name.is_empty() { "(the root)".to_owned() } else { text::clean(name).into_owned() }
}

impl Difference {
    fn row(&self, name: String) -> Vec<String> {
        let differ = format!("{} of {}", text::number(self.outside), text::count(self.count as usize, "element"));
        let absolute =
            if self.absolute.is_infinite() { "NaN or infinity".to_owned() } else { numbers::short(self.absolute) };
        let at = format!("at {:?}: {} -> {}", self.index, show(self.a), show(self.b));
        vec![name, format!("{differ}, at most {absolute} (relative {})", numbers::short(self.relative)), at]
    }

    fn to_json(&self, name: &str) -> Json {
        let number = |x: f64| if x.is_finite() { json!(x) } else { json!(x.to_string()) };
        json!({
            "name": name,
            "elements": self.count,
            "different": self.outside,
            "largest_absolute": number(self.absolute),
            "largest_relative": number(self.relative),
            "index": self.index,
            "a": number(self.a),
            "b": number(self.b),
        })
    }
}
