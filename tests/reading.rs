//! What `inspect`, `diff` and `convert` say of files that are easy to misjudge: nothing is left out, counted or called
//! equal without a word.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use sconce::DType;
use sconce::checkpoint::{Dict, Storage, StoredTensor, Value};
use serde_json::Value as Json;

/// An empty folder for the test of this name.
fn scratch(test: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("reading").join(test);
    fs::remove_dir_all(&folder).ok();
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// Runs the command in `tests/data`: its status and what it prints, on both outputs.
fn run(arguments: &[&str]) -> (i32, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_sconce"))
        .args(arguments)
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data"))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
    (output.status.code().unwrap(), text)
}

#[track_caller]
fn says(arguments: &[&str], status: i32, words: &[&str]) -> String {
    let (found, text) = run(arguments);
    assert_eq!(found, status, "{arguments:?}: {text}");
    for word in words {
        assert!(text.contains(word), "`{word}` is missing: {text}");
    }
    text
}

fn save(folder: &Path, name: &str, value: impl Into<Value>) -> String {
    let path = folder.join(name);
    sconce::save(value, &path).unwrap();
    path.to_str().unwrap().to_owned()
}

fn floats(values: &[f32]) -> StoredTensor {
    let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
    StoredTensor::from_bytes(DType::F32, [values.len()], bytes).unwrap()
}

fn dict<const N: usize>(entries: [(&str, Value); N]) -> Value {
    Dict::from_iter(entries).into()
}

#[test]
fn later_objects_of_a_file_are_not_lost_in_silence() {
    let folder = scratch("saves");
    let first = folder.join("first.pt");
    let first = first.to_str().unwrap();
    let words = "left out: 2 more objects that were saved after the first";
    says(&["convert", "containers/legacy_saves.pth", first], 0, &[words, "saves()"]);
    says(&["diff", "containers/legacy_saves.pth", "containers/legacy_saves.pth"], 0, &["equal: "]);
    says(&["diff", "containers/legacy_saves.pth", first], 1, &["only in containers/legacy_saves.pth", "  [1]"]);
    says(&["diff", "containers/legacy_saves.pth", first, "--state-dict"], 1, &["not compared (1)", "2 more objects"]);
    let (a, b) = (folder.join("a.pkl"), folder.join("b.pkl"));
    fs::write(&a, b"\x80\x02K\x01.\x80\x02K\x02.").unwrap();
    fs::write(&b, b"\x80\x02K\x01.\x80\x02K\x03.").unwrap();
    says(&["diff", a.to_str().unwrap(), b.to_str().unwrap()], 1, &["other values", "[1, 2]", "[1, 3]"]);
}

#[test]
fn plain_attributes_of_modules_are_compared() {
    let folder = scratch("modules");
    let path = "modules/train.pt";
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(path);
    let change = |name: &str, edit: &dyn Fn(&mut Value)| {
        let mut changed = sconce::load(&file).unwrap();
        edit(changed.root_mut());
        save(&folder, name, &changed)
    };
    says(&["diff", path, &change("same.pt", &|_| {})], 0, &["equal: "]);
    let other = change("p.pt", &|root| root["_modules"]["3"]["p"] = Value::from(0.2));
    says(&["diff", path, &other], 1, &["other values (1)", "3.p  0.1  ->  0.2"]);
    let other = change("in.pt", &|root| root["_modules"]["0"]["in_features"] = Value::from(9i64));
    says(&["diff", path, &other], 1, &["0.in_features  8  ->  9"]);
    let other = change("eval.pt", &|root| root["training"] = Value::from(false));
    says(&["diff", path, &other], 1, &["training  True  ->  False"]);
    let text = says(&["inspect", path], 0, &["`sconce run --eval` runs the model"]);
    assert!(!text.contains(": `--eval`"), "{text}");
}

#[test]
fn values_of_one_name_are_all_compared() {
    let folder = scratch("names");
    let root = |x: f32| dict([("a.b", floats(&[x]).into()), ("a", dict([("b", floats(&[2.]).into())]))]);
    let (a, b) = (save(&folder, "a.pt", root(1.)), save(&folder, "b.pt", root(3.)));
    says(&["diff", &a, &b], 1, &["a.b  1 of 1 element"]);
    let list = |items: Value| dict([("x", items), ("w", floats(&[1.]).into())]);
    let tensors = || vec![Value::from(floats(&[1.]))];
    let a = save(&folder, "list.pt", list(Value::from(tensors())));
    let b = save(&folder, "tuple.pt", list(Value::Tuple(tensors().into())));
    says(&["diff", &a, &b], 1, &["other values (1)"]);
}

#[test]
fn integers_are_printed_exactly() {
    let folder = scratch("integers");
    let long = |x: i64| StoredTensor::from_bytes(DType::I64, [1], x.to_le_bytes()).unwrap();
    let x = 1 << 62;
    let (a, b) = (save(&folder, "a.pt", long(x)), save(&folder, "b.pt", long(x + 1)));
    says(&["diff", &a, &b], 1, &["at most 1 ", "4611686018427387904 -> 4611686018427387905"]);
    let json: Json = serde_json::from_str(&says(&["diff", &a, &b, "--json"], 1, &[])).unwrap();
    assert_eq!(json["elements"][0]["b"].as_i64(), Some(x + 1));
}

#[test]
fn expanded_tensors_are_not_written_in_full() {
    let folder = scratch("expanded");
    let bytes = Storage::owned([0u8; 4], "cpu");
    let large = StoredTensor::new(bytes, DType::F32, [1usize << 40], vec![0usize], 0).unwrap();
    let path = save(&folder, "a.pt", dict([("x", large.into()), ("y", floats(&[1.]).into())]));
    let out = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    for name in ["b.safetensors", "b.npz"] {
        let words = ["error: ", "`x`: written in full, the tensors would take 4398046511108 bytes for 8", "\n  help: "];
        says(&["convert", &path, &out(name)], 2, &words);
    }
    says(&["convert", &path, &out("half.pt"), "--dtype=f16"], 2, &["error: ", "float16", "8 bytes of the file"]);
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 1, "nothing is left");
    says(&["convert", &path, &out("again.pt")], 0, &["2 tensors"]);
    // 40 MB of one element are not too many.
    let small = StoredTensor::new(Storage::owned([0u8; 4], "cpu"), DType::F32, [10_000_000], vec![0], 0).unwrap();
    let small = save(&folder, "small.pt", dict([("x", small.into())]));
    says(&["convert", &small, &out("small.safetensors")], 0, &["1 tensor, 40.0 MB"]);
    // One such tensor does not keep the others from having their digests.
    let json: Json = serde_json::from_str(&says(&["inspect", &path, "--json", "--digest"], 0, &[])).unwrap();
    let rows = json["tensors"].as_array().unwrap();
    assert!(rows[0]["sha256"].is_null() && rows[0]["sha256_error"].as_str().unwrap().contains("`expand`"), "{json}");
    assert!(rows[1]["sha256"].is_string() && rows[1].get("sha256_error").is_none(), "{json}");
    says(&["inspect", &path, "--digest"], 0, &["sha256: none (a contiguous copy would take 4398046511104 bytes"]);
    let text = says(&["inspect", &path, "x"], 0, &[]);
    assert_eq!(text.matches("would take").count(), 1, "{text}");
}

#[test]
fn free_text_of_safetensors_is_kept_and_shown() {
    let folder = scratch("metadata");
    let header =
        r#"{"__metadata__":{"format":"pt","author":"me"},"a.w":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}"#;
    let a = folder.join("a.safetensors");
    fs::write(&a, [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &[7]].concat()).unwrap();
    let (a, b) = (a.to_str().unwrap(), folder.join("b.safetensors"));
    let b = b.to_str().unwrap();
    says(&["convert", a, b, "--rename=a=b"], 0, &[]);
    says(&["inspect", b], 0, &["b.w", "metadata: {\"format\": \"pt\", \"author\": \"me\"}"]);
    let json: Json = serde_json::from_str(&says(&["inspect", b, "--json"], 0, &[])).unwrap();
    assert_eq!((&json["metadata"]["author"], &json["metadata"]["format"]), (&Json::from("me"), &Json::from("pt")));
    let (pt, c) = (folder.join("c.pt"), folder.join("c.safetensors"));
    says(&["convert", a, pt.to_str().unwrap()], 0, &[]);
    says(&["convert", pt.to_str().unwrap(), c.to_str().unwrap()], 0, &[]);
    says(&["inspect", c.to_str().unwrap()], 0, &["\"author\": \"me\""]);
}

#[test]
fn values_are_those_that_the_bytes_stand_for() {
    let folder = scratch("values");
    let tensor = |dtype, bytes: &[u8]| Value::from(StoredTensor::from_bytes(dtype, [bytes.len()], bytes).unwrap());
    let f4 = save(&folder, "f4.pt", dict([("x", tensor(DType::F4E2M1FNX2, &[0x21, 0xf4]))]));
    says(&["inspect", &f4, "x"], 0, &["tensor([ 0.5000,  1.0000,  2.0000, -6.0000], dtype=torch.float4_e2m1fn_x2)"]);
    let bits = save(&folder, "bits.pt", dict([("x", tensor(DType::Bits8, &[1, 2]))]));
    let text = says(&["inspect", &bits, "x"], 0, &["no values: bits8 has no numbers, only bits"]);
    assert_eq!(text.matches("bits8 has no numbers").count(), 1, "{text}");
    let kinds = "checkpoint/kinds2.pt";
    says(
        &["inspect", kinds, "qint8"],
        0,
        &["size=(4, 6)", "quantization_scheme=torch.per_tensor_affine", "scale=", "zero_point="],
    );
    says(&["inspect", kinds, "channels"], 0, &["quantization_scheme=torch.per_channel_affine", "axis="]);
    let text = says(&["inspect", kinds, "coo"], 0, &["it has no elements that can be read"]);
    assert_eq!(text.matches("that can be read").count(), 1, "{text}");
}

/// `torch.save(optimizer)` of an SGD with one momentum buffer of four elements.
fn optimizer(path: &Path) {
    let text = |text: &str| [b"X".as_slice(), &(text.len() as u32).to_le_bytes(), text.as_bytes()].concat();
    let storage =
        [b"(".as_slice(), &text("storage"), b"ctorch\nFloatStorage\n", &text("0"), &text("cpu"), b"K\x04tQ"].concat();
    let tensor =
        [b"ctorch._utils\n_rebuild_tensor_v2\n(".as_slice(), &storage, b"K\x00K\x04\x85K\x01\x85\x89NtR"].concat();
    let state = [b"}K\x00}".as_slice(), &text("momentum_buffer"), &tensor, b"ss"].concat();
    let attributes = [b"}".as_slice(), &text("state"), &state, b"s", &text("param_groups"), b"]s"].concat();
    let pickle = [b"\x80\x02ctorch.optim.sgd\nSGD\n)\x81".as_slice(), &attributes, b"b."].concat();
    let mut archive = zip::ZipWriter::new(fs::File::create(path).unwrap());
    let options = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    for (name, bytes) in [("a/data.pkl", &pickle[..]), ("a/data/0", &[1; 16][..]), ("a/version", &b"3\n"[..])] {
        archive.start_file(name, options).unwrap();
        archive.write_all(bytes).unwrap();
    }
    archive.finish().unwrap();
}

#[test]
fn parameters_are_what_a_model_has() {
    let folder = scratch("counts");
    let path = folder.join("optimizer.pt");
    optimizer(&path);
    let text = says(&["inspect", path.to_str().unwrap()], 0, &["\n4 elements of optimizer state\n"]);
    assert!(!text.contains("parameters\n"), "{text}");
    let bytes = |dtype, len: usize| Value::from(StoredTensor::from_bytes(dtype, [len], vec![0; len]).unwrap());
    let model = dict([("w", floats(&[1., 2.]).into()), ("index", bytes(DType::U8, 3)), ("b", floats(&[1.]).into())]);
    let root = dict([("model", model), ("rng", bytes(DType::U8, 5)), ("epoch", Value::from(1i64))]);
    let path = save(&folder, "rng.pt", root);
    says(&["inspect", &path], 0, &["\n3 parameters, 8 elements of other tensors\n"]);
    let json: Json = serde_json::from_str(&says(&["inspect", &path, "--json"], 0, &[])).unwrap();
    assert_eq!(json["totals"]["other"]["elements"].as_u64(), Some(8));
    // A module's buffers are no parameters.
    says(&["inspect", "modules/user.pt"], 0, &["\n107 parameters, 15 elements of other tensors\n"]);
}

#[test]
fn keys_are_as_inspect_shows_them_and_what_is_left_out_has_its_name() {
    let folder = scratch("keys");
    let weight = Value::from(floats(&[1.]));
    let part = || dict([("w", weight.clone())]);
    let list = save(&folder, "list.pt", Value::from(vec![part(), part()]));
    let out = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    says(&["convert", &list, &out("first.pt"), "--key=[0]"], 0, &["left out: 1 tensor and 0 other values, in `[1]`"]);
    says(&["inspect", &out("first.pt")], 0, &["  w  float32"]);
    let nested = save(&folder, "nested.pt", dict([("l", Value::from(vec![dict([("w", floats(&[1.]).into())])]))]));
    says(&["convert", &nested, &out("l.pt"), "--key=l[0]"], 0, &["1 tensor"]);
    // One tensor under two names: the other name is left out, whichever comes first.
    let tied = save(&folder, "tied.pt", dict([("s", part()), ("t", part())]));
    says(&["convert", &tied, &out("s.pt"), "--key=s"], 0, &["left out: 1 tensor and 0 other values, in `t`"]);
    says(&["convert", &tied, &out("t.pt"), "--key=t"], 0, &["left out: 1 tensor and 0 other values, in `s`"]);
}

#[test]
fn which_tensors_have_gradients_is_a_difference_where_files_can_say_it() {
    let folder = scratch("grads");
    let of = |grad: bool| dict([("w", floats(&[1., 2.]).with_requires_grad(grad).into())]);
    let (a, b) = (save(&folder, "a.pt", of(true)), save(&folder, "b.pt", of(false)));
    let c = save(&folder, "c.safetensors", of(true));
    let title = "other dtype, shape or requires_grad (1)";
    says(
        &["diff", &a, &b],
        1,
        &[title, "w  float32 [2] requires_grad  ->  float32 [2]", "1 of them with the same elements"],
    );
    says(&["diff", &b, &a], 1, &[title, "w  float32 [2]  ->  float32 [2] requires_grad"]);
    for equal in [["diff", &a, &a], ["diff", &a, &c]] {
        says(&equal, 0, &["equal"]);
    }
    says(&["diff", "--state-dict", &a, &b], 0, &["equal"]);
    let (_, text) = run(&["diff", "--json", &a, &b]);
    let json: Json = serde_json::from_str(&text).unwrap();
    assert_eq!((&json["equal"], &json["kinds"][0]["a"]), (&false.into(), &"float32 [2] requires_grad".into()));
}

#[test]
fn what_diff_does_not_compare_is_told() {
    let folder = scratch("not-compared");
    let bytes = StoredTensor::from_bytes(DType::F32, [2], [0; 8]).unwrap();
    let repeated = |offset: usize| {
        let storage = std::sync::Arc::clone(bytes.storage());
        Value::from(StoredTensor::new(storage, DType::F32, [1 << 40], vec![0], offset).unwrap())
    };
    let (a, b) = (save(&folder, "a.pt", dict([("w", repeated(0))])), save(&folder, "b.pt", dict([("w", repeated(1))])));
    says(&["diff", &a, &a], 0, &["equal: 1 tensor"]);
    says(&["diff", &a, &b], 1, &["not compared (1)", "not all was compared: 1 tensor in both"]);
    let deep = (0..200).fold(Value::None, |inner, _| Value::from(vec![inner]));
    let deep = save(&folder, "deep.pt", dict([("d", deep)]));
    says(&["diff", &deep, &deep], 1, &["not all was compared: 0 tensors in both"]);
    let (with, without) = ("saving/tensors.safetensors", folder.join("without.safetensors"));
    let read = sconce::load(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(with)).unwrap();
    sconce::save(read.state_dict().unwrap().into_iter().collect::<Dict>(), &without).unwrap();
    let told = ["equal", "other attributes, which make no difference: of 1 dict"];
    says(&["diff", with, without.to_str().unwrap()], 0, &told);
}

#[test]
fn what_an_index_says_of_its_files_is_shown_and_their_free_text_is_kept() {
    let folder = scratch("shards");
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/containers");
    let mut index: Json =
        serde_json::from_slice(&fs::read(data.join("model.safetensors.index.json")).unwrap()).unwrap();
    for file in index["weight_map"].as_object().unwrap().values() {
        let file = file.as_str().unwrap();
        // The header's length, the header, the data.
        let shard = fs::read(data.join(file)).unwrap();
        let (len, rest) = shard.split_first_chunk().unwrap();
        let (header, bytes) = rest.split_at(u64::from_le_bytes(*len) as usize);
        let mut header: Json = serde_json::from_slice(header).unwrap();
        header["__metadata__"] = serde_json::json!({"format": "pt", "licence": "mit", "part": file});
        let header = header.to_string();
        let whole = [&(header.len() as u64).to_le_bytes(), header.as_bytes(), bytes].concat();
        fs::write(folder.join(file), whole).unwrap();
    }
    index["metadata"]["sizes"] = serde_json::json!([1.5, null, {"deep": true}]);
    let path = folder.join("model.safetensors.index.json").to_str().unwrap().to_owned();
    fs::write(&path, index.to_string()).unwrap();
    let free_text = r#""format": "pt", "licence": "mit""#;
    let sizes = r#""sizes": [1.5, None, {"deep": True}]"#;
    says(&["inspect", &path], 0, &[&format!("metadata: {{\"total_size\": 102, {sizes}, {free_text}}}")]);
    let (_, text) = run(&["inspect", "--json", &path]);
    assert_eq!(serde_json::from_str::<Json>(&text).unwrap()["metadata"]["total_size"], "102");
    let whole = folder.join("whole.safetensors").to_str().unwrap().to_owned();
    says(&["convert", &path, &whole], 0, &[]);
    says(&["inspect", &whole], 0, &[&format!("metadata: {{{free_text}}}")]);
}

#[test]
fn lists_of_plain_values_are_told_when_they_are_left_out() {
    let folder = scratch("left-out");
    let model = dict([("w", floats(&[1.]).into())]);
    let classes = Value::from(vec!["cat", "dog"]);
    let pair = Value::Tuple([Value::from(1i64), Value::from(2i64)].into());
    let empty = Value::from(Vec::<Value>::new());
    let path = save(&folder, "a.pt", dict([("model", model), ("classes", classes), ("pair", pair), ("empty", empty)]));
    let out = folder.join("out.safetensors").to_str().unwrap().to_owned();
    says(&["convert", &path, &out], 0, &["left out: 0 tensors and 2 other values, in `classes`, `pair`\n"]);
}
