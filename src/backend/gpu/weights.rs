//! Weights: the constant buffers of a model on a GPU, shared by all of its plans.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Weak};

use super::direct::Fill;
use super::dispatch::Pack;
use super::kernels::winograd;
use super::precision;
use super::run;
use super::upload::{Dim, MOST_DIMS, Region, Source, Target, Uploader, span};
use crate::backend::key::WeightKey;
use crate::checkpoint::{Storage, StoredTensor};
use crate::device::gpu::Gpu;
use crate::device::memory::{Buffer, Purpose};
use crate::device::staging::{Direction, Mapped};
use crate::dtype::{DType, Precision};
use crate::error::{Error, Result};
use crate::graph::op::Parameter;
use crate::graph::step::{self, BufferId, Memory};
use crate::graph::view::View;
use crate::tensor::{Tensor, bytes_to_f32};

/// A strided source is copied together on the host when it spans this many times its elements.
const SPARSE: usize = 4;

/// More elements than this are no scale.
const MOST_FACTORS: u64 = 1 << 18;

/// The constant buffers that are on the device, by what they hold.
pub(crate) struct Weights {
    gpu: Arc<Gpu>,
    precision: Precision,
    entries: HashMap<Key, Entry>,
    /// What the plan that is being made has added; dropped again when it fails.
    fresh: Vec<Key>,
    /// Results of prologue steps that the host needs while the plan is being made.
    read: HashMap<u64, Arc<[f32]>>,
}

struct Entry {
    buffer: Arc<Buffer>,
    /// Keeps the address that is in the key from being used again.
    _storage: Option<Weak<Storage>>,
}

/// What a buffer holds: a value, in a form.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    value: WeightKey,
    form: Form,
}

#[derive(Clone, PartialEq, Eq, Hash)]
enum Form {
    /// Contiguous.
    Plain { dtype: DType },
    /// As the pack says; its `weight` and `scale` are those of the key.
    Packed { pack: Pack, scale: Option<Box<WeightKey>> },
}

/// The name of a buffer in errors.
pub(super) fn name_of(memory: &Memory) -> &str {
    match memory {
        Memory::Parameter(parameter) => &parameter.name,
        Memory::Constant(_) => "constant",
        Memory::Derived(_) => "folded weight",
        Memory::Arena { .. } => "activation",
    }
}

impl Weights {
    /// No weights yet, of a model that computes exactly.
    pub(crate) fn new(gpu: &Arc<Gpu>) -> Self {
        Self {
            gpu: Arc::clone(gpu),
            precision: Precision::Exact,
            entries: HashMap::new(),
            fresh: Vec::new(),
            read: HashMap::new(),
        }
    }

    /// No weights yet, of a model of this precision.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) when the device cannot compute so.
    pub(crate) fn with_precision(gpu: &Arc<Gpu>, precision: Precision) -> Result<Self> {
        precision::check(gpu, precision)?;
        Ok(Self::untested(gpu, precision))
    }

    /// The same, whether or not the device computes so.
    pub(super) fn untested(gpu: &Arc<Gpu>, precision: Precision) -> Self {
        Self { precision, ..Self::new(gpu) }
    }

    pub(super) fn precision(&self) -> Precision {
        self.precision
    }

    pub(super) fn gpu(&self) -> &Arc<Gpu> {
        &self.gpu
    }

    /// The bytes that the weights take on the device.
    pub(crate) fn bytes(&self) -> usize {
        self.entries.values().map(|entry| entry.buffer.size() as usize).sum()
    }

    /// Keeps what was added since the last call, or drops it when the plan that it was for `failed`.
    pub(super) fn settle(&mut self, failed: bool) {
        self.read.clear();
        for key in self.fresh.drain(..) {
            if failed {
                self.entries.remove(&key);
            }
        }
    }

    /// A weight as contiguous `f32` or `i32`.
    pub(super) fn plain(&mut self, up: &mut Uploader, buffer: &step::Buffer) -> Result<Arc<Buffer>> {
        self.contiguous(up, buffer, false)
    }

    /// The same, or `f16` in place of `f32` when `half`.
    pub(super) fn contiguous(&mut self, up: &mut Uploader, buffer: &step::Buffer, half: bool) -> Result<Arc<Buffer>> {
        let dtype = element(buffer.is_int, half);
        let key = Key { value: WeightKey::new(buffer), form: Form::Plain { dtype } };
        if let Some(entry) = self.entries.get(&key) {
            return Ok(Arc::clone(&entry.buffer));
        }
        let name = name_of(&buffer.memory);
        let (held, shape) = match &buffer.memory {
            Memory::Parameter(parameter) => (Held::of(&parameter.tensor, None)?, parameter.tensor.shape().to_vec()),
            Memory::Constant(tensor) => (Held::constant(tensor), tensor.shape().to_vec()),
            Memory::Derived(_) if dtype == DType::F16 => {
                // It was computed in f32.
                let source = self.plain(up, buffer)?;
                let made = self.allocate(name, buffer.len, dtype)?;
                let dims = plain_dims(&View::contiguous(&[buffer.len]));
                let region = Region { source: 0, target: 0, scale: 0, dims };
                up.upload(Source::Device(&source, DType::F32), &region, Target::plain(name, &made, dtype))?;
                self.insert(key, &buffer.memory, &made);
                return Ok(made);
            }
            Memory::Derived(_) => return Err(Error::device(format!("`{name}` is used before it is computed"))),
            Memory::Arena { .. } => unreachable!("an activation is not a weight"),
        };
        if shape.iter().product::<usize>() != buffer.len {
            return Err(Error::shape(format!("`{name}` has shape {shape:?}, {} elements are needed", buffer.len)));
        }
        let made = self.promise(name, buffer.len, dtype)?;
        let region = Region { source: held.view.offset, target: 0, scale: 0, dims: plain_dims(&held.view) };
        let fill =
            Fill { name: quoted(name), held, region, dtype, factors: None, points: None, buffer: Arc::clone(&made) };
        if let Some(fill) = up.fill(fill) {
            made.make(&self.gpu, &fill.name, false)?;
            up.upload(fill.held.source(), &fill.region, Target::plain(name, &made, dtype))?;
        }
        self.insert(key, &buffer.memory, &made);
        Ok(made)
    }

    /// A weight as a kernel wants it packed.
    pub(super) fn packed(&mut self, up: &mut Uploader, buffers: &[step::Buffer], pack: &Pack) -> Result<Arc<Buffer>> {
        let weight = &buffers[pack.weight.0];
        let scale = pack.scale.map(|scale| Box::new(WeightKey::new(&buffers[scale.0])));
        let neutral = Pack { weight: BufferId(0), scale: None, ..pack.clone() };
        let key = Key { value: WeightKey::new(weight), form: Form::Packed { pack: neutral, scale } };
        if let Some(entry) = self.entries.get(&key) {
            return Ok(Arc::clone(&entry.buffer));
        }
        let name = name_of(&weight.memory);
        let dtype = element(weight.is_int, pack.half);
        let made = self.promise(name, pack.packed_len(), dtype)?;
        let held = match &weight.memory {
            Memory::Parameter(parameter) => Some(Held::of(&parameter.tensor, Some(&pack.shape))?),
            Memory::Constant(tensor) => Some(Held { view: View::contiguous(&pack.shape), ..Held::constant(tensor) }),
            Memory::Derived(_) => None,
            Memory::Arena { .. } => unreachable!("an activation is not a weight"),
        };
        let held = match held {
            Some(held) => match self.fill(up, buffers, pack, held, &made)? {
                Some(held) => Some(held),
                None => {
                    self.insert(key, &weight.memory, &made);
                    return Ok(made);
                }
            },
            None => None,
        };
        made.make(&self.gpu, &quoted(name), false)?;
        let scale = pack.scale.map(|scale| self.plain(up, &buffers[scale.0])).transpose()?;
        let ordered = match pack.winograd {
            true => self.allocate(name, pack.packed_shape().iter().product(), dtype)?,
            false => Arc::clone(&made),
        };
        let target = Target { scale: scale.as_ref(), ..Target::plain(name, &ordered, dtype) };
        match &held {
            Some(held) => up.upload(held.source(), &pack_region(&held.view, pack), target)?,
            None => {
                let source = self.plain(up, weight)?;
                let dtype = element(weight.is_int, false);
                let region = pack_region(&View::contiguous(&pack.shape), pack);
                up.upload(Source::Device(&source, dtype), &region, target)?;
            }
        }
        if pack.winograd {
            let limit = self.gpu.limits().max_compute_workgroups_per_dimension as usize;
            up.dispatch(winograd::weight(pack, limit)?, &[&ordered, &made], name)?;
        }
        self.insert(key, &weight.memory, &made);
        Ok(made)
    }

    /// Has the host pack a weight into the buffer that is promised for it; gives the weight back where shaders must.
    fn fill(
        &mut self,
        up: &mut Uploader,
        buffers: &[step::Buffer],
        pack: &Pack,
        held: Held,
        buffer: &Arc<Buffer>,
    ) -> Result<Option<Held>> {
        if !self.gpu.packs_on_host() {
            return Ok(Some(held));
        }
        let factors = pack.scale.map(|scale| self.factors(&buffers[scale.0])).transpose()?;
        if factors.as_ref().is_some_and(Option::is_none) {
            return Ok(Some(held));
        }
        let weight = &buffers[pack.weight.0];
        let fill = Fill {
            name: quoted(name_of(&weight.memory)),
            region: pack_region(&held.view, pack),
            held,
            dtype: element(weight.is_int, pack.half),
            factors: factors.flatten(),
            points: pack.winograd.then(|| pack.packed_shape()[3]),
            buffer: Arc::clone(buffer),
        };
        Ok(up.fill(fill).map(|fill| fill.held))
    }

    /// The numbers of a scale, for the host.
    fn factors(&mut self, scale: &step::Buffer) -> Result<Option<Arc<[f32]>>> {
        Ok(match &scale.memory {
            Memory::Parameter(Parameter { tensor, .. }) if tensor.dtype().is_float() => {
                Some(bytes_to_f32(tensor.dtype(), &tensor.contiguous_bytes()?)?.into())
            }
            Memory::Derived(key) => {
                if !self.read.contains_key(key) {
                    self.read_derived()?;
                }
                self.read.get(key).cloned()
            }
            _ => None,
        })
    }

    /// Reads back what prologue steps made of few elements, all at once: a wait for each would take long.
    fn read_derived(&mut self) -> Result<()> {
        let is_small = |buffer: &Buffer| buffer.size() <= MOST_FACTORS * 4;
        let of_entry = |(key, entry): (&Key, &Entry)| match key {
            Key { value: WeightKey::Derived(value), form: Form::Plain { dtype: DType::F32 } } => {
                is_small(&entry.buffer).then(|| (*value, Arc::clone(&entry.buffer)))
            }
            _ => None,
        };
        let all: Vec<(u64, Arc<Buffer>)> = self.entries.iter().filter_map(of_entry).collect();
        let bytes = all.iter().map(|(_, buffer)| buffer.size()).sum();
        let host = Mapped::new(&self.gpu, "scales", bytes, Direction::ToHost, false)?;
        let submission = self.gpu.scoped("scales", || {
            let mut encoder = run::new_encoder(&self.gpu);
            let mut at = 0;
            for (_, buffer) in &all {
                encoder.copy_buffer_to_buffer(buffer.raw(), 0, host.buffer().raw(), at, buffer.size());
                at += buffer.size();
            }
            Ok(run::submit(&self.gpu, encoder))
        })?;
        host.map(Direction::ToHost);
        host.wait(&self.gpu, Some(&submission))?;
        host.read(|mut bytes| {
            for (value, buffer) in &all {
                let (own, rest) = bytes.split_at(buffer.size() as usize);
                self.read.insert(*value, bytemuck::pod_collect_to_vec::<u8, f32>(own).into());
                bytes = rest;
            }
            Ok(())
        })
    }

    /// Whether the result of a prologue step is there.
    pub(super) fn has_derived(&self, buffer: &step::Buffer) -> bool {
        let form = Form::Plain { dtype: element(buffer.is_int, false) };
        self.entries.contains_key(&Key { value: WeightKey::new(buffer), form })
    }

    /// A buffer for the result of a prologue step, which the caller computes at once.
    pub(super) fn derive(&mut self, buffer: &step::Buffer) -> Result<Arc<Buffer>> {
        let dtype = element(buffer.is_int, false);
        let made = self.allocate(name_of(&buffer.memory), buffer.len, dtype)?;
        let form = Form::Plain { dtype };
        self.insert(Key { value: WeightKey::new(buffer), form }, &buffer.memory, &made);
        Ok(made)
    }

    fn allocate(&self, name: &str, len: usize, dtype: DType) -> Result<Arc<Buffer>> {
        let buffer = self.promise(name, len, dtype)?;
        buffer.make(&self.gpu, &quoted(name), false)?;
        Ok(buffer)
    }

    /// A buffer that somebody else makes, when it is known who fills it.
    fn promise(&self, name: &str, len: usize, dtype: DType) -> Result<Arc<Buffer>> {
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::COPY_SRC;
        let bytes = (len * dtype.size()) as u64;
        Ok(Arc::new(Buffer::promise(&self.gpu, &quoted(name), bytes, usage, Purpose::Weights)?))
    }

    fn insert(&mut self, key: Key, memory: &Memory, buffer: &Arc<Buffer>) {
        let storage = match memory {
            Memory::Parameter(parameter) => Some(Arc::downgrade(parameter.tensor.storage())),
            _ => None,
        };
        self.fresh.push(key.clone());
        self.entries.insert(key, Entry { buffer: Arc::clone(buffer), _storage: storage });
    }
}

fn quoted(name: &str) -> String {
    format!("`{name}`")
}

/// What a buffer holds.
pub(super) fn element(is_int: bool, half: bool) -> DType {
    match (is_int, half) {
        (true, _) => DType::I32,
        (false, true) => DType::F16,
        (false, false) => DType::F32,
    }
}

/// Host data with the view under which it is uploaded.
pub(super) struct Held {
    data: Data,
    view: View,
}

enum Data {
    Stored(Arc<Storage>, DType),
    Bytes(Vec<u8>, DType),
    Constant(Tensor),
}

impl Held {
    /// A tensor of a file, seen as `shape`; as its own shape when that is `None`. It is copied together on the host
    /// only when no strides describe it, or when it lies too far apart.
    fn of(tensor: &StoredTensor, shape: Option<&[usize]>) -> Result<Self> {
        let own = View { shape: tensor.shape().to_vec(), strides: tensor.stride().to_vec(), offset: tensor.offset() };
        let view = match shape {
            Some(shape) => own.reshape(shape),
            None => Some(own),
        };
        let fits = |view: &View| {
            let dims = plain_dims(view);
            tensor.bits() == (false, false)
                && (shape.is_some() || dims.len() <= MOST_DIMS)
                && (view.numel() == 0 || span(&dims) <= view.numel().max(1024) * SPARSE)
        };
        match view.filter(fits) {
            Some(view) => Ok(Self { data: Data::Stored(Arc::clone(tensor.storage()), tensor.dtype()), view }),
            None => {
                let shape = shape.unwrap_or(tensor.shape());
                let data = Data::Bytes(tensor.contiguous_bytes()?.into_owned(), tensor.dtype());
                Ok(Self { data, view: View::contiguous(shape) })
            }
        }
    }

    fn constant(tensor: &Tensor) -> Self {
        Self { data: Data::Constant(tensor.clone()), view: View::contiguous(tensor.shape()) }
    }

    pub(super) fn dtype(&self) -> DType {
        self.source().dtype()
    }

    pub(super) fn bytes(&self) -> Result<&[u8]> {
        match &self.data {
            Data::Stored(storage, _) => storage.bytes(),
            Data::Bytes(bytes, _) => Ok(bytes),
            Data::Constant(tensor) => Ok(tensor.bytes()),
        }
    }

    /// Gives back the pages of a file that lie in a range of the bytes.
    pub(super) fn release(&self, range: Range<usize>) {
        if let Data::Stored(storage, _) = &self.data {
            storage.release_pages(range);
        }
    }

    fn source(&self) -> Source<'_> {
        match &self.data {
            Data::Stored(storage, dtype) => Source::Stored(storage, *dtype),
            Data::Bytes(bytes, dtype) => Source::Bytes(bytes, *dtype),
            Data::Constant(tensor) => Source::Bytes(tensor.bytes(), tensor.dtype()),
        }
    }
}

/// The dimensions of a view that becomes contiguous; those that lie alike on both sides are one.
fn plain_dims(view: &View) -> Vec<Dim> {
    let targets = View::contiguous(&view.shape).strides;
    let mut dims: Vec<Dim> = Vec::new();
    for (i, &size) in view.shape.iter().enumerate().filter(|&(_, &size)| size != 1) {
        let dim = Dim { size, source: view.strides[i], target: targets[i], scaled: false };
        match dims.last_mut() {
            Some(last) if last.source == dim.source * size && last.target == dim.target * size => {
                *last = Dim { size: last.size * size, ..dim };
            }
            _ => dims.push(dim),
        }
    }
    dims
}

/// The region that packs a view of the pack's shape.
fn pack_region(view: &View, pack: &Pack) -> Region {
    let packed = View::contiguous(&pack.packed_shape()).strides;
    let dims = (0..pack.shape.len()).map(|d| Dim {
        size: if d == pack.channel_dim { pack.channels.len() } else { pack.shape[d] },
        source: view.strides[d],
        target: packed[pack.order.iter().position(|&o| o == d).expect("`order` has every dimension")],
        scaled: d == pack.channel_dim,
    });
    let start = pack.channels.start;
    Region {
        source: view.offset + start * view.strides.get(pack.channel_dim).copied().unwrap_or(0),
        target: 0,
        scale: start,
        dims: dims.collect(),
    }
}
