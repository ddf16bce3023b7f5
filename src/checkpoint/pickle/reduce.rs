//! What calls, state, items and persistent ids mean in a pickle: the few classes and functions that are known.

use std::borrow::Cow;

use super::machine::{Machine, pairs};
use super::node::{DictNode, Id, Known, Node, ObjectNode, SetNode, StorageId, TensorNode};
use super::text;
use crate::checkpoint::value::DictKind;
use crate::dtype::DType;
use crate::error::{Error, Result};

impl<'a> Machine<'a> {
    fn node(&self, id: Id) -> &Node<'a> {
        &self.nodes[id as usize]
    }

    fn known(&self, id: Id) -> Known {
        match self.node(id) {
            Node::Global(index) => self.globals.get(*index).known,
            _ => Known::Nothing,
        }
    }

    /// What `callee(*args)` gives: a value for what is known, an opaque object for everything else.
    pub(super) fn call(&mut self, callee: Id, args: Vec<Id>) -> Result<Node<'a>> {
        let value = match self.known(callee) {
            Known::Dict(kind) => self.dict(kind, &args),
            Known::RebuildTensor => Some(self.tensor("_rebuild_tensor", &args, 4)?),
            Known::RebuildTensorV2 => Some(self.tensor("_rebuild_tensor_v2", &args, 6)?),
            Known::RebuildTensorV3 => Some(self.tensor("_rebuild_tensor_v3", &args, 7)?),
            Known::RebuildParameter => self.parameter(&args),
            Known::Encode => self.encode(&args),
            Known::Bytes => self.bytes(&args).map(Node::Bytes),
            Known::ByteArray => self.bytes(&args).map(Node::ByteArray),
            Known::Set { frozen } => self.set(frozen, &args),
            Known::Complex => match *args {
                [re, im] => self.float(re).zip(self.float(im)).map(|number| Node::Complex(Box::new(number))),
                _ => None,
            },
            Known::Size => match *args {
                [sizes] => self.sizes(sizes).map(|sizes| Node::Size(sizes.into())),
                _ => None,
            },
            Known::Device => self.device(&args),
            Known::Reconstructor => match *args {
                [class, base, state] if self.known(base) == Known::Object && matches!(self.node(state), Node::None) => {
                    Some(Node::Object(ObjectNode::new(class, Vec::new(), None)))
                }
                _ => None,
            },
            Known::Nothing | Known::Object | Known::DType(_) | Known::StorageClass(_) => None,
        };
        Ok(value.unwrap_or_else(|| Node::Object(ObjectNode::new(callee, args, None))))
    }

    /// `OrderedDict()`, `OrderedDict([[key, value], ...])` as Python 2 wrote it, `Counter({...})`, `defaultdict(class)`.
    fn dict(&self, kind: DictKind, args: &[Id]) -> Option<Node<'a>> {
        let (factory, content) = match (kind, args) {
            (DictKind::DefaultDict, [factory]) => (Some(*factory), None),
            (DictKind::DefaultDict, [factory, content]) => (Some(*factory), Some(*content)),
            (_, []) => (None, None),
            (DictKind::DefaultDict, _) => return None,
            (_, [content]) => (None, Some(*content)),
            _ => return None,
        };
        let entries = match content.map(|content| self.node(content)) {
            None => Vec::new(),
            Some(Node::Dict(dict)) => dict.entries.clone(),
            Some(Node::List(items)) => items.iter().map(|&pair| self.pair(pair)).collect::<Option<_>>()?,
            Some(Node::Tuple(items)) => items.iter().map(|&pair| self.pair(pair)).collect::<Option<_>>()?,
            Some(_) => return None,
        };
        let mut dict = DictNode::new(kind, entries);
        dict.factory = factory;
        Some(Node::Dict(dict))
    }

    fn pair(&self, id: Id) -> Option<(Id, Id)> {
        match self.items(id)? {
            [key, value] => Some((*key, *value)),
            _ => None,
        }
    }

    fn items(&self, id: Id) -> Option<&[Id]> {
        match self.node(id) {
            Node::List(items) => Some(items),
            Node::Tuple(items) => Some(items),
            _ => None,
        }
    }

    fn set(&self, frozen: bool, args: &[Id]) -> Option<Node<'a>> {
        let items = match *args {
            [] => Vec::new(),
            [items] => match self.node(items) {
                Node::Set(set) => set.items.clone(),
                _ => self.items(items)?.to_vec(),
            },
            _ => return None,
        };
        Some(Node::Set(Box::new(SetNode { frozen, items })))
    }

    /// `_codecs.encode(text, "latin1")`: how protocol 2 writes bytes.
    fn encode(&self, args: &[Id]) -> Option<Node<'a>> {
        let [text, encoding] = *args else { return None };
        let (Node::Str(text), Node::Str(encoding)) = (self.node(text), self.node(encoding)) else { return None };
        matches!(&**encoding, "latin1" | "latin-1").then(|| text::latin1(text))?.map(|b| Node::Bytes(Cow::Owned(b)))
    }

    /// `bytes()`, `bytearray()`, `bytearray(bytes)`, `bytearray(text, "latin-1")`.
    fn bytes(&self, args: &[Id]) -> Option<Cow<'a, [u8]>> {
        match *args {
            [] => Some(Cow::Borrowed(&[])),
            [bytes] => match self.node(bytes) {
                Node::Bytes(bytes) => Some(bytes.clone()),
                _ => None,
            },
            _ => match self.encode(args)? {
                Node::Bytes(bytes) => Some(bytes),
                _ => None,
            },
        }
    }

    fn device(&self, args: &[Id]) -> Option<Node<'a>> {
        let Node::Str(kind) = self.node(*args.first()?) else { return None };
        let name = match args.get(1).map(|&index| self.node(index)) {
            None => kind.to_string(),
            Some(Node::Int(index)) => format!("{kind}:{index}"),
            Some(_) => return None,
        };
        Some(Node::Device(name.into()))
    }

    fn float(&self, id: Id) -> Option<f64> {
        match *self.node(id) {
            Node::Float(float) => Some(float),
            Node::Int(int) => Some(int as f64),
            _ => None,
        }
    }

    fn sizes(&self, id: Id) -> Option<Vec<usize>> {
        let size = |&id: &Id| match self.node(id) {
            Node::Int(size) => usize::try_from(*size).ok(),
            _ => None,
        };
        match self.node(id) {
            Node::Size(sizes) => Some(sizes.to_vec()),
            _ => self.items(id)?.iter().map(size).collect(),
        }
    }

    /// `_rebuild_tensor(storage, offset, size, stride)`; v2 adds `requires_grad, hooks`, v3 also `dtype`; both may end
    /// with a dict that holds the conjugate and negative bits.
    fn tensor(&mut self, name: &str, args: &[Id], count: usize) -> Result<Node<'a>> {
        let bad = |what: &str| Error::invalid(format!("`{name}` {what}"));
        if args.len() < count || args.len() > count + 1 || (count == 4 && args.len() > 4) {
            return Err(bad(&format!("expects {count} arguments, {} were given", args.len())));
        }
        let Node::Storage(storage, storage_dtype) = *self.node(args[0]) else {
            return Err(bad(&format!("expects a storage, {} was given", self.node(args[0]).describe())));
        };
        let offset = match self.node(args[1]) {
            Node::Int(offset) => usize::try_from(*offset).ok(),
            _ => None,
        };
        let offset = offset.ok_or_else(|| bad("expects an offset that is not negative"))?;
        let shape = self.sizes(args[2]).ok_or_else(|| bad("expects sizes that are not negative"))?;
        let stride = self.sizes(args[3]).ok_or_else(|| bad("expects strides that are not negative"))?;
        let requires_grad = match args.get(4).map(|&id| self.node(id)) {
            Some(Node::Bool(requires_grad)) => *requires_grad,
            None => false,
            Some(_) => return Err(bad("expects a bool for `requires_grad`")),
        };
        let dtype = match args.get(6).filter(|_| count == 7).map(|&id| self.known(id)) {
            Some(Known::DType(dtype)) => dtype,
            Some(_) => return Err(Error::unsupported(format!("`{name}` names a dtype that this crate does not know"))),
            None => storage_dtype.unwrap_or(DType::U8),
        };
        let (conj, neg) = match args.get(count) {
            Some(&metadata) => self.bits(metadata).ok_or_else(|| bad("has metadata that is not a dict of bools"))?,
            None => (false, false),
        };
        Ok(Node::Tensor(Box::new(TensorNode { storage, dtype, offset, shape, stride, requires_grad, conj, neg })))
    }

    /// The conjugate and negative bits in a tensor's metadata.
    fn bits(&self, metadata: Id) -> Option<(bool, bool)> {
        let Node::Dict(dict) = self.node(metadata) else {
            return matches!(self.node(metadata), Node::None).then_some((false, false));
        };
        let mut bits = (false, false);
        for &(key, value) in &dict.entries {
            let (Node::Str(key), Node::Bool(value)) = (self.node(key), self.node(value)) else { return None };
            match &**key {
                "conj" => bits.0 = *value,
                "neg" => bits.1 = *value,
                _ => return None,
            }
        }
        Some(bits)
    }

    /// `_rebuild_parameter(data, requires_grad, hooks)`, also with the state of the parameter's own attributes.
    fn parameter(&self, args: &[Id]) -> Option<Node<'a>> {
        let [data, requires_grad, ..] = *args else { return None };
        match (self.node(data), self.node(requires_grad)) {
            (Node::Tensor(tensor), &Node::Bool(requires_grad)) => {
                Some(Node::Tensor(Box::new(TensorNode { requires_grad, ..(**tensor).clone() })))
            }
            _ => None,
        }
    }

    /// The storage that a persistent id `("storage", class, key, location, number of elements)` names.
    pub(super) fn persistent(&mut self, id: Id) -> Result<Node<'a>> {
        let bad = || Error::invalid("a persistent id is not `('storage', class, key, location, number of elements)`");
        let &[kind, class, key, location, numel] = self.items(id).ok_or_else(bad)? else { return Err(bad()) };
        let (Node::Str(kind), Node::Str(key), Node::Str(location), &Node::Int(numel)) =
            (self.node(kind), self.node(key), self.node(location), self.node(numel))
        else {
            return Err(bad());
        };
        if kind != "storage" {
            return Err(bad());
        }
        let Known::StorageClass(dtype) = self.known(class) else {
            return Err(Error::unsupported(match self.node(class) {
                Node::Global(index) => {
                    format!(
                        "storage `{key}` is of class `{}`, which this crate does not know",
                        self.globals.get(*index).name
                    )
                }
                other => format!("storage `{key}` is of {}, not of a storage class", other.describe()),
            }));
        };
        let size = dtype.map_or(1, DType::size) as u64;
        let bytes = u64::try_from(numel)
            .ok()
            .and_then(|numel| numel.checked_mul(size))
            .ok_or_else(|| Error::invalid(format!("storage `{key}` has {numel} elements of {size} bytes")))?;
        if let Some(&index) = self.storages.index.get(&**key) {
            let known = &self.storages.all[index as usize];
            if known.bytes != bytes || (known.dtype != dtype && bytes > 0) {
                let describe = |dtype: Option<DType>| dtype.map_or("untyped", DType::name);
                return Err(Error::invalid(format!(
                    "storage `{key}` has {} bytes of {} in one place, {bytes} of {} in another",
                    known.bytes,
                    describe(known.dtype),
                    describe(dtype)
                )));
            }
            return Ok(Node::Storage(index, dtype));
        }
        let index = self.storages.all.len() as u32;
        let (key, location) = (key.to_string(), location.to_string());
        self.storages.index.insert(key.clone(), index);
        self.storages.all.push(StorageId { key, dtype, location, bytes });
        Ok(Node::Storage(index, dtype))
    }

    /// Appends to the list, or list-like object, on top of the stack.
    pub(super) fn extend(&mut self, items: &[Id]) -> Result<()> {
        let target = self.target()?;
        match target {
            Node::List(list) => list.extend(items),
            Node::Object(object) => object.items.extend(items),
            other => return Err(Error::invalid(format!("items are appended to {}", other.describe()))),
        }
        Ok(())
    }

    /// Adds to the set on top of the stack.
    pub(super) fn add_items(&mut self, items: &[Id]) -> Result<()> {
        match self.target()? {
            Node::Set(set) if !set.frozen => set.items.extend(items),
            Node::Object(object) => object.items.extend(items),
            other => return Err(Error::invalid(format!("items are added to {}", other.describe()))),
        }
        Ok(())
    }

    /// Sets entries of the dict, or dict-like object, on top of the stack.
    pub(super) fn set_items(&mut self, items: &[Id]) -> Result<()> {
        let pairs = pairs(items)?;
        match self.target()? {
            Node::Dict(dict) => dict.entries.extend(pairs),
            Node::Object(object) => object.entries.extend(pairs),
            other => return Err(Error::invalid(format!("entries are set in {}", other.describe()))),
        }
        Ok(())
    }

    fn target(&mut self) -> Result<&mut Node<'a>> {
        let id = self.top()?;
        Ok(&mut self.nodes[id as usize])
    }

    /// Gives an object its state; a dict's is its attributes, such as a state dict's `_metadata`.
    pub(super) fn set_state(&mut self, object: Id, state: Id) -> Result<()> {
        let place = match &mut self.nodes[object as usize] {
            Node::Object(object) => &mut object.state,
            Node::Dict(dict) => &mut dict.attributes,
            other => return Err(Error::invalid(format!("a state is set on {}", other.describe()))),
        };
        if place.replace(state).is_some() {
            return Err(Error::unsupported("a state is set on the same object twice"));
        }
        Ok(())
    }
}
