//! Devices: where a model runs. This room owns the adapters, their queues, buffers, upload and read-back.

#[cfg(feature = "gpu")]
pub(crate) mod adapters;
#[cfg(feature = "gpu")]
pub(crate) mod copies;
#[cfg(feature = "gpu")]
pub(crate) mod gpu;
mod info;
#[cfg(feature = "gpu")]
pub(crate) mod memory;
pub(crate) mod pool;
#[cfg_attr(not(feature = "gpu"), allow(dead_code, reason = "there are no adapters to choose from"))]
mod select;
#[cfg(feature = "gpu")]
pub(crate) mod staging;
#[cfg(feature = "gpu")]
pub(crate) mod stopwatch;
#[cfg(test)]
pub(crate) mod tests;

use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, OnceLock};

pub use info::{CopyRates, DeviceInfo, DeviceKind, DeviceLimits, MemoryUse};
use pool::Pool;
use select::Wanted;

use crate::checkpoint::MapLocation;
use crate::error::{Error, Result};

/// The environment variable that narrows `gpu`, `gpu:N` and `auto` to the adapters whose name contains its value.
/// It is also the way to have a software adapter counted as a GPU.
#[cfg_attr(not(feature = "gpu"), allow(dead_code, reason = "there are no adapters to choose from"))]
pub(crate) const ADAPTER_VARIABLE: &str = "SCONCE_ADAPTER";

/// Where a model runs: the CPU, or a GPU through Vulkan, Metal or DX12. Cloning it is cheap, and everything that is
/// opened for the same adapter shares one connection to it.
///
/// A device is written as PyTorch writes it:
///
/// | text | device |
/// |---|---|
/// | `cpu` | the CPU, with as many threads as it has cores |
/// | `gpu`, `cuda`, `mps` | the first GPU |
/// | `gpu:1`, `cuda:1` | the second GPU, in the order of [`Device::list`] |
/// | `auto` | the first GPU that works, else the CPU |
/// | a part of an adapter's name, as `radeon` | that adapter, also a software one |
///
/// A software adapter (Mesa's llvmpipe) is taken only when it is named so, or when the environment variable
/// `SCONCE_ADAPTER` holds a part of its name. Its display says what was taken:
///
/// ```
/// let device: sconce::Device = "cpu".parse()?;
/// assert!(device.is_cpu());
/// assert!(device.to_string().starts_with("cpu"));
/// assert!("gpu:99".parse::<sconce::Device>().is_err());
/// # Ok::<(), sconce::Error>(())
/// ```
#[derive(Clone)]
pub struct Device(Kind);

/// What a device is underneath.
#[derive(Clone)]
pub(crate) enum Kind {
    Cpu(Arc<Pool>),
    #[cfg(feature = "gpu")]
    Gpu(Arc<gpu::Gpu>),
}

impl Device {
    /// The CPU, with as many threads as the machine has cores. All that ask for it so share the threads.
    pub fn cpu() -> Self {
        static POOL: OnceLock<Arc<Pool>> = OnceLock::new();
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        Self(Kind::Cpu(Arc::clone(POOL.get_or_init(|| Arc::new(Pool::new(cores()))))))
    }

    /// The CPU with this many threads (at least one), the calling one included.
    pub fn cpu_with_threads(threads: usize) -> Self {
        Self(Kind::Cpu(Arc::new(Pool::new(threads))))
    }

    /// Opens the device that `text` names; the same as `text.parse()`.
    ///
    /// # Errors
    /// [`ErrorKind::Device`](crate::ErrorKind::Device) when there is no such device (the message lists those that
    /// are there) or when it cannot be opened; [`ErrorKind::Disabled`](crate::ErrorKind::Disabled) for a GPU in a
    /// build without the feature `gpu`.
    pub fn open(text: &str) -> Result<Self> {
        match Wanted::parse(text)? {
            Wanted::Cpu => Ok(Self::cpu()),
            #[cfg(feature = "gpu")]
            wanted => adapters::open(&wanted, text),
            #[cfg(not(feature = "gpu"))]
            Wanted::Auto => Ok(Self::cpu()),
            #[cfg(not(feature = "gpu"))]
            _ => Err(Error::new(
                crate::error::ErrorKind::Disabled,
                format!("device `{text}`: this build of sconce has no GPU support"),
            )
            .help("build it with the cargo feature `gpu`, or use `cpu`")),
        }
    }

    /// Every device of this machine: the CPU, the GPUs in the order of their numbers, then the adapters that have
    /// none because they are software (or because `SCONCE_ADAPTER` leaves them out).
    pub fn list() -> Vec<DeviceInfo> {
        #[allow(unused_mut)]
        let mut all = vec![DeviceInfo::cpu()];
        #[cfg(feature = "gpu")]
        all.extend(adapters::list());
        all
    }

    /// What is known of this device, as in [`Device::list`].
    pub fn info(&self) -> DeviceInfo {
        match &self.0 {
            Kind::Cpu(_) => DeviceInfo::cpu(),
            #[cfg(feature = "gpu")]
            Kind::Gpu(gpu) => gpu.info().clone(),
        }
    }

    /// The device's memory that this process holds for models, over all models on this device. All zero on the CPU,
    /// where it is ordinary memory.
    pub fn memory_in_use(&self) -> MemoryUse {
        match &self.0 {
            Kind::Cpu(_) => MemoryUse::default(),
            #[cfg(feature = "gpu")]
            Kind::Gpu(gpu) => gpu.account().memory(),
        }
    }

    /// Measures how fast a GPU copies this many bytes from one of its buffers to others: what
    /// [`PlanInfo::upload`](crate::PlanInfo::upload) is compared with. `None` on the CPU, which has no buffers.
    ///
    /// # Errors
    /// [`ErrorKind::Device`](crate::ErrorKind::Device) when the device fails or has too little memory.
    #[cfg_attr(not(feature = "gpu"), allow(unused_variables, reason = "only a GPU copies"))]
    pub fn copy_rates(&self, bytes: u64) -> Result<Option<CopyRates>> {
        match &self.0 {
            Kind::Cpu(_) => Ok(None),
            #[cfg(feature = "gpu")]
            Kind::Gpu(gpu) => copies::measure(gpu, bytes).map(Some),
        }
    }

    /// Has `tell` called while a model is tuned on this device, which takes minutes (`SCONCE_TUNE=1`): with the number of
    /// the plan's steps that are done, and that of all. The first such function stays; without one, and on the CPU, nobody
    /// is told.
    #[cfg_attr(not(feature = "gpu"), allow(unused_variables, reason = "only a GPU is tuned"))]
    pub fn on_tuning(&self, tell: impl Fn(usize, usize) + Send + Sync + 'static) {
        #[cfg(feature = "gpu")]
        if let Kind::Gpu(gpu) = &self.0 {
            gpu.on_tuning.set(Box::new(tell)).ok();
        }
    }

    /// Whether this is the CPU.
    pub fn is_cpu(&self) -> bool {
        matches!(self.0, Kind::Cpu(_))
    }

    pub(crate) fn kind(&self) -> &Kind {
        &self.0
    }

    #[cfg(feature = "gpu")]
    pub(crate) fn from_gpu(gpu: Arc<gpu::Gpu>) -> Self {
        Self(Kind::Gpu(gpu))
    }
}

impl FromStr for Device {
    type Err = Error;

    /// The same as [`Device::open`].
    fn from_str(text: &str) -> Result<Self> {
        Self::open(text)
    }
}

/// Every storage goes to this device, which is written as PyTorch writes it: `cuda:0` for the first GPU.
impl From<&Device> for MapLocation<'_> {
    fn from(device: &Device) -> Self {
        let id = device.info().id;
        match id.strip_prefix("gpu:") {
            Some(number) => format!("cuda:{number}").into(),
            None => id.into(),
        }
    }
}

impl fmt::Display for Device {
    /// `gpu:0 NVIDIA H200 (Vulkan)` or `cpu (2 threads)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Cpu(pool) if pool.threads() == 1 => f.write_str("cpu (1 thread)"),
            Kind::Cpu(pool) => write!(f, "cpu ({} threads)", pool.threads()),
            #[cfg(feature = "gpu")]
            Kind::Gpu(gpu) => write!(f, "{}", gpu.info()),
        }
    }
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Device({self})")
    }
}
