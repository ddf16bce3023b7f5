//! Checkpoints: the files that PyTorch writes, as trees of values. Nothing in a file is ever executed.
//!
//! [`load`](crate::load) maps a file and reads its structure: names, dtypes, shapes and where the bytes are. Tensor data
//! is read when it is used, straight from the mapped file.

mod hash;
mod pickle;
mod sniff;
mod storage;
mod stored;
mod value;
mod zip;

use std::fmt;
use std::fs::File;
use std::ops::Index;
use std::path::Path;
use std::sync::Arc;

use memmap2::Mmap;

pub use sniff::Container;
pub use storage::Storage;
pub use stored::StoredTensor;
pub use value::{BigInt, Dict, DictKind, Key, Object, Value};

use crate::error::{Error, ErrorKind, Result};

/// What a file of PyTorch holds: an ordered tree of [`Value`]s. It is read by index, as the object that `torch.load`
/// gives would be.
///
/// ```no_run
/// let checkpoint = sconce::load("training.pth")?;
/// let epoch = checkpoint["epoch"].as_i64()?;
/// let lr = checkpoint["optimizer_state_dict"]["param_groups"][0]["lr"].as_f64()?;
/// for (name, value) in checkpoint["model_state_dict"].as_dict()? {
///     println!("{name}: {}", value.as_tensor()?.shape());
/// }
/// # Ok::<(), sconce::Error>(())
/// ```
///
/// Tensors keep the file mapped for as long as they live, and share their storages as they did when they were saved.
#[derive(Clone)]
pub struct Checkpoint {
    name: String,
    container: Container,
    file_bytes: u64,
    root: Value,
}

impl Checkpoint {
    /// Opens a file. See [`load`](crate::load), which is the same.
    ///
    /// # Errors
    /// As [`load`](crate::load).
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let name = path.display().to_string();
        read(path, &name).map_err(|error| match error.kind() {
            ErrorKind::Invalid => error.context(format_args!("`{name}`: invalid checkpoint")),
            ErrorKind::Unsupported => error.context(format_args!("`{name}`: unsupported checkpoint")),
            _ => error.context(format_args!("`{name}`")),
        })
    }

    /// The file's path, as it was given.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What kind of file it is.
    pub fn container(&self) -> Container {
        self.container
    }

    /// The size of the file.
    pub fn file_bytes(&self) -> u64 {
        self.file_bytes
    }

    /// The object that was saved: as a rule a dict.
    pub fn root(&self) -> &Value {
        &self.root
    }

    /// The value of a key of the object that was saved; `None` when there is none.
    pub fn get<K: Key + ?Sized>(&self, key: &K) -> Option<&Value> {
        self.root.get(key)
    }
}

impl Index<&str> for Checkpoint {
    type Output = Value;

    /// The value of a string key.
    ///
    /// # Panics
    /// When there is none; [`Checkpoint::get`] returns `None` instead.
    #[track_caller]
    fn index(&self, key: &str) -> &Value {
        &self.root[key]
    }
}

impl Index<usize> for Checkpoint {
    type Output = Value;

    /// The item at a position, or the value of an integer key.
    ///
    /// # Panics
    /// When there is none; [`Checkpoint::get`] returns `None` instead.
    #[track_caller]
    fn index(&self, key: usize) -> &Value {
        &self.root[key]
    }
}

impl fmt::Debug for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Checkpoint(`{}`, {:?})", self.name, self.root)
    }
}

fn read(path: &Path, name: &str) -> Result<Checkpoint> {
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
    // SAFETY: the map is read-only and private to this process. That nobody else changes the file while it is mapped is
    // the condition that `Storage` states; bytes are only ever read as plain numbers, which any change leaves valid.
    let map = Arc::new(unsafe { Mmap::map(&file) }.map_err(io)?);
    let container = sniff::sniff(&map)?;
    let root = match container {
        Container::Zip => zip::open(&map)?,
    };
    Ok(Checkpoint { name: name.to_owned(), container, file_bytes: metadata.len(), root })
}

/// The operating system's words in this crate's style: `no such file or directory`.
fn text(error: &std::io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_lowercase().chain(chars).collect())
}
