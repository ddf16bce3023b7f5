//! Tensors of every kind and NumPy's arrays (tools/kinds.py): what they are, their elements, their attributes, and what
//! is said when a model is to use one that it cannot.

use std::path::Path;

use sconce::checkpoint::{Layout, Value};
use sconce::nn::{Linear, Module};
use sconce::{Checkpoint, DType, StateDict, Strict, Tensor};
use serde_json::Value as Json;

fn load(protocol: u32) -> Checkpoint {
    let name = format!("tests/data/checkpoint/kinds{protocol}.pt");
    sconce::load(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn tensors_and_arrays_of_every_kind_are_what_pytorch_says() {
    let expected: Json = serde_json::from_str(include_str!("data/checkpoint/kinds.json")).unwrap();
    for protocol in [2, 5] {
        let checkpoint = load(protocol);
        for (name, expected) in expected["values"].as_object().unwrap() {
            let tensor = match &checkpoint[name.as_str()] {
                Value::Tensor(tensor) => (**tensor).clone(),
                other => other.as_array().unwrap_or_else(|error| panic!("{name}: {error}")),
            };
            assert_eq!(tensor.describe(), expected["is"].as_str().unwrap(), "{name}");
            let Some(data) = expected["data"].as_str() else {
                assert_ne!(tensor.layout(), Layout::Strided, "{name}");
                assert!(tensor.contiguous_bytes().is_err(), "{name}");
                continue;
            };
            let numbers = if tensor.quantizer().is_some() { tensor.to(DType::F32).unwrap() } else { tensor };
            assert_eq!(hex(&numbers.contiguous_bytes().unwrap()), data, "{name}");
        }
    }
}

#[test]
fn attributes_and_flags_are_kept() {
    let checkpoint = load(2);
    let tensor = |name: &str| checkpoint[name].as_tensor().unwrap();
    assert_eq!(checkpoint["parameter"]["tag"].as_str().unwrap(), "of a parameter");
    assert_eq!(checkpoint["subclass"]["tag"].as_str().unwrap(), "of a subclass");
    assert!(tensor("subclass").class().unwrap().ends_with("Image"));
    assert_eq!(tensor("buffer").class(), Some("torch.Tensor"));
    assert!(checkpoint["buffer"].get("persistent").is_some());
    assert!(tensor("parameter").is_parameter() && tensor("parameter").requires_grad());
    assert!(tensor("sparse parameter").is_parameter() && tensor("sparse parameter").requires_grad());
    assert!(tensor("old parameter").is_parameter() && !tensor("old parameter").requires_grad());
    assert!(tensor("variable").is_parameter() && !tensor("variable").requires_grad());
    assert!(!tensor("qint8").is_parameter() && !tensor("qint8").has_hooks());
    assert_eq!(tensor("from numpy").location(), "xla:0");
    assert!(tensor("from numpy").requires_grad());
    assert_eq!(tensor("from cpu").location(), "mtia:0");
    assert_eq!(tensor("meta").location(), "meta");
    let parts: Vec<String> = tensor("csr").parts().iter().map(|part| part.describe()).collect();
    assert_eq!(parts, ["int64 [5]", "int64 [9]", "float32 [9]"]);
    assert_eq!(tensor("channels").parts().len(), 2);
}

#[test]
fn numpy_scalars_are_numbers() {
    let checkpoint = load(2);
    let scalars = &checkpoint["scalars"];
    assert_eq!([scalars[0].as_f64().unwrap(), scalars[1].as_f64().unwrap()], [1.5, 0.5]);
    assert_eq!(scalars[2].as_i64().unwrap(), -3);
    assert!(scalars[3].as_bool().unwrap());
    assert_eq!(scalars.to_string(), "[\n  1.5,\n  0.5,\n  -3,\n  True,\n  9223372036854775808\n]");
    let error = checkpoint["object array"].as_array().unwrap_err().to_string();
    assert!(error.contains("NumPy array"), "{error}");
    assert_eq!(checkpoint["array fortran"].to_string(), "numpy int32 [2, 3]");
}

#[test]
fn a_tensor_that_cannot_run_is_refused_when_it_is_used_by_name_and_kind() {
    let checkpoint = load(2);
    let state = |name: &str| {
        let weight = checkpoint[name].as_tensor().unwrap().clone();
        StateDict::from_iter([
            ("weight".to_owned(), weight),
            ("bias".to_owned(), checkpoint["array f2"].as_array().unwrap()),
        ])
    };
    let refused = |name: &str| {
        let error = Linear::new(4, 4).load_state_dict(&state(name), Strict::Yes).unwrap_err();
        error.to_string()
    };
    assert!(refused("coo").contains("weight: a sparse_coo tensor; save its `to_dense()`"), "{}", refused("coo"));
    assert!(refused("qint8").contains("weight: a quantized qint8 tensor; convert it to `float32`"));
    assert!(refused("meta").contains("weight: a meta tensor, which has no data"));
    assert!(!refused("coo").contains("missing     weight"));
    let error = Tensor::from_stored(checkpoint["qint8"].as_tensor().unwrap()).unwrap_err().to_string();
    assert!(error.contains("quantized qint8"), "{error}");
}
