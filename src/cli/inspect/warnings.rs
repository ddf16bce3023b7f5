//! What will surprise whoever uses the file.

use std::collections::HashMap;
use std::sync::Arc;

use sconce::checkpoint::{Container, Storage, Value};

use super::super::text;
use super::totals;
use super::walk::{Content, is_module};

/// A storage is large when it has as many bytes, and mostly unused when its tensors take less than this part of it.
const LARGE: u64 = 1 << 20;
const USED: f64 = 0.5;

pub(super) fn warnings(content: &Content<'_>, container: Container) -> Vec<String> {
    let mut warnings = prefixes(content);
    warnings.extend(copied(content, container));
    warnings.extend(training(content));
    warnings.extend(unused(content));
    warnings.extend(dtypes(content));
    if content.is_cut {
        let count = text::number(content.items.len() as u64);
        warnings.push(format!("the file holds more than the {count} values that are shown here"));
    }
    warnings
}

/// Names that wrappers around a model put before those of the model.
fn prefixes(content: &Content<'_>) -> Vec<String> {
    const WRAPPERS: [(&str, &str); 2] = [("module.", "nn.DataParallel"), ("_orig_mod.", "torch.compile")];
    let mut warnings = Vec::new();
    for (parent, item) in content.items.iter().enumerate() {
        let Value::Dict(dict) = item.value else { continue };
        let tensors = || dict.iter().filter(|(_, value)| matches!(value, Value::Tensor(_)));
        for (prefix, wrapper) in WRAPPERS {
            let starts = |(key, _): &(Value, Value)| key.as_str().is_ok_and(|key| key.starts_with(prefix));
            if tensors().next().is_some() && tensors().all(starts) {
                let place = if parent == 0 { String::new() } else { format!(" in `{}`", text::clean(&item.name)) };
                warnings.push(format!(
                    "all names{place} start with `{prefix}`, as {wrapper} saves them: `sconce convert --strip-prefix {prefix}` takes it off"
                ));
            }
        }
    }
    warnings
}

/// Models that were saved without `eval()`.
fn training(content: &Content<'_>) -> Vec<String> {
    let in_training = |value: &Value| match value {
        Value::Object(object) => is_module(object) && matches!(object.get("training"), Some(Value::Bool(true))),
        _ => false,
    };
    let count = content.items.iter().filter(|item| in_training(item.value)).count();
    match count {
        0 => Vec::new(),
        _ => vec![format!(
            "{} saved in train mode: `sconce run --eval` runs the model as `model.eval()` would",
            if count == 1 { "a module was".to_owned() } else { format!("{} modules were", text::number(count as u64)) }
        )],
    }
}

/// Tensors that cannot be used where they are in the file.
fn copied(content: &Content<'_>, container: Container) -> Option<String> {
    if container != Container::Zip {
        return None;
    }
    let is_copied = |storage: &Storage| !storage.is_empty() && !storage.is_mapped();
    match content.tensors().filter(|(_, tensor)| is_copied(tensor.storage())).count() {
        0 => None,
        count => Some(format!(
            "{} compressed, big-endian or inside the pickle: copied into memory, not mapped",
            match count {
                1 => "a tensor is".to_owned(),
                _ => format!("{} tensors are", text::number(count as u64)),
            }
        )),
    }
}

/// Storages of which the tensors use a small part: the rest makes the file large for nothing.
fn unused(content: &Content<'_>) -> Vec<String> {
    let mut used: HashMap<*const Storage, (u64, &str, u64)> = HashMap::new();
    for (item, tensor) in content.tensors() {
        let len = tensor.storage().len() as u64;
        used.entry(Arc::as_ptr(tensor.storage())).or_insert((0, &item.name, len)).0 += totals::bytes(tensor);
    }
    let mut unused: Vec<_> =
        used.into_values().filter(|&(used, _, len)| len >= LARGE && (used as f64) < len as f64 * USED).collect();
    unused.sort_by_key(|&(used, _, len)| std::cmp::Reverse(len - used));
    let more = unused.len().saturating_sub(3);
    let mut warnings: Vec<String> = unused
        .iter()
        .take(3)
        .map(|&(used, name, len)| {
            format!(
                "`{}` uses {} of a storage of {}, all of which is in the file: save a `.clone()` of it",
                text::clean(name),
                text::bytes(used),
                text::bytes(len)
            )
        })
        .collect();
    if more > 0 {
        warnings.push(format!("{} more use a small part of their storages", text::count(more, "tensor")));
    }
    warnings
}

/// Dtypes that models do not compute with.
fn dtypes(content: &Content<'_>) -> Option<String> {
    let mut names = Vec::new();
    let (mut count, mut first) = (0, "");
    for (item, tensor) in content.tensors().filter(|(_, tensor)| !tensor.dtype().is_runnable()) {
        let name = tensor.dtype().name();
        if !names.contains(&name) {
            names.push(name);
        }
        (count, first) = (count + 1, if count == 0 { item.name.as_str() } else { first });
    }
    let (which, it) = match count {
        0 => return None,
        1 => (format!("`{}` is {}", text::clean(first), names[0]), "it"),
        _ => (format!("{} are {}", text::count(count, "tensor"), names.join(", ")), "them"),
    };
    Some(format!("{which}: kept as saved; models do not run with {it}"))
}
