//! Pipelines: shaders compiled for a device, each once.

use std::any::Any;
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::cache::DiskCache;
use super::dispatch::{Binding, Dispatch, Shader};
use super::kernels::Caps;
use super::tune::Choices;
use crate::device::gpu::Gpu;
use crate::error::{Error, Result};

/// A shader with its constants, ready to be dispatched.
#[derive(Debug)]
pub(super) struct Pipeline {
    pub(super) raw: wgpu::ComputePipeline,
    pub(super) layout: wgpu::BindGroupLayout,
}

/// The pipelines of one device.
#[derive(Default)]
pub(super) struct Pipelines {
    modules: Slots<Cow<'static, str>, wgpu::ShaderModule>,
    layouts: Mutex<HashMap<Layout, (wgpu::BindGroupLayout, wgpu::PipelineLayout)>>,
    pipelines: Slots<Key, Arc<Pipeline>>,
    /// What selections depend on; a test may set it before anything is selected.
    pub(super) caps: OnceLock<Caps>,
    /// What the test of the matrix units found wrong, once it has run.
    matrices: OnceLock<Option<String>>,
    cache: OnceLock<Option<DiskCache>>,
    /// What was chosen by timing on this device.
    pub(super) choices: OnceLock<Choices>,
}

/// Values that are each made once, whichever thread comes first; the others wait for it. A failure is kept too.
type Slots<K, V> = Mutex<HashMap<K, Arc<OnceLock<Result<V, String>>>>>;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    source: Cow<'static, str>,
    constants: Vec<(&'static str, u64)>,
    layout: Layout,
}

/// Which bindings are read-only, and the number of immediate words.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Layout {
    read_only: Vec<bool>,
    immediates: usize,
}

impl Layout {
    fn new(dispatch: &Dispatch) -> Self {
        let read_only =
            |binding: &Binding| matches!(binding, Binding::Read(_) | Binding::Packed(_) | Binding::ReadScratch(_));
        Self { read_only: dispatch.bindings.iter().map(read_only).collect(), immediates: dispatch.immediates.len() }
    }
}

impl Key {
    fn new(dispatch: &Dispatch) -> Self {
        Self {
            source: dispatch.shader.source.clone(),
            constants: dispatch.constants.iter().map(|&(name, value)| (name, value.to_bits())).collect(),
            layout: Layout::new(dispatch),
        }
    }
}

impl Pipelines {
    /// The pipelines of this device.
    pub(super) fn of(gpu: &Gpu) -> Arc<Self> {
        gpu.shared(Self::default)
    }

    /// What was chosen by timing on this device, now and by earlier processes.
    pub(super) fn choices(&self, gpu: &Gpu) -> &Choices {
        self.choices.get_or_init(|| Choices::open(gpu))
    }

    /// What `test` finds wrong with the matrix units; it runs once.
    pub(super) fn tested_matrices(&self, test: impl FnOnce() -> Option<String>) -> Option<&str> {
        self.matrices.get_or_init(test).as_deref()
    }

    /// Whether the test of the matrix units failed.
    pub(super) fn distrusts_matrices(&self) -> bool {
        self.matrices.get().is_some_and(Option::is_some)
    }

    /// The pipelines of `dispatches`, in their order. Those that are missing are compiled on several threads.
    pub(super) fn get(&self, gpu: &Gpu, dispatches: &[&Dispatch]) -> Result<Vec<Arc<Pipeline>>> {
        let keys: Vec<Key> = dispatches.iter().map(|dispatch| Key::new(dispatch)).collect();
        let missing = self.missing(&keys);
        let next = AtomicUsize::new(0);
        let work = || {
            while let Some(&i) = missing.get(next.fetch_add(1, Ordering::Relaxed)) {
                // The failure is kept, and reported below in the order of the dispatches.
                let _ = self.pipeline(gpu, &dispatches[i].shader, &keys[i]);
            }
        };
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(missing.len());
        std::thread::scope(|scope| {
            for _ in 1..threads {
                scope.spawn(work);
            }
            work();
        });
        (dispatches.iter().zip(&keys)).map(|(dispatch, key)| self.pipeline(gpu, &dispatch.shader, key)).collect()
    }

    /// Keeps what was compiled on disk, where it may be.
    pub(super) fn save(&self) {
        if let Some(cache) = self.cache.get().and_then(Option::as_ref) {
            cache.save();
        }
    }

    /// The first places of the keys that have no pipeline yet.
    fn missing(&self, keys: &[Key]) -> Vec<usize> {
        let there = self.pipelines.lock().unwrap_or_else(PoisonError::into_inner);
        let mut seen = HashSet::new();
        let is_missing = |key: &Key| there.get(key).is_none_or(|slot| slot.get().is_none());
        (0..keys.len()).filter(|&i| is_missing(&keys[i]) && seen.insert(&keys[i])).collect()
    }

    fn pipeline(&self, gpu: &Gpu, shader: &Shader, key: &Key) -> Result<Arc<Pipeline>> {
        let made = once(&self.pipelines, key, || self.make_pipeline(gpu, shader, key));
        made.map_err(|message| Error::device(message).context(format!("shader `{}`", shader.name)))
    }

    fn make_pipeline(&self, gpu: &Gpu, shader: &Shader, key: &Key) -> Result<Arc<Pipeline>> {
        let module = once(&self.modules, &key.source, || make_module(gpu, shader)).map_err(Error::device)?;
        let (layout, pipeline_layout) = self.layout(gpu, &key.layout)?;
        let cache = self.cache.get_or_init(|| DiskCache::open(gpu)).as_ref();
        let constants: Vec<(&str, f64)> =
            key.constants.iter().map(|&(name, bits)| (name, f64::from_bits(bits))).collect();
        let descriptor = wgpu::ComputePipelineDescriptor {
            label: Some(shader.name),
            layout: Some(&pipeline_layout),
            module: &module,
            entry_point: Some("main"),
            compilation_options: wgpu::PipelineCompilationOptions {
                constants: &constants,
                zero_initialize_workgroup_memory: gpu.options().checks,
            },
            cache: cache.map(DiskCache::raw),
        };
        gpu.account().count_pipeline();
        let raw = gpu.scoped("pipeline", || Ok(gpu.device().create_compute_pipeline(&descriptor)))?;
        Ok(Arc::new(Pipeline { raw, layout }))
    }

    fn layout(&self, gpu: &Gpu, key: &Layout) -> Result<(wgpu::BindGroupLayout, wgpu::PipelineLayout)> {
        let mut layouts = self.layouts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(layout) = layouts.get(key) {
            return Ok(layout.clone());
        }
        let entry = |(binding, &read_only): (usize, &bool)| wgpu::BindGroupLayoutEntry {
            binding: binding as u32,
            visibility: wgpu::ShaderStages::COMPUTE,
            ty: wgpu::BindingType::Buffer {
                ty: wgpu::BufferBindingType::Storage { read_only },
                has_dynamic_offset: false,
                min_binding_size: None,
            },
            count: None,
        };
        let entries: Vec<_> = key.read_only.iter().enumerate().map(entry).collect();
        let made = gpu.scoped("bindings", || {
            let bindings = gpu
                .device()
                .create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label: None, entries: &entries });
            let pipeline = gpu.device().create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
                label: None,
                bind_group_layouts: &[Some(&bindings)],
                immediate_size: key.immediates as u32 * 4,
            });
            Ok((bindings, pipeline))
        })?;
        layouts.insert(key.clone(), made.clone());
        Ok(made)
    }
}

fn make_module(gpu: &Gpu, shader: &Shader) -> Result<wgpu::ShaderModule> {
    let source = wgpu::ShaderSource::Wgsl(shader.source.clone());
    let descriptor = wgpu::ShaderModuleDescriptor { label: Some(shader.name), source };
    gpu.scoped("module", || {
        if gpu.options().checks {
            return Ok(gpu.device().create_shader_module(descriptor));
        }
        // SAFETY: the shaders are this crate's own. Their selectors give them only indices inside their bindings and
        // loops that end, which the tests prove with the checks on; indices that come from data are bounded in WGSL.
        Ok(unsafe { gpu.device().create_shader_module_trusted(descriptor, wgpu::ShaderRuntimeChecks::unchecked()) })
    })
}

/// The value of `key`, made by the first thread that asks for it.
fn once<K, V>(slots: &Slots<K, V>, key: &K, make: impl FnOnce() -> Result<V>) -> Result<V, String>
where
    K: Clone + Eq + std::hash::Hash,
    V: Clone + Any,
{
    let slot = {
        let mut slots = slots.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(slots.entry(key.clone()).or_default())
    };
    slot.get_or_init(|| make().map_err(|error| error.to_string())).clone()
}
