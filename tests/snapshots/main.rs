//! What the command prints, word by word: each file beside this one has commands and their answers. They run in
//! `tests/data`. `SCONCE_UPDATE_SNAPSHOTS=1 cargo test --features cli --test snapshots` writes them anew.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A snapshot's name, and the arguments of its commands.
const SNAPSHOTS: &[(&str, &[&str])] = &[
    ("inspect-state-dict", &["inspect checkpoint/net.pt"]),
    ("inspect-training", &["inspect checkpoint/training.pt"]),
    ("inspect-resnet50", &["inspect resnet50_shapes.pt"]),
    ("inspect-nested", &["inspect cli/nested.pt"]),
    ("inspect-parallel", &["inspect cli/parallel.pt"]),
    ("inspect-tied", &["inspect checkpoint/tied.pt"]),
    ("inspect-cuda", &["inspect checkpoint/cuda.pt"]),
    ("inspect-dtypes", &["inspect checkpoint/dtypes.pt"]),
    ("inspect-layouts", &["inspect checkpoint/layouts.pt"]),
    ("inspect-values", &["inspect checkpoint/values.pt"]),
    ("inspect-opaque", &["inspect checkpoint/opaque.pt"]),
    ("inspect-list", &["inspect checkpoint/list.pt", "inspect checkpoint/list.pt --all"]),
    ("inspect-legacy", &["inspect containers/legacy_training.pth", "inspect containers/legacy_saves.pth"]),
    ("inspect-tar", &["inspect containers/tar.tar", "inspect containers/tar_python2.tar"]),
    ("inspect-torchscript", &["inspect containers/scripted.pt", "inspect containers/traced.pt"]),
    ("inspect-pickle", &["inspect containers/plain_tensors4.pkl", "inspect containers/plain_protocol0.pkl"]),
    (
        "inspect-shards",
        &["inspect containers/pytorch_model.bin.index.json", "inspect containers/model.safetensors.index.json"],
    ),
    ("inspect-safetensors", &["inspect saving/tensors.safetensors"]),
    ("inspect-saves", &["inspect containers/zip_saves.pt", "inspect containers/plain_saves.pkl"]),
    ("inspect-copied", &["inspect checkpoint/deflated.pt", "inspect checkpoint/big_endian.pt"]),
    ("inspect-kinds", &["inspect checkpoint/kinds2.pt", "diff checkpoint/kinds2.pt checkpoint/kinds5.pt"]),
    (
        "inspect-program",
        &[
            "inspect programs/free_images.pt2",
            "inspect programs/residual.pt2",
            "inspect programs/unknown.pt2",
            "inspect programs/two.pt2",
            "inspect programs/signature.pt2 --json",
            "inspect programs/unknown.pt2 --json",
            "inspect programs/inductor.pt2",
            "inspect programs/schema_7.pt2",
            "bench programs/inductor.pt2",
        ],
    ),
    (
        "inspect-module",
        &[
            "inspect containers/legacy_module.pth",
            "inspect modules/user.pt",
            "inspect modules/train.pt",
            "inspect modules/user.pt blocks.0 --json",
        ],
    ),
    ("inspect-modules", &["inspect modules/nested.pt", "inspect modules/several.pt", "inspect modules/hooked.pt"]),
    (
        "inspect-named",
        &[
            "inspect cli/mlp.pt 2",
            "inspect checkpoint/training.pt epoch optimizer_state_dict.param_groups",
            "inspect checkpoint/layouts.pt float32.transposed --digest",
            "inspect checkpoint/dtypes.pt bool uint64 complex64 float16 int8",
            "inspect checkpoint/net.pt conv bn fc",
        ],
    ),
    (
        "inspect-json",
        &[
            "inspect cli/nested.pt --json",
            "inspect checkpoint/tied.pt --json --digest",
            "inspect cli/mlp.pt 2.bias --json",
        ],
    ),
    (
        "diff",
        &[
            "diff cli/mlp.pt cli/mlp.pt",
            "diff cli/mlp.pt cli/changed.pt",
            "diff cli/mlp.pt cli/changed.pt --atol 0.2",
            "diff cli/mlp.pt cli/parallel.pt",
            "diff cli/part.pt cli/other.pt",
            "diff checkpoint/training.pt cli/nested.pt",
            "diff cli/mlp.pt cli/changed.pt --json",
        ],
    ),
    (
        "errors",
        &[
            "inspect missing.pt",
            "inspect .",
            "inspect cli/x.npy",
            "inspect image/wide.png",
            "inspect cli/mlp.pt 2.weigh",
            "inspect cli/mlp.pt head",
            "inspect ../hostile/files/file-git-lfs-pointer.pt",
            "inspect ../hostile/files/file-html-page.pt",
            "inspect ../hostile/files/file-gguf.pt",
            "inspect ../hostile/files/zip-truncated.pt",
            "inspect ../hostile/files/tensor-a-tensor-with-a-name.pt",
            "inspect ../hostile/files/legacy-storage-cut.pt",
            "inspect ../hostile/files/tar-without-pickle.pt",
            "inspect ../hostile/files/shards-outside.pt",
            "inspect ../hostile/files/shards-missing.pt",
            "inspect ../hostile/files/evil-os-system.pt",
            "inspect ../hostile/files/evil-name.pt",
            "inspect ../hostile/files/cyclic-dict.pt",
            "diff cli/mlp.pt checkpoint/training.pt --state-dict",
            "diff cli/nested.pt cli/mlp.pt --state-dict",
            "run cli/nested.pt --arch mlp --input cli/x.npy",
            "run cli/part.pt --arch squeezenet1_1 --input cli/x.npy",
        ],
    ),
];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/snapshots")
}

/// Each command with what it says on both outputs, and its exit status unless that is 0.
fn answers(commands: &[&str]) -> String {
    let mut text = String::new();
    for command in commands {
        let output = Command::new(env!("CARGO_BIN_EXE_sconce"))
            .args(command.split(' '))
            .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data"))
            .stdin(Stdio::null())
            .output()
            .expect("the command starts");
        let mut words =
            String::from_utf8(output.stdout).expect("UTF-8") + &String::from_utf8(output.stderr).expect("UTF-8");
        match output.status.code() {
            Some(0) => {}
            status => words += &format!("[exit status {status:?}]\n"),
        }
        // Which device is there is not the same everywhere.
        let words: Vec<&str> = words.lines().filter(|line| !line.starts_with("device: ")).collect();
        text += &format!("$ sconce {command}\n{}\n\n", words.join("\n"));
    }
    text.trim_end().to_owned() + "\n"
}

#[test]
fn the_command_says_what_it_said() {
    let update = std::env::var("SCONCE_UPDATE_SNAPSHOTS").is_ok_and(|value| value == "1");
    let mut wrong = Vec::new();
    for (name, commands) in SNAPSHOTS {
        let path = folder().join(name).with_extension("txt");
        let found = answers(commands);
        let expected = fs::read_to_string(&path).unwrap_or_default().replace("\r\n", "\n");
        if update {
            fs::write(&path, found).unwrap();
        } else if found != expected {
            let at = found.lines().zip(expected.lines()).take_while(|(a, b)| a == b).count();
            let line = |text: &str| text.lines().nth(at).unwrap_or("(the end)").to_owned();
            wrong.push(format!(
                "{name}.txt, line {}:\n  is       {}\n  expected {}",
                at + 1,
                line(&found),
                line(&expected)
            ));
        }
    }
    assert!(wrong.is_empty(), "{}\nSCONCE_UPDATE_SNAPSHOTS=1 takes the new answers", wrong.join("\n"));
}

#[test]
fn every_snapshot_has_its_commands() {
    let files: BTreeSet<String> = fs::read_dir(folder())
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .filter_map(|name| Some(name.strip_suffix(".txt")?.to_owned()))
        .collect();
    assert_eq!(files, SNAPSHOTS.iter().map(|(name, _)| (*name).to_owned()).collect());
}
