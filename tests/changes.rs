//! Files that change while they are open: an error, not other numbers and not the end of the process.
#![cfg(unix)]

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use sconce::ErrorKind;
use sconce::checkpoint::{Checkpoint, StoredTensor, Value};

/// A copy of a file of `tests/data` for one test, which is opened.
fn opened(test: &str, name: &str) -> (PathBuf, Checkpoint) {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name);
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("changes").join(test);
    fs::create_dir_all(&folder).unwrap();
    let path = folder.join(name.replace('/', "-"));
    fs::copy(data, &path).unwrap();
    let checkpoint = sconce::load(&path).unwrap();
    (path, checkpoint)
}

fn tensors(checkpoint: &Checkpoint) -> Vec<StoredTensor> {
    let values = checkpoint.root().as_dict().unwrap().values();
    let values = values.flat_map(|value| match value {
        Value::Dict(dict) => dict.values().collect(),
        value => vec![value],
    });
    let tensors = values.filter_map(|value| value.as_tensor().ok());
    tensors.filter(|tensor| !tensor.storage().is_empty()).cloned().collect()
}

#[track_caller]
fn refused(checkpoint: &Checkpoint, message: &str) {
    let tensors = tensors(checkpoint);
    assert!(tensors.len() > 1);
    for tensor in tensors {
        let error = tensor.contiguous_bytes().map(|_| ()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io, "{error}");
        assert!(error.to_string().contains(message), "{error}");
    }
}

const FILES: [&str; 5] = [
    "checkpoint/net.pt",
    "checkpoint/deflated.pt",
    "checkpoint/big_endian.pt",
    "containers/legacy_state.pth",
    "saving/tensors.safetensors",
];

#[test]
fn a_file_that_is_cut_short() {
    for name in FILES {
        let (path, checkpoint) = opened("short", name);
        let size = checkpoint.file_bytes();
        OpenOptions::new().write(true).open(&path).unwrap().set_len(100).unwrap();
        let changed = format!("`{}` was changed after it was opened: it had {size} bytes, and has 100", path.display());
        refused(&checkpoint, &changed);
        let error = sconce::save(Value::from(&checkpoint), path.with_extension("again.pt")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io, "{error}");
        assert!(error.to_string().contains(&changed), "{error}");
        fs::remove_file(&path).unwrap();
    }
}

#[test]
fn a_file_that_is_written_over() {
    for name in FILES {
        let (path, checkpoint) = opened("over", name);
        let first = &tensors(&checkpoint)[0];
        let before = first.contiguous_bytes().unwrap().into_owned();
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        file.set_modified(SystemTime::now() + Duration::from_secs(2)).unwrap();
        match name.contains("deflated") || name.contains("big_endian") {
            // What was unpacked is a copy.
            true => assert!(*first.contiguous_bytes().unwrap() == before),
            false => refused(
                &checkpoint,
                "was changed after it was opened: its modification time changed\n  help: open it again",
            ),
        }
        fs::remove_file(&path).unwrap();
    }
}

#[test]
fn a_file_that_is_replaced_stays_as_it_was() {
    for name in FILES {
        let (path, checkpoint) = opened("replaced", name);
        sconce::save(Value::from(vec![1i64]), path.with_extension("new.pt")).unwrap();
        fs::rename(path.with_extension("new.pt"), &path).unwrap();
        for tensor in tensors(&checkpoint) {
            tensor.contiguous_bytes().unwrap();
        }
        fs::remove_file(&path).unwrap();
        for tensor in tensors(&checkpoint) {
            tensor.contiguous_bytes().unwrap();
        }
    }
}
