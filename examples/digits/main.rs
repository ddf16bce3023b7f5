//! Reads handwritten digits with a network that PyTorch trained (`tools/digits.py`), on the GPU where there is one and
//! on the CPU where not.
//!
//! ```sh
//! cargo run --release --example digits            # or name the device: -- cpu, -- gpu:1
//! ```
#![allow(clippy::print_stdout)]

mod net;

use std::time::{Duration, Instant};

use net::Net;
use sconce::nn::Module;
use sconce::{Device, Model, Result, Strict, Tensor};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/digits");

fn main() -> Result<()> {
    let device: Device = std::env::args().nth(1).as_deref().unwrap_or("auto").parse()?;
    println!("device    {device}");

    // What PyTorch wrote with `torch.save(net.state_dict(), "digits.pt")`.
    let (model, time) = timed(|| {
        let checkpoint = sconce::load(format!("{FOLDER}/digits.pt"))?;
        let mut net = Net::new();
        net.load_state_dict(&checkpoint.state_dict()?, Strict::Yes)?;
        Model::new(net, &device)
    })?;
    println!("load      {time:.1?}");

    // Images that the network has never seen: bytes of 0..=16, [450, 8, 8], and what they show.
    let held = sconce::load(format!("{FOLDER}/held.pt"))?;
    let pixels = Tensor::from_stored(held["images"].as_tensor()?)?.to_f32()?;
    let labels = Tensor::from_stored(held["labels"].as_tensor()?)?.to_i64()?;
    let scaled: Vec<f32> = pixels.iter().map(|pixel| pixel / 16.0).collect();
    let images = Tensor::new([labels.len(), 1, 8, 8], scaled)?;

    // The first run of a shape compiles; the second is what every later one costs.
    let (_, first) = timed(|| model.run(std::slice::from_ref(&images)))?;
    let (outputs, again) = timed(|| model.run(&[images]))?;
    println!("forward   {again:.1?} for {} images (the first time {first:.1?})", labels.len());

    let probabilities: Vec<&[f32]> = outputs[0].as_slice::<f32>()?.chunks(10).collect();
    let guesses: Vec<usize> = probabilities.iter().map(|row| likeliest(row)).collect();
    let right = guesses.iter().zip(&labels).filter(|&(&guess, &label)| guess as i64 == label).count();
    println!("accuracy  {:.1} % ({right} of {})\n", 100.0 * right as f64 / labels.len() as f64, labels.len());

    draw(&pixels[..64], probabilities[0]);
    println!("\nThis is a {}, says the network; its writer says {}.", guesses[0], labels[0]);
    Ok(())
}

/// The digit with the highest probability.
fn likeliest(probabilities: &[f32]) -> usize {
    (0..probabilities.len()).max_by(|&a, &b| probabilities[a].total_cmp(&probabilities[b])).unwrap_or(0)
}

/// Draws an image of 8 x 8 pixels in 0..=16 in a frame, which makes ten lines: beside them, the ten probabilities.
fn draw(pixels: &[f32], probabilities: &[f32]) {
    let row = |row: &[f32]| -> String {
        row.iter().map(|&pixel| ["  ", "░░", "▒▒", "▓▓", "██"][(pixel / 4.0).round() as usize]).collect()
    };
    let edge = "─".repeat(16);
    let rows = pixels.chunks(8).map(|pixels| format!("│{}│", row(pixels)));
    let lines = [format!("╭{edge}╮")].into_iter().chain(rows).chain([format!("╰{edge}╯")]);
    for (digit, (line, &probability)) in lines.zip(probabilities).enumerate() {
        let bar = "█".repeat((probability * 24.0).round() as usize);
        println!("   {line}   {digit} {bar:24} {:5.1} %", 100.0 * probability);
    }
}

/// Runs `work` and says how long it took.
fn timed<T>(work: impl FnOnce() -> Result<T>) -> Result<(T, Duration)> {
    let start = Instant::now();
    let result = work()?;
    Ok((result, start.elapsed()))
}
