//! Compiled pipelines on disk, so that a later process need not compile them: where the backend gives them out.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::device::gpu::Gpu;

/// `off`, or the folder that compiled pipelines are kept in.
const VARIABLE: &str = "SCONCE_CACHE";

/// What a file begins with; then come the checksum of the rest, and the rest.
const MAGIC: &[u8; 8] = b"sconcePC";

/// Larger files are not read, nor written.
const MOST_BYTES: usize = 256 << 20;

/// The pipelines of one adapter and driver.
#[derive(Debug)]
pub(super) struct DiskCache {
    raw: wgpu::PipelineCache,
    path: PathBuf,
    /// The checksum of what the file holds.
    stored: Mutex<Option<u32>>,
}

/// The folder for this user's caches, unless the environment says another one or none.
pub(super) fn folder() -> Option<PathBuf> {
    let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(own) = set(VARIABLE) {
        return (own.as_os_str() != "off").then_some(own);
    }
    let base = if cfg!(windows) {
        set("LOCALAPPDATA")?
    } else if cfg!(target_os = "macos") {
        set("HOME")?.join("Library/Caches")
    } else {
        set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")))?
    };
    Some(base.join("sconce"))
}

/// A file's name for what is kept of an adapter: readable, and different for every driver, version and way of compiling.
pub(super) fn file_name(gpu: &Gpu, kind: &str) -> String {
    let info = gpu.info();
    let letter = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let name: String = info.name.chars().map(letter).take(40).collect();
    let version = env!("CARGO_PKG_VERSION");
    let key = format!("{}|{}|{}|{version}|{}", info.name, info.backend, info.driver, gpu.options().checks);
    format!("{}-{:08x}.{kind}", name.trim_matches('-'), crc32fast::hash(key.as_bytes()))
}

/// The data of a file, when it is whole.
pub(super) fn read(path: &Path) -> Option<Vec<u8>> {
    if fs::metadata(path).ok()?.len() > MOST_BYTES as u64 {
        return None;
    }
    let bytes = fs::read(path).ok()?;
    let (sum, data) = bytes.strip_prefix(MAGIC)?.split_first_chunk::<4>()?;
    (crc32fast::hash(data) == u32::from_le_bytes(*sum)).then(|| data.to_vec())
}

/// Puts the data into the place of the file at once, so that no reader ever sees a part of it.
pub(super) fn write(path: &Path, data: &[u8]) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut bytes = MAGIC.to_vec();
    bytes.extend(crc32fast::hash(data).to_le_bytes());
    bytes.extend(data);
    let temporary = path.with_extension(format!("{}.tmp", std::process::id()));
    let written = fs::write(&temporary, bytes).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        fs::remove_file(&temporary).ok();
    }
    written
}

impl DiskCache {
    /// The cache of a device, unless it has none or is told to have none.
    pub(super) fn open(gpu: &Gpu) -> Option<Self> {
        if !gpu.options().disk_cache {
            return None;
        }
        Self::open_in(gpu, &folder()?)
    }

    fn open_in(gpu: &Gpu, folder: &Path) -> Option<Self> {
        if !gpu.device().features().contains(wgpu::Features::PIPELINE_CACHE) {
            return None;
        }
        let path = folder.join(file_name(gpu, "pipelines"));
        let data = read(&path);
        let stored = Mutex::new(data.as_deref().map(crc32fast::hash));
        let descriptor = wgpu::PipelineCacheDescriptor { label: None, data: data.as_deref(), fallback: true };
        let raw = gpu.scoped("pipeline cache", || {
            // SAFETY: the data is what `get_data` gave for this adapter, driver and version of this crate, whole by its
            // checksum, in a folder of the user's own; wgpu and the driver check their own headers besides.
            Ok(unsafe { gpu.device().create_pipeline_cache(&descriptor) })
        });
        Some(Self { raw: raw.ok()?, path, stored })
    }

    pub(super) fn raw(&self) -> &wgpu::PipelineCache {
        &self.raw
    }

    /// Writes what the device has compiled, if that has changed. A cache that cannot be written is done without.
    pub(super) fn save(&self) {
        let Some(data) = self.raw.get_data().filter(|data| data.len() <= MOST_BYTES) else { return };
        let sum = Some(crc32fast::hash(&data));
        let mut stored = self.stored.lock().unwrap_or_else(PoisonError::into_inner);
        if *stored != sum && write(&self.path, &data).is_ok() {
            *stored = sum;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::gpu::tests::on_every_gpu;
    use crate::device::gpu::GpuOptions;

    #[test]
    fn files_are_whole_or_ignored() {
        let folder = env::temp_dir().join(format!("sconce-cache-{}", std::process::id()));
        let path = folder.join("deep/er/x.pipelines");
        assert!(read(&path).is_none());
        write(&path, b"some data").unwrap();
        assert_eq!(read(&path).unwrap(), b"some data");
        write(&path, b"").unwrap();
        assert_eq!(read(&path).unwrap(), b"");
        write(&path, b"some data").unwrap();
        let whole = fs::read(&path).unwrap();
        for wrong in [&whole[..whole.len() - 1], &whole[..5], &whole[1..], &[whole.as_slice(), b"x"].concat()[..]] {
            fs::write(&path, wrong).unwrap();
            assert!(read(&path).is_none(), "{} bytes", wrong.len());
        }
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "no temporary file is left");
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_cache_is_written_and_read_again() {
        let folder = env::temp_dir().join(format!("sconce-pipelines-{}", std::process::id()));
        on_every_gpu(GpuOptions::default(), |gpu| {
            let Some(cache) = DiskCache::open_in(gpu, &folder) else {
                assert!(!gpu.device().features().contains(wgpu::Features::PIPELINE_CACHE));
                return;
            };
            cache.save();
            let written = read(&cache.path).expect("a file");
            assert_eq!(cache.raw.get_data().as_ref(), Some(&written));
            let again = DiskCache::open_in(gpu, &folder).unwrap();
            assert_eq!(*again.stored.lock().unwrap(), Some(crc32fast::hash(&written)));
            // What a driver cannot have written is not used, and no error.
            write(&cache.path, b"not a cache").unwrap();
            DiskCache::open_in(gpu, &folder).unwrap().save();
            assert_ne!(read(&cache.path).unwrap(), b"not a cache");
        });
        fs::remove_dir_all(folder).ok();
    }
}
