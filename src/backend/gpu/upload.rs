//! Upload: host bytes, through reused staging chunks, into buffers in the order that kernels read.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use super::direct::{self, Fill, Job};
use super::dispatch::{Binding, Dispatch, Shader};
use super::pipeline::{Pipeline, Pipelines};
use crate::checkpoint::Storage;
use crate::device::gpu::Gpu;
use crate::device::memory::{Buffer, Purpose};
use crate::device::staging::{Direction, Mapped};
use crate::dtype::DType;
use crate::error::{Error, Result};

/// The chunks that may be under way at once: one is filled while the device works on the others.
pub(super) const CHUNKS: usize = 3;

/// Smaller ranges are not worth a call to release their pages.
const RELEASE_BYTES: usize = 64 << 10;

/// The workgroup of `pack.wgsl`, and the elements that one thread writes.
const PACK_THREADS: usize = 64;
const PACK_RUN: usize = 16;

/// The dimensions of a box that `pack.wgsl` copies.
pub(super) const MOST_DIMS: usize = 5;

/// One dimension of what is uploaded: its size, and the steps along it in elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Dim {
    pub(super) size: usize,
    pub(super) source: usize,
    pub(super) target: usize,
    /// Whether the scale runs along it.
    pub(super) scaled: bool,
}

/// A box of elements: where it starts, and its dimensions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Region {
    pub(super) source: usize,
    pub(super) target: usize,
    pub(super) scale: usize,
    pub(super) dims: Vec<Dim>,
}

/// Where elements come from.
#[derive(Clone, Copy)]
pub(super) enum Source<'a> {
    /// Bytes of a file; its pages are released when they have been read.
    Stored(&'a Storage, DType),
    Bytes(&'a [u8], DType),
    /// `f32` or `i32` that is on the device already.
    Device(&'a Arc<Buffer>, DType),
}

impl Source<'_> {
    pub(super) fn dtype(&self) -> DType {
        match self {
            Source::Stored(_, dtype) | Source::Bytes(_, dtype) | Source::Device(_, dtype) => *dtype,
        }
    }
}

/// Where elements go, and what becomes of them.
#[derive(Clone, Copy)]
pub(super) struct Target<'a> {
    /// What is uploaded, for errors.
    pub(super) name: &'a str,
    pub(super) buffer: &'a Arc<Buffer>,
    /// `I32`, `F32` or `F16`.
    pub(super) dtype: DType,
    pub(super) scale: Option<&'a Arc<Buffer>>,
}

impl<'a> Target<'a> {
    /// A target without a scale.
    pub(super) fn plain(name: &'a str, buffer: &'a Arc<Buffer>, dtype: DType) -> Self {
        Self { name, buffer, dtype, scale: None }
    }
}

/// Uploads in batches: every chunk that is full becomes one submission.
pub(super) struct Uploader {
    gpu: Arc<Gpu>,
    pipelines: Arc<Pipelines>,
    chunk_bytes: usize,
    chunks: Vec<Chunk>,
    /// The chunk that is being filled, and how far it is.
    current: Option<(usize, usize)>,
    copies: Vec<Copy>,
    packs: Vec<PackCall>,
    /// What the host will write in place.
    jobs: Vec<Job>,
    /// What was read of the sources so far.
    bytes: u64,
}

/// A staging chunk: the host's buffer, and the device's copy of it that shaders read where they cannot read the first.
struct Chunk {
    host: Mapped,
    device: Option<Arc<Buffer>>,
    submission: Option<wgpu::SubmissionIndex>,
}

struct Copy {
    from: u64,
    to: Arc<Buffer>,
    at: u64,
    bytes: u64,
}

struct PackCall {
    pipeline: Arc<Pipeline>,
    bind_group: wgpu::BindGroup,
    immediates: Vec<u32>,
    grid: [u32; 3],
    /// Kept until the submission, for the account.
    _buffers: Vec<Arc<Buffer>>,
}

impl Uploader {
    /// An uploader for about `bytes` in all: chunks are no larger than that.
    pub(super) fn new(gpu: &Arc<Gpu>, bytes: usize) -> Self {
        let largest = gpu.staging_bytes().min(gpu.limits().max_storage_buffer_binding_size as usize);
        Self {
            gpu: Arc::clone(gpu),
            pipelines: Pipelines::of(gpu),
            chunk_bytes: bytes.saturating_add(4096).next_multiple_of(4096).min(largest) & !15,
            chunks: Vec::new(),
            current: None,
            copies: Vec::new(),
            packs: Vec::new(),
            jobs: Vec::new(),
            bytes: 0,
        }
    }

    /// The bytes of the host that were brought to the device so far.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Has the host fill a buffer in place before [`Uploader::finish`] returns; gives the fill back where it does not.
    pub(super) fn fill(&mut self, fill: Fill) -> Option<Fill> {
        if !self.gpu.packs_on_host() || fill.region.dims.iter().any(|dim| dim.size == 0) {
            return Some(fill);
        }
        let Some(pieces) = direct::pieces(&fill) else { return Some(fill) };
        let job = Job(fill, pieces);
        self.bytes += job.bytes() as u64;
        self.jobs.push(job);
        None
    }

    /// Brings a region of `source` to `target`.
    pub(super) fn upload(&mut self, source: Source<'_>, region: &Region, target: Target<'_>) -> Result<()> {
        if region.dims.iter().any(|dim| dim.size == 0) {
            return Ok(());
        }
        if let Source::Device(buffer, dtype) = source {
            return with_runs(region.clone()).iter().try_for_each(|part| self.pack(buffer, dtype, part, target));
        }
        let size = source.dtype().size();
        let mut parts = Vec::new();
        split(region, self.chunk_bytes / size, &mut parts);
        for part in &parts {
            let bytes = part.source * size..(part.source + span(&part.dims)) * size;
            let at = self.stage_source(source, bytes)?;
            let (chunk, _) = self.current.expect("just staged");
            if target.scale.is_none() && is_copy(source.dtype(), target.dtype, part) {
                let bytes = (span(&part.dims) * size) as u64;
                self.copy(at as u64, target.buffer, (part.target * target.dtype.size()) as u64, bytes);
            } else {
                let device = match &self.chunks[chunk].device {
                    Some(device) => Arc::clone(device),
                    None => self.mirror(chunk)?,
                };
                let part = Region { source: at / size, ..part.clone() };
                for part in with_runs(part) {
                    self.pack(&device, source.dtype(), &part, target)?;
                }
            }
        }
        Ok(())
    }

    /// Submits what is left. The device may still be at work.
    pub(super) fn finish(&mut self) -> Result<()> {
        self.submit()?;
        self.fill_promised()
    }

    /// Has the host write what was put off.
    fn fill_promised(&mut self) -> Result<()> {
        direct::run(&self.gpu, &std::mem::take(&mut self.jobs))
    }

    /// Records a copy from the current chunk, as a part of the last one where it goes on with that.
    fn copy(&mut self, from: u64, to: &Arc<Buffer>, at: u64, bytes: u64) {
        if let Some(last) = self.copies.last_mut()
            && Arc::ptr_eq(&last.to, to)
            && (last.from + last.bytes, last.at + last.bytes) == (from, at)
        {
            last.bytes += bytes;
            return;
        }
        self.copies.push(Copy { from, to: Arc::clone(to), at, bytes });
    }

    /// Copies `range` of the source into a chunk; gives the position.
    fn stage_source(&mut self, source: Source<'_>, range: Range<usize>) -> Result<usize> {
        self.bytes += range.len() as u64;
        match source {
            Source::Stored(storage, _) => {
                let at = self.stage(&storage.bytes()?[range.clone()])?;
                if range.len() >= RELEASE_BYTES {
                    storage.release_pages(range);
                }
                Ok(at)
            }
            Source::Bytes(bytes, _) => self.stage(&bytes[range]),
            Source::Device(..) => unreachable!("is on the device"),
        }
    }

    /// Copies bytes into the current chunk, or the next one when they do not fit; gives the position.
    fn stage(&mut self, bytes: &[u8]) -> Result<usize> {
        let needed = bytes.len().next_multiple_of(8);
        if self.current.is_some_and(|(_, used)| used + needed > self.chunk_bytes) {
            self.submit()?;
        }
        let (chunk, used) = match self.current {
            Some(current) => current,
            None => (self.free_chunk()?, 0),
        };
        self.chunks[chunk].host.write(used as u64, bytes)?;
        self.current = Some((chunk, used + needed));
        Ok(used)
    }

    /// A chunk that the host has: a new one while there are few, else the one that was submitted first.
    fn free_chunk(&mut self) -> Result<usize> {
        if self.chunks.len() < CHUNKS {
            let bound = self.gpu.has_host_memory();
            let host = Mapped::new(&self.gpu, "staging", self.chunk_bytes as u64, Direction::ToDevice, bound)?;
            self.chunks.push(Chunk { host, device: None, submission: None });
            return Ok(self.chunks.len() - 1);
        }
        self.chunks.rotate_left(1);
        let last = self.chunks.len() - 1;
        self.chunks[last].host.wait(&self.gpu, self.chunks[last].submission.as_ref())?;
        Ok(last)
    }

    /// The buffer in which shaders find the bytes of a chunk.
    fn mirror(&mut self, chunk: usize) -> Result<Arc<Buffer>> {
        let chunk = &mut self.chunks[chunk];
        let device = if self.gpu.has_host_memory() {
            Arc::clone(chunk.host.buffer())
        } else {
            let usage = wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::STORAGE;
            let bytes = self.chunk_bytes as u64;
            Arc::new(Buffer::new(&self.gpu, "staging", bytes, usage, Purpose::Staging, false)?)
        };
        chunk.device = Some(Arc::clone(&device));
        Ok(device)
    }

    /// Records one dispatch of `pack.wgsl`.
    fn pack(&mut self, source: &Arc<Buffer>, dtype: DType, region: &Region, target: Target<'_>) -> Result<()> {
        let dispatch = pack_dispatch(&self.gpu, dtype, region, target)?;
        self.dispatch(dispatch, &[source, target.scale.unwrap_or(source), target.buffer], target.name)
    }

    /// Records a dispatch over these buffers, after the uploads so far; `name` is for errors.
    pub(super) fn dispatch(&mut self, dispatch: Dispatch, buffers: &[&Arc<Buffer>], name: &str) -> Result<()> {
        if !buffers.iter().all(|buffer| buffer.is_made()) {
            // The host has yet to fill what the dispatch reads.
            self.fill_promised()?;
        }
        let pipeline = self.pipelines.get(&self.gpu, &[&dispatch])?.remove(0);
        let entries: Vec<_> = (0..)
            .zip(buffers)
            .map(|(binding, buffer)| wgpu::BindGroupEntry { binding, resource: buffer.raw().as_entire_binding() })
            .collect();
        let descriptor = wgpu::BindGroupDescriptor { label: None, layout: &pipeline.layout, entries: &entries };
        self.gpu.account().count_bind_group();
        let bind_group = self.gpu.scoped(name, || Ok(self.gpu.device().create_bind_group(&descriptor)))?;
        let _buffers = buffers.iter().map(|&buffer| Arc::clone(buffer)).collect();
        self.packs.push(PackCall {
            pipeline,
            bind_group,
            immediates: dispatch.immediates,
            grid: dispatch.grid,
            _buffers,
        });
        Ok(())
    }

    /// Submits the current chunk with the copies and dispatches that read it.
    fn submit(&mut self) -> Result<()> {
        if self.current.is_none() && self.packs.is_empty() {
            return Ok(());
        }
        let current = self.current.take().map(|(chunk, used)| (&mut self.chunks[chunk], used));
        let (copies, packs) = (std::mem::take(&mut self.copies), std::mem::take(&mut self.packs));
        let gpu = &self.gpu;
        if let Some((chunk, _)) = &current {
            chunk.host.unmap();
        }
        let submission = gpu.scoped("upload", || {
            let mut encoder = gpu.device().create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            if let Some((chunk, used)) = &current {
                let host = chunk.host.buffer();
                if let Some(device) = chunk.device.as_ref().filter(|device| !Arc::ptr_eq(device, host)) {
                    encoder.copy_buffer_to_buffer(host.raw(), 0, device.raw(), 0, *used as u64);
                }
                for copy in &copies {
                    encoder.copy_buffer_to_buffer(host.raw(), copy.from, copy.to.raw(), copy.at, copy.bytes);
                }
            }
            if !packs.is_empty() {
                let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
                for call in &packs {
                    pass.set_pipeline(&call.pipeline.raw);
                    pass.set_bind_group(0, &call.bind_group, &[]);
                    pass.set_immediates(0, bytemuck::cast_slice(&call.immediates));
                    pass.dispatch_workgroups(call.grid[0], call.grid[1], call.grid[2]);
                }
            }
            gpu.account().count_submit();
            Ok(gpu.queue().submit([encoder.finish()]))
        })?;
        if let Some((chunk, _)) = current {
            chunk.host.map(Direction::ToDevice);
            chunk.submission = Some(submission);
        }
        Ok(())
    }
}

/// The dispatch of `pack.wgsl` for a region. Its bindings are only counted here.
fn pack_dispatch(gpu: &Gpu, dtype: DType, region: &Region, target: Target<'_>) -> Result<Dispatch> {
    let code = match dtype {
        DType::F32 => 0,
        DType::F64 => 1,
        DType::F16 => 2,
        DType::BF16 => 3,
        DType::I64 => 4,
        DType::I32 => 5,
        DType::I16 => 6,
        DType::I8 => 7,
        DType::U8 => 8,
        DType::Bool => 9,
        other => return Err(Error::unsupported(format!("`{}` is {other}, which does not run", target.name))),
    };
    let is_int = target.dtype == DType::I32;
    if is_int && dtype.is_float() {
        return Err(Error::unsupported(format!("`{}` is {dtype} where integers are needed", target.name)));
    }
    let dims = arrange(&region.dims);
    let runs = dims[0].size.div_ceil(PACK_RUN);
    let count: usize = runs * dims[1..].iter().map(|dim| dim.size).product::<usize>();
    let (groups, limit) = (count.div_ceil(PACK_THREADS), gpu.limits().max_compute_workgroups_per_dimension);
    let (row, grid) = fold(groups, limit).ok_or_else(|| {
        let text = format!("`{}` takes {groups} workgroups, device `{}`", target.name, gpu.info());
        Error::unsupported(format!("{text} has at most {limit} along each of two dimensions"))
    })?;
    let mut words = vec![count];
    words.extend(dims[1..].iter().map(|dim| dim.size));
    words.extend([PACK_RUN, dims[0].size, region.source]);
    words.extend(dims.iter().map(|dim| dim.source));
    words.push(region.target);
    words.extend(dims.iter().map(|dim| dim.target));
    words.extend([region.scale, row * PACK_THREADS]);
    let scale_dim = dims.iter().position(|dim| dim.scaled && target.scale.is_some()).unwrap_or(MOST_DIMS);
    let word = |word: usize| u32::try_from(word).map_err(|_| too_large(target.name));
    let mut source = Cow::Borrowed(include_str!("../../../shaders/pack.wgsl"));
    if target.dtype == DType::F16 {
        let half = source.replace("alias E = u32;", "alias E = f16;");
        let half = half.replace("return bits; // stored", "return f16(bitcast<f32>(bits));");
        source = Cow::Owned(format!("enable f16;\n{half}"));
    }
    Ok(Dispatch {
        shader: Shader { name: "pack", source },
        constants: vec![
            ("DTYPE", f64::from(code)),
            ("INT", f64::from(u8::from(is_int))),
            ("SCALE_DIM", scale_dim as f64),
        ],
        immediates: words.into_iter().map(word).collect::<Result<_>>()?,
        bindings: vec![Binding::Packed(0), Binding::Packed(0), Binding::Status],
        grid,
    })
}

/// Gives a region of one long dimension a second one, so that a thread has a run of elements to write; what is left
/// over is a region of its own.
fn with_runs(region: Region) -> Vec<Region> {
    let mut long = region.dims.iter().filter(|dim| dim.size > 1);
    let (Some(&dim), None) = (long.next(), long.next()) else { return vec![region] };
    let part = dim.size / PACK_RUN;
    if part < PACK_THREADS {
        return vec![region];
    }
    let whole = part * PACK_RUN;
    let outer = Dim { size: PACK_RUN, source: dim.source * part, target: dim.target * part, scaled: false };
    let cut = |start: usize, dims: Vec<Dim>| Region {
        source: region.source + start * dim.source,
        target: region.target + start * dim.target,
        scale: region.scale + if dim.scaled { start } else { 0 },
        dims,
    };
    let mut parts = Vec::new();
    if dim.scaled {
        // The scale would run along both.
        return vec![region];
    }
    parts.push(cut(0, vec![outer, Dim { size: part, ..dim }]));
    if whole < dim.size {
        parts.push(cut(whole, vec![Dim { size: dim.size - whole, ..dim }]));
    }
    parts
}

/// The dimensions in the order of `pack.wgsl`: first the one along which a thread runs, then the others, the innermost
/// of the target last.
fn arrange(dims: &[Dim]) -> [Dim; MOST_DIMS] {
    let mut rest: Vec<Dim> = dims.iter().copied().filter(|dim| dim.size > 1).collect();
    rest.sort_by_key(|dim| std::cmp::Reverse(dim.target));
    assert!(rest.len() <= MOST_DIMS, "the caller merged the dimensions");
    // The innermost of the source, but for the innermost of the target: writes beside each other are worth more.
    let others = rest.len().saturating_sub(1);
    let run = (0..others).filter(|&i| rest[i].size >= PACK_RUN / 2).min_by_key(|&i| rest[i].source);
    let unit = Dim { size: 1, source: 0, target: 0, scaled: false };
    let first = run.or((others > 0).then_some(others.wrapping_sub(1))).map_or(unit, |i| rest.remove(i));
    let mut arranged = [unit; MOST_DIMS];
    arranged[0] = first;
    let start = MOST_DIMS - rest.len();
    arranged[start..].copy_from_slice(&rest);
    arranged
}

fn too_large(name: &str) -> Error {
    Error::unsupported(format!("`{name}` has an element beyond the {}th, to which a GPU counts", u32::MAX))
}

/// Folds a number of workgroups into a grid: the workgroups of a row, and the grid.
fn fold(groups: usize, limit: u32) -> Option<(usize, [u32; 3])> {
    let rows = groups.div_ceil(limit as usize);
    let row = groups.div_ceil(rows.max(1));
    Some((row, [u32::try_from(row).ok()?, u32::try_from(rows).ok().filter(|&rows| rows <= limit)?, 1]))
}

/// The number of source elements from the first to past the last of a box.
pub(super) fn span(dims: &[Dim]) -> usize {
    1 + dims.iter().map(|dim| (dim.size - 1) * dim.source).sum::<usize>()
}

/// Cuts a region into parts whose source spans at most `limit` elements each, along its longest strides.
fn split(region: &Region, limit: usize, parts: &mut Vec<Region>) {
    if span(&region.dims) <= limit.max(1) {
        return parts.push(region.clone());
    }
    let widest = (0..region.dims.len())
        .filter(|&i| region.dims[i].size > 1)
        .max_by_key(|&i| region.dims[i].source)
        .expect("a span of more than one element has such a dimension");
    let dim = region.dims[widest];
    let rest = span(&region.dims) - (dim.size - 1) * dim.source;
    let most = if rest > limit { 1 } else { (limit - rest) / dim.source + 1 };
    let size = dim.size.div_ceil(dim.size.div_ceil(most));
    for start in (0..dim.size).step_by(size) {
        let mut part = region.clone();
        part.dims[widest].size = size.min(dim.size - start);
        part.source += start * dim.source;
        part.target += start * dim.target;
        part.scale += if dim.scaled { start } else { 0 };
        split(&part, limit, parts);
    }
}

/// Whether a region is a plain copy of words.
pub(super) fn is_copy(dtype: DType, target: DType, region: &Region) -> bool {
    let mut dims: Vec<&Dim> = region.dims.iter().filter(|dim| dim.size > 1).collect();
    dims.sort_by_key(|dim| dim.source);
    let mut stride = 1;
    let dense = dims.iter().all(|dim| {
        let fits = dim.source == stride && dim.target == stride;
        stride *= dim.size;
        fits
    });
    let words = |elements: usize| (elements * target.size()).is_multiple_of(4);
    dense && dtype == target && words(stride) && words(region.target)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(dims: &[(usize, usize, usize)]) -> Region {
        let dim = |&(size, source, target): &(usize, usize, usize)| Dim { size, source, target, scaled: false };
        Region { source: 3, target: 0, scale: 0, dims: dims.iter().map(dim).collect() }
    }

    /// The parts of a region cover each of its elements once, and none spans more than the limit.
    #[test]
    fn parts_cover_the_region() {
        fn elements(region: &Region) -> Vec<(usize, usize)> {
            let mut all = vec![(region.source, region.target)];
            for dim in &region.dims {
                let step = |i: usize| move |&(s, t): &(usize, usize)| (s + i * dim.source, t + i * dim.target);
                all = (0..dim.size).flat_map(|i| all.iter().map(step(i)).collect::<Vec<_>>()).collect();
            }
            all.sort_unstable();
            all
        }
        for dims in [
            vec![(7, 30, 1), (5, 6, 7), (6, 1, 35)],
            vec![(4, 1, 9), (9, 4, 1)],
            vec![(3, 0, 8), (8, 1, 1)],
            vec![(2, 100, 3), (3, 7, 1)],
            vec![],
        ] {
            let region = region(&dims);
            for limit in [1, 2, 5, 16, 31, 1000] {
                let mut parts = Vec::new();
                split(&region, limit, &mut parts);
                assert!(parts.iter().all(|part| span(&part.dims) <= limit), "{dims:?} {limit}");
                let mut all: Vec<_> = parts.iter().flat_map(elements).collect();
                all.sort_unstable();
                assert_eq!(all, elements(&region), "{dims:?} {limit}");
            }
        }
    }

    #[test]
    fn copies_are_recognised() {
        assert!(is_copy(DType::F32, DType::F32, &region(&[(4, 3, 3), (3, 1, 1)])));
        assert!(is_copy(DType::I32, DType::I32, &region(&[(1, 99, 0), (3, 1, 1)])));
        assert!(!is_copy(DType::I32, DType::F32, &region(&[(3, 1, 1)])));
        assert!(!is_copy(DType::F32, DType::F32, &region(&[(3, 1, 4), (4, 3, 1)])));
        assert!(!is_copy(DType::F32, DType::F32, &region(&[(4, 3, 4), (3, 1, 1)])));
    }

    #[test]
    fn grids_are_folded() {
        assert_eq!(fold(5, 65_535), Some((5, [5, 1, 1])));
        assert_eq!(fold(65_536, 65_535), Some((32_768, [32_768, 2, 1])));
        assert_eq!(fold(0, 4), Some((0, [0, 0, 1])));
        assert_eq!(fold(17, 4), None);
    }
}
