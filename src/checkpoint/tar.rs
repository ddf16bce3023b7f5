//! Tar archives, what torch 0.1.1 to 0.1.9 wrote. The member `storages` has the storages and their views, `tensors`
//! the tensors, and `pickle` the object, which names both by numbers.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use super::Storage;
use super::legacy;
use super::pickle::{Inside, KeyedTensor, ObjectIndex, Objects, Outside, StorageId, storage_dtype, unpickle_at};
use super::source::Source;
use super::value::Value;
use crate::dtype::DType;
use crate::error::{Error, Result};

const BLOCK: usize = 512;

/// Reads a checkpoint from a mapped tar archive. No tensor's bytes are read.
pub(super) fn open(source: &Arc<Source>) -> Result<Value> {
    let members = Members::read(source)?;
    let [storages, tensors, pickle] = members.all(["storages", "tensors", "pickle"])?;
    let (mut objects, ranges) =
        read_storages(&source[..storages.end], storages.start).map_err(|error| error.context("`storages`"))?;
    read_tensors(&source[..tensors.end], tensors.start, &mut objects).map_err(|error| error.context("`tensors`"))?;
    let mut opened: Vec<Option<Arc<Storage>>> = vec![None; ranges.len()];
    let mut open = |index: usize, id: &StorageId<'_>, _| {
        let make = || Storage::range(Arc::clone(source), ranges[index].clone(), Arc::clone(&id.location));
        Ok(Arc::clone(opened[index].get_or_insert_with(make)))
    };
    unpickle_at(&source[..pickle.end], pickle.start, Outside::Objects(objects))
        .and_then(|pickle| pickle.into_value(&mut open))
        .map_err(|error| error.context("`pickle`"))
}

/// The archive's members and where their bytes are.
struct Members(HashMap<String, Range<usize>>);

impl Members {
    fn read(bytes: &[u8]) -> Result<Self> {
        let mut members = HashMap::new();
        let mut at = 0;
        let (mut long_name, mut long_size) = (None, None);
        // Two blocks of zeros end the archive; many writers leave them out.
        while let Some(header) = bytes.get(at..at + BLOCK).filter(|block| block.iter().any(|&byte| byte != 0)) {
            let damaged = |what: &str| Error::invalid(format!("the tar header at byte {at} is damaged: {what}"));
            if number(&header[148..156]) != Some(checksum(header)) {
                return Err(damaged("its checksum is wrong"));
            }
            let size = long_size.take().or_else(|| number(&header[124..136]));
            let size = size.and_then(|size| usize::try_from(size).ok());
            let size = size.ok_or_else(|| damaged("it has no size"))?;
            let start = at + BLOCK;
            let left = bytes.len() - start;
            if size > left {
                return Err(Error::invalid(format!(
                    "the tar archive is cut short: the member at byte {at} has {size} bytes, {left} are left"
                )));
            }
            let data = start..start + size;
            at = start + size.next_multiple_of(BLOCK).min(left);
            match header[156] {
                b'0' | 0 => {
                    let name = long_name.take().unwrap_or_else(|| text(&header[..100]));
                    let name = name.strip_prefix("./").unwrap_or(&name).to_owned();
                    if members.contains_key(&name) {
                        let name: String = name.escape_debug().take(80).collect();
                        return Err(Error::invalid(format!("the tar archive has two members called `{name}`")));
                    }
                    members.insert(name, data);
                }
                // What PAX says of the next member; GNU's form of a long name.
                b'x' => {
                    let records = &bytes[data];
                    long_name = pax(records, "path");
                    long_size = pax(records, "size").and_then(|size| size.parse().ok());
                }
                b'L' => long_name = Some(text(&bytes[data])),
                // Directories, links and what is true of all members.
                _ => {}
            }
        }
        Ok(Self(members))
    }

    fn all<const N: usize>(&self, names: [&str; N]) -> Result<[Range<usize>; N]> {
        let missing: Vec<_> =
            names.iter().filter(|&&name| !self.0.contains_key(name)).map(|name| format!("`{name}`")).collect();
        if missing.is_empty() {
            return Ok(names.map(|name| self.0[name].clone()));
        }
        let error = Error::invalid(format!(
            "a tar archive, but not one that PyTorch wrote: it has no member {}",
            missing.join(", ")
        ));
        let ends = [".pt", ".pth", ".bin", ".ckpt", ".safetensors"];
        Err(match self.0.keys().any(|name| ends.iter().any(|end| name.ends_with(end))) {
            true => error.help("it holds a checkpoint: unpack it first"),
            false => error,
        })
    }
}

/// An octal number, or a large one in GNU's binary form.
fn number(field: &[u8]) -> Option<u64> {
    if let [0x80, rest @ ..] = field {
        let (high, low) = rest.split_last_chunk::<8>().map(|(high, low)| (high, u64::from_be_bytes(*low)))?;
        return high.iter().all(|&byte| byte == 0).then_some(low);
    }
    let text = text(field);
    u64::from_str_radix(text.trim(), 8).ok()
}

/// The sum of a header's bytes, with spaces for the sum itself.
fn checksum(header: &[u8]) -> u64 {
    let byte = |(at, &byte): (usize, &u8)| if (148..156).contains(&at) { u64::from(b' ') } else { byte.into() };
    header.iter().enumerate().map(byte).sum()
}

/// Text that ends at its first zero.
fn text(field: &[u8]) -> String {
    let len = field.iter().position(|&byte| byte == 0).unwrap_or(field.len());
    String::from_utf8_lossy(&field[..len]).into_owned()
}

/// The value of a key in PAX records: `30 path=name\n`, the length first.
fn pax(mut records: &[u8], key: &str) -> Option<String> {
    while let Some(space) = records.iter().position(|&byte| byte == b' ') {
        let len: usize = std::str::from_utf8(&records[..space]).ok()?.parse().ok()?;
        let record = records.get(space + 1..len)?;
        if let Some(value) = record.strip_prefix(key.as_bytes()).and_then(|rest| rest.strip_prefix(b"=")) {
            return Some(String::from_utf8_lossy(value.strip_suffix(b"\n").unwrap_or(value)).into_owned());
        }
        records = &records[len..];
    }
    None
}

/// Little-endian numbers and small pickles, read in order.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let rest = &self.bytes[self.at..];
        let array = rest.first_chunk::<N>().copied();
        let array = array.ok_or_else(|| {
            Error::invalid(format!("byte {}: cut short: {N} more bytes expected, {} left", self.at, rest.len()))
        })?;
        self.at += N;
        Ok(array)
    }

    fn i64(&mut self) -> Result<i64> {
        self.array().map(i64::from_le_bytes)
    }

    /// Natural numbers, as many as there are dimensions.
    fn sizes(&mut self, ndim: usize, what: &str) -> Result<Box<[usize]>> {
        let at = self.at;
        if self.bytes.len() - at < ndim.saturating_mul(8) {
            return Err(Error::invalid(format!("byte {at}: a tensor of {ndim} dimensions is cut short")));
        }
        let size =
            |_| usize::try_from(self.i64()?).map_err(|_| Error::invalid(format!("byte {at}: a negative {what}")));
        (0..ndim).map(size).collect()
    }

    fn value(&mut self) -> Result<Value> {
        let start = self.at;
        let pickle = unpickle_at(self.bytes, start, Outside::Storages)?;
        self.at = pickle.end();
        let outside =
            |_, _: &StorageId<'_>, _| Err(Error::invalid(format!("byte {start}: a storage where there is none")));
        pickle.into_value(&mut { outside })
    }

    /// A pickled number of things.
    fn count(&mut self) -> Result<u64> {
        let at = self.at;
        let count = self.value()?;
        let number = count.as_i64().ok().and_then(|count| u64::try_from(count).ok());
        number.ok_or_else(|| {
            Error::invalid(format!("byte {at}: expected a number of things, found {}", count.describe()))
        })
    }
}

/// Reads the storages and where their bytes are.
fn read_storages(bytes: &[u8], start: usize) -> Result<(Objects, Vec<Range<usize>>)> {
    let mut reader = Reader { bytes, at: start };
    let mut objects = Objects::default();
    let mut ranges = Vec::new();
    for _ in 0..reader.count()? {
        let at = reader.at;
        let entry = reader.value()?;
        let bad = || Error::invalid(format!("byte {at}: {} is not `(key, location, class)`", entry.describe()));
        let [Value::Int(key), Value::Str(location), Value::Global(class)] = entry.as_list().unwrap_or_default() else {
            return Err(bad());
        };
        let Some(dtype) = storage_dtype(class) else {
            return Err(Error::unsupported(format!(
                "storage `{key}` is of class `{class}`, which this crate does not know"
            )));
        };
        let size = dtype.map_or(1, DType::size) as u64;
        let header = bytes.get(reader.at..).and_then(<[u8]>::first_chunk::<8>).copied().map_or(0, i64::from_le_bytes);
        let header_bytes = u64::try_from(header).ok().and_then(|numel| numel.checked_mul(size)).ok_or_else(|| {
            Error::invalid(format!("storage `{key}`, at byte {}, has {header} elements of {size} bytes", reader.at))
        })?;
        let id = StorageId {
            key: key.to_string().into(),
            dtype,
            location: Arc::clone(location),
            bytes: header_bytes,
            inside: None,
        };
        let range = legacy::range(bytes, &id, reader.at)?;
        reader.at = range.end;
        add_storage(&mut objects, &mut ranges, *key, id, range)?;
    }
    read_views(&mut reader, &mut objects, &mut ranges)?;
    Ok((objects, ranges))
}

/// Reads the storages that are parts of others, in a pickled list.
fn read_views(reader: &mut Reader<'_>, objects: &mut Objects, ranges: &mut Vec<Range<usize>>) -> Result<()> {
    let at = reader.at;
    let views = reader.value()?;
    for view in views.as_list().map_err(|error| error.context(format_args!("byte {at}")))? {
        let bad = |what: &str| Error::invalid(format!("byte {at}: the view of a storage {what}"));
        let [Value::Int(key), Value::Int(root), Value::Int(offset), Value::Int(len)] =
            view.as_list().unwrap_or_default()
        else {
            return Err(bad("is not `(key, root, offset, size)`"));
        };
        let Some(&ObjectIndex::Storage(root)) = objects.keys.get(root) else {
            return Err(bad(&format!("`{key}` has no root `{root}`")));
        };
        let outer = &objects.storages[root as usize];
        let (dtype, location) = (outer.dtype, Arc::clone(&outer.location));
        let size = dtype.map_or(1, DType::size);
        let byte = |count: &i64| usize::try_from(*count).ok()?.checked_mul(size);
        let outer = ranges[root as usize].clone();
        let inner = byte(offset).zip(byte(len)).and_then(|(start, len)| {
            let start = outer.start.checked_add(start)?;
            Some(start..start.checked_add(len)?)
        });
        let inner = inner.filter(|inner| inner.end <= outer.end).ok_or_else(|| {
            bad(&format!("`{key}`, {len} elements from {offset} on, does not lie in its {} bytes", outer.len()))
        })?;
        // A view of a view is one of the storage that has the bytes.
        let root = objects.storages[root as usize].view().map_or(root, |(root, _)| root);
        let start = inner.start - ranges[root as usize].start;
        let id = StorageId {
            key: key.to_string().into(),
            dtype,
            location,
            bytes: inner.len() as u64,
            inside: Some(Box::new(Inside::Storage(root, start as u64))),
        };
        add_storage(objects, ranges, *key, id, inner)?;
    }
    Ok(())
}

fn add_storage(
    objects: &mut Objects,
    ranges: &mut Vec<Range<usize>>,
    key: i64,
    id: StorageId<'static>,
    range: Range<usize>,
) -> Result<()> {
    let index = ObjectIndex::Storage(objects.storages.len() as u32);
    if objects.keys.insert(key, index).is_some() {
        return Err(Error::invalid(format!("two objects have the key {key}")));
    }
    objects.storages.push(id);
    ranges.push(range);
    Ok(())
}

/// Reads the tensors: a key, a storage, the number of dimensions (4 bytes and 4 that mean nothing), the sizes, the
/// strides and the offset.
fn read_tensors(bytes: &[u8], start: usize, objects: &mut Objects) -> Result<()> {
    let mut reader = Reader { bytes, at: start };
    for _ in 0..reader.count()? {
        let at = reader.at;
        let entry = reader.value()?;
        let [Value::Int(key), Value::Int(storage_key), _class] = entry.as_list().unwrap_or_default() else {
            return Err(Error::invalid(format!("byte {at}: {} is not `(key, storage, class)`", entry.describe())));
        };
        let Some(&ObjectIndex::Storage(storage)) = objects.keys.get(storage_key) else {
            return Err(Error::invalid(format!("byte {at}: tensor `{key}` has no storage `{storage_key}`")));
        };
        let ndim = i32::from_le_bytes(reader.array()?);
        let ndim = usize::try_from(ndim)
            .map_err(|_| Error::invalid(format!("byte {at}: tensor `{key}` has {ndim} dimensions")))?;
        reader.array::<4>()?;
        let (mut shape, mut stride) = (reader.sizes(ndim, "size")?, reader.sizes(ndim, "stride")?);
        if ndim == 0 && objects.storages[storage as usize].bytes == 0 {
            // Before torch 0.4 no dimensions meant no elements.
            (shape, stride) = ([0].into(), [1].into());
        }
        let [offset] = *reader.sizes(1, "offset")? else { unreachable!("one number was asked for") };
        let index = ObjectIndex::Tensor(objects.tensors.len() as u32);
        if objects.keys.insert(*key, index).is_some() {
            return Err(Error::invalid(format!("two objects have the key {key}")));
        }
        let dtype = objects.storages[storage as usize].dtype.unwrap_or(DType::U8);
        objects.tensors.push(KeyedTensor { storage, dtype, offset, shape, stride });
    }
    Ok(())
}
