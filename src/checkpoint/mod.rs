//! Checkpoints: the files that PyTorch writes, as trees of values. Nothing in a file is ever executed.
//!
//! [`load`](crate::load) maps a file and reads its structure: names, dtypes, shapes and where the bytes are. Tensor data
//! is read when it is used, straight from the mapped file.

mod hash;
mod pickle;
mod safetensors;
mod save;
mod sniff;
mod source;
mod storage;
mod stored;
mod value;
mod zip;

use std::fmt;
use std::io::Read;
use std::ops::{Index, IndexMut};
use std::path::Path;
use std::sync::Arc;

pub(crate) use save::{NPY_MAGIC, NUMPY_DTYPES, npy_header};
pub use save::{save, save_with_progress};
pub use sniff::Container;
pub use storage::Storage;
pub(crate) use stored::unpacked;
pub use stored::{Layout, Quantizer, StoredTensor};
pub use value::{BigInt, Dict, DictKind, Key, Object, Value};

use self::source::Source;
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
        Self::read(path.display().to_string(), || Source::open(path))
    }

    /// Reads a checkpoint from bytes in memory, such as `include_bytes!` or a download give. `name` stands for the file
    /// in messages.
    ///
    /// # Errors
    /// As [`load`](crate::load).
    pub fn from_bytes(name: impl Into<String>, bytes: impl Into<Box<[u8]>>) -> Result<Self> {
        Self::read(name.into(), || Ok(Arc::new(Source::Memory(bytes.into()))))
    }

    /// Reads a checkpoint from everything that `reader` gives. `name` stands for the file in messages.
    ///
    /// # Errors
    /// As [`load`](crate::load).
    pub fn from_reader(name: impl Into<String>, reader: impl Read) -> Result<Self> {
        Self::read(name.into(), || Source::read(reader))
    }

    fn read(name: String, source: impl FnOnce() -> Result<Arc<Source>>) -> Result<Self> {
        let read = || {
            let source = source()?;
            let container = sniff::sniff(&source)?;
            let root = match container {
                Container::Zip => zip::open(&source)?,
                Container::Safetensors => safetensors::open(&source)?,
            };
            Ok((container, source.len() as u64, root))
        };
        match read() {
            Ok((container, file_bytes, root)) => Ok(Self { name, container, file_bytes, root }),
            Err(error) => Err(in_file(error, &name)),
        }
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

    /// The object that was saved, to change.
    pub fn root_mut(&mut self) -> &mut Value {
        &mut self.root
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

impl IndexMut<&str> for Checkpoint {
    /// The value of a string key, to change: see [`Value`].
    ///
    /// # Panics
    /// As the same of [`Value`].
    #[track_caller]
    fn index_mut(&mut self, key: &str) -> &mut Value {
        &mut self.root[key]
    }
}

impl IndexMut<usize> for Checkpoint {
    /// The item at a position, or the value of an integer key, to change: see [`Value`].
    ///
    /// # Panics
    /// As the same of [`Value`].
    #[track_caller]
    fn index_mut(&mut self, key: usize) -> &mut Value {
        &mut self.root[key]
    }
}

impl From<&Checkpoint> for Value {
    /// The object that was saved.
    fn from(checkpoint: &Checkpoint) -> Self {
        checkpoint.root.clone()
    }
}

impl fmt::Debug for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Checkpoint(`{}`, {:?})", self.name, self.root)
    }
}

/// An error about a file, with its name and the kind of trouble.
fn in_file(error: Error, name: &str) -> Error {
    match error.kind() {
        ErrorKind::Invalid => error.context(format_args!("`{name}`: invalid checkpoint")),
        ErrorKind::Unsupported => error.context(format_args!("`{name}`: unsupported checkpoint")),
        _ => error.context(format_args!("`{name}`")),
    }
}
