//! `sconce diff`: how the contents of two files differ.

mod tensors;
mod values;

use std::io::Write;
use std::path::PathBuf;

use sconce::Checkpoint;
use sconce::checkpoint::{Container, StoredTensor, Value};
use serde_json::{Map, Value as Json, json};

use self::tensors::Difference;
use self::values::{Leaves, is_array, same};
use super::compare::Tolerance;
use super::{Context, Failure, Result, Verdict, numbers, text};

/// Compares the contents of two files by name: tensors by dtype, shape, `requires_grad` and elements, other values as
/// Python does. `requires_grad` makes no difference with --state-dict, and where one file has no room for it, as
/// safetensors files have not. Where tensors lie and their strides, the classes of dicts, and what is attached to dicts
/// and tensors (`_metadata`, `__metadata__`) make none; dicts with other attributes are told. Of a file with several objects, saved one after the other, all are compared:
/// [0] is the first. The exit status is 0 when all is equal, 1 when not, or when not all can be compared.
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
    let (a, b) = (sconce::load(&args.a)?, sconce::load(&args.b)?);
    let several = [&a, &b].iter().any(|checkpoint| checkpoint.saves().len() > 1);
    let root = |checkpoint: &Checkpoint| -> Result<Value> {
        Ok(match (args.state_dict, several) {
            (true, _) => Value::from(checkpoint.state_dict()?.into_iter().collect::<sconce::checkpoint::Dict>()),
            (false, true) => Value::from(checkpoint.saves().to_vec()),
            (false, false) => checkpoint.root().clone(),
        })
    };
    let (left, right) = (root(&a)?, root(&b)?);
    let (left, right) = (Leaves::of(&left), Leaves::of(&right));
    let tolerance = Tolerance { atol: args.atol, rtol: args.rtol };
    let has_no_grads = |checkpoint: &Checkpoint| {
        matches!(checkpoint.container(), Container::Safetensors | Container::Shards | Container::TorchScript)
    };
    let grads = !args.state_dict && ![&a, &b].into_iter().any(has_no_grads);
    let mut report = compare(&left, &right, tolerance, grads, &mut context.console.progress())?;
    let [a, b] = [&a, &b].map(|checkpoint| {
        let name = text::clean(checkpoint.name()).into_owned();
        let later = checkpoint.saves().len() - 1;
        if args.state_dict && later > 0 {
            let objects = text::count(later, "more object");
            report.opaque.push((name.clone(), format!("{objects} saved after the first, which has the state dict")));
        }
        name
    });
    if args.json {
        super::json::write(context.out, &report.to_json(&a, &b))?;
    } else {
        report.write(context.out, [&a, &b], args.all)?;
    }
    Ok(if report.is_equal() { Verdict::Done } else { Verdict::CheckFailed })
}

/// All that differs.
#[derive(Default)]
struct Report {
    /// Names, with what is there.
    only_a: Vec<(String, String)>,
    only_b: Vec<(String, String)>,
    /// Tensors whose dtypes or shapes differ, or which of them have gradients.
    kinds: Vec<(String, String, String)>,
    /// Tensors whose elements differ, the largest difference first.
    elements: Vec<(String, Difference)>,
    /// Tensors whose elements cannot be compared as numbers, and why.
    opaque: Vec<(String, String)>,
    /// Other values.
    values: Vec<(String, String, String)>,
    /// Dicts whose attributes differ.
    attributes: Vec<String>,
    common: usize,
    /// Tensors of one shape with the same elements, within the tolerance.
    same: usize,
    /// Of elements within the tolerance.
    largest: Option<(String, Difference)>,
    is_cut: bool,
    /// Whether `requires_grad` is compared.
    grads: bool,
}

fn compare(
    a: &Leaves<'_>,
    b: &Leaves<'_>,
    tolerance: Tolerance,
    grads: bool,
    progress: &mut super::console::Progress,
) -> Result<Report> {
    let mut report = Report { is_cut: a.is_cut || b.is_cut, grads, ..Report::default() };
    for leaf in b.iter().filter(|leaf| leaf.is_whole && a.get(&leaf.name).is_none()) {
        report.only_b.push((leaf.name.clone(), describe(leaf.value)));
    }
    let count = a.iter().len();
    for (at, leaf) in a.iter().enumerate() {
        let name = &leaf.name;
        let Some(other) = b.get(name) else {
            if leaf.is_whole {
                report.only_a.push((name.clone(), describe(leaf.value)));
            }
            continue;
        };
        if !values::same_attributes(leaf.value, other.value) {
            report.attributes.push(name.clone());
        }
        match (leaf.value, other.value) {
            (Value::Tensor(x), Value::Tensor(y)) => {
                progress.show(format_args!("comparing {} of {count}: {}", at + 1, text::clean(name)));
                report.compare_tensors(name, x, y, tolerance)?;
            }
            (x, y) if is_array(x) && is_array(y) => match (x.as_array(), y.as_array()) {
                (Ok(x), Ok(y)) => report.compare_tensors(name, &x, &y, tolerance)?,
                (Err(error), _) | (_, Err(error)) => report.opaque.push((name.clone(), error.to_string())),
            },
            (x, y) => match same(leaf, other, tolerance) {
                Some(true) => {}
                Some(false) => report.values.push((name.clone(), describe(x), describe(y))),
                None => report.opaque.push((name.clone(), "nested too deeply, or of too many values".to_owned())),
            },
        }
    }
    let by_size = |(_, difference): &(String, Difference)| std::cmp::Reverse(tensors::Ordered(difference.absolute));
    report.elements.sort_by_key(by_size);
    Ok(report)
}

fn describe(value: &Value) -> String {
    match value {
        Value::Tensor(tensor) => format!("{} {}", tensor.dtype(), tensor.shape()),
        Value::Object(object) if !object.is_array() && object.args().is_empty() => {
            format!("<{}>", text::clean(object.class()))
        }
        other => text::short(&other.to_string(), 60),
    }
}

impl Report {
    fn compare_tensors(&mut self, name: &str, a: &StoredTensor, b: &StoredTensor, tolerance: Tolerance) -> Result<()> {
        self.common += 1;
        let shapes = a.shape() != b.shape();
        let grads = self.grads && a.requires_grad() != b.requires_grad();
        if a.dtype() != b.dtype() || shapes || grads {
            let kind = |tensor: &StoredTensor| {
                let grad = if grads && tensor.requires_grad() { " requires_grad" } else { "" };
                format!("{} {}{grad}", tensor.dtype(), tensor.shape())
            };
            self.kinds.push((name.to_owned(), kind(a), kind(b)));
        }
        if shapes {
            return Ok(());
        }
        match tensors::compare(a, b, tolerance) {
            Ok(None) => self.same += 1,
            Ok(Some(difference)) if difference.outside > 0 => self.elements.push((name.to_owned(), difference)),
            Ok(Some(difference)) => {
                self.same += 1;
                if self.largest.as_ref().is_none_or(|(_, largest)| difference.absolute > largest.absolute) {
                    self.largest = Some((name.to_owned(), difference));
                }
            }
            Err(Failure::Output(error)) => return Err(Failure::Output(error)),
            Err(_) if tensors::is_same_view(a, b) => self.same += 1,
            Err(failure) => self.opaque.push((name.to_owned(), failure.to_string())),
        }
        Ok(())
    }

    fn is_different(&self) -> bool {
        let names = [self.only_a.len(), self.only_b.len()];
        names.into_iter().chain([self.kinds.len(), self.elements.len(), self.values.len()]).any(|len| len > 0)
    }

    fn is_equal(&self) -> bool {
        !self.is_different() && self.opaque.is_empty() && !self.is_cut
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
        section(out, "other dtype, shape or requires_grad", &pairs(&self.kinds), most)?;
        let elements: Vec<_> = self.elements.iter().map(|(name, difference)| difference.row(clean(name))).collect();
        section(out, "other elements, the largest difference first", &elements, most)?;
        section(out, "not compared", &rows(&self.opaque), most)?;
        section(out, "other values", &pairs(&self.values), most)?;
        let common = text::count(self.common, "tensor");
        if self.is_equal() {
            writeln!(out, "equal: {common} and the other values are the same")?;
        } else {
            let what = if self.is_different() { "different" } else { "not all was compared" };
            let same = text::number(self.same as u64);
            writeln!(out, "{what}: {common} in both, {same} of them with the same elements")?;
        }
        if let Some(first) = self.attributes.first() {
            let dicts = text::count(self.attributes.len(), "dict");
            writeln!(out, "other attributes, which make no difference: of {dicts}, `{}` first", clean(first))?;
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
        let rows: [(&str, Json); 11] = [
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
            ("attributes", json!(self.attributes)),
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
        let at = format!("at {:?}: {} -> {}", self.index, self.a, self.b);
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
            "a": self.a.to_json(),
            "b": self.b.to_json(),
        })
    }
}
