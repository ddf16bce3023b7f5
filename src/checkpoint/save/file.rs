//! Writing a file so that it is there whole or not at all.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

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
    remove_abandoned(&target);
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

/// The names of files that are being written.
const BEFORE: &str = ".sconce-";
const AFTER: &str = ".tmp";
/// How long a file that nobody holds must not have been written to. Not all file systems tell that another machine holds
/// it.
const ABANDONED: Duration = Duration::from_secs(10 * 60);

/// Removes what processes that were killed while they saved left in the folder: each holds a lock on its file for as long
/// as it lives.
fn remove_abandoned(target: &Path) {
    let folder = match target.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let is_draft = name.to_str().is_some_and(is_draft);
        let is_old =
            || Some(entry.metadata().ok().filter(fs::Metadata::is_file)?.modified().ok()?.elapsed().ok()? > ABANDONED);
        if is_draft
            && is_old() == Some(true)
            && let Ok(file) = OpenOptions::new().write(true).open(entry.path())
            && file.try_lock().is_ok()
        {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Whether `Draft` gives such names: those of a process and a count.
fn is_draft(name: &str) -> bool {
    let numbers = name.strip_prefix(BEFORE).and_then(|name| name.strip_suffix(AFTER)?.split_once('-'));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    numbers.is_some_and(|(process, count)| is_number(process) && is_number(count))
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
            let path = target.with_file_name(format!("{BEFORE}{}-{count}{AFTER}", std::process::id()));
            match OpenOptions::new().write(true).create_new(true).open(&path) {
                // A file system without locks has no abandoned files removed.
                Ok(file) => match file.try_lock() {
                    Ok(()) | Err(TryLockError::Error(_)) => return Ok((Self { path }, file)),
                    Err(TryLockError::WouldBlock) => {}
                },
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
