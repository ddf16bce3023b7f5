//! Times of the kernels besides the products, by hand:
//! `cargo test --release --lib backend::cpu::timing_rest -- --ignored --nocapture`.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use super::Engine;
use super::attention::Attention;
use super::isa::Isa;
use super::pointwise::Pointwise;
use super::pools::Pools;
use super::rows::{self, Lines};
use super::vector;
use crate::backend::cases::{Random, every_unary};
use crate::device::pool::Pool;
use crate::graph::op::{Binary, Instr, PoolKind, Program, Reduce, Unary};
use crate::graph::step::{AttentionStep, PointwiseStep, PoolStep};

/// The median time of some runs, in microseconds.
fn time(mut f: impl FnMut()) -> f64 {
    let start = Instant::now();
    let mut times = Vec::new();
    while times.len() < 5 || (start.elapsed().as_millis() < 150 && times.len() < 2000) {
        let start = Instant::now();
        f();
        times.push(start.elapsed().as_secs_f64() * 1e6);
    }
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn relu_add() -> Program {
    Program {
        instrs: vec![Instr::Input(0), Instr::Input(1), Instr::Binary(Binary::Add, 0, 1), Instr::Unary(Unary::Relu, 2)],
    }
}

fn pointwise(shape: &[usize], strides: &[&[usize]], out: &[usize], program: Program) -> PointwiseStep {
    PointwiseStep {
        shape: shape.to_vec(),
        strides: strides.iter().map(|s| s.to_vec()).collect(),
        out_strides: out.to_vec(),
        program,
        is_int: false,
    }
}

#[test]
#[ignore = "it only measures"]
#[allow(clippy::print_stdout, reason = "it is for people")]
fn timing_rest() {
    for isa in Isa::available() {
        for threads in [1, 2] {
            let engine = Engine { isa, pool: Arc::new(Pool::new(threads)) };
            println!("{} with {threads} threads, microseconds", isa.name());
            println!(
                "  empty region      {:8.2}",
                time(|| (0..100).for_each(|_| engine.pool.run(threads, |i| {
                    black_box(i);
                }))) / 100.0
            );
            pointwise_times(&engine);
            row_times(&engine);
            attention_times(&engine);
        }
        let x = Random::new("x").floats(1024, 3.0).iter().map(|x| x.abs()).collect::<Vec<_>>();
        let mut y = vec![0.0; 1024];
        let mut names = String::new();
        for op in every_unary() {
            let ns = time(|| (0..100).for_each(|_| vector::unary(isa, op, &x, &mut y))) * 10.0 / 1024.0;
            names += &format!(" {} {ns:.2}", op.name());
        }
        println!("{} nanoseconds an element:{names}", isa.name());
    }
}

#[allow(clippy::print_stdout, reason = "it is for people")]
fn pointwise_times(engine: &Engine) {
    let x = Random::new("x").floats(1 << 20, 1.0);
    let y = Random::new("y").floats(1 << 20, 1.0);
    let mut out = vec![0.0; 1 << 20];
    let mut run = |name: &str, step: &PointwiseStep, inputs: &[&[f32]]| {
        let ready = Pointwise::new(step).unwrap();
        let us = time(|| ready.run(engine, inputs, &mut out));
        let elements = step.shape.iter().product::<usize>();
        let bytes = elements * 4 * (inputs.len() + 1);
        println!("  {name:32}{us:8.1}  {:6.1} GB/s", bytes as f64 / us / 1e3);
    };
    run("relu(a + b) 1e6", &pointwise(&[1_000_000], &[&[1], &[1]], &[1], relu_add()), &[&x, &y]);
    run("relu(a + b) 25088", &pointwise(&[25_088], &[&[1], &[1]], &[1], relu_add()), &[&x, &y]);
    run("a + channels 3136x64", &pointwise(&[3136, 64], &[&[64, 1], &[0, 1]], &[64, 1], relu_add()), &[&x, &y]);
    run("a + channels 196x1024", &pointwise(&[196, 1024], &[&[1024, 1], &[0, 1]], &[1024, 1], relu_add()), &[&x, &y]);
    let copy = Program::copy;
    run("copy 1e6", &pointwise(&[1_000_000], &[&[1]], &[1], copy()), &[&x]);
    run("nchw to nhwc 3x224x224", &pointwise(&[50_176, 3], &[&[1, 50_176]], &[3, 1], copy()), &[&x]);
    run("transpose 1024x1000", &pointwise(&[1024, 1000], &[&[1, 1024]], &[1000, 1], copy()), &[&x]);
    run("concatenate 3136x32 of 256", &pointwise(&[3136, 32], &[&[32, 1]], &[256, 1], copy()), &[&x]);
}

#[allow(clippy::print_stdout, reason = "it is for people")]
fn row_times(engine: &Engine) {
    let x = Random::new("x").floats(197 * 3072 * 2, 1.0);
    let mut out = vec![0.0; x.len()];
    let mut show = |name: &str, f: &mut dyn FnMut(&mut [f32])| println!("  {name:32}{:8.1}", time(|| f(&mut out)));
    let lines = |outer, len, inner| Lines { outer, len, inner };
    show("softmax 2364x197", &mut |out| rows::softmax(engine, false, lines(2364, 197, 1), &x, out));
    show("softmax 1x1000", &mut |out| rows::softmax(engine, false, lines(1, 1000, 1), &x, out));
    show("softmax 1x1000x196", &mut |out| rows::softmax(engine, false, lines(1, 1000, 196), &x, out));
    show("layer_norm 197x768", &mut |out| {
        rows::layer_norm(engine, 768, 1e-6, &x[..197 * 768], Some((&x[..768], &x[768..1536])), &mut out[..197 * 768]);
    });
    show("layer_norm 3136x96", &mut |out| {
        rows::layer_norm(engine, 96, 1e-6, &x[..3136 * 96], Some((&x[..96], &x[96..192])), &mut out[..3136 * 96]);
    });
    show("mean 1x49x2048", &mut |out| rows::reduce(engine, Reduce::Mean, lines(1, 49, 2048), &x, out));
    let pool = |kind, channels, input, output, k: usize, s: usize, p: usize| {
        Pools::new(&PoolStep {
            kind,
            batch: 1,
            channels,
            input: [input, input],
            output: [output, output],
            kernel: [k, k],
            stride: [s, s],
            padding: [p, p],
            dilation: [1, 1],
        })
    };
    let stem = pool(PoolKind::Max, 64, 112, 56, 3, 2, 1);
    show("max_pool2d 112x112x64 3x3", &mut |out| stem.run(engine, &x[..112 * 112 * 64], &mut out[..56 * 56 * 64]));
    let vgg = pool(PoolKind::Max, 64, 112, 56, 2, 2, 0);
    show("max_pool2d 112x112x64 2x2", &mut |out| vgg.run(engine, &x[..112 * 112 * 64], &mut out[..56 * 56 * 64]));
    let global = pool(PoolKind::AVG, 2048, 7, 1, 7, 7, 0);
    show("avg_pool2d 7x7x2048 to 1x1", &mut |out| global.run(engine, &x[..49 * 2048], &mut out[..2048]));
}

#[allow(clippy::print_stdout, reason = "it is for people")]
fn attention_times(engine: &Engine) {
    for (name, heads, len, dim) in
        [("attention 12 heads 197x64", 12, 197, 64), ("attention 8 heads 1024x64", 8, 1024, 64)]
    {
        let strides = [len * heads * dim, dim, heads * dim];
        let step = AttentionStep {
            batch: 1,
            heads,
            q_len: len,
            kv_len: len,
            head_dim: dim,
            v_dim: dim,
            q: strides,
            k: strides,
            v: strides,
            out: strides,
            mask: None,
            scale: 0.125,
            causal: false,
        };
        let attention = Attention::new(&step, engine.isa, engine.pool.threads());
        let x = Random::new("x").floats(len * heads * dim, 1.0);
        let mut out = vec![0.0; x.len()];
        let mut scratch = vec![0.0; attention.scratch_len()];
        let us = time(|| attention.run(engine, [&x, &x, &x], None, &mut out, &mut scratch));
        let flops = 4 * heads * len * len * dim;
        println!("  {name:32}{us:8.1}  {:6.1} Gflop/s", flops as f64 / us / 1e3);
    }
}
