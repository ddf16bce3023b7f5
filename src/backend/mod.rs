//! The backends: they run the steps of a schedule.

#[cfg(test)]
pub(crate) mod cases;
pub(crate) mod cpu;
#[cfg(feature = "gpu")]
pub(crate) mod gpu;
#[cfg(test)]
pub(crate) mod naive;
pub(crate) mod ports;
