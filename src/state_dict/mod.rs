//! State dicts: ordered names and the tensors of a model.

mod find;
mod report;

use std::collections::HashMap;
use std::fmt;
use std::ops::Index;
use std::path::Path;

use indexmap::IndexMap;

use crate::checkpoint::{Dict, DictKind, StoredTensor, Value};
use crate::error::{Error, ErrorKind, Result};
use crate::tensor::Tensor;

pub use report::{LoadReport, Mismatch};

/// Whether [`load_state_dict`](crate::nn::Module::load_state_dict) refuses names that do not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strict {
    /// Anything missing, unexpected or of the wrong shape is an error, and nothing is loaded.
    Yes,
    /// What fits is loaded; the report says what does not. Unlike PyTorch's `strict=False` this also skips tensors of
    /// the wrong shape.
    No,
}

/// The tensors of a model under their names, in the model's order. It is a view of the file: copying and renaming
/// copies no tensor data.
///
/// ```
/// use sconce::{DType, StateDict, checkpoint::StoredTensor};
/// let bias = StoredTensor::from_bytes(DType::F32, [2], vec![0; 8])?;
/// let state = StateDict::from_iter([("module.fc.bias".to_string(), bias)]).strip_prefix("module.");
/// assert_eq!(state.names().collect::<Vec<_>>(), ["fc.bias"]);
/// assert_eq!(state["fc.bias"].shape()[0], 2);
/// # Ok::<(), sconce::Error>(())
/// ```
#[derive(Clone, Default)]
pub struct StateDict {
    tensors: IndexMap<String, StoredTensor>,
    /// The `version` of each module in the file's `_metadata`, by the module's name.
    versions: HashMap<String, i64>,
}

impl StateDict {
    /// A state dict without tensors.
    pub fn new() -> Self {
        Self::default()
    }

    /// The number of tensors.
    pub fn len(&self) -> usize {
        self.tensors.len()
    }

    /// Whether there are no tensors.
    pub fn is_empty(&self) -> bool {
        self.tensors.is_empty()
    }

    /// The names in order.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// The names and tensors in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &StoredTensor)> {
        self.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor))
    }

    /// The tensor called `name`.
    pub fn get(&self, name: &str) -> Option<&StoredTensor> {
        self.tensors.get(name)
    }

    /// A contiguous copy of the tensor called `name`.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] when there is none, and those of [`Tensor::from_stored`].
    pub fn get_tensor(&self, name: &str) -> Result<Tensor> {
        Tensor::from_stored(self.get(name).ok_or_else(|| self.not_found(name))?)
            .map_err(|e| e.context(format!("`{name}`")))
    }

    /// Saves the tensors under their names, as `torch.save(model.state_dict(), path)` does, or as safetensors or `.npz`,
    /// by the path's ending: see [`save`](crate::save).
    ///
    /// # Errors
    /// As [`save`](crate::save).
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        crate::checkpoint::save(self, path)
    }

    /// Adds a tensor at the end, or replaces the one of that name and returns it.
    pub fn insert(&mut self, name: impl Into<String>, tensor: StoredTensor) -> Option<StoredTensor> {
        self.tensors.insert(name.into(), tensor)
    }

    /// Takes `prefix` off the names that start with it; the other names stay. A name that is already taken keeps its
    /// prefix.
    ///
    /// `module.` is what `nn.DataParallel` adds, `_orig_mod.` is what `torch.compile` adds.
    #[must_use]
    pub fn strip_prefix(&self, prefix: &str) -> Self {
        self.rename_with(|name| match name.strip_prefix(prefix) {
            Some(short) if !short.is_empty() && !self.tensors.contains_key(short) => short.to_string(),
            _ => name.to_string(),
        })
        .with_versions(self.versions.iter().map(|(module, &version)| {
            let inner = format!("{module}.");
            let short = inner.strip_prefix(prefix).map(|short| short.trim_end_matches('.'));
            (short.unwrap_or(module).to_string(), version)
        }))
    }

    /// Puts `prefix` before every name.
    #[must_use]
    pub fn add_prefix(&self, prefix: &str) -> Self {
        self.rename_with(|name| format!("{prefix}{name}"))
    }

    /// Only the names that start with `prefix`, without it: the state dict of one part of a model.
    #[must_use]
    pub fn select(&self, prefix: &str) -> Self {
        self.filter(|name, _| name.starts_with(prefix) && name != prefix).strip_prefix(prefix)
    }

    /// Only the tensors that `keep` is true for.
    #[must_use]
    pub fn filter(&self, mut keep: impl FnMut(&str, &StoredTensor) -> bool) -> Self {
        let tensors = self.iter().filter(|(name, tensor)| keep(name, tensor));
        let tensors = tensors.map(|(name, tensor)| (name.to_string(), tensor.clone())).collect();
        Self { tensors, versions: self.versions.clone() }
    }

    /// Renames the tensor `from`, or every tensor of the module `from` (`rename("fc", "head")` makes `fc.weight`
    /// `head.weight`), in place.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] when there is no such name, [`ErrorKind::StateDict`] when the new name is taken.
    pub fn rename(&self, from: &str, to: &str) -> Result<Self> {
        let inside = format!("{from}.");
        let renamed = |name: &str| match name.strip_prefix(&inside) {
            Some(rest) => Some(format!("{to}.{rest}")),
            None => (name == from).then(|| to.to_string()),
        };
        if !self.names().any(|name| renamed(name).is_some()) {
            return Err(self.not_found(from));
        }
        let result = self.rename_with(|name| renamed(name).unwrap_or_else(|| name.to_string()));
        if result.len() < self.len() {
            let taken = self.names().filter_map(renamed).find(|name| self.tensors.contains_key(name));
            let taken = taken.unwrap_or_else(|| to.to_string());
            return Err(Error::new(
                ErrorKind::StateDict,
                format!("`{from}` cannot be renamed: the name `{taken}` is taken"),
            ));
        }
        Ok(result)
    }

    /// Renames every tensor by a function, for names that changed by a rule. Of tensors that get the same name, the
    /// last is kept.
    ///
    /// ```
    /// # let state = sconce::StateDict::new();
    /// // torchvision's old DenseNet files have `denselayer1.norm.1.weight` for `denselayer1.norm1.weight`.
    /// let state = state.rename_with(|name| match name.contains("denselayer") {
    ///     true => name.replace("norm.", "norm").replace("conv.", "conv"),
    ///     false => name.to_string(),
    /// });
    /// ```
    #[must_use]
    pub fn rename_with(&self, mut rename: impl FnMut(&str) -> String) -> Self {
        self.iter().map(|(name, tensor)| (rename(name), tensor.clone())).collect()
    }

    /// This state dict with the tensors of `other` added; where both have a name, `other`'s tensor is taken.
    #[must_use]
    pub fn merge(&self, other: &StateDict) -> Self {
        let mut result = self.clone();
        result.extend(other.clone());
        result
    }

    /// The version that the file gives for the module called `module`: PyTorch's `_metadata[module]["version"]`.
    pub(crate) fn version(&self, module: &str) -> Option<i64> {
        self.versions.get(module).copied()
    }

    /// The same tensors with these module versions.
    pub(crate) fn with_versions(mut self, versions: impl IntoIterator<Item = (String, i64)>) -> Self {
        self.versions = versions.into_iter().collect();
        self
    }

    fn not_found(&self, name: &str) -> Error {
        const SHOWN: usize = 8;
        let error = Error::not_found(format!("the state dict has no tensor `{name}`"));
        if self.is_empty() {
            return error.help("it is empty");
        }
        let last = name.rsplit('.').next().unwrap_or(name);
        let mut names: Vec<&str> = self.names().filter(|other| other.rsplit('.').next() == Some(last)).collect();
        if names.is_empty() {
            names = self.names().collect();
        }
        let more = names.len().saturating_sub(SHOWN);
        names.truncate(SHOWN);
        let mut help = format!("it has `{}`", names.join("`, `"));
        if more > 0 {
            help += &format!(" ... and {more} more");
        }
        error.help(help)
    }
}

impl From<&StateDict> for Value {
    /// An `OrderedDict`, as `model.state_dict()` gives.
    fn from(state: &StateDict) -> Self {
        let entries = state.iter().map(|(name, tensor)| (Value::from(name), Value::from(tensor.clone())));
        Dict::new(DictKind::OrderedDict, entries).into()
    }
}

impl Index<&str> for StateDict {
    type Output = StoredTensor;

    /// # Panics
    /// When there is no tensor of that name; [`StateDict::get`] does not.
    fn index(&self, name: &str) -> &StoredTensor {
        match self.get(name) {
            Some(tensor) => tensor,
            None => panic!("{}", self.not_found(name)),
        }
    }
}

impl FromIterator<(String, StoredTensor)> for StateDict {
    fn from_iter<I: IntoIterator<Item = (String, StoredTensor)>>(tensors: I) -> Self {
        Self { tensors: tensors.into_iter().collect(), versions: HashMap::new() }
    }
}

impl Extend<(String, StoredTensor)> for StateDict {
    fn extend<I: IntoIterator<Item = (String, StoredTensor)>>(&mut self, tensors: I) {
        self.tensors.extend(tensors);
    }
}

impl IntoIterator for StateDict {
    type Item = (String, StoredTensor);
    type IntoIter = indexmap::map::IntoIter<String, StoredTensor>;

    fn into_iter(self) -> Self::IntoIter {
        self.tensors.into_iter()
    }
}

impl fmt::Debug for StateDict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dtype::DType;

    fn state(names: &[&str]) -> StateDict {
        let tensor = |i: usize| StoredTensor::from_bytes(DType::U8, [1], vec![i as u8]).unwrap();
        names.iter().enumerate().map(|(i, name)| (name.to_string(), tensor(i))).collect()
    }

    fn names(state: &StateDict) -> Vec<&str> {
        state.names().collect()
    }

    #[test]
    fn prefixes_come_off_and_go_on() {
        let s = state(&["module.a.weight", "b", "module."]);
        assert_eq!(names(&s.strip_prefix("module.")), ["a.weight", "b", "module."]);
        assert_eq!(names(&s.select("module.")), ["a.weight"]);
        assert_eq!(names(&s.add_prefix("x.")), ["x.module.a.weight", "x.b", "x.module."]);
        assert_eq!(names(&state(&["module.a", "a"]).strip_prefix("module.")), ["module.a", "a"]);
    }

    #[test]
    fn versions_follow_their_modules() {
        let s = state(&["module.bn.weight"]).with_versions([("module.bn".into(), 2), ("module".into(), 1)]);
        let s = s.strip_prefix("module.");
        assert_eq!((s.version("bn"), s.version(""), s.version("module.bn")), (Some(2), Some(1), None));
        assert_eq!(s.filter(|_, _| true).version("bn"), Some(2));
        assert_eq!(s.rename("bn", "norm").unwrap().version("norm"), None);
    }

    #[test]
    fn renames_tensors_and_modules_in_place() {
        let s = state(&["fc.weight", "fc.bias", "fcx"]);
        assert_eq!(names(&s.rename("fc", "head").unwrap()), ["head.weight", "head.bias", "fcx"]);
        assert_eq!(names(&s.rename("fc.bias", "b").unwrap()), ["fc.weight", "b", "fcx"]);
        let taken = s.rename("fc.bias", "fcx").unwrap_err();
        assert_eq!(taken.to_string(), "`fc.bias` cannot be renamed: the name `fcx` is taken");
        let missing = s.rename("head.weight", "x").unwrap_err();
        assert_eq!(missing.to_string(), "the state dict has no tensor `head.weight`\n  help: it has `fc.weight`");
    }

    #[test]
    fn merging_takes_the_other_tensor() {
        let merged = state(&["a", "b"]).merge(&state(&["c", "a"]));
        assert_eq!(names(&merged), ["a", "b", "c"]);
        assert_eq!(merged.get_tensor("a").unwrap().bytes(), [1]);
        assert_eq!(merged.get_tensor("x").unwrap_err().kind(), ErrorKind::NotFound);
    }
}
