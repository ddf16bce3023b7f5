//! `map_location`: which device each storage of a checkpoint goes to.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::stored::{Extra, Kind};
use super::{Dict, Enclosing, Layout, Object, Quantizer, Storage, StoredTensor, Value};

/// The device of each storage of a checkpoint: what `torch.load` takes as `map_location`. It goes to
/// [`Checkpoint::map_location`](super::Checkpoint::map_location).
///
/// | PyTorch | here |
/// |---|---|
/// | `map_location="cpu"`, `torch.device("cpu")` | `"cpu"`, or a [`Device`](crate::Device): every storage goes there |
/// | `map_location={"cuda:1": "cuda:0"}` | `[("cuda:1", "cuda:0")]`, a `Vec` of pairs or a map; other tags stay |
/// | `map_location=lambda storage, tag: ...` | [`MapLocation::from_fn`] |
/// | `map_location=None` | the tags as they were saved |
///
/// It is asked once for each storage, so tensors that share one go to one device. Tags are written as PyTorch writes
/// them: `cpu`, `cuda:0`.
pub struct MapLocation<'a>(Rule<'a>);

enum Rule<'a> {
    All(Arc<str>),
    Table(HashMap<String, Arc<str>>),
    Function(Box<dyn Fn(&Storage, &str) -> Option<String> + 'a>),
}

impl<'a> MapLocation<'a> {
    /// Asks `function` for the tag of each storage, given the one it was saved with; `None` keeps that.
    pub fn from_fn(function: impl Fn(&Storage, &str) -> Option<String> + 'a) -> Self {
        Self(Rule::Function(Box::new(function)))
    }

    fn of_storage(&self, storage: &Storage) -> Option<Arc<str>> {
        match &self.0 {
            Rule::Function(function) => function(storage, storage.location()).map(Into::into),
            _ => self.of_tag(storage.location()),
        }
    }

    /// Where a tensor goes whose device is not its storage's: a function is not asked.
    fn of_tag(&self, tag: &str) -> Option<Arc<str>> {
        match &self.0 {
            Rule::All(tag) => Some(Arc::clone(tag)),
            Rule::Table(table) => table.get(tag).cloned(),
            Rule::Function(_) => None,
        }
    }

    /// The same values with the storages' new tags.
    pub(super) fn apply(&self, values: &[Value]) -> Vec<Value> {
        let (storages, containers, cycles) = (HashMap::new(), HashMap::new(), HashMap::new());
        Mapper { map: self, storages, containers, cycles }.values(values)
    }
}

impl From<&str> for MapLocation<'_> {
    fn from(device: &str) -> Self {
        Self(Rule::All(device.into()))
    }
}

impl From<String> for MapLocation<'_> {
    fn from(device: String) -> Self {
        Self(Rule::All(device.into()))
    }
}

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for MapLocation<'_> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(table: I) -> Self {
        Self(Rule::Table(table.into_iter().map(|(from, to)| (from.into(), to.into().into())).collect()))
    }
}

macro_rules! tables {
    ($($(#[$size:ident])? $table:ty,)*) => { $(
        impl<K: Into<String>, V: Into<String> $(, const $size: usize)?> From<$table> for MapLocation<'_> {
            fn from(table: $table) -> Self {
                table.into_iter().collect()
            }
        }
    )* };
}

tables! {
    #[N] [(K, V); N],
    Vec<(K, V)>,
    HashMap<K, V>,
    BTreeMap<K, V>,
}

/// Rebuilds a tree. What was shared stays shared: everything is mapped once and known by its address, which the tree
/// that is read keeps alive.
struct Mapper<'m, 'a> {
    map: &'m MapLocation<'a>,
    storages: HashMap<*const Storage, Arc<Storage>>,
    /// Containers and tensors.
    containers: HashMap<usize, Value>,
    /// Those that were met inside themselves.
    cycles: HashMap<usize, Enclosing>,
}

impl Mapper<'_, '_> {
    fn value(&mut self, value: &Value) -> Value {
        let Some(address) = value.address() else {
            return match value {
                Value::Storage(storage, dtype) => Value::Storage(self.storage(storage), *dtype),
                Value::Cycle(container) => self.cycle(container),
                other => other.clone(),
            };
        };
        if let Some(known) = self.containers.get(&address) {
            return known.clone();
        }
        let mapped = match value {
            Value::List(items) => Value::List(Arc::new(self.values(items))),
            Value::Set(items) => Value::Set(Arc::new(self.values(items))),
            Value::FrozenSet(items) => Value::FrozenSet(Arc::new(self.values(items))),
            // All empty tuples may have one address.
            Value::Tuple(items) if items.is_empty() => return value.clone(),
            Value::Tuple(items) => Value::Tuple(self.values(items).into()),
            Value::Dict(dict) => Value::Dict(Arc::new(self.dict(dict))),
            Value::Object(object) => Value::Object(Arc::new(self.object(object))),
            Value::Tensor(tensor) => Value::Tensor(Arc::new(self.tensor(tensor))),
            other => other.clone(),
        };
        if let Some(cycle) = self.cycles.remove(&address) {
            cycle.close(&mapped);
        }
        self.containers.insert(address, mapped.clone());
        mapped
    }

    /// A reference to a container that is being mapped, or was.
    fn cycle(&mut self, container: &Enclosing) -> Value {
        let Some(address) = container.get().as_ref().and_then(Value::address) else {
            return Value::Cycle(container.clone());
        };
        match self.containers.get(&address) {
            Some(known) => known.clone(),
            None => Value::Cycle(self.cycles.entry(address).or_default().clone()),
        }
    }

    fn values(&mut self, values: &[Value]) -> Vec<Value> {
        values.iter().map(|value| self.value(value)).collect()
    }

    fn optional(&mut self, value: Option<&Value>) -> Option<Value> {
        value.map(|value| self.value(value))
    }

    fn entries(&mut self, entries: &[(Value, Value)]) -> Vec<(Value, Value)> {
        entries.iter().map(|(key, value)| (self.value(key), self.value(value))).collect()
    }

    fn dict(&mut self, dict: &Dict) -> Dict {
        let mut mapped = Dict::new(dict.kind(), self.entries(dict.iter().as_slice()));
        mapped.factory = self.optional(dict.factory());
        mapped.attributes = self.optional(dict.attributes());
        mapped
    }

    fn object(&mut self, object: &Object) -> Object {
        let mut mapped = object.clone();
        mapped.callee = self.value(&object.callee);
        mapped.args = self.values(&object.args);
        mapped.kwargs = self.optional(object.kwargs());
        mapped.items = self.values(&object.items);
        mapped.entries = self.entries(&object.entries);
        mapped.state = self.optional(object.state());
        mapped
    }

    fn tensor(&mut self, tensor: &StoredTensor) -> StoredTensor {
        let mut mapped = tensor.clone();
        // A meta tensor has no data to put anywhere.
        if tensor.layout() != Layout::Meta {
            mapped = mapped.with_storage(self.storage(tensor.storage()));
        }
        if let Some(extra) = tensor.extra() {
            mapped = mapped.with_extra(Some(self.extra(extra)));
        }
        mapped
    }

    /// A tensor that belongs to another.
    fn part(&mut self, tensor: &mut Arc<StoredTensor>) {
        if let Value::Tensor(mapped) = self.value(&Value::Tensor(Arc::clone(tensor))) {
            *tensor = mapped;
        }
    }

    /// What a tensor has beside its view: the parts of a sparse one, the scales of a quantized one, attributes.
    fn extra(&mut self, extra: &Extra) -> Extra {
        let mut mapped = extra.clone();
        match &mut mapped.kind {
            Kind::Strided | Kind::Quantized(Quantizer::PerTensor { .. }) => {}
            Kind::Quantized(Quantizer::PerChannel { scales, zero_points, .. }) => {
                self.part(scales);
                self.part(zero_points);
            }
            Kind::Listed { call, .. } => *call = Arc::new(self.object(call)),
        }
        if let Some(class) = &mut mapped.class {
            class.state = self.value(&class.state);
        }
        mapped.parameter_state = self.optional(extra.parameter_state.as_ref());
        mapped.hooks = self.optional(extra.hooks.as_ref());
        if let Some(device) = &mut mapped.device
            && let Some(tag) = self.map.of_tag(device)
        {
            *device = tag;
        }
        mapped
    }

    fn storage(&mut self, storage: &Arc<Storage>) -> Arc<Storage> {
        let map = self.map;
        let make = || match map.of_storage(storage) {
            Some(tag) if *tag != *storage.location() => storage.with_location(tag),
            _ => Arc::clone(storage),
        };
        Arc::clone(self.storages.entry(Arc::as_ptr(storage)).or_insert_with(make))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dtype::DType;

    /// Two tensors that share a storage on `cuda:1` and one on the CPU, in a list that the dict has twice.
    fn tree() -> Value {
        let shared = Storage::owned(vec![1u8, 2, 3, 4], "cuda:1");
        let view =
            |offset| Value::from(StoredTensor::new(Arc::clone(&shared), DType::U8, [2], vec![1], offset).unwrap());
        let own = Value::from(StoredTensor::from_bytes(DType::U8, [1], vec![9]).unwrap());
        let list = Value::from(vec![view(0), own]);
        Dict::from_iter([("a", list.clone()), ("b", list), ("c", view(1))]).into()
    }

    fn tags<'a>(map: impl Into<MapLocation<'a>>) -> [String; 3] {
        let root = map.into().apply(&[tree()]).remove(0);
        let [a, b, c] = [&root["a"][0], &root["a"][1], &root["c"]].map(|value| value.as_tensor().unwrap());
        assert!(Arc::ptr_eq(a.storage(), c.storage()), "ties survive");
        assert_eq!(c.contiguous_bytes().unwrap()[..], [2, 3]);
        let lists = ["a", "b"].map(|key| root[key].as_list().unwrap().as_ptr());
        assert_eq!(lists[0], lists[1], "one list stays one");
        [a, b, c].map(|tensor| tensor.storage().location().to_string())
    }

    #[test]
    fn the_forms_of_pytorch() {
        assert_eq!(tags("cuda:0"), ["cuda:0"; 3]);
        assert_eq!(tags("cpu".to_string()), ["cpu"; 3]);
        assert_eq!(tags([("cuda:1", "cuda:0")]), ["cuda:0", "cpu", "cuda:0"]);
        assert_eq!(tags(HashMap::from([("cuda:0", "cpu")])), ["cuda:1", "cpu", "cuda:1"]);
        assert_eq!(tags(BTreeMap::from([("cpu", "mps")])), ["cuda:1", "mps", "cuda:1"]);
        assert_eq!(tags(vec![("cpu", "a"), ("cuda:1", "b")]), ["b", "a", "b"]);
        assert_eq!(
            tags(MapLocation::from_fn(|storage, tag| (storage.len() > 1).then(|| format!("{tag}!")))),
            ["cuda:1!", "cpu", "cuda:1!"]
        );
    }
}
