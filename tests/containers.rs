//! The containers other than zip archives (tools/containers.py): each compared value by value and bit by bit with what
//! PyTorch says is in it, and damaged copies refused with one clear error.

#[path = "common/encoded.rs"]
mod encoded;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use encoded::{Encoder, difference};
use sconce::checkpoint::{Container, Value};
use sconce::{Checkpoint, DType, ErrorKind};
use serde_json::{Value as Json, json};

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/containers").join(name)
}

fn bytes(name: &str) -> Vec<u8> {
    fs::read(data(name)).unwrap()
}

/// What the JSON of a file says.
fn expected(stem: &str) -> Json {
    serde_json::from_slice(&bytes(&format!("{stem}.json"))).unwrap()
}

/// Opens a file from its path and from memory; both must be what the JSON says. Gives the mapped one.
#[track_caller]
fn check(file: &str, container: Container) -> Checkpoint {
    let stem = file.rsplit_once('.').unwrap().0;
    let mapped = sconce::load(data(file)).unwrap();
    let copied = Checkpoint::from_bytes(file, bytes(file)).unwrap();
    for checkpoint in [&mapped, &copied] {
        assert_eq!(checkpoint.container(), container, "{file}");
        compare(stem, checkpoint);
    }
    assert_eq!(mapped.file_bytes(), bytes(file).len() as u64);
    mapped
}

#[track_caller]
fn compare(stem: &str, checkpoint: &Checkpoint) {
    let found: Vec<Json> = checkpoint.saves().iter().map(|save| Encoder::default().value(save)).collect();
    compare_encoded(stem, &found);
}

#[track_caller]
fn compare_encoded(stem: &str, found: &[Json]) {
    let expected = expected(stem);
    if let Some(difference) = difference("", &expected["saves"], &json!(found)) {
        panic!("{stem} differs from what torch {} says: {difference}", expected["torch"]);
    }
}

#[track_caller]
fn is_mapped(checkpoint: &Checkpoint, name: &str) {
    assert!(checkpoint[name].as_tensor().unwrap().storage().is_mapped(), "{name} is mapped");
}

/// A directory that is removed when it is dropped.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("sconce-containers-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, bytes).unwrap();
        path
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Checks the first line of the error for these bytes, after the file's name.
#[track_caller]
fn refused(bytes: &[u8], expected: &str) {
    let error = match Checkpoint::from_bytes("f", bytes) {
        Ok(checkpoint) => panic!("loaded as {checkpoint:?}"),
        Err(error) => error.to_string(),
    };
    let line = error.lines().next().unwrap();
    assert_eq!(line.strip_prefix("`f`: ").unwrap_or(line), expected);
    assert!(error.lines().count() <= 2, "{error}");
}

#[test]
fn legacy_streams() {
    for name in ["state", "training", "module", "tied", "dtypes", "new_dtypes", "layouts", "empty"] {
        check(&format!("legacy_{name}.pth"), Container::Legacy);
    }
    let state = check("legacy_state.pth", Container::Legacy);
    is_mapped(&state, "fc.weight");
    assert_eq!(state.state_dict().unwrap().len(), 9);
    let training = sconce::load(data("legacy_training.pth")).unwrap();
    assert_eq!(training["optimizer_state_dict"]["param_groups"][0]["betas"][1].as_f64().unwrap(), 0.99);
    let tied = sconce::load(data("legacy_tied.pth")).unwrap();
    let tensor = |name: &str| tied[name].as_tensor().unwrap();
    assert!(tensor("encoder.weight").is_same_view(tensor("decoder.weight")));
}

#[test]
fn legacy_streams_of_every_protocol() {
    for protocol in [0, 1, 3, 4, 5] {
        check(&format!("legacy_protocol{protocol}.pth"), Container::Legacy);
    }
}

#[test]
fn legacy_location_tags() {
    let checkpoint = check("legacy_cuda.pth", Container::Legacy);
    assert_eq!(checkpoint["a"].as_tensor().unwrap().storage().location(), "cuda:1");
}

#[test]
fn a_whole_module_in_a_legacy_stream_is_its_tree() {
    let checkpoint = check("legacy_module.pth", Container::Legacy);
    let root = checkpoint.root().as_object().unwrap();
    assert_eq!(root.class(), "torch.nn.modules.container.Sequential");
    let conv = &checkpoint["_modules"]["conv"];
    assert_eq!(conv.as_object().unwrap().class(), "torch.nn.modules.conv.Conv2d");
    assert_eq!(conv["_parameters"]["weight"].as_tensor().unwrap().shape()[..], [2, 1, 3, 3]);
}

#[test]
fn parts_of_storages_share_the_storage() {
    let checkpoint = check("legacy_views.pth", Container::Legacy);
    let tensor = |name: &str| checkpoint[name].as_tensor().unwrap();
    assert!(Arc::ptr_eq(tensor("part").storage(), tensor("root").storage()));
    assert_eq!((tensor("part").offset(), tensor("again").offset()), (2, 3));
}

#[test]
fn files_of_python_2() {
    let checkpoint = check("legacy_python2.pth", Container::Legacy);
    assert_eq!(checkpoint["text"].as_str().unwrap(), "caf\u{e9}");
    assert_eq!(checkpoint["state"]["steps"].as_tensor().unwrap().shape()[..], [3]);
}

#[test]
fn parameters_of_torch_0_1() {
    let checkpoint = check("legacy_parameters.pth", Container::Legacy);
    let [weight, frozen] = ["weight", "frozen"].map(|name| checkpoint[name].as_tensor().unwrap().requires_grad());
    assert!(weight && !frozen);
}

#[test]
fn several_saves_in_one_file() {
    let checkpoint = check("legacy_saves.pth", Container::Legacy);
    assert_eq!(checkpoint.saves().len(), 3);
    assert_eq!(checkpoint["a"].as_tensor().unwrap().shape()[..], [3]);
    assert_eq!(checkpoint.saves()[2][1].as_str().unwrap(), "text");
    let zip = check("legacy_then_zip.pth", Container::Legacy);
    assert!(zip.saves()[2][0].as_tensor().unwrap().storage().is_mapped());
    let zips = check("zip_saves.pt", Container::Zip);
    assert_eq!(zips.saves().len(), 3);
    is_mapped(&zips, "a");
    let mixed = [bytes("zip_saves.pt"), bytes("legacy_empty.pth")].concat();
    let at = bytes("zip_saves.pt").len();
    refused(&mixed, &format!("unsupported checkpoint: a save in the legacy form after a zip archive, at byte {at}"));
    assert_eq!(check("plain_saves.pkl", Container::Pickle).saves().len(), 3);
}

#[test]
fn damaged_legacy_streams() {
    let good = bytes("legacy_state.pth");
    let invalid = "invalid checkpoint: ";
    // Every length: an error, and it is about the file.
    for len in 0..good.len() {
        let error = Checkpoint::from_bytes("f", &good[..len]).unwrap_err();
        assert_eq!(
            (error.kind(), error.to_string().starts_with("`f`: ")),
            (ErrorKind::Invalid, true),
            "{len}: {error}"
        );
    }
    let len = good.len();
    let text = Checkpoint::from_bytes("f", &good[..len - 1]).unwrap_err().to_string();
    assert!(text.contains("is cut short: ") && text.contains(", at byte "), "{text}");
    refused(
        &[&good[..], b"more"].concat(),
        &format!("{invalid}4 bytes follow the last storage, from byte {len} on, and are not another save"),
    );
    let twice = [&good[..], &good[..len - 1]].concat();
    let text = Checkpoint::from_bytes("f", twice).unwrap_err().to_string();
    assert!(text.starts_with(&format!("`f`: {invalid}save 2, from byte {len} on: storage `")), "{text}");
    let version = [&good[..15], b"\x80\x02M\xea\x03.", &good[21..]].concat();
    refused(&version, "unsupported checkpoint: byte 15: stream version 1002; 1001 is read");
    refused(&good[..15], &format!("{invalid}byte 15: the pickle is cut short: 1 more bytes expected, 0 left"));
}

/// A legacy stream of an object's pickle, a list of keys and what follows.
fn stream(object: &[u8], keys: &[u8], rest: &[u8]) -> Vec<u8> {
    let start = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03.\x80\x02}.";
    [start.as_slice(), b"\x80\x02", object, b".\x80\x02", keys, b".", rest].concat()
}

/// `('storage', FloatStorage, key, 'cpu', numel, view)`, with the view as instructions.
fn id(key: &str, numel: u8, view: &[u8]) -> Vec<u8> {
    let text = |text: &str| [b"U".as_slice(), &[text.len() as u8], text.as_bytes()].concat();
    let class = b"ctorch\nFloatStorage\n".to_vec();
    [b"(".to_vec(), text("storage"), class, text(key), text("cpu"), vec![b'K', numel], view.to_vec(), b"tQ".to_vec()]
        .concat()
}

#[test]
fn legacy_streams_that_contradict_themselves() {
    let invalid = "invalid checkpoint: ";
    let object = id("7", 2, b"N");
    let rest = [&2i64.to_le_bytes()[..], &[1; 8]].concat();
    let good = stream(&object, b"](U\x017e", &rest);
    assert_eq!(Checkpoint::from_bytes("f", good.clone()).unwrap().root().as_storage().unwrap().len(), 8);
    let list = 25 + 2 + object.len() + 1;
    let header = good.len() - 16;
    let keys = |keys: &[u8], what: &str| {
        refused(&stream(&object, keys, &rest), &format!("{invalid}the list of storages, at byte {list}, {what}"));
    };
    keys(b"]", "lacks 1 of 1: `7`");
    keys(b"](U\x017U\x017e", "names `7`, twice or without need");
    keys(b"](U\x018e", "names `8`, twice or without need");
    keys(b"](K\x07e", "has the integer 7 for a key");
    keys(b"N", "is not a list");
    let wrong = [&3i64.to_le_bytes()[..], &[1; 12]].concat();
    let wrong_size = |numel: i64| {
        format!(
            "{invalid}storage `7`, at byte {header}, should have 8 bytes, by the pickle, and has {numel} elements of 4 bytes"
        )
    };
    refused(&stream(&object, b"](U\x017e", &wrong), &wrong_size(3));
    refused(&stream(&object, b"](U\x017e", &(-2i64).to_le_bytes()), &wrong_size(-2));
    refused(&stream(&object, b"](U\x017e", &i64::MAX.to_le_bytes()), &wrong_size(i64::MAX));
    refused(
        &good[..good.len() - 1],
        &format!("{invalid}storage `7`, at byte {header}, is cut short: 8 bytes expected, 7 left"),
    );
    refused(
        &good[..header + 5],
        &format!("{invalid}storage `7`, at byte {header}, is cut short: 8 bytes expected, 5 left"),
    );
    let view = |view: &[u8], what: &str| {
        let object = id("7", 2, view);
        let at = 27 + object.len() - 1;
        refused(&stream(&object, b"](U\x017e", &rest), &format!("{invalid}byte {at}: {what}"));
    };
    view(b"(U\x019K\x01K\x02t", "the part `9` of storage `7`, 8 bytes from byte 4 on, does not lie in its 8 bytes");
    view(b"(U\x019J\xff\xff\xff\xffK\x01t", "storage `9` has -1 elements of 4 bytes");
    view(
        b"(U\x019\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7fK\x01t",
        "storage `9` has 9223372036854775807 elements of 4 bytes",
    );
    view(b"K\x01", "a persistent id is not `('storage', class, key, location, number of elements)`");
    view(b"(U\x017K\x00K\x01t", "storage `7` is not the same part of another one everywhere");
}

#[test]
fn tar_archives() {
    let checkpoint = check("tar.tar", Container::Tar);
    is_mapped(&checkpoint, "weight");
    let tensor = |name: &str| checkpoint[name].as_tensor().unwrap();
    assert!(tensor("weight").is_same_view(tensor("tied")));
    assert!(Arc::ptr_eq(tensor("weight").storage(), tensor("strided").storage()));
}

#[test]
fn tar_archives_of_python_2_with_views_and_parameters() {
    let checkpoint = check("tar_python2.tar", Container::Tar);
    let tensor = |name: &str| checkpoint[name].as_tensor().unwrap();
    assert!(Arc::ptr_eq(tensor("root").storage(), tensor("part").storage()));
    // A view of a view.
    assert!(Arc::ptr_eq(tensor("root").storage(), tensor("end").storage()));
    assert_eq!(tensor("end").offset(), 6);
    assert!(tensor("parameter").requires_grad());
    assert_eq!(checkpoint["config"]["lr"].as_f64().unwrap(), 0.5);
}

#[test]
fn damaged_tar_archives() {
    let good = bytes("tar.tar");
    let invalid = "invalid checkpoint: ";
    let start = |name: &str| {
        let header =
            (0..good.len()).step_by(512).find(|&at| good[at..].starts_with(&[name.as_bytes(), b"\0"].concat()));
        header.unwrap_or_else(|| panic!("no member {name}"))
    };
    for len in (262..start("storages") + 512).step_by(7) {
        let error = Checkpoint::from_bytes("f", &good[..len]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{len}: {error}");
    }
    let changed = |at: usize, new: &[u8]| {
        let mut bytes = good.clone();
        bytes[at..at + new.len()].copy_from_slice(new);
        bytes
    };
    let tensors = start("tensors");
    refused(
        &changed(tensors + 30, b"x"),
        &format!("{invalid}the tar header at byte {tensors} is damaged: its checksum is wrong"),
    );
    let size = changed(tensors + 124, b"77777777777\0");
    let sum: u64 = size[tensors..tensors + 512]
        .iter()
        .enumerate()
        .map(|(at, &byte)| if (148..156).contains(&at) { 32 } else { byte.into() })
        .sum();
    let mut size = size;
    size[tensors + 148..tensors + 155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    refused(
        &size,
        &format!(
            "{invalid}the tar archive is cut short: the member at byte {tensors} has 8589934591 bytes, {} are left",
            good.len() - tensors - 512
        ),
    );
    refused(
        &[&good[..tensors], &good[start("storages")..]].concat(),
        &format!("{invalid}a tar archive, but not one that PyTorch wrote: it has no member `tensors`"),
    );
    let pickle = start("pickle");
    let twice = [&good[..tensors], &good[pickle..]].concat();
    refused(&twice, &format!("{invalid}the tar archive has two members called `pickle`"));
    // The number of dimensions of the first tensor, 4 bytes after its entry.
    let ndim = (tensors + 512..).find(|&at| good[at..].starts_with(b".\x02\0\0\0")).unwrap() + 1;
    let text = |bytes: Vec<u8>| Checkpoint::from_bytes("f", bytes).unwrap_err().to_string();
    assert!(text(changed(ndim, &(-1i32).to_le_bytes())).contains("tensor `1001` has -1 dimensions"));
    assert!(text(changed(ndim, &i32::MAX.to_le_bytes())).contains("a tensor of 2147483647 dimensions is cut short"));
    // Sizes: a negative one, one that needs more than the storage has.
    assert!(text(changed(ndim + 8, &(-1i64).to_le_bytes())).contains("a negative size"));
    let large = text(changed(ndim + 8, &i64::MAX.to_le_bytes()));
    assert!(large.contains("`pickle`: `weight`: a float32 tensor of shape [9223372036854775807, 4]"), "{large}");
}

#[test]
fn torchscript_weights() {
    for name in ["scripted", "traced"] {
        let checkpoint = sconce::load(data(&format!("{name}.pt"))).unwrap();
        assert_eq!(checkpoint.container(), Container::TorchScript);
        let mut found = Encoder::default().value(checkpoint.root());
        // The attributes that are no tensors: torch has no such dict.
        found[3] = Json::Null;
        if let Some(difference) = difference("", &expected(name)["saves"][0], &found) {
            panic!("{name}: {difference}");
        }
        is_mapped(&checkpoint, checkpoint.state_dict().unwrap().names().next().unwrap());
    }
    let scripted = sconce::load(data("scripted.pt")).unwrap();
    let tensor = |name: &str| scripted[name].as_tensor().unwrap();
    assert!(tensor("last.weight").is_same_view(tensor("tied.weight")));
    assert!(tensor("last.weight").requires_grad() && !tensor("frozen").requires_grad());
    let others = &scripted.root().as_dict().unwrap().attributes().unwrap()["_attributes"];
    assert!(others["training"].as_bool().unwrap());
    assert!(others["blocks.0.conv.training"].as_bool().unwrap());
    assert_eq!(others["label"].as_str().unwrap(), "text");
    assert_eq!(others["sizes"][1].as_i64().unwrap(), 5);
    assert_eq!(others["names"]["a"].as_i64().unwrap(), 1);
    assert_eq!(others["rates"][0].as_f64().unwrap(), 0.5);
}

#[test]
fn plain_pickles() {
    for protocol in 0..=5 {
        check(&format!("plain_protocol{protocol}.pkl"), Container::Pickle);
    }
    let numpy = sconce::load(data("plain_protocol4.pkl")).unwrap()["numpy"].clone();
    let array = numpy[2].as_array().unwrap();
    assert_eq!((array.dtype(), &array.shape()[..]), (DType::I16, &[2, 3][..]));
    let state = check("plain_tensors4.pkl", Container::Pickle);
    is_mapped(&state, "conv.weight");
    check("plain_tensors2.pkl", Container::Pickle);
}

#[test]
fn damaged_plain_pickles() {
    let good = bytes("plain_tensors4.pkl");
    for len in 2..good.len() {
        let error = Checkpoint::from_bytes("f", &good[..len]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{len}: {error}");
    }
    refused(
        &[&good[..], b"\0\0"].concat(),
        &format!(
            "invalid checkpoint: 2 bytes follow a pickle and are not another one: byte {}: 0x00 is not a pickle instruction",
            good.len()
        ),
    );
    // Text that ends with a full stop.
    refused(
        b"Some words.",
        "invalid checkpoint: it is not a file that PyTorch writes; it starts with the bytes 53 6f 6d 65 20 77 6f 72",
    );
    let id = [b"\x80\x02".as_slice(), &id("7", 2, b"N"), b"."].concat();
    refused(
        &id,
        &format!(
            "invalid checkpoint: byte {}: a persistent id: it names an object outside of the pickle, and this file has \
             nothing else",
            id.len() - 2
        ),
    );
}

#[test]
fn a_stream_inside_a_stream_inside_a_pickle_is_not_followed() {
    let inner = |bytes: &[u8]| {
        let len = (bytes.len() as u32).to_le_bytes();
        [b"ctorch.storage\n_load_from_bytes\n".as_slice(), b"B", &len, bytes, b"\x85R"].concat()
    };
    let storage = stream(&id("7", 1, b"N"), b"](U\x017e", &[&1i64.to_le_bytes()[..], &[9; 4]].concat());
    let once = [b"\x80\x03", &inner(&storage)[..], b"."].concat();
    assert_eq!(Checkpoint::from_bytes("f", once).unwrap().root().as_storage().unwrap().bytes().unwrap(), [9; 4]);
    let twice = [b"\x80\x03", &inner(&stream(&inner(&storage), b"]", b""))[..], b"."].concat();
    let checkpoint = Checkpoint::from_bytes("f", twice).unwrap();
    assert_eq!(checkpoint.root().as_object().unwrap().class(), "torch.storage._load_from_bytes");
    // The same string many times is read once.
    let many = [b"\x80\x03](", &[&inner(&storage)[..], b"q\0"].concat().repeat(1000)[..], b"e."].concat();
    assert_eq!(Checkpoint::from_bytes("f", many).unwrap().root().as_list().unwrap().len(), 1000);
}

#[test]
fn shards_are_one_state_dict() {
    let checkpoint = sconce::load(data("pytorch_model.bin.index.json")).unwrap();
    assert_eq!(checkpoint.container(), Container::Shards);
    // What the index says, which is in none of the files, is an attribute beside the tensors.
    let without = |checkpoint: &Checkpoint, attributes: &str| {
        let found = checkpoint.root().as_dict().unwrap().attributes().unwrap().to_string();
        assert_eq!(found.split_whitespace().collect::<String>(), attributes);
        let mut found = Encoder::default().value(checkpoint.root());
        found[3] = Json::Null;
        compare_encoded("shards", &[found]);
    };
    without(&checkpoint, r#"{"metadata":{"total_size":102,},}"#);
    is_mapped(&checkpoint, "layer1.a");
    let sizes = (1..=3).map(|i| bytes(&format!("pytorch_model-{i:05}-of-00003.bin")).len() as u64);
    let index = bytes("pytorch_model.bin.index.json").len() as u64;
    assert_eq!(checkpoint.file_bytes(), sizes.sum::<u64>() + index);
    let safetensors = sconce::load(data("model.safetensors.index.json")).unwrap();
    assert_eq!(safetensors.container(), Container::Shards);
    without(&safetensors, r#"{"metadata":{"total_size":102,},"__metadata__":{"format":"pt",},}"#);
    let error = Checkpoint::from_bytes("index", bytes("pytorch_model.bin.index.json")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}

#[test]
fn shards_that_do_not_fit_their_index() {
    let directory = Directory::new();
    let shard = |i: usize| format!("pytorch_model-{i:05}-of-00003.bin");
    for i in 1..=3 {
        directory.write(&shard(i), &bytes(&shard(i)));
    }
    let line = |index: &str| {
        let path = directory.write("index.json", index.as_bytes());
        let error = sconce::load(&path).unwrap_err();
        let text = error.to_string();
        let line = text.lines().next().unwrap();
        let prefix = format!("`{}`: ", path.display());
        (error.kind(), line.strip_prefix(&prefix).unwrap_or(line).to_owned())
    };
    let good = String::from_utf8(bytes("pytorch_model.bin.index.json")).unwrap();
    fs::remove_file(directory.0.join(shard(3))).unwrap();
    let changed = good.replace("\"layer1.b\"", "\"layer1.x\"");
    assert_eq!(
        line(&changed),
        (
            ErrorKind::Invalid,
            format!(
                "invalid checkpoint: `{}` lacks 1 tensor (`layer1.x`); the index does not name 1 tensor (`layer1.b`) of \
                 `{0}`; `{}` is missing, with 2 tensors (`layer2.a`, `layer2.b`)",
                shard(2),
                shard(3)
            )
        )
    );
    directory.write(&shard(3), &bytes(&shard(3))[..100]);
    assert!(
        line(&good)
            .1
            .starts_with(&format!("invalid checkpoint: `{}`: invalid checkpoint: the zip archive is", shard(3)))
    );
    for name in ["../x.bin", "/etc/passwd", "a/b.bin", "..", ".", "", "c:x", "a\\\\b"] {
        let (kind, text) = line(&format!("{{\"weight_map\": {{\"w\": \"{name}\"}}}}"));
        assert_eq!(kind, ErrorKind::Invalid);
        assert!(
            text.starts_with("invalid checkpoint: the index gives `w` the file `") && text.ends_with("`, not a name"),
            "{text}"
        );
    }
    let invalid = |text: &str| (ErrorKind::Invalid, format!("invalid checkpoint: {text}"));
    assert_eq!(line("{\"weight_map\": {}}"), invalid("the index names no tensors"));
    assert_eq!(line("{\"weight_map\": 1}"), invalid("the index has no dict `weight_map`"));
    assert_eq!(line("{\"weight_map\": {\"w\": 1}}"), invalid("the index gives `w` no file name"));
    // An index that names itself.
    let (kind, text) = line("{\"weight_map\": {\"w\": \"index.json\"}}");
    assert_eq!(kind, ErrorKind::Unsupported);
    assert!(
        text.contains("`index.json`: unsupported checkpoint: the index of a checkpoint in several files"),
        "{text}"
    );
}

#[test]
fn values_of_tar_archives_and_streams_print() {
    for name in ["tar.tar", "legacy_module.pth", "plain_protocol4.pkl"] {
        let text = sconce::load(data(name)).unwrap().root().to_string();
        assert!(text.len() > 100, "{name}: {text}");
    }
    assert!(matches!(sconce::load(data("legacy_empty.pth")).unwrap().root(), Value::Dict(dict) if dict.is_empty()));
}
