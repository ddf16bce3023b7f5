//! Reads a file and writes what is in it to another: `cargo run --example resave -- in.pth out.pt`.
//!
//! The output's ending chooses its format. `tools/check_saved.py` has PyTorch compare the two.

#![allow(clippy::print_stderr)]

use std::env;
use std::process::ExitCode;

fn main() -> ExitCode {
    let paths: Vec<String> = env::args().skip(1).collect();
    if paths.is_empty() || !paths.len().is_multiple_of(2) {
        eprintln!("usage: resave IN OUT [IN OUT]...");
        return ExitCode::from(2);
    }
    let mut failed = false;
    for pair in paths.chunks(2) {
        let saved = sconce::load(&pair[0]).and_then(|checkpoint| match pair[1].ends_with(".pt") {
            true => checkpoint.save(&pair[1]),
            false => checkpoint.state_dict()?.save(&pair[1]),
        });
        if let Err(error) = saved {
            eprintln!("{}: {error}", pair[0]);
            failed = true;
        }
    }
    ExitCode::from(u8::from(failed))
}
