//! State dicts: ordered names and the tensors of a model.

mod find;
mod fold;
mod optimizer;
mod place;
mod rename;
mod report;

use std::fmt;
use std::ops::Index;
use std::path::Path;
use std::sync::Arc;

use indexmap::IndexMap;

use crate::checkpoint::{Dict, DictKind, FREE_TEXT, Seeded, StoredTensor, Value};
use crate::error::{Error, Result};
use crate::tensor::Tensor;

pub(crate) use fold::Fold;
pub use optimizer::{OptimizerState, ParamGroup, ParamState};
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
    tensors: Tensors,
    /// The file's `_metadata`: of each module, by its name, a dict with its `version`.
    metadata: IndexMap<String, Value>,
    /// The free text of a safetensors file, its `__metadata__`: a dict of strings.
    free_text: Option<Value>,
    key: String,
}

/// Names and tensors are shared with the file's own dict, since there may be a hundred thousand.
type Tensors = IndexMap<Arc<str>, Arc<StoredTensor>, Seeded>;

impl StateDict {
    /// A state dict without tensors.
    pub fn new() -> Self {
        Self::default()
    }

    /// Where in its file it was found, as [`Checkpoint::state_dict_at`](crate::Checkpoint::state_dict_at) takes it:
    /// `model_state_dict`. Empty when it is the whole file, or was made here.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// What PyTorch saves about a module, by the module's name (the net itself is `""`): a dict with its `version`.
    pub fn metadata(&self, module: &str) -> Option<&Value> {
        self.metadata.get(module)
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
        self.tensors.keys().map(|name| &**name)
    }

    /// The names and tensors in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &StoredTensor)> {
        self.tensors.iter().map(|(name, tensor)| (&**name, &**tensor))
    }

    /// The tensor called `name`.
    pub fn get(&self, name: &str) -> Option<&StoredTensor> {
        self.tensors.get(name).map(|tensor| &**tensor)
    }

    /// A contiguous copy of the tensor called `name`.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) when there is none, and those of [`Tensor::from_stored`].
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
        self.tensors.insert(name.into().into(), Arc::new(tensor)).map(Arc::unwrap_or_clone)
    }

    /// The version that the file gives for the module called `module`: PyTorch's `_metadata[module]["version"]`.
    pub(crate) fn version(&self, module: &str) -> Option<i64> {
        self.metadata(module)?.get("version")?.as_i64().ok()
    }

    /// The same tensors with these metadata of modules.
    pub(crate) fn with_metadata(mut self, metadata: impl IntoIterator<Item = (String, Value)>) -> Self {
        self.metadata = metadata.into_iter().collect();
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
        let mut state = Self::default();
        state.extend(tensors);
        state
    }
}

impl Extend<(String, StoredTensor)> for StateDict {
    fn extend<I: IntoIterator<Item = (String, StoredTensor)>>(&mut self, tensors: I) {
        self.tensors.extend(tensors.into_iter().map(|(name, tensor)| (name.into(), Arc::new(tensor))));
    }
}

impl IntoIterator for StateDict {
    type Item = (String, StoredTensor);
    type IntoIter = std::iter::Map<
        indexmap::map::IntoIter<Arc<str>, Arc<StoredTensor>>,
        fn((Arc<str>, Arc<StoredTensor>)) -> (String, StoredTensor),
    >;

    fn into_iter(self) -> Self::IntoIter {
        self.tensors.into_iter().map(|(name, tensor)| (name.to_string(), Arc::unwrap_or_clone(tensor)))
    }
}

/// As PyTorch has it: an `OrderedDict` with the attribute `_metadata`.
impl From<&StateDict> for Value {
    fn from(state: &StateDict) -> Self {
        let shared =
            |(name, tensor): (&Arc<str>, &_)| (Value::Str(Arc::clone(name)), Value::Tensor(Arc::clone(tensor)));
        let entries = state.tensors.iter().map(shared);
        let mut dict = Dict::new(DictKind::OrderedDict, entries);
        let mut attributes = Vec::new();
        if !state.metadata.is_empty() {
            let metadata = state.metadata.iter().map(|(module, entry)| (module.as_str().into(), entry.clone()));
            attributes.push(("_metadata", Value::from(Dict::new(DictKind::OrderedDict, metadata))));
        }
        attributes.extend(state.free_text.iter().map(|text| (FREE_TEXT, text.clone())));
        if !attributes.is_empty() {
            dict.attributes = Some(Dict::from_iter(attributes).into());
        }
        dict.into()
    }
}

impl fmt::Debug for StateDict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}
