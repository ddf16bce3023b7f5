//! Where a checkpoint's bytes are: a mapped file, or memory.

use std::fs::File;
use std::io::Read;
use std::ops::{Deref, Range};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use memmap2::Mmap;

use super::sniff;
use crate::error::{Error, Result};

/// The bytes of a whole checkpoint. Storages keep it alive and are ranges of it.
pub(super) enum Source {
    Mapped(Mapped),
    Memory(Box<[u8]>),
    /// A part of another source that is a file by itself.
    Window(Arc<Source>, Range<usize>),
}

/// A file in memory, with what tells that it was changed since.
pub(super) struct Mapped {
    path: PathBuf,
    map: Mmap,
    file: File,
    modified: Option<SystemTime>,
}

/// The bytes that Linux maps at once, around the page that is touched.
#[cfg(unix)]
const AROUND: usize = 64 << 10;

impl Source {
    /// Maps a file.
    pub(super) fn open(path: &Path) -> Result<Arc<Self>> {
        let io = |error: std::io::Error| Error::io(text(&error));
        let file = File::open(path).map_err(io)?;
        let metadata = file.metadata().map_err(io)?;
        if metadata.is_dir() {
            return Err(Error::invalid("a directory, not a file").help("name a file in it"));
        }
        if !metadata.is_file() {
            return Err(Error::invalid("not a regular file"));
        }
        if metadata.len() == 0 {
            // An empty file cannot be mapped.
            sniff::sniff(&[])?;
        }
        // SAFETY: the map is read-only and private to this process. That nobody else changes the file while it is mapped
        // is the condition that `Storage` states, and that `check` looks at; bytes are only ever read as plain numbers,
        // which any change leaves valid.
        let map = unsafe { Mmap::map(&file) }.map_err(io)?;
        Ok(Arc::new(Self::Mapped(Mapped { path: path.into(), map, modified: metadata.modified().ok(), file })))
    }

    /// Takes everything that `reader` gives.
    pub(super) fn read(mut reader: impl Read) -> Result<Arc<Self>> {
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).map_err(|error| Error::io(text(&error)))?;
        Ok(Arc::new(Self::Memory(bytes.into())))
    }

    /// The bytes of `range` as a source of their own.
    pub(super) fn window(source: &Arc<Self>, range: Range<usize>) -> Arc<Self> {
        assert!(range.start <= range.end && range.end <= source.len(), "a window must lie inside its file");
        Arc::new(Self::Window(Arc::clone(source), range))
    }

    /// Refuses a file that is not as it was when it was opened: what was read of it does not fit what is there now, and to
    /// touch pages that it lost ends the process. What happens to it after this it cannot tell.
    pub(super) fn check(&self) -> Result<()> {
        let Mapped { path, map, file, modified } = match self {
            Self::Mapped(mapped) => mapped,
            Self::Memory(_) => return Ok(()),
            Self::Window(source, _) => return source.check(),
        };
        let now = file.metadata().map_err(|error| Error::io(text(&error)))?;
        let (was, is) = (map.len(), now.len());
        if is == was as u64 && now.modified().ok() == *modified {
            return Ok(());
        }
        let what = match is == was as u64 {
            true => "its modification time changed".to_owned(),
            false => format!("it had {was} bytes, and has {is}"),
        };
        Err(Error::io(format!("`{}` was changed after it was opened: {what}", path.display()))
            .help("open it again; put a new file in the place of an old one by renaming it"))
    }

    /// Whether the bytes are pages of a file rather than a copy in memory.
    pub(super) fn is_mapped(&self) -> bool {
        match self {
            Self::Mapped(_) => true,
            Self::Memory(_) => false,
            Self::Window(source, _) => source.is_mapped(),
        }
    }

    /// Tells the operating system that mapped pages will not be needed soon.
    pub(super) fn release_pages(&self, start: usize, len: usize) {
        if let Self::Window(source, range) = self {
            return source.release_pages(range.start + start, len);
        }
        #[cfg(unix)]
        if let Self::Mapped(Mapped { map, .. }) = self {
            // A page that is touched brings those around it along.
            let base = map.as_ptr().addr();
            let from = ((base + start) / AROUND * AROUND).max(base) - base;
            let to = ((base + start + len).next_multiple_of(AROUND) - base).min(map.len());
            // SAFETY: the map is a read-only mapping of a file, so dropped pages are read from the file again.
            let _ = unsafe { map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, from, to - from) };
        }
        #[cfg(not(unix))]
        let _ = (start, len);
    }
}

impl Deref for Source {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Mapped(Mapped { map, .. }) => map,
            Self::Memory(bytes) => bytes,
            Self::Window(source, range) => &source[range.clone()],
        }
    }
}

/// The operating system's words in this crate's style: `no such file or directory`.
pub(super) fn text(error: &std::io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_lowercase().chain(chars).collect())
}
