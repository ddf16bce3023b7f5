//! Makes the steps of a schedule ready: finds or makes the weights, and gives every argument its place in memory.

use std::sync::Arc;

use super::conv::Method;
use super::kernel::Prepared;
use super::linear::LinearWeights;
use super::pack::{Floats, WeightSource};
use super::plan::{MAX_INPUTS, Ready, Slot};
use super::weights::{self, Form, PackKey, Packed, Values, Weights};
use crate::backend::key::WeightKey;
use crate::backend::lens::Lens;
use crate::error::{Error, Result};
use crate::graph::step::{Arg, Buffer, BufferId, Kernel, Memory, Schedule, Step};

/// Makes steps ready.
pub(super) struct Builder<'a> {
    schedule: &'a Schedule,
    weights: &'a mut Weights,
    arenas: &'a mut [Floats],
    /// The values that slots point to.
    kept: Vec<Values>,
}

impl<'a> Builder<'a> {
    pub(super) fn new(schedule: &'a Schedule, weights: &'a mut Weights, arenas: &'a mut [Floats]) -> Self {
        Self { schedule, weights, arenas, kept: Vec::new() }
    }

    /// What the slots that were made point to.
    pub(super) fn into_kept(self) -> Vec<Values> {
        self.kept
    }

    /// A step with its slots. `method` is that of a convolution whose weight is the same in every run, `target` where
    /// the output buffer lies, if that is not in an arena.
    pub(super) fn ready(&mut self, step: &Step, method: Option<Method>, target: Option<Slot>) -> Result<Ready> {
        let lens = Lens::of(&step.kernel);
        if step.inputs.len() != lens.inputs.len() || lens.inputs.len() > MAX_INPUTS {
            return Err(Error::invalid(format!("{} inputs, expected {}", step.inputs.len(), lens.inputs.len())));
        }
        let prepared = self.prepare(step, method)?;
        // A weight that was packed, and its scale, are read no more.
        let skipped = match (&step.kernel, self.is_constant(step)) {
            (Kernel::Conv2d(conv), true) => [Some(1), conv.fused.scale_index()],
            (Kernel::Linear(linear), true) => [Some(1), linear.fused.scale_index()],
            _ => [None, None],
        };
        let mut inputs = Vec::with_capacity(step.inputs.len());
        for (i, (arg, len)) in step.inputs.iter().zip(&lens.inputs).enumerate() {
            let len = if skipped.contains(&Some(i)) { 0 } else { *len };
            inputs.push(self.slot(*arg, len)?);
        }
        let missing = || Error::invalid("the output is longer than its buffer");
        let output = match target {
            Some(slot) => slot.part(step.output.offset, lens.output).ok_or_else(missing)?,
            None if matches!(self.schedule.buffers[step.output.buffer.0].memory, Memory::Arena { .. }) => {
                self.slot(step.output, lens.output)?
            }
            None => return Err(Error::invalid("the output is not in an arena")),
        };
        if inputs.iter().any(|input| input.overlaps(output)) {
            return Err(Error::invalid("the step writes what it reads"));
        }
        Ok(Ready { name: step.name.clone(), kernel: step.kernel.clone(), prepared, inputs, output })
    }

    /// `len` elements of an argument.
    pub(super) fn slot(&mut self, arg: Arg, len: usize) -> Result<Slot> {
        if len == 0 {
            return Ok(Slot::EMPTY);
        }
        let buffer = &self.schedule.buffers[arg.buffer.0];
        let whole = match buffer.memory {
            Memory::Arena { arena, offset } => Slot::of_floats(&mut self.arenas[arena]).part(offset / 4, buffer.len),
            _ => {
                let values = self.values(arg.buffer)?;
                let slot = Slot::of_values(&values);
                self.kept.push(values);
                Some(slot)
            }
        };
        whole
            .and_then(|whole| whole.part(arg.offset, len))
            .ok_or_else(|| Error::invalid("an argument reaches past the end of its buffer"))
    }

    /// The values of a buffer that is not in an arena: known, or made now.
    fn values(&mut self, buffer: BufferId) -> Result<Values> {
        let Buffer { memory, is_int, .. } = &self.schedule.buffers[buffer.0];
        let key = match memory {
            Memory::Arena { .. } => return Err(Error::invalid("a computed value is used as a weight")),
            _ => WeightKey::new(&self.schedule.buffers[buffer.0]),
        };
        if let Some(values) = self.weights.values(&key) {
            return Ok(values);
        }
        let values = match memory {
            Memory::Parameter(parameter) => weights::parameter(&parameter.tensor, *is_int)
                .map_err(|error| error.context(format!("`{}`", parameter.name)))?,
            Memory::Constant(tensor) => weights::constant(tensor, *is_int)?,
            _ => self.derived(buffer)?,
        };
        self.weights.keep(key, &values);
        Ok(values)
    }

    /// Computes the result of prologue steps.
    fn derived(&mut self, buffer: BufferId) -> Result<Values> {
        let schedule = self.schedule;
        let mut floats = Floats::zeros(schedule.buffers[buffer.0].len)?;
        let target = Slot::of_floats(&mut floats);
        // What these steps read is needed no longer than they run.
        let kept = std::mem::take(&mut self.kept);
        for step in schedule.prologue.iter().filter(|step| step.output.buffer == buffer) {
            let ready = self.ready(step, None, Some(target)).map_err(|error| error.context(&step.name))?;
            let mut scratch = Floats::zeros(ready.prepared.scratch_len())?;
            // SAFETY: the inputs are kept by `self.kept`, the output is `floats`, which nothing else uses yet.
            unsafe { ready.run(&self.weights.engine, scratch.as_mut_slice())? };
            for arg in &step.inputs {
                if let Memory::Parameter(parameter) = &schedule.buffers[arg.buffer.0].memory {
                    parameter.tensor.storage().release_pages(parameter.tensor.span());
                }
            }
        }
        self.kept = kept;
        Ok(Values::of(&Arc::new(floats)))
    }

    /// The kernel, its weight packed when that does not change from run to run.
    fn prepare(&mut self, step: &Step, method: Option<Method>) -> Result<Prepared> {
        let engine = self.weights.engine.clone();
        let packed = match &step.kernel {
            Kernel::Conv2d(conv) if self.is_constant(step) => {
                let channels = [conv.c_in, conv.c_out];
                let method = method.unwrap_or_else(|| Method::plain(conv));
                let (kernel, groups) = (conv.kernel, conv.groups);
                let form = Form::Conv { channels, kernel, groups, method };
                let pack = |source: WeightSource<'_>, scale: Option<&[f32]>| {
                    weights::pack_conv(&engine, conv, method, source, scale)
                };
                self.packed(step, conv.fused.scale_index(), |_| form, pack)?
            }
            Kernel::Linear(linear) if self.is_constant(step) => {
                let form = |in_place| Form::Linear { k: linear.k, n: linear.n, in_place };
                let form = |source: WeightSource<'_>| form(LinearWeights::is_in_place(linear, source));
                let pack = |source: WeightSource<'_>, scale: Option<&[f32]>| {
                    weights::pack_linear(&engine, linear, source, scale)
                };
                self.packed(step, linear.fused.scale_index(), form, pack)?
            }
            kernel => return Prepared::new(kernel, &engine),
        };
        Ok(match (&step.kernel, packed) {
            (Kernel::Conv2d(conv), Packed::Conv(weights)) => Prepared::conv(conv, Some(weights), &engine),
            (Kernel::Linear(linear), Packed::Linear(weights)) => Prepared::linear(linear, Some(weights), &engine),
            _ => unreachable!("keys say what the weight is packed for"),
        })
    }

    /// Whether a convolution's or linear layer's weight and scale are the same in every run.
    fn is_constant(&self, step: &Step) -> bool {
        let scale = match &step.kernel {
            Kernel::Conv2d(conv) => conv.fused.scale_index(),
            Kernel::Linear(linear) => linear.fused.scale_index(),
            _ => return false,
        };
        let in_arena = |arg: &Arg| matches!(self.schedule.buffers[arg.buffer.0].memory, Memory::Arena { .. });
        [Some(1), scale].into_iter().flatten().all(|index| !in_arena(&step.inputs[index]))
    }

    /// The packed weight of a step, from the weights of the model or packed now.
    fn packed(
        &mut self,
        step: &Step,
        scale: Option<usize>,
        form: impl FnOnce(WeightSource<'_>) -> Form,
        pack: impl FnOnce(WeightSource<'_>, Option<&[f32]>) -> Result<Packed>,
    ) -> Result<Packed> {
        let lens = Lens::of(&step.kernel);
        let schedule = self.schedule;
        let weight = step.inputs[1];
        let parameter = match &schedule.buffers[weight.buffer.0].memory {
            Memory::Parameter(parameter) if weight.offset == 0 => Some(parameter),
            _ => None,
        };
        let stored = parameter.map(|parameter| WeightSource::Stored(&parameter.tensor));
        let form = form(stored.unwrap_or(WeightSource::Computed(&[])));
        let whole = |arg: Arg| (arg.offset == 0).then(|| WeightKey::new(&schedule.buffers[arg.buffer.0]));
        let key = match (whole(weight), scale.map(|index| whole(step.inputs[index]))) {
            (Some(weight), None) => Some(PackKey { weight, scale: None, form }),
            (Some(weight), Some(Some(scale))) => Some(PackKey { weight, scale: Some(scale), form }),
            _ => None,
        };
        if let Some(packed) = key.as_ref().and_then(|key| self.weights.packed(key)) {
            return Ok(packed);
        }
        let scale = scale.map(|index| self.values_of(step.inputs[index], lens.inputs[index])).transpose()?;
        let computed = match stored {
            Some(_) => None,
            None => Some(self.values_of(weight, lens.inputs[1])?),
        };
        let source = match (&computed, stored) {
            (Some(values), _) => WeightSource::Computed(values.as_slice()),
            (None, Some(stored)) => stored,
            (None, None) => unreachable!("one of them was set above"),
        };
        let packed = pack(source, scale.as_ref().map(Values::as_slice)).map_err(|error| match parameter {
            Some(parameter) => error.context(format!("`{}`", parameter.name)),
            None => error,
        })?;
        if let Some(key) = key {
            self.weights.keep_packed(key, &packed);
        }
        Ok(packed)
    }

    /// `len` elements of an argument that is not in an arena. Nothing is kept for them.
    fn values_of(&mut self, arg: Arg, len: usize) -> Result<Values> {
        let values = self.values(arg.buffer)?;
        values.part(arg.offset, len).ok_or_else(|| Error::invalid("an argument reaches past the end of its buffer"))
    }
}
