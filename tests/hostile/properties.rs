//! Random damage: whatever the bytes are, reading ends, with a value or an error.

use std::path::Path;

use proptest::prelude::*;
use sconce::checkpoint::Value;

use crate::build::{entry, zip};
use crate::load;

const FILES: [&str; 6] = ["training.pt", "layouts.pt", "opaque.pt", "deflated.pt", "big_endian.pt", "protocol4.pt"];

/// Files of other containers, none of which stays whole when its end is cut off.
const OTHERS: [&str; 8] = [
    "legacy_training.pth",
    "legacy_views.pth",
    "legacy_protocol0.pth",
    "scripted.pt",
    "plain_tensors2.pkl",
    "plain_tensors4.pkl",
    "plain_protocol0.pkl",
    "pytorch_model.bin.index.json",
];
const PADDED: [&str; 2] = ["tar.tar", "tar_python2.tar"];

fn file(name: &str) -> Vec<u8> {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    std::fs::read(data.join(if FILES.contains(&name) { "checkpoint" } else { "containers" }).join(name)).unwrap()
}

fn any_file() -> impl Strategy<Value = &'static str> {
    prop::sample::select([&FILES[..], &OTHERS, &PADDED].concat())
}

/// Loads it and uses what is loaded: prints it and reads every tensor of a sensible size.
fn use_file(bytes: &[u8]) {
    let Ok(checkpoint) = load(bytes) else { return };
    let _ = checkpoint.root().to_string();
    use_value(checkpoint.root(), &mut 10_000);
}

fn use_value(value: &Value, budget: &mut usize) {
    *budget = budget.saturating_sub(1);
    if *budget == 0 {
        return;
    }
    match value {
        Value::Tensor(tensor) if tensor.shape().numel() < 1 << 16 => drop(tensor.contiguous_bytes()),
        Value::Dict(dict) => dict.iter().for_each(|(key, value)| {
            use_value(key, budget);
            use_value(value, budget);
        }),
        Value::Object(object) => object.args().iter().chain(object.state()).for_each(|part| use_value(part, budget)),
        other => other.as_list().into_iter().flatten().for_each(|item| use_value(item, budget)),
    }
}

/// The entries of an archive, by the zip crate.
fn records(bytes: Vec<u8>) -> Vec<(String, Vec<u8>)> {
    let mut archive = zip::ZipArchive::new(std::io::Cursor::new(bytes)).unwrap();
    (0..archive.len())
        .map(|i| {
            let mut record = archive.by_index(i).unwrap();
            let mut data = Vec::new();
            std::io::copy(&mut record, &mut data).unwrap();
            (record.name().unwrap().to_string(), data)
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes(bytes in prop::collection::vec(any::<u8>(), 0..400), zip in any::<bool>()) {
        use_file(&[if zip { b"PK\x03\x04".as_slice() } else { b"" }, &bytes].concat());
    }

    #[test]
    fn random_streams(bytes in prop::collection::vec(any::<u8>(), 0..400), legacy in any::<bool>()) {
        let start: &[u8] = match legacy {
            true => b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03.\x80\x02}.",
            false => b"\x80\x03",
        };
        use_file(&[start, &bytes].concat());
    }

    #[test]
    fn random_pickles(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        use_file(&crate::checkpoint(&bytes));
    }

    #[test]
    fn truncated_files(name in prop::sample::select([&FILES[..], &OTHERS].concat()), cut in any::<prop::sample::Index>()) {
        let bytes = file(name);
        let len = cut.index(bytes.len());
        prop_assert!(load(&bytes[..len]).is_err());
    }

    #[test]
    fn damaged_files(
        name in any_file(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut bytes = file(name);
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        use_file(&bytes);
    }

    #[test]
    fn damaged_pickles(
        name in prop::sample::select(&FILES[..]),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let entries: Vec<_> = records(file(name)).into_iter().map(|(name, mut data)| {
            if name.ends_with("data.pkl") {
                for (at, byte) in &damage {
                    let at = at.index(data.len());
                    data[at] = *byte;
                }
            }
            entry(&name, &data)
        }).collect();
        use_file(&zip(&entries));
    }
}
