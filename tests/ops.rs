//! Every op, chain and block of `tools/reference.py` on every device, against what PyTorch gives.

mod common;

use std::sync::Arc;

use common::cases::{Case, read_family, run_case};
use common::devices;
use sconce::Device;

/// Runs the cases of a family on these devices and reports all that fail.
fn run_family<'a>(family: &str, devices: impl Iterator<Item = &'a Device>) {
    let cases = read_family(family).unwrap_or_else(|error| panic!("{error}"));
    assert!(!cases.is_empty());
    let mut failures = Vec::new();
    let mut runs = 0;
    for device in devices {
        for case in &cases {
            runs += 1;
            failures.extend(run_case(case, device).err().map(|error| format!("{} on {device}: {error}", case.name)));
        }
    }
    assert!(failures.is_empty(), "{} of {runs} cases failed:\n{}", failures.len(), failures.join("\n"));
}

macro_rules! families {
    ($($family:ident)*) => {
        $(#[test] fn $family() { run_family(stringify!($family), devices().iter()); })*

        #[test]
        fn every_file_is_tested() {
            let mut files: Vec<String> = std::fs::read_dir(common::data("ops"))
                .unwrap()
                .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_string())
                .collect();
            let mut tested = vec![$(stringify!($family)),*, "special"];
            files.sort();
            tested.sort();
            assert_eq!(files, tested);
        }
    };
}

families! {
    activations batch_norm binary blocks conv1d conv2d cumsum embedding fusion layer_norm linear matmul pools reduce
    scaled_dot_product_attention softmax views
}

/// NaN and infinities. WGSL lets a device assume that there are none, so the GPUs are left out.
#[test]
fn special() {
    run_family("special", devices().iter().filter(|device| device.is_cpu()));
}

/// A case of `family` changed by `change`.
fn changed(family: &str, name: &str, change: impl FnOnce(&mut Case)) -> Arc<Case> {
    let cases = read_family(family).unwrap();
    let case = cases.into_iter().find(|case| case.name == format!("{family}.{name}")).expect("the case is there");
    let mut case = Arc::into_inner(case).expect("the only owner");
    change(&mut case);
    Arc::new(case)
}

#[test]
fn the_harness_notices_a_wrong_op() {
    let cpu = Device::cpu_with_threads(1);
    let wrong = |op: &str| {
        let op = op.to_string();
        run_case(&changed("binary", "add_2x3x4x5_3x1x1", |case| case.nodes[0].op = op), &cpu)
    };
    assert_eq!(wrong("add"), Ok(()));
    assert!(wrong("sub").unwrap_err().contains("elements differ"));
}

#[test]
fn the_harness_notices_a_wrong_weight() {
    let cpu = Device::cpu_with_threads(1);
    let run = |name: &'static str| run_case(&changed("fusion", name, |_| ()), &cpu);
    assert_eq!(run("conv_bn"), Ok(()));
    let swapped = changed("fusion", "conv_bn", |case| {
        let (mean, shift) = (1, case.parameters.len() - 1);
        assert!(case.parameters[mean].0.ends_with("running_mean") && case.parameters[shift].0.ends_with("bias"));
        let tensor = case.parameters[mean].1.clone();
        case.parameters[mean].1 = case.parameters[shift].1.clone();
        case.parameters[shift].1 = tensor;
    });
    assert!(run_case(&swapped, &cpu).unwrap_err().contains("elements differ"));
}

#[test]
fn the_harness_notices_a_wrong_shape() {
    let case = changed("views", "reshape_3d_to_6x4", |case| case.expected[0] = case.inputs[0].clone());
    let error = run_case(&case, &Device::cpu_with_threads(1)).unwrap_err();
    assert_eq!(error, "output 0: expected float32 [2, 3, 4], found float32 [6, 4]");
}
