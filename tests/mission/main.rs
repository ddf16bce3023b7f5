//! What people do with `torch.save` and `torch.load`, case by case, with the files that `tools/mission.py` wrote with
//! PyTorch and what PyTorch says of them. Case 19, training that goes on, is in `tests/saving.rs`.

#[path = "../common/mod.rs"]
mod common;
mod names;
mod nets;
mod places;

use std::io::Read;
use std::sync::{Arc, OnceLock};

use common::compare::{Tolerance, compare};
use common::devices;
use nets::{Net, Printed};
use sconce::checkpoint::{Dict, Value};
use sconce::nn::{self, Module};
use sconce::{Checkpoint, Model, OptimizerState, StateDict, Strict, Tensor};

/// The sums have at most 144 terms, in four layers.
const TOLERANCE: Tolerance = Tolerance::OfLargest(5e-6);

fn load(name: &str) -> Checkpoint {
    sconce::load(common::data(&format!("mission/{name}.pt"))).unwrap()
}

/// A place for a file that a test writes.
fn scratch(name: &str) -> std::path::PathBuf {
    let folder = std::env::temp_dir().join(format!("sconce-mission-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    folder.join(name)
}

/// Saves under this name, and loads.
fn resaved(value: impl Into<Value>, name: &str) -> Checkpoint {
    let path = scratch(name);
    sconce::save(value, &path).unwrap();
    let file = sconce::load(&path).unwrap();
    // Where an open file cannot be removed, the folder for temporary files keeps it.
    let _ = std::fs::remove_file(&path);
    file
}

/// What PyTorch says of a case.
fn expected(case: &str) -> &'static Value {
    static EXPECTED: OnceLock<Checkpoint> = OnceLock::new();
    &EXPECTED.get_or_init(|| load("expected"))[case]
}

fn tensor(value: &Value) -> Tensor {
    Tensor::from_stored(value.as_tensor().unwrap()).unwrap()
}

fn floats(value: &Value) -> Vec<f32> {
    tensor(value).to_f32().unwrap()
}

/// The strings of a list.
fn strings(value: &Value) -> Vec<&str> {
    value.as_list().unwrap().iter().map(|name| name.as_str().unwrap()).collect()
}

/// A list of pairs of a name and a shape.
fn shapes(value: &Value) -> Vec<(String, Vec<usize>)> {
    let sizes = |sizes: &Value| sizes.as_list().unwrap().iter().map(|n| n.as_i64().unwrap() as usize).collect();
    let pair = |pair: &Value| (pair[0].as_str().unwrap().to_string(), sizes(&pair[1]));
    value.as_list().unwrap().iter().map(pair).collect()
}

/// Loads the state dict strictly into nets that `make` gives, and compares their outputs on every device with PyTorch's.
fn check(case: &str, state: &StateDict, make: impl Fn() -> Box<dyn Module>) {
    for device in devices() {
        let mut net = make();
        assert!(net.load_state_dict(state, Strict::Yes).unwrap().is_complete());
        let model = Model::new(net, device).unwrap();
        let y = model.run(&[tensor(&expected(case)["x"])]).unwrap();
        compare(&y, &[tensor(&expected(case)["y"])], TOLERANCE)
            .unwrap_or_else(|error| panic!("case {case} on {device}: {error}"));
    }
}

fn net() -> Box<dyn Module> {
    Box::new(Net::new(3))
}

/// `torch.save(model.state_dict(), PATH)`. That a path is no dict is an example of `load_state_dict`, which must not
/// compile.
#[test]
fn case_01_state_dict() {
    check("1", &load("01_state_dict").state_dict().unwrap(), net);
}

#[test]
fn case_02_names_and_values() {
    let state = load("01_state_dict").state_dict().unwrap();
    assert!(state.names().eq(strings(&expected("2")["names"])));
    let weight = state.get_tensor("fc2.weight").unwrap();
    let values: Vec<f32> =
        expected("2")["fc2.weight"].as_list().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect();
    assert_eq!(weight.as_slice::<f32>().unwrap(), values);
    let npy = common::data("mission/02_fc2_weight.npy");
    assert_eq!(weight.to_npy().unwrap(), std::fs::read(&npy).unwrap());
    assert_eq!(Tensor::read_npy(npy).unwrap().bytes(), weight.bytes());
    #[cfg(feature = "ndarray")]
    {
        let array = weight.as_ndarray::<f32>().unwrap();
        assert_eq!((array.shape(), array[[1, 2]]), (&[3, 8][..], values[8 + 2]));
        let turned = Tensor::from_ndarray(&array.t()).unwrap();
        assert_eq!((turned.shape()[0], turned.as_slice::<f32>().unwrap()[1]), (8, values[8]));
    }
}

#[test]
fn case_03_parameters() {
    let state = load("01_state_dict").state_dict().unwrap();
    let mut net = Net::new(3);
    net.load_state_dict(&state, Strict::Yes).unwrap();
    let parameters = net.named_parameters().into_iter().map(|(name, p)| (name, p.shape().to_vec()));
    assert_eq!(parameters.collect::<Vec<_>>(), shapes(&expected("3")["parameters"]));
    let buffers = net.named_buffers().into_iter().map(|(name, b)| (name, b.shape().to_vec()));
    assert_eq!(buffers.collect::<Vec<_>>(), shapes(&expected("3")["buffers"]));
    let sum = |name: &str| state.get_tensor(name).unwrap().to_f32().unwrap().iter().map(|&x| f64::from(x)).sum::<f64>();
    for (name, expected) in state.names().zip(expected("3")["sums"].as_list().unwrap()) {
        assert!((sum(name) - expected.as_f64().unwrap()).abs() < 1e-9, "{name}");
    }
    assert!(net.state_dict().iter().all(|(name, tensor)| tensor.is_same_view(&state[name])), "net and file are one");

    let exported = resaved(&net.state_dict(), "03.safetensors").state_dict().unwrap();
    assert_eq!(exported.len(), state.len());
    for (name, tensor) in exported.iter() {
        assert_eq!(tensor.contiguous_bytes().unwrap(), state[name].contiguous_bytes().unwrap(), "{name}");
    }
    let path = scratch("03.npz");
    net.state_dict().save(&path).unwrap();
    let mut arrays = zip::ZipArchive::new(std::fs::File::open(&path).unwrap()).unwrap();
    let mut array = Vec::new();
    arrays.by_name("fc2.weight.npy").unwrap().read_to_end(&mut array).unwrap();
    assert_eq!(array, std::fs::read(common::data("mission/02_fc2_weight.npy")).unwrap());
}

#[test]
fn case_04_modules() {
    let mut net = Printed::new();
    assert_eq!(net.to_string(), expected("4")["printed"].as_str().unwrap());
    assert!(net.to_string().contains("(fc3): Conv2d(2, 4, kernel_size=(2, 2), stride=(1, 1))\n"));
    net.load_state_dict(&load("04_printed").state_dict().unwrap(), Strict::Yes).unwrap();
    let modules = net.named_modules();
    let linear: Vec<_> = modules.iter().filter_map(|(name, m)| Some((name, m.downcast_ref::<nn::Linear>()?))).collect();
    let [(name, linear)] = linear[..] else { panic!("one linear layer") };
    assert_eq!(name, "head");
    let weight = Tensor::from_stored(linear.weight.tensor().unwrap()).unwrap();
    assert_eq!(weight.bytes(), tensor(&expected("4")["linear"]).bytes());
    assert!(linear.bias.is_none());
}

#[test]
fn case_05_whole_model() {
    let file = load("05_model");
    let model = file.root().as_object().unwrap();
    assert_eq!(model.class(), "__main__.Net");
    let conv = &model.get("_modules").unwrap()["conv1"];
    assert_eq!(conv.as_object().unwrap().class(), "torch.nn.modules.conv.Conv2d");
    assert_eq!((conv["in_channels"].as_i64().unwrap(), conv["kernel_size"][1].as_i64().unwrap()), (1, 3));
    let state = file.state_dict().unwrap();
    assert!(state.names().eq(strings(&expected("5")["names"])));
    check("5", &state, net);

    let layers = || -> Box<dyn Module> {
        Box::new(
            nn::Sequential::new()
                .append(nn::Conv2d::new(1, 2, 3))
                .append(nn::BatchNorm2d::new(2))
                .append(nn::ReLU::new())
                .append(nn::Flatten::new())
                .append(nn::Linear::new(32, 3)),
        )
    };
    assert_eq!(layers().as_module().to_string(), expected("5b")["printed"].as_str().unwrap());
    check("5b", &load("05_sequential").state_dict().unwrap(), layers);
}

#[test]
fn case_06_checkpoint() {
    let file = load("06_checkpoint");
    assert_eq!(file["epoch"].as_i64().unwrap(), 7);
    assert_eq!(file["loss"].as_f64().unwrap(), expected("6")["loss"].as_f64().unwrap());
    let state = file.state_dict().unwrap();
    assert_eq!(state.key(), "model_state_dict");
    check("6", &state, net);
    check("6", &file.state_dict_at("model_state_dict").unwrap(), net);

    let optimizer = OptimizerState::try_from(&file["optimizer_state_dict"]).unwrap();
    let [group] = optimizer.param_groups() else { panic!("one group") };
    assert_eq!((group.lr().unwrap(), group.betas().unwrap(), group.eps().unwrap()), (0.01, (0.8, 0.95), 1e-8));
    assert_eq!(group.weight_decay().unwrap(), 0.125);
    assert!(!group.get("amsgrad").unwrap().as_bool().unwrap());
    assert_eq!(group.params(), [0, 1, 2, 3, 4, 5, 6, 7]);
    let names = Net::new(3).named_parameters().into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    assert_eq!(names, strings(&expected("6")["names"]));
    let named = optimizer.by_name(names).unwrap();
    let (name, third) = &named[2];
    assert_eq!((name.as_str(), third.step().unwrap()), ("bn1.weight", 3));
    let moment = Tensor::from_stored(third.tensor("exp_avg").unwrap()).unwrap();
    assert_eq!(moment.bytes(), tensor(&expected("6")["exp_avg"]).bytes());
    for (name, param) in &named {
        assert_eq!(param.tensor("exp_avg_sq").unwrap().shape(), state[name].shape(), "{name}");
    }
}

#[test]
fn case_07_optimizer() {
    let read = |name: &str| OptimizerState::try_from(load(&format!("07_{name}")).root()).unwrap();
    let moments_are_those_of_pytorch = |name: &str, optimizer: &OptimizerState| {
        let expected = expected(&format!("7{name}"));
        let last = optimizer.param(expected["last"].as_i64().unwrap() as usize).unwrap();
        for (key, value) in expected["state"].as_dict().unwrap() {
            let found = Tensor::from_stored(last.tensor(key.as_str().unwrap()).unwrap()).unwrap();
            assert_eq!(found.bytes(), tensor(value).bytes(), "{name}: {key}");
        }
    };
    let sgd = read("sgd");
    assert_eq!((sgd.param_groups()[0].lr().unwrap(), sgd.param_groups()[0].momentum().unwrap()), (0.05, 0.9));
    assert!(sgd.param_groups()[0].get("nesterov").unwrap().as_bool().unwrap());
    assert_eq!(sgd.params().count(), 8);
    assert!(sgd.params().all(|param| param.tensor("momentum_buffer").is_ok() && param.step().is_err()));
    moments_are_those_of_pytorch("sgd", &sgd);

    let adam = read("adam");
    let [first, second] = adam.param_groups() else { panic!("two groups") };
    assert_eq!((first.lr().unwrap(), second.lr().unwrap()), (0.01, 0.25));
    assert_eq!((first.params(), second.params(), adam.num_params()), (&[0, 1][..], &[2, 3][..], 4));
    moments_are_those_of_pytorch("adam", &adam);

    let adamw = read("adamw");
    assert_eq!(adamw.param_groups()[0].param_names().unwrap()[0], "conv1.weight");
    assert!(adamw.param(7).unwrap().tensor("max_exp_avg_sq").is_ok());
    assert!(adamw.by_name(["other"; 8]).unwrap_err().to_string().contains("is `conv1.weight`, not `other`"));
    moments_are_those_of_pytorch("adamw", &adamw);
    assert!(load("07_sgd").state_dict().is_err());
}

#[test]
fn case_08_several_models() {
    let file = load("08_gan");
    let states = file.state_dicts().unwrap();
    let keys: Vec<&str> = states.iter().map(StateDict::key).collect();
    assert_eq!(keys, ["modelA_state_dict", "modelB_state_dict"]);
    let error = file.state_dict().unwrap_err().to_string();
    assert!(error.contains("found 2: `modelA_state_dict` (11 tensors), `modelB_state_dict` (11 tensors)"), "{error}");
    check("8a", &states[0], net);
    check("8b", &file.state_dict_at("modelB_state_dict").unwrap(), || Box::new(Net::new(2)));
    let storage = |state: &StateDict| state["fc2.weight"].storage().bytes().unwrap().as_ptr();
    let again = file.state_dict_at("modelA_state_dict").unwrap();
    assert_eq!(storage(&states[0]), storage(&again), "both are views of one mapping");
    for name in ["optimizerA_state_dict", "optimizerB_state_dict"] {
        assert_eq!(OptimizerState::try_from(&file[name]).unwrap().param_groups()[0].lr().unwrap(), 0.1);
    }
}

#[test]
fn case_09_extra_values() {
    let file = load("09_extras");
    assert_eq!(file.state_dict_at("state_dict").unwrap().len(), 11);
    check("9", &file.state_dict_at("state_dict").unwrap(), net);
    assert!(file["alpha"].as_tensor().unwrap().requires_grad());
    assert_eq!((floats(&file["alpha"]), floats(&file["gamma"])), (vec![0.5], vec![1.0, 2.0]));
    let arguments = file["args"].as_object().unwrap();
    assert_eq!((arguments.class(), arguments.get("lr").unwrap().as_f64().unwrap()), ("argparse.Namespace", 0.1));
    assert_eq!(file["embedding"].as_object().unwrap().class(), "torch.nn.modules.sparse.Embedding");
    let embedding = file.state_dict_at("embedding").unwrap();
    assert_eq!(embedding["weight"].shape()[..], [3, 2]);
    assert_eq!(file["classes"].as_list().unwrap().len(), 2);
    assert_eq!(file["best_loss"].as_f64().unwrap(), 0.25);
    let history = Tensor::from_stored(&file["history"].as_array().unwrap()).unwrap();
    assert_eq!((history.shape().to_string(), history.to_f32().unwrap()[5]), ("[2, 3]".into(), 5.0));
    assert_eq!(file["rng"].as_tensor().unwrap().dtype(), sconce::DType::U8);
    assert_eq!(file["path"].as_object().unwrap().class(), "pathlib.PosixPath");
    // The embedding is a module, so it is a second state dict to choose from.
    assert!(file.state_dict().unwrap_err().to_string().contains("`embedding` (1 tensors)"));
}

#[test]
fn inputs_that_do_not_fit_are_refused_at_the_first_layer() {
    let mut net = Net::new(3);
    net.load_state_dict(&load("01_state_dict").state_dict().unwrap(), Strict::Yes).unwrap();
    let model = Model::new(net, &sconce::Device::cpu()).unwrap();
    let error = |shape: &[usize]| {
        let x = Tensor::zeros(sconce::DType::F32, shape);
        model.run(&[x]).unwrap_err().to_string()
    };
    assert_eq!(
        error(&[6, 6]),
        "conv2d: weight `conv1.weight` [4, 1, 3, 3] expects an input [batch, channels, height, width] or one without \
         the batch, found input [6, 6]"
    );
    assert_eq!(
        error(&[2, 3, 6, 6]),
        "conv2d: input [2, 3, 6, 6] has 3 channels, weight `conv1.weight` [4, 1, 3, 3] expects 1"
    );
    assert!(error(&[2, 1, 5, 9]).starts_with("linear: input [2, 32] has 32 features"));
}

/// The dict of names and tensors that a state dict goes back to Python as.
#[test]
fn state_dicts_are_values_again() {
    let state = load("15_parallel").state_dict().unwrap().strip_prefix("module.");
    let value = Value::from(&state);
    let read = StateDict::try_from(&value).unwrap();
    assert!(read.iter().all(|(name, tensor)| tensor.is_same_view(&state[name])) && read.len() == state.len());
    let metadata = value.as_dict().unwrap().attributes().unwrap()["_metadata"].as_dict().unwrap();
    let modules: Vec<&str> = metadata.keys().map(|key| key.as_str().unwrap()).collect();
    assert_eq!(modules, ["", "conv1", "bn1", "pool", "dropout", "fc1", "fc2"]);
    let version = |dict: &Dict, name: &str| dict.get(name).unwrap()["version"].as_i64().unwrap();
    assert_eq!((version(metadata, "bn1"), version(metadata, "fc1")), (2, 1));
    assert!(Arc::ptr_eq(read["fc1.bias"].storage(), state["fc1.bias"].storage()));
}
