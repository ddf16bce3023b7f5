//! The weights of a model as the CPU uses them, shared by the model's plans.

use std::collections::HashMap;
use std::sync::Arc;

use super::Engine;
use super::conv::{ConvWeights, Method};
use super::isa::Isa;
use super::linear::LinearWeights;
use super::pack::{Floats, WeightSource, stored_floats};
use crate::backend::key::WeightKey;
use crate::checkpoint::{Storage, StoredTensor};
use crate::device::pool::Pool;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::graph::step::{ConvStep, LinearStep};
use crate::tensor::{Tensor, write_f32};

/// What was made of a model's parameters: copies of those that are not used where they lie, packed ones, and results
/// of prologue steps.
#[derive(Debug)]
pub(crate) struct Weights {
    pub(crate) engine: Engine,
    plain: HashMap<WeightKey, Values>,
    packed: HashMap<PackKey, Packed>,
}

/// The elements of a weight, `f32` or the bits of `i32`, and what keeps them in memory.
#[derive(Clone, Debug)]
pub(crate) struct Values {
    pub(super) start: *const f32,
    pub(super) len: usize,
    keeper: Keeper,
}

// SAFETY: the elements are never written, and the keeper keeps them alive.
unsafe impl Send for Values {}
// SAFETY: as above.
unsafe impl Sync for Values {}

#[derive(Clone, Debug)]
enum Keeper {
    Floats(Arc<Floats>),
    Storage(#[expect(dead_code, reason = "it keeps the elements alive")] Arc<Storage>),
}

/// Everything that a packed weight depends on, besides the instruction set.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PackKey {
    pub(crate) weight: WeightKey,
    pub(crate) scale: Option<WeightKey>,
    pub(crate) form: Form,
}

/// For what a weight is packed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Form {
    Conv { channels: [usize; 2], kernel: [usize; 2], groups: usize, method: Method },
    Linear { k: usize, n: usize, in_place: bool },
}

/// A weight in the form that its kernel reads.
#[derive(Clone, Debug)]
pub(crate) enum Packed {
    Conv(Arc<ConvWeights>),
    Linear(Arc<LinearWeights>),
}

impl Values {
    pub(crate) fn of(floats: &Arc<Floats>) -> Self {
        let slice = floats.as_slice();
        Self { start: slice.as_ptr(), len: slice.len(), keeper: Keeper::Floats(Arc::clone(floats)) }
    }

    pub(crate) fn as_slice(&self) -> &[f32] {
        match self.len {
            0 => &[],
            // SAFETY: the keeper keeps so many elements alive, which nobody writes.
            len => unsafe { std::slice::from_raw_parts(self.start, len) },
        }
    }

    /// `len` elements from `offset` on, if there are so many.
    pub(crate) fn part(mut self, offset: usize, len: usize) -> Option<Self> {
        self.start = self.as_slice().get(offset..offset.checked_add(len)?)?.as_ptr();
        self.len = len;
        Some(self)
    }

    /// The bytes of a copy; none where the elements are those of the file.
    fn bytes(&self) -> usize {
        match self.keeper {
            Keeper::Floats(_) => self.len * size_of::<f32>(),
            Keeper::Storage(_) => 0,
        }
    }
}

impl Packed {
    fn bytes(&self) -> usize {
        match self {
            Packed::Conv(weights) => weights.bytes(),
            Packed::Linear(weights) => weights.bytes(),
        }
    }
}

impl Weights {
    /// # Errors
    /// When `SCONCE_CPU` names no instruction set of this machine.
    pub(crate) fn new(pool: &Arc<Pool>) -> Result<Self> {
        Ok(Self::with_isa(Isa::choose()?, Arc::clone(pool)))
    }

    pub(crate) fn with_isa(isa: Isa, pool: Arc<Pool>) -> Self {
        Self { engine: Engine { isa, pool }, plain: HashMap::new(), packed: HashMap::new() }
    }

    /// The bytes of all weights that are not used where the file has them.
    pub(crate) fn bytes(&self) -> usize {
        let plain: usize = self.plain.values().map(Values::bytes).sum();
        plain + self.packed.values().map(Packed::bytes).sum::<usize>()
    }

    /// Values that are known already.
    pub(super) fn values(&self, key: &WeightKey) -> Option<Values> {
        self.plain.get(key).cloned()
    }

    /// Keeps values for later plans.
    pub(super) fn keep(&mut self, key: WeightKey, values: &Values) {
        self.plain.insert(key, values.clone());
    }

    /// A weight that was packed for this key.
    pub(super) fn packed(&self, key: &PackKey) -> Option<Packed> {
        self.packed.get(key).cloned()
    }

    /// Keeps a packed weight for later plans.
    pub(super) fn keep_packed(&mut self, key: PackKey, packed: &Packed) {
        self.packed.insert(key, packed.clone());
    }

    /// Forgets the copies that only packing and prologue steps needed.
    pub(super) fn drop_unused(&mut self) {
        self.plain.retain(|_, values| match &values.keeper {
            Keeper::Floats(floats) => Arc::strong_count(floats) > 1,
            Keeper::Storage(_) => true,
        });
    }
}

/// A parameter as contiguous `f32` (or `i32`): where it lies when it is that already, else converted.
///
/// # Errors
/// When it cannot be read, or its dtype does not run.
pub(super) fn parameter(tensor: &StoredTensor, is_int: bool) -> Result<Values> {
    if !is_int && let Some(floats) = stored_floats(tensor) {
        let keeper = Keeper::Storage(Arc::clone(tensor.storage()));
        return Ok(Values { start: floats.as_ptr(), len: floats.len(), keeper });
    }
    let floats = converted(tensor.dtype(), &tensor.contiguous_bytes()?, is_int)?;
    tensor.storage().release_pages(tensor.span());
    Ok(Values::of(&Arc::new(floats)))
}

/// Packs a convolution's weight.
pub(crate) fn pack_conv(
    engine: &Engine,
    step: &ConvStep,
    method: Method,
    weight: WeightSource<'_>,
    scale: Option<&[f32]>,
) -> Result<Packed> {
    let packed = ConvWeights::new(step, method, weight, scale, engine.isa, &engine.pool)?;
    release(weight);
    Ok(Packed::Conv(Arc::new(packed)))
}

/// Packs a linear layer's weight, or takes it where it lies.
pub(crate) fn pack_linear(
    engine: &Engine,
    step: &LinearStep,
    weight: WeightSource<'_>,
    scale: Option<&[f32]>,
) -> Result<Packed> {
    let packed = LinearWeights::new(step, weight, scale, engine.isa, &engine.pool)?;
    if !LinearWeights::is_in_place(step, weight) {
        release(weight);
    }
    Ok(Packed::Linear(Arc::new(packed)))
}

/// The pages of a weight that was packed are no longer needed.
fn release(weight: WeightSource<'_>) {
    if let WeightSource::Stored(tensor) = weight {
        tensor.storage().release_pages(tensor.span());
    }
}

/// A constant of the program as `f32` or `i32`.
pub(crate) fn constant(tensor: &Tensor, is_int: bool) -> Result<Values> {
    Ok(Values::of(&Arc::new(converted(tensor.dtype(), tensor.bytes(), is_int)?)))
}

fn converted(dtype: DType, bytes: &[u8], is_int: bool) -> Result<Floats> {
    let mut floats = Floats::zeros(bytes.len() / dtype.size())?;
    convert(dtype, bytes, is_int, floats.as_mut_slice())?;
    Ok(floats)
}

/// Writes elements of any runnable dtype as `f32`, or as the bits of `i32`.
///
/// # Errors
/// When the dtype does not run, floats are asked for as integers, or an integer does not fit into 32 bits.
pub(crate) fn convert(dtype: DType, bytes: &[u8], is_int: bool, out: &mut [f32]) -> Result<()> {
    if !is_int {
        match bytemuck::try_cast_slice::<u8, f32>(bytes) {
            Ok(floats) if dtype == DType::F32 && cfg!(target_endian = "little") => out.copy_from_slice(floats),
            _ => write_f32(dtype, bytes, out)?,
        }
        return Ok(());
    }
    let out: &mut [i32] = bytemuck::cast_slice_mut(out);
    fn read<const N: usize>(bytes: &[u8], out: &mut [i32], convert: impl Fn([u8; N]) -> i64) -> Result<()> {
        for (i, (bytes, out)) in bytes.chunks_exact(N).zip(out).enumerate() {
            let x = convert(bytes.try_into().expect("N bytes"));
            *out = i32::try_from(x)
                .map_err(|_| Error::unsupported(format!("integer {x} at position {i} does not fit into 32 bits")))?;
        }
        Ok(())
    }
    match dtype {
        DType::I64 => read(bytes, out, i64::from_le_bytes),
        DType::I32 => read(bytes, out, |x| i32::from_le_bytes(x).into()),
        DType::I16 => read(bytes, out, |x| i16::from_le_bytes(x).into()),
        DType::I8 => read(bytes, out, |x| i8::from_le_bytes(x).into()),
        DType::U8 | DType::Bool => read(bytes, out, |x| u8::from_le_bytes(x).into()),
        other => Err(Error::shape(format!("{other} elements are not integers"))),
    }
}
