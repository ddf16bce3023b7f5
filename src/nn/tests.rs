//! How layers print and how state dicts are loaded.

use super::*;
use crate::checkpoint::{Dict, StoredTensor};
use crate::dtype::DType;
use crate::error::{Error, ErrorKind, Result};
use crate::graph::{Graph, Var};
use crate::state_dict::{Mismatch, StateDict, Strict};

fn zeros(dtype: DType, shape: &[usize]) -> StoredTensor {
    StoredTensor::from_bytes(dtype, shape, vec![0; shape.iter().product::<usize>() * dtype.size()]).unwrap()
}

fn state(tensors: &[(&str, &[usize])]) -> StateDict {
    tensors.iter().map(|(name, shape)| (name.to_string(), zeros(DType::F32, shape))).collect()
}

fn net() -> Sequential {
    let body = Sequential::new().append(Linear::new(3, 4)).append(BatchNorm1d::new(4)).append(ReLU::new());
    Sequential::new().add_module("body", body).add_module("head", Linear::new(4, 2))
}

/// The state dict of `net()`, as PyTorch orders it.
const NET: &[(&str, &[usize])] = &[
    ("body.0.weight", &[4, 3]),
    ("body.0.bias", &[4]),
    ("body.1.weight", &[4]),
    ("body.1.bias", &[4]),
    ("body.1.running_mean", &[4]),
    ("body.1.running_var", &[4]),
    ("body.1.num_batches_tracked", &[]),
    ("head.weight", &[2, 4]),
    ("head.bias", &[2]),
];

#[test]
fn layers_print_as_in_pytorch() {
    let same =
        Conv2d::new(4, 4, (3, 1)).padding(Padding::Same).padding_mode(PaddingMode::Reflect).groups(2).dilation(2);
    let layers: Vec<(Box<dyn Module>, &str)> = vec![
        (Box::new(Linear::new(3, 4)), "Linear(in_features=3, out_features=4, bias=True)"),
        (Box::new(Conv1d::new(3, 4, 3)), "Conv1d(3, 4, kernel_size=(3,), stride=(1,))"),
        (
            Box::new(same),
            "Conv2d(4, 4, kernel_size=(3, 1), stride=(1, 1), padding=same, dilation=(2, 2), groups=2, padding_mode=reflect)",
        ),
        (
            Box::new(Conv2d::new(3, 3, 1).padding((1, 0)).padding_mode(PaddingMode::Circular).bias(false)),
            "Conv2d(3, 3, kernel_size=(1, 1), stride=(1, 1), padding=(1, 0), bias=False, padding_mode=circular)",
        ),
        (
            Box::new(Conv2d::new(3, 3, 1).padding(Padding::Valid)),
            "Conv2d(3, 3, kernel_size=(1, 1), stride=(1, 1), padding=valid)",
        ),
        (
            Box::new(BatchNorm1d::new(3).affine(false)),
            "BatchNorm1d(3, eps=1e-05, momentum=0.1, affine=False, bias=False, track_running_stats=True)",
        ),
        (
            Box::new(BatchNorm2d::new(3).momentum(None).eps(1e-3).track_running_stats(false)),
            "BatchNorm2d(3, eps=0.001, momentum=None, affine=True, bias=True, track_running_stats=False)",
        ),
        (Box::new(LayerNorm::new([3, 4])), "LayerNorm((3, 4), eps=1e-05, elementwise_affine=True, bias=True)"),
        (Box::new(LayerNorm::new([3]).bias(false)), "LayerNorm((3,), eps=1e-05, elementwise_affine=True, bias=False)"),
        (Box::new(Embedding::new(10, 3).padding_idx(0)), "Embedding(10, 3, padding_idx=0)"),
        (Box::new(Dropout::new(0.5)), "Dropout(p=0.5, inplace=False)"),
        (Box::new(Identity::new()), "Identity()"),
        (Box::new(Flatten::new()), "Flatten(start_dim=1, end_dim=-1)"),
        (Box::new(ReLU::new()), "ReLU()"),
        (Box::new(ReLU6::new().inplace(true)), "ReLU6(inplace=True)"),
        (Box::new(LeakyReLU::default().inplace(true)), "LeakyReLU(negative_slope=0.01, inplace=True)"),
        (Box::new(SiLU::new()), "SiLU()"),
        (Box::new(GELU::new()), "GELU(approximate='none')"),
        (Box::new(GELU::new().approximate(Approximate::Tanh)), "GELU(approximate='tanh')"),
        (Box::new(Hardswish::new()), "Hardswish()"),
        (Box::new(Hardtanh::new(-1.0, 1.0)), "Hardtanh(min_val=-1.0, max_val=1.0)"),
        (Box::new(ELU::new(0.5).inplace(true)), "ELU(alpha=0.5, inplace=True)"),
        (Box::new(Softmax::new(1)), "Softmax(dim=1)"),
        (Box::new(LogSoftmax::new(-1)), "LogSoftmax(dim=-1)"),
        (
            Box::new(MaxPool2d::new((2, 3)).stride(2).padding(1).ceil_mode(true)),
            "MaxPool2d(kernel_size=(2, 3), stride=2, padding=1, dilation=1, ceil_mode=True)",
        ),
        (Box::new(MaxPool1d::new(2)), "MaxPool1d(kernel_size=2, stride=2, padding=0, dilation=1, ceil_mode=False)"),
        (Box::new(AvgPool1d::new(3).stride(2)), "AvgPool1d(kernel_size=(3,), stride=(2,), padding=(0,))"),
        (Box::new(AvgPool2d::new(2)), "AvgPool2d(kernel_size=2, stride=2, padding=0)"),
        (Box::new(AdaptiveAvgPool1d::new(3usize)), "AdaptiveAvgPool1d(output_size=3)"),
        (Box::new(AdaptiveAvgPool2d::new([None, Some(2)])), "AdaptiveAvgPool2d(output_size=(None, 2))"),
        (Box::new(AdaptiveMaxPool2d::new((1, 2))), "AdaptiveMaxPool2d(output_size=(1, 2))"),
        (Box::new(Sequential::new()), "Sequential()"),
    ];
    for (layer, text) in layers {
        assert_eq!(layer.to_string(), text);
    }
}

#[test]
fn equal_neighbours_of_a_list_print_once() {
    let encoder = TransformerEncoder::new(|| TransformerEncoderLayer::new(8, 2), 2);
    let text = encoder.to_string();
    let head = "TransformerEncoder(\n  (layers): ModuleList(\n    (0-1): 2 x TransformerEncoderLayer(\n      (self_attn): MultiheadAttention(\n        (out_proj): NonDynamicallyQuantizableLinear(in_features=8, out_features=8, bias=True)\n      )\n      (linear1): ";
    assert!(text.starts_with(head), "{text}");
    let list = ModuleList::new().append(ReLU::new()).append(ReLU::new()).append(Linear::new(2, 2));
    assert_eq!(
        list.to_string(),
        "ModuleList(\n  (0-1): 2 x ReLU()\n  (2): Linear(in_features=2, out_features=2, bias=True)\n)"
    );
}

#[test]
fn names_are_in_pytorchs_order() {
    let net = net();
    let names: Vec<(String, Vec<usize>)> =
        slots(&net).into_iter().map(|(name, slot)| (name, slot.shape().to_vec())).collect();
    let expected: Vec<(String, Vec<usize>)> =
        NET.iter().map(|(name, shape)| (name.to_string(), shape.to_vec())).collect();
    assert_eq!(names, expected);
    let buffers: Vec<String> = net.named_buffers().into_iter().map(|(name, _)| name).collect();
    assert_eq!(buffers, ["body.1.running_mean", "body.1.running_var", "body.1.num_batches_tracked"]);
    let modules: Vec<String> = net.named_modules().into_iter().map(|(name, _)| name).collect();
    assert_eq!(modules, ["", "body", "body.0", "body.1", "body.2", "head"]);
}

#[test]
fn loaded_tensors_are_views_of_the_file_under_its_names() -> Result<()> {
    let (mut net, state) = (net(), state(NET));
    let report = net.load_state_dict(&state, Strict::Yes)?;
    assert_eq!(report.to_string(), "state dict fits the model: 9 of 9 loaded");
    let loaded = net.state_dict();
    assert!(loaded.names().eq(NET.iter().map(|(name, _)| *name)));
    assert!(loaded.iter().all(|(name, tensor)| tensor.is_same_view(&state[name])));
    let mut graph = Graph::new();
    let head = net.get("head").unwrap().downcast_ref::<Linear>().unwrap();
    let var = head.weight.var(&mut graph)?;
    assert_eq!(graph.name(var), "head.weight");
    Ok(())
}

#[test]
fn every_problem_is_in_one_error_and_nothing_is_loaded() {
    let mut net = net();
    let mut bad = state(&NET[..8]);
    bad.insert("body.0.bias", zeros(DType::F32, &[5]));
    bad.insert("body.1.weight", zeros(DType::Complex64, &[4]));
    bad.insert("fc.weight", zeros(DType::F32, &[1]));
    let error = net.load_state_dict(&bad, Strict::Yes).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StateDict);
    assert_eq!(
        error.to_string(),
        "\
state dict does not fit the model: 6 of 9 loaded, 1 missing, 1 unexpected, 1 with the wrong shape, 1 with a dtype that does not run
  missing     head.bias
  unexpected  fc.weight
  shape       body.0.bias: model [4], file [5]
  dtype       body.1.weight: complex64"
    );
    assert!(net.state_dict().is_empty());

    let report = net.load_state_dict(&bad, Strict::No).unwrap();
    assert_eq!(report.to_string(), error.to_string());
    assert_eq!(net.state_dict().len(), 6);
    let shape = Mismatch::Shape { name: "body.0.bias".into(), model: [4].into(), file: [5].into() };
    assert_eq!(report.mismatched[0], shape);
}

#[test]
fn prefixes_are_named_with_their_fix() {
    let help = |names: &[(&str, &[usize])], change: &dyn Fn(StateDict) -> StateDict| -> String {
        let error = net().load_state_dict(&change(state(names)), Strict::Yes).unwrap_err().to_string();
        error.split_once("  help: ").map_or(String::new(), |(_, help)| help.to_string())
    };
    for prefix in ["module.", "_orig_mod.", "module._orig_mod."] {
        assert_eq!(
            help(NET, &|s| s.add_prefix(prefix)),
            format!(
                "the file's names start with `{prefix}`; try `state_dict.strip_prefix(\"{prefix}\")` (`--strip-prefix {prefix}`)"
            )
        );
    }
    assert_eq!(
        help(NET, &|s| s.add_prefix("model.").merge(&state(&[("loss.alpha", &[])]))),
        "the file has these names under `model.`; try `state_dict.select(\"model.\")`"
    );
    assert_eq!(
        help(NET, &|s| s.select("body.")),
        "the model's names start with `body.`; try `state_dict.add_prefix(\"body.\")`"
    );
    assert_eq!(help(&[], &|s| s), "the state dict is empty");
    assert_eq!(help(&NET[1..], &|s| s), "");
}

#[test]
fn long_lists_are_cut() {
    let empty: StateDict = state(&[("x", &[1])]);
    let error = net().load_state_dict(&empty, Strict::Yes).unwrap_err().to_string();
    assert_eq!(error.lines().filter(|line| line.starts_with("  missing")).count(), 8);
    let list = (0..30).fold(Sequential::new(), |list, _| list.append(Linear::new(1, 1).bias(false)));
    let mut list: Box<dyn Module> = Box::new(list);
    let error = list.load_state_dict(&empty, Strict::Yes).unwrap_err().to_string();
    let lines: Vec<&str> = error.lines().collect();
    assert_eq!(lines[0], "state dict does not fit the model: 0 of 30 loaded, 30 missing, 1 unexpected");
    assert_eq!(lines[8..], ["  missing     7.weight", "  missing     ... and 22 more", "  unexpected  x"]);
}

#[test]
fn only_old_state_dicts_may_lack_num_batches_tracked() {
    let old = state(NET).filter(|name, _| !name.ends_with("num_batches_tracked"));
    assert!(net().load_state_dict(&old, Strict::Yes).unwrap().is_complete());
    let version = Dict::from_iter([("version", 2i64)]).into();
    let new = old.with_metadata([("body.1".to_string(), version)]);
    let error = net().load_state_dict(&new, Strict::Yes).unwrap_err();
    assert!(error.to_string().contains("  missing     body.1.num_batches_tracked"), "{error}");
}

#[test]
fn weights_without_a_value_are_named() {
    let forward = |net: &dyn Module| -> Error {
        let mut graph = Graph::new();
        let x = graph.input([1, 3].into(), DType::F32);
        net.forward(&mut graph, x).unwrap_err()
    };
    let mut net = net();
    assert_eq!(
        net.check_loaded().unwrap_err().to_string(),
        "the model has 8 parameters without a value: `body.0.weight`, `body.0.bias`, `body.1.weight`, `body.1.bias` \
         ... and 4 more\n  help: call `load_state_dict` with a state dict that has them"
    );
    assert_eq!(
        forward(&net).to_string(),
        "a parameter of shape [4, 3] has no value: no state dict was loaded\n  help: call `load_state_dict` first"
    );
    let report = net.load_state_dict(&state(&NET[1..]), Strict::No).unwrap();
    assert_eq!(report.missing, ["body.0.weight"]);
    assert!(net.check_loaded().unwrap_err().to_string().contains("1 parameter without a value: `body.0.weight`\n"));
    assert_eq!(forward(&net).to_string(), "`body.0.weight` [4, 3] has no value: the state dict lacked it");
}

#[test]
fn inputs_of_the_wrong_rank_are_refused() {
    let mut norm = BatchNorm2d::new(4).track_running_stats(false).affine(false);
    assert!(norm.load_state_dict(&StateDict::new(), Strict::Yes).is_ok());
    let mut graph = Graph::new();
    let x = graph.input([2, 4, 5].into(), DType::F32);
    let error = norm.forward(&mut graph, x).unwrap_err();
    assert_eq!(error.to_string(), "batch_norm2d: expected an input of 4 dimensions, found [2, 4, 5]");
    assert!(ModuleList::new().forward(&mut graph, x).is_err());
}

#[test]
fn attention_keeps_the_shape_of_its_query() -> Result<()> {
    let shapes = |shape: &[usize], batch_first: bool| -> Result<Vec<usize>> {
        let mut attention = MultiheadAttention::new(8, 2).batch_first(batch_first);
        let tensors: Vec<_> =
            slots(&attention).iter().map(|(n, s)| (n.clone(), zeros(DType::F32, s.shape()))).collect();
        let _ = attention.load_state_dict(&tensors.into_iter().collect(), Strict::Yes)?;
        let mut graph = Graph::new();
        let x = graph.input(shape.into(), DType::F32);
        let y: Var = attention.forward(&mut graph, x)?;
        let other = graph.input(shape.into(), DType::F32);
        let z = attention.attend(&mut graph, [x, other, other], None, true)?;
        assert_eq!(graph.shape(y), graph.shape(z));
        Ok(graph.shape(y).to_vec())
    };
    assert_eq!(shapes(&[5, 3, 8], false)?, [5, 3, 8]);
    assert_eq!(shapes(&[5, 3, 8], true)?, [5, 3, 8]);
    assert_eq!(shapes(&[5, 8], false)?, [5, 8]);
    assert!(shapes(&[8], false).is_err());
    Ok(())
}
