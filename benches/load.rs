//! How long it takes to open checkpoints, and to read what is in them.
//!
//! `cargo bench --bench load` prints two tables. `SCONCE_BENCH_FILE=resnet50.pt` is the file that is opened and loaded
//! into resnet50, `SCONCE_BENCH_BIG=vgg16.pt` the one that is read whole, `SCONCE_BENCH_PROGRAM=resnet50.pt2` the program
//! that is opened and run; without them, small ones are. With `--open FILE` only that file is opened: so
//! `benches/peers/load.py` times it beside PyTorch and safetensors. As a test everything runs once, small.
#![allow(clippy::print_stdout)]

mod timing;

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::time::Instant;

use sconce::checkpoint::{Storage, StoredTensor};
use sconce::nn::Module;
use sconce::{DType, Device, Error, Model, Result, StateDict, Strict, Tensor, models};
use timing::files::{Kind, Spec};
use timing::{is_measured, report};

fn main() -> Result<()> {
    if let Some(path) = std::env::args().skip_while(|arg| arg != "--open").nth(1) {
        return report("open, state dict", || sconce::load(&path)?.state_dict());
    }
    let folder = std::env::temp_dir().join(format!("sconce-bench-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder for files");
    let result = opening(&folder).and_then(|()| programs()).and_then(|()| reading(&folder)).and_then(|()| copies());
    std::fs::remove_dir_all(&folder).expect("the folder was made here");
    result
}

fn write(folder: &Path, name: &str, spec: &Spec) -> PathBuf {
    let path = folder.join(name);
    spec.write(&path).expect("a file can be written");
    path
}

fn opening(folder: &Path) -> Result<()> {
    let path = std::env::var("SCONCE_BENCH_FILE")
        .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/resnet50_shapes.pt").into());
    println!("opening, no tensor is read");
    println!("  {path}");
    report("open", || sconce::load(&path))?;
    report("open, state dict", || sconce::load(&path)?.state_dict())?;
    let mut net = models::resnet50();
    report("open, state dict, load into resnet50", || {
        let state = sconce::load(&path)?.state_dict()?;
        net.load_state_dict(&state, Strict::Yes)
    })?;
    let holes = |tensors, columns| Spec { tensors, shape: [1000, columns], kind: Kind::Holes };
    let small = write(folder, "20mb.pt", &holes(1000, 5));
    report("20 MB in 1,000 tensors", || sconce::load(&small)?.state_dict())?;
    let large = write(folder, "20gb.pt", &holes(1000, 5000));
    let before = resident();
    report("20 GB in 1,000 tensors, sparse", || sconce::load(&large)?.state_dict())?;
    let state = sconce::load(&large)?.state_dict()?;
    println!("  resident memory: {:.1} MiB, {:.1} before; {} tensors", resident(), before, state.len());
    let count = if is_measured() { 100_000 } else { 1_000 };
    let many = write(folder, "many.pt", &Spec { tensors: count, shape: [1, 1], kind: Kind::Holes });
    report(&format!("{count} tensors"), || sconce::load(&many)?.state_dict())
}

/// A program of `torch.export`: opened, made a graph, and run for the first time.
fn programs() -> Result<()> {
    let path = std::env::var("SCONCE_BENCH_PROGRAM")
        .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/programs/residual.pt2").into());
    println!("programs\n  {path}");
    let open = || Model::load(&path, &Device::cpu());
    let inputs: Vec<Tensor> = open()?
        .inputs()
        .iter()
        .map(|info| Tensor::zeros(info.dtype, info.exported.clone().expect("a file says its sizes")))
        .collect();
    let kinds: Vec<_> = inputs.iter().map(|x| (x.shape().clone(), x.dtype())).collect();
    report("open", open)?;
    report("open, make and optimise the graph", || open()?.cost(&kinds))?;
    report("open, compile, first run on the CPU", || open()?.run(&inputs))
}

fn reading(folder: &Path) -> Result<()> {
    println!("reading every tensor, GB/s");
    let rows = if is_measured() { 4096 } else { 16 };
    let made = |kind, tensors| Spec { tensors, shape: [rows, 2048], kind };
    let big = match std::env::var("SCONCE_BENCH_BIG") {
        Ok(path) => PathBuf::from(path),
        Err(_) => write(folder, "big.pt", &made(Kind::Stored, 16)),
    };
    plain(&big)?;
    rate("the file, tensor by tensor, as slices", &big, touch)?;
    rate("the file, tensor by tensor, copied", &big, copy)?;
    for (name, kind) in [("deflated", Kind::Deflated), ("transposed", Kind::Transposed)] {
        let path = write(folder, name, &made(kind, 4));
        rate(name, &path, copy)?;
        std::fs::remove_file(path).expect("it was made here");
    }
    Ok(())
}

/// Reads each tensor's bytes where they are.
fn touch(state: &StateDict) -> Result<usize> {
    let mut total = 0;
    for (_, tensor) in state.iter() {
        let bytes = tensor.contiguous_bytes()?;
        black_box(sum(&bytes));
        total += bytes.len();
    }
    Ok(total)
}

/// Copies each tensor into memory of its own.
fn copy(state: &StateDict) -> Result<usize> {
    let mut total = 0;
    for (_, tensor) in state.iter() {
        let copy = tensor.contiguous_bytes()?.into_owned();
        total += black_box(copy).len();
    }
    Ok(total)
}

fn sum(bytes: &[u8]) -> u64 {
    bytes.as_chunks::<8>().0.iter().fold(0, |sum, &word| sum.wrapping_add(u64::from_le_bytes(word)))
}

/// The best of several runs, each on the file opened anew; its pages are in memory after the first.
fn rate(name: &str, path: &Path, read: impl Fn(&StateDict) -> Result<usize>) -> Result<()> {
    best(name, || {
        let start = Instant::now();
        let state = sconce::load(path)?.state_dict()?;
        Ok((read(&state)?, start.elapsed().as_secs_f64()))
    })
}

/// Copies and conversions of one tensor.
fn copies() -> Result<()> {
    let storage = Storage::owned(vec![0x3d; 64 << 20], "cpu");
    let view = |shape: [usize; 2], stride: [usize; 2]| StoredTensor::new(storage.clone(), DType::F32, shape, stride, 0);
    let whole = view([4096, 4096], [4096, 1])?;
    report("copy 64 MB", || Ok(whole.contiguous_bytes()?.into_owned()))?;
    for (name, tensor) in [
        ("64 MB, transposed", view([4096, 4096], [1, 4096])?),
        ("64 MB, half of each row", view([8192, 1024], [2048, 1])?),
        ("64 MB, each second element", view([4096, 2048], [4096, 2])?),
    ] {
        report(name, || Ok(tensor.contiguous_bytes()?.into_owned()))?;
    }
    report("64 MB of float32 to float16", || whole.to(DType::F16))?;
    report("64 MB of float32 to float8_e4m3fn", || whole.to(DType::F8E4M3FN))
}

fn best(name: &str, mut run: impl FnMut() -> Result<(usize, f64)>) -> Result<()> {
    let mut best = 0f64;
    let mut total = 0;
    for _ in 0..if is_measured() { 7 } else { 1 } {
        let (bytes, seconds) = run()?;
        (best, total) = (best.max(bytes as f64 / seconds / 1e9), bytes);
    }
    println!("  {name:48} {best:9.2} GB/s  {:9.1} MB", total as f64 / 1e6);
    Ok(())
}

/// What the machine can do with the bytes of the file: read them in a map, copy them out of it, and copy memory.
fn plain(path: &Path) -> Result<()> {
    // SAFETY: nothing else writes to the file while the bench runs.
    let map = || unsafe { memmap2::Mmap::map(&std::fs::File::open(path).expect("it was opened before")) };
    let timed = |work: &dyn Fn(&[u8])| {
        let start = Instant::now();
        let map = map().expect("a file can be mapped");
        work(&map);
        Ok::<_, Error>((map.len(), start.elapsed().as_secs_f64()))
    };
    best("plain: a map of the file, read", || timed(&|bytes| _ = black_box(sum(bytes))))?;
    best("plain: a map of the file, copied", || timed(&|bytes| drop(black_box(bytes.to_vec()))))?;
    let source = std::fs::read(path).expect("it was opened before");
    let mut target = source.clone();
    best("plain: memory copied to memory", || {
        let start = Instant::now();
        target.copy_from_slice(black_box(&source));
        black_box(&target);
        Ok((source.len(), start.elapsed().as_secs_f64()))
    })
}

/// The process's resident memory in MiB, where the system tells.
fn resident() -> f64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    text.split(' ').nth(1).and_then(|pages| pages.parse::<f64>().ok()).unwrap_or(0.0) * 4096.0 / f64::from(1 << 20)
}
