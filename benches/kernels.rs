//! How fast the CPU's kernels are, class by class, with one thread and with two, against what the machine reaches at most:
//! every kind of convolution, linear layers of few and of many rows, attention, norms, softmax and pools.
//!
//! `cargo bench --bench kernels`, or `-- depthwise` for the classes with that in their name; `SCONCE_CPU=avx2` for another
//! instruction set. As a test everything runs once. Weights are as warm as the caches keep them from run to run.
#![allow(clippy::print_stdout)]

#[path = "../tests/common/mod.rs"]
mod common;
mod timing;

use std::sync::Arc;

use common::{made_input, numbers};
use sconce::checkpoint::StoredTensor;
use sconce::{
    Approximate, ConvOptions, DType, Device, Graph, MaxPoolOptions, Model, Padding, Peak, Result, Tensor, Var,
};
use timing::is_measured;

/// The times of a kernel should add up to so many milliseconds.
const LEAST_MS: f64 = 60.0;

fn main() -> Result<()> {
    let devices = [1, 2].map(Device::cpu_with_threads);
    let mut peaks = Vec::new();
    for device in &devices {
        let peak = match is_measured() {
            true => Some(Peak::measure(device)?),
            false => None,
        };
        if let Some(Peak { instruction_set, flops, bytes, .. }) = peak {
            println!("{device}, {instruction_set}: {:.1} GFLOP/s, {:.1} GB/s at most", flops / 1e9, bytes / 1e9);
        }
        peaks.push(peak);
    }
    let rates = format!("{:>9} {:>8} {:>5} {:>6}", "ms", "GFLOP/s", "peak", "GB/s");
    println!("{:24} {:50} {rates} {rates}", "", "");
    let wanted: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    for case in convolutions().into_iter().chain(others()) {
        if !wanted.is_empty() && !wanted.iter().any(|part| case.class.contains(part.as_str())) {
            continue;
        }
        let (mut shape, mut cells) = (String::new(), String::new());
        for (device, peak) in devices.iter().zip(&peaks) {
            let step = case.measure(device)?;
            shape = step.shape;
            let rate = |amount: u64| amount as f64 / step.min_ms / 1e6;
            let part = peak.map_or("-".into(), |peak| format!("{:.0} %", rate(step.flops) * 1e11 / peak.flops));
            let (gflops, gbs) = (rate(step.flops), rate(step.bytes));
            cells += &format!(" {:9.4} {gflops:8.1} {part:>5} {gbs:6.1}", step.min_ms);
        }
        println!("{:24} {shape:50}{cells}", case.class);
    }
    Ok(())
}

/// One kernel: its class, its name in a profile, its inputs, and the graph that has it.
struct Case {
    class: String,
    kernel: &'static str,
    inputs: Vec<Tensor>,
    trace: Arc<Trace>,
}

type Trace = dyn Fn(&mut Graph, &[Var]) -> Result<Var> + Send + Sync;

impl Case {
    fn new(
        class: &str,
        kernel: &'static str,
        inputs: &[&[usize]],
        trace: impl Fn(&mut Graph, &[Var]) -> Result<Var> + Send + Sync + 'static,
    ) -> Self {
        let inputs = inputs.iter().map(|&shape| made_input(shape, 1.0)).collect();
        Self { class: class.to_owned(), kernel, inputs, trace: Arc::new(trace) }
    }

    /// The step that is the kernel, timed.
    fn measure(&self, device: &Device) -> Result<sconce::StepProfile> {
        let trace = Arc::clone(&self.trace);
        let model = Model::from_fn(device, move |graph: &mut Graph, x: &[Var]| Ok(vec![trace(graph, x)?]));
        let step = |runs| -> Result<sconce::StepProfile> {
            let steps = model.profile(&self.inputs, runs)?;
            Ok(steps.into_iter().find(|step| step.kernel == self.kernel).expect("the graph has the kernel"))
        };
        let first = step(1)?;
        match is_measured() {
            true => step((LEAST_MS / first.ms) as usize + 3),
            false => Ok(first),
        }
    }
}

/// A parameter with made-up values, of about the size that keeps what comes out as large as what went in.
fn parameter(graph: &mut Graph, name: &str, shape: &[usize]) -> Result<Var> {
    let (count, fan_in) = (shape.iter().product(), shape[1..].iter().product::<usize>().max(1));
    let scale = (3.0 / fan_in as f64).sqrt();
    let bytes: Vec<u8> = numbers(name).take(count).flat_map(|x| ((x * scale) as f32).to_le_bytes()).collect();
    graph.parameter(name, &StoredTensor::from_bytes(DType::F32, shape, bytes)?)
}

/// A kind of convolution, of square images and kernels.
#[derive(Clone, Copy)]
struct Conv {
    c_in: usize,
    size: usize,
    c_out: usize,
    kernel: usize,
    stride: usize,
    dilation: usize,
    groups: usize,
    padding: usize,
}

/// One that keeps the size of the image.
fn conv(c_in: usize, size: usize, c_out: usize, kernel: usize) -> Conv {
    Conv { c_in, size, c_out, kernel, stride: 1, dilation: 1, groups: 1, padding: kernel / 2 }
}

fn depthwise(channels: usize, size: usize, kernel: usize) -> Conv {
    Conv { groups: channels, ..conv(channels, size, channels, kernel) }
}

fn convolutions() -> Vec<Case> {
    let mut classes = Vec::new();
    for kernel in 1..=7 {
        classes.push((format!("{kernel}x{kernel}"), conv(64, 28, 64, kernel)));
    }
    for kernel in [1, 3, 5, 7] {
        classes.push((format!("{kernel}x{kernel} stride 2"), Conv { stride: 2, ..conv(64, 28, 128, kernel) }));
    }
    for dilation in [2, 3] {
        let dilated = Conv { dilation, padding: dilation, ..conv(64, 28, 64, 3) };
        classes.push((format!("3x3 dilation {dilation}"), dilated));
    }
    for groups in [2, 4, 16, 32] {
        classes.push((format!("3x3 in {groups} groups"), Conv { groups, ..conv(128, 28, 128, 3) }));
    }
    for kernel in [3, 5, 7] {
        classes.push((format!("depthwise {kernel}x{kernel}"), depthwise(192, 28, kernel)));
    }
    let other = [
        ("1x1, 7x7 pixels", conv(512, 7, 2048, 1)),
        ("1x1, 14x14 pixels", conv(1024, 14, 256, 1)),
        ("1x1, few channels", conv(16, 112, 96, 1)),
        ("3x3, 7x7 pixels", conv(512, 7, 512, 3)),
        ("3x3, 14x14 pixels", conv(256, 14, 256, 3)),
        ("3x3, 56x56 pixels", conv(64, 56, 64, 3)),
        ("3x3, odd", conv(63, 29, 65, 3)),
        ("1x1, odd", conv(31, 13, 67, 1)),
        ("3x3, one channel", conv(1, 28, 32, 3)),
        ("depthwise 3x3 stride 2", Conv { stride: 2, ..depthwise(96, 112, 3) }),
        ("depthwise 3x3, few", depthwise(8, 112, 3)),
        ("depthwise 3x3, odd", depthwise(33, 29, 3)),
        ("depthwise 3x3 dilation 2", Conv { dilation: 2, padding: 2, ..depthwise(192, 28, 3) }),
        ("first layer 3x3", Conv { stride: 2, ..conv(3, 224, 32, 3) }),
        ("first layer 7x7", Conv { stride: 2, ..conv(3, 224, 64, 7) }),
        ("patches 2x2", Conv { stride: 2, padding: 0, ..conv(192, 28, 384, 2) }),
        ("patches 16x16", Conv { stride: 16, padding: 0, ..conv(3, 224, 768, 16) }),
    ];
    classes.extend(other.map(|(name, conv)| (name.to_owned(), conv)));
    classes
        .iter()
        .flat_map(|(name, conv)| [1, 8].map(|batch| conv_case(&format!("conv {name}"), *conv, batch)))
        .collect()
}

fn conv_case(class: &str, conv: Conv, batch: usize) -> Case {
    Case::new(class, "conv2d", &[&[batch, conv.c_in, conv.size, conv.size]], move |graph, x| {
        let shape = [conv.c_out, conv.c_in / conv.groups, conv.kernel, conv.kernel];
        let (weight, bias) = (parameter(graph, "weight", &shape)?, parameter(graph, "bias", &[conv.c_out])?);
        let options = ConvOptions {
            stride: [conv.stride; 2],
            padding: Padding::Explicit([conv.padding; 2]),
            dilation: [conv.dilation; 2],
            groups: conv.groups,
            ..ConvOptions::default()
        };
        let y = graph.conv2d(x[0], weight, Some(bias), &options)?;
        graph.relu(y)
    })
}

fn linear(rows: usize, k: usize, n: usize) -> Case {
    Case::new("linear", "linear", &[&[rows, k]], move |graph, x| {
        let (weight, bias) = (parameter(graph, "weight", &[n, k])?, parameter(graph, "bias", &[n])?);
        graph.linear(x[0], weight, Some(bias))
    })
}

fn attention(name: &str, heads: usize, len: usize, dim: usize, causal: bool) -> Case {
    let shape: &[usize] = &[1, heads, len, dim];
    Case::new(name, "scaled_dot_product_attention", &[shape; 3], move |graph, x| {
        graph.scaled_dot_product_attention(x[0], x[1], x[2], None, causal, None)
    })
}

fn others() -> Vec<Case> {
    let mut cases: Vec<Case> = [1, 2, 4, 8, 9, 16, 32, 197].map(|rows| linear(rows, 768, 768)).into();
    cases.extend([linear(197, 3072, 768), linear(197, 768, 3072), linear(1, 4096, 4096), linear(33, 100, 10)]);
    cases.push(Case::new("matmul", "matmul", &[&[512, 512], &[512, 512]], |graph, x| graph.matmul(x[0], x[1])));
    cases.push(Case::new("matmul, batch", "matmul", &[&[12, 197, 64], &[12, 64, 197]], |graph, x| {
        graph.matmul(x[0], x[1])
    }));
    cases.push(attention("attention", 12, 197, 64, false));
    cases.push(attention("attention, long", 4, 2048, 64, false));
    cases.push(attention("attention, causal", 12, 512, 64, true));
    cases.push(Case::new("layer_norm", "layer_norm", &[&[197, 768]], |graph, x| {
        let (weight, bias) = (parameter(graph, "weight", &[768])?, parameter(graph, "bias", &[768])?);
        graph.layer_norm(x[0], &[768], Some(weight), Some(bias), 1e-5)
    }));
    cases.push(Case::new("layer_norm, short rows", "layer_norm", &[&[3136, 96]], |graph, x| {
        graph.layer_norm(x[0], &[96], None, None, 1e-5)
    }));
    cases.push(Case::new("softmax", "softmax", &[&[1000, 1000]], |graph, x| graph.softmax(x[0], -1)));
    cases.push(Case::new("softmax, outer", "softmax", &[&[1000, 1000]], |graph, x| graph.softmax(x[0], 0)));
    cases.push(Case::new("gelu", "pointwise", &[&[197, 3072]], |graph, x| graph.gelu(x[0], Approximate::None)));
    cases.push(Case::new("add", "pointwise", &[&[784, 512], &[784, 512]], |graph, x| graph.add(x[0], x[1])));
    cases.push(Case::new("max_pool2d", "max_pool2d", &[&[1, 64, 112, 112]], |graph, x| {
        graph.max_pool2d(x[0], &MaxPoolOptions { stride: [2; 2], padding: [1; 2], ..MaxPoolOptions::new([3; 2]) })
    }));
    cases.push(Case::new("mean", "mean", &[&[1, 2048, 7, 7]], |graph, x| graph.mean(x[0], &[2, 3], false)));
    cases
}
