//! The backends: they run the steps of a schedule.

#[cfg(test)]
pub(crate) mod cases;
#[cfg(test)]
pub(crate) mod naive;
