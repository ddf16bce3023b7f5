//! Weights without a copy in between: where a device's memory is the host's and its shaders run on the processor, the host
//! packs them right where kernels read them. Shaders would take ten times as long, and copies leave the finding of pages,
//! which is most of the work, to one thread.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use half::slice::HalfFloatSliceExt;

use super::host_pack::{self, Piece};
use super::upload::{Dim, Region, is_copy, span};
use super::weights::Held;
use crate::device::gpu::Gpu;
use crate::device::memory::Buffer;
use crate::dtype::DType;
use crate::error::{Error, Result};

/// What is packed at a time: it stays in the processor's cache until it is written.
const PIECE_WORDS: usize = 32 << 10;

/// The pages of a file are released after this many bytes: a call for each piece would take longer than the piece.
const RELEASE_BYTES: usize = 4 << 20;

/// Smaller ranges are not worth a call.
const LEAST_RELEASE: usize = 64 << 10;

/// More threads than this find pages no faster.
const MOST_THREADS: usize = 4;

/// Fewer bytes than this are not worth a thread.
const THREAD_BYTES: usize = 4 << 20;

/// A weight on its way to a buffer that has been promised.
pub(super) struct Fill {
    /// What is uploaded, for errors.
    pub(super) name: String,
    pub(super) held: Held,
    pub(super) region: Region,
    /// `I32`, `F32` or `F16`.
    pub(super) dtype: DType,
    /// What the channels are multiplied by.
    pub(super) factors: Option<Arc<[f32]>>,
    /// The inputs of a 3x3 convolution whose taps become points too, by Winograd.
    pub(super) points: Option<usize>,
    pub(super) buffer: Arc<Buffer>,
}

/// A fill that the host can do, cut into runs of the target.
pub(super) struct Job(pub(super) Fill, pub(super) Vec<Piece>);

/// The runs of the target that a fill is done by; nothing when the host has no loop for it.
pub(super) fn pieces(fill: &Fill) -> Option<Vec<Piece>> {
    let (from, is_int) = (fill.held.dtype(), fill.dtype == DType::I32);
    let is_known = host_pack::converts(from) && !(is_int && from.is_float());
    let most = PIECE_WORDS.max(fill.points.map_or(0, |inputs| 9 * inputs));
    host_pack::pieces(&fill.region, most).filter(|_| is_known)
}

impl Job {
    /// The bytes that it reads.
    pub(super) fn bytes(&self) -> usize {
        let Self(fill, _) = self;
        fill.region.dims.iter().map(|dim| dim.size).product::<usize>() * fill.held.dtype().size()
    }

    fn run(&self, gpu: &Gpu, room: &mut Room) -> Result<()> {
        let Self(fill, pieces) = self;
        fill.buffer.make(gpu, &fill.name, true)?;
        let raw = fill.buffer.raw();
        let failed = |e| Error::device(format!("{}: its memory cannot be written: {e}", fill.name));
        let mut view = raw.get_mapped_range_mut(..).map_err(failed)?;
        let mut target = view.slice(..);
        let (bytes, size) = (fill.held.bytes()?, fill.held.dtype().size());
        let mut released = fill.region.source * size;
        for piece in pieces {
            let start = piece.region.source * size;
            fill.write(piece, &bytes[start..], &mut target, room);
            // What lies before a piece is done with where both sides have one order.
            if start >= released + RELEASE_BYTES && is_in_order(&fill.region, piece) {
                fill.held.release(released..start);
                released = start;
            }
        }
        let end = (fill.region.source + span(&fill.region.dims)) * size;
        if end >= released + LEAST_RELEASE {
            fill.held.release(released..end);
        }
        drop(view);
        raw.unmap();
        Ok(())
    }
}

/// What a thread packs in.
#[derive(Default)]
struct Room {
    words: Vec<u32>,
    halves: Vec<half::f16>,
}

impl Fill {
    /// Writes a piece, whose elements start at the start of `source`, to its place in the buffer.
    fn write(&self, piece: &Piece, source: &[u8], buffer: &mut wgpu::WriteOnly<'_, [u8]>, room: &mut Room) {
        let element = self.dtype.size();
        let at = piece.region.target * element;
        let place = at..at + piece.len * element;
        let is_as_stored = self.factors.is_none() && self.points.is_none();
        if is_as_stored && is_copy(self.held.dtype(), self.dtype, &piece.region) {
            return buffer.slice(place).copy_from_slice(&source[..piece.len * element]);
        }
        let Room { words, halves } = room;
        host_pack::pack(source, self.held.dtype(), self.dtype == DType::I32, piece, words);
        if let Some(factors) = &self.factors {
            host_pack::scale(words, piece, factors);
        }
        if let Some(inputs) = self.points {
            let channels = self.region.dims.iter().find(|dim| dim.scaled).map_or(1, |dim| dim.size);
            write_points(words, piece.region.target, channels, inputs, buffer);
        } else if self.dtype == DType::F16 {
            halves.resize(words.len(), half::f16::ZERO);
            halves.convert_from_f32_slice(bytemuck::cast_slice(words));
            buffer.slice(place).copy_from_slice(bytemuck::cast_slice(halves));
        } else {
            buffer.slice(place).copy_from_slice(bytemuck::cast_slice(words));
        }
    }
}

/// Whether the pieces of a region, of which this is one, follow each other in the source.
fn is_in_order(region: &Region, piece: &Piece) -> bool {
    let Some(outer) = piece.region.dims.first() else { return false };
    region.dims.iter().all(|dim: &Dim| dim.source <= outer.source)
}

/// Writes the points and the taps of a piece's channels, `[25][channels][inputs]`; `at` is where the taps of the piece
/// start among those of all channels.
fn write_points(taps: &[u32], at: usize, channels: usize, inputs: usize, to: &mut wgpu::WriteOnly<'_, [u8]>) {
    let mut points = vec![0.0; 16 * inputs];
    for (i, taps) in taps.chunks_exact(9 * inputs).enumerate() {
        let taps: &[f32] = bytemuck::cast_slice(taps);
        host_pack::points(taps, &mut points);
        let channel = at / (9 * inputs) + i;
        for (row, words) in points.chunks_exact(inputs).chain(taps.chunks_exact(inputs)).enumerate() {
            let at = (row * channels + channel) * inputs * 4;
            to.slice(at..at + inputs * 4).copy_from_slice(bytemuck::cast_slice(words));
        }
    }
}

/// Does all jobs, on several threads when they are large. The error of the first that fails.
pub(super) fn run(gpu: &Gpu, jobs: &[Job]) -> Result<()> {
    let next = AtomicUsize::new(0);
    let failed: Mutex<Option<Error>> = Mutex::default();
    let work = || {
        let mut room = Room::default();
        while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
            if let Err(error) = job.run(gpu, &mut room) {
                failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                next.store(jobs.len(), Ordering::Relaxed);
            }
        }
    };
    let all: usize = jobs.iter().map(Job::bytes).sum();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = cores.min(MOST_THREADS).min(all / THREAD_BYTES);
    std::thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(work);
        }
        work();
    });
    failed.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
}
