//! How long a forward pass takes on every device: the network of `examples/digits`, and resnet18 with made-up weights.
//!
//! `cargo bench --bench forward`; as a test everything runs once.
#![allow(clippy::print_stdout)]

#[path = "../tests/common/mod.rs"]
mod common;
#[path = "../examples/digits/net.rs"]
mod net;
mod timing;

use common::{devices, made_input, made_state_dict};
use sconce::nn::Module;
use sconce::{Model, Result, Strict, Tensor, models};
use timing::report;

fn main() -> Result<()> {
    for device in devices() {
        println!("{device}");
        time("digits", net::Net::new(), &made_input([1, 1, 8, 8], 1.0), device)?;
        time("digits, 100 images", net::Net::new(), &made_input([100, 1, 8, 8], 1.0), device)?;
        time("resnet18, 224 x 224", models::resnet18(), &made_input([1, 3, 224, 224], 1.0), device)?;
    }
    Ok(())
}

fn time(name: &str, mut net: impl Module, x: &Tensor, device: &sconce::Device) -> Result<()> {
    net.load_state_dict(&made_state_dict(&net, 0.8), Strict::Yes)?;
    let model = Model::new(net, device)?;
    report(name, || model.run(std::slice::from_ref(x)))
}
