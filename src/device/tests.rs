//! Tests of opening devices; those of adapters run on whatever this machine has.

use super::*;
use crate::error::ErrorKind;

#[test]
fn the_cpu_is_always_there() {
    let device: Device = "cpu".parse().unwrap();
    assert!(device.is_cpu());
    assert_eq!(device.info().id, "cpu");
    assert_eq!(Device::cpu_with_threads(0).to_string(), "cpu (1 thread)");
    assert_eq!(Device::cpu_with_threads(3).to_string(), "cpu (3 threads)");
    assert_eq!(Device::list()[0].id, "cpu");
    assert_eq!(device.memory_in_use(), MemoryUse::default());
}

#[test]
fn a_device_that_is_not_there_is_an_error() {
    let error = Device::open("gpu:99").unwrap_err();
    let kind = if cfg!(feature = "gpu") { ErrorKind::Device } else { ErrorKind::Disabled };
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.to_string().starts_with("device `gpu:99`"), "{error}");
    assert!(error.to_string().contains("help: "), "{error}");
    assert!("no-such-adapter".parse::<Device>().is_err());
}

#[test]
fn devices_cross_threads() {
    fn check<T: Send + Sync + Clone>() {}
    check::<Device>();
}

/// Fails without an adapter when `SCONCE_REQUIRE_GPU=1` says that there must be one; else says that a test was skipped.
#[cfg(feature = "gpu")]
#[allow(clippy::print_stderr)]
pub(crate) fn expect_adapters(count: usize) {
    let required = std::env::var("SCONCE_REQUIRE_GPU").is_ok_and(|value| value == "1");
    assert!(count > 0 || !required, "`SCONCE_REQUIRE_GPU=1`, but there is no adapter");
    if count == 0 {
        eprintln!("skipped: there is no GPU adapter");
    }
}

/// Runs a test on new connections to every adapter, with the shaders' runtime checks on and off.
#[cfg(feature = "gpu")]
pub(crate) fn on_every_new_gpu(options: gpu::GpuOptions, test: impl Fn(&Arc<gpu::Gpu>)) {
    let mut count = 0;
    for checks in [true, false] {
        for gpu in adapters::open_all(gpu::GpuOptions { checks, ..options }).expect("adapters open") {
            test(&gpu);
            count += 1;
        }
    }
    expect_adapters(count);
}

#[cfg(feature = "gpu")]
mod opened {
    use super::*;

    /// The name of an adapter that can run models, if there is one.
    fn adapter() -> Option<String> {
        let found = Device::list().into_iter().find(|info| info.limits.is_some() && info.unsupported.is_none());
        expect_adapters(usize::from(found.is_some()));
        found.map(|info| info.name)
    }

    #[test]
    fn an_adapter_is_opened_once_by_its_name() {
        let Some(name) = adapter() else { return };
        let (a, b) = (Device::open(&name).unwrap(), Device::open(&name.to_uppercase()).unwrap());
        let (Kind::Gpu(a), Kind::Gpu(b)) = (a.kind(), b.kind()) else { panic!("{name} is no CPU") };
        assert!(Arc::ptr_eq(a, b));
        assert_eq!(a.info().name, name);
    }

    #[test]
    fn a_lost_device_is_an_error_that_stays() {
        on_every_new_gpu(gpu::GpuOptions::default(), |gpu| {
            gpu.device().destroy();
            let _ = gpu.poll_now();
            assert!(gpu.is_lost());
            for _ in 0..2 {
                let error = gpu.check().unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Device);
                assert!(error.to_string().contains("open the device again"), "{error}");
            }
            let usage = wgpu::BufferUsages::STORAGE;
            assert!(memory::Buffer::new(gpu, "test", 16, usage, memory::Purpose::Arena, false).is_err());
            assert_eq!(gpu.account().memory().total(), 0);
        });
    }

    #[test]
    fn switches_are_0_or_1() {
        let switch = |value: Option<&str>| gpu::switch("SCONCE_TUNE", value.map(AsRef::as_ref));
        assert!(switch(Some("1")).unwrap());
        assert!([None, Some(""), Some("0")].into_iter().all(|value| !switch(value).unwrap()));
        assert_eq!(switch(Some("yes")).unwrap_err().to_string(), "`SCONCE_TUNE=yes`: 0 or 1 is expected");
    }

    #[test]
    fn errors_of_the_device_are_ours() {
        on_every_new_gpu(gpu::GpuOptions::default(), |gpu| {
            let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::MAP_WRITE | wgpu::BufferUsages::INDEX;
            let descriptor = wgpu::BufferDescriptor { label: None, size: 17, usage, mapped_at_creation: true };
            let error = gpu.scoped("`x`", || Ok(gpu.device().create_buffer(&descriptor))).unwrap_err().to_string();
            assert!(error.starts_with("`x`: device `") && !error.contains('\n'), "{error}");
            gpu.check().unwrap();
            // Without a scope the next call says it, once.
            let _ = gpu.device().create_buffer(&descriptor);
            assert!(gpu.check().is_err());
            gpu.check().unwrap();
            let limit = gpu.limits().max_buffer_size;
            let error = memory::Buffer::new(gpu, "`w`", limit + 1, usage, memory::Purpose::Arena, false).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported);
            assert!(error.to_string().starts_with("`w` takes"), "{error}");
        });
    }
}
