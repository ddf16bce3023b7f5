//! Checkpoints in zip archives: what torch 1.6 and later write, and TorchScript.

mod directory;

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use self::directory::{Directory, Entry, Method, Records};
use super::deferred::{Deferred, Queue};
use super::export::{self, Exported};
use super::pickle::{StorageId, unpickle};
use super::source::Source;
use super::value::Value;
use super::{Container, Storage, sniff, torchscript};
use crate::error::{Error, Result};

/// Reads the checkpoints in a file of zip archives: one, or several where `torch.save` was called again with the same open
/// file. No tensor's bytes are read. The program comes with its state dict if it is one of `torch.export`.
pub(super) fn open(source: &Arc<Source>) -> Result<(Container, Vec<Value>, Option<Exported>)> {
    let mut archives = Vec::new();
    let mut end = source.len();
    while end > 0 {
        let archive = directory::last_archive(&source[..end])?;
        if sniff::is_legacy(&source[archive.end..end]) {
            return Err(Error::unsupported(format!(
                "a save in the legacy form after a zip archive, at byte {}",
                archive.end
            ))
            .help("keep it in a file of its own"));
        }
        end = archive.start;
        archives.push(archive);
    }
    if let [_] = &archives[..] {
        let archive = Archive::open(source)?;
        if let Some(exported) = export::open(&archive)? {
            return Ok((Container::ExportedProgram, vec![exported.root()], Some(exported)));
        }
        let (container, value) = open_one(&archive)?;
        return Ok((container, vec![value], None));
    }
    let mut container = Container::Zip;
    let mut values = Vec::with_capacity(archives.len());
    for range in archives {
        let start = range.start;
        let (kind, value) = Archive::open(&Source::window(source, range))
            .and_then(|archive| open_one(&archive))
            .map_err(|error| error.context(format_args!("the zip archive that starts at byte {start}")))?;
        container = kind;
        values.push(value);
    }
    // They were found from the last to the first.
    values.reverse();
    Ok((container, values, None))
}

fn open_one(archive: &Archive<'_>) -> Result<(Container, Value)> {
    let (container, pickle) = archive.kind()?;
    archive.check_version()?;
    let value = archive.unpickle(&pickle, "data/")?;
    Ok((
        container,
        match container {
            Container::TorchScript => torchscript::state_dict(&value, pickle.size)?,
            _ => value,
        },
    ))
}

/// A compressed pickle may unpack to this many times its size: far more than real ones do, and few enough that a small
/// file cannot take much memory.
const MAX_PICKLE_RATIO: usize = 32;
const MIN_PICKLE_LIMIT: usize = 4 << 20;

/// A zip archive whose entries lie in one directory.
pub(super) struct Archive<'a> {
    entries: Arc<Entries>,
    directory: Directory<'a>,
    /// With the slash at the end.
    prefix: &'a [u8],
}

/// The entries of an archive by the places of their records, for what outlives the reading of the directory. The local
/// headers, which lie between the data and say where that starts, are read when the data is: looking at each when a
/// file is opened would read a page of it for each tensor.
pub(super) struct Entries {
    source: Arc<Source>,
    /// Where the central directory starts.
    start: usize,
    /// Those that have to be unpacked.
    packed: Arc<Queue>,
}

impl<'a> Archive<'a> {
    pub(super) fn open(source: &'a Arc<Source>) -> Result<Self> {
        let directory = Directory::read(source)?;
        let first = directory.names().next().unwrap_or_default();
        let slash = first.iter().position(|&byte| byte == b'/').map_or(0, |at| at + 1);
        let entries = Entries { source: Arc::clone(source), start: directory.records().start, packed: Arc::default() };
        Ok(Self { entries: Arc::new(entries), directory, prefix: &first[..slash] })
    }

    fn entry(&self, name: &str) -> Result<Option<Entry<'a>>> {
        self.directory.find(&[self.prefix, name.as_bytes()].concat())
    }

    /// The names of the entries, without the directory that all are in.
    pub(super) fn names(&self) -> impl Iterator<Item = &'a str> {
        let names = self.directory.names().filter_map(|name| name.strip_prefix(self.prefix));
        names.filter_map(|name| std::str::from_utf8(name).ok())
    }

    /// The contents of an entry, which may unpack to at most `limit` bytes; `None` when there is no such entry.
    pub(super) fn contents(&self, name: &str, limit: usize) -> Result<Option<Box<[u8]>>> {
        let Some(entry) = self.entry(name)? else { return Ok(None) };
        self.read(&entry, limit).map(|bytes| Some(bytes.into()))
    }

    /// The bytes of an entry as a storage: mapped, or inflated when they are first asked for.
    pub(super) fn storage(&self, name: &str, location: Arc<str>) -> Result<Option<Arc<Storage>>> {
        let Some(entry) = self.entry(name)? else { return Ok(None) };
        check_method(&entry)?;
        Ok(Some(self.entries.storage(&entry, 1, location)))
    }

    /// An entry as a file of its own: a part of this one where it is stored as it is, else unpacked.
    pub(super) fn nested(&self, name: &str) -> Result<Option<Arc<Source>>> {
        let Some(entry) = self.entry(name)? else { return Ok(None) };
        Ok(Some(match entry.method {
            Method::Stored => Source::window(&self.entries.source, self.directory.records().range(&entry)?),
            _ => Arc::new(Source::Memory(self.read(&entry, usize::MAX)?.into())),
        }))
    }

    /// Which kind of archive this is, and the entry of its pickle.
    fn kind(&self) -> Result<(Container, Entry<'a>)> {
        let any = |test: &dyn Fn(&[u8]) -> bool| self.directory.names().any(test);
        if self.entry("model.json")?.is_some() {
            return Err(Error::unsupported("a TorchScript archive of torch 1.2 or older (`model.json`)").help(
                "load it with `torch.jit.load` in an old PyTorch and save its `state_dict()` with `torch.save`",
            ));
        }
        if let Some(entry) = self.entry("data.pkl")?.filter(|_| !self.prefix.is_empty()) {
            return Ok(match self.entry("constants.pkl")? {
                Some(_) => (Container::TorchScript, entry),
                None => (Container::Zip, entry),
            });
        }
        if any(&|name| name.ends_with(b".npy")) {
            return Err(Error::invalid("a NumPy `.npz` archive, not a checkpoint"));
        }
        if any(&|name| name.ends_with(b"data.pkl") || name.ends_with(b"version")) {
            let prefix = String::from_utf8_lossy(self.prefix);
            let place = if self.prefix.is_empty() { " in a directory" } else { "" };
            return Err(Error::invalid(format!("a zip archive without the entry `{prefix}data.pkl`{place}")));
        }
        let error = Error::invalid("a zip archive, but not one that PyTorch wrote");
        Err(match any(&|name| [".pt", ".pth", ".bin", ".ckpt"].iter().any(|end| name.ends_with(end.as_bytes()))) {
            true => error.help("it holds a checkpoint: unpack it first"),
            false => error,
        })
    }

    /// The value of a pickle whose storages are entries in `folder`.
    fn unpickle(&self, entry: &Entry<'a>, folder: &'static str) -> Result<Value> {
        let swap = self.is_big_endian()?;
        let limit = entry.compressed.saturating_mul(MAX_PICKLE_RATIO).max(MIN_PICKLE_LIMIT);
        let bytes = self.read(entry, limit)?;
        let in_pickle = |error: Error| error.context(format_args!("`{}`", entry.shown_name()));
        let pickle = unpickle(&bytes).map_err(in_pickle)?;
        let name = [self.prefix, folder.as_bytes()].concat();
        let mut finder = Finder { archive: self, folder: name.len(), name, next: 0 };
        let opened = pickle.storages().iter().map(|id| finder.storage(id, 1)).collect::<Result<Vec<_>>>()?;
        let mut swapped: HashMap<(usize, usize), Arc<Storage>> = HashMap::new();
        let mut open = |index: usize, id: &StorageId<'_>, unit: usize| {
            if !swap || unit == 1 {
                return Ok(Arc::clone(&opened[index]));
            }
            if let Some(storage) = swapped.get(&(index, unit)) {
                return Ok(Arc::clone(storage));
            }
            let storage = finder.storage(id, unit)?;
            swapped.insert((index, unit), Arc::clone(&storage));
            Ok(storage)
        };
        pickle.into_value(&mut open).map_err(in_pickle)
    }

    /// Refuses archives of a later version, whose layout is not known.
    fn check_version(&self) -> Result<()> {
        let entry = match self.entry("version")? {
            None => self.entry(".data/version")?,
            entry => entry,
        };
        let Some(entry) = entry else { return Ok(()) };
        let text = self.text(&entry)?;
        match text.parse::<u64>() {
            Ok(1..=10) => Ok(()),
            Ok(version) => Err(Error::unsupported(format!("archive version {version}; 1 to 10 are read"))),
            Err(_) => {
                Err(Error::invalid(format!("`{}` is not a number: `{}`", entry.shown_name(), text.escape_debug())))
            }
        }
    }

    pub(super) fn is_big_endian(&self) -> Result<bool> {
        let Some(entry) = self.entry("byteorder")? else { return Ok(false) };
        match self.text(&entry)?.as_str() {
            "little" => Ok(false),
            "big" => Ok(true),
            other => Err(Error::invalid(format!(
                "`{}` is neither `little` nor `big`: `{}`",
                entry.shown_name(),
                other.escape_debug()
            ))),
        }
    }

    /// A short text.
    fn text(&self, entry: &Entry<'_>) -> Result<String> {
        Ok(String::from_utf8_lossy(&self.read(entry, 64)?).trim().to_owned())
    }

    /// The contents of an entry, which may unpack to at most `limit` bytes.
    fn read(&self, entry: &Entry<'a>, limit: usize) -> Result<Cow<'a, [u8]>> {
        if entry.method == Method::Deflated && entry.size > limit || entry.size > isize::MAX as usize {
            return Err(Error::unsupported(format!(
                "`{}` would unpack from {} bytes to {}, more than the {limit} expected at most",
                entry.shown_name(),
                entry.compressed,
                entry.size
            )));
        }
        check_method(entry)?;
        unpack(self.directory.records(), entry)
    }
}

/// Refuses an entry that is neither stored nor deflated.
fn check_method(entry: &Entry<'_>) -> Result<()> {
    match entry.method {
        Method::Other(method) => {
            Err(Error::unsupported(format!("`{}` is compressed with method {method}", entry.shown_name())))
        }
        _ => Ok(()),
    }
}

/// Finds the entries of storages. PyTorch writes them in the order in which the pickle refers to them, so the next one is
/// tried before the index is asked.
struct Finder<'f, 'a> {
    archive: &'f Archive<'a>,
    /// The name looked for, and the length of the folder that all are in.
    name: Vec<u8>,
    folder: usize,
    next: usize,
}

impl<'a> Finder<'_, 'a> {
    /// A storage, with as many bytes as the pickle says.
    fn storage(&mut self, id: &StorageId<'_>, unit: usize) -> Result<Arc<Storage>> {
        let directory = &self.archive.directory;
        if id.view().is_some() {
            return Err(Error::invalid(format!(
                "storage `{}` is a part of another, as none in a zip archive is",
                id.key
            )));
        }
        self.name.truncate(self.folder);
        self.name.extend_from_slice(id.key.as_bytes());
        let Some(at) = directory.position_near(self.next, &self.name) else {
            if id.bytes == 0 {
                return Ok(Storage::owned([], Arc::clone(&id.location)));
            }
            let name: String = String::from_utf8_lossy(&self.name).escape_debug().take(120).collect();
            return Err(Error::invalid(format!("the entry `{name}`, of {} bytes, is missing", id.bytes)));
        };
        self.next = at + 1;
        let entry = directory.entry(at)?;
        if entry.size as u64 != id.bytes {
            return Err(Error::invalid(format!(
                "`{}` should have {} bytes, by the pickle, and has {}",
                entry.shown_name(),
                id.bytes,
                entry.size
            )));
        }
        check_method(&entry)?;
        Ok(self.archive.entries.storage(&entry, unit, Arc::clone(&id.location)))
    }
}

impl Entries {
    fn records(&self) -> Records<'_> {
        Records { bytes: &self.source, start: self.start }
    }

    /// The place in the file of the stored entry with this record.
    pub(super) fn range(&self, record: usize) -> Result<Range<usize>> {
        self.source.check()?;
        let records = self.records();
        records.range(&records.entry(record)?)
    }

    pub(super) fn source(&self) -> &Arc<Source> {
        &self.source
    }

    /// The entry as a storage, its bytes in little-endian order: `unit` is the width of the numbers in a big-endian
    /// file, 1 in a little-endian one.
    fn storage(self: &Arc<Self>, entry: &Entry<'_>, unit: usize, location: Arc<str>) -> Arc<Storage> {
        let (entries, record) = (Arc::clone(self), entry.record);
        if entry.method == Method::Stored && unit == 1 {
            return Storage::entry(entries, record, entry.size, location);
        }
        let deferred = Deferred::queued(&self.packed, entry.size, move || {
            entries.source.check()?;
            let records = entries.records();
            let bytes = match unpack(records, &records.entry(record)?)? {
                Cow::Owned(bytes) => bytes,
                Cow::Borrowed(bytes) => {
                    let mut copy = reserve(bytes.len())?;
                    copy.extend_from_slice(bytes);
                    copy
                }
            };
            Ok(swap(bytes, unit))
        });
        Storage::made(deferred, location)
    }
}

/// The contents of an entry, inflated if need be, with their checksum checked if there is one.
fn unpack<'a>(records: Records<'a>, entry: &Entry<'_>) -> Result<Cow<'a, [u8]>> {
    let damaged = |why: &dyn std::fmt::Display| {
        Error::invalid(format!("`{}`, at byte {}, is damaged: {why}", entry.shown_name(), entry.header))
    };
    let range = records.range(entry)?;
    if entry.method == Method::Stored {
        let bytes = &records.bytes[range];
        return match entry.crc == 0 || crc32fast::hash(bytes) == entry.crc {
            true => Ok(Cow::Borrowed(bytes)),
            false => Err(damaged(&"its checksum is wrong")),
        };
    }
    let options = zip::read::ZipReadOptions::new()
        .override_compressed_size(entry.compressed as u64)
        .override_uncompressed_size(entry.size as u64)
        .override_crc(entry.crc)
        .ignore_crc32(entry.crc == 0);
    let mut source = &records.bytes[entry.header..range.end];
    let mut file = zip::read::read_zipfile_from_stream_with_options(&mut source, options)
        .map_err(|error| damaged(&error))?
        .ok_or_else(|| damaged(&"it is not an entry"))?;
    let mut bytes = reserve(entry.size)?;
    std::io::copy(&mut file, &mut bytes).map_err(|error| damaged(&error))?;
    if bytes.len() != entry.size {
        return Err(damaged(&format_args!("it has {} bytes, not {}", bytes.len(), entry.size)));
    }
    Ok(Cow::Owned(bytes))
}

fn reserve(len: usize) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    bytes
        .try_reserve_exact(len)
        .map_err(|_| Error::unsupported(format!("a copy of {len} bytes does not fit into memory")))?;
    Ok(bytes)
}

/// Reverses the bytes of every `unit`.
fn swap(mut bytes: Vec<u8>, unit: usize) -> Box<[u8]> {
    if unit > 1 {
        bytes.chunks_exact_mut(unit).for_each(<[u8]>::reverse);
    }
    bytes.into()
}
