//! Files that PyTorch wrote (tools/files.py), compared value by value and bit by bit with what PyTorch says is in them.

#[path = "common/encoded.rs"]
mod encoded;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use encoded::{Encoder, difference};
use sconce::checkpoint::Value;
use sconce::{Checkpoint, DType};
use serde_json::Value as Json;

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/checkpoint").join(name)
}

fn load(name: &str) -> Checkpoint {
    sconce::load(data(&format!("{name}.pt"))).unwrap()
}

/// Compares a file with its JSON; where they differ, names the first difference.
#[track_caller]
fn check(name: &str) -> Checkpoint {
    let checkpoint = load(name);
    let text = std::fs::read_to_string(data(&format!("{name}.json"))).unwrap();
    let expected: Json = serde_json::from_str(&text).unwrap();
    let found = Encoder::default().value(checkpoint.root());
    if let Some(difference) = difference("", &expected["value"], &found) {
        panic!("{name}.pt differs from what torch {} wrote: {difference}", expected["torch"]);
    }
    checkpoint
}

#[test]
fn every_dtype() {
    let checkpoint = check("dtypes");
    let names: Vec<String> =
        checkpoint.root().as_dict().unwrap().keys().map(|key| key.as_str().unwrap().into()).collect();
    for dtype in DType::ALL.iter().filter(|dtype| dtype.is_runnable()) {
        assert!(names.iter().any(|name| name == dtype.name()), "{dtype} is not in dtypes.pt");
    }
    assert_eq!(names.len(), 21);
}

#[test]
fn every_layout() {
    let checkpoint = check("layouts");
    let float = &checkpoint["float32"];
    assert!(!float["transposed"].as_tensor().unwrap().is_contiguous());
    let [sliced, whole] = ["sliced", "same storage"].map(|name| float[name].as_tensor().unwrap());
    assert!(Arc::ptr_eq(sliced.storage(), whole.storage()));
    assert_eq!(float["expanded"].as_tensor().unwrap().stride(), [1, 0]);
    assert_eq!(float["scalar"].as_tensor().unwrap().shape().numel(), 1);
    assert!(float["empty"].as_tensor().unwrap().contiguous_bytes().unwrap().is_empty());
}

#[test]
fn conjugate_and_negative_bits() {
    check("bits");
}

#[test]
fn ties_views_and_metadata() {
    let checkpoint = check("tied");
    let tensor = |name: &str| checkpoint[name].as_tensor().unwrap();
    assert!(tensor("encoder.weight").is_same_view(tensor("decoder.weight")));
    assert!(Arc::ptr_eq(tensor("view").storage(), tensor("window").storage()));
    assert!(!Arc::ptr_eq(tensor("view").storage(), tensor("untied").storage()));
    assert!(tensor("encoder.weight").requires_grad() && !tensor("frozen").requires_grad());
    assert!(tensor("view").storage().is_mapped());
    let attributes = checkpoint.root().as_dict().unwrap().attributes().unwrap();
    assert_eq!(attributes["_metadata"]["encoder"]["version"].as_i64().unwrap(), 2);
}

#[test]
fn a_training_checkpoint_reads_as_in_python() {
    let checkpoint = check("training");
    assert_eq!(checkpoint["epoch"].as_i64().unwrap(), 7);
    let adam = &checkpoint["optimizer_state_dict"];
    assert_eq!(adam["param_groups"][0]["lr"].as_f64().unwrap(), 1e-3);
    assert_eq!(adam["param_groups"][0]["betas"][1].as_f64().unwrap(), 0.99);
    assert_eq!(adam["param_groups"][0]["params"].as_list().unwrap().len(), 6);
    assert_eq!(adam["state"][5]["exp_avg"].as_tensor().unwrap().shape()[..], [3]);
    assert_eq!(checkpoint["sgd"]["state"][0]["momentum_buffer"].as_tensor().unwrap().shape()[..], [2, 1, 3, 3]);
    assert!(checkpoint.get("iteration").is_none());
    assert!(adam["state"].get(&99).is_none());
    let error = checkpoint["epoch"].as_tensor().unwrap_err();
    assert_eq!(error.to_string(), "expected a tensor, found the integer 7");
}

#[test]
#[should_panic(
    expected = r#"no key "epochs"; the keys are "epoch", "model_state_dict", "optimizer_state_dict", "sgd""#
)]
fn a_key_that_does_not_exist_is_a_clear_panic() {
    let _ = &load("training")["epochs"];
}

#[test]
fn values_of_every_kind() {
    let checkpoint = check("values");
    assert_eq!(checkpoint["namespace"]["lr"].as_f64().unwrap(), 0.1);
    assert_eq!(checkpoint["config"]["nested"]["tensor"].as_tensor().unwrap().shape()[..], [3]);
    assert_eq!(checkpoint["slots"]["width"].as_i64().unwrap(), 3);
    assert_eq!(checkpoint["slots"]["name"].as_str().unwrap(), "slotted");
    assert_eq!(checkpoint["names"]["a"].as_i64().unwrap(), 1);
    assert_eq!(checkpoint["long dict"]["key 2499"].as_i64().unwrap(), 2499);
    assert_eq!(checkpoint["int keys"][1].as_str().unwrap(), "one");
    // One list in three places is one list.
    let list = |value: &Value| match value {
        Value::List(items) => Arc::clone(items),
        other => panic!("{other}"),
    };
    let shared = &checkpoint["shared"];
    assert!(Arc::ptr_eq(&list(&shared[0]), &list(&shared[1])));
    assert!(Arc::ptr_eq(&list(&shared[0]), &list(&shared[2]["again"])));
}

#[test]
fn every_protocol() {
    for protocol in 1..=5 {
        check(&format!("protocol{protocol}"));
    }
}

#[test]
fn roots_that_are_no_dict() {
    assert!(check("parameter").root().as_tensor().unwrap().requires_grad());
    assert_eq!(check("list")[1][1]["x"].as_tensor().unwrap().shape()[..], [1]);
}

#[test]
fn archives_of_other_writers() {
    for name in ["net", "no_crc", "aligned4096", "torch1_6", "rezipped"] {
        let checkpoint = check(name);
        let first = checkpoint.root().as_dict().unwrap().values().next().unwrap();
        assert!(first.as_tensor().unwrap().storage().is_mapped(), "{name} is mapped");
    }
    for name in ["deflated", "big_endian", "big_endian_deflated"] {
        check(name);
    }
}

#[test]
fn location_tags_are_kept() {
    let checkpoint = check("cuda");
    assert_eq!(checkpoint["a"].as_tensor().unwrap().storage().location(), "cuda:1");
    assert_eq!(load("net")["fc.bias"].as_tensor().unwrap().storage().location(), "cpu");
}

#[test]
fn what_is_not_known_stays_opaque_and_harms_nothing_else() {
    let checkpoint = load("opaque");
    assert_eq!(checkpoint["first"].as_tensor().unwrap().shape()[..], [2]);
    assert_eq!(checkpoint["last"].as_tensor().unwrap().shape()[..], [3]);
    let class = |name: &str| checkpoint[name].as_object().unwrap().class().to_owned();
    let describe = |name: &str| checkpoint[name].as_tensor().unwrap().describe();
    assert_eq!(describe("quantized"), "quantized qint8 [4]");
    assert_eq!(describe("sparse"), "sparse_coo float32 [3, 3]");
    assert_eq!(describe("meta"), "meta float32 [2, 3]");
    assert_eq!(checkpoint["tagged"]["tag"].as_str().unwrap(), "attribute");
    assert_eq!(class("module"), "torch.nn.modules.container.Sequential");
    let weight = &checkpoint["module"]["_modules"]["fc"]["_parameters"]["weight"];
    assert_eq!(weight.as_tensor().unwrap().shape()[..], [3, 8]);
    assert_eq!(checkpoint["storage"].as_storage().unwrap().len(), 16);
}

#[test]
fn tensors_outlive_the_checkpoint() {
    let tensor = load("net")["fc.bias"].as_tensor().unwrap().clone();
    assert_eq!(tensor.contiguous_bytes().unwrap().len(), 12);
    fn is_send<T: Send + Sync>() {}
    is_send::<Checkpoint>();
}

/// Lone surrogates, as Python has them for file names that are not UTF-8, are no text here: all protocols give the same
/// object, which is saved as the string that it was.
#[test]
fn strings_with_surrogates_are_kept() {
    // `pickle.dumps(["\ud800 a", "\U0001f600"], protocol)`.
    let pickles: [&[u8]; 3] = [
        b"(lp0\nV\\ud800 a\np1\naV\\U0001f600\np2\na.",
        b"\x80\x02]q\x00(X\x05\0\0\0\xed\xa0\x80 aq\x01X\x04\0\0\0\xf0\x9f\x98\x80q\x02e.",
        b"\x80\x04\x95\x13\0\0\0\0\0\0\0]\x94(\x8c\x05\xed\xa0\x80 a\x94\x8c\x04\xf0\x9f\x98\x80\x94e.",
    ];
    for bytes in pickles {
        let checkpoint = Checkpoint::from_bytes("surrogates", bytes).unwrap();
        let text = checkpoint[0].as_object().unwrap();
        assert_eq!(text.class(), "_codecs.decode");
        assert!(matches!(&text.args()[0], Value::Bytes(bytes) if **bytes == *b"\xed\xa0\x80 a"));
        assert_eq!(checkpoint[1].as_str().unwrap(), "\u{1f600}");
    }
}
