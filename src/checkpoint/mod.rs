//! Checkpoints: the files that PyTorch writes, as trees of values. Nothing in a file is ever executed.
//!
//! [`load`](crate::load) maps a file and reads its structure: names, dtypes, shapes and where the bytes are. Tensor data
//! is read when it is used, straight from the mapped file.

mod cursor;
mod deferred;
pub(crate) mod export;
mod hash;
mod legacy;
mod location;
mod pickle;
mod plain;
mod safetensors;
mod save;
mod shards;
mod sniff;
mod source;
mod storage;
mod stored;
mod tar;
mod torchscript;
mod value;
mod zip;

use std::fmt;
use std::io::Read;
use std::ops::{Index, IndexMut};
use std::path::Path;
use std::sync::Arc;

pub(crate) use cursor::Cursor;
pub(crate) use hash::Seeded;
pub use location::MapLocation;
pub(crate) use safetensors::METADATA as FREE_TEXT;
pub(crate) use save::{NPY_MAGIC, NUMPY_DTYPES, npy_header};
pub use save::{save, save_with_progress};
pub use sniff::Container;
pub use storage::Storage;
pub(crate) use stored::unpacked;
pub use stored::{Layout, Quantizer, StoredTensor};
pub use value::{BigInt, Dict, DictKind, Enclosing, Key, Object, Value};

use self::export::Exported;
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
    /// At least one.
    saves: Arc<[Value]>,
    exported: Option<Arc<Exported>>,
}

/// What is in a file.
struct Opened {
    container: Container,
    saves: Vec<Value>,
    /// The size of the file, or of all the files.
    bytes: u64,
    exported: Option<Arc<Exported>>,
}

impl Checkpoint {
    /// Opens a file. See [`load`](crate::load), which is the same.
    ///
    /// # Errors
    /// As [`load`](crate::load).
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        Self::read(path.display().to_string(), || open(&Source::open(path)?, path.parent()))
    }

    /// Reads a checkpoint from bytes in memory, such as `include_bytes!` or a download give. `name` stands for the file
    /// in messages.
    ///
    /// # Errors
    /// As [`load`](crate::load). The index of a checkpoint in several files is refused: there is no directory to find
    /// them in.
    pub fn from_bytes(name: impl Into<String>, bytes: impl Into<Box<[u8]>>) -> Result<Self> {
        Self::read(name.into(), || open(&Arc::new(Source::Memory(bytes.into())), None))
    }

    /// Reads a checkpoint from everything that `reader` gives. `name` stands for the file in messages.
    ///
    /// # Errors
    /// As [`load`](crate::load).
    pub fn from_reader(name: impl Into<String>, reader: impl Read) -> Result<Self> {
        Self::read(name.into(), || open(&Source::read(reader)?, None))
    }

    fn read(name: String, open: impl FnOnce() -> Result<Opened>) -> Result<Self> {
        match open() {
            Ok(Opened { container, saves, bytes, exported }) => {
                Ok(Self { name, container, file_bytes: bytes, saves: saves.into(), exported })
            }
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

    /// The size of the file; of a checkpoint in several files, of all of them.
    pub fn file_bytes(&self) -> u64 {
        self.file_bytes
    }

    /// The programs of a `.pt2` file.
    pub(crate) fn exported(&self) -> Option<&Arc<Exported>> {
        self.exported.as_ref()
    }

    /// The object that was saved: as a rule a dict. When there are [several](Self::saves), the first.
    pub fn root(&self) -> &Value {
        &self.saves[0]
    }

    /// All objects that were saved to the file, in order: as a rule one.
    ///
    /// `torch.save` and `pickle.dump` can be called again with a file that is still open. The objects of the later calls
    /// come after the [root](Self::root) here. That goes for legacy streams, which zip archives may follow, for zip
    /// archives, which PyTorch itself does not read back from such a file, and for plain pickles.
    pub fn saves(&self) -> &[Value] {
        &self.saves
    }

    /// The checkpoint with its storages on other devices: `map_location` of `torch.load`. The tags change and nothing
    /// else: no byte is read, and what shared a storage still does. [`StateDict::device`](crate::StateDict::device)
    /// opens the device that they name.
    ///
    /// ```no_run
    /// use sconce::checkpoint::MapLocation;
    /// let checkpoint = sconce::load("trained_on_a_gpu.pth")?;
    /// let on_cpu = checkpoint.map_location("cpu");
    /// let moved = checkpoint.map_location([("cuda:1", "cuda:0")]);
    /// let large_on_gpu = checkpoint.map_location(MapLocation::from_fn(|storage, _| {
    ///     (storage.len() > 1 << 20).then(|| "cuda:0".to_string())
    /// }));
    /// # Ok::<(), sconce::Error>(())
    /// ```
    #[must_use]
    pub fn map_location<'a>(&self, map: impl Into<MapLocation<'a>>) -> Self {
        Self { saves: map.into().apply(&self.saves).into(), ..self.clone() }
    }

    /// The object that was saved, to change.
    pub fn root_mut(&mut self) -> &mut Value {
        &mut Arc::make_mut(&mut self.saves)[0]
    }

    /// The value of a key of the object that was saved; `None` when there is none.
    pub fn get<K: Key + ?Sized>(&self, key: &K) -> Option<&Value> {
        self.root().get(key)
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
        &self.root()[key]
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
        &self.root()[key]
    }
}

impl IndexMut<&str> for Checkpoint {
    /// The value of a string key, to change: see [`Value`].
    ///
    /// # Panics
    /// As the same of [`Value`].
    #[track_caller]
    fn index_mut(&mut self, key: &str) -> &mut Value {
        &mut self.root_mut()[key]
    }
}

impl IndexMut<usize> for Checkpoint {
    /// The item at a position, or the value of an integer key, to change: see [`Value`].
    ///
    /// # Panics
    /// As the same of [`Value`].
    #[track_caller]
    fn index_mut(&mut self, key: usize) -> &mut Value {
        &mut self.root_mut()[key]
    }
}

impl From<&Checkpoint> for Value {
    /// The object that was saved.
    fn from(checkpoint: &Checkpoint) -> Self {
        checkpoint.root().clone()
    }
}

impl fmt::Debug for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Checkpoint(`{}`, {:?})", self.name, self.root())
    }
}

/// Reads a file by its content. `directory` is where it lies, if it has a path.
fn open(source: &Arc<Source>, directory: Option<&Path>) -> Result<Opened> {
    let bytes = source.len() as u64;
    let (container, saves) = match sniff::sniff(source)? {
        Container::Legacy => (Container::Legacy, legacy::open(source)?),
        Container::Tar => (Container::Tar, vec![tar::open(source)?]),
        Container::Pickle => (Container::Pickle, plain::open(source)?),
        Container::Safetensors => (Container::Safetensors, vec![safetensors::open(source)?]),
        Container::Shards => return shards::open(source, directory),
        // Which kind of archive it is, its entries tell.
        Container::Zip | Container::TorchScript | Container::ExportedProgram => {
            let (container, saves, exported) = zip::open(source)?;
            return Ok(Opened { container, saves, bytes, exported: exported.map(Arc::new) });
        }
    };
    Ok(Opened { container, saves, bytes, exported: None })
}

/// An error about a file, with its name and the kind of trouble.
fn in_file(error: Error, name: &str) -> Error {
    match error.kind() {
        ErrorKind::Invalid => error.context(format_args!("`{name}`: invalid checkpoint")),
        ErrorKind::Unsupported => error.context(format_args!("`{name}`: unsupported checkpoint")),
        _ => error.context(format_args!("`{name}`")),
    }
}
