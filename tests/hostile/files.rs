//! The hostile files by name: `files/` has them, `errors.txt` what is said of each. Both are made by these tests:
//! `SCONCE_UPDATE_SNAPSHOTS=1 cargo test --test hostile -- --include-ignored --test-threads 1` writes them anew.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sconce::checkpoint::Value;

use crate::memory::measured;

/// What reading one of the files may take.
const MEMORY: usize = 16 << 20;
const TIME: Duration = Duration::from_secs(10);

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hostile/files")
}

pub(crate) fn updates() -> bool {
    std::env::var("SCONCE_UPDATE_SNAPSHOTS").is_ok_and(|value| value == "1")
}

/// Checks that the file of this name is committed with these bytes. Large files are only made when they are tested.
pub(crate) fn committed(name: &str, bytes: &[u8]) {
    const LARGEST: usize = 64 << 10;
    if bytes.len() > LARGEST {
        return;
    }
    let path = folder().join(name);
    if updates() {
        fs::create_dir_all(folder()).unwrap();
        fs::write(&path, bytes).unwrap();
    }
    let found = fs::read(&path).unwrap_or_else(|error| panic!("tests/hostile/files/{name}: {error}"));
    // What the zip crate compresses may be other bytes in its next version.
    assert!(found == bytes || name.starts_with("bomb-"), "tests/hostile/files/{name} is not what the tests make");
}

/// A name as a file's: `two-pickles.pt`.
pub(crate) fn file_name(name: &str) -> String {
    let plain: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect();
    plain + ".pt"
}

/// Reads the file and all that is in it.
fn read(path: &str) -> String {
    let outcome = sconce::load(path).and_then(|checkpoint| {
        let text = checkpoint.root().to_string();
        read_tensors(checkpoint.root(), &mut 10_000)?;
        Ok(text)
    });
    match outcome {
        Ok(text) => {
            let line: String = text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(100).collect();
            format!("loads as {}", line.escape_debug())
        }
        Err(error) => error.to_string().lines().next().unwrap_or_default().replace(&format!("`{path}`: "), ""),
    }
}

fn read_tensors(value: &Value, budget: &mut usize) -> sconce::Result<()> {
    *budget = budget.saturating_sub(1);
    if *budget == 0 {
        return Ok(());
    }
    match value {
        Value::Tensor(tensor) => tensor.contiguous_bytes().map(drop),
        Value::Dict(dict) => dict.values().try_for_each(|value| read_tensors(value, budget)),
        Value::Object(object) => {
            object.args().iter().chain(object.state()).try_for_each(|part| read_tensors(part, budget))
        }
        other => other.as_list().into_iter().flatten().try_for_each(|item| read_tensors(item, budget)),
    }
}

#[test]
#[ignore = "reads what the other tests write when they write"]
fn z_write_the_errors() {
    if updates() {
        let lines: Vec<String> = all().into_iter().map(|(name, error)| format!("{name}: {error}\n")).collect();
        fs::write(folder().with_file_name("errors.txt"), lines.concat()).unwrap();
    }
}

fn all() -> BTreeMap<String, String> {
    let names = fs::read_dir(folder()).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
    names
        .map(|name| {
            let start = Instant::now();
            let (outcome, memory) = measured(|| read(&format!("tests/hostile/files/{name}")));
            assert!(start.elapsed() < TIME, "{name}: {:?}", start.elapsed());
            assert!(memory < MEMORY, "{name}: {memory} bytes of memory");
            (name, outcome)
        })
        .collect()
}

/// Every file gives the one line that is written down for it, in little time and memory.
#[test]
fn every_file_has_its_error() {
    if updates() {
        return;
    }
    let written = include_str!("errors.txt").replace("\r\n", "\n");
    let expected: BTreeMap<String, String> = written
        .lines()
        .map(|line| {
            line.split_once(": ").map(|(name, error)| (name.to_owned(), error.to_owned())).expect("`name: error`")
        })
        .collect();
    let found = all();
    for (name, error) in &found {
        assert_eq!(Some(error), expected.get(name), "{name}");
    }
    assert_eq!(found.len(), expected.len());
    assert!(found.len() >= 60, "{} hostile files", found.len());
}

/// The measure itself: a list of a MiB is seen.
#[test]
fn memory_is_measured() {
    let (list, memory) = measured(|| vec![1u8; 1 << 20]);
    assert!(list.len() <= memory && memory < 2 << 20, "{memory}");
}
