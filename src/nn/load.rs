//! Loading a state dict into a module: all checks, then all assignments.

use std::collections::{HashMap, HashSet};

use super::module::{FieldMut, Module, join, slots};
use super::slot::Slot;
use crate::checkpoint::Layout;
use crate::error::{Error, ErrorKind, Result};
use crate::state_dict::{Fold, LoadReport, Mismatch, StateDict, Strict};

/// A slot with its name in the state dict and that of its module.
struct Target<'a> {
    name: String,
    module: String,
    /// The dimension along which `spectral_norm` lays out the weight of this kind of layer.
    norm_dim: usize,
    slot: &'a mut Slot,
}

pub(super) fn load(module: &mut dyn Module, state: &StateDict, strict: Strict) -> Result<LoadReport> {
    let mut targets = Vec::new();
    collect(module, "", &mut targets);
    let fold = fold(&targets, state);
    let mut report = check(&targets, &fold);
    report.explain(state);
    if strict == Strict::Yes && !report.is_complete() {
        return Err(report.into_error());
    }
    let fits: HashSet<&str> = report.loaded.iter().map(String::as_str).collect();
    for target in targets {
        let tensor = fits.contains(target.name.as_str()).then(|| fold.state[&target.name].clone());
        target.slot.assign(&target.name, tensor);
    }
    Ok(report)
}

pub(super) fn check_loaded(module: &dyn Module) -> Result<()> {
    const SHOWN: usize = 4;
    let slots = slots(module).into_iter().filter(|(_, slot)| slot.tensor().is_none() && !slot.may_be_missing(None));
    let names: Vec<String> = slots.map(|(name, _)| format!("`{name}`")).collect();
    if names.is_empty() {
        return Ok(());
    }
    let more = names.len().saturating_sub(SHOWN);
    let shown = names[..names.len() - more].join(", ");
    let more = if more > 0 { format!(" ... and {more} more") } else { String::new() };
    let message = format!(
        "the model has {} parameter{} without a value: {shown}{more}",
        names.len(),
        if names.len() == 1 { "" } else { "s" }
    );
    Err(Error::new(ErrorKind::StateDict, message).help("call `load_state_dict` with a state dict that has them"))
}

/// The state dict with the tensors that the model asks for and that the file has in parts.
fn fold<'s>(targets: &[Target<'_>], state: &'s StateDict) -> Fold<'s> {
    let dims: HashMap<&str, usize> = targets.iter().map(|target| (target.name.as_str(), target.norm_dim)).collect();
    state.fold_for(|name| dims.get(name).copied())
}

fn check(targets: &[Target<'_>], fold: &Fold<'_>) -> LoadReport {
    let state = &*fold.state;
    let refused: HashMap<&str, &str> = fold.refused.iter().map(|(name, why)| (name.as_str(), why.as_str())).collect();
    let mut report = LoadReport::default();
    for Target { name, module, slot, .. } in targets {
        let name = name.clone();
        match state.get(&name) {
            None if refused.contains_key(&*name) => {
                let found = format!("{}; {}", refused[&*name], Fold::WAY_OUT);
                report.mismatched.push(Mismatch::Unusable { name, found });
            }
            None if slot.may_be_missing(state.version(module)) => {}
            None => report.missing.push(name),
            Some(tensor) if tensor.layout() != Layout::Strided || tensor.quantizer().is_some() => {
                let (kind, help) = tensor.refusal().unwrap_or_default();
                report.mismatched.push(Mismatch::Unusable { name, found: format!("{kind}; {help}") });
            }
            Some(tensor) if tensor.shape() != slot.shape() => {
                let (model, file) = (slot.shape().clone(), tensor.shape().clone());
                report.mismatched.push(Mismatch::Shape { name, model, file });
            }
            Some(tensor) if !tensor.dtype().is_runnable() => {
                report.mismatched.push(Mismatch::DType { name, dtype: tensor.dtype() });
            }
            Some(_) => report.loaded.push(name),
        }
    }
    let known: HashSet<&str> = targets.iter().map(|target| target.name.as_str()).collect();
    report.unexpected = state.names().filter(|name| !known.contains(name)).map(String::from).collect();
    let loaded: HashSet<&str> = report.loaded.iter().map(String::as_str).collect();
    report.folded = fold.folded.iter().filter(|name| loaded.contains(name.as_str())).cloned().collect();
    report
}

/// Every slot of the module in PyTorch's order: parameters, buffers, then the modules in it.
fn collect<'a>(module: &'a mut dyn Module, path: &str, targets: &mut Vec<Target<'a>>) {
    let (mut buffers, mut modules) = (Vec::new(), Vec::new());
    let norm_dim = usize::from(module.class_name().starts_with("ConvTranspose"));
    let mut add =
        |name: String, slot: &'a mut Slot| targets.push(Target { name, module: path.to_string(), norm_dim, slot });
    for (name, field) in module.fields_mut() {
        let name = join(path, &name);
        match field {
            FieldMut::Parameter(parameter) => add(name, &mut parameter.0),
            FieldMut::Buffer(buffer) => buffers.push((name, &mut buffer.0)),
            FieldMut::Module(module) => modules.push((name, module)),
        }
    }
    for (name, slot) in buffers {
        add(name, slot);
    }
    for (name, module) in modules {
        collect(module, &name, targets);
    }
}
