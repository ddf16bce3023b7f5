//! The backends: they run the steps of a schedule.

pub(crate) mod cpu;
