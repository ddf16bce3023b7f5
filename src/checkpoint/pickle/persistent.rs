//! What lies outside of a pickle's values: the storages, and in the oldest files the tensors, that it names by
//! persistent ids, or holds as bytes.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use super::machine::Machine;
use super::node::{self, Id, Inside, Known, Node, StorageId, Storages, TensorNode};
use super::reduce::Made;
use crate::checkpoint::hash::{Positions, QuickMap};
use crate::checkpoint::{Storage, legacy};
use crate::dtype::DType;
use crate::error::{Error, Result};

/// How a pickle refers to what is outside of it.
pub(in crate::checkpoint) enum Outside {
    /// By persistent ids that describe storages, as `torch.save` writes them.
    Storages,
    /// By keys of storages and tensors, as torch 0.1.9 and older did.
    Objects(Objects),
    /// Not at all. A storage is a string of bytes that holds a legacy stream, as `pickle.dump` writes tensors.
    Nothing,
}

/// Storages and tensors with keys.
#[derive(Default)]
pub(in crate::checkpoint) struct Objects {
    pub(in crate::checkpoint) storages: Vec<StorageId<'static>>,
    pub(in crate::checkpoint) tensors: Vec<KeyedTensor>,
    pub(in crate::checkpoint) keys: QuickMap<i64, ObjectIndex>,
}

/// Where in [`Objects`] the object of a key is.
#[derive(Clone, Copy)]
pub(in crate::checkpoint) enum ObjectIndex {
    Storage(u32),
    Tensor(u32),
}

/// A tensor that the file describes outside of its pickle.
pub(in crate::checkpoint) struct KeyedTensor {
    pub(in crate::checkpoint) storage: u32,
    pub(in crate::checkpoint) dtype: DType,
    pub(in crate::checkpoint) offset: usize,
    pub(in crate::checkpoint) shape: Box<[usize]>,
    pub(in crate::checkpoint) stride: Box<[usize]>,
}

/// The bytes of a storage that the pickle itself holds.
#[derive(Clone)]
pub(in crate::checkpoint) enum Embedded {
    /// A range of the bytes that the pickle was read from.
    At(Range<usize>),
    /// A copy, where the pickle has them in an escaped form.
    Copied(Arc<Storage>),
}

/// What a persistent id says about a storage.
struct Reference<'r> {
    /// The dtype of its class; none when its elements are bytes.
    dtype: Option<DType>,
    key: Cow<'r, str>,
    location: Cow<'r, str>,
    numel: i64,
    /// In files before torch 1.6 (an inner `None` when it is not a view): the key of a part of the storage, its first
    /// element and its length.
    view: Option<Option<(Cow<'r, str>, i64, i64)>>,
}

impl<'a> Machine<'a> {
    /// Makes the tensors of `objects` known.
    pub(super) fn adopt(&mut self, objects: &mut Objects) -> Result<()> {
        // These are known by other keys than those that the index has.
        self.storages.indexed = true;
        self.storages.all = std::mem::take(&mut objects.storages);
        for tensor in std::mem::take(&mut objects.tensors) {
            let [shape, stride] =
                [tensor.shape, tensor.stride].map(|sizes| self.add(Node::Size(Box::new(sizes[..].into()))));
            self.arena.tensors.push(TensorNode {
                storage: Some(tensor.storage),
                dtype: tensor.dtype,
                requires_grad: false,
                is_parameter: false,
                conj: false,
                neg: false,
                offset: tensor.offset,
                shape: shape?,
                stride: stride?,
                extra: None,
            });
        }
        Ok(())
    }

    /// What a persistent id names.
    pub(super) fn persistent(&mut self, id: Id) -> Result<Made> {
        match &self.outside {
            Outside::Objects(objects) => {
                if let Some(&[class, _file, _source]) = self.arena.items(id) {
                    return Ok(Made::Existing(class));
                }
                let key = match (self.node(id), self.arena.text(id)) {
                    (Node::Int(key), _) => Some(*key),
                    (_, Some(text)) => text.parse().ok(),
                    _ => None,
                };
                let key = key.ok_or_else(|| Error::invalid("a persistent id is not the number of an object"))?;
                keyed(objects, &self.storages, key)
            }
            _ => self.class_or_storage(id),
        }
    }

    /// What a persistent id names that is written as text, in protocol 0.
    pub(super) fn persistent_text(&mut self, id: &'a str) -> Result<Made> {
        if let Outside::Objects(objects) = &self.outside
            && let Ok(key) = id.parse()
        {
            return keyed(objects, &self.storages, key);
        }
        self.check_outside()?;
        if let Some(class) = class_name(id) {
            let (module, name) = class.rsplit_once('.').unwrap_or(("builtins", class));
            return Ok(Made::Node(Node::Global(self.globals.intern(module, name))));
        }
        let bad = || {
            let shown: String = id.escape_debug().take(120).collect();
            Error::invalid(format!("the persistent id `{shown}` is not a storage's"))
        };
        let (class, reference) = reference(id).ok_or_else(bad)?;
        let Some(Known::StorageClass(dtype)) = node::torch_name(class) else { return Err(bad()) };
        self.storages.intern(Reference { dtype, ..reference }).map(|index| Made::Node(Node::Storage(index, dtype)))
    }

    /// `('storage', class, key, location, number of elements)`, in files before torch 1.6 followed by what part of it is
    /// meant, or `('module', class, source file, source)`, which names a class.
    fn class_or_storage(&mut self, id: Id) -> Result<Made> {
        let bad = || Error::invalid("a persistent id is not `('storage', class, key, location, number of elements)`");
        self.check_outside()?;
        let parts = self.arena.items(id).ok_or_else(bad)?;
        let text = |id| self.arena.text(id).ok_or_else(bad);
        let kept = |id| self.arena.kept_text(id).ok_or_else(bad);
        let int = |id| match *self.arena.node(id) {
            Node::Int(int) => Ok(int),
            _ => Err(bad()),
        };
        let (&kind, parts) = parts.split_first().ok_or_else(bad)?;
        let ([class, key, location, numel], view) = match (text(kind)?, parts) {
            ("module", &[class, _file, _source]) => return Ok(Made::Existing(class)),
            ("storage", &[class, key, location, numel]) => ([class, key, location, numel], None),
            ("storage", &[class, key, location, numel, view]) => ([class, key, location, numel], Some(view)),
            _ => return Err(bad()),
        };
        let view = match view.map(|view| (self.arena.node(view), self.arena.items(view))) {
            None => None,
            Some((Node::None, _)) => Some(None),
            Some((_, Some(&[key, offset, len]))) => Some(Some((kept(key)?, int(offset)?, int(len)?))),
            Some(_) => return Err(bad()),
        };
        let (key, location, numel) = (kept(key)?, kept(location)?, int(numel)?);
        let Known::StorageClass(dtype) = self.known(class) else { return Err(self.strange_storage(&key, class)) };
        let index = self.storages.intern(Reference { dtype, key, location, numel, view })?;
        Ok(Made::Node(Node::Storage(index, dtype)))
    }

    fn check_outside(&self) -> Result<()> {
        match self.outside {
            Outside::Nothing => Err(Error::invalid(
                "a persistent id: it names an object outside of the pickle, and this file has nothing else",
            )),
            _ => Ok(()),
        }
    }

    fn strange_storage(&self, key: &str, class: Id) -> Error {
        Error::unsupported(match self.node(class) {
            Node::Global(index) => {
                let name = &self.globals.get(*index).name;
                format!("storage `{key}` is of class `{name}`, which this crate does not know")
            }
            other => format!("storage `{key}` is of {}, not of a storage class", other.describe()),
        })
    }

    /// The storage in the argument of `torch.storage._load_from_bytes`, if that is what is called, and where it has a
    /// meaning.
    pub(super) fn embedded(&mut self, callee: Id, args: Id) -> Result<Option<Made>> {
        if self.known(callee) != Known::LoadFromBytes || !matches!(self.outside, Outside::Nothing) {
            return Ok(None);
        }
        let Some(&[argument]) = self.arena.items(args) else { return Ok(None) };
        if let Some(&index) = self.embedded.get(&argument) {
            return Ok(Some(Made::Node(Node::Storage(index, self.storages.all[index as usize].dtype))));
        }
        let (bytes, at) = match self.node(argument) {
            Node::Bytes(part) => {
                let bytes = self.arena.get(*part);
                (bytes, Some(self.position_of(bytes)))
            }
            Node::Blob(bytes) => (&bytes[..], None),
            _ => return Ok(None),
        };
        let Some((mut id, range)) = legacy::storage_in(bytes)? else { return Ok(None) };
        id.inside = Some(Box::new(Inside::Pickle(match at {
            Some(at) => Embedded::At(at + range.start..at + range.end),
            None => Embedded::Copied(Storage::owned(&bytes[range], Arc::clone(&id.location))),
        })));
        let (index, dtype) = (self.storages.all.len() as u32, id.dtype);
        self.storages.all.push(id);
        self.embedded.insert(argument, index);
        Ok(Some(Made::Node(Node::Storage(index, dtype))))
    }
}

/// The object of a key.
fn keyed(objects: &Objects, storages: &Storages<'_>, key: i64) -> Result<Made> {
    Ok(Made::Node(match objects.keys.get(&key) {
        Some(&ObjectIndex::Tensor(index)) => Node::Tensor(index),
        Some(&ObjectIndex::Storage(index)) => Node::Storage(index, storages.all[index as usize].dtype),
        None => return Err(Error::invalid(format!("the file has no object with the key {key}"))),
    }))
}

impl<'a> Storages<'a> {
    /// The index of the storage that a persistent id describes, or of the view of one.
    fn intern(&mut self, reference: Reference<'a>) -> Result<u32> {
        let Reference { dtype, key, location, numel, view } = reference;
        let bytes = id_bytes(&key, numel, dtype)?;
        let root = match self.find(&key) {
            Some(index) => {
                self.all[index as usize].check_same(dtype, bytes, view.is_some())?;
                index
            }
            None => self.add(key.clone(), dtype, &location, bytes),
        };
        let Some((view, offset, len)) = view.flatten() else { return Ok(root) };
        let start = id_bytes(&view, offset, dtype)?;
        let len = id_bytes(&view, len, dtype)?;
        if start.checked_add(len).is_none_or(|end| end > bytes) {
            return Err(Error::invalid(format!(
                "the part `{view}` of storage `{key}`, {len} bytes from byte {start} on, does not lie in its {bytes} bytes"
            )));
        }
        if let Some(index) = self.find(&view) {
            let known = &self.all[index as usize];
            if index == root && (start, len) == (0, bytes) || (known.view(), known.bytes) == (Some((root, start)), len)
            {
                return Ok(index);
            }
            return Err(Error::invalid(format!("storage `{view}` is not the same part of another one everywhere")));
        }
        let index = self.add(view, dtype, &location, len);
        self.all[index as usize].inside = Some(Box::new(Inside::Storage(root, start)));
        Ok(index)
    }

    fn find(&mut self, key: &str) -> Option<u32> {
        if !self.indexed {
            match position(key) {
                Some(at) if at <= self.all.len() => return (at < self.all.len()).then_some(at as u32),
                _ => self.make_index(),
            }
        }
        self.index.find(self.index.hash(key), |at| self.all[at].key == key).map(|at| at as u32)
    }

    fn add(&mut self, key: Cow<'a, str>, dtype: Option<DType>, location: &str, bytes: u64) -> u32 {
        let index = self.all.len() as u32;
        // As a rule all storages of a file were in one place.
        let location = match self.all.last() {
            Some(last) if *last.location == *location => Arc::clone(&last.location),
            _ => location.into(),
        };
        self.all.push(StorageId { key, dtype, location, bytes, inside: None });
        if self.indexed {
            self.put(index as usize);
        }
        index
    }

    fn make_index(&mut self) {
        self.indexed = true;
        self.index = Positions::with_capacity(self.all.len() * 2);
        (0..self.all.len()).for_each(|at| self.put(at));
    }

    /// Puts the key at a position into the index.
    fn put(&mut self, at: usize) {
        let hash = self.index.hash(&*self.all[at].key);
        self.index.find_or_insert(hash, at, |_| false, |own, at| own.hash(&*self.all[at].key));
    }
}

/// The position that a key is, were the keys numbers from 0 on.
fn position(key: &str) -> Option<usize> {
    let is_plain = key.len() < 10 && (key == "0" || !key.starts_with('0'));
    let digits = is_plain && key.bytes().all(|byte| byte.is_ascii_digit());
    key.parse().ok().filter(|_| digits)
}

impl StorageId<'_> {
    /// Refuses another reference to the storage that contradicts the first. Before torch 1.6 one of the same size in
    /// other elements is another look at the same bytes.
    fn check_same(&self, dtype: Option<DType>, bytes: u64, is_legacy: bool) -> Result<()> {
        if self.bytes == bytes && (self.dtype == dtype || bytes == 0 || is_legacy) && self.view().is_none() {
            return Ok(());
        }
        let describe = |dtype: Option<DType>| dtype.map_or("untyped", DType::name);
        Err(Error::invalid(format!(
            "storage `{}` has {} bytes of {} in one place, {bytes} of {} in another",
            self.key,
            self.bytes,
            describe(self.dtype),
            describe(dtype)
        )))
    }
}

/// The bytes that a number of elements takes.
fn id_bytes(key: &str, numel: i64, dtype: Option<DType>) -> Result<u64> {
    let size = dtype.map_or(1, DType::size) as u64;
    u64::try_from(numel)
        .ok()
        .and_then(|numel| numel.checked_mul(size))
        .ok_or_else(|| Error::invalid(format!("storage `{key}` has {numel} elements of {size} bytes")))
}

/// The class in `('module', <class 'torch.nn.modules.linear.Linear'>, 'linear.py', 'class Linear...')`.
fn class_name(text: &str) -> Option<&str> {
    let inner = text.strip_prefix("('module', <class '")?.strip_suffix(')')?;
    inner.split_once("'>, ").map(|(class, _)| class)
}

/// Reads `('storage', <class 'torch.FloatStorage'>, '0', 'cpu', 4, None)`: protocol 0 writes persistent ids as Python
/// prints them. Gives the class's name and the rest.
fn reference(text: &str) -> Option<(&str, Reference<'_>)> {
    let inner = text.strip_prefix("('storage', <class '")?.strip_suffix(')')?;
    let (class, rest) = inner.split_once("'>, ")?;
    let mut parts = rest.splitn(4, ", ");
    let (key, location) = (quoted(parts.next()?)?.into(), quoted(parts.next()?)?.into());
    let numel = parts.next()?.parse().ok()?;
    let view = match parts.next() {
        None => None,
        Some("None") => Some(None),
        Some(view) => {
            let mut parts = view.strip_prefix('(')?.strip_suffix(')')?.split(", ");
            let view = (quoted(parts.next()?)?.into(), parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
            parts.next().is_none().then_some(Some(view))?.into()
        }
    };
    Some((class, Reference { dtype: None, key, location, numel, view }))
}

fn quoted(text: &str) -> Option<&str> {
    text.strip_prefix('\'')?.strip_suffix('\'').filter(|inner| !inner.contains(['\'', '\\']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_persistent_ids_that_are_text() {
        let (class, id) = reference("('storage', <class 'torch.FloatStorage'>, '12', 'cuda:0', 3)").unwrap();
        assert_eq!((class, &*id.key, &*id.location, id.numel), ("torch.FloatStorage", "12", "cuda:0", 3));
        assert!(id.view.is_none());
        let view = |tail: &str| {
            reference(&format!("('storage', <class 'torch.LongStorage'>, '1', 'cpu', 9, {tail})"))
                .map(|(_, id)| id.view.map(|view| view.map(|(key, offset, len)| (key.into_owned(), offset, len))))
        };
        assert_eq!(view("None"), Some(Some(None)));
        assert_eq!(view("('7', 2, 4)"), Some(Some(Some(("7".into(), 2, 4)))));
        assert_eq!([view("('7', 2)"), view("('7', 2, 4, 5)"), view("()"), view("7")], [const { None }; 4]);
        assert!(reference("('storage', <class 'torch.FloatStorage'>, 12, 'cpu', 3)").is_none());
        assert!(reference("").is_none() && reference("('module', 1)").is_none());
    }
}
