//! The GPU backend: turns schedules into recorded dispatches and replays them.

pub(crate) mod dispatch;
mod kernels;
mod pipeline;
mod plan;
mod precision;
#[cfg(test)]
mod tests;
mod upload;
mod weights;

pub(crate) use plan::Plan;
pub(crate) use weights::Weights;
