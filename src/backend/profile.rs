//! What the steps of a plan do and how long they take.

use std::sync::Arc;

use super::cpu;
use super::lens::Lens;
use crate::device::{Device, Kind};
use crate::error::Result;
use crate::graph::op::{Instr, Program};
use crate::graph::step::{
    AdaptivePoolStep, AttentionStep, ConvStep, Kernel, LinearStep, MatmulStep, PoolStep, Schedule,
};

/// What a device can do at most, by measurement: the figures that a [`StepProfile`] is compared with.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Peak {
    /// The instruction set of the CPU's kernels, or the interface to the GPU: `Vulkan`, `Metal` or `DX12`.
    pub instruction_set: &'static str,
    /// The floating-point operations a second that the device's threads reach together when they do nothing but multiply
    /// and add.
    pub flops: f64,
    /// The same of a GPU's matrix units, on `f16`s with sums in `f32`, where the device computes with
    /// [`Precision::Fast`](crate::Precision::Fast).
    pub matrix_flops: Option<f64>,
    /// The bytes a second that they read together from memory.
    pub bytes: f64,
    /// Whether most tries came near these figures. When other programs use the cores they do not, and the figures may be
    /// too low.
    pub is_steady: bool,
}

impl Peak {
    /// Measures it, which takes some tenths of a second and 256 MiB of the device's memory.
    ///
    /// # Errors
    /// [`ErrorKind::Device`](crate::ErrorKind::Device) when there is not enough memory, or when a GPU fails.
    pub fn measure(device: &Device) -> Result<Self> {
        match device.kind() {
            Kind::Cpu(pool) => {
                let engine = cpu::Engine { isa: cpu::isa::Isa::choose()?, pool: Arc::clone(pool) };
                let (flops, bytes) = (cpu::peak::flops(&engine), cpu::peak::bytes(&engine)?);
                Ok(Self {
                    instruction_set: engine.isa.name(),
                    flops: flops.best,
                    matrix_flops: None,
                    bytes: bytes.best,
                    is_steady: flops.is_steady && bytes.is_steady,
                })
            }
            #[cfg(feature = "gpu")]
            Kind::Gpu(gpu) => {
                let super::gpu::Peaks { flops, matrix_flops, bytes } = super::gpu::measure_peak(gpu)?;
                Ok(Self { instruction_set: gpu.info().backend, flops, matrix_flops, bytes, is_steady: true })
            }
        }
    }
}

/// One step of a plan, and how long it takes: see [`Model::profile`](crate::Model::profile).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StepProfile {
    /// The kernel, as `conv2d`.
    pub kernel: &'static str,
    /// The layer: the name of its weight without `.weight`, else of the op.
    pub layer: String,
    /// The sizes, as `3x3 /2 64->128 @28x28`, and the method where there are several.
    pub shape: String,
    /// Floating-point operations: two for each multiplication and addition of a product, one for each function of a
    /// number. They are those of the definition, also where a method needs fewer.
    pub flops: u64,
    /// The bytes of the inputs, the weights among them, and of the output, each counted once.
    pub bytes: u64,
    /// The median time in milliseconds.
    pub ms: f64,
    /// The shortest time in milliseconds.
    pub min_ms: f64,
    /// On a GPU, the shaders of the step in their order with the median milliseconds of each, by the device's own clock;
    /// nothing on the CPU.
    pub dispatches: Vec<(String, f64)>,
}

impl StepProfile {
    /// A step that has not been timed.
    pub(crate) fn new(kernel: &Kernel, layer: &str, method: Option<&str>) -> Self {
        let mut shape = shape(kernel);
        if let Some(method) = method {
            shape = format!("{shape} {method}");
        }
        let (kernel, flops, bytes) = (kernel.name(), flops(kernel), bytes(kernel));
        Self { kernel, layer: layer.to_owned(), shape, flops, bytes, ms: 0.0, min_ms: 0.0, dispatches: Vec::new() }
    }

    /// Sets the times from those of some runs, in milliseconds.
    pub(crate) fn set_times(&mut self, times: &mut [f64]) {
        times.sort_by(f64::total_cmp);
        self.min_ms = times[0];
        self.ms = (times[(times.len() - 1) / 2] + times[times.len() / 2]) / 2.0;
    }
}

/// What one run of a plan costs, by arithmetic: see [`Model::cost`](crate::Model::cost).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Cost {
    /// The number of steps: kernels on the CPU, dispatches on a GPU.
    pub steps: usize,
    /// Floating-point operations: a multiplication and an addition are two.
    pub flops: u64,
    /// The bytes that the steps read and write when each reads its inputs once, weights among them.
    pub bytes: u64,
}

impl Cost {
    pub(crate) fn of(schedule: &Schedule) -> Self {
        schedule.steps.iter().fold(Self { steps: schedule.steps.len(), ..Self::default() }, |cost, step| Self {
            flops: cost.flops + flops(&step.kernel),
            bytes: cost.bytes + bytes(&step.kernel),
            ..cost
        })
    }
}

/// The operations of a program on one element.
fn operations(program: &Program) -> usize {
    program.instrs.iter().filter(|instr| matches!(instr, Instr::Unary(..) | Instr::Binary(..))).count()
}

fn flops(kernel: &Kernel) -> u64 {
    let flops = match kernel {
        Kernel::Conv2d(s) => {
            let taps = s.c_in / s.groups * s.kernel[0] * s.kernel[1];
            2 * s.batch * s.output[0] * s.output[1] * s.c_out * taps
        }
        Kernel::Linear(s) => 2 * s.rows * s.k * s.n,
        Kernel::Matmul(s) => 2 * s.batch.iter().product::<usize>() * s.m * s.k * s.n,
        Kernel::Pointwise(s) => s.shape.iter().product::<usize>() * operations(&s.program),
        Kernel::Pool2d(s) => s.batch * s.channels * s.output[0] * s.output[1] * s.kernel[0] * s.kernel[1],
        Kernel::AdaptivePool2d(s) => {
            let window = |i: usize| s.input[i].div_ceil(s.output[i].max(1));
            s.batch * s.channels * s.output[0] * s.output[1] * window(0) * window(1)
        }
        Kernel::Reduce { outer, len, inner, .. } | Kernel::Cumsum { outer, len, inner } => outer * len * inner,
        // The largest, the difference, the exponential, the sum, the quotient.
        Kernel::Softmax { outer, len, inner, .. } => 5 * outer * len * inner,
        // Two sums, two differences and a product; the weight and the bias.
        Kernel::LayerNorm { rows, len, affine, .. } => rows * len * if *affine { 8 } else { 6 },
        Kernel::Attention(s) => {
            let pairs =
                if s.causal { (0..s.q_len).map(|i| (i + 1).min(s.kv_len)).sum::<usize>() } else { s.q_len * s.kv_len };
            s.batch * s.heads * pairs * (2 * s.head_dim + 2 * s.v_dim + 5)
        }
        Kernel::Embedding { .. } | Kernel::Pad { .. } => 0,
    };
    flops as u64
}

fn bytes(kernel: &Kernel) -> u64 {
    let lens = Lens::of(kernel);
    let table = match kernel {
        // Only the rows that are looked up are read.
        Kernel::Embedding { outer, count, rows, dim } => outer * rows.saturating_sub(*count) * dim,
        _ => 0,
    };
    4 * (lens.inputs.iter().sum::<usize>() + lens.output - table) as u64
}

fn by(sizes: &[usize]) -> String {
    sizes.iter().map(ToString::to_string).collect::<Vec<_>>().join("x")
}

/// `2` for two equal numbers, else `2x3`.
fn once([a, b]: [usize; 2]) -> String {
    if a == b { a.to_string() } else { format!("{a}x{b}") }
}

/// `4x` for a batch of four.
fn batch(batch: usize) -> String {
    if batch == 1 { String::new() } else { format!("{batch}x ") }
}

fn shape(kernel: &Kernel) -> String {
    match kernel {
        Kernel::Conv2d(step) => conv_shape(step),
        Kernel::Linear(LinearStep { rows, k, n, .. }) => format!("{rows} {k}->{n}"),
        Kernel::Matmul(MatmulStep { m, n, k, batch: entries, .. }) => {
            format!("{}{m}x{k}x{n}", batch(entries.iter().product()))
        }
        Kernel::Pointwise(step) => match operations(&step.program) {
            0 => format!("{} copy", by(&step.shape)),
            count => format!("{} {count} op{}", by(&step.shape), if count == 1 { "" } else { "s" }),
        },
        Kernel::Pool2d(PoolStep { batch: images, channels, output, kernel, stride, .. }) => {
            format!("{}{} /{} {channels} @{}", batch(*images), by(kernel), once(*stride), by(output))
        }
        Kernel::AdaptivePool2d(AdaptivePoolStep { batch: images, channels, input, output, .. }) => {
            format!("{}{channels} {}->{}", batch(*images), by(input), by(output))
        }
        Kernel::Reduce { outer, len, inner, .. }
        | Kernel::Softmax { outer, len, inner, .. }
        | Kernel::Cumsum { outer, len, inner } => format!("{outer} [{len}] {inner}"),
        Kernel::LayerNorm { rows, len, .. } => format!("{rows} [{len}]"),
        Kernel::Attention(AttentionStep { batch: entries, heads, q_len, kv_len, head_dim, causal, .. }) => {
            let causal = if *causal { " causal" } else { "" };
            format!("{}{heads} heads {q_len}x{kv_len}x{head_dim}{causal}", batch(*entries))
        }
        Kernel::Embedding { outer, count, rows, dim } => format!("{}{count} of {rows}x{dim}", batch(*outer)),
        Kernel::Pad { shape, .. } => by(shape),
    }
}

fn conv_shape(step: &ConvStep) -> String {
    let ConvStep { batch: images, c_in, c_out, kernel, stride, dilation, groups, output, .. } = step;
    let mut text = format!("{}{}", batch(*images), by(kernel));
    for (sign, value) in [("/", stride), ("dilation ", dilation)] {
        if *value != [1, 1] {
            text += &format!(" {sign}{}", once(*value));
        }
    }
    text += &format!(" {c_in}->{c_out}");
    if *groups > 1 {
        text += &format!(" in {groups} groups");
    }
    text + &format!(" @{}", by(output))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::op::Fused;

    #[test]
    fn convolutions_are_described_and_counted() {
        let mut step = ConvStep {
            batch: 1,
            input: [56, 56],
            c_in: 64,
            output: [28, 28],
            c_out: 128,
            kernel: [3, 3],
            stride: [2, 2],
            dilation: [1, 1],
            padding: [1, 1],
            groups: 1,
            fused: Fused { bias: true, ..Fused::default() },
        };
        let profile = StepProfile::new(&Kernel::Conv2d(step.clone()), "layer2.0.conv1", None);
        assert_eq!((profile.kernel, profile.shape.as_str()), ("conv2d", "3x3 /2 64->128 @28x28"));
        assert_eq!(profile.flops, 2 * 28 * 28 * 128 * 64 * 9);
        assert_eq!(profile.bytes, 4 * (56 * 56 * 64 + 128 * 64 * 9 + 128 + 28 * 28 * 128));
        (step.batch, step.groups, step.dilation, step.stride) = (8, 4, [2, 1], [1, 1]);
        let profile = StepProfile::new(&Kernel::Conv2d(step), "", Some("direct"));
        assert_eq!(profile.shape, "8x 3x3 dilation 2x1 64->128 in 4 groups @28x28 direct");
    }

    #[test]
    fn the_median_is_in_the_middle() {
        let kernel = Kernel::Embedding { outer: 1, count: 3, rows: 100, dim: 4 };
        let mut profile = StepProfile::new(&kernel, "", None);
        assert_eq!(profile.bytes, 4 * (3 + 3 * 4 + 3 * 4));
        for (times, want) in [(vec![3.0, 1.0, 2.0], (2.0, 1.0)), (vec![4.0, 2.0], (3.0, 2.0)), (vec![5.0], (5.0, 5.0))]
        {
            profile.set_times(&mut times.clone());
            assert_eq!((profile.ms, profile.min_ms), want);
        }
    }
}
