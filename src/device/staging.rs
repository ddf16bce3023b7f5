//! Staging: the few buffers through which host data reaches a GPU, used again and again.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Waker;
use std::time::{Duration, Instant};

use super::gpu::Gpu;
use super::memory::{Buffer, Purpose};
use crate::error::{Error, Result};

/// A buffer that the host and the device take turns at: mapped while the host has it.
pub(crate) struct Mapped {
    buffer: Arc<Buffer>,
    turn: Arc<Turn>,
}

/// Whose turn it is, and who waits for the host's.
#[derive(Default)]
pub(crate) struct Turn {
    state: AtomicU8,
    waker: Mutex<Option<Waker>>,
}

impl Turn {
    /// Gives the buffer to the host, or says that it cannot have it, unless that was said before.
    fn end(&self, state: u8) {
        if self.state.compare_exchange(DEVICE, state, Ordering::AcqRel, Ordering::Acquire).is_err() {
            return;
        }
        // Taken out first: a waker may poll at once.
        let waker = self.waker.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// The device will never be done.
    pub(super) fn fail(&self) {
        self.end(FAILED);
    }
}

const HOST: u8 = 0;
const DEVICE: u8 = 1;
const FAILED: u8 = 2;

/// How long a callback may take once its submission is done.
const CALLBACK_TIME: Duration = Duration::from_secs(10);

/// Which way data goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    ToDevice,
    ToHost,
}

impl Mapped {
    /// A buffer that the host has first when data goes to the device. Shaders may read it when `bound` is set, which
    /// needs [`Gpu::has_host_memory`].
    pub(crate) fn new(gpu: &Gpu, what: &str, bytes: u64, direction: Direction, bound: bool) -> Result<Self> {
        let mut usage = match direction {
            Direction::ToDevice => wgpu::BufferUsages::MAP_WRITE | wgpu::BufferUsages::COPY_SRC,
            Direction::ToHost => wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
        };
        if bound {
            usage |= wgpu::BufferUsages::STORAGE;
        }
        let mapped = direction == Direction::ToDevice;
        let buffer = Arc::new(Buffer::new(gpu, what, bytes, usage, Purpose::Staging, mapped)?);
        let turn = Arc::new(Turn::default());
        turn.state.store(if mapped { HOST } else { DEVICE }, Ordering::Release);
        Ok(Self { buffer, turn })
    }

    pub(crate) fn buffer(&self) -> &Arc<Buffer> {
        &self.buffer
    }

    /// Copies `bytes` to `offset`, a multiple of 8; the host must have the buffer. What lies between the end and the
    /// next multiple of 8 becomes zero.
    pub(crate) fn write(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let padded = bytes.len().next_multiple_of(8);
        let mut view = self
            .buffer
            .raw()
            .get_mapped_range_mut(offset..offset + padded as u64)
            .map_err(|e| Error::device(format!("a staging buffer cannot be written: {e}")))?;
        let mut target = view.slice(..);
        let tail = target.split_off(bytes.len()..);
        target.copy_from_slice(bytes);
        if let Some(mut tail) = tail {
            tail.fill(0);
        }
        Ok(())
    }

    /// The bytes, after the device has written them; the host must have the buffer.
    pub(crate) fn read<T>(&self, read: impl FnOnce(&[u8]) -> Result<T>) -> Result<T> {
        let view = self
            .buffer
            .raw()
            .get_mapped_range(..)
            .map_err(|e| Error::device(format!("a read-back buffer cannot be read: {e}")))?;
        read(&view)
    }

    /// Gives the buffer to the device. It can be used in submissions from now on.
    pub(crate) fn unmap(&self) {
        if self.turn.state.swap(DEVICE, Ordering::AcqRel) == HOST {
            self.buffer.raw().unmap();
        }
    }

    /// Asks for the buffer back as soon as the device has done what was submitted so far.
    pub(crate) fn map(&self, direction: Direction) {
        let turn = Arc::clone(&self.turn);
        let mode = match direction {
            Direction::ToDevice => wgpu::MapMode::Write,
            Direction::ToHost => wgpu::MapMode::Read,
        };
        self.buffer.raw().map_async(mode, .., move |result| {
            turn.end(if result.is_ok() { HOST } else { FAILED });
        });
    }

    /// Waits until the host has the buffer, which was asked for after `submission`.
    pub(crate) fn wait(&self, gpu: &Gpu, submission: Option<&wgpu::SubmissionIndex>) -> Result<()> {
        let start = Instant::now();
        while self.turn.state.load(Ordering::Acquire) == DEVICE && start.elapsed() < CALLBACK_TIME {
            gpu.wait(submission.cloned())?;
            // Another thread that polls the same device may have taken the callback and not have run it yet.
            std::thread::yield_now();
        }
        self.result(gpu)
    }

    /// Whether the host has the buffer, which was asked for; if not, `waker` is called when it has. Somebody must wait
    /// for the device: see [`Gpu::watch`].
    pub(crate) fn poll(&self, gpu: &Gpu, waker: &Waker) -> Option<Result<()>> {
        *self.turn.waker.lock().unwrap_or_else(PoisonError::into_inner) = Some(waker.clone());
        // Looked at after the waker is there, so that one of both sides sees the other.
        (self.turn.state.load(Ordering::Acquire) != DEVICE).then(|| self.result(gpu))
    }

    pub(crate) fn turn(&self) -> &Arc<Turn> {
        &self.turn
    }

    fn result(&self, gpu: &Gpu) -> Result<()> {
        match self.turn.state.load(Ordering::Acquire) {
            HOST => Ok(()),
            _ => {
                gpu.check()?;
                Err(Error::device(format!("device `{}`: a buffer cannot be mapped", gpu.info())))
            }
        }
    }
}
