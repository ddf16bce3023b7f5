//! Cases 12-14 and 20: devices of storages, ties, views and dtypes.

use std::collections::HashMap;
use std::sync::Arc;

use sconce::checkpoint::MapLocation;
use sconce::nn::{self, Module};
use sconce::{Checkpoint, Device, Model, Strict};

use super::common::compare::compare;
use super::nets::Net;
use super::{TOLERANCE, check, expected, load, net, resaved, tensor};

/// Loads the net and runs it on the device that the file's storages are on.
fn runs_where_it_is(file: &Checkpoint) -> sconce::Result<Device> {
    let state = file.state_dict()?;
    let mut net = Net::new(3);
    net.load_state_dict(&state, Strict::Yes)?;
    let model = Model::new(net, &state.device()?)?;
    let y = model.run(&[tensor(&expected("12")["x"])])?;
    compare(&y, &[tensor(&expected("12")["y"])], TOLERANCE).unwrap();
    Ok(model.device().clone())
}

fn gpus() -> usize {
    Device::list().iter().filter(|info| info.id.starts_with("gpu:") && info.unsupported.is_none()).count()
}

#[test]
fn case_12_from_gpu_to_cpu() {
    let file = load("12_cuda");
    assert!(file["fc1.weight"].as_tensor().unwrap().storage().location() == "cuda:0");
    assert!(runs_where_it_is(&file.map_location("cpu")).unwrap().is_cpu());
    assert!(runs_where_it_is(&file.map_location(&Device::cpu())).unwrap().is_cpu());
    check("12", &file.state_dict().unwrap(), net);
}

#[test]
fn case_13_from_gpu_to_gpu() {
    for (name, tag, needed) in [("12_cuda", "cuda:0", 1), ("13_cuda1", "cuda:1", 2)] {
        let result = runs_where_it_is(&load(name));
        if gpus() >= needed {
            assert_eq!(result.unwrap().info().id, tag.replace("cuda", "gpu"));
            continue;
        }
        let error = result.unwrap_err().to_string();
        assert!(error.starts_with(&format!("the state dict is on `{tag}`: device `{tag}`")), "{error}");
        assert!(error.contains("help: say where to: `sconce::load(path)?.map_location(\"cpu\")`"), "{error}");
    }
    let moved = load("13_cuda1").map_location([("cuda:1", "cpu")]);
    assert!(runs_where_it_is(&moved).unwrap().is_cpu());
}

#[test]
fn case_14_from_cpu_to_gpu() {
    let file = load("12_cuda").map_location("cpu").map_location("cuda:0");
    match gpus() {
        0 => assert!(runs_where_it_is(&file).is_err()),
        _ => assert!(!runs_where_it_is(&file).unwrap().is_cpu()),
    }
    let file = load("14_tied");
    assert_eq!(tags(&file), ["cuda:1", "cuda:1", "cuda:0", "cpu"]);
    assert_eq!(tags(&file.map_location("cuda:0")), ["cuda:0"; 4]);
    assert_eq!(tags(&file.map_location(&Device::cpu())), ["cpu"; 4]);
    assert_eq!(tags(&file.map_location([("cuda:1", "cuda:0")])), ["cuda:0", "cuda:0", "cuda:0", "cpu"]);
    assert_eq!(tags(&file.map_location(HashMap::from([("cpu", "mps")]))), ["cuda:1", "cuda:1", "cuda:0", "mps"]);
    let large = MapLocation::from_fn(|storage, tag| {
        assert!(["cuda:0", "cuda:1", "cpu"].contains(&tag));
        (storage.len() > 8).then(|| "cpu".to_string())
    });
    assert_eq!(tags(&file.map_location(large)), ["cpu", "cpu", "cuda:0", "cpu"]);
    let error = file.state_dict().unwrap().device().unwrap_err().to_string();
    assert!(error.starts_with("the tensors of the state dict are on 3 devices: `cuda:1` (2), `cuda:0` (1), `cpu` (1)"));
}

/// The tags of `14_tied`, whose first two tensors share a storage wherever it goes.
fn tags(file: &Checkpoint) -> [String; 4] {
    let [whole, half, own, bytes] = ["whole", "half", "own", "bytes"].map(|key| file[key].as_tensor().unwrap());
    assert!(Arc::ptr_eq(whole.storage(), half.storage()));
    assert_eq!(half.contiguous_bytes().unwrap()[..4], 4f32.to_le_bytes());
    [whole, half, own, bytes].map(|tensor| tensor.storage().location().to_string())
}

#[test]
fn case_20_every_tensor() {
    let file = load("20_tensors");
    equals_pytorch(&file);
    equals_pytorch(&resaved(&file, "20.pt"));
    // What cannot run is in the state dict all the same, and says so when it is used.
    assert_eq!(file.state_dict().unwrap().len(), expected("20").as_dict().unwrap().len());

    let state = load("20_unusable").state_dict().unwrap();
    let mut net = nn::Sequential::new().append(nn::Linear::new(3, 3)).append(nn::Linear::new(3, 3));
    let error = net.load_state_dict(&state, Strict::Yes).unwrap_err().to_string();
    assert_eq!(
        error,
        "state dict does not fit the model: 0 of 4 loaded, 1 with a dtype that does not run, 3 that cannot be used\n  \
         dtype       1.bias: complex64\n  \
         unusable    0.weight: a sparse_coo tensor; save its `to_dense()` in PyTorch\n  \
         unusable    0.bias: a meta tensor, which has no data; save the model with its weights\n  \
         unusable    1.weight: a quantized qint8 tensor; convert it to `float32` first: that dequantizes it"
    );
    let on_gpu = load("20_unusable").map_location("cuda:0");
    let places = |name: &str| on_gpu[name].as_tensor().unwrap().location().to_string();
    assert_eq!(["0.weight", "0.bias", "1.weight"].map(places), ["cuda:0", "meta", "cuda:0"]);
    assert!(on_gpu["0.weight"].as_tensor().unwrap().parts().iter().all(|part| part.location() == "cuda:0"));
}

fn equals_pytorch(file: &Checkpoint) {
    let get = |name: &str| file[name].as_tensor().unwrap();
    for (name, expected) in expected("20").as_dict().unwrap() {
        let name = name.as_str().unwrap();
        let sizes = |key: &str| -> Vec<usize> {
            expected[key].as_list().unwrap().iter().map(|size| size.as_i64().unwrap() as usize).collect()
        };
        let found = get(name);
        assert_eq!(found.dtype().name(), expected["dtype"].as_str().unwrap(), "{name}");
        assert_eq!((found.shape().to_vec(), found.stride().to_vec()), (sizes("shape"), sizes("stride")), "{name}");
        let bytes = found.contiguous_bytes().unwrap();
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, expected["data"].as_str().unwrap(), "{name}");
    }
    assert!(get("tied_a").is_same_view(get("tied_b")));
    for name in ["view", "transposed"] {
        assert!(Arc::ptr_eq(get("tied_a").storage(), get(name).storage()), "{name} is a view");
    }
    assert_eq!(get("expanded").storage().len(), 8);
}
