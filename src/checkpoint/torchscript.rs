//! The weights of TorchScript archives. A module is pickled as an object of a class `__torch__...` whose state is the
//! dict of its attributes: parameters, buffers, modules inside it, and other values. What it computes is in code that is
//! neither run nor read.

use std::sync::Arc;

use super::value::{Dict, DictKind, Object, Value};
use crate::error::{Error, Result};

/// Modules, attributes and characters of names that are looked at, for each byte of the pickle and at least: modules that
/// share others make a small file say much.
const MOST_PER_BYTE: usize = 64;
const MOST_AT_LEAST: usize = 1 << 20;

/// The state dict of a module that was pickled in `bytes` bytes, in PyTorch's order: a module's own tensors come before
/// those of the modules inside it. The other attributes are kept as the dict's attribute `_attributes`.
pub(super) fn state_dict(module: &Value, bytes: usize) -> Result<Value> {
    let Some(root) = attributes(module) else {
        return Err(Error::invalid(format!("expected a TorchScript module, found {}", module.describe())));
    };
    let mut budget = bytes.saturating_mul(MOST_PER_BYTE).max(MOST_AT_LEAST);
    let (mut tensors, mut others) = (Vec::new(), Vec::new());
    let mut modules = vec![(String::new(), root)];
    while let Some((prefix, attributes_here)) = modules.pop() {
        let first = modules.len();
        for (key, value) in attributes_here.iter() {
            let name = format!("{prefix}{}", key.as_str().map_err(|error| error.context("an attribute's name"))?);
            budget = budget.checked_sub(name.len() + 1).ok_or_else(|| {
                Error::unsupported("modules share so many others that their names would not fit into memory")
            })?;
            match (value, attributes(value)) {
                (Value::Tensor(_), _) => tensors.push((Value::from(name), value.clone())),
                (_, Some(inner)) => modules.push((name + ".", inner)),
                _ => others.push((Value::from(name), value.clone())),
            }
        }
        modules[first..].reverse();
    }
    let mut dict = Dict::new(DictKind::OrderedDict, tensors);
    if !others.is_empty() {
        let others = Dict::new(DictKind::Dict, others);
        dict.attributes = Some(Dict::from_iter([("_attributes", others)]).into());
    }
    Ok(dict.into())
}

/// The attributes of a TorchScript module.
fn attributes(value: &Value) -> Option<&Arc<Dict>> {
    let Value::Object(object) = value else { return None };
    match &**object {
        Object { state: Some(Value::Dict(attributes)), .. } if object.class().starts_with("__torch__.") => {
            Some(attributes)
        }
        _ => None,
    }
}
