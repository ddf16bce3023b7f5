//! Graphs: what to compute, at the level of PyTorch's composite ops, and how it becomes the steps of a plan.

pub(crate) mod op;
pub(crate) mod step;
