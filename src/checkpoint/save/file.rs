//! Writing a file so that it is there whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::checkpoint::source::text;
use crate::error::{Error, Result};

/// Small writes are gathered up to this many bytes.
const BUFFER: usize = 1 << 20;

/// Puts what `write` writes in the place of the file at `path`. It is written under another name in the same folder and
/// renamed when it is complete and on the disk.
pub(super) fn replace(path: &Path, write: impl FnOnce(&mut BufWriter<File>) -> Result<()>) -> Result<()> {
    // A link is kept, and what it points to is replaced.
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    let old = fs::metadata(&target).ok();
    if old.as_ref().is_some_and(|old| !old.is_file()) {
        return Err(Error::io("there is a folder or device of that name"));
    }
    let (draft, file) = Draft::create(&target)?;
    let mut out = BufWriter::with_capacity(BUFFER, file);
    write(&mut out)?;
    let file = out.into_inner().map_err(|error| io(error.error()))?;
    if let Some(old) = old {
        file.set_permissions(old.permissions()).map_err(|error| io(&error))?;
    }
    file.sync_all().map_err(|error| io(&error))?;
    drop(file);
    fs::rename(&draft.path, &target).map_err(|error| io(&error))
    // The draft is gone with its name; otherwise dropping it removes the file.
}

/// A file that is removed when it is dropped under this name.
struct Draft {
    path: PathBuf,
}

impl Draft {
    fn create(target: &Path) -> Result<(Self, File)> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        loop {
            let count = COUNT.fetch_add(1, Ordering::Relaxed);
            let path = target.with_file_name(format!(".sconce-{}-{count}.tmp", std::process::id()));
            match OpenOptions::new().write(true).create_new(true).open(&path) {
                Ok(file) => return Ok((Self { path }, file)),
                // Left behind by a process that was killed.
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(io(&error)),
            }
        }
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// The error of a write that failed.
pub(super) fn io(error: &std::io::Error) -> Error {
    Error::io(format!("cannot be written: {}", text(error)))
}

/// Writes all of `bytes`.
pub(super) fn put(out: &mut impl Write, bytes: &[u8]) -> Result<()> {
    out.write_all(bytes).map_err(|error| io(&error))
}
