//! What a device cannot run for its limits is an error of the layer, before any weight is brought there.

use super::dispatch::{Binding, Dispatch, Pack, Selection};
use super::weights::{element, name_of};
use crate::device::gpu::Gpu;
use crate::error::{Error, Result};
use crate::graph::step::{Buffer, BufferId, Memory, Schedule, Step};

/// The limits of a device, and what a plan asks of it.
pub(super) struct Limits<'a> {
    pub(super) gpu: &'a Gpu,
    pub(super) schedule: &'a Schedule,
}

impl Limits<'_> {
    /// Checks the grids of a step, and all that it binds.
    pub(super) fn check(&self, step: &Step, selection: &Selection, half: bool) -> Result<()> {
        let of = |error: Error| error.context(self.name(step));
        for dispatch in &selection.dispatches {
            self.check_grid(dispatch).map_err(of)?;
            for &binding in &dispatch.bindings {
                self.check_binding(binding, selection, half).map_err(of)?;
            }
        }
        selection.packs.iter().try_for_each(|pack| self.check_pack(pack)).map_err(of)
    }

    /// A step's name in errors, with that of the weight when it only prepares one.
    pub(super) fn name(&self, step: &Step) -> String {
        let prepares = matches!(self.buffer(step.output.buffer).memory, Memory::Derived(_));
        match self.weight_of(step).filter(|_| prepares) {
            Some(weight) => format!("layer `{}` of `{weight}`", step.name),
            None => format!("layer `{}`", step.name),
        }
    }

    /// The first parameter that a step computes with, or that the steps before it did.
    fn weight_of(&self, step: &Step) -> Option<&str> {
        step.inputs.iter().find_map(|arg| match &self.buffer(arg.buffer).memory {
            Memory::Parameter(parameter) => Some(&*parameter.name),
            Memory::Derived(_) => {
                let made = self.schedule.prologue.iter().find(|step| step.output.buffer == arg.buffer)?;
                self.weight_of(made)
            }
            _ => None,
        })
    }

    fn check_grid(&self, dispatch: &Dispatch) -> Result<()> {
        let limit = self.gpu.limits().max_compute_workgroups_per_dimension;
        if dispatch.grid.iter().all(|&groups| groups <= limit) {
            return Ok(());
        }
        self.refuse(&format!("{:?} workgroups", dispatch.grid), &format!("has at most {limit} a dimension"))
    }

    fn check_binding(&self, binding: Binding, selection: &Selection, half: bool) -> Result<()> {
        let shared = shared(selection);
        match binding {
            Binding::Read(id) | Binding::Write(id) => {
                let buffer = self.buffer(id);
                match buffer.memory {
                    Memory::Arena { .. } => self.bind("an activation", bytes(buffer, half)),
                    _ => self.hold(&format!("`{}`", name_of(&buffer.memory)), bytes(buffer, half)),
                }
            }
            Binding::ReadScratch(i) | Binding::WriteScratch(i) => self.hold("its scratch", scratch_bytes(shared[i])),
            Binding::Slots => self.hold("its scratch", scratch_bytes(shared[SLOTS])),
            // Packs are looked at by themselves.
            Binding::Packed(_) | Binding::Status => Ok(()),
        }
    }

    fn check_pack(&self, pack: &Pack) -> Result<()> {
        let weight = self.buffer(pack.weight);
        let bytes = pack.packed_len() * element(weight.is_int, pack.half).size();
        self.hold(&format!("`{}`, packed,", name_of(&weight.memory)), whole(bytes))
    }

    /// Checks what the plan's inputs or outputs take together, and its arenas.
    pub(super) fn check_buffer(&self, what: &str, bytes: u64) -> Result<()> {
        let limit = self.gpu.limits().max_buffer_size;
        if bytes <= limit {
            return Ok(());
        }
        self.refuse(&format!("{what} {bytes} bytes"), &format!("has buffers of at most {limit}"))
    }

    /// Checks the arenas of activations, and names the layer that makes the largest.
    pub(super) fn check_arenas(&self) -> Result<()> {
        for (arena, &bytes) in self.schedule.arenas.iter().enumerate() {
            let is_here = |step: &&Step| matches!(self.buffer(step.output.buffer).memory, Memory::Arena { arena: own, .. } if own == arena);
            let largest = self.schedule.steps.iter().filter(is_here).max_by_key(|s| self.buffer(s.output.buffer).len);
            let what = match largest {
                Some(step) => format!("an arena of activations, the largest of layer `{}`, takes", step.name),
                None => "an arena of inputs takes".to_owned(),
            };
            self.check_buffer(&what, bytes as u64)?;
        }
        Ok(())
    }

    fn buffer(&self, id: BufferId) -> &Buffer {
        &self.schedule.buffers[id.0]
    }

    /// Checks what has a buffer of its own and is bound as a whole.
    fn hold(&self, what: &str, bytes: u64) -> Result<()> {
        self.check_buffer(&format!("{what} takes"), bytes)?;
        self.bind(what, bytes)
    }

    fn bind(&self, what: &str, bytes: u64) -> Result<()> {
        let limit = self.gpu.limits().max_storage_buffer_binding_size;
        if bytes <= limit {
            return Ok(());
        }
        self.refuse(&format!("{what} takes {bytes} bytes"), &format!("binds at most {limit}"))
    }

    fn refuse(&self, found: &str, limit: &str) -> Result<()> {
        let text = format!("{found}, device `{}` {limit}", self.gpu.info());
        Err(Error::unsupported(text).help("such a model runs on the CPU: `--device cpu`"))
    }
}

/// The bytes of a buffer: whole `vec4`s.
pub(super) fn bytes(buffer: &Buffer, half: bool) -> u64 {
    whole(buffer.len * element(buffer.is_int, half).size())
}

fn whole(bytes: usize) -> u64 {
    (bytes as u64).max(1).next_multiple_of(16)
}

/// The elements of what dispatches share: the scratch, and the slots.
pub(super) fn shared(selection: &Selection) -> [usize; 3] {
    let [first, second] = selection.scratch;
    [first, second, selection.slots]
}

pub(super) const SLOTS: usize = 2;

/// The bytes of so many elements of what dispatches share.
pub(super) fn scratch_bytes(elements: usize) -> u64 {
    whole(elements * 4)
}
