//! The same for programs. The keys are an interface, documented in `docs/inspect-json.md`: they stay.

use std::collections::HashMap;

use sconce::checkpoint::{StoredTensor, Value};
use serde_json::{Map, Value as Json, json};

use super::super::numbers::Statistics;
use super::super::text;
use super::digest::Digests;
use super::totals::{Count, Totals, bytes};
use super::walk::{Content, Item};

/// What `--json` prints about the values at these positions, and about the file as a whole.
pub(super) fn json(
    content: &Content<'_>,
    chosen: &[usize],
    digests: &Digests,
    statistics: &HashMap<usize, Statistics>,
) -> Map<String, Json> {
    let totals = Totals::of(content);
    let mut answer = Map::new();
    let tensors = chosen.iter().filter_map(|&at| {
        let item = &content.items[at];
        let mut row = tensor(content, item, item.tensor()?);
        if let Some(digest) = digests.get(&at) {
            row.insert("sha256".to_owned(), json!(digest.as_ref().ok()));
            row.extend(digest.as_ref().err().map(|why| ("sha256_error".to_owned(), json!(why))));
        }
        row.extend(statistics.get(&at).map(|found| ("statistics".to_owned(), summary(found))));
        Some(Json::Object(row))
    });
    answer.insert("tensors".into(), tensors.collect());
    let values = chosen.iter().map(|&at| (at, &content.items[at])).filter(|(at, item)| item.end == at + 1);
    let values = values.filter_map(|(_, item)| Some(json!({"name": item.name, "value": plain(item.value)?})));
    answer.insert("values".into(), values.collect());
    answer.insert(
        "totals".into(),
        json!({
            "tensors": totals.all.tensors,
            "elements": totals.all.elements,
            "bytes": totals.bytes,
            "storages": totals.storages,
            "storage_bytes": totals.storage_bytes,
            "parameters": count(totals.parameters),
            "buffers": count(totals.buffers),
            "optimizer": count(totals.optimizer),
            "other": count(totals.other),
            "trainable": count(totals.trainable),
            "frozen": count(Count {
                tensors: totals.all.tensors - totals.trainable.tensors,
                elements: totals.all.elements - totals.trainable.elements,
            }),
            "dtypes": counts(&totals.dtypes),
            "locations": counts(&totals.locations),
        }),
    );
    answer.insert("opaque".into(), counts(&totals.opaque));
    let shared = totals.shared.iter().map(|shared| {
        json!({
            "storage": shared.storage,
            "bytes": shared.bytes,
            "saved": shared.saved,
            "tied": shared.tied,
            "names": shared.names,
        })
    });
    answer.insert("shared".into(), shared.collect());
    answer.insert("complete".into(), json!(!content.is_cut));
    answer
}

fn tensor(content: &Content<'_>, item: &Item<'_>, tensor: &StoredTensor) -> Map<String, Json> {
    let row = json!({
        "name": item.name,
        "dtype": tensor.dtype().name(),
        "shape": tensor.shape().to_vec(),
        "stride": tensor.stride(),
        "location": tensor.location(),
        "requires_grad": tensor.requires_grad(),
        "layout": tensor.layout().name(),
        "bytes": bytes(tensor),
        "storage": content.storage(tensor),
    });
    match row {
        Json::Object(row) => row,
        _ => Map::new(),
    }
}

/// A value that has nothing inside it. Floats that JSON has no form for, and whatever is not a plain value, are texts.
fn plain(value: &Value) -> Option<Json> {
    Some(match value {
        Value::Tensor(_) => return None,
        Value::None => Json::Null,
        Value::Bool(value) => json!(value),
        Value::Int(value) => json!(value),
        Value::Float(value) if value.is_finite() => json!(value),
        Value::Str(value) => json!(&**value),
        other => json!(text::short(&other.to_string(), 1000)),
    })
}

/// Of the finite elements; `null` where there are none.
fn summary(all: &Statistics) -> Json {
    let number = |x: f64| if all.finite > 0 { json!(x) } else { Json::Null };
    json!({
        "min": number(all.min),
        "max": number(all.max),
        "mean": number(all.mean),
        "std": number(all.std),
        "zeros": all.zeros,
        "nan": all.nan,
        "inf": all.infinite,
        "histogram": all.histogram,
    })
}

fn count(count: Count) -> Json {
    json!({"tensors": count.tensors, "elements": count.elements})
}

fn counts(counts: &[(&str, usize)]) -> Json {
    counts.iter().map(|(name, count)| ((*name).to_owned(), json!(count))).collect::<Map<_, _>>().into()
}
