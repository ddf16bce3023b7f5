//! Models that were saved whole: `torch.save(model, PATH)`.
//!
//! Such a file has the tree of modules with their classes, hyper-parameters and weights. What a class computes is code,
//! which is not in the file: only a model of PyTorch's own layers and containers runs.

mod attributes;
mod build;
mod check;
mod extra_repr;
mod layers;
mod print;
mod python;
mod torchvision;
mod transformer;

use std::collections::HashSet;
use std::sync::Arc;

use crate::checkpoint::{Checkpoint, Dict, Object, StoredTensor, Value};
use crate::error::{Error, ErrorKind, Result};
use crate::nn::Module;
use crate::state_dict::StateDict;

pub(crate) use build::forward;

/// A module of a model that was saved whole, as the file has it: its class, hyper-parameters, parameters, buffers and the
/// modules in it. Nothing of it has been run. Cloning it copies no content.
///
/// It prints as PyTorch's `print(model)` shows it: PyTorch's own layers with their arguments, other classes by their
/// name, since what else they print is code.
///
/// ```no_run
/// let model = sconce::load("model.pth")?.module()?;
/// println!("{model}");
/// for (name, module) in model.named_modules() {
///     if module.class() == "torch.nn.modules.conv.Conv2d" {
///         println!("{name}: stride {}", module.attribute("stride").expect("every Conv2d has one"));
///     }
/// }
/// # Ok::<(), sconce::Error>(())
/// ```
///
/// [`to_module`](Self::to_module) makes a [`Module`] of it, and [`Model::load`](crate::Model::load) one that runs, when it
/// consists of PyTorch's own layers and containers.
#[derive(Clone)]
pub struct StoredModule {
    object: Arc<Object>,
    eval: bool,
}

impl Checkpoint {
    /// The model that was saved whole, by `torch.save(model, PATH)`: the file's own object or the one inside it, under
    /// whatever key. `StoredModule::try_from` takes one of several: `StoredModule::try_from(&checkpoint["ema"])`.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] when there is none, or when there are several, which the error lists.
    pub fn module(&self) -> Result<StoredModule> {
        find(self.root(), None).map_err(|error| error.context(format_args!("`{}`", self.name())))
    }
}

impl TryFrom<&Value> for StoredModule {
    type Error = Error;

    /// The module that a value is.
    fn try_from(value: &Value) -> Result<Self> {
        Self::of(value)
            .ok_or_else(|| Error::new(ErrorKind::NotFound, format!("expected a module, found {}", value.describe())))
    }
}

impl StoredModule {
    fn of(value: &Value) -> Option<Self> {
        let Value::Object(object) = value else { return None };
        if let Some(compiled) = compiled(object) {
            return Some(Self { object: Arc::new(compiled), eval: false });
        }
        let is_module =
            ["_parameters", "_buffers", "_modules"].iter().all(|name| matches!(object.get(name), Some(Value::Dict(_))));
        is_module.then(|| Self { object: Arc::clone(object), eval: false })
    }

    fn dict(&self, name: &str) -> Option<&Dict> {
        self.object.get(name)?.as_dict().ok()
    }

    /// The qualified name of the class: `torch.nn.modules.conv.Conv2d`.
    pub fn class(&self) -> &str {
        self.object.class()
    }

    /// The name of the class by itself: `Conv2d`.
    pub fn class_name(&self) -> &str {
        self.class().rsplit('.').next().unwrap_or_default()
    }

    /// Whether the module was saved in train mode, in which Dropout, BatchNorm and some others compute otherwise.
    pub fn is_training(&self) -> bool {
        !self.eval && matches!(self.object.get("training"), Some(Value::Bool(true)))
    }

    /// The same module in eval mode with all modules in it, as `model.eval()` makes it.
    #[must_use]
    pub fn eval(mut self) -> Self {
        self.eval = true;
        self
    }

    /// A hyper-parameter, or whatever else is set on the module: its Python attribute `name`.
    pub fn attribute(&self, name: &str) -> Option<&Value> {
        self.object.get(name).filter(|_| !is_internal(name))
    }

    /// The hyper-parameters and whatever else is set on the module, in the order of the file.
    pub fn attributes(&self) -> impl Iterator<Item = (&str, &Value)> {
        let entries = self.object.attribute_dicts().flat_map(Dict::iter);
        entries.filter_map(|(name, value)| Some((name.as_str().ok().filter(|name| !is_internal(name))?, value)))
    }

    /// Its own parameters, without those of the modules in it. One that is `None`, as a `bias` may be, is left out.
    pub fn parameters(&self) -> impl Iterator<Item = (&str, &StoredTensor)> {
        self.tensors("_parameters")
    }

    /// Its own buffers, without those of the modules in it, and whether a state dict has them.
    pub fn buffers(&self) -> impl Iterator<Item = (&str, &StoredTensor, bool)> {
        let skipped = self.object.get("_non_persistent_buffers_set").and_then(|names| names.as_list().ok());
        let skipped: HashSet<&str> = skipped.into_iter().flatten().filter_map(|name| name.as_str().ok()).collect();
        self.tensors("_buffers").map(move |(name, tensor)| (name, tensor, !skipped.contains(name)))
    }

    fn tensors(&self, part: &str) -> impl Iterator<Item = (&str, &StoredTensor)> {
        let entries = self.dict(part).into_iter().flat_map(Dict::iter);
        entries.filter_map(|(name, value)| Some((name.as_str().ok()?, value.as_tensor().ok()?)))
    }

    /// Whether there is a parameter or buffer `name` that is not `None`, or what it is made of before each run.
    fn has(&self, name: &str) -> bool {
        let has = |name: &str| {
            let value = ["_parameters", "_buffers"].into_iter().find_map(|part| self.dict(part)?.get(name));
            value.is_some_and(|value| !value.is_none())
        };
        has(name) || has(&format!("{name}_orig")) || has(&format!("{name}_g"))
    }

    /// The modules in it with their names, in order.
    pub fn children(&self) -> impl Iterator<Item = (&str, StoredModule)> {
        self.entries().filter_map(|(name, child)| Some((name, child?)))
    }

    /// The module in it of this name: `"layer1.0.conv1"`. The empty name is the module itself.
    pub fn get(&self, name: &str) -> Option<StoredModule> {
        if name.is_empty() {
            return Some(self.clone());
        }
        let (first, rest) = name.split_once('.').unwrap_or((name, ""));
        self.children().find(|(name, _)| *name == first)?.1.get(rest)
    }

    /// The children; one that was set to `None` has no module.
    fn entries(&self) -> impl Iterator<Item = (&str, Option<StoredModule>)> {
        let entries = self.dict("_modules").into_iter().flat_map(Dict::iter);
        entries.filter_map(|(name, value)| {
            let name = name.as_str().ok()?;
            match StoredModule::of(value) {
                Some(child) => Some((name, Some(StoredModule { eval: self.eval, ..child }))),
                None => Some((name, None)),
            }
        })
    }

    /// The module and every module in it, outermost first, by name; the module itself is `""`. One that is in several
    /// places is named once, as in PyTorch.
    pub fn named_modules(&self) -> Vec<(String, StoredModule)> {
        let (mut seen, mut modules) = (HashSet::new(), Vec::new());
        self.walk("", &mut seen, &mut modules);
        modules
    }

    fn walk(&self, path: &str, seen: &mut HashSet<*const Object>, modules: &mut Vec<(String, StoredModule)>) {
        if !seen.insert(Arc::as_ptr(&self.object)) {
            return;
        }
        modules.push((path.to_owned(), self.clone()));
        for (name, child) in self.children() {
            child.walk(&join(path, name), seen, modules);
        }
    }

    /// The names of the hooks that are called when the module runs, as `_forward_pre_hooks`, each with the class of the
    /// hook.
    pub fn hooks(&self) -> Vec<(&str, &str)> {
        let hooks =
            ["_forward_pre_hooks", "_forward_hooks"].into_iter().filter_map(|name| Some((name, self.dict(name)?)));
        fn class(value: &Value) -> &str {
            match value {
                Value::Global(name) => name,
                Value::Object(object) => object.class(),
                _ => "unknown",
            }
        }
        hooks.flat_map(|(name, dict)| dict.values().map(move |hook| (name, class(hook)))).collect()
    }

    /// What `model.state_dict()` would give.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] when there are absurdly many modules.
    pub fn state_dict(&self) -> Result<StateDict> {
        StateDict::try_from(&Value::Object(Arc::clone(&self.object)))
    }

    /// The module as one that runs, with its weights.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] when a module in it is of a class whose `forward` is not PyTorch's, has hooks, was
    /// saved in train mode where that matters, or has arguments that this crate does not know; the error names all of
    /// them and says what to do.
    pub fn to_module(&self) -> Result<Box<dyn Module>> {
        build::to_module(self)
    }
}

/// A module that `torch.compile` made, which is written as a call with the module in it, as any other would be written.
fn compiled(object: &Object) -> Option<Object> {
    let inner = Value::Object(Arc::clone(object.compiled()?));
    StoredModule::of(&inner)?;
    let parts = [
        ("training", inner.get("training").cloned().unwrap_or(Value::Bool(true))),
        ("_parameters", Value::from(Dict::from_iter::<[(&str, Value); 0]>([]))),
        ("_buffers", Value::from(Dict::from_iter::<[(&str, Value); 0]>([]))),
        ("_modules", Value::from(Dict::from_iter([("_orig_mod", inner.clone())]))),
    ];
    Some(Object { state: Some(Dict::from_iter(parts).into()), args: Vec::new(), ..object.clone() })
}

/// Whether PyTorch's own bookkeeping has this attribute, in every module.
fn is_internal(name: &str) -> bool {
    const NAMES: [&str; 8] = [
        "training",
        "_parameters",
        "_buffers",
        "_modules",
        "_non_persistent_buffers_set",
        "_is_full_backward_hook",
        "_backend",
        "_super_module_initialized",
    ];
    NAMES.contains(&name) || name.starts_with('_') && name.contains("_hooks")
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// The one module in a value, or the one under a key.
pub(crate) fn find(root: &Value, key: Option<&str>) -> Result<StoredModule> {
    if let Some(key) = key {
        let value = root.get(key).ok_or_else(|| Error::not_found(format!("there is no key `{key}`")))?;
        return StoredModule::try_from(value).map_err(|error| error.context(format_args!("key `{key}`")));
    }
    let mut found = Vec::new();
    search(root, "", 0, &mut HashSet::new(), &mut found);
    match &found[..] {
        [(_, module)] => Ok(module.clone()),
        [] => Err(Error::not_found(format!("expected a model that was saved whole, found {}", root.describe())).help(
            "build the net in Rust and load `checkpoint.state_dict()` into it, or export the model with `torch.export`",
        )),
        [(first, _), ..] => {
            let keys: Vec<String> = found.iter().take(12).map(|(key, _)| format!("`{key}`")).collect();
            Err(Error::not_found(format!("expected one model, found {}: {}", found.len(), keys.join(", ")))
                .help(format!("take one: `StoredModule::try_from(&checkpoint[\"{first}\"])`")))
        }
    }
}

fn search(
    value: &Value,
    path: &str,
    depth: usize,
    seen: &mut HashSet<*const ()>,
    found: &mut Vec<(String, StoredModule)>,
) {
    const MAX_DEPTH: usize = 64;
    if depth > MAX_DEPTH {
        return;
    }
    if let Some(module) = StoredModule::of(value) {
        if seen.insert(Arc::as_ptr(&module.object).cast()) {
            found.push((path.to_owned(), module));
        }
        return;
    }
    match value {
        Value::Dict(dict) if seen.insert(Arc::as_ptr(dict).cast()) => {
            for (key, value) in dict.iter() {
                if let (Value::Str(key), Value::Dict(_) | Value::List(_) | Value::Object(_)) = (key, value) {
                    search(value, &join(path, key), depth + 1, seen, found);
                }
            }
        }
        Value::List(items) if seen.insert(Arc::as_ptr(items).cast()) => {
            for (i, item) in items.iter().enumerate() {
                if matches!(item, Value::Dict(_) | Value::Object(_)) {
                    search(item, &join(path, &i.to_string()), depth + 1, seen, found);
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests;
