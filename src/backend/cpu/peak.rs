//! What the machine can do at most: the figures that kernels are compared with.

use std::hint::black_box;
use std::time::Instant;

use super::Engine;
use super::gemm::part;
use super::isa::simd;
use super::pack::Floats;
use crate::error::Result;

/// The operations of each thread in a try: less than a millisecond, in which nobody else may want a core.
const FLOPS: usize = 1 << 26;
const FLOPS_TRIES: usize = 50;

/// The bytes that are read: more than the caches hold.
const BYTES: usize = 256 << 20;
const BYTES_TRIES: usize = 10;

/// The floating-point operations a second of all threads.
pub(crate) fn flops(engine: &Engine) -> f64 {
    let (kernels, threads) = (engine.isa.kernels(), engine.pool.threads());
    let rounds = FLOPS / kernels.round_flops();
    let work = |_: usize| {
        // SAFETY: the kernels are those of this machine.
        black_box(unsafe { (kernels.multiply_add)(black_box(rounds), black_box(0.5), black_box(1.0)) });
    };
    rate(FLOPS_TRIES, rounds * kernels.round_flops() * threads, || engine.pool.run(threads, work))
}

/// The bytes a second that all threads read from memory.
///
/// # Errors
/// When there is not enough memory.
pub(crate) fn bytes(engine: &Engine) -> Result<f64> {
    let mut floats = Floats::zeros(BYTES / size_of::<f32>())?;
    // Pages that were never written are all the same one.
    floats.as_mut_slice().fill(1.0);
    let (x, threads) = (floats.as_slice(), engine.pool.threads());
    Ok(rate(BYTES_TRIES, BYTES, || {
        engine.pool.run(threads, |task| {
            black_box(sum(engine.isa, &x[part(x.len(), task, threads)]));
        });
    }))
}

/// How much is done a second in the best of some tries.
fn rate(tries: usize, amount: usize, mut work: impl FnMut()) -> f64 {
    let times = (0..tries).map(|_| {
        let start = Instant::now();
        work();
        start.elapsed().as_secs_f64()
    });
    amount as f64 / times.fold(f64::INFINITY, f64::min)
}

simd! {
    fn sum<L>(x: &[f32]) -> f32 {
        let mut lanes = [0.0; 64];
        for x in x.chunks_exact(64) {
            for i in 0..64 {
                lanes[i] += x[i];
            }
        }
        lanes.iter().sum()
    }
}
