//! Saving: values as files that `torch.load` reads, and state dicts as safetensors and `.npz`.

mod file;
mod instructions;
mod npz;
mod pickle;
mod pieces;
mod safetensors;
mod tensors;
mod zip;

use std::io::{Seek, Write};
use std::path::Path;

pub(crate) use npz::{NPY_MAGIC, NUMPY_DTYPES, npy_header};

use self::zip::ZipWriter;
use super::stored::check_expanded;
use super::value::Value;
use super::{Checkpoint, StoredTensor};
use crate::error::{Error, Result};

/// Where a storage's bytes begin in a file of PyTorch: a multiple of this.
const ALIGNMENT: u64 = 64;

/// Saves a value, as `torch.save(value, path)` does. The path's ending chooses the format:
///
/// | ending | format |
/// |---|---|
/// | `.pt` `.pth` `.bin` `.ckpt` `.pkl` `.tar` | PyTorch's (a zip archive, as since torch 1.6): any value |
/// | `.safetensors` | [safetensors](https://huggingface.co/docs/safetensors): a dict of tensors |
/// | `.npz` | NumPy's `.npy` arrays in a zip archive: a dict of tensors of NumPy's dtypes |
///
/// `value` is a [`Checkpoint`], a [`StateDict`](crate::StateDict), a [`Tensor`](crate::Tensor), or any [`Value`].
///
/// In PyTorch's format everything comes back as it was: the order and the classes of dicts, tensors that share a storage
/// or are one object, strides, `requires_grad`, device tags, and objects of unknown classes. `torch.load` reads the file
/// with `weights_only` and `mmap` true and false; as with a file of `torch.save`, `weights_only=True` refuses classes
/// that PyTorch does not allow there. A storage is written whole, also where a tensor uses a part of it.
///
/// In the other two formats a dict of tensors is all there is. Each tensor is written contiguous and in full: tied
/// tensors become copies. A safetensors file lists the tensors in the order of the dict.
///
/// The file appears under its name when it is complete, in the place of one that was there: also the file that is being
/// read. On an error nothing is left, and an older file stays as it was. Memory use does not grow with the size of
/// the tensors, except that a compressed or byte-swapped storage is unpacked while it is written.
///
/// ```
/// use sconce::checkpoint::{Dict, Value};
/// use sconce::Tensor;
/// # let folder = std::env::temp_dir().join(format!("sconce-doc-{}", std::process::id()));
/// # std::fs::create_dir_all(&folder)?;
/// # let path = folder.join("training.pt");
/// let weight = Tensor::new([2, 2], [1f32, 2., 3., 4.])?;
/// let checkpoint = Dict::from_iter([("epoch", Value::from(7i64)), ("weight", Value::from(&weight))]);
/// sconce::save(checkpoint, &path)?;
///
/// let mut checkpoint = sconce::load(&path)?;
/// checkpoint["epoch"] = Value::from(8i64);
/// checkpoint.save(&path)?;
/// assert_eq!(sconce::load(&path)?["epoch"].as_i64()?, 8);
/// # std::fs::remove_dir_all(&folder)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) when the ending is none of these, or when something cannot
/// be written exactly: the message has the path to it, `optimizer.state[3]`, and no file is touched.
/// [`ErrorKind::Io`](crate::ErrorKind::Io) when the file cannot be written.
pub fn save(value: impl Into<Value>, path: impl AsRef<Path>) -> Result<()> {
    save_with_progress(value, path, &mut |_, _| {})
}

/// [`save`], which tells `progress` now and then how many bytes are written, and of how many (of tensors' data).
///
/// # Errors
/// As [`save`].
pub fn save_with_progress(
    value: impl Into<Value>,
    path: impl AsRef<Path>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<()> {
    let (value, path) = (value.into(), path.as_ref());
    let named = |error: Error| error.context(format_args!("`{}`", path.display()));
    let mut progress = Progress { done: 0, total: 0, tell: progress };
    match Format::of(path).map_err(named)? {
        Format::PyTorch => {
            let pickled = pickle::pickle(&value).map_err(named)?;
            file::replace(path, |out| write_torch(&pickled, out, &mut progress))
        }
        Format::Safetensors => {
            let plan = safetensors::Plan::new(&value).map_err(named)?;
            file::replace(path, |out| plan.write(out, &mut progress))
        }
        Format::Npz => {
            let plan = named_tensors(&value, "an `.npz` file").and_then(npz::Plan::new).map_err(named)?;
            file::replace(path, |out| plan.write(out, &mut progress))
        }
    }
    .map_err(named)
}

impl Checkpoint {
    /// Saves what the file holds, with the changes that were made: see [`save`]. Of a file with several objects that is the
    /// first; the others are saved with `save(checkpoint.saves()[1].clone(), path)`.
    ///
    /// # Errors
    /// As [`save`].
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        save(self.root().clone(), path)
    }
}

/// What is written to a file, by its ending.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Format {
    PyTorch,
    Safetensors,
    Npz,
}

impl Format {
    const ENDINGS: [(&str, Format); 8] = [
        ("pt", Format::PyTorch),
        ("pth", Format::PyTorch),
        ("bin", Format::PyTorch),
        ("ckpt", Format::PyTorch),
        ("pkl", Format::PyTorch),
        ("tar", Format::PyTorch),
        ("safetensors", Format::Safetensors),
        ("npz", Format::Npz),
    ];

    fn of(path: &Path) -> Result<Self> {
        let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default().to_ascii_lowercase();
        let found = Self::ENDINGS.iter().find(|(known, _)| *known == ending);
        found.map(|(_, format)| *format).ok_or_else(|| {
            let endings: Vec<String> = Self::ENDINGS.iter().map(|(ending, _)| format!("`.{ending}`")).collect();
            Error::unsupported(match ending.is_empty() {
                true => "the name of a file to write has no ending".to_owned(),
                false => format!("files that end in `.{}` are not written", ending.escape_debug()),
            })
            .help(format!("the endings are {}", endings.join(", ")))
        })
    }
}

/// Writes a pickle and its storages in PyTorch's format.
fn write_torch(pickled: &pickle::Pickled, out: &mut (impl Write + Seek), progress: &mut Progress<'_>) -> Result<()> {
    progress.total = pickled.storages.iter().map(|storage| storage.len() as u64).sum();
    let mut archive = ZipWriter::new(out);
    archive.small("archive/data.pkl", &pickled.bytes)?;
    archive.small("archive/byteorder", b"little")?;
    for (key, storage) in pickled.storages.iter().enumerate() {
        archive.entry(&format!("archive/data/{key}"), storage.len() as u64, &mut |take| {
            pieces::whole(storage, &mut |bytes| progress.take(bytes, take))
        })?;
    }
    archive.small("archive/version", b"3\n")?;
    archive.finish()
}

/// How much is written.
struct Progress<'p> {
    done: u64,
    total: u64,
    tell: &'p mut dyn FnMut(u64, u64),
}

impl Progress<'_> {
    fn take(&mut self, bytes: &[u8], take: &mut Take<'_>) -> Result<()> {
        take(bytes)?;
        self.done += bytes.len() as u64;
        (self.tell)(self.done, self.total);
        Ok(())
    }
}

/// Takes the next piece of some bytes.
type Take<'t> = dyn FnMut(&[u8]) -> Result<()> + 't;

/// The tensors of a dict under their names, for a format that holds nothing else.
fn named_tensors<'v>(value: &'v Value, format: &str) -> Result<Vec<(&'v str, &'v StoredTensor)>> {
    const HELP: &str = "save a state dict alone: `checkpoint.state_dict()?.save(path)`; `.pt` files hold any value";
    let refuse = |what: String| Error::unsupported(format!("{format} holds tensors by name only: {what}")).help(HELP);
    let Value::Dict(dict) = value else { return Err(refuse(format!("{} was given", value.describe()))) };
    let entry = |(key, value): &'v (Value, Value)| match (key, value) {
        (Value::Str(name), Value::Tensor(tensor)) => Ok((&**name, &**tensor)),
        (Value::Str(name), other) => Err(refuse(format!("`{}` is {}", name.escape_debug(), other.describe()))),
        (key, _) => Err(refuse(format!("a key is {}", key.describe()))),
    };
    dict.iter().map(entry).collect()
}

/// Refuses tensors that would take far more when each is written in full than is stored of them.
fn check_sizes(tensors: &[(&str, &StoredTensor)]) -> Result<()> {
    check_expanded(tensors.iter().map(|(_, tensor)| *tensor), "written in full, the tensors").map_err(|error| {
        let largest = tensors.iter().max_by_key(|(_, tensor)| tensor.shape().numel() * tensor.dtype().size());
        let name = largest.map_or("", |(name, _)| name);
        error.context(format_args!("`{}`", name.escape_debug()))
    })
}

/// The error of tensors that a format cannot hold, all of them.
fn refused_tensors(format: &str, refused: &[String], help: &str) -> Result<()> {
    const SHOWN: usize = 8;
    if refused.is_empty() {
        return Ok(());
    }
    let mut list = refused[..refused.len().min(SHOWN)].join(", ");
    if refused.len() > SHOWN {
        list += &format!(" ... and {} more", refused.len() - SHOWN);
    }
    Err(Error::unsupported(format!("{format} cannot hold {list}")).help(help))
}

#[cfg(test)]
mod tests;
