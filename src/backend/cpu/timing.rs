//! The speed of the convolutions and linear layers of whole models, layer by layer, weights as cold as in a real run:
//! `cargo test --release --lib timing -- --ignored --nocapture`. `SCONCE_TIMING` names models, separated by commas.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Instant;

use super::conv::{Conv, ConvWeights};
use super::isa::Isa;
use super::linear::{Linear, LinearWeights};
use super::pack::{Floats, WeightSource};
use super::product_tests::random;
use crate::device::pool::Pool;
use crate::graph::op::{Fused, Residual, Unary};
use crate::graph::step::{ConvStep, LinearStep};

enum Layer {
    Conv(ConvStep),
    Linear(LinearStep),
}

fn fused(activation: Option<Unary>, residual: bool) -> Fused {
    let residual = if residual { Residual::BeforeActivation } else { Residual::None };
    Fused { scale: false, bias: true, activation, residual }
}

fn conv(c_in: usize, size: usize, c_out: usize, kernel: usize, stride: usize, fused: Fused) -> Layer {
    let padding = if kernel == stride { 0 } else { kernel / 2 };
    Layer::Conv(ConvStep {
        batch: 1,
        input: [size; 2],
        c_in,
        output: [(size + 2 * padding - kernel) / stride + 1; 2],
        c_out,
        kernel: [kernel; 2],
        stride: [stride; 2],
        dilation: [1; 2],
        padding: [padding; 2],
        groups: 1,
        fused,
    })
}

fn grouped(layer: Layer, groups: usize) -> Layer {
    match layer {
        Layer::Conv(step) => Layer::Conv(ConvStep { groups, ..step }),
        other => other,
    }
}

fn linear(rows: usize, k: usize, n: usize, fused: Fused) -> Layer {
    Layer::Linear(LinearStep { rows, k, n, fused })
}

fn resnet50(groups: usize) -> Vec<Layer> {
    let (relu, add) = (fused(Some(Unary::Relu), false), fused(Some(Unary::Relu), true));
    let mut layers = vec![conv(3, 224, 64, 7, 2, relu)];
    let (mut c, mut size) = (64, 56);
    let base = if groups == 1 { 64 } else { 128 };
    for (stage, blocks) in [3, 4, 6, 3].into_iter().enumerate() {
        let (width, out) = (base << stage, 256 << stage);
        for block in 0..blocks {
            let stride = if stage > 0 && block == 0 { 2 } else { 1 };
            layers.push(conv(c, size, width, 1, 1, relu));
            layers.push(grouped(conv(width, size, width, 3, stride, relu), groups));
            if block == 0 {
                layers.push(conv(c, size, out, 1, stride, fused(None, false)).unpadded());
            }
            size /= stride;
            layers.push(conv(width, size, out, 1, 1, add));
            c = out;
        }
    }
    layers.push(linear(1, 2048, 1000, fused(None, false)));
    layers
}

impl Layer {
    fn unpadded(self) -> Self {
        match self {
            Layer::Conv(step) => Layer::Conv(ConvStep { padding: [0; 2], ..step }),
            other => other,
        }
    }
}

fn mobilenet_v2() -> Vec<Layer> {
    let relu6 = fused(Some(Unary::Clamp { min: 0.0, max: 6.0 }), false);
    let mut layers = vec![conv(3, 224, 32, 3, 2, relu6)];
    let (mut c, mut size) = (32, 112);
    for (t, out, n, s) in
        [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]
    {
        for block in 0..n {
            let stride = if block == 0 { s } else { 1 };
            let hidden = c * t;
            if t > 1 {
                layers.push(conv(c, size, hidden, 1, 1, relu6).unpadded());
            }
            layers.push(grouped(conv(hidden, size, hidden, 3, stride, relu6), hidden));
            size /= stride;
            layers.push(conv(hidden, size, out, 1, 1, fused(None, block > 0)).unpadded());
            c = out;
        }
    }
    layers.push(conv(320, 7, 1280, 1, 1, relu6).unpadded());
    layers.push(linear(1, 1280, 1000, fused(None, false)));
    layers
}

fn vgg16() -> Vec<Layer> {
    let relu = fused(Some(Unary::Relu), false);
    let (mut layers, mut c, mut size) = (Vec::new(), 3, 224);
    for (n, out) in [(2, 64), (2, 128), (3, 256), (3, 512), (3, 512)] {
        for _ in 0..n {
            layers.push(conv(c, size, out, 3, 1, relu));
            c = out;
        }
        size /= 2;
    }
    layers.push(linear(1, 25088, 4096, relu));
    layers.push(linear(1, 4096, 4096, relu));
    layers.push(linear(1, 4096, 1000, fused(None, false)));
    layers
}

fn vit_b_16() -> Vec<Layer> {
    let (none, add) = (fused(None, false), fused(None, true));
    let mut layers = vec![conv(3, 224, 768, 16, 16, none)];
    for _ in 0..12 {
        layers.push(linear(197, 768, 2304, none));
        layers.push(linear(197, 768, 768, add));
        layers.push(linear(197, 768, 3072, fused(Some(Unary::Gelu), false)));
        layers.push(linear(197, 3072, 768, add));
    }
    layers.push(linear(1, 768, 1000, none));
    layers
}

fn convnext_tiny() -> Vec<Layer> {
    let (none, add) = (fused(None, false), fused(None, true));
    let mut layers = vec![conv(3, 224, 96, 4, 4, none)];
    let mut size = 56;
    for (stage, blocks) in [3, 3, 9, 3].into_iter().enumerate() {
        let c = 96 << stage;
        for _ in 0..blocks {
            layers.push(grouped(conv(c, size, c, 7, 1, none), c));
            layers.push(linear(size * size, c, 4 * c, fused(Some(Unary::Gelu), false)));
            layers.push(linear(size * size, 4 * c, c, add));
        }
        if stage < 3 {
            layers.push(conv(c, size, 2 * c, 2, 2, none));
        }
        size /= 2;
    }
    layers.push(linear(1, 768, 1000, none));
    layers
}

fn mlp() -> Vec<Layer> {
    let relu = fused(Some(Unary::Relu), false);
    vec![linear(1, 784, 1024, relu), linear(1, 1024, 1024, relu), linear(1, 1024, 10, fused(None, false))]
}

/// A layer with its weights: runs from the first slice to the second, with the third as its residual.
struct Ready {
    name: String,
    cost: f64,
    sizes: [usize; 2],
    run: Box<dyn Fn(&[f32], &mut [f32], &[f32], &Pool)>,
}

/// Random weights that keep numbers about as large as they are.
fn weights(n: usize, k: usize) -> Vec<f32> {
    let scale = (6.0 / k as f32).sqrt();
    random(n * k, 1).into_iter().map(|x| x * scale).collect()
}

fn name(layer: &Layer) -> String {
    match layer {
        Layer::Conv(s) => {
            let groups = if s.groups > 1 { format!(" g{}", s.groups) } else { String::new() };
            format!(
                "conv {}x{} s{} {}->{} @{}{groups}",
                s.kernel[0], s.kernel[1], s.stride[0], s.c_in, s.c_out, s.output[0]
            )
        }
        Layer::Linear(s) => format!("linear {}x{}->{}", s.rows, s.k, s.n),
    }
}

fn prepare(layer: Layer, isa: Isa, pool: &Pool) -> Ready {
    let name = name(&layer);
    match layer {
        Layer::Conv(step) => {
            let k = step.c_in / step.groups * step.kernel[0] * step.kernel[1];
            let w = weights(step.c_out, k);
            let weights = ConvWeights::new(&step, WeightSource::Computed(&w), None, isa, pool).unwrap();
            let (conv, bias) = (Conv::new(&step, isa), random(step.c_out, 3));
            let x_len = step.batch * step.input[0] * step.input[1] * step.c_in;
            let out_len = step.batch * step.output[0] * step.output[1] * step.c_out;
            let scratch = RefCell::new(vec![0.0; conv.scratch_len()]);
            let with_residual = step.fused.residual != Residual::None;
            let run = move |x: &[f32], out: &mut [f32], residual: &[f32], pool: &Pool| {
                let residual = with_residual.then_some(&residual[..out_len]);
                let out = &mut out[..out_len];
                conv.run(&weights, &x[..x_len], Some(&bias), residual, out, &mut scratch.borrow_mut(), pool);
            };
            Ready { name, cost: 2.0 * (out_len * k) as f64, sizes: [x_len, out_len], run: Box::new(run) }
        }
        Layer::Linear(step) => {
            let w = weights(step.n, step.k);
            let bytes = bytemuck::cast_slice::<_, u8>(&w);
            let tensor =
                crate::checkpoint::StoredTensor::from_bytes(crate::DType::F32, [step.n, step.k], bytes).unwrap();
            let weights = LinearWeights::new(&step, WeightSource::Stored(&tensor), None, isa, pool).unwrap();
            let (linear, bias) = (Linear::new(&step, isa), random(step.n, 3));
            let (x_len, out_len) = (step.rows * step.k, step.rows * step.n);
            let with_residual = step.fused.residual != Residual::None;
            let run = move |x: &[f32], out: &mut [f32], residual: &[f32], pool: &Pool| {
                let residual = with_residual.then_some(&residual[..out_len]);
                linear.run(&weights, &x[..x_len], Some(&bias), residual, &mut out[..out_len], pool);
            };
            let cost = 2.0 * (out_len * step.k) as f64;
            Ready { name, cost, sizes: [x_len, out_len], run: Box::new(run) }
        }
    }
}

#[allow(clippy::print_stdout, reason = "this is what it is for")]
fn time(model: &str, layers: Vec<Layer>, isa: Isa, threads: usize) {
    let pool = Pool::new(threads);
    let layers: Vec<_> = layers.into_iter().map(|layer| prepare(layer, isa, &pool)).collect();
    let size = layers.iter().flat_map(|layer| layer.sizes).max().unwrap_or(0);
    let [mut x, mut out, residual] = [1, 2, 3].map(|seed| {
        let mut floats = Floats::zeros(size).unwrap();
        floats.as_mut_slice().copy_from_slice(&random(size, seed));
        floats
    });
    let mut best = vec![f64::INFINITY; layers.len()];
    let mut totals = Vec::new();
    let start = Instant::now();
    while totals.len() < 5 || (start.elapsed().as_secs_f64() < 2.0 && totals.len() < 400) {
        let run = Instant::now();
        for (layer, best) in layers.iter().zip(&mut best) {
            let start = Instant::now();
            (layer.run)(x.as_slice(), out.as_mut_slice(), residual.as_slice(), &pool);
            *best = best.min(start.elapsed().as_secs_f64());
            std::mem::swap(&mut x, &mut out);
        }
        totals.push(run.elapsed().as_secs_f64());
    }
    totals.sort_by(f64::total_cmp);
    let mut groups = BTreeMap::<String, (usize, f64, f64)>::new();
    for (i, (layer, best)) in layers.iter().zip(&best).enumerate() {
        let first = layers.iter().position(|other| other.name == layer.name).unwrap_or(i);
        let entry = groups.entry(format!("{first:3} {}", layer.name)).or_default();
        *entry = (entry.0 + 1, entry.1 + layer.cost, entry.2 + best);
    }
    if std::env::var_os("SCONCE_TIMING_LAYERS").is_some() {
        for (name, (count, cost, seconds)) in groups {
            println!("  {name:36} x{count:2} {:8.3} ms {:7.1} GFLOP/s", seconds * 1e3, cost / seconds / 1e9);
        }
    }
    let cost: f64 = layers.iter().map(|layer| layer.cost).sum();
    let (median, sum) = (totals[totals.len() / 2], best.iter().sum::<f64>());
    println!(
        "{model} {} {threads} threads: median {:.2} ms, min {:.2}, layers' best {:.2}: {:.2} GFLOP, {:.0} GFLOP/s",
        isa.name(),
        median * 1e3,
        totals[0] * 1e3,
        sum * 1e3,
        cost / 1e9,
        cost / median / 1e9
    );
}

#[test]
#[ignore = "it only measures"]
fn timing() {
    let wanted = std::env::var("SCONCE_TIMING").unwrap_or_else(|_| "resnet50".into());
    let threads = std::env::var("SCONCE_TIMING_THREADS").unwrap_or_else(|_| "2".into());
    for model in wanted.split(',') {
        for threads in threads.split(',') {
            let layers = match model {
                "resnet50" => resnet50(1),
                "resnext50" => resnet50(32),
                "mobilenet_v2" => mobilenet_v2(),
                "vgg16" => vgg16(),
                "vit_b_16" => vit_b_16(),
                "convnext_tiny" => convnext_tiny(),
                "mlp" => mlp(),
                other => panic!("no layers for `{other}`"),
            };
            time(model, layers, Isa::choose().unwrap(), threads.parse().unwrap());
        }
    }
}
