//! How long it takes to open a checkpoint and to fit a model with it; no tensor is read.
//!
//! `cargo bench --bench load` opens a file with the 320 tensors of resnet50; `SCONCE_BENCH_FILE=resnet50.pt` another one
//! of the same architecture, which one of another is not fitted to. Then how long it takes to copy 64 MB of floats as
//! they are, transposed, and sliced, and to convert them. As a test everything runs once.
#![allow(clippy::print_stdout)]

mod timing;

use sconce::checkpoint::{Storage, StoredTensor};
use sconce::nn::Module;
use sconce::{DType, Result, Strict, models};
use timing::report;

fn main() -> Result<()> {
    let path = std::env::var("SCONCE_BENCH_FILE")
        .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/resnet50_shapes.pt").into());
    println!("{path}");
    report("open", || sconce::load(&path))?;
    report("open, state dict", || sconce::load(&path)?.state_dict())?;
    let mut net = models::resnet50();
    if net.load_state_dict(&sconce::load(&path)?.state_dict()?, Strict::Yes).is_ok() {
        report("open, state dict, load into resnet50", || {
            let state = sconce::load(&path)?.state_dict()?;
            net.load_state_dict(&state, Strict::Yes)
        })?;
    }
    copies()
}

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
