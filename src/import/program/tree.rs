//! How a program's inputs and outputs are nested in Python: `torch.utils._pytree`.

use serde_json::Value as Json;

use crate::error::{Error, Result};

/// A leaf, or a container of trees with the keys that they have in it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) enum Tree {
    #[default]
    Leaf,
    Node(Vec<(String, Tree)>),
}

impl Tree {
    /// Reads `[version, {"type": .., "context": .., "children_spec": [..]}]`; nothing is a leaf.
    pub(super) fn read(text: &str) -> Result<Self> {
        if text.is_empty() {
            return Ok(Tree::Leaf);
        }
        let invalid = || Error::invalid("a `treespec` of the program is damaged");
        let json: Json = serde_json::from_str(text).map_err(|_| invalid())?;
        Self::node(json.get(1).ok_or_else(invalid)?).ok_or_else(invalid)
    }

    fn node(json: &Json) -> Option<Self> {
        let Some(kind) = json.get("type")?.as_str() else { return Some(Tree::Leaf) };
        let children = json["children_spec"].as_array()?;
        let keys = keys(kind, &json["context"], children.len());
        let children = children.iter().map(Self::node).collect::<Option<Vec<_>>>()?;
        Some(Tree::Node(keys.into_iter().zip(children).collect()))
    }

    /// The leaves in order, each by its path: `out`, `past.0.key`, or nothing for a single value.
    pub(super) fn leaves(&self) -> Vec<String> {
        let mut leaves = Vec::new();
        self.collect("", &mut leaves);
        leaves
    }

    fn collect(&self, path: &str, leaves: &mut Vec<String>) {
        match self {
            Tree::Leaf => leaves.push(path.into()),
            Tree::Node(children) => {
                for (key, child) in children {
                    let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                    child.collect(&path, leaves);
                }
            }
        }
    }
}

/// The keys of a container's children: those of a dict or of a dataclass, else numbers.
fn keys(kind: &str, context: &Json, count: usize) -> Vec<String> {
    let parsed: Json = context.as_str().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    let named = match &parsed {
        _ if kind == "builtins.tuple" || kind == "builtins.list" => None,
        Json::Array(names) => names_of(names),
        // Dataclasses list their fields: `[flat names, names of None]`; defaultdicts nest a dict's context.
        Json::Object(fields) => fields.values().find_map(|value| value.as_array().and_then(|names| names_of(names))),
        _ => None,
    };
    let nested = match &parsed {
        Json::Array(items) if named.is_none() => {
            items.iter().find_map(|item| item.as_array().and_then(|names| names_of(names)))
        }
        _ => None,
    };
    let named = named.or(nested).filter(|names| names.len() == count);
    named.unwrap_or_else(|| (0..count).map(|index| index.to_string()).collect())
}

fn names_of(names: &[Json]) -> Option<Vec<String>> {
    names
        .iter()
        .map(|name| match name {
            Json::String(name) => Some(name.clone()),
            Json::Number(number) => Some(number.to_string()),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_leaves() {
        let leaf = r#"{"type": null, "context": null, "children_spec": []}"#;
        let dict = format!(
            r#"[1, {{"type": "builtins.dict", "context": "[\"out\", \"aux\"]", "children_spec": [{leaf},
            {{"type": "builtins.tuple", "context": "null", "children_spec": [{leaf}, {leaf}]}}]}}]"#
        );
        assert_eq!(Tree::read(&dict).unwrap().leaves(), ["out", "aux.0", "aux.1"]);
        assert_eq!(Tree::read(&format!("[1, {leaf}]")).unwrap().leaves(), [""]);
        assert_eq!(Tree::read("").unwrap(), Tree::Leaf);
        assert!(Tree::read("[1]").is_err() && Tree::read("{").is_err());
    }
}
