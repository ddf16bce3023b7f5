//! The GPU backend: turns schedules into recorded dispatches and replays them.

mod cache;
mod direct;
pub(crate) mod dispatch;
mod host_pack;
mod kernels;
mod limits;
mod peak;
mod pipeline;
mod plan;
mod precision;
mod profile;
mod resident;
mod run;
#[cfg(test)]
mod tests;
mod tune;
mod upload;
mod weights;

pub(crate) use peak::{Peaks, measure as measure_peak};
pub(crate) use plan::Plan;
pub(crate) use resident::{to_device, to_host};
pub(crate) use run::Running;
pub(crate) use weights::Weights;
