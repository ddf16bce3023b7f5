//! What calls, state and items mean in a pickle: the few classes and functions that are known.

use std::sync::Arc;

use super::machine::{Machine, pairs};
use super::node::{Arena, DictNode, Id, Known, Node, ObjectNode, SetNode, TensorNode};
use super::text;
use crate::checkpoint::value::DictKind;
use crate::error::{Error, Result};

/// What a call made, not yet in the arena.
pub(super) enum Made {
    /// What is there already.
    Existing(Id),
    Node(Node),
    Dict(DictNode),
    Tensor(TensorNode),
    Object(ObjectNode),
}

impl Made {
    /// How many parts were copied to make it, or will be.
    pub(super) fn copied(&self, arena: &Arena<'_>) -> usize {
        match self {
            Made::Existing(_) => 0,
            Made::Dict(dict) => dict.entries.len(),
            Made::Object(object) => object.args.len() + object.items.len() + object.entries.len(),
            Made::Tensor(tensor) => tensor.copied(arena),
            Made::Node(Node::Set(set)) => set.items.len(),
            Made::Node(Node::Size(sizes)) => sizes.len(),
            Made::Node(Node::Blob(bytes) | Node::ByteArray(bytes)) => bytes.len(),
            Made::Node(Node::Device(name)) => name.len(),
            Made::Node(_) => 1,
        }
    }

    /// The same, with an opaque object made by its class's `__new__` if `bare`.
    pub(super) fn bare_if(mut self, bare: bool) -> Self {
        if let Made::Object(object) = &mut self {
            object.bare = bare;
        }
        self
    }
}

impl Machine<'_> {
    pub(super) fn node(&self, id: Id) -> &Node {
        self.arena.node(id)
    }

    pub(super) fn known(&self, id: Id) -> Known {
        match self.node(id) {
            Node::Global(index) => self.globals.get(*index).known,
            _ => Known::Nothing,
        }
    }

    /// What `callee(*args)` gives: a value for what is known, an opaque object for everything else.
    pub(super) fn call(&self, callee: Id, args: &[Id]) -> Result<Made> {
        let made = match self.known(callee) {
            Known::RebuildTensor => self.tensor("_rebuild_tensor", args, 4)?,
            Known::RebuildTensorV2 => self.tensor("_rebuild_tensor_v2", args, 6)?,
            Known::RebuildTensorV3 => self.tensor("_rebuild_tensor_v3", args, 7)?,
            Known::RebuildParameter => self.rebuild_parameter(args),
            Known::RebuildQTensor => self.quantized(args),
            Known::RebuildSparse => self.sparse(callee, args),
            Known::RebuildNested => self.nested(callee, args),
            Known::RebuildMeta => self.meta(callee, args),
            Known::RebuildCopy => self.copy(callee, args),
            Known::RebuildWrapper => self.wrapper(callee, args),
            Known::RebuildFromType => self.subclass(callee, args)?,
            Known::Parameter => self.parameter(args),
            Known::NewObject => match args.split_first() {
                // A class that is named once more, as a function, would go on without end.
                Some((&class, args)) if self.known(class) != Known::NewObject => return self.call(class, args),
                _ => None,
            },
            Known::Dict(kind) => self.dict(kind, args),
            Known::Typed => args.first().map(|&value| Made::Existing(value)),
            Known::Reconstructor => self.reconstruct(args),
            known => self.simple(known, args).map(Made::Node),
        };
        Ok(made.unwrap_or_else(|| Made::Object(ObjectNode::new(callee, args.to_vec(), None))))
    }

    fn simple(&self, known: Known, args: &[Id]) -> Option<Node> {
        match (known, args) {
            (Known::Encode | Known::Bytes, _) => self.bytes(args).map(|bytes| Node::Blob(Box::new(bytes))),
            (Known::ByteArray, _) => self.bytes(args).map(|bytes| Node::ByteArray(Box::new(bytes))),
            (Known::Set { frozen }, _) => self.set(frozen, args),
            (Known::Complex, &[re, im]) => Some(Node::Complex(Box::new((self.float(re)?, self.float(im)?)))),
            (Known::Size, &[sizes]) => self.arena.sizes(sizes).map(|sizes| Node::Size(Box::new(sizes))),
            (Known::Device, _) => self.device(args),
            _ => None,
        }
    }

    /// `copyreg._reconstructor(class, base, content of the base)`: how protocols 0 and 1 make objects.
    fn reconstruct(&self, args: &[Id]) -> Option<Made> {
        let [class, base, content] = *args else { return None };
        let mut object = ObjectNode::new(class, Vec::new(), None);
        object.bare = true;
        match (self.known(base), self.node(content)) {
            (Known::Object, Node::None) => {}
            (Known::Dict(DictKind::Dict), Node::Dict(_) | Node::EmptyDict(_)) => {
                object.entries = self.arena.entries(content)?.to_vec();
            }
            (Known::List, Node::List(list)) => object.items.clone_from(&self.arena.lists[*list as usize]),
            _ => return None,
        }
        Some(Made::Object(object))
    }

    /// `OrderedDict()`, `OrderedDict([[key, value], ...])` as Python 2 wrote it, `Counter({...})`, `defaultdict(class)`.
    fn dict(&self, kind: DictKind, args: &[Id]) -> Option<Made> {
        let (factory, content) = match (kind, args) {
            (DictKind::DefaultDict, [factory]) => (Some(*factory), None),
            (DictKind::DefaultDict, [factory, content]) => (Some(*factory), Some(*content)),
            (_, []) => (None, None),
            (DictKind::DefaultDict, _) => return None,
            (_, [content]) => (None, Some(*content)),
            _ => return None,
        };
        let entries = match content {
            None => Vec::new(),
            Some(content) => match self.arena.entries(content) {
                Some(entries) => entries.to_vec(),
                None => self.arena.items(content)?.iter().map(|&pair| self.pair(pair)).collect::<Option<_>>()?,
            },
        };
        if entries.is_empty() && factory.is_none() {
            return Some(Made::Node(Node::EmptyDict(kind)));
        }
        let mut dict = DictNode::new(kind, entries);
        dict.factory = factory;
        Some(Made::Dict(dict))
    }

    fn pair(&self, id: Id) -> Option<(Id, Id)> {
        match self.arena.items(id)? {
            [key, value] => Some((*key, *value)),
            _ => None,
        }
    }

    fn set(&self, frozen: bool, args: &[Id]) -> Option<Node> {
        let items = match *args {
            [] => Vec::new(),
            [items] => match self.node(items) {
                Node::Set(set) => set.items.clone(),
                _ => self.arena.items(items)?.to_vec(),
            },
            _ => return None,
        };
        Some(Node::Set(Box::new(SetNode { frozen, items })))
    }

    /// `bytes()`, `bytearray()`, `bytearray(bytes)`, `bytearray(text, "latin-1")`, and `_codecs.encode(text, "latin1")`:
    /// how protocol 2 writes bytes.
    fn bytes(&self, args: &[Id]) -> Option<Arc<[u8]>> {
        match *args {
            [] => Some([].into()),
            [bytes] => match self.node(bytes) {
                Node::Bytes(part) => Some(self.arena.get(*part).into()),
                Node::Blob(bytes) => Some(Arc::clone(bytes)),
                _ => None,
            },
            [text, encoding] => match self.arena.text(encoding)? {
                "latin1" | "latin-1" => text::latin1(self.arena.text(text)?),
                _ => None,
            },
            _ => None,
        }
    }

    fn device(&self, args: &[Id]) -> Option<Node> {
        let kind = self.arena.text(*args.first()?)?;
        let name = match args.get(1).map(|&index| self.node(index)) {
            None => kind.to_owned(),
            Some(Node::Int(index)) => format!("{kind}:{index}"),
            Some(_) => return None,
        };
        Some(Node::Device(Box::new(name.into())))
    }

    pub(super) fn float(&self, id: Id) -> Option<f64> {
        match *self.node(id) {
            Node::Float(float) => Some(float),
            Node::Int(int) => Some(int as f64),
            _ => None,
        }
    }

    /// Appends what is on the stack from `from` on to a list or list-like object.
    pub(super) fn extend(&mut self, target: Id, from: usize) -> Result<()> {
        let items = &self.stack[from..];
        match &mut self.arena.nodes[target as usize] {
            Node::List(list) => self.arena.lists[*list as usize].extend(items),
            Node::Object(object) => object.items.extend(items),
            other => return Err(Error::invalid(format!("items are appended to {}", other.describe()))),
        }
        Ok(())
    }

    /// Adds what is on the stack from `from` on to a set.
    pub(super) fn add_items(&mut self, target: Id, from: usize) -> Result<()> {
        let items = &self.stack[from..];
        match &mut self.arena.nodes[target as usize] {
            Node::Set(set) if !set.frozen => set.items.extend(items),
            Node::Object(object) => object.items.extend(items),
            other => return Err(Error::invalid(format!("items are added to {}", other.describe()))),
        }
        Ok(())
    }

    /// Sets the keys and values that are on the stack from `from` on in a dict or dict-like object.
    pub(super) fn set_items(&mut self, target: Id, from: usize) -> Result<()> {
        let pairs = pairs(&self.stack[from..])?;
        if let Some(dict) = self.arena.dict_mut(target) {
            dict.entries.extend(pairs);
            return Ok(());
        }
        match &mut self.arena.nodes[target as usize] {
            Node::Object(object) => object.entries.extend(pairs),
            other => return Err(Error::invalid(format!("entries are set in {}", other.describe()))),
        }
        Ok(())
    }

    /// Gives an object its state; a dict's is its attributes, such as a state dict's `_metadata`.
    pub(super) fn set_state(&mut self, object: Id, state: Id) -> Result<()> {
        if self.set_tensor_state(object, state)? {
            return Ok(());
        }
        if let Some(dict) = self.arena.dict_mut(object) {
            return set_once(&mut dict.attributes, state);
        }
        match &mut self.arena.nodes[object as usize] {
            Node::Object(object) => set_once(&mut object.state, state),
            other => Err(Error::invalid(format!("a state is set on {}", other.describe()))),
        }
    }
}

fn set_once(place: &mut Option<Id>, state: Id) -> Result<()> {
    match place.replace(state) {
        None => Ok(()),
        Some(_) => Err(Error::unsupported("a state is set on the same object twice")),
    }
}
