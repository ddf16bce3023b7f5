//! What a model adds to the memory of a process: at most 1.3 times its weights, and the memory of its plan. What
//! converting a file takes: the memory of a tensor.
#![cfg(target_os = "linux")]

mod common;

use std::path::Path;
use std::process::Command;

use common::made_state_dict;
use sconce::checkpoint::{Storage, StoredTensor};
use sconce::{DType, StateDict, models};

/// Files of the system, the allocator's own memory, what JSON and text take.
const SLACK: f64 = 1.5e6;

fn check(name: &str) {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("memory");
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join(format!("{name}.pt"));
    let state = made_state_dict(&*models::by_name(name, &StateDict::new()).unwrap(), 1.0);
    let weights: usize = state.iter().map(|(_, tensor)| tensor.shape().numel() * tensor.dtype().size()).sum();
    state.save(&path).unwrap();
    let ran = Command::new(env!("CARGO_BIN_EXE_sconce"))
        .args(["bench", "--arch", name, "--device=cpu", "--runs=2", "--json", "--quiet"])
        .arg(&path)
        .env_remove("SCONCE_CPU")
        .output()
        .unwrap();
    std::fs::remove_file(&path).unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let json: serde_json::Value = serde_json::from_slice(&ran.stdout).unwrap();
    let number = |key: &str| json["results"][0][key].as_u64().unwrap() as f64;
    let (peak, program, arena) = (number("peak_memory_bytes"), number("program_memory_bytes"), number("arena_bytes"));
    let (added, bound) = (peak - program, 1.3 * weights as f64 + arena + SLACK);
    assert!(added <= bound, "{name}: {:.1} MB of {:.1}", added / 1e6, bound / 1e6);
    // The weights are used at all.
    assert!(
        added >= 0.9 * weights as f64,
        "{name}: {:.1} MB, of weights alone {:.1}",
        added / 1e6,
        weights as f64 / 1e6
    );
}

#[test]
fn mobilenet_v2() {
    check("mobilenet_v2");
}

/// Every layer but one is a 3x3 convolution.
#[test]
fn resnet18() {
    check("resnet18");
}

/// More layers that would be transformed than there is memory for.
#[test]
fn resnet34() {
    check("resnet34");
}

/// 64 views of one storage of 4 MB become 64 tensors of 2 MB each, one after the other.
#[test]
fn a_file_is_converted_tensor_by_tensor() {
    const ELEMENTS: usize = 1 << 20;
    const TENSORS: usize = 64;
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("memory");
    std::fs::create_dir_all(&folder).unwrap();
    let storage = Storage::owned(vec![0u8; (ELEMENTS + TENSORS) * 4], "cpu");
    let view = |i| (format!("{i}"), StoredTensor::new(storage.clone(), DType::F32, [ELEMENTS], [1], i).unwrap());
    let (from, to) = (folder.join("views.pt"), folder.join("halves.pt"));
    StateDict::from_iter((0..TENSORS).map(view)).save(&from).unwrap();
    for to in [&to, &to.with_extension("safetensors")] {
        // Of what is written alone, this is less than half.
        let limited = "ulimit -d 49152 && exec \"$0\" convert --force --quiet --dtype=f16 \"$1\" \"$2\"";
        let ran =
            Command::new("sh").args(["-c", limited, env!("CARGO_BIN_EXE_sconce")]).args([&from, to]).output().unwrap();
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        assert_eq!(std::fs::metadata(to).unwrap().len() >> 20, (TENSORS * ELEMENTS * 2) as u64 >> 20);
        std::fs::remove_file(to).unwrap();
    }
    std::fs::remove_file(from).unwrap();
}
