//! Legacy streams, what torch 0.1.10 to 1.5 wrote: a magic number, a version, facts about the machine, the object and
//! the keys of its storages, each a pickle; then each storage, its number of elements before its bytes.
//!
//! `torch.save` can be called several times with one open file. The saves follow each other without a gap.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use super::pickle::{Outside, StorageId, Unpickled, unpickle_at};
use super::source::Source;
use super::value::Value;
use super::{Storage, sniff, zip};
use crate::dtype::DType;
use crate::error::{Error, Result};

/// The number that starts a stream, little-endian: `0x1950a86a20f9469cfc6c`.
const MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
const VERSION: i64 = 1001;

/// Reads the saves of a file that starts with a legacy stream. A zip archive may come last.
pub(super) fn open(source: &Arc<Source>) -> Result<Vec<Value>> {
    let mut saves = Vec::new();
    let mut at = 0;
    while at < source.len() {
        let rest = &source[at..];
        let count = saves.len() + 1;
        let later = |error: Error| match count {
            1 => error,
            _ => error.context(format_args!("save {count}, from byte {at} on")),
        };
        if sniff::is_zip(rest) {
            saves.extend(zip::open(&Source::window(source, at..source.len())).map_err(later)?.1);
            break;
        }
        if count > 1 && !sniff::is_legacy(rest) {
            return Err(Error::invalid(format!(
                "{} bytes follow the last storage, from byte {at} on, and are not another save",
                rest.len()
            )));
        }
        let (value, end) = save(source, at).map_err(later)?;
        saves.push(value);
        at = end;
    }
    Ok(saves)
}

/// Reads the save that starts at a byte; also gives the byte after it.
fn save(source: &Arc<Source>, start: usize) -> Result<(Value, usize)> {
    let object = object(source, start)?;
    let layout = Layout::read(source, object.storages(), object.end())?;
    let mut opened: Vec<Option<Arc<Storage>>> = vec![None; layout.ranges.len()];
    let value = object.into_value(&mut |index, id, _| {
        let make = || Storage::range(Arc::clone(source), layout.ranges[index].clone(), Arc::clone(&id.location));
        Ok(Arc::clone(opened[index].get_or_insert_with(make)))
    })?;
    Ok((value, layout.end))
}

/// The storage that a legacy stream in memory holds, with the range of its bytes, if the stream is one of a storage alone.
pub(super) fn storage_in(bytes: &[u8]) -> Result<Option<(StorageId<'static>, Range<usize>)>> {
    if !sniff::is_legacy(bytes) {
        return Ok(None);
    }
    let object = object(bytes, 0)?;
    let Some(index) = object.root_storage() else { return Ok(None) };
    let layout = Layout::read(bytes, object.storages(), object.end())?;
    let id = &object.storages()[index];
    let alone = StorageId {
        key: id.key.to_string().into(),
        dtype: id.dtype,
        location: Arc::clone(&id.location),
        bytes: id.bytes,
        inside: None,
    };
    Ok(Some((alone, layout.ranges[index].clone())))
}

/// The object's pickle, after what comes before it in the stream that starts at a byte.
fn object(bytes: &[u8], start: usize) -> Result<Unpickled<'_>> {
    let (magic, at) = value(bytes, start)?;
    if !matches!(&magic, Value::BigInt(int) if int.bytes() == MAGIC) {
        return Err(Error::invalid(format!("byte {start}: the magic number of `torch.save` is not there")));
    }
    let (version, machine) = value(bytes, at)?;
    if !matches!(version, Value::Int(VERSION)) {
        return Err(Error::unsupported(format!("byte {at}: stream version {version}; {VERSION} is read")));
    }
    let (_, at) = value(bytes, machine)?;
    unpickle_at(bytes, at, Outside::Storages)
}

/// The small value pickled at a byte, and the byte after it.
fn value(bytes: &[u8], start: usize) -> Result<(Value, usize)> {
    let pickle = unpickle_at(bytes, start, Outside::Storages)?;
    let end = pickle.end();
    let outside = |_, _: &StorageId<'_>, _| Err(Error::invalid(format!("byte {start}: a storage where there is none")));
    Ok((pickle.into_value(&mut { outside })?, end))
}

/// Where the storages of a stream are.
struct Layout {
    /// By the storages' indices.
    ranges: Vec<Range<usize>>,
    /// The byte after the last one.
    end: usize,
}

impl Layout {
    /// Reads the keys of the storages, pickled at byte `start`, and the headers of the storages, which follow.
    fn read(bytes: &[u8], ids: &[StorageId<'_>], start: usize) -> Result<Self> {
        let (keys, mut end) = value(bytes, start).map_err(|error| error.context("the list of storages"))?;
        let list = |what: String| Error::invalid(format!("the list of storages, at byte {start}, {what}"));
        let keys = keys.as_list().map_err(|_| list("is not a list".into()))?;
        let roots = ids.iter().enumerate().filter(|(_, id)| id.view().is_none());
        let mut left: HashMap<&str, usize> = roots.map(|(index, id)| (&*id.key, index)).collect();
        let mut ranges = vec![0..0; ids.len()];
        for key in keys {
            let Value::Str(key) = key else { return Err(list(format!("has {} for a key", key.describe()))) };
            let Some(index) = left.remove(&**key) else {
                return Err(list(format!("names `{}`, twice or without need", show(key))));
            };
            ranges[index] = range(bytes, &ids[index], end)?;
            end = ranges[index].end;
        }
        if !left.is_empty() {
            let missing: Vec<_> = left.keys().take(3).map(|key| format!("`{}`", show(key))).collect();
            return Err(list(format!("lacks {} of {}: {}", left.len(), ids.len(), missing.join(", "))));
        }
        for (index, id) in ids.iter().enumerate() {
            if let Some((root, offset)) = id.view() {
                // It lies inside the root, as was checked when it was met.
                let start = ranges[root as usize].start + offset as usize;
                ranges[index] = start..start + id.bytes as usize;
            }
        }
        Ok(Self { ranges, end })
    }
}

/// The bytes of a storage whose header is at a byte.
pub(super) fn range(bytes: &[u8], id: &StorageId<'_>, at: usize) -> Result<Range<usize>> {
    let key = show(&id.key);
    let cut = |needed: u64, left: usize| {
        Error::invalid(format!("storage `{key}`, at byte {at}, is cut short: {needed} bytes expected, {left} left"))
    };
    let rest = bytes.get(at..).unwrap_or_default();
    let (header, data) = rest.split_first_chunk::<8>().ok_or_else(|| cut(8, rest.len()))?;
    let (numel, size) = (i64::from_le_bytes(*header), id.dtype.map_or(1, DType::size));
    if i128::from(numel) * size as i128 != i128::from(id.bytes) {
        return Err(Error::invalid(format!(
            "storage `{key}`, at byte {at}, should have {} bytes, by the pickle, and has {numel} elements of {size} bytes",
            id.bytes
        )));
    }
    if id.bytes > data.len() as u64 {
        return Err(cut(id.bytes, data.len()));
    }
    Ok(at + 8..at + 8 + id.bytes as usize)
}

fn show(key: &str) -> String {
    key.escape_debug().take(80).collect()
}
