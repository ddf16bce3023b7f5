//! Names: prefixes, renaming, choosing, merging. The modules' metadata follow the names of their tensors.

use std::collections::HashMap;
use std::sync::Arc;

use indexmap::IndexMap;
use regex_lite::Regex;

use super::{StateDict, Tensors};
use crate::checkpoint::{StoredTensor, Value};
use crate::error::{Error, ErrorKind, Result};

impl StateDict {
    /// Takes `prefix` off the names that start with it; the other names stay. A name that is already taken keeps its
    /// prefix.
    ///
    /// `module.` is what `nn.DataParallel` adds, `_orig_mod.` is what `torch.compile` adds.
    #[must_use]
    pub fn strip_prefix(&self, prefix: &str) -> Self {
        let short = |name: &str| match name.strip_prefix(prefix) {
            Some(short) if !short.is_empty() && !self.tensors.contains_key(short) => short.to_string(),
            _ => name.to_string(),
        };
        self.with_names(self.names().map(short).collect())
    }

    /// Puts `prefix` before every name.
    #[must_use]
    pub fn add_prefix(&self, prefix: &str) -> Self {
        self.with_names(self.names().map(|name| format!("{prefix}{name}")).collect())
    }

    /// Only the names that start with `prefix`, without it: the state dict of one part of a model.
    #[must_use]
    pub fn select(&self, prefix: &str) -> Self {
        let mut part = self.filter(|name, _| name.starts_with(prefix) && name != prefix);
        part.metadata.retain(|module, _| format!("{module}.").starts_with(prefix));
        part.strip_prefix(prefix)
    }

    /// Only the tensors that `keep` is true for.
    #[must_use]
    pub fn filter(&self, mut keep: impl FnMut(&str, &StoredTensor) -> bool) -> Self {
        let mut kept = self.clone();
        kept.tensors.retain(|name, tensor| keep(name, tensor));
        kept
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
        self.rename_with(|name| renamed(name).unwrap_or_else(|| name.to_string()))
    }

    /// Replaces what a regular expression matches in the names, everywhere in each name, as Python's `re.sub` does.
    /// `$1` or `${1}` in the replacement is the first group; a letter, digit or `_` behind it needs the braces.
    ///
    /// ```
    /// # use sconce::{DType, StateDict, checkpoint::StoredTensor};
    /// # let tensor = StoredTensor::from_bytes(DType::F32, [1], vec![0; 4])?;
    /// # let state = StateDict::from_iter([("denselayer1.norm.1.weight".to_string(), tensor)]);
    /// // torchvision's old DenseNet files have `denselayer1.norm.1.weight` for `denselayer1.norm1.weight`.
    /// let state = state.rename_regex(r"(norm|conv)\.(\d)\.", "$1$2.")?;
    /// assert!(state.get("denselayer1.norm1.weight").is_some());
    /// # Ok::<(), sconce::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] when `pattern` is not a regular expression of the crate `regex-lite` or the replacement
    /// names a group that it does not have, [`ErrorKind::NotFound`] when no name matches, [`ErrorKind::StateDict`]
    /// when two tensors would get one name.
    pub fn rename_regex(&self, pattern: &str, replacement: &str) -> Result<Self> {
        let regex = Regex::new(pattern)
            .map_err(|error| Error::invalid(format!("`{pattern}` is not a regular expression: {error}")))?;
        check_groups(&regex, replacement)?;
        if !self.names().any(|name| regex.is_match(name)) {
            let error = Error::not_found(format!("no name of the state dict matches `{pattern}`"));
            return Err(match self.names().next() {
                Some(first) => error.help(format!("the first name is `{first}`")),
                None => error.help("it is empty"),
            });
        }
        self.rename_with(|name| regex.replace_all(name, replacement).into_owned())
    }

    /// Renames every tensor by a function, for names that changed by a rule.
    ///
    /// # Errors
    /// [`ErrorKind::StateDict`] when two tensors would get one name.
    pub fn rename_with(&self, rename: impl FnMut(&str) -> String) -> Result<Self> {
        let names: Vec<String> = self.names().map(rename).collect();
        let mut first = HashMap::new();
        for (old, new) in self.names().zip(&names) {
            if let Some(other) = first.insert(new.as_str(), old) {
                let (old, kept) = if new == old { (other, old) } else { (old, other) };
                let message = match new == kept {
                    true => format!("`{old}` cannot be renamed: the name `{new}` is taken"),
                    false => format!("`{kept}` and `{old}` cannot both be renamed to `{new}`"),
                };
                return Err(Error::new(ErrorKind::StateDict, message));
            }
        }
        Ok(self.with_names(names))
    }

    /// This state dict with the tensors of `other` added; where both have a name, `other`'s tensor is taken.
    #[must_use]
    pub fn merge(&self, other: &StateDict) -> Self {
        let mut merged = self.clone();
        merged.tensors.extend(other.tensors.clone());
        merged.metadata.extend(other.metadata.clone());
        merged
    }

    /// The same tensors with these names, which are distinct.
    fn with_names(&self, names: Vec<String>) -> Self {
        let metadata = moved(&self.metadata, self.names().zip(names.iter().map(String::as_str)));
        let names = names.into_iter().map(Arc::from);
        let tensors: Tensors = names.zip(self.tensors.values().cloned()).collect();
        debug_assert_eq!(tensors.len(), self.len());
        Self { tensors, metadata, free_text: self.free_text.clone(), key: self.key.clone() }
    }
}

/// Modules inside each other beyond which metadata do not follow: a name of nothing but dots would take forever.
const MAX_DEPTH: usize = 64;

/// The metadata of modules whose tensors were renamed. A module goes where the first of its tensors went, one without
/// tensors goes along with the module that it is in.
fn moved<'a>(
    metadata: &IndexMap<String, Value>,
    names: impl Iterator<Item = (&'a str, &'a str)>,
) -> IndexMap<String, Value> {
    if metadata.is_empty() {
        return IndexMap::new();
    }
    let mut places = HashMap::<&str, &str>::new();
    for (old, new) in names {
        let ends = old.match_indices('.').take(MAX_DEPTH).map(|(dot, _)| (&old[..dot], &old[dot + 1..]));
        for (module, rest) in std::iter::once(("", old)).chain(ends) {
            let place = new.strip_suffix(rest).filter(|place| place.is_empty() || place.ends_with('.'));
            if let Some(place) = place {
                places.entry(module).or_insert(place);
            }
        }
    }
    let mut result = IndexMap::with_capacity(metadata.len());
    let mut left = Vec::new();
    for (module, entry) in metadata {
        match place_of(module, &places) {
            Some(place) => _ = result.entry(place).or_insert_with(|| entry.clone()),
            None => left.push((module, entry)),
        }
    }
    for (module, entry) in left {
        result.entry(module.clone()).or_insert_with(|| entry.clone());
    }
    result
}

/// The new name of a module, from the place (`""` or ending in a dot) of the innermost module around it that has one.
fn place_of(module: &str, places: &HashMap<&str, &str>) -> Option<String> {
    let ends = module.rmatch_indices('.').take(MAX_DEPTH).map(|(dot, _)| (&module[..dot], &module[dot + 1..]));
    let root = (!module.is_empty()).then_some(("", module));
    std::iter::once((module, "")).chain(ends).chain(root).find_map(|(outer, rest)| {
        let place = places.get(outer)?;
        Some(if rest.is_empty() { place.trim_end_matches('.').to_string() } else { format!("{place}{rest}") })
    })
}

/// Refuses a replacement with a group that the expression does not have, for which nothing would be put in.
fn check_groups(regex: &Regex, replacement: &str) -> Result<()> {
    let mut rest = replacement;
    while let Some(at) = rest.find('$') {
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            rest = after;
            continue;
        }
        let name = match rest.strip_prefix('{') {
            Some(inner) => inner.split('}').next().unwrap_or(inner),
            None => &rest[..rest.find(|c: char| c != '_' && !c.is_ascii_alphanumeric()).unwrap_or(rest.len())],
        };
        let known = match name.parse::<usize>() {
            Ok(number) => number < regex.captures_len(),
            Err(_) => name.is_empty() || regex.capture_names().any(|group| group == Some(name)),
        };
        if !known {
            return Err(Error::invalid(format!("`{regex}` has no group `{name}`, which the replacement names"))
                .help("write `${1}x` for the first group before a letter, digit or `_`, and `$$` for a dollar sign"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::Dict;
    use crate::dtype::DType;

    fn state(names: &[&str]) -> StateDict {
        let tensor = |i: usize| StoredTensor::from_bytes(DType::U8, [1], vec![i as u8]).unwrap();
        names.iter().enumerate().map(|(i, name)| (name.to_string(), tensor(i))).collect()
    }

    fn names(state: &StateDict) -> Vec<&str> {
        state.names().collect()
    }

    /// Metadata of modules that have their number as the version.
    fn versions(modules: &[&str]) -> Vec<(String, Value)> {
        let entry = |i: usize| Dict::from_iter([("version", Value::Int(i as i64))]).into();
        modules.iter().enumerate().map(|(i, module)| (module.to_string(), entry(i))).collect()
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
    fn metadata_follow_their_modules() {
        let s = state(&["module.bn.weight", "module.body.0.weight"]);
        let s = s.with_metadata(versions(&["", "module", "module.bn", "module.relu", "module.body", "module.body.0"]));
        let at = |s: &StateDict| s.metadata.iter().map(|(m, _)| (m.clone(), s.version(m).unwrap())).collect::<Vec<_>>();
        let expect = |pairs: &[(&str, i64)]| pairs.iter().map(|(m, v)| (m.to_string(), *v)).collect::<Vec<_>>();
        let stripped = s.strip_prefix("module.");
        let all = expect(&[("", 1), ("bn", 2), ("relu", 3), ("body", 4), ("body.0", 5)]);
        assert_eq!(at(&stripped), all);
        assert_eq!(at(&stripped.filter(|_, _| false)), all);
        assert_eq!(stripped.rename("bn", "norm").unwrap().version("norm"), Some(2));
        assert_eq!(at(&stripped.select("body.")), expect(&[("", 4), ("0", 5)]));
        let prefixed = stripped.select("body.").add_prefix("net.");
        assert_eq!(at(&prefixed), expect(&[("net", 4), ("net.0", 5)]));
        assert_eq!(
            at(&stripped.rename_regex(r"^body\.(\d)", "layer$1").unwrap())[3..],
            expect(&[("body", 4), ("layer0", 5)])
        );
        assert_eq!(stripped.merge(&prefixed).version("net.0"), Some(5));
    }

    #[test]
    fn renames_tensors_and_modules_in_place() {
        let s = state(&["fc.weight", "fc.bias", "fcx"]);
        assert_eq!(names(&s.rename("fc", "head").unwrap()), ["head.weight", "head.bias", "fcx"]);
        assert_eq!(names(&s.rename("fc.bias", "b").unwrap()), ["fc.weight", "b", "fcx"]);
        let error = |result: Result<StateDict>| result.unwrap_err().to_string();
        assert_eq!(error(s.rename("fc.bias", "fcx")), "`fc.bias` cannot be renamed: the name `fcx` is taken");
        assert_eq!(error(s.rename("fcx", "fc.bias")), "`fcx` cannot be renamed: the name `fc.bias` is taken");
        assert_eq!(error(s.rename_with(|_| "x".into())), "`fc.weight` and `fc.bias` cannot both be renamed to `x`");
        assert_eq!(
            error(s.rename("head.weight", "x")),
            "the state dict has no tensor `head.weight`\n  help: it has `fc.weight`"
        );
    }

    #[test]
    fn renames_by_regular_expressions() {
        let s = state(&["layers.0.w", "layers.1.w", "fc.w"]);
        assert_eq!(
            names(&s.rename_regex(r"^layers\.(?<n>\d+)", "body.${n}.conv").unwrap()),
            ["body.0.conv.w", "body.1.conv.w", "fc.w"]
        );
        assert_eq!(names(&s.rename_regex("w", "$$").unwrap()), ["layers.0.$", "layers.1.$", "fc.$"]);
        let error = |pattern: &str, replacement: &str| s.rename_regex(pattern, replacement).unwrap_err().to_string();
        assert!(error("(", "").starts_with("`(` is not a regular expression: "));
        assert!(!error("(", "").contains('\n'));
        assert_eq!(error(r"\.\d", ""), "`layers.0.w` and `layers.1.w` cannot both be renamed to `layers.w`");
        assert!(error(r"(\d)", "$1x").starts_with(r"`(\d)` has no group `1x`, which the replacement names"));
        assert!(error(r"(\d)", "$2").starts_with(r"`(\d)` has no group `2`"));
        assert_eq!(error("x", "y"), "no name of the state dict matches `x`\n  help: the first name is `layers.0.w`");
    }

    #[test]
    fn merging_takes_the_other_tensor() {
        let merged = state(&["a", "b"]).merge(&state(&["c", "a"]));
        assert_eq!(names(&merged), ["a", "b", "c"]);
        assert_eq!(merged.get_tensor("a").unwrap().bytes(), [1]);
        assert_eq!(merged.get_tensor("x").unwrap_err().kind(), ErrorKind::NotFound);
    }
}
