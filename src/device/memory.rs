//! Buffers of a GPU, and the account of what they hold.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use super::gpu::Gpu;
use super::info::MemoryUse;
use crate::error::{Error, Result};

/// What a buffer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    Weights,
    Arena,
    Staging,
}

/// What a GPU holds for this process, and how often it was asked for more.
#[derive(Debug, Default)]
pub(crate) struct Account {
    held: [AtomicU64; 3],
    total: AtomicU64,
    peak: AtomicU64,
    buffers: AtomicU64,
    pipelines: AtomicU64,
    bind_groups: AtomicU64,
    submits: AtomicU64,
}

/// How many objects were made and how often the queue was given work, since the device was opened.
#[cfg(test)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) buffers: u64,
    pub(crate) pipelines: u64,
    pub(crate) bind_groups: u64,
    pub(crate) submits: u64,
}

impl Account {
    pub(crate) fn memory(&self) -> MemoryUse {
        let held = |purpose: Purpose| self.held[purpose as usize].load(Ordering::Relaxed);
        MemoryUse {
            weights: held(Purpose::Weights),
            arenas: held(Purpose::Arena),
            staging: held(Purpose::Staging),
            peak: self.peak.load(Ordering::Relaxed),
        }
    }

    #[cfg(test)]
    pub(crate) fn counts(&self) -> Counts {
        Counts {
            buffers: self.buffers.load(Ordering::Relaxed),
            pipelines: self.pipelines.load(Ordering::Relaxed),
            bind_groups: self.bind_groups.load(Ordering::Relaxed),
            submits: self.submits.load(Ordering::Relaxed),
        }
    }

    pub(crate) fn count_pipeline(&self) {
        self.pipelines.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_bind_group(&self) {
        self.bind_groups.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_submit(&self) {
        self.submits.fetch_add(1, Ordering::Relaxed);
    }

    fn add(&self, purpose: Purpose, bytes: u64) {
        self.held[purpose as usize].fetch_add(bytes, Ordering::Relaxed);
        let total = self.total.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.peak.fetch_max(total, Ordering::Relaxed);
        self.buffers.fetch_add(1, Ordering::Relaxed);
    }

    fn subtract(&self, purpose: Purpose, bytes: u64) {
        self.held[purpose as usize].fetch_sub(bytes, Ordering::Relaxed);
        self.total.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// A buffer on a GPU. Its memory is given back when the last user drops it.
#[derive(Debug)]
pub(crate) struct Buffer {
    raw: OnceLock<wgpu::Buffer>,
    size: u64,
    usage: wgpu::BufferUsages,
    purpose: Purpose,
    account: Arc<Account>,
}

impl Buffer {
    /// A buffer of at least `bytes`, rounded up to whole `vec4`s. `what` names it in errors.
    pub(crate) fn new(
        gpu: &Gpu,
        what: &str,
        bytes: u64,
        usage: wgpu::BufferUsages,
        purpose: Purpose,
        mapped: bool,
    ) -> Result<Self> {
        let buffer = Self::promise(gpu, what, bytes, usage, purpose)?;
        buffer.make(gpu, what, mapped)?;
        Ok(buffer)
    }

    /// The same, counted already, but not made before [`Buffer::make`].
    pub(crate) fn promise(
        gpu: &Gpu,
        what: &str,
        bytes: u64,
        usage: wgpu::BufferUsages,
        purpose: Purpose,
    ) -> Result<Self> {
        let size = bytes.max(1).next_multiple_of(16);
        let limit = gpu.limits().max_buffer_size;
        if size > limit {
            return Err(Error::unsupported(format!(
                "{what} takes {size} bytes, device `{}` has buffers of at most {limit}",
                gpu.info()
            )));
        }
        gpu.account().add(purpose, size);
        Ok(Self { raw: OnceLock::new(), size, usage, purpose, account: Arc::clone(gpu.account()) })
    }

    /// Makes the buffer, once. `mapped`: the host has it first, which needs [`Gpu::has_host_memory`] where it is for more
    /// than copies.
    pub(crate) fn make(&self, gpu: &Gpu, what: &str, mapped: bool) -> Result<()> {
        let usage = if mapped { self.usage | wgpu::BufferUsages::MAP_WRITE } else { self.usage };
        let descriptor = wgpu::BufferDescriptor { label: None, size: self.size, usage, mapped_at_creation: mapped };
        let raw = gpu.scoped(what, || Ok(gpu.device().create_buffer(&descriptor)))?;
        self.raw.set(raw).map_err(|_| Error::device(format!("{what}: the buffer is there already")))
    }

    pub(crate) fn raw(&self) -> &wgpu::Buffer {
        self.raw.get().expect("a promised buffer is made before it is used")
    }

    pub(crate) fn is_made(&self) -> bool {
        self.raw.get().is_some()
    }

    pub(crate) fn size(&self) -> u64 {
        self.size
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.account.subtract(self.purpose, self.size);
    }
}
