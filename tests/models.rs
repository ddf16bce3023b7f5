//! Every architecture with made-up weights, against what torchvision gives with the same ones.

mod common;

use std::sync::{Mutex, PoisonError};

use common::cases::index;
use common::compare::{Tolerance, compare};
use common::{data, devices, made_input, made_state_dict};
use sconce::nn::Module;
use sconce::{Device, Model, StateDict, Strict, Tensor, models};

/// Sums of thousands of terms, one after the other through up to 150 layers; the largest output is the measure.
const TOLERANCE: Tolerance = Tolerance::OfLargest(1e-4);

/// One model at a time: vgg19 alone has 575 MB of weights.
static ONE: Mutex<()> = Mutex::new(());

fn check<'a>(name: &str, devices: impl Iterator<Item = &'a Device>) {
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let file = sconce::load(data("models.pt")).unwrap();
    let reference = &file["models"][name];
    let side = index(&reference["side"]).unwrap();
    let expected = Tensor::from_stored(reference["output"].as_tensor().unwrap()).unwrap();
    let state = made_state_dict(&*network(name), reference["gain"].as_f64().unwrap());
    let x = made_input([1, 3, side, side], 2.0);
    for device in devices {
        let mut net = network(name);
        net.load_state_dict(&state, Strict::Yes).unwrap();
        let found = Model::new(net, device).unwrap().run(std::slice::from_ref(&x)).unwrap();
        compare(&found, std::slice::from_ref(&expected), TOLERANCE)
            .unwrap_or_else(|error| panic!("{name} on {device}: {error}"));
    }
}

fn network(name: &str) -> Box<dyn Module> {
    models::by_name(name, &StateDict::new()).unwrap()
}

macro_rules! models {
    (every device: $($small:ident)*; cpu: $($large:ident)*) => {
        $(#[test] fn $small() { check(stringify!($small), devices().iter().skip(1)); })*
        $(#[test] fn $large() { check(stringify!($large), devices().iter().skip(1).take(1)); })*

        #[test]
        fn every_model_is_tested() {
            let mut tested = vec![$(stringify!($small),)* $(stringify!($large)),*];
            let mut known: Vec<&str> = models::NAMES.iter().copied().filter(|name| *name != "mlp").collect();
            tested.sort();
            known.sort();
            assert_eq!(tested, known);
        }
    };
}

// The large ones take a software GPU minutes.
models! {
    every device:
        resnet18 mobilenet_v2 mobilenet_v3_small squeezenet1_1 densenet121 efficientnet_b0 convnext_tiny;
    cpu:
        resnet34 resnet50 resnet101 resnet152 resnext50_32x4d wide_resnet50_2 vgg11 vgg13 vgg16 vgg19 vgg11_bn vgg13_bn
        vgg16_bn vgg19_bn alexnet mobilenet_v3_large squeezenet1_0 vit_b_16
}

#[test]
fn the_harness_notices_one_changed_weight() {
    let file = sconce::load(data("models.pt")).unwrap();
    let expected = Tensor::from_stored(file["models"]["squeezenet1_1"]["output"].as_tensor().unwrap()).unwrap();
    let mut net = network("squeezenet1_1");
    let mut state = made_state_dict(&*net, 0.8);
    let mut swapped = state["features.0.weight"].contiguous_bytes().unwrap().into_owned();
    let at = 4 * 100;
    swapped[at..at + 4].copy_from_slice(&2f32.to_le_bytes());
    let weight = sconce::checkpoint::StoredTensor::from_bytes(sconce::DType::F32, [64, 3, 3, 3], swapped).unwrap();
    state.insert("features.0.weight", weight);
    net.load_state_dict(&state, Strict::Yes).unwrap();
    let model = Model::new(net, &Device::cpu()).unwrap();
    let found = model.run(&[made_input([1, 3, 64, 64], 2.0)]).unwrap();
    assert!(compare(&found, &[expected], TOLERANCE).unwrap_err().contains("elements differ"));
}
