//! The weights of a model on the CPU, in the forms in which its kernels read them, shared by the plans of the model.

use std::collections::HashMap;
use std::sync::Arc;

use super::Engine;
use super::conv::ConvWeights;
use super::linear::LinearWeights;
use super::pack::{WeightSource, stored_floats};
use crate::backend::key::WeightKey;
use crate::checkpoint::StoredTensor;
use crate::device::pool::Pool;
use crate::error::{Error, Result};
use crate::graph::step::{Buffer, ConvStep, LinearStep, Memory};
use crate::tensor::{Tensor, bytes_to_f32};

/// The weights that the plans of one model use.
pub(crate) struct Weights {
    pub(super) engine: Engine,
    plain: HashMap<WeightKey, Arc<Constant>>,
    convs: HashMap<(WeightKey, Option<WeightKey>, usize), Arc<ConvWeights>>,
    linears: HashMap<(WeightKey, Option<WeightKey>, bool), Arc<LinearWeights>>,
}

/// A constant value as kernels read it: contiguous `f32`, or `i32` by their bits.
#[derive(Debug)]
pub(crate) enum Constant {
    /// Used where the file has it.
    Stored(StoredTensor),
    Owned(Vec<f32>),
}

impl Constant {
    pub(super) fn as_slice(&self) -> &[f32] {
        match self {
            Constant::Stored(tensor) => stored_floats(tensor).expect("checked when it was made"),
            Constant::Owned(data) => data,
        }
    }

    fn owned_bytes(&self) -> usize {
        match self {
            Constant::Stored(_) => 0,
            Constant::Owned(data) => size_of_val(&data[..]),
        }
    }
}

impl Weights {
    /// No weights yet.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) when `SCONCE_CPU` names no instruction set of this machine.
    pub(crate) fn new(pool: &Arc<Pool>) -> Result<Self> {
        let engine = Engine { isa: super::isa::Isa::choose()?, pool: Arc::clone(pool) };
        Ok(Self { engine, plain: HashMap::new(), convs: HashMap::new(), linears: HashMap::new() })
    }

    /// The bytes of the weights that are not used where the file has them.
    pub(crate) fn bytes(&self) -> usize {
        self.plain.values().map(|constant| constant.owned_bytes()).sum::<usize>()
            + self.convs.values().map(|weights| weights.bytes()).sum::<usize>()
            + self.linears.values().map(|weights| weights.bytes()).sum::<usize>()
    }

    /// Forgets what no plan uses.
    pub(super) fn drop_unused(&mut self) {
        self.plain.retain(|_, constant| Arc::strong_count(constant) > 1);
    }

    /// What is known already under the buffer's key.
    pub(super) fn known(&self, buffer: &Buffer) -> Option<Arc<Constant>> {
        self.plain.get(&WeightKey::new(&buffer.memory)).cloned()
    }

    /// Keeps the result of prologue steps.
    pub(super) fn keep(&mut self, buffer: &Buffer, data: Vec<f32>) {
        self.plain.insert(WeightKey::new(&buffer.memory), Arc::new(Constant::Owned(data)));
    }

    /// The constant as contiguous numbers.
    pub(super) fn plain(&mut self, buffer: &Buffer) -> Result<Arc<Constant>> {
        if let Some(known) = self.known(buffer) {
            return Ok(known);
        }
        let constant = match &buffer.memory {
            Memory::Parameter(parameter) if !buffer.is_int && stored_floats(&parameter.tensor).is_some() => {
                Constant::Stored(parameter.tensor.clone())
            }
            Memory::Parameter(parameter) => {
                let bytes = parameter.tensor.contiguous_bytes()?;
                let tensor = Tensor::from_bytes(parameter.tensor.dtype(), parameter.tensor.shape().clone(), &bytes)?;
                Constant::Owned(words(&tensor, buffer.is_int).map_err(|e| e.context(format!("`{}`", parameter.name)))?)
            }
            Memory::Constant(tensor) => Constant::Owned(words(tensor, buffer.is_int)?),
            Memory::Derived(_) | Memory::Arena { .. } => {
                return Err(Error::device("a folded weight is used before it is computed"));
            }
        };
        let constant = Arc::new(constant);
        self.plain.insert(WeightKey::new(&buffer.memory), Arc::clone(&constant));
        Ok(constant)
    }

    pub(super) fn conv(
        &mut self,
        step: &ConvStep,
        weight: &Buffer,
        scale: Option<&Buffer>,
    ) -> Result<Arc<ConvWeights>> {
        let key = (WeightKey::new(&weight.memory), scale.map(|scale| WeightKey::new(&scale.memory)), step.groups);
        if let Some(known) = self.convs.get(&key) {
            return Ok(Arc::clone(known));
        }
        let packed = self.pack(weight, scale, |source, scale, engine| {
            ConvWeights::new(step, source, scale, engine.isa, &engine.pool)
        })?;
        release(&weight.memory);
        let packed = Arc::new(packed);
        self.convs.insert(key, Arc::clone(&packed));
        Ok(packed)
    }

    pub(super) fn linear(
        &mut self,
        step: &LinearStep,
        weight: &Buffer,
        scale: Option<&Buffer>,
    ) -> Result<Arc<LinearWeights>> {
        let in_place = match &weight.memory {
            Memory::Parameter(parameter) => LinearWeights::is_in_place(step, WeightSource::Stored(&parameter.tensor)),
            _ => false,
        };
        let key = (WeightKey::new(&weight.memory), scale.map(|scale| WeightKey::new(&scale.memory)), in_place);
        if let Some(known) = self.linears.get(&key) {
            return Ok(Arc::clone(known));
        }
        let packed = self.pack(weight, scale, |source, scale, engine| {
            LinearWeights::new(step, source, scale, engine.isa, &engine.pool)
        })?;
        if !in_place {
            release(&weight.memory);
        }
        let packed = Arc::new(packed);
        self.linears.insert(key, Arc::clone(&packed));
        Ok(packed)
    }

    fn pack<T>(
        &mut self,
        weight: &Buffer,
        scale: Option<&Buffer>,
        pack: impl FnOnce(WeightSource<'_>, Option<&[f32]>, &Engine) -> Result<T>,
    ) -> Result<T> {
        let scale = scale.map(|scale| self.plain(scale)).transpose()?;
        let scale = scale.as_ref().map(|scale| scale.as_slice());
        match &weight.memory {
            Memory::Parameter(parameter) => pack(WeightSource::Stored(&parameter.tensor), scale, &self.engine)
                .map_err(|error| error.context(format!("`{}`", parameter.name))),
            _ => {
                let computed = self.plain(weight)?;
                pack(WeightSource::Computed(computed.as_slice()), scale, &self.engine)
            }
        }
    }
}

/// Lets go of the file's pages once the weight is packed.
fn release(memory: &Memory) {
    if let Memory::Parameter(parameter) = memory {
        parameter.tensor.storage().release_pages(parameter.tensor.span());
    }
}

/// The elements as the words that kernels compute with.
fn words(tensor: &Tensor, is_int: bool) -> Result<Vec<f32>> {
    if !is_int {
        return bytes_to_f32(tensor.dtype(), tensor.bytes());
    }
    tensor
        .to_i64()?
        .into_iter()
        .map(|x| match i32::try_from(x) {
            Ok(x) => Ok(f32::from_bits(x.cast_unsigned())),
            Err(_) => Err(Error::unsupported(format!("the integer {x} does not fit 32 bits"))),
        })
        .collect()
}
