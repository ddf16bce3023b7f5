//! Timing without a crate: many runs, their median and their minimum.

// Every bench has this module and uses a part of it.
#![allow(dead_code)]

pub(crate) mod files;

use std::hint::black_box;
use std::time::{Duration, Instant};

/// Whether to measure: only `cargo bench` passes `--bench`; `cargo test`, and `--test`, run everything once.
pub(crate) fn is_measured() -> bool {
    let has = |flag: &str| std::env::args().any(|arg| arg == flag);
    has("--bench") && !has("--test")
}

/// Runs `work` until a second and 10 runs have passed, after one run that does not count, and prints the median and the
/// minimum in milliseconds.
pub(crate) fn report<T>(name: &str, mut work: impl FnMut() -> sconce::Result<T>) -> sconce::Result<()> {
    black_box(work()?);
    let (runs, least) = match is_measured() {
        true => (10, Duration::from_secs(1)),
        false => (1, Duration::ZERO),
    };
    let mut times = Vec::new();
    let start = Instant::now();
    while times.len() < runs || start.elapsed() < least {
        let start = Instant::now();
        // What it made is dropped when the time is taken.
        let made = black_box(work()?);
        times.push(start.elapsed().as_secs_f64() * 1e3);
        drop(made);
    }
    times.sort_by(f64::total_cmp);
    println!("  {name:48} median {:9.3} ms   min {:9.3} ms   {} runs", times[times.len() / 2], times[0], times.len());
    Ok(())
}
