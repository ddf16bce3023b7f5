//! Checkpoints as JSON, in the form in which tools/files.py writes what PyTorch has.

use std::sync::Arc;

use sconce::checkpoint::{Dict, DictKind, Storage, StoredTensor, Value};
use serde_json::{Value as Json, json};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A value in the form of the JSON files: tagged lists, floats by their bits, storages numbered as they are met.
#[derive(Default)]
pub(crate) struct Encoder {
    storages: Vec<Arc<Storage>>,
}

impl Encoder {
    pub(crate) fn value(&mut self, value: &Value) -> Json {
        match value {
            Value::None => Json::Null,
            Value::Bool(value) => json!(value),
            Value::Int(value) => json!(["int", value.to_string()]),
            Value::BigInt(value) => json!(["int", value.to_string()]),
            Value::Float(value) => json!(["float", hex(&value.to_be_bytes())]),
            Value::Complex(re, im) => json!(["complex", hex(&[re.to_be_bytes(), im.to_be_bytes()].concat())]),
            Value::Str(text) => json!(**text),
            Value::Bytes(bytes) => json!(["bytes", hex(bytes)]),
            Value::ByteArray(bytes) => json!(["bytearray", hex(bytes)]),
            Value::List(items) => json!(["list", self.items(items)]),
            Value::Tuple(items) => json!(["tuple", self.items(items)]),
            Value::Set(items) => json!(["set", self.items(items)]),
            Value::FrozenSet(items) => json!(["frozenset", self.items(items)]),
            Value::Dict(dict) => self.dict(dict),
            Value::Tensor(tensor) => self.tensor(tensor),
            Value::DType(dtype) => json!(["dtype", format!("torch.{dtype}")]),
            Value::Device(name) => json!(["device", **name]),
            Value::Size(shape) => json!(["size", shape[..]]),
            Value::Global(name) => json!(["global", **name]),
            Value::Object(object) => {
                assert!(object.kwargs().is_none());
                let entries: Vec<Json> =
                    object.entries().iter().map(|(k, v)| json!([self.value(k), self.value(v)])).collect();
                json!([
                    "object",
                    object.class(),
                    self.items(object.args()),
                    self.items(object.items()),
                    entries,
                    object.state().map(|state| self.value(state))
                ])
            }
            Value::Cycle(_) => json!(["cycle"]),
            other => panic!("no test writes {other:?}"),
        }
    }

    fn items(&mut self, items: &[Value]) -> Vec<Json> {
        items.iter().map(|item| self.value(item)).collect()
    }

    fn dict(&mut self, dict: &Dict) -> Json {
        let kind = match dict.kind() {
            DictKind::Dict => "dict",
            DictKind::OrderedDict => "OrderedDict",
            DictKind::DefaultDict => "defaultdict",
            DictKind::Counter => "Counter",
            other => panic!("no test writes a {other}"),
        };
        let entries: Vec<Json> = dict.iter().map(|(key, value)| json!([self.value(key), self.value(value)])).collect();
        let factory = dict.factory().map(|factory| self.value(factory));
        json!([kind, entries, factory, dict.attributes().map(|attributes| self.value(attributes))])
    }

    fn tensor(&mut self, tensor: &StoredTensor) -> Json {
        let storage = match self.storages.iter().position(|known| Arc::ptr_eq(known, tensor.storage())) {
            Some(index) => index,
            None => {
                self.storages.push(Arc::clone(tensor.storage()));
                self.storages.len() - 1
            }
        };
        json!(["tensor", {
            "dtype": tensor.dtype().name(),
            "shape": tensor.shape()[..],
            "stride": tensor.stride(),
            "offset": tensor.offset(),
            "requires_grad": tensor.requires_grad(),
            "storage": storage,
            "storage_bytes": tensor.storage().len(),
            "data": hex(&tensor.contiguous_bytes().unwrap()),
        }])
    }
}

/// The first place where two values differ.
pub(crate) fn difference(path: &str, expected: &Json, found: &Json) -> Option<String> {
    match (expected, found) {
        (Json::Array(a), Json::Array(b)) if a.len() == b.len() => {
            a.iter().zip(b).enumerate().find_map(|(i, (a, b))| difference(&format!("{path}/{i}"), a, b))
        }
        (Json::Object(a), Json::Object(b)) if a.len() == b.len() => {
            a.iter().find_map(|(key, a)| difference(&format!("{path}/{key}"), a, &b[key]))
        }
        _ => (expected != found).then(|| format!("at {path}: expected {expected}, found {found}")),
    }
}
