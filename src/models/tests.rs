//! The models against torchvision: names, shapes and order of the state dicts, printed trees, output shapes.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::checkpoint::{Storage, StoredTensor};
use crate::dtype::DType;
use crate::error::ErrorKind;
use crate::graph::Graph;
use crate::nn::{self, slots};
use crate::state_dict::Strict;

/// A tensor of any shape that takes four bytes.
fn zeros(shape: &[usize]) -> StoredTensor {
    let storage: Arc<Storage> = Storage::owned(vec![0; 4], "cpu");
    StoredTensor::new(storage, DType::F32, shape, vec![0; shape.len()], 0).unwrap()
}

fn zero_state(net: &dyn Module) -> StateDict {
    slots(net).into_iter().map(|(name, slot)| (name, zeros(slot.shape()))).collect()
}

fn keys(net: &dyn Module) -> String {
    slots(net).iter().fold(String::new(), |mut text, (name, slot)| {
        let _ = writeln!(text, "{name} {}", slot.shape());
        text
    })
}

fn fnv(text: &str) -> String {
    let digest = text.bytes().fold(0xcbf2_9ce4_8422_2325, |digest: u64, byte| {
        (digest ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    format!("{digest:016x}")
}

fn data(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/models").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn state_dicts_and_trees_equal_torchvisions() {
    let digests = data("digests.txt");
    let mut wrong = String::new();
    for line in digests.lines().filter(|line| !line.starts_with('#')) {
        let [name, count, keys_digest, tree_digest] = line.split(' ').collect::<Vec<_>>()[..] else {
            panic!("digests.txt: {line}");
        };
        let net = by_name(name, &StateDict::new()).unwrap();
        if (slots(&net).len().to_string().as_str(), fnv(&keys(&net)).as_str()) != (count, keys_digest) {
            let _ = writeln!(wrong, "{name}: keys differ; compare with tools/torchvision_keys.py --keys {name}");
        }
        if fnv(&format!("{net}\n")) != tree_digest {
            let _ = writeln!(wrong, "{name}: the tree differs; compare with tools/torchvision_keys.py --tree {name}");
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    assert_eq!(digests.lines().count(), NAMES.len(), "one line for the versions, none for mlp");
}

#[test]
fn trees_print_as_in_pytorch() {
    for name in ["resnet18", "squeezenet1_1", "mobilenet_v3_small", "convnext_tiny", "vit_b_16"] {
        let net = by_name(name, &StateDict::new()).unwrap();
        let (found, expected) = (format!("{net}\n"), data(&format!("{name}.txt")));
        let differs = found.lines().zip(expected.lines()).find(|(a, b)| a != b);
        assert!(differs.is_none(), "{name}: {differs:?}");
        assert_eq!(found.len(), expected.len(), "{name}");
    }
}

#[test]
fn every_model_traces_to_its_scores() {
    for name in NAMES.iter().filter(|name| **name != "mlp") {
        let mut net = by_name(name, &StateDict::new()).unwrap();
        let state = zero_state(&net);
        let report = net.load_state_dict(&state, Strict::Yes).unwrap();
        assert_eq!(report.loaded.len(), state.len());
        let mut graph = Graph::new();
        let x = graph.input([2, 3, 224, 224].into(), DType::F32);
        let y = net.forward(&mut graph, x).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(graph.shape(y)[..], [2, 1000], "{name}");
    }
}

#[test]
fn the_head_of_the_state_dict_decides_the_classes() {
    for name in NAMES.iter().filter(|name| **name != "mlp") {
        let net = by_name(name, &StateDict::new()).unwrap();
        let mut state = zero_state(&net);
        let head: Vec<String> =
            state.iter().filter(|(_, t)| t.shape().first() == Some(&1000)).map(|(n, _)| n.to_string()).collect();
        assert_eq!(head.len(), 2, "{name}: weight and bias of the head");
        for key in head {
            let mut shape = state[&key].shape().to_vec();
            shape[0] = 7;
            state.insert(key, zeros(&shape));
        }
        let mut net = by_name(name, &state).unwrap();
        let report = net.load_state_dict(&state, Strict::Yes).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(report.loaded.len(), state.len());
    }
}

#[test]
fn vit_takes_its_image_size_from_the_state_dict() {
    let mut state = zero_state(&vit_b_16());
    state.insert("encoder.pos_embedding", zeros(&[1, 577, 768]));
    let mut net = by_name("vit_b_16", &state).unwrap();
    let report = net.load_state_dict(&state, Strict::Yes).unwrap();
    assert!(report.is_complete());
    let mut graph = Graph::new();
    let x = graph.input([1, 3, 384, 384].into(), DType::F32);
    net.forward(&mut graph, x).unwrap();
    assert_eq!(input_shape("vit_b_16", &state).unwrap()[..], [3, 384, 384]);
    assert_eq!(input_shape("resnet18", &state).unwrap()[..], [3, 224, 224]);
    let x = graph.input([1, 3, 224, 224].into(), DType::F32);
    let error = net.forward(&mut graph, x).unwrap_err();
    assert_eq!(error.to_string(), "vit_b_16: expected images of 384 x 384, found 224 x 224");
}

#[test]
fn mlp_reads_its_sizes() {
    let state = |layers: &[(&str, &[usize])]| -> StateDict {
        layers.iter().map(|(name, shape)| (name.to_string(), zeros(shape))).collect()
    };
    let two = state(&[("a.fc1.weight", &[5, 4]), ("a.fc1.bias", &[5]), ("a.fc2.weight", &[3, 5])]);
    let mut net = by_name("mlp", &two).unwrap();
    assert_eq!(input_shape("mlp", &two).unwrap()[..], [4]);
    assert!(net.load_state_dict(&two, Strict::Yes).unwrap().is_complete());
    assert_eq!(
        net.to_string(),
        "Mlp(\n  (a.fc1): Linear(in_features=4, out_features=5, bias=True)\n  (a.fc2): Linear(in_features=5, out_features=3, bias=False)\n)"
    );
    let bare = state(&[("weight", &[5, 4]), ("bias", &[5])]);
    assert!(by_name("mlp", &bare).unwrap().load_state_dict(&bare, Strict::Yes).unwrap().is_complete());

    let message = |layers: &[(&str, &[usize])]| by_name("mlp", &state(layers)).unwrap_err().to_string();
    assert_eq!(
        message(&[("a.weight", &[5, 4]), ("b.weight", &[3, 6])]),
        "mlp: `b.weight` [3, 6] expects 6 features, `a` gives 5"
    );
    assert_eq!(message(&[("a.weight", &[5, 4]), ("n.weight", &[5])]), "mlp: `n.weight` [5] is not of a linear layer");
    assert_eq!(message(&[]), "mlp: the state dict has no linear layer");
}

#[test]
fn unknown_names_are_refused_with_the_known_ones() {
    let error = by_name("resnet19", &StateDict::new()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let text = error.to_string();
    assert!(text.starts_with("there is no model `resnet19`\n  help: the models are resnet18, "), "{text}");
}

#[test]
fn layers_are_found_by_type() {
    let net = resnet50();
    let convs = net.named_modules().into_iter().filter(|(_, layer)| layer.is::<nn::Conv2d>()).count();
    assert_eq!(convs, 53);
    let modules = net.named_modules();
    let (name, fc) = modules.last().unwrap();
    assert_eq!((name.as_str(), fc.downcast_ref::<nn::Linear>().unwrap().out_features()), ("fc", 1000));
}
