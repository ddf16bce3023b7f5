//! The adapters of this machine: found once, opened once.

use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use super::gpu::{Gpu, GpuOptions};
use super::info::{DeviceInfo, DeviceKind, DeviceLimits};
use super::select::{self, Candidate, Wanted};
use super::{ADAPTER_VARIABLE, Device};
use crate::error::{Error, Result};

/// What every shader of this crate needs.
const REQUIRED: wgpu::Features = wgpu::Features::IMMEDIATES;

/// The parameters of a dispatch, in bytes.
pub(crate) const IMMEDIATE_BYTES: u32 = 128;

/// The workgroup memory and the threads of the shader that uses matrix units.
const MATRIX_WORKGROUP_BYTES: u32 = 28 << 10;
const MATRIX_THREADS: u32 = 256;

struct Adapters {
    adapters: Vec<wgpu::Adapter>,
    /// The connections that are open, by adapter.
    open: Mutex<Vec<Weak<Gpu>>>,
}

fn adapters() -> &'static Adapters {
    static ADAPTERS: OnceLock<Adapters> = OnceLock::new();
    ADAPTERS.get_or_init(|| {
        let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
        descriptor.backends = wgpu::Backends::VULKAN | wgpu::Backends::METAL | wgpu::Backends::DX12;
        // No validation layers and no debug names: they cost time at every call. `WGPU_VALIDATION=1` turns them on.
        descriptor.flags = wgpu::InstanceFlags::empty().with_env();
        let backends = descriptor.backends;
        let instance = wgpu::Instance::new(descriptor);
        let adapters = pollster::block_on(instance.enumerate_adapters(backends));
        let open = Mutex::new(adapters.iter().map(|_| Weak::new()).collect());
        Adapters { adapters, open }
    })
}

/// The value of `SCONCE_ADAPTER`, when it is set to something.
fn narrow() -> Option<String> {
    std::env::var(ADAPTER_VARIABLE).ok().filter(|part| !part.trim().is_empty())
}

/// The adapters in the order of their numbers, with their place in `adapters()`.
fn numbered(narrow: Option<&str>) -> Vec<(usize, DeviceInfo)> {
    let candidates: Vec<Candidate> = adapters().adapters.iter().map(candidate).collect();
    select::number(&candidates, narrow)
}

fn candidate(adapter: &wgpu::Adapter) -> Candidate {
    let info = adapter.get_info();
    let (limits, features) = (adapter.limits(), adapter.features());
    let driver = [info.driver.as_str(), info.driver_info.as_str()]
        .into_iter()
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join(" ");
    let unsupported = if !features.contains(REQUIRED) {
        Some("it lacks immediate data (push constants)".to_owned())
    } else if limits.max_immediate_size < IMMEDIATE_BYTES {
        Some(format!("it has {} bytes of immediate data, {IMMEDIATE_BYTES} are needed", limits.max_immediate_size))
    } else {
        None
    };
    Candidate {
        ids: (info.vendor, info.device),
        info: DeviceInfo {
            id: String::new(),
            name: info.name,
            kind: match info.device_type {
                wgpu::DeviceType::DiscreteGpu => DeviceKind::Discrete,
                wgpu::DeviceType::IntegratedGpu => DeviceKind::Integrated,
                wgpu::DeviceType::VirtualGpu => DeviceKind::Virtual,
                wgpu::DeviceType::Other => DeviceKind::Other,
                wgpu::DeviceType::Cpu => DeviceKind::Software,
            },
            backend: match info.backend {
                wgpu::Backend::Vulkan => "Vulkan",
                wgpu::Backend::Metal => "Metal",
                wgpu::Backend::Dx12 => "DX12",
                _ => "unknown",
            },
            driver,
            limits: Some(DeviceLimits {
                buffer_bytes: limits.max_buffer_size,
                binding_bytes: limits.max_storage_buffer_binding_size,
                workgroup_bytes: limits.max_compute_workgroup_storage_size,
                workgroup_threads: limits.max_compute_invocations_per_workgroup,
                f16: features.contains(wgpu::Features::SHADER_F16),
                timestamps: features.contains(wgpu::Features::TIMESTAMP_QUERY),
            }),
            unsupported,
        },
    }
}

pub(super) fn list() -> Vec<DeviceInfo> {
    numbered(narrow().as_deref()).into_iter().map(|(_, info)| info).collect()
}

/// Opens what `wanted` means; `text` is how it was written.
pub(super) fn open(wanted: &Wanted, text: &str) -> Result<Device> {
    let options = GpuOptions::from_env()?;
    let narrow = narrow();
    let numbered = numbered(narrow.as_deref());
    let devices: Vec<DeviceInfo> = numbered.iter().map(|(_, info)| info.clone()).collect();
    let chosen = select::choose(wanted, text, &devices, narrow.as_deref())?;
    let mut trouble = None;
    for i in chosen {
        let (adapter, info) = &numbered[i];
        match open_shared(*adapter, info, options) {
            Ok(gpu) => return Ok(Device::from_gpu(gpu)),
            Err(error) => trouble = trouble.or(Some(error)),
        }
    }
    match trouble {
        Some(error) if *wanted != Wanted::Auto => Err(error),
        _ => Ok(Device::cpu()),
    }
}

/// The open connection to an adapter, or a new one when there is none or it is lost.
fn open_shared(adapter: usize, info: &DeviceInfo, options: GpuOptions) -> Result<Arc<Gpu>> {
    let all = adapters();
    let mut open = all.open.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(gpu) = open[adapter].upgrade().filter(|gpu| gpu.poll_now().is_ok() || !gpu.is_lost()) {
        return Ok(gpu);
    }
    let gpu = connect(&all.adapters[adapter], info, options)?;
    open[adapter] = Arc::downgrade(&gpu);
    Ok(gpu)
}

/// Every adapter of this machine that can run models, software too, or those that `SCONCE_ADAPTER` names, each with a
/// connection of its own.
#[cfg(test)]
pub(crate) fn open_all(options: GpuOptions) -> Result<Vec<Arc<Gpu>>> {
    let narrow = narrow();
    let numbered = numbered(narrow.as_deref());
    let is_wanted = |info: &DeviceInfo| narrow.is_none() || info.id.starts_with("gpu:");
    let usable = numbered.iter().filter(|(_, info)| info.unsupported.is_none() && is_wanted(info));
    usable.map(|(adapter, info)| connect(&adapters().adapters[*adapter], info, options)).collect()
}

fn connect(adapter: &wgpu::Adapter, info: &DeviceInfo, options: GpuOptions) -> Result<Arc<Gpu>> {
    if let Some(why) = &info.unsupported {
        return Err(Error::unsupported(format!("device `{info}` cannot run models: {why}")));
    }
    let optional = wgpu::Features::TIMESTAMP_QUERY | wgpu::Features::SHADER_F16 | wgpu::Features::PIPELINE_CACHE;
    let mut features = REQUIRED | (adapter.features() & optional);
    features
        .set(wgpu::Features::TIMESTAMP_QUERY, features.contains(wgpu::Features::TIMESTAMP_QUERY) && options.timestamps);
    // Where the GPU's memory is the host's, shaders may read what the host wrote without a copy in between.
    if options.host_memory && matches!(info.kind, DeviceKind::Integrated | DeviceKind::Software) {
        features |= adapter.features() & wgpu::Features::MAPPABLE_PRIMARY_BUFFERS;
    }
    let matrices = matrices(adapter, info);
    let mut experimental_features = wgpu::ExperimentalFeatures::disabled();
    if matrices.is_ok() {
        features |= wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX;
        // SAFETY: matrices are used in one shader, of sizes that the adapter lists, after a test of its answers.
        experimental_features = unsafe { wgpu::ExperimentalFeatures::enabled() };
    }
    let mut limits = adapter.limits();
    if let Some(bytes) = options.binding_bytes {
        limits.max_storage_buffer_binding_size = limits.max_storage_buffer_binding_size.min(bytes);
    }
    let descriptor = wgpu::DeviceDescriptor {
        label: None,
        required_features: features,
        required_limits: limits,
        experimental_features,
        // Weights and arenas are few and large; small blocks waste least.
        memory_hints: wgpu::MemoryHints::MemoryUsage,
        trace: wgpu::Trace::Off,
    };
    let (device, queue) = pollster::block_on(adapter.request_device(&descriptor))
        .map_err(|e| Error::device(format!("device `{info}` cannot be opened: {e}")))?;
    Ok(Gpu::new(device, queue, info.clone(), options, matrices))
}

/// The side of the square matrices of f16, summed in f32, that the adapter's matrix units take; or why there is none that
/// shaders can rely on. They name the threads of a subgroup by their number in the workgroup, and so have to know how many
/// there are; wgpu cannot ask for a number where a driver may choose between several.
fn matrices(adapter: &wgpu::Adapter, info: &DeviceInfo) -> Result<u32, String> {
    let needed = wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX | wgpu::Features::SHADER_F16;
    if !adapter.features().contains(needed) {
        return Err(if info.backend == "DX12" {
            "wgpu knows no matrix units on DX12".into()
        } else {
            "it has no matrix units that wgpu knows".into()
        });
    }
    let limits = adapter.limits();
    let (bytes, threads) = (limits.max_compute_workgroup_storage_size, limits.max_compute_invocations_per_workgroup);
    if bytes < MATRIX_WORKGROUP_BYTES || threads < MATRIX_THREADS {
        return Err(format!(
            "its workgroups have {threads} threads and {bytes} bytes, {MATRIX_THREADS} and {MATRIX_WORKGROUP_BYTES} are needed"
        ));
    }
    let adapter_info = adapter.get_info();
    let subgroups = (adapter_info.subgroup_min_size, adapter_info.subgroup_max_size);
    // Apple's subgroups have 32 threads; what Metal says is the range of all devices.
    if info.backend != "Metal" && subgroups != (32, 32) {
        return Err(format!("its subgroups have {} to {} threads, 32 are needed", subgroups.0, subgroups.1));
    }
    let (half, single) = (wgpu::CooperativeScalarType::F16, wgpu::CooperativeScalarType::F32);
    let listed = adapter.cooperative_matrix_properties();
    let has = |side: &u32| {
        listed.iter().any(|matrix| {
            (matrix.m_size, matrix.n_size, matrix.k_size) == (*side, *side, *side)
                && matrix.ab_type == half
                && matrix.cr_type == single
        })
    };
    let missing = || "its matrix units have no square matrices of f16 with sums in f32".into();
    [16, 8].into_iter().find(has).ok_or_else(missing)
}
