//! SHA-256 of tensors' contents.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use sconce::checkpoint::{Layout, StoredTensor};
use sha2::{Digest, Sha256};

use super::super::console::Progress;
use super::super::{Failure, Result, text};
use super::totals::bytes;
use super::walk::Content;

/// The digests of tensors by position, in hexadecimal; of those that have none, why.
pub(super) type Digests = HashMap<usize, Result<String, String>>;

/// The digest of each of these tensors' contiguous little-endian bytes, in hexadecimal, by position. Several are computed
/// at once. Tensors that keep their elements in others have none; one that cannot be read in full, as an expanded one that
/// would take terabytes, does not stop the others.
pub(super) fn digests(content: &Content<'_>, chosen: &[usize], progress: &mut Progress) -> Result<Digests> {
    let item = |at: usize| Some((at, content.items[at].name.as_str(), content.items[at].tensor()?));
    let has_elements = |(.., tensor): &(usize, &str, &StoredTensor)| tensor.layout() == Layout::Strided;
    let tensors: Vec<_> = chosen.iter().filter_map(|&at| item(at)).filter(has_elements).collect();
    let total: u64 = tensors.iter().map(|(.., tensor)| bytes(tensor)).sum();
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(tensors.len().max(1));
    let next = AtomicUsize::new(0);
    let found = Mutex::new((HashMap::new(), 0u64, None));
    let progress = Mutex::new(progress);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(&(at, name, tensor)) = tensors.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let digest = digest(tensor);
                    let mut found = found.lock().expect("no thread panics");
                    found.1 += bytes(tensor);
                    match digest {
                        Ok(digest) => drop(found.0.insert(at, Ok(digest))),
                        Err(error) if error.kind() == sconce::ErrorKind::Unsupported => {
                            let why = error.to_string().lines().next().unwrap_or_default().to_owned();
                            found.0.insert(at, Err(why));
                        }
                        Err(error) => {
                            found.2.get_or_insert(Failure::about(format!("`{}`", text::clean(name)), error));
                        }
                    }
                    let line = format!("digest: {} of {}", text::bytes(found.1), text::bytes(total));
                    progress.lock().expect("no thread panics").show(line);
                }
            });
        }
    });
    let (digests, _, failure) = found.into_inner().expect("no thread panics");
    failure.map_or(Ok(digests), Err)
}

fn digest(tensor: &StoredTensor) -> sconce::Result<String> {
    let digest = Sha256::digest(tensor.contiguous_bytes()?);
    Ok(digest.iter().map(|byte| format!("{byte:02x}")).collect())
}
