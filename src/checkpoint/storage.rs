//! Storages: the byte ranges that tensors are views of.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use super::deferred::Deferred;
use super::source::Source;
use super::zip::Entries;
use crate::error::{Error, Result};

/// One byte range of a mapped file, or an owned copy where mapping is impossible, with the location tag that it was
/// saved with. Tied tensors and views share one storage: compare with [`Arc::ptr_eq`].
///
/// A file must not change while it is mapped. Asking for bytes of one that was changed, or cut short, since it was opened
/// is an error; its size and its modification time tell, so a change that keeps both is not seen. But bytes that were
/// given out already change with the file, and if it is cut short under them, reading the lost pages ends the process
/// with a bus error, on most systems. A file that is replaced by renaming another stays as it was for those who have it
/// open; [`save`](fn@super::save) does that.
pub struct Storage {
    bytes: Bytes,
    location: Arc<str>,
}

/// Cloning them copies no data.
#[derive(Clone)]
enum Bytes {
    Range {
        source: Arc<Source>,
        range: Range<usize>,
    },
    /// A stored entry of a zip archive, by its record in the directory.
    Entry {
        entries: Arc<Entries>,
        record: usize,
        len: usize,
    },
    Owned(Arc<Box<[u8]>>),
    Shared(Arc<dyn AsRef<[u8]> + Send + Sync>),
    Deferred(Arc<Deferred>),
}

impl Storage {
    /// A storage that is `range` of `source`. The caller has checked that the range lies inside it.
    pub(super) fn range(source: Arc<Source>, range: Range<usize>, location: impl Into<Arc<str>>) -> Arc<Self> {
        assert!(range.start <= range.end && range.end <= source.len(), "a storage must lie inside its file");
        Arc::new(Self { bytes: Bytes::Range { source, range }, location: location.into() })
    }

    /// A storage that is a stored entry of a zip archive, of `len` bytes by the archive's directory. Where they are is
    /// looked up when they are asked for.
    pub(super) fn entry(entries: Arc<Entries>, record: usize, len: usize, location: Arc<str>) -> Arc<Self> {
        Arc::new(Self { bytes: Bytes::Entry { entries, record, len }, location })
    }

    /// A storage that owns its bytes, little-endian.
    pub fn owned(bytes: impl Into<Box<[u8]>>, location: impl Into<Arc<str>>) -> Arc<Self> {
        Arc::new(Self { bytes: Bytes::Owned(Arc::new(bytes.into())), location: location.into() })
    }

    /// A storage of bytes, little-endian, that something else owns.
    pub(crate) fn shared(bytes: Arc<dyn AsRef<[u8]> + Send + Sync>, location: impl Into<Arc<str>>) -> Arc<Self> {
        Arc::new(Self { bytes: Bytes::Shared(bytes), location: location.into() })
    }

    /// A storage of `len` bytes that `make` gives when they are first asked for.
    pub(crate) fn deferred(
        len: usize,
        location: impl Into<Arc<str>>,
        make: impl Fn() -> Result<Box<[u8]>> + Send + Sync + 'static,
    ) -> Arc<Self> {
        Self::made(Deferred::new(len, make), location)
    }

    /// A storage of deferred bytes.
    pub(super) fn made(deferred: Arc<Deferred>, location: impl Into<Arc<str>>) -> Arc<Self> {
        Arc::new(Self { bytes: Bytes::Deferred(deferred), location: location.into() })
    }

    /// The bytes, little-endian. Pages of a mapped file are read as they are touched; compressed or byte-swapped ones are
    /// copied the first time.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) when compressed bytes, or the header before the bytes in an
    /// archive, turn out to be damaged; [`ErrorKind::Io`](crate::ErrorKind::Io) when the file was changed since it was
    /// opened.
    pub fn bytes(&self) -> Result<&[u8]> {
        match &self.bytes {
            Bytes::Range { source, range } => {
                source.check()?;
                Ok(&source[range.clone()])
            }
            Bytes::Entry { entries, record, len } => {
                let bytes = &entries.source()[entries.range(*record)?];
                check_len(bytes.len(), *len)?;
                Ok(bytes)
            }
            Bytes::Owned(bytes) => Ok(bytes),
            Bytes::Shared(bytes) => Ok((**bytes).as_ref()),
            Bytes::Deferred(deferred) => deferred.bytes(),
        }
    }

    /// The bytes, without keeping those that had to be computed: for one who needs them once.
    ///
    /// # Errors
    /// As [`Storage::bytes`].
    pub(super) fn bytes_once(&self) -> Result<Cow<'_, [u8]>> {
        match &self.bytes {
            Bytes::Deferred(deferred) => deferred.bytes_once(),
            _ => self.bytes().map(Cow::Borrowed),
        }
    }

    /// The number of bytes, known without reading them.
    pub fn len(&self) -> usize {
        match &self.bytes {
            Bytes::Range { range, .. } => range.len(),
            Bytes::Entry { len, .. } => *len,
            Bytes::Owned(bytes) => bytes.len(),
            Bytes::Shared(bytes) => (**bytes).as_ref().len(),
            Bytes::Deferred(deferred) => deferred.len(),
        }
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the bytes are pages of a mapped file rather than a copy.
    pub fn is_mapped(&self) -> bool {
        match &self.bytes {
            Bytes::Range { source, .. } => source.is_mapped(),
            Bytes::Entry { entries, .. } => entries.source().is_mapped(),
            _ => false,
        }
    }

    /// The device that the storage was saved from, or that [`MapLocation`](super::MapLocation) gave it: `cpu`,
    /// `cuda:0`, `mps`.
    pub fn location(&self) -> &str {
        &self.location
    }

    /// The same bytes, not copied, with another location tag.
    pub(crate) fn with_location(&self, location: impl Into<Arc<str>>) -> Arc<Self> {
        Arc::new(Self { bytes: self.bytes.clone(), location: location.into() })
    }

    /// Tells the operating system that the mapped pages of `range` (of this storage) will not be needed soon, so that
    /// they stop counting as this process's memory. They are read again when they are touched again.
    pub(crate) fn release_pages(&self, range: Range<usize>) {
        let (source, own) = match &self.bytes {
            Bytes::Range { source, range } => (source, Ok(range.clone())),
            Bytes::Entry { entries, record, .. } => (entries.source(), entries.range(*record)),
            _ => return,
        };
        if let Ok(own) = own {
            let start = own.start + range.start.min(own.len());
            source.release_pages(start, own.start + range.end.min(own.len()) - start);
        }
    }
}

/// Refuses bytes that are not as many as were announced.
pub(super) fn check_len(found: usize, expected: usize) -> Result<()> {
    match found == expected {
        true => Ok(()),
        false => Err(Error::invalid(format!("a storage of {expected} bytes turns out to have {found}"))),
    }
}

impl fmt::Debug for Storage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.is_mapped() { "mapped" } else { "owned" };
        write!(f, "Storage({} bytes, {kind}, {})", self.len(), self.location)
    }
}
