//! How long it takes to open a checkpoint and to fit a model with it; no tensor is read.
//!
//! `cargo bench --bench load` opens a file with the 320 tensors of resnet50; `SCONCE_BENCH_FILE=resnet50.pt` another one
//! of the same architecture. As a test everything runs once.
#![allow(clippy::print_stdout)]

mod timing;

use sconce::nn::Module;
use sconce::{Result, Strict, models};
use timing::report;

fn main() -> Result<()> {
    let path = std::env::var("SCONCE_BENCH_FILE")
        .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/resnet50_shapes.pt").into());
    println!("{path}");
    report("open", || sconce::load(&path))?;
    report("open, state dict", || sconce::load(&path)?.state_dict())?;
    let mut net = models::resnet50();
    report("open, state dict, load into resnet50", || {
        let state = sconce::load(&path)?.state_dict()?;
        net.load_state_dict(&state, Strict::Yes)
    })
}
