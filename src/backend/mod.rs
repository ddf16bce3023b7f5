//! The backends: they run the steps of a schedule.

pub(crate) mod cpu;

#[cfg(test)]
pub(crate) mod cases;
#[cfg(feature = "gpu")]
pub(crate) mod gpu;
#[cfg(test)]
pub(crate) mod naive;
pub(crate) mod ports;
