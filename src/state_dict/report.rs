//! What loading a state dict found: one report with all problems at once.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::fmt;

use super::StateDict;
use crate::dtype::DType;
use crate::error::{Error, ErrorKind};
use crate::shape::Shape;

/// Lines of one kind that a report shows before it counts the rest.
const SHOWN: usize = 8;
/// Prefixes of one name that are tried: a name of nothing but dots would take forever.
const MAX_PREFIXES: usize = 64;

/// What [`load_state_dict`](crate::nn::Module::load_state_dict) loaded and what it did not, by the model's names.
#[derive(Clone, Debug, Default)]
pub struct LoadReport {
    /// The names that fit.
    pub loaded: Vec<String>,
    /// Of the loaded ones, those that the file has in parts, as `weight_g` and `weight_v` of `weight_norm`: see
    /// [`StateDict::fold`].
    pub folded: Vec<String>,
    /// The names that the model has and the state dict lacks.
    pub missing: Vec<String>,
    /// The names that the state dict has and the model does not.
    pub unexpected: Vec<String>,
    /// The tensors that both have and that do not fit.
    pub mismatched: Vec<Mismatch>,
    help: Option<String>,
}

/// A tensor of a state dict that does not fit the model's tensor of that name.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mismatch {
    /// The shapes differ.
    Shape {
        /// The tensor's name.
        name: String,
        /// The shape that the model expects.
        model: Shape,
        /// The shape that the state dict has.
        file: Shape,
    },
    /// The dtype is one that no model computes with ([`DType::is_runnable`]).
    DType {
        /// The tensor's name.
        name: String,
        /// The dtype that the state dict has.
        dtype: DType,
    },
    /// The state dict has something that no model computes with: a sparse, quantized or meta tensor, or a
    /// parametrization that is not known.
    Unusable {
        /// The tensor's name.
        name: String,
        /// What it is, and what can be done about it.
        found: String,
    },
}

impl LoadReport {
    /// The number of tensors that the model expects.
    pub fn total(&self) -> usize {
        self.loaded.len() + self.missing.len() + self.mismatched.len()
    }

    /// Whether every name of the model and of the state dict fits.
    pub fn is_complete(&self) -> bool {
        self.missing.is_empty() && self.unexpected.is_empty() && self.mismatched.is_empty()
    }

    /// Looks for the change of names that would make the rest fit.
    pub(crate) fn explain(&mut self, state: &StateDict) {
        if state.is_empty() {
            self.help = Some("the state dict is empty".into());
        } else if !self.missing.is_empty() {
            self.help = self.prefix_of_file(state).or_else(|| self.prefix_of_model());
        }
    }

    /// The prefix that the file's names have before most of the names that are missing.
    fn prefix_of_file(&self, state: &StateDict) -> Option<String> {
        let prefix = most_common(&self.unexpected, &self.missing)?;
        let action = if state.names().all(|name| name.starts_with(&prefix)) {
            format!(
                "the file's names start with `{prefix}`; try `state_dict.strip_prefix(\"{prefix}\")` (`--strip-prefix {prefix}`)"
            )
        } else {
            format!("the file has these names under `{prefix}`; try `state_dict.select(\"{prefix}\")`")
        };
        Some(action)
    }

    /// The prefix that the model's names have before most of the file's names.
    fn prefix_of_model(&self) -> Option<String> {
        let prefix = most_common(&self.missing, &self.unexpected)?;
        Some(format!("the model's names start with `{prefix}`; try `state_dict.add_prefix(\"{prefix}\")`"))
    }

    pub(crate) fn into_error(mut self) -> Error {
        let help = self.help.take();
        let error = Error::new(ErrorKind::StateDict, self.to_string());
        match help {
            Some(help) => error.help(help),
            None => error,
        }
    }
}

/// The `prefix` (ending in a dot) for which `prefix + short` is in `long` for the most of `short`, at least half.
fn most_common(long: &[String], short: &[String]) -> Option<String> {
    let wanted: HashSet<&str> = short.iter().map(String::as_str).collect();
    let mut counts = HashMap::<&str, usize>::new();
    for name in long {
        let dots = name.match_indices('.').take(MAX_PREFIXES);
        for (dot, _) in dots.filter(|&(dot, _)| wanted.contains(&name[dot + 1..])) {
            *counts.entry(&name[..=dot]).or_default() += 1;
        }
    }
    let (prefix, count) = counts.into_iter().max_by_key(|&(prefix, count)| (count, Reverse(prefix)))?;
    (count * 2 >= short.len()).then(|| prefix.to_string())
}

impl fmt::Display for LoadReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mut shapes, mut dtypes, mut unusable) = (Vec::new(), Vec::new(), Vec::new());
        for mismatch in &self.mismatched {
            match mismatch {
                Mismatch::Shape { name, model, file } => shapes.push(format!("{name}: model {model}, file {file}")),
                Mismatch::DType { name, dtype } => dtypes.push(format!("{name}: {dtype}")),
                Mismatch::Unusable { name, found } => unusable.push(format!("{name}: {found}")),
            }
        }
        let fits = if self.is_complete() { "fits" } else { "does not fit" };
        write!(f, "state dict {fits} the model: {} of {} loaded", self.loaded.len(), self.total())?;
        if !self.folded.is_empty() {
            write!(f, " ({} folded)", self.folded.len())?;
        }
        for (count, what) in [
            (self.missing.len(), "missing"),
            (self.unexpected.len(), "unexpected"),
            (shapes.len(), "with the wrong shape"),
            (dtypes.len(), "with a dtype that does not run"),
            (unusable.len(), "that cannot be used"),
        ] {
            if count > 0 {
                write!(f, ", {count} {what}")?;
            }
        }
        write_lines(f, "missing", &self.missing)?;
        write_lines(f, "unexpected", &self.unexpected)?;
        write_lines(f, "shape", &shapes)?;
        write_lines(f, "dtype", &dtypes)?;
        write_lines(f, "unusable", &unusable)?;
        match &self.help {
            Some(help) => write!(f, "\n  help: {help}"),
            None => Ok(()),
        }
    }
}

fn write_lines(f: &mut fmt::Formatter<'_>, label: &str, lines: &[String]) -> fmt::Result {
    // One line that says "and 1 more" would be no shorter than the line itself.
    let shown = if lines.len() <= SHOWN + 1 { lines.len() } else { SHOWN };
    for line in &lines[..shown] {
        write!(f, "\n  {label:<10}  {line}")?;
    }
    if shown < lines.len() {
        write!(f, "\n  {label:<10}  ... and {} more", lines.len() - shown)?;
    }
    Ok(())
}
