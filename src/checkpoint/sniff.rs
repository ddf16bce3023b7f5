//! Which kind of file it is, by its content. A file's name means nothing: `.pt`, `.pth`, `.bin` and `.tar` are all used
//! for all kinds.

use std::fmt;

use crate::error::{Error, Result};

/// The kinds of files that hold checkpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Container {
    /// A zip archive, as torch 1.6 and later write.
    Zip,
    /// A stream of pickles and storages, as torch 0.1.10 to 1.5 wrote.
    Legacy,
    /// A tar archive, as torch 0.1.1 to 0.1.9 wrote.
    Tar,
    /// A zip archive of TorchScript, as `torch.jit.save` writes. Its weights are read, its code is not.
    TorchScript,
    /// A plain pickle, as Python's `pickle.dump` writes.
    Pickle,
    /// A safetensors file, as Hugging Face's libraries write.
    Safetensors,
    /// The index (`*.index.json`) of a checkpoint in several files, as Hugging Face's libraries write.
    Shards,
    /// A program of `torch.export` (`.pt2`): a graph with its weights.
    ExportedProgram,
}

impl Container {
    /// A short name: `zip`, `legacy`, `tar`, `torchscript`, `pickle`, `safetensors`, `shards`, `pt2`.
    pub const fn name(self) -> &'static str {
        match self {
            Container::Zip => "zip",
            Container::Legacy => "legacy",
            Container::Tar => "tar",
            Container::TorchScript => "torchscript",
            Container::Pickle => "pickle",
            Container::Safetensors => "safetensors",
            Container::Shards => "shards",
            Container::ExportedProgram => "pt2",
        }
    }
}

impl fmt::Display for Container {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A test of a file's first bytes, what it means and what to do.
type Sign = (fn(&[u8]) -> bool, &'static str, &'static str);

/// Files that PyTorch, or those around it, write and this version does not read.
const UNSUPPORTED: [Sign; 1] =
    [(|bytes| bytes.starts_with(b"PYTORCH1"), "a preview format of torch 1.0 (`PYTORCH1`)", RESAVE)];

/// A test of a file's first bytes, and the kind of file that it tells.
type Read = (fn(&[u8]) -> bool, Container);

/// Files that are read. Pickles of the old protocols have no sign of their own and come after all others.
const READ: [Read; 5] = [
    (is_zip, Container::Zip),
    (is_legacy, Container::Legacy),
    (is_tar, Container::Tar),
    (is_shard_index, Container::Shards),
    (is_safetensors, Container::Safetensors),
];

const RESAVE: &str = "load it in PyTorch and save it again with `torch.save`";
const AGAIN: &str = "download or copy it again";

/// Files that are something else.
const FOREIGN: [Sign; 15] = [
    (
        |b| b.starts_with(b"version https://git-lfs"),
        "a git-LFS pointer, not the file itself",
        "fetch it with `git lfs pull`",
    ),
    (
        is_markup,
        "an HTML or XML page, not a checkpoint",
        "the download gave a web page: check its address and your access",
    ),
    (|b| b.starts_with(b"GGUF"), "a GGUF file, not one of PyTorch", "use the original PyTorch checkpoint"),
    (
        |b| b.starts_with(b"\x89HDF\r\n\x1a\n"),
        "an HDF5 file (Keras, perhaps), not one of PyTorch",
        "use a PyTorch checkpoint",
    ),
    (
        |b| b.starts_with(b"\x93NUMPY"),
        "a NumPy `.npy` array, not a checkpoint",
        "wrap it in a state dict with `torch.save`",
    ),
    (
        |b| b.get(4..8) == Some(b"PTMF"),
        "a model for PyTorch Mobile (a flatbuffer)",
        "use the model that it was made from",
    ),
    (|b| b.get(4..8) == Some(b"TFL3"), "a TensorFlow Lite model, not one of PyTorch", "use a PyTorch checkpoint"),
    (|b| b.starts_with(&[0x1f, 0x8b]), "gzip-compressed", "decompress it with `gunzip`"),
    (|b| b.starts_with(b"\xfd7zXZ\0"), "xz-compressed", "decompress it with `unxz`"),
    (|b| b.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]), "zstd-compressed", "decompress it with `unzstd`"),
    (|b| b.starts_with(b"BZh"), "bzip2-compressed", "decompress it with `bunzip2`"),
    (|b| b.starts_with(b"7z\xbc\xaf\x27\x1c"), "a 7-Zip archive", "extract the checkpoint from it"),
    (|b| b.starts_with(b"Rar!\x1a\x07"), "a RAR archive", "extract the checkpoint from it"),
    (|b| b.starts_with(b"PK\x05\x06"), "an empty zip archive", AGAIN),
    (is_json, "JSON text, not a checkpoint", "it may describe a model; the weights are in another file"),
];

/// The kind of file that starts with `bytes` (all of them, or the mapped file).
///
/// # Errors
/// *unsupported* for a kind of PyTorch file that is not read, *invalid* for anything else, saying what it looks like.
pub(super) fn sniff(bytes: &[u8]) -> Result<Container> {
    if bytes.is_empty() {
        return Err(Error::invalid("the file is empty").help(AGAIN));
    }
    if let Some((_, container)) = READ.iter().find(|(test, _)| test(bytes)) {
        return Ok(*container);
    }
    if let Some((_, what, help)) = UNSUPPORTED.iter().find(|(test, ..)| test(bytes)) {
        return Err(Error::unsupported(*what).help(*help));
    }
    if let Some((_, what, help)) = FOREIGN.iter().find(|(test, ..)| test(bytes)) {
        return Err(Error::invalid(*what).help(*help));
    }
    match is_pickle(bytes) {
        true => Ok(Container::Pickle),
        false => Err(unknown(bytes)),
    }
}

/// The error for a file that is nothing known.
pub(super) fn unknown(bytes: &[u8]) -> Error {
    let start: Vec<String> = bytes.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    let zeros = bytes.iter().take(4096).all(|&byte| byte == 0);
    Error::invalid(match zeros {
        true => "it starts with zeros, as a file does whose download was not finished".into(),
        false => format!("it is not a file that PyTorch writes; it starts with the bytes {}", start.join(" ")),
    })
    .help(AGAIN)
}

pub(super) fn is_zip(bytes: &[u8]) -> bool {
    bytes.starts_with(b"PK\x03\x04")
}

/// The magic number that `torch.save` put first before torch 1.6, a pickled integer of any protocol.
pub(super) fn is_legacy(bytes: &[u8]) -> bool {
    let start = &bytes[..bytes.len().min(40)];
    start.starts_with(b"L119547037146038801333356L\n.")
        || (start.starts_with(&[0x80])
            && start.windows(12).any(|w| w == b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"))
}

fn is_tar(bytes: &[u8]) -> bool {
    bytes.get(257..262) == Some(b"ustar")
}

fn is_safetensors(bytes: &[u8]) -> bool {
    let Some((len, rest)) = bytes.split_first_chunk::<8>() else { return false };
    let len = u64::from_le_bytes(*len);
    // Also one that is cut short, or whose header is too long: what starts otherwise so is a text of JSON, whose
    // letters are a larger number.
    (2..1 << 40).contains(&len) && matches!(rest, [b'{', b'"' | b'}' | b' ' | b'\t' | b'\r' | b'\n', ..])
}

/// A pickle that says its protocol, or what may be one of protocol 0 or 1: an instruction first and a full stop last.
fn is_pickle(bytes: &[u8]) -> bool {
    match bytes {
        [0x80, 2..=5, ..] => true,
        [first, .., b'.'] => b"()[]}cFGIJKLMNSTUVX".contains(first),
        _ => false,
    }
}

fn is_shard_index(bytes: &[u8]) -> bool {
    is_json(bytes) && bytes[..bytes.len().min(1 << 16)].windows(12).any(|w| w == b"\"weight_map\"")
}

fn is_json(bytes: &[u8]) -> bool {
    let text = bytes.trim_ascii_start();
    matches!(text, [b'{', rest @ ..] if matches!(rest.trim_ascii_start(), [b'"' | b'}', ..]))
}

fn is_markup(bytes: &[u8]) -> bool {
    let start = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let text = start[..start.len().min(4096)].trim_ascii_start();
    matches!(text, [b'<', b'!' | b'?' | b'a'..=b'z' | b'A'..=b'Z', ..])
}
