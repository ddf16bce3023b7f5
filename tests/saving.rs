//! Saving: every file of the tests comes back from a file that sconce wrote, in PyTorch's format, as safetensors and as
//! `.npz`. `tools/check_saved.py` has PyTorch read such files; `tools/resume.py` resumes training from one.

use std::collections::HashMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sconce::checkpoint::{Container, Dict, Storage, StoredTensor, Value, save_with_progress};
use sconce::{Checkpoint, DType, ErrorKind, StateDict, Tensor};

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

/// A folder that is removed at the end of a test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("sconce-saving-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(&self.0).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Compares values part by part. What is one object in one tree must be one in the other.
#[derive(Default)]
struct Comparison {
    partners: HashMap<usize, usize>,
}

impl Comparison {
    fn pair<T: ?Sized>(&mut self, a: &Arc<T>, b: &Arc<T>, path: &str) {
        let (a, b) = (Arc::as_ptr(a).cast::<()>() as usize, Arc::as_ptr(b).cast::<()>() as usize);
        assert_eq!(*self.partners.entry(a).or_insert(b), b, "{path} is shared with something else than before");
        assert_eq!(*self.partners.entry(b).or_insert(a), a, "{path} is shared with something else than before");
    }

    fn same(&mut self, a: &Value, b: &Value, path: &str) {
        match (a, b) {
            (Value::Float(a), Value::Float(b)) => assert_eq!(a.to_bits(), b.to_bits(), "{path}"),
            (Value::List(x), Value::List(y)) => {
                self.pair(x, y, path);
                self.items(x, y, path);
            }
            (Value::Tuple(x), Value::Tuple(y)) => {
                if !x.is_empty() {
                    self.pair(x, y, path);
                }
                self.items(x, y, path);
            }
            (Value::Set(x), Value::Set(y)) | (Value::FrozenSet(x), Value::FrozenSet(y)) => {
                self.pair(x, y, path);
                self.items(x, y, path);
            }
            (Value::Dict(x), Value::Dict(y)) => {
                self.pair(x, y, path);
                assert_eq!(x.kind(), y.kind(), "{path}");
                self.entries(x.iter().as_slice(), y.iter().as_slice(), path);
                self.options(x.factory(), y.factory(), &format!("{path}.factory"));
                self.options(x.attributes(), y.attributes(), &format!("{path}.attributes"));
            }
            (Value::Tensor(x), Value::Tensor(y)) => {
                self.pair(x, y, path);
                self.tensors(x, y, path);
            }
            (Value::Storage(x, dtype), Value::Storage(y, other)) => {
                assert_eq!(dtype, other, "{path}");
                self.storages(x, y, path);
            }
            (Value::Object(x), Value::Object(y)) => {
                self.pair(x, y, path);
                assert_eq!(x.class(), y.class(), "{path}");
                self.items(x.args(), y.args(), &format!("{path}.args"));
                self.items(x.items(), y.items(), &format!("{path}.items"));
                self.entries(x.entries(), y.entries(), path);
                self.options(x.kwargs(), y.kwargs(), &format!("{path}.kwargs"));
                self.options(x.state(), y.state(), &format!("{path}.state"));
            }
            (Value::Cycle(x), Value::Cycle(y)) => {
                let (Some(x), Some(y)) = (x.get(), y.get()) else { panic!("{path}: a container is gone") };
                self.containers(&x, &y, path);
            }
            (a, b) => {
                assert_eq!(std::mem::discriminant(a), std::mem::discriminant(b), "{path}: {a} became {b}");
                assert_eq!(a.to_string(), b.to_string(), "{path}");
            }
        }
    }

    /// What cycles refer to, whose parts are compared where they are.
    fn containers(&mut self, a: &Value, b: &Value, path: &str) {
        match (a, b) {
            (Value::List(x), Value::List(y)) | (Value::Set(x), Value::Set(y)) => self.pair(x, y, path),
            (Value::FrozenSet(x), Value::FrozenSet(y)) => self.pair(x, y, path),
            (Value::Tuple(x), Value::Tuple(y)) => self.pair(x, y, path),
            (Value::Dict(x), Value::Dict(y)) => self.pair(x, y, path),
            (Value::Tensor(x), Value::Tensor(y)) => self.pair(x, y, path),
            (Value::Object(x), Value::Object(y)) => self.pair(x, y, path),
            _ => panic!("{path}: {a} became {b}"),
        }
    }

    fn items(&mut self, a: &[Value], b: &[Value], path: &str) {
        assert_eq!(a.len(), b.len(), "{path}");
        a.iter().zip(b).enumerate().for_each(|(i, (a, b))| self.same(a, b, &format!("{path}.{i}")));
    }

    fn entries(&mut self, a: &[(Value, Value)], b: &[(Value, Value)], path: &str) {
        assert_eq!(a.len(), b.len(), "{path}");
        for ((key, a), (other, b)) in a.iter().zip(b) {
            self.same(key, other, &format!("{path}.key"));
            self.same(a, b, &format!("{path}.{key}"));
        }
    }

    fn options(&mut self, a: Option<&Value>, b: Option<&Value>, path: &str) {
        assert_eq!(a.is_some(), b.is_some(), "{path}");
        if let (Some(a), Some(b)) = (a, b) {
            self.same(a, b, path);
        }
    }

    fn tensors(&mut self, a: &StoredTensor, b: &StoredTensor, path: &str) {
        assert_eq!(a.describe(), b.describe(), "{path}");
        assert_eq!((a.stride(), a.offset(), a.location()), (b.stride(), b.offset(), b.location()), "{path}");
        assert_eq!((a.requires_grad(), a.is_parameter()), (b.requires_grad(), b.is_parameter()), "{path}");
        assert_eq!((a.class(), a.has_hooks()), (b.class(), b.has_hooks()), "{path}");
        assert_eq!(format!("{:?}", a.quantizer()), format!("{:?}", b.quantizer()), "{path}");
        self.storages(a.storage(), b.storage(), path);
        assert_eq!(a.contiguous_bytes().ok(), b.contiguous_bytes().ok(), "{path}");
        for (i, (a, b)) in a.parts().into_iter().zip(b.parts()).enumerate() {
            self.tensors(a, b, &format!("{path}.{i}"));
        }
    }

    fn storages(&mut self, a: &Arc<Storage>, b: &Arc<Storage>, path: &str) {
        if !a.is_empty() {
            self.pair(a, b, path);
        }
        assert_eq!((a.len(), a.location()), (b.len(), b.location()), "{path}");
        assert!(a.bytes().unwrap() == b.bytes().unwrap(), "{path}: other bytes");
    }
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    let mut entries: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        match path.extension().and_then(|ending| ending.to_str()) {
            None if path.is_dir() => files(&path, found),
            Some("pt" | "pth" | "safetensors") => found.push(path),
            _ => {}
        }
    }
}

#[test]
fn every_file_comes_back() {
    let folder = Folder::new("every");
    let mut all = Vec::new();
    files(&data(""), &mut all);
    let mut same = 0;
    for path in all {
        let Ok(checkpoint) = sconce::load(&path) else { continue };
        let (first, second) = (folder.path("first.pt"), folder.path("second.pt"));
        checkpoint.save(&first).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let back = sconce::load(&first).unwrap();
        Comparison::default().same(checkpoint.root(), back.root(), &path.display().to_string());
        back.save(&second).unwrap();
        assert!(fs::read(&first).unwrap() == fs::read(&second).unwrap(), "{}", path.display());
        same += 1;
    }
    assert!(same > 30, "{same}");
}

#[test]
fn values_that_hold_themselves_come_back() {
    let folder = Folder::new("cycles");
    let path = folder.path("saved.pt");
    let checkpoint = sconce::load(data("checkpoint/cycles.pt")).unwrap();
    // Rebuilt, with references to what was built; the file that was read is gone from memory.
    let moved = sconce::load(data("checkpoint/cycles.pt")).unwrap().map_location("cuda:0");
    moved.map_location("cpu").save(&path).unwrap();
    Comparison::default().same(checkpoint.root(), sconce::load(&path).unwrap().root(), "moved");
    // A part alone, and a change beside it.
    let mut dicts = checkpoint["dicts"].clone();
    dicts[0] = Value::from(3i64);
    sconce::save(dicts.clone(), &path).unwrap();
    Comparison::default().same(&dicts, sconce::load(&path).unwrap().root(), "changed");
    // What refers to a container that was changed, or is not there, is not to be saved as if it referred to another.
    let refusal = "a reference to a container that is not around it any more";
    dicts[1]["a"] = Value::from(2i64);
    let error = sconce::save(dicts, &path).unwrap_err().to_string();
    assert!(error.contains(&format!("`[1].me`: {refusal}")), "{error}");
    // What is around a part goes along, if the part is still in it.
    let part = checkpoint["tuples"][0][0].clone();
    sconce::save(part.clone(), &path).unwrap();
    let saved = sconce::load(&path).unwrap();
    assert_eq!(saved.root().to_string(), "([...], 1)");
    let error = sconce::save(vec![part], &path).unwrap_err().to_string();
    assert!(error.contains(&format!("`[0][0]`: {refusal}")), "{error}");
    let Value::Cycle(container) = &checkpoint["list"][1] else { panic!("{}", checkpoint["list"]) };
    assert_eq!(container.get().unwrap().to_string(), "[1, ...]");
}

/// Row 19 of the mission's cases: load, change something, save, and PyTorch resumes from it. `resaved.pt` is what was
/// saved when `tools/resume.py` checked with PyTorch that the next losses are equal to the last bit.
#[test]
fn case_19_resume_training_from_a_file_that_went_through() {
    let folder = Folder::new("case-19");
    let path = folder.path("resaved.pt");
    let mut checkpoint = sconce::load(data("saving/training.pt")).unwrap();
    let before = checkpoint.clone();
    checkpoint["epoch"] = Value::from(6i64);
    checkpoint.save(&path).unwrap();
    if std::env::var_os("SCONCE_WRITE_EXPECTED").is_some() {
        fs::copy(&path, data("saving/resaved.pt")).unwrap();
    }
    assert!(
        fs::read(&path).unwrap() == fs::read(data("saving/resaved.pt")).unwrap(),
        "other bytes than PyTorch checked"
    );

    let after = sconce::load(&path).unwrap();
    assert_eq!((before["epoch"].as_i64().unwrap(), after["epoch"].as_i64().unwrap()), (5, 6));
    for ((key, a), (other, b)) in before.root().as_dict().unwrap().iter().zip(after.root().as_dict().unwrap()) {
        assert_eq!(key.as_str().unwrap(), other.as_str().unwrap());
        if key.as_str().unwrap() != "epoch" {
            Comparison::default().same(a, b, key.as_str().unwrap());
        }
    }
    for (name, kept) in [("sgd", "momentum_buffer"), ("adam", "max_exp_avg_sq"), ("adamw", "exp_avg")] {
        let optimizer = &after["runs"][name]["optimizer_state_dict"];
        assert!(!optimizer["state"][5][kept].as_tensor().unwrap().contiguous_bytes().unwrap().is_empty());
        assert!(optimizer["param_groups"][0]["lr"].as_f64().unwrap() > 0.0);
    }
}

#[test]
fn safetensors_files_of_the_original_library_are_read_and_written() {
    let folder = Folder::new("safetensors");
    let pickled = sconce::load(data("saving/tensors.pt")).unwrap();
    let checkpoint = sconce::load(data("saving/tensors.safetensors")).unwrap();
    assert_eq!(checkpoint.container(), Container::Safetensors);
    let metadata = &checkpoint.root().as_dict().unwrap().attributes().unwrap()["__metadata__"];
    assert_eq!((metadata["format"].as_str().unwrap(), metadata["note"].as_str().unwrap()), ("pt", "caf\u{e9}"));

    let written = folder.path("written.safetensors");
    sconce::save(&checkpoint, &written).unwrap();
    let again = sconce::load(&written).unwrap();
    assert_eq!(again.root().as_dict().unwrap().attributes().unwrap()["__metadata__"].to_string(), metadata.to_string());
    let state = pickled.state_dict().unwrap();
    state.save(folder.path("ordered.SAFETENSORS")).unwrap();
    let ordered = sconce::load(folder.path("ordered.SAFETENSORS")).unwrap().state_dict().unwrap();
    assert!(ordered.names().eq(state.names()), "the order is kept");
    for other in [&checkpoint.state_dict().unwrap(), &again.state_dict().unwrap(), &ordered] {
        assert_eq!(other.len(), state.len());
        for (name, tensor) in state.iter() {
            let found = &other[name];
            assert!(found.storage().is_mapped());
            assert_eq!((found.dtype(), found.shape()), (tensor.dtype(), tensor.shape()), "{name}");
            assert_eq!(found.contiguous_bytes().unwrap(), tensor.contiguous_bytes().unwrap(), "{name}");
        }
    }
}

#[test]
fn strides_and_ties_become_copies_in_safetensors() {
    let folder = Folder::new("strides");
    let bytes: Vec<u8> = (0..12).collect();
    let storage = Storage::owned(bytes, "cpu");
    let view = |shape: [usize; 2], stride: [usize; 2], offset| {
        StoredTensor::new(Arc::clone(&storage), DType::U8, shape, stride.to_vec(), offset).unwrap()
    };
    let named = |name: &str, tensor| (name.to_string(), tensor);
    let state: StateDict = [
        named("whole", view([3, 4], [4, 1], 0)),
        named("tied", view([3, 4], [4, 1], 0)),
        named("transposed", view([4, 3], [1, 4], 0)),
        named("expanded", view([2, 3], [0, 1], 9)),
    ]
    .into_iter()
    .collect();
    state.save(folder.path("a.safetensors")).unwrap();
    let back = sconce::load(folder.path("a.safetensors")).unwrap().state_dict().unwrap();
    for (name, tensor) in state.iter() {
        assert_eq!(back[name].contiguous_bytes().unwrap(), tensor.contiguous_bytes().unwrap(), "{name}");
    }
    assert!(!Arc::ptr_eq(back["whole"].storage(), back["tied"].storage()));
}

#[test]
fn npz_files_hold_arrays() {
    let folder = Folder::new("npz");
    let state = sconce::load(data("checkpoint/net.pt")).unwrap().state_dict().unwrap();
    let path = folder.path("net.npz");
    state.save(&path).unwrap();
    let mut archive = zip::ZipArchive::new(fs::File::open(&path).unwrap()).unwrap();
    assert_eq!(archive.len(), state.len());
    for (name, tensor) in state.iter() {
        let mut bytes = Vec::new();
        archive.by_name(&format!("{name}.npy")).unwrap().read_to_end(&mut bytes).unwrap();
        let array = Tensor::from_npy(&bytes).unwrap();
        assert_eq!((array.dtype(), array.shape()), (tensor.dtype(), tensor.shape()), "{name}");
        assert_eq!(array.bytes(), &*tensor.contiguous_bytes().unwrap(), "{name}");
    }
}

#[test]
fn formats_refuse_what_they_cannot_hold_before_a_file_is_touched() {
    let folder = Folder::new("refused");
    let dtypes = sconce::load(data("checkpoint/dtypes.pt")).unwrap();
    let training = sconce::load(data("checkpoint/training.pt")).unwrap();
    for (checkpoint, name, words) in [
        (
            &dtypes,
            "a.npz",
            "a NumPy array cannot hold `bfloat16` (bfloat16 [16]), `float8_e4m3fn` (float8_e4m3fn [16])",
        ),
        (
            &dtypes,
            "a.safetensors",
            "a safetensors file cannot hold `complex32` (complex32 [16]), `complex128` (complex128 [16])",
        ),
        (&training, "a.safetensors", "a safetensors file holds tensors by name only: `epoch` is the integer 7"),
        (
            &training,
            "a.onnx",
            "files that end in `.onnx` are not written\n  help: the endings are `.pt`, `.pth`, `.bin`",
        ),
        (&training, "a", "the name of a file to write has no ending"),
    ] {
        let error = checkpoint.save(folder.path(name)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        assert!(error.to_string().contains(words), "{error}");
        assert!(error.to_string().starts_with(&format!("`{}`: ", folder.path(name).display())), "{error}");
    }
    assert!(folder.names().is_empty());
}

#[test]
fn a_file_can_be_saved_over_itself() {
    let folder = Folder::new("itself");
    let path = folder.path("net.pt");
    fs::copy(data("checkpoint/net.pt"), &path).unwrap();
    let mut checkpoint = sconce::load(&path).unwrap();
    let bias = Tensor::new([3], [1f32, 2., 3.]).unwrap();
    checkpoint["fc.bias"] = Value::from(&bias);
    checkpoint.save(&path).unwrap();
    // The old file is still mapped, and unchanged.
    let original = sconce::load(data("checkpoint/net.pt")).unwrap();
    let weight =
        |checkpoint: &Checkpoint| checkpoint["fc.weight"].as_tensor().unwrap().contiguous_bytes().unwrap().into_owned();
    assert_eq!(weight(&checkpoint), weight(&original));
    let saved = sconce::load(&path).unwrap();
    assert_eq!(weight(&saved), weight(&original));
    assert_eq!(*saved["fc.bias"].as_tensor().unwrap().contiguous_bytes().unwrap(), *bias.bytes());
    assert_eq!(folder.names(), ["net.pt"]);
}

#[test]
fn an_error_leaves_the_old_file() {
    let folder = Folder::new("error");
    let path = folder.path("net.pt");
    fs::write(&path, "old").unwrap();
    let mut values = sconce::load(data("checkpoint/values.pt")).unwrap();
    // The list is another one than that in it then.
    values["cycle"][0] = Value::None;
    assert!(values.save(&path).is_err());
    // A compressed tensor that turns out to be damaged while it is written.
    let mut bytes = fs::read(data("checkpoint/deflated.pt")).unwrap();
    let at = bytes.windows(10).position(|window| window == b"dir/data/1").unwrap() + 20;
    bytes[at] ^= 0x55;
    let damaged = Checkpoint::from_bytes("damaged", bytes).unwrap();
    let error = damaged.save(&path).unwrap_err();
    assert!(error.to_string().contains("is damaged"), "{error}");
    assert_eq!((fs::read_to_string(&path).unwrap().as_str(), folder.names()), ("old", vec!["net.pt".to_string()]));
    let tuples = values["tuples"].clone();
    let error = sconce::save(tuples, folder.path("no/such/folder.pt")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    assert!(error.to_string().ends_with("cannot be written: no such file or directory"), "{error}");
    let error = sconce::save(Value::None, folder.0.with_extension("pt").with_file_name(".pt")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}

#[test]
#[cfg(unix)]
fn links_and_permissions_are_kept() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let folder = Folder::new("links");
    let (target, link) = (folder.path("target.pt"), folder.path("link.pt"));
    fs::write(&target, "old").unwrap();
    fs::set_permissions(&target, fs::Permissions::from_mode(0o600)).unwrap();
    symlink(&target, &link).unwrap();
    sconce::save(Value::from(1i64), &link).unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(sconce::load(&target).unwrap().root().as_i64().unwrap(), 1);
    assert_eq!(fs::metadata(&target).unwrap().permissions().mode() & 0o777, 0o600);
    fs::create_dir(folder.path("folder.pt")).unwrap();
    let error = sconce::save(Value::None, folder.path("folder.pt")).unwrap_err();
    assert!(error.to_string().ends_with("there is a folder or device of that name"), "{error}");
}

#[test]
fn tensors_nets_and_values_are_saved() {
    let folder = Folder::new("kinds");
    let path = folder.path("x.pt");
    Tensor::new([2], [1i64, 2]).unwrap().save(&path).unwrap();
    assert_eq!(
        *sconce::load(&path).unwrap().root().as_tensor().unwrap().contiguous_bytes().unwrap(),
        [1u8, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0]
    );
    use sconce::nn::Module;
    let mut linear = sconce::nn::Linear::new(8, 3);
    let state = sconce::load(data("checkpoint/net.pt")).unwrap().state_dict().unwrap().select("fc.");
    linear.load_state_dict(&state, sconce::Strict::Yes).unwrap();
    linear.state_dict().save(&path).unwrap();
    let saved = sconce::load(&path).unwrap().state_dict().unwrap();
    assert!(
        saved.names().eq(["weight", "bias"])
            && saved["weight"].contiguous_bytes().unwrap() == state["weight"].contiguous_bytes().unwrap()
    );
    let mut told = 0;
    let dict = Dict::from_iter([("weights", Value::from(&saved))]);
    save_with_progress(dict, &path, &mut |done, total| told = done * 1000 + total).unwrap();
    assert_eq!(told, 108 * 1001);
}

#[test]
fn what_killed_saves_left_is_removed() {
    let folder = Folder::new("abandoned");
    let old = std::time::SystemTime::now() - std::time::Duration::from_secs(3600);
    let draft = |name: &str, is_old: bool| {
        let file = fs::File::create(folder.path(name)).unwrap();
        if is_old {
            file.set_modified(old).unwrap();
        }
        file
    };
    let held = draft(".sconce-1-0.tmp", true);
    held.lock().unwrap();
    for (name, is_old) in
        [(".sconce-1-1.tmp", false), (".sconce-1-2.tmp", true), ("mine.tmp", true), (".sconce-mine-1.tmp", true)]
    {
        draft(name, is_old);
    }
    sconce::save(Value::None, folder.path("net.pt")).unwrap();
    let left = [".sconce-1-0.tmp", ".sconce-1-1.tmp", ".sconce-mine-1.tmp", "mine.tmp", "net.pt"];
    assert_eq!(folder.names(), left, "one that is held, and a young one, may be written at this moment");
}
