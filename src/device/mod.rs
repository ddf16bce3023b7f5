//! Devices: the threads of the CPU.

pub(crate) mod pool;
