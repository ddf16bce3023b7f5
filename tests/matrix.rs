//! Every dtype in every layout, container and pickle protocol (tools/matrix.py), compared bit for bit with PyTorch. The
//! committed files are some of them; `SCONCE_MATRIX=DIRECTORY` reads all that the tool wrote there, and whatever else is
//! there in the same form.
#![allow(clippy::print_stdout)]

#[path = "common/encoded.rs"]
mod encoded;

use std::fs;
use std::path::{Path, PathBuf};

use encoded::{Encoder, difference};
use sconce::DType;
use sconce::checkpoint::Container;
use serde_json::{Value as Json, json};

/// The file that a JSON file says the contents of.
fn described(json: &Path) -> Option<PathBuf> {
    ["pt", "pth", "pkl", "tar", "bin"].iter().map(|ending| json.with_extension(ending)).find(|path| path.exists())
}

/// Where a file differs from what PyTorch says is in it.
fn check(path: &Path, expected: &Json) -> Option<String> {
    let checkpoint = match sconce::load(path) {
        Ok(checkpoint) => checkpoint,
        Err(error) => return Some(error.to_string()),
    };
    if let Some(saves) = expected.get("saves") {
        let mut found: Vec<Json> = checkpoint.saves().iter().map(|save| Encoder::default().value(save)).collect();
        if checkpoint.container() == Container::TorchScript {
            // What a module has besides tensors is in attributes of the dict, which PyTorch's has none of.
            found.iter_mut().for_each(|dict| dict[3] = Json::Null);
        }
        return difference("", saves, &json!(found));
    }
    let found = Encoder::default().value(checkpoint.root());
    difference("", &expected["value"], &found).or_else(|| {
        let floats = expected.get("floats")?.as_str()?;
        let dequantized = checkpoint["x"].as_tensor().and_then(|tensor| tensor.to(DType::F32)).ok()?;
        let found: String = dequantized.contiguous_bytes().ok()?.iter().map(|byte| format!("{byte:02x}")).collect();
        (found != floats).then(|| "the dequantized numbers differ".to_owned())
    })
}

/// Checks a directory's files and gives their number.
fn check_all(directory: &Path) -> usize {
    let (mut count, mut wrong, mut without) = (0, Vec::new(), Vec::new());
    let mut entries: Vec<PathBuf> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for json in entries.iter().filter(|path| path.extension().is_some_and(|ending| ending == "json")) {
        let expected: Json = serde_json::from_slice(&fs::read(json).unwrap()).unwrap();
        if expected.get("torch").is_none() {
            continue;
        }
        let Some(path) = described(json) else {
            without.push(json.file_stem().unwrap().to_string_lossy().into_owned());
            continue;
        };
        count += 1;
        if let Some(difference) = check(&path, &expected) {
            wrong.push(format!("{}: {difference}", path.display()));
        }
    }
    println!("{}: {count} files equal what PyTorch says, {} differ", directory.display(), wrong.len());
    assert!(wrong.is_empty(), "{} of {count} files differ:\n{}", wrong.len(), wrong[..wrong.len().min(20)].join("\n"));
    assert!(without.iter().all(|name| name == "shards"), "no files for {without:?}");
    count
}

#[test]
fn the_committed_files_hold_what_pytorch_says() {
    assert!(check_all(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/matrix")) >= 40);
}

#[test]
fn all_files_hold_what_pytorch_says() {
    if let Ok(directory) = std::env::var("SCONCE_MATRIX") {
        assert!(check_all(Path::new(&directory)) >= 400);
    }
}
