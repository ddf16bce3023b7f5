//! What is known of a device before it is opened.

use std::fmt;

/// What kind of hardware a device is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DeviceKind {
    /// The processor itself.
    Cpu,
    /// A graphics card with its own memory.
    Discrete,
    /// A GPU that shares the processor's memory.
    Integrated,
    /// A GPU passed through by a virtual machine.
    Virtual,
    /// A GPU whose driver does not say what it is.
    Other,
    /// A graphics driver that computes on the processor.
    Software,
}

impl DeviceKind {
    /// `cpu`, `discrete`, `integrated`, `virtual`, `other` or `software`.
    pub const fn name(self) -> &'static str {
        match self {
            DeviceKind::Cpu => "cpu",
            DeviceKind::Discrete => "discrete",
            DeviceKind::Integrated => "integrated",
            DeviceKind::Virtual => "virtual",
            DeviceKind::Other => "other",
            DeviceKind::Software => "software",
        }
    }
}

impl fmt::Display for DeviceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// One device of [`Device::list`](crate::Device::list).
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct DeviceInfo {
    /// The text that opens it: `cpu`, `gpu:0`, or the name of an adapter that has no number.
    pub id: String,
    /// The adapter's name, as its driver gives it.
    pub name: String,
    /// What kind of hardware it is.
    pub kind: DeviceKind,
    /// `Vulkan`, `Metal`, `DX12`, or `native` for the CPU.
    pub backend: &'static str,
    /// The driver's name and version; empty when it does not say.
    pub driver: String,
    /// The limits of a GPU.
    pub limits: Option<DeviceLimits>,
    /// Why models cannot run on it, when they cannot.
    pub unsupported: Option<String>,
}

/// The limits of a GPU that decide what runs on it, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeviceLimits {
    /// The largest buffer, in bytes.
    pub buffer_bytes: u64,
    /// The largest part of a buffer that one binding can cover, in bytes. Larger weights are split.
    pub binding_bytes: u64,
    /// The memory that the threads of a workgroup share, in bytes.
    pub workgroup_bytes: u32,
    /// The largest number of threads of a workgroup.
    pub workgroup_threads: u32,
    /// Whether shaders can compute in `f16`.
    pub f16: bool,
    /// Whether single kernels can be timed.
    pub timestamps: bool,
}

/// Device memory held for models, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemoryUse {
    /// Weights, in the form that the kernels read.
    pub weights: u64,
    /// The arenas of compiled plans: inputs, activations and outputs.
    pub arenas: u64,
    /// The buffers through which data passes between the host and the device.
    pub staging: u64,
    /// The largest sum of the three so far.
    pub peak: u64,
}

/// The rates of plain copies between two buffers of a device, in bytes a second.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct CopyRates {
    /// Into buffers that were just made, their making included. Software adapters, and GPUs that share the host's
    /// memory, have to find the pages first.
    pub fresh: f64,
    /// Into the same buffers again.
    pub warm: f64,
}

impl MemoryUse {
    /// The sum that is held now.
    pub fn total(&self) -> u64 {
        self.weights + self.arenas + self.staging
    }
}

impl DeviceInfo {
    pub(crate) fn cpu() -> Self {
        Self {
            id: "cpu".into(),
            name: std::env::consts::ARCH.into(),
            kind: DeviceKind::Cpu,
            backend: "native",
            driver: String::new(),
            limits: None,
            unsupported: None,
        }
    }
}

impl fmt::Display for DeviceInfo {
    /// `gpu:0 NVIDIA H200 (Vulkan)`; an adapter without a number has no more than its name before the backend.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.kind == DeviceKind::Cpu {
            return f.write_str(&self.id);
        }
        if self.id != self.name {
            write!(f, "{} ", self.id)?;
        }
        write!(f, "{} ({}", self.name, self.backend)?;
        f.write_str(if self.kind == DeviceKind::Software { ", software)" } else { ")" })
    }
}
