//! The backends: they run the steps of a schedule.

#[cfg(test)]
pub(crate) mod cases;
pub(crate) mod cpu;
#[cfg(test)]
pub(crate) mod naive;
