//! What the machine can do at most: the figures that kernels are compared with.

use std::hint::black_box;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use super::Engine;
use super::gemm::part;
use super::isa::simd;
use super::pack::Floats;
use crate::error::Result;

/// The operations of a thread in a try: less than a millisecond, in which nobody else may want its core.
const FLOPS: usize = 1 << 26;
const FLOPS_TRIES: usize = 50;

/// The bytes that are read: more than the caches hold. A try reads a part of them.
const BYTES: usize = 256 << 20;
const BYTES_PARTS: usize = 16;
const BYTES_ROUNDS: usize = 10;

/// On a quiet machine half of a thread's tries take less than this much longer than its best one.
const STEADY: f64 = 1.4;

/// How much is done a second, by all threads.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rate {
    pub(crate) best: f64,
    /// Whether most tries came near it. They do not where others use the cores.
    pub(crate) is_steady: bool,
}

/// The floating-point operations a second of all threads.
pub(crate) fn flops(engine: &Engine) -> Rate {
    let kernels = engine.isa.kernels();
    let rounds = FLOPS / kernels.round_flops();
    rate(engine, FLOPS_TRIES, (rounds * kernels.round_flops()) as f64, |_, _| {
        // SAFETY: the kernels are those of this machine.
        black_box(unsafe { (kernels.multiply_add)(black_box(rounds), black_box(0.5), black_box(1.0)) });
    })
}

/// The bytes a second that all threads read from memory.
///
/// # Errors
/// When there is not enough memory.
pub(crate) fn bytes(engine: &Engine) -> Result<Rate> {
    let mut floats = Floats::zeros(BYTES / size_of::<f32>())?;
    // Pages that were never written are all the same one.
    floats.as_mut_slice().fill(1.0);
    let (x, threads) = (floats.as_slice(), engine.pool.threads());
    let parts = threads * BYTES_PARTS;
    Ok(rate(engine, BYTES_ROUNDS * BYTES_PARTS, (BYTES / parts) as f64, |thread, attempt| {
        black_box(sum(engine.isa, &x[part(x.len(), thread * BYTES_PARTS + attempt % BYTES_PARTS, parts)]));
    }))
}

/// `work` is given the thread and the try, and does so much. Each thread's best try counts: on a busy machine there is
/// hardly a moment in which all of them run.
fn rate(engine: &Engine, tries: usize, amount: f64, work: impl Fn(usize, usize) + Sync) -> Rate {
    let threads = engine.pool.threads();
    let rates = Mutex::new(Vec::with_capacity(threads));
    engine.pool.run(threads, |thread| {
        let time = |attempt| {
            let start = Instant::now();
            work(thread, attempt);
            start.elapsed().as_secs_f64()
        };
        let mut times: Vec<f64> = (0..tries).map(time).collect();
        times.sort_by(f64::total_cmp);
        let rate = Rate { best: amount / times[0], is_steady: times[tries / 2] <= STEADY * times[0] };
        rates.lock().unwrap_or_else(PoisonError::into_inner).push(rate);
    });
    let rates = rates.into_inner().unwrap_or_else(PoisonError::into_inner);
    Rate { best: rates.iter().map(|rate| rate.best).sum(), is_steady: rates.iter().all(|rate| rate.is_steady) }
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
