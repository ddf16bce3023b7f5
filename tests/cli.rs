//! The command as its users meet it: what it prints where, and its exit status. The model is
//! `Sequential(Linear(12, 16), ReLU(), Linear(16, 4))`, written by `tools/cli_files.py`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

/// What a run of the command left.
struct Ran {
    status: i32,
    out: String,
    err: String,
}

fn sconce() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sconce"));
    command.current_dir(data("")).stdin(Stdio::null());
    command
}

/// Runs `sconce` with these arguments in `tests/data/cli`; relative names are of files there.
fn run(arguments: &[&str]) -> Ran {
    let output = sconce().args(arguments).output().expect("the command starts");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    let status = output.status.code().expect("an exit status, not a signal");
    Ran { status, out: text(output.stdout), err: text(output.stderr) }
}

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/cli").join(name)
}

/// An empty folder for the test of this name.
fn scratch(test: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cli").join(test);
    fs::remove_dir_all(&folder).ok();
    fs::create_dir_all(&folder).expect("a folder for files of the test");
    folder
}

const RUN: [&str; 7] = ["run", "mlp.pt", "--device=cpu", "--arch=mlp", "--input=x.npy", "--atol=1e-5", "--rtol=0"];

/// An error is `error: ` and one line in lower case, perhaps with indented lines below; nothing else is said.
fn assert_error(ran: &Ran, words: &[&str]) {
    assert_eq!(ran.status, 2, "{}", ran.err);
    assert_eq!(ran.out, "");
    let mut lines = ran.err.lines().filter(|line| !line.starts_with("device: "));
    let first = lines.next().expect("an error");
    assert!(first.starts_with("error: "), "{}", ran.err);
    assert!(lines.all(|line| line.starts_with("  ")), "one line, then indented ones: {}", ran.err);
    assert!(!ran.err.contains("panicked"), "{}", ran.err);
    for word in words {
        assert!(ran.err.contains(word), "`{word}` is missing: {}", ran.err);
    }
}

#[test]
fn a_right_output_is_expected() {
    let ran = run(&[&RUN[..], &["--expect=y.npy"]].concat());
    assert_eq!(ran.status, 0, "{}{}", ran.out, ran.err);
    assert!(ran.out.contains("`y.npy` matches: all 8 elements are within 1e-5"), "{}", ran.out);
    assert!(ran.err.starts_with("device: cpu ("), "{}", ran.err);
    assert_eq!(ran.err.lines().count(), 1, "{}", ran.err);
}

#[test]
fn one_changed_weight_fails_the_check() {
    let mut arguments = RUN;
    arguments[1] = "changed.pt";
    let ran = run(&[&arguments[..], &["--expect=y.npy"]].concat());
    assert_eq!(ran.status, 1, "{}{}", ran.out, ran.err);
    assert!(ran.out.contains("`y.npy` differs: ") && ran.out.contains("the largest difference is"), "{}", ran.out);
}

#[test]
fn a_wrong_shape_fails_the_check() {
    let ran = run(&[&RUN[..], &["--expect=x.npy"]].concat());
    assert_eq!(ran.status, 1, "{}{}", ran.out, ran.err);
    assert!(ran.out.contains("`x.npy` differs: shape [2, 12] is expected, it is [2, 4]"), "{}", ran.out);
}

#[test]
fn outputs_are_printed_and_written() {
    let path = scratch("outputs").join("out.npy");
    let ran = run(&["run", "mlp.pt", "--arch=mlp", "-i", "x.npy", "--device=cpu", "-o", path.to_str().unwrap()]);
    assert_eq!(ran.status, 0, "{}", ran.err);
    assert!(ran.out.starts_with("float32 [2, 4]: ["), "{}", ran.out);
    let (written, expected) =
        (sconce::Tensor::read_npy(path).unwrap(), sconce::Tensor::read_npy(data("y.npy")).unwrap());
    assert_eq!(written.shape(), expected.shape());
    for (a, b) in written.as_slice::<f32>().unwrap().iter().zip(expected.as_slice::<f32>().unwrap()) {
        assert!((a - b).abs() < 1e-5, "{a} for {b}");
    }
}

#[test]
fn the_largest_values_are_printed_with_labels() {
    let labels = scratch("labels").join("labels.txt");
    fs::write(&labels, "cat\ndog\neel\nfox\n").unwrap();
    let labels = format!("--labels={}", labels.display());
    let ran = run(&["run", "mlp.pt", "--arch=mlp", "--input=x.npy", "--device=cpu", "--topk=1", &labels]);
    assert_eq!(ran.status, 0, "{}", ran.err);
    let expected = sconce::Tensor::read_npy(data("y.npy")).unwrap();
    let rows = expected.as_slice::<f32>().unwrap().chunks(4);
    let lines: Vec<&str> = ran.out.lines().collect();
    assert_eq!(lines.len(), 4, "{}", ran.out);
    for (row, lines) in rows.zip(lines.chunks(2)) {
        let (index, value) = row.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).unwrap();
        let label = ["cat", "dog", "eel", "fox"][index];
        assert_eq!(
            lines[1].split_whitespace().collect::<Vec<_>>(),
            [&index.to_string(), &format!("{value:.4}"), label]
        );
    }
}

#[test]
fn pictures_are_inputs() {
    // A linear layer takes any leading dimensions: rows of 12 pixels.
    let picture = format!("--input={}", data("../image/wide.png").display());
    let options = ["--device=cpu", "--arch=mlp", "--resize=16", "--crop=12", "--topk=1"];
    let ran = run(&[&["run", "mlp.pt", &picture, &picture][..], &options].concat());
    assert_eq!(ran.status, 0, "{}", ran.err);
    let rows: Vec<&str> = ran.out.lines().filter(|line| line.starts_with("row ")).collect();
    assert_eq!(rows.len(), 2 * 3 * 12, "{}", ran.out);
}

#[test]
fn verbose_says_the_plan_and_quiet_says_nothing() {
    let ran = run(&[&RUN[..], &["--expect=y.npy", "-v"]].concat());
    assert!(ran.err.contains("plan: 2 steps, arena "), "{}", ran.err);
    let ran = run(&[&RUN[..], &["--expect=y.npy", "-q"]].concat());
    assert_eq!((ran.status, ran.err.as_str()), (0, ""));
}

#[test]
fn models_that_were_saved_whole_need_no_architecture() {
    let folder = scratch("whole");
    let expected = sconce::load(data("../modules/train.y.pt")).unwrap();
    let write = |key: &str| {
        let path = folder.join(format!("{key}.npy"));
        sconce::Tensor::from_stored(expected[key].as_tensor().unwrap()).unwrap().write_npy(&path).unwrap();
        path.display().to_string()
    };
    let (input, output) = (format!("--input={}", write("x")), format!("--expect={}", write("y")));
    let arguments = ["run", "../modules/train.pt", "--device=cpu", &input, &output];
    assert_error(&run(&arguments), &["`../modules/train.pt`: the model does not run: ", "train mode", "--eval"]);
    let ran = run(&[&arguments[..], &["--eval"]].concat());
    assert_eq!(ran.status, 0, "{}{}", ran.out, ran.err);
    assert!(ran.out.contains(" matches: all 6 elements"), "{}", ran.out);
    let state = run(&["run", "mlp.pt", "--arch=mlp", "--input=x.npy", "--eval"]);
    assert_error(&state, &["`--eval` is for a model that was saved whole"]);
}

#[test]
fn a_state_dict_needs_an_architecture() {
    assert_error(
        &run(&["run", "mlp.pt", "--input=x.npy"]),
        &["`mlp.pt` is a state dict", "help: they fit `--arch mlp`"],
    );
    assert_error(&run(&["run", "other.pt", "--input=x.npy"]), &["`other.pt` is a state dict", "resnet18, ", "mlp"]);
    assert_error(&run(&["run", "mlp.pt", "--arch=resnet9", "--input=x.npy"]), &["`resnet9`", "resnet18"]);
}

#[test]
fn a_state_dict_that_does_not_fit_is_told_whole() {
    let ran = run(&["run", "part.pt", "--arch=squeezenet1_1", "--input=x.npy"]);
    let words = [
        "`part.pt` as `squeezenet1_1`: ",
        "1 of 52 loaded, 50 missing, 1 unexpected, 1 with the wrong shape",
        "missing     features.3.squeeze.weight",
        "unexpected  head.bias",
        "features.0.weight: model [64, 3, 3, 3], file [4]",
    ];
    assert_error(&ran, &words);
    let ran = run(&["run", "prefixed.pt", "--arch=squeezenet1_1", "--input=x.npy"]);
    assert_error(&ran, &["help: the file's names start with `module.`", "strip_prefix(\"module.\")"]);
    let ran = run(&["run", "prefixed.pt", "--arch=squeezenet1_1", "--input=x.npy", "--strip-prefix=module."]);
    assert_error(&ran, &["51 with the wrong shape"]);
}

#[test]
fn a_prefix_is_stripped() {
    let arguments = ["run", "parallel.pt", "--arch=mlp", "--input=x.npy", "--device=cpu", "--expect=y.npy"];
    let ran = run(&[&arguments[..], &["--strip-prefix=module."]].concat());
    assert_eq!(ran.status, 0, "{}{}", ran.out, ran.err);
    let ran = run(&[&arguments[..], &["--strip-prefix=net."]].concat());
    assert_error(&ran, &["`parallel.pt`", "`net.`", "`module.0.weight`"]);
}

#[test]
fn the_state_dict_is_found_by_its_key() {
    let base = ["run", "nested.pt", "--arch=mlp", "--input=x.npy", "--device=cpu", "--expect=y.npy", "--rtol=0"];
    for key in ["--key=model_state_dict", "--key=ema.state"] {
        let ran = run(&[&base[..], &[key]].concat());
        assert_eq!(ran.status, 0, "{key}: {}{}", ran.out, ran.err);
    }
    assert_error(&run(&base), &["`nested.pt`", "model_state_dict", "ema.state"]);
    assert_error(&run(&[&base[..], &["--key=model"]].concat()), &["`nested.pt`", "`model`"]);
}

#[test]
fn files_that_are_no_model_are_one_line_errors() {
    let folder = scratch("files");
    let whole = fs::read(data("mlp.pt")).unwrap();
    for (name, bytes) in [
        ("truncated.pt", &whole[..whole.len() / 2]),
        ("cut.pt", &whole[..whole.len() - 1]),
        ("empty.pt", b""),
        ("page.pt", b"<!DOCTYPE html>\n<html><head><title>404</title></head></html>\n"),
        ("random.pt", b"\xd1\x05\x99 these bytes are no model at all \x00\xff\xfe"),
    ] {
        let path = folder.join(name);
        fs::write(&path, bytes).unwrap();
        let path = path.to_str().unwrap();
        for arguments in
            [&["run", path, "--arch=mlp", "--input=x.npy"][..], &["inspect", path], &["bench", path, "--arch=mlp"]]
        {
            let ran = run(arguments);
            assert_error(&ran, &[name]);
            let lines = ran.err.lines().filter(|line| !line.starts_with("device: ") && !line.contains("help: "));
            assert_eq!(lines.count(), 1, "{}", ran.err);
        }
    }
    assert_error(&run(&["run", "missing.pt", "--arch=mlp", "--input=x.npy"]), &["`missing.pt`"]);
    assert_error(&run(&["run", "mlp.pt", "--arch=mlp", "--input=missing.npy"]), &["`missing.npy`"]);
    assert_error(&run(&["run", "mlp.pt", "--arch=mlp", "--input=mlp.pt"]), &["`mlp.pt` is neither a `.npy` file"]);
}

#[test]
fn inputs_that_do_not_fit_are_errors() {
    let folder = scratch("inputs");
    let x = folder.join("x.npy");
    sconce::Tensor::new([2, 5], [0f32; 10]).unwrap().write_npy(&x).unwrap();
    let x = format!("--input={}", x.display());
    assert_error(&run(&["run", "mlp.pt", "--arch=mlp", "--device=cpu", &x]), &["[2, 5]", "`0.weight` [16, 12]"]);
    let twice = ["run", "mlp.pt", "--arch=mlp", "--device=cpu", "--input=x.npy", "--input=x.npy"];
    assert_error(&run(&twice), &["1 input", "2 were given"]);
    let two = [&RUN[..], &["--expect=y.npy", "--expect=y.npy"]].concat();
    assert_error(&run(&two), &["`--expect` is given 2 times, the model has 1 output"]);
}

#[test]
fn usage_errors_and_help() {
    for arguments in [
        &["run"][..],
        &["fly"],
        &["run", "mlp.pt"],
        &["run", "mlp.pt", "--input=x.npy", "--rtol=0"],
        &["run", "mlp.pt", "--input=x.npy", "--expect=y.npy", "--atol=-1"],
        &["run", "mlp.pt", "--input=x.npy", "--threads=0"],
        &["run", "mlp.pt", "--input=x.npy", "-q", "-v"],
        &["bench", "mlp.pt", "--batch=1,0"],
        &["devices", "--nothing"],
    ] {
        let ran = run(arguments);
        assert_eq!((ran.status, ran.out.as_str()), (2, ""), "{arguments:?}: {}", ran.err);
        assert!(ran.err.starts_with("error: "), "{arguments:?}: {}", ran.err);
    }
    let help = run(&["--help"]);
    assert_eq!((help.status, help.err.as_str()), (0, ""));
    for command in ["inspect", "diff", "convert", "run", "bench", "devices"] {
        assert!(help.out.contains(&format!("\n  {command} ")), "{}", help.out);
    }
    let version = run(&["--version"]);
    assert_eq!((version.status, version.out.trim()), (0, concat!("sconce ", env!("CARGO_PKG_VERSION"))));
}

#[test]
fn a_device_that_is_not_there_is_an_error() {
    for device in ["gpu:97", "no such adapter"] {
        let ran = run(&["run", "mlp.pt", "--arch=mlp", "--input=x.npy", "--device", device]);
        assert_error(&ran, &[&format!("`{device}`")]);
    }
}

#[test]
fn run_goes_on_with_the_next_device() {
    let ran = run(&["run", "mlp.pt", "--arch=mlp", "--input=x.npy", "--device", "gpu:97,cpu:9,cpu"]);
    assert_eq!(ran.status, 0, "{}", ran.err);
    let lines: Vec<&str> = ran.err.lines().collect();
    assert!(lines[0].starts_with("device `gpu:97`") && lines[0].ends_with(": going on with `cpu:9`"), "{}", ran.err);
    assert!(lines[1].starts_with("device `cpu:9`") && lines[1].ends_with(": going on with `cpu`"), "{}", ran.err);
    assert!(lines[2].starts_with("device: cpu"), "{}", ran.err);
    let ran = run(&["run", "mlp.pt", "--arch=mlp", "--input=x.npy", "--device", "gpu:97,gpu:98"]);
    assert!(ran.status == 2 && ran.err.contains("\nerror: device `gpu:98`"), "{}", ran.err);
}

#[test]
fn inspect_finds_what_is_named() {
    let ran = run(&["inspect", "part.pt", "head", "features.0.weight"]);
    assert_eq!((ran.status, ran.err.as_str()), (0, ""));
    assert_eq!(ran.out.lines().filter(|line| !line.starts_with("    ")).count(), 2, "{}", ran.out);
    assert!(ran.out.contains("min 1  max 1  mean 1  std 0  zeros 0"), "{}", ran.out);
    assert_error(&run(&["inspect", "part.pt", "bias"]), &["`part.pt` has no `bias`", "help: it has `features.0.bias`"]);
    assert_error(&run(&["inspect", "part.pt", "x\x1b[2J"]), &["has no `x\\u{1b}[2J`"]);
}

#[test]
fn inspect_prints_json() {
    let json = |arguments: &[&str]| -> Value { serde_json::from_str(&run(arguments).out).expect("JSON") };
    let all = json(&["inspect", "mlp.pt", "--json"]);
    assert_eq!(all["tensors"].as_array().map(Vec::len), Some(4));
    assert!(all["tensors"][0].get("sha256").is_none() && all["tensors"][0].get("statistics").is_none());
    let one = json(&["inspect", "mlp.pt", "2.weight", "--json", "--digest"]);
    let keys: Vec<&String> = one["tensors"][0].as_object().unwrap().keys().collect();
    let names =
        ["name", "dtype", "shape", "stride", "location", "requires_grad", "layout", "bytes", "storage", "sha256"];
    assert_eq!(keys, [&names[..], &["statistics"]].concat());
    assert_eq!(one["tensors"].as_array().map(Vec::len), Some(1));
}

/// The digests of every committed checkpoint are those of PyTorch's own bytes, which `tools/files.py` wrote beside them.
#[test]
fn digests_are_of_the_contiguous_bytes() {
    let mut count = 0;
    for file in ["layouts.pt", "dtypes.pt", "bits.pt", "big_endian.pt", "deflated.pt", "tied.pt"] {
        let path = format!("../checkpoint/{file}");
        let ran = run(&["inspect", &path, "--json", "--digest"]);
        let json: Value = serde_json::from_str(&ran.out).expect("JSON");
        let found: Vec<&str> =
            json["tensors"].as_array().unwrap().iter().map(|row| row["sha256"].as_str().unwrap()).collect();
        let expected = fs::read_to_string(data(&path).with_extension("json")).unwrap();
        let mut bytes = Vec::new();
        tensor_bytes(&serde_json::from_str::<Value>(&expected).unwrap()["value"], &mut bytes);
        assert_eq!(found.len(), bytes.len(), "{file}");
        for (found, bytes) in found.iter().zip(&bytes) {
            assert_eq!(found, &sha256(bytes), "{file}");
            count += 1;
        }
    }
    assert!(count > 80, "{count}");
}

/// The bytes of the tensors in `tools/files.py`'s description of a file, in order.
fn tensor_bytes(value: &Value, out: &mut Vec<Vec<u8>>) {
    let Some(items) = value.as_array() else { return };
    match items.get(1).and_then(|tensor| tensor.get("data")) {
        Some(data) => {
            let hex = data.as_str().unwrap().as_bytes();
            let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
            out.push(hex.chunks(2).map(byte).collect());
        }
        None => items.iter().for_each(|item| tensor_bytes(item, out)),
    }
}

fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest;
    sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn diff_tells_equal_from_different() {
    let same = run(&["diff", "mlp.pt", "mlp.pt"]);
    assert_eq!((same.status, same.err.as_str()), (0, ""), "{}", same.out);
    let changed = run(&["diff", "mlp.pt", "changed.pt"]);
    assert_eq!((changed.status, changed.err.as_str()), (1, ""), "{}", changed.out);
    assert!(changed.out.contains("2.weight  1 of 64 elements, at most 0.1 "), "{}", changed.out);
    let close = run(&["diff", "mlp.pt", "changed.pt", "--atol=0.11"]);
    assert_eq!(close.status, 0, "{}", close.out);
    assert!(close.out.contains("within the tolerance is 0.1, in `2.weight`"), "{}", close.out);
    assert_eq!(run(&["diff", "mlp.pt", "changed.pt", "--rtol=1.4"]).status, 0);
    assert_eq!(run(&["diff", "mlp.pt", "changed.pt", "--rtol=1.2"]).status, 1);
    assert_error(&run(&["diff", "mlp.pt", "missing.pt"]), &["`missing.pt`"]);
    let json = run(&["diff", "mlp.pt", "changed.pt", "--json"]);
    let json: Value = serde_json::from_str(&json.out).expect("JSON");
    assert_eq!((&json["equal"], &json["elements"][0]["different"]), (&Value::from(false), &Value::from(1)));
}

#[test]
fn convert_writes_what_diff_finds_equal() {
    let folder = scratch("convert");
    let path = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let done = |arguments: &[&str]| {
        let ran = run(arguments);
        assert_eq!((ran.status, ran.err.as_str()), (0, ""), "{arguments:?}: {}", ran.out);
        ran.out
    };
    let (whole, flat, arrays) = (path("whole.pt"), path("flat.safetensors"), path("flat.npz"));
    // All of the file, then the state dict in other formats and back.
    done(&["convert", "nested.pt", &whole]);
    done(&["diff", "nested.pt", &whole]);
    let out = done(&["convert", "nested.pt", &flat, "--key=model_state_dict"]);
    assert!(out.contains("left out: 4 tensors and 1 other value, in `epoch`, `ema`"), "{out}");
    done(&["diff", "mlp.pt", &flat]);
    done(&["convert", "mlp.pt", &arrays]);
    let again = path("again.pt");
    done(&["convert", &flat, &again]);
    done(&["diff", "mlp.pt", &again]);
    // Names and dtypes.
    let half = path("half.pt");
    let out = done(&["convert", "parallel.pt", &half, "--strip-prefix=module.", "--rename=0=body", "--dtype=f16"]);
    assert!(out.contains("float32 -> float16: 4 tensors"), "{out}");
    let names = run(&["inspect", &half]).out;
    assert!(names.contains("body.weight  float16  [16, 12]") && names.contains("2.bias       float16"), "{names}");
    let out = path("regex.pt");
    done(&["convert", "mlp.pt", &out, r"--rename-regex=^(\d)\.=layer$1."]);
    assert!(run(&["inspect", &out]).out.contains("layer2.weight"));
    // A file is not overwritten by mistake, and what does not fit is said before anything is written.
    assert_error(&run(&["convert", "mlp.pt", &half]), &["half.pt` is there already", "--force"]);
    done(&["convert", "mlp.pt", &half, "--force"]);
    assert_error(&run(&["convert", "nested.pt", &path("x.safetensors")]), &["model_state_dict", "ema.state"]);
    assert_error(&run(&["convert", "mlp.pt", &path("x.onnx")]), &["`.onnx`", ".safetensors"]);
    assert_error(&run(&["convert", "mlp.pt", &path("x.pt"), "--strip-prefix=net."]), &["`net.`", "`0.weight`"]);
    assert_error(&run(&["convert", "mlp.pt", &path("x.pt"), "--rename=9=8"]), &["`9`"]);
    assert_error(&run(&["convert", "mlp.pt", &path("x.pt"), "--rename-regex=(=x"]), &["not a regular expression"]);
    assert!(!folder.join("x.pt").exists() && !folder.join("x.safetensors").exists());
}

#[test]
fn devices_are_listed() {
    let ran = run(&["devices"]);
    assert_eq!(ran.status, 0, "{}", ran.err);
    assert!(ran.out.contains("cpu"), "{}", ran.out);
    let ran = run(&["devices", "--json"]);
    let json: Value = serde_json::from_str(&ran.out).expect("JSON");
    assert_eq!(json["devices"][0]["id"], "cpu", "{}", ran.out);
}

/// `{"results": [..]}` with exactly these keys.
fn check_bench(ran: &Ran, count: usize) -> Vec<Value> {
    assert_eq!(ran.status, 0, "{}", ran.err);
    let json: Value = serde_json::from_str(&ran.out).expect("JSON");
    let keys = |value: &Value| value.as_object().expect("an object").keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&json), ["results"]);
    let results = json["results"].as_array().expect("a list");
    assert_eq!(results.len(), count, "{}", ran.out);
    for result in results {
        let top = [
            "model",
            "device",
            "dtype",
            "batch",
            "open_ms",
            "compile_ms",
            "first_run_ms",
            "forward_ms",
            "peak_memory_bytes",
            "program_memory_bytes",
            "packed_bytes",
            "arena_bytes",
        ];
        assert_eq!(keys(result), top);
        assert_eq!(keys(&result["forward_ms"]), ["median", "mean", "p50", "p90", "p99", "min"]);
        let forward = |key: &str| result["forward_ms"][key].as_f64().expect("a number");
        assert!(0.0 < forward("min") && forward("min") <= forward("median"), "{}", ran.out);
        assert!(forward("median") <= forward("p90") && forward("p90") <= forward("p99"), "{}", ran.out);
        assert_eq!((result["model"].as_str(), result["dtype"].as_str()), (Some("mlp.pt"), Some("float32")));
        if cfg!(target_os = "linux") {
            let [peak, program] = ["peak", "program"].map(|key| result[format!("{key}_memory_bytes")].as_u64());
            assert!(peak > program && program > Some(1 << 20), "{}", ran.out);
        }
    }
    results.clone()
}

#[test]
fn bench_measures() {
    let ran = run(&["bench", "mlp.pt", "--arch=mlp", "--device=cpu", "--runs=3", "--json"]);
    let results = check_bench(&ran, 1);
    assert_eq!((results[0]["device"].as_str(), results[0]["batch"].as_u64()), (Some("cpu"), Some(1)));
}

/// Floats, integers and booleans are made up; sizes are those of the export, and a free first one is the batch.
#[test]
fn bench_makes_up_the_inputs_of_programs() {
    for (name, batch, measured) in [("indices", 1, 4), ("signature", 1, 2), ("free_words", 2, 2), ("cells", 1, 3)] {
        let path = format!("../programs/{name}.pt2");
        let batch = format!("--batch={batch}");
        let ran = run(&["bench", &path, &batch, "--device=cpu", "--runs=1", "--json"]);
        assert_eq!(ran.status, 0, "{name}: {}", ran.err);
        let json: Value = serde_json::from_str(&ran.out).expect("JSON");
        assert_eq!(json["results"][0]["batch"], measured, "{name}: {}", ran.out);
    }
    let ran = run(&["bench", "../programs/tied.pt2", "--input=x.npy", "--device=cpu"]);
    assert_error(&ran, &["`tokens`: expected [1, 3], found [2, 12]"]);
}

#[test]
fn bench_measures_each_case_in_its_own_process() {
    let options = ["--device=cpu,cpu", "--batch=1,5", "--runs=2", "--threads=1", "--json"];
    let ran = run(&[&["bench", "mlp.pt", "--arch=mlp"][..], &options].concat());
    let results = check_bench(&ran, 4);
    let batches: Vec<_> = results.iter().map(|result| result["batch"].as_u64().unwrap()).collect();
    assert_eq!(batches, [1, 5, 1, 5]);
    assert_eq!(ran.err.lines().filter(|line| *line == "device: cpu (1 thread)").count(), 4, "{}", ran.err);
}

#[test]
fn bench_takes_an_architecture_for_each_file() {
    let ran = run(&["bench", "mlp.pt", "parallel.pt", "--arch=mlp,mlp", "--device=cpu", "--runs=1", "--json"]);
    assert_eq!(ran.status, 0, "{}", ran.err);
    let json: Value = serde_json::from_str(&ran.out).expect("JSON");
    assert_eq!(
        (json["results"][0]["model"].as_str(), json["results"][1]["model"].as_str()),
        (Some("mlp.pt"), Some("parallel.pt"))
    );
    assert_error(&run(&["bench", "mlp.pt", "--arch=mlp,resnet18"]), &["2 architectures", "1 file"]);
    assert_error(&run(&["bench", "other.pt", "--arch=mlp"]), &["`other.pt` as `mlp`: "]);
}

#[test]
fn bench_prints_a_table() {
    let ran = run(&["bench", "mlp.pt", "--arch=mlp", "--device=cpu", "--runs=2", "--input-shape=3,12"]);
    assert_eq!(ran.status, 0, "{}", ran.err);
    let lines: Vec<&str> = ran.out.lines().collect();
    assert!(lines[0].starts_with("model ") && lines[1].starts_with("mlp.pt "), "{}", ran.out);
}

#[test]
fn bench_profiles() {
    let options = ["--arch=mlp", "--device=cpu", "--runs=2", "--profile"];
    let ran = run(&[&["bench", "mlp.pt", "--json"][..], &options].concat());
    assert_eq!(ran.status, 0, "{}", ran.err);
    let json: Value = serde_json::from_str(&ran.out).expect("JSON");
    let profile = &json["results"][0]["profile"];
    assert!(profile["peak_gflops"].as_f64() > Some(0.0) && profile["peak_gbs"].as_f64() > Some(0.0), "{profile}");
    let steps = profile["steps"].as_array().expect("a list");
    let layers: Vec<_> = steps.iter().map(|step| (step["kernel"].as_str(), step["layer"].as_str())).collect();
    assert!(layers.contains(&(Some("linear"), Some("0"))), "{profile}");
    for step in steps {
        assert!(step["bytes"].as_u64() > Some(0) && step["ms"].as_f64() >= step["min_ms"].as_f64(), "{step}");
    }
    let ran = run(&[&["bench", "mlp.pt", "mlp.pt"][..], &options].concat());
    assert_eq!(ran.status, 0, "{}", ran.err);
    assert_eq!(ran.out.matches("the peak is").count(), 2, "{}", ran.out);
    let total = ran.out.lines().find(|line| line.starts_with("all ")).expect("a line for all kernels");
    assert!(total.contains(&steps.len().to_string()) && total.contains("100.0 %"), "{}", ran.out);
}

#[test]
fn bench_fails_with_the_first_error() {
    let ran = run(&["bench", "mlp.pt", "missing.pt", "--arch=mlp", "--device=cpu", "--runs=1"]);
    assert_error(&ran, &["`missing.pt`"]);
}

#[test]
fn a_closed_pipe_is_no_error() {
    for arguments in
        [&["devices"][..], &["inspect", "mlp.pt"], &["run", "mlp.pt", "--arch=mlp", "--input=x.npy", "--device=cpu"]]
    {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let output =
            sconce().args(arguments).stdout(writer).stderr(Stdio::piped()).output().expect("the command starts");
        let err = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {err}");
        assert!(!err.contains("error"), "{arguments:?}: {err}");
    }
}

/// On the CPU other precisions than f32 are refused by name; on a GPU with f16 the difference from f32 is told.
#[test]
fn precisions_are_explicit() {
    for dtype in ["fast", "f16"] {
        let dtype_option = format!("--dtype={dtype}");
        for command in ["run", "bench"] {
            let input: &[&str] = if command == "run" { &["--input=x.npy"] } else { &[] };
            let ran = run(&[&[command, "mlp.pt", "--arch=mlp", "--device=cpu", &dtype_option][..], input].concat());
            assert_error(&ran, &[&format!("precision `{dtype}` on the CPU")]);
        }
    }
    // Of several, those that can be are measured.
    let ran = run(&["bench", "mlp.pt", "--arch=mlp", "--device=cpu", "--runs=1", "--dtype=f32,fast,f16"]);
    assert_eq!(ran.status, 0, "{}", ran.err);
    let starts = |start: &str| ran.out.lines().filter(|line| line.starts_with(start)).count();
    assert_eq!([starts("mlp.pt"), starts("left out: precision `fast`"), starts("left out: precision `f16`")], [1; 3]);
    let ran = run(&["bench", "mlp.pt", "--arch=mlp", "--device=cpu", "--runs=1", "--dtype=fast,f16"]);
    assert_error(&ran, &["precision `fast` on the CPU"]);
    let ran = run(&["run", "mlp.pt", "--arch=mlp", "--input=x.npy", "--dtype=f8"]);
    assert!(ran.status == 2 && ran.err.contains("f32, fast or f16 is expected"), "{}", ran.err);

    let devices: Value = serde_json::from_str(&run(&["devices", "--json"]).out).expect("JSON");
    let has_f16 = |device: &&Value| device["limits"]["f16"] == true && device["unsupported"].is_null();
    for device in devices["devices"].as_array().expect("a list").iter().filter(has_f16) {
        // Commas would part devices.
        let name = device["name"].as_str().and_then(|name| name.split_whitespace().next()).expect("a name");
        let device = format!("--device={name}");
        let options = ["--dtype=f32,f16", "--runs=1", "--json", "-v", &device];
        let ran = run(&[&["bench", "mlp.pt", "--arch=mlp"][..], &options].concat());
        assert!(ran.err.contains("kernels in f16: linear_vec "), "{}", ran.err);
        let json: Value = serde_json::from_str(&ran.out).expect("JSON");
        let [exact, half] = &json["results"].as_array().expect("a list")[..] else { panic!("{}", ran.out) };
        assert_eq!((exact["dtype"].as_str(), half["dtype"].as_str()), (Some("float32"), Some("float16")));
        assert!(exact.get("error").is_none() && half["kernels"]["linear_vec"].is_u64(), "{}", ran.out);
        let error = half["error"]["of_largest_output"].as_f64().expect("a number");
        assert!(0.0 < error && error < 0.01, "{}", ran.out);
    }
}
