//! What the tests against PyTorch share: the devices, the comparison, and numbers made from names.

// Every test program has this module and uses a part of it.
#![allow(dead_code)]

pub(crate) mod cases;
pub(crate) mod compare;

use std::sync::OnceLock;

use sconce::checkpoint::StoredTensor;
use sconce::nn::Module;
use sconce::{DType, Device, Shape, StateDict, Tensor};

/// A file of `tests/data`.
pub(crate) fn data(name: &str) -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

/// Every device to test: the CPU with one thread and with two, and every GPU that models can run on.
///
/// # Panics
/// When `SCONCE_REQUIRE_GPU=1` and there is no GPU.
pub(crate) fn devices() -> &'static [Device] {
    static DEVICES: OnceLock<Vec<Device>> = OnceLock::new();
    DEVICES.get_or_init(|| {
        let mut devices = vec![Device::cpu_with_threads(1), Device::cpu_with_threads(2)];
        devices.extend(gpus(std::env::var("SCONCE_REQUIRE_GPU").is_ok_and(|value| value == "1")));
        devices
    })
}

/// The GPUs that have a number: real ones, or the software adapter that `SCONCE_ADAPTER` names.
#[allow(clippy::print_stderr)]
fn gpus(required: bool) -> Vec<Device> {
    let open = |id: &str| Device::open(id).unwrap_or_else(|error| panic!("{id} is listed but does not open: {error}"));
    let listed = Device::list();
    let gpus: Vec<Device> = listed
        .iter()
        .filter(|info| info.id.starts_with("gpu:") && info.unsupported.is_none())
        .map(|info| open(&info.id))
        .collect();
    assert!(!required || !gpus.is_empty(), "SCONCE_REQUIRE_GPU=1, but there is no GPU among {listed:?}");
    if gpus.is_empty() {
        eprintln!("skipped on the GPU: there is none (SCONCE_ADAPTER=llvmpipe selects the software one)");
    }
    gpus
}

/// The seed of a name (FNV-1a).
fn seed(name: &str) -> u64 {
    name.bytes().fold(0xCBF2_9CE4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3))
}

/// Numbers in -1..1 that depend on the name alone (splitmix64), as `numbers` in `tools/reference_cases/models.py`.
pub(crate) fn numbers(name: &str) -> impl Iterator<Item = f64> {
    let seed = seed(name);
    (0..).map(move |i: u64| {
        let mut x = seed.wrapping_add(i.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        x ^= x >> 31;
        (x >> 40) as f64 / f64::from(1 << 23) - 1.0
    })
}

/// A tensor of such numbers times `scale`.
pub(crate) fn made_input(shape: impl Into<Shape>, scale: f64) -> Tensor {
    let shape = shape.into();
    let data: Vec<f32> = numbers("input").take(shape.numel()).map(|x| (x * scale) as f32).collect();
    Tensor::new(shape, data).expect("as many numbers as the shape has")
}

/// A state dict of made-up weights that fits `net`, as `made_weight` in `tools/reference_cases/models.py` makes them;
/// `gain` is what the weights of normalisations are around.
pub(crate) fn made_state_dict(net: &dyn Module, gain: f64) -> StateDict {
    let parameters = net.named_parameters().into_iter().map(|(name, parameter)| (name, parameter.shape().clone()));
    let buffers = net.named_buffers().into_iter().map(|(name, buffer)| (name, buffer.shape().clone()));
    let mut state = StateDict::new();
    for (name, shape) in parameters.chain(buffers) {
        let tensor = match name.ends_with("num_batches_tracked") {
            true => StoredTensor::from_bytes(DType::I64, shape, vec![0; 8]),
            false => StoredTensor::from_bytes(DType::F32, shape.clone(), made_weight(&name, &shape, gain)),
        };
        state.insert(name, tensor.expect("as many bytes as the shape needs"));
    }
    state
}

/// The bytes of the made-up tensor `name`: sizes that keep the values of a deep network in range.
fn made_weight(name: &str, shape: &[usize], gain: f64) -> Vec<u8> {
    let fan_in: usize = shape.iter().skip(1).product();
    let bound = (6.0 / fan_in as f64).sqrt();
    let scaled = |x: f64| {
        if name.ends_with("running_var") {
            1.0 + 0.5 * x
        } else if name.ends_with("layer_scale") {
            0.3 * x
        } else if shape.len() > 1 {
            x * bound
        } else if name.ends_with("weight") {
            gain * (1.0 + 0.25 * x)
        } else {
            0.05 * x
        }
    };
    let mut bytes = Vec::with_capacity(shape.iter().product::<usize>() * 4);
    for x in numbers(name).take(shape.iter().product()) {
        bytes.extend_from_slice(&(scaled(x) as f32).to_le_bytes());
    }
    bytes
}

#[test]
fn numbers_are_those_of_python() {
    let first: Vec<f64> = numbers("conv1.weight").take(3).collect();
    assert_eq!(first, PYTHON_NUMBERS);
}

/// `numbers("conv1.weight", 3)` in Python.
const PYTHON_NUMBERS: [f64; 3] = [-0.362_950_086_593_627_93, 0.090_149_879_455_566_4, 0.490_323_424_339_294_43];

#[test]
fn a_gpu_that_is_required_and_missing_fails() {
    if gpus(false).is_empty() {
        assert!(std::panic::catch_unwind(|| gpus(true)).is_err());
    }
}
