//! An open GPU: its queue, its limits, and the errors that it reports.

use std::any::Any;
use std::ffi::OsStr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, mpsc};

use super::info::{DeviceInfo, DeviceKind};
use super::memory::Account;
use super::staging::Turn;
use crate::error::{Error, Result};

/// How a GPU is opened.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GpuOptions {
    /// Whether shaders check their indices, bound their loops and zero their workgroup memory. Off, they trust the
    /// selectors; the tests run both ways.
    pub(crate) checks: bool,
    /// A smaller limit for bindings than the adapter's own.
    pub(crate) binding_bytes: Option<u64>,
    /// The size of a staging chunk, when not the usual one.
    pub(crate) staging_bytes: Option<usize>,
    /// Whether shaders may read what the host maps, where the GPU's memory is the host's. Off, data takes the way that it
    /// takes to cards with memory of their own.
    pub(crate) host_memory: bool,
    /// Whether weights are packed by the host, when not as the kind of device says.
    pub(crate) host_packing: Option<bool>,
    /// The operations of one submission, when not as many as the kind of device does in a part of a second.
    pub(crate) submission_flops: Option<u64>,
    /// Whether single kernels may be timed, where the adapter can.
    pub(crate) timestamps: bool,
    /// Whether compiled pipelines, and what tuning chose, are kept on disk.
    pub(crate) disk_cache: bool,
    /// Whether products are timed with every tile before the first plan with them is made.
    pub(crate) tune: bool,
}

impl Default for GpuOptions {
    fn default() -> Self {
        Self {
            checks: false,
            binding_bytes: None,
            staging_bytes: None,
            host_memory: true,
            host_packing: None,
            submission_flops: None,
            timestamps: true,
            disk_cache: false,
            tune: false,
        }
    }
}

impl GpuOptions {
    /// The defaults with pipelines on disk, with checks when the environment variable `SCONCE_GPU_CHECKS` is `1`, and
    /// tuned when `SCONCE_TUNE` is.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) when one of them is neither `0` nor `1`.
    pub(crate) fn from_env() -> Result<Self> {
        let is_set = |name: &str| switch(name, std::env::var_os(name).as_deref());
        Ok(Self {
            checks: is_set("SCONCE_GPU_CHECKS")?,
            disk_cache: true,
            tune: is_set("SCONCE_TUNE")?,
            ..Self::default()
        })
    }
}

/// Whether the environment variable `name` turns something on.
pub(super) fn switch(name: &str, value: Option<&OsStr>) -> Result<bool> {
    let Some(value) = value else { return Ok(false) };
    match value.to_str() {
        Some("" | "0") => Ok(false),
        Some("1") => Ok(true),
        _ => Err(Error::invalid(format!("`{name}={}`: 0 or 1 is expected", value.to_string_lossy()))),
    }
}

/// Who is told how many of the steps are tuned.
pub(super) type OnTuning = Box<dyn Fn(usize, usize) + Send + Sync>;

/// An open GPU. All models on an adapter share one.
pub(crate) struct Gpu {
    device: wgpu::Device,
    queue: wgpu::Queue,
    limits: wgpu::Limits,
    info: DeviceInfo,
    options: GpuOptions,
    matrices: Result<u32, String>,
    trouble: Arc<Trouble>,
    account: Arc<Account>,
    shared: OnceLock<Arc<dyn Any + Send + Sync>>,
    watcher: OnceLock<mpsc::Sender<Watched>>,
    pub(super) on_tuning: OnceLock<OnTuning>,
}

/// A submission that somebody waits for without a thread of their own, and what to tell them when it never ends.
type Watched = (wgpu::SubmissionIndex, Arc<Turn>);

/// What went wrong outside of any call that could say so.
#[derive(Default)]
struct Trouble {
    any: AtomicBool,
    lost: AtomicBool,
    message: Mutex<Option<String>>,
}

impl Trouble {
    fn report(&self, message: String) {
        self.message.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(message);
        self.any.store(true, Ordering::Release);
    }
}

impl Gpu {
    pub(super) fn new(
        device: wgpu::Device,
        queue: wgpu::Queue,
        info: DeviceInfo,
        options: GpuOptions,
        matrices: Result<u32, String>,
    ) -> Arc<Self> {
        let trouble = Arc::new(Trouble::default());
        let uncaptured = Arc::clone(&trouble);
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| uncaptured.report(one_line(&error))));
        let lost = Arc::clone(&trouble);
        device.set_device_lost_callback(move |_, message| {
            lost.lost.store(true, Ordering::Release);
            lost.report(if message.is_empty() { "it was lost".into() } else { format!("it was lost: {message}") });
        });
        Arc::new(Self {
            limits: device.limits(),
            device,
            queue,
            info,
            options,
            matrices,
            trouble,
            account: Arc::default(),
            shared: OnceLock::new(),
            watcher: OnceLock::new(),
            on_tuning: OnceLock::new(),
        })
    }

    pub(crate) fn device(&self) -> &wgpu::Device {
        &self.device
    }

    pub(crate) fn queue(&self) -> &wgpu::Queue {
        &self.queue
    }

    pub(crate) fn limits(&self) -> &wgpu::Limits {
        &self.limits
    }

    pub(crate) fn info(&self) -> &DeviceInfo {
        &self.info
    }

    pub(crate) fn options(&self) -> GpuOptions {
        self.options
    }

    /// Tells who wants to know that `done` of `all` steps of a plan are tuned.
    pub(crate) fn tell_tuning(&self, done: usize, all: usize) {
        if let Some(tell) = self.on_tuning.get() {
            tell(done, all);
        }
    }

    /// The side of the square matrices of f16, summed in f32, that the matrix units take.
    pub(crate) fn matrices(&self) -> Option<u32> {
        self.matrices.as_ref().ok().copied()
    }

    /// Why it has none.
    pub(crate) fn why_no_matrices(&self) -> &str {
        self.matrices.as_ref().err().map_or("", String::as_str)
    }

    /// Whether shaders compute with f16.
    pub(crate) fn has_f16(&self) -> bool {
        self.device.features().contains(wgpu::Features::SHADER_F16)
    }

    pub(crate) fn account(&self) -> &Arc<Account> {
        &self.account
    }

    /// Whether the device is gone for good.
    pub(crate) fn is_lost(&self) -> bool {
        self.trouble.lost.load(Ordering::Acquire)
    }

    /// The operations that one submission may take: what slow devices of the kind do in about half a second. Drivers
    /// reset a device that is busy for longer than a few; those of software do not.
    pub(crate) fn submission_flops(&self) -> u64 {
        self.options.submission_flops.unwrap_or(match self.info.kind {
            DeviceKind::Software => u64::MAX,
            DeviceKind::Discrete => 500_000_000_000,
            _ => 50_000_000_000,
        })
    }

    /// The size of a staging chunk.
    pub(crate) fn staging_bytes(&self) -> usize {
        self.options.staging_bytes.unwrap_or(16 << 20)
    }

    /// Whether weights are packed by the host, in place, and not by shaders: where these run on the processor too, only
    /// slower.
    pub(crate) fn packs_on_host(&self) -> bool {
        self.has_host_memory() && self.options.host_packing.unwrap_or(self.info.kind == DeviceKind::Software)
    }

    /// Whether buffers that the host maps may be bound by shaders too.
    pub(crate) fn has_host_memory(&self) -> bool {
        self.device.features().contains(wgpu::Features::MAPPABLE_PRIMARY_BUFFERS)
    }

    /// What a higher room keeps with the device, made at its first use. There is one such room: the GPU backend.
    pub(crate) fn shared<T: Any + Send + Sync>(&self, make: impl FnOnce() -> T) -> Arc<T> {
        let shared = self.shared.get_or_init(|| Arc::new(make()));
        Arc::clone(shared).downcast().expect("one room keeps one type here")
    }

    /// The error that the device reported since the last call, outside of [`Gpu::scoped`]. A lost device stays lost.
    pub(crate) fn check(&self) -> Result<()> {
        if !self.trouble.any.load(Ordering::Acquire) {
            return Ok(());
        }
        let mut message = self.trouble.message.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_lost() {
            let text = message.as_deref().unwrap_or("it was lost");
            return Err(Error::device(format!("device `{}`: {text}", self.info)).help("open the device again"));
        }
        self.trouble.any.store(false, Ordering::Release);
        match message.take() {
            Some(text) => Err(Error::device(format!("device `{}`: {text}", self.info))),
            None => Ok(()),
        }
    }

    /// Runs `work` and turns what the device finds wrong with it into an error that starts with `what`.
    pub(crate) fn scoped<T>(&self, what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let filters = [wgpu::ErrorFilter::OutOfMemory, wgpu::ErrorFilter::Internal, wgpu::ErrorFilter::Validation];
        let guards = filters.map(|filter| self.device.push_error_scope(filter));
        let result = work();
        let mut found = None;
        for guard in guards.into_iter().rev() {
            // On these backends the answer is there at once.
            found = pollster::block_on(guard.pop()).or(found);
        }
        self.check()?;
        match found {
            Some(error) => Err(Error::device(format!("{what}: device `{}`: {}", self.info, one_line(&error)))),
            None => result,
        }
    }

    /// Waits until the device has done this submission, or everything. The only place that blocks on a device.
    pub(crate) fn wait(&self, submission: Option<wgpu::SubmissionIndex>) -> Result<()> {
        self.poll(wgpu::PollType::Wait { submission_index: submission, timeout: None })
    }

    /// Runs the callbacks of what is done, without waiting: that of a lost device too.
    pub(crate) fn poll_now(&self) -> Result<()> {
        self.poll(wgpu::PollType::Poll)
    }

    fn poll(&self, how: wgpu::PollType) -> Result<()> {
        match poll(&self.device, &self.trouble, how) {
            Ok(()) => self.check(),
            Err(message) => Err(Error::device(format!("device `{}`: {message}", self.info))),
        }
    }

    /// Has a thread of the device's wait for a submission, so that what is mapped after it is told of it.
    pub(crate) fn watch(&self, submission: wgpu::SubmissionIndex, turn: &Arc<Turn>) {
        let start = || {
            let (sender, receiver) = mpsc::channel::<Watched>();
            let (device, trouble) = (self.device.clone(), Arc::clone(&self.trouble));
            let work = move || {
                for (submission, turn) in receiver {
                    let how = wgpu::PollType::Wait { submission_index: Some(submission), timeout: None };
                    if poll(&device, &trouble, how).is_err() || trouble.lost.load(Ordering::Acquire) {
                        turn.fail();
                    }
                }
            };
            // Without a thread the receiver is gone, and sending fails.
            std::thread::Builder::new().name("sconce-gpu".into()).spawn(work).ok();
            sender
        };
        if self.watcher.get_or_init(start).send((submission, Arc::clone(turn))).is_err() {
            turn.fail();
        }
    }
}

/// Polls a device; gives what was wrong with that.
fn poll(device: &wgpu::Device, trouble: &Trouble, how: wgpu::PollType) -> Result<(), String> {
    // Polling a device that the driver has just lost panics in wgpu.
    match catch_unwind(AssertUnwindSafe(|| device.poll(how))) {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => {
            trouble.lost.store(true, Ordering::Release);
            trouble.report("it was lost".into());
            Ok(())
        }
    }
}

/// wgpu's errors are trees over several lines; ours are one line.
fn one_line(error: &wgpu::Error) -> String {
    if matches!(error, wgpu::Error::OutOfMemory { .. }) {
        return "out of memory".into();
    }
    let text = error.to_string();
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines.join(" | ")
}
