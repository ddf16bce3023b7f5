//! Keys of derived values, and the prologue steps that are left without a use.

use std::collections::HashSet;
use std::fmt::Debug;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use crate::graph::step::{Arg, Buffer, BufferId, Memory, Schedule};

/// The key of what `computation` makes from constant inputs: equal for equal computations on the same tensors.
pub(super) fn derived(buffers: &[Buffer], inputs: impl Iterator<Item = Arg>, computation: &dyn Debug) -> u64 {
    let mut hasher = DefaultHasher::new();
    // The debug text of a kernel holds every field, floats included.
    format!("{computation:?}").hash(&mut hasher);
    for arg in inputs {
        arg.offset.hash(&mut hasher);
        match &buffers[arg.buffer.0].memory {
            Memory::Parameter(p) => {
                let tensor = &p.tensor;
                Arc::as_ptr(tensor.storage()).addr().hash(&mut hasher);
                (tensor.dtype(), tensor.offset(), tensor.shape(), tensor.stride(), tensor.bits()).hash(&mut hasher);
            }
            Memory::Constant(tensor) => (tensor.shape(), tensor.bytes()).hash(&mut hasher),
            Memory::Derived(key) => key.hash(&mut hasher),
            Memory::Arena { .. } => unreachable!("derived values depend on constants alone"),
        }
    }
    hasher.finish()
}

/// Removes prologue steps whose results no step needs.
pub(super) fn drop_unused_prologue(schedule: &mut Schedule) {
    let mut needed: HashSet<BufferId> =
        schedule.steps.iter().flat_map(|step| &step.inputs).map(|arg| arg.buffer).collect();
    let mut keep = vec![false; schedule.prologue.len()];
    for (step, keep) in schedule.prologue.iter().zip(&mut keep).rev() {
        if needed.contains(&step.output.buffer) {
            *keep = true;
            needed.extend(step.inputs.iter().map(|arg| arg.buffer));
        }
    }
    let mut keep = keep.into_iter();
    schedule.prologue.retain(|_| keep.next().expect("one flag a step"));
}
