//! Which kind of file it is, by its content. A file's name means nothing: `.pt`, `.pth`, `.bin` and `.tar` are all used
//! for all kinds.

use crate::error::{Error, Result};

/// The containers that PyTorch writes, or wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Container {
    /// A zip archive, as torch 1.6 and later write.
    Zip,
    /// A safetensors file, as Hugging Face's libraries write.
    Safetensors,
}

/// A test of a file's first bytes, what it means and what to do.
type Sign = (fn(&[u8]) -> bool, &'static str, &'static str);

/// Files that PyTorch, or those around it, write and this version does not read.
const UNSUPPORTED: [Sign; 5] = [
    (is_legacy, "a file of torch 1.5 or older (the stream of pickles before zip archives)", RESAVE),
    (is_tar, "a tar archive, as torch 0.1.9 and older wrote", RESAVE),
    (is_plain_pickle, "a plain pickle, not one of `torch.save`", RESAVE),
    (|bytes| bytes.starts_with(b"PYTORCH1"), "a preview format of torch 1.0 (`PYTORCH1`)", RESAVE),
    (is_shard_index, "the index of a checkpoint in several files", "load the files that it names"),
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
    if bytes.starts_with(b"PK\x03\x04") {
        return Ok(Container::Zip);
    }
    if is_safetensors(bytes) {
        return Ok(Container::Safetensors);
    }
    if let Some((_, what, help)) = UNSUPPORTED.iter().find(|(test, ..)| test(bytes)) {
        return Err(Error::unsupported(*what).help(*help));
    }
    if let Some((_, what, help)) = FOREIGN.iter().find(|(test, ..)| test(bytes)) {
        return Err(Error::invalid(*what).help(*help));
    }
    let start: Vec<String> = bytes.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    let zeros = bytes.iter().take(4096).all(|&byte| byte == 0);
    Err(Error::invalid(match zeros {
        true => "it starts with zeros, as a file does whose download was not finished".into(),
        false => format!("it is not a file that PyTorch writes; it starts with the bytes {}", start.join(" ")),
    })
    .help(AGAIN))
}

/// The magic number that `torch.save` put first before torch 1.6, a pickled integer of any protocol.
fn is_legacy(bytes: &[u8]) -> bool {
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

fn is_plain_pickle(bytes: &[u8]) -> bool {
    matches!(bytes, [0x80, 2..=5, b'}' | b']' | b'(' | b'c' | 0x95 | b'X' | b'K' | b')', ..])
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
