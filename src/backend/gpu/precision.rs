//! Which precisions a device has, and the test of its matrix units.

use std::sync::Arc;

use super::pipeline::Pipelines;
use super::{Plan, Weights};
use crate::device::gpu::Gpu;
use crate::dtype::{DType, Precision};
use crate::error::{Error, Result};
use crate::graph::op::Fused;
use crate::graph::step::{Arg, Buffer, BufferId, Kernel, LinearStep, Memory, Port, Schedule, Step};
use crate::tensor::Tensor;

/// The linear layers of the test, as rows, inputs and outputs: the small and the large tile with edges on all sides.
const SIZES: [[usize; 3]; 2] = [[150, 100, 140], [2050, 68, 2040]];

/// The error that is allowed: the factors are exact in f16, and their sums nearly so in f32.
const TOLERANCE: f64 = 1e-3;

/// An error when the device cannot compute with this precision.
pub(super) fn check(gpu: &Arc<Gpu>, precision: Precision) -> Result<()> {
    let refuse = |why: &str, help: &str| {
        Err(Error::unsupported(format!("precision `{precision}` on device `{}`: {why}", gpu.info())).help(help))
    };
    if precision != Precision::Exact && !gpu.has_f16() {
        return refuse("its shaders have no f16", "compute in f32");
    }
    let trouble = match (precision, gpu.matrices()) {
        (Precision::Exact, _) | (_, None) => None,
        _ => Pipelines::of(gpu)
            .tested_matrices(|| test(gpu, &SIZES).err().map(|error| error.to_string()))
            .map(String::from),
    };
    match (precision, gpu.matrices(), trouble) {
        (Precision::Fast, None, _) => refuse(gpu.why_no_matrices(), "compute in f32, or in f16"),
        (Precision::Fast, _, Some(wrong)) => {
            refuse(&format!("its matrix units fail their test: {wrong}"), "compute in f32")
        }
        _ => Ok(()),
    }
}

/// Runs linear layers on the matrix units and compares with the true products. Matrices that an adapter does not have
/// give zeros rather than an error.
fn test(gpu: &Arc<Gpu>, sizes: &[[usize; 3]]) -> Result<()> {
    for &[rows, inputs, outputs] in sizes {
        // Small multiples of powers of two, no two rows or columns alike.
        let x: Vec<f32> = (0..rows * inputs).map(|i| ((i * 7 + i / inputs * 3) % 61) as f32 / 32.0 - 1.0).collect();
        let w: Vec<f32> =
            (0..outputs * inputs).map(|i| ((i * 5 + i / inputs * 11) % 53) as f32 / 32.0 - 0.75).collect();
        let bias: Vec<f32> = (0..outputs).map(|i| (i % 37) as f32).collect();
        let schedule = linear([rows, inputs, outputs], &w, &bias)?;
        let mut plan = Plan::new(&schedule, &mut Weights::untested(gpu, Precision::Fast))?;
        let y = plan.start(&[Tensor::new([rows, inputs], &x)?])?.wait()?[0].to_f32()?;
        for row in (0..rows).step_by(if rows > 1000 { 37 } else { 1 }) {
            for column in 0..outputs {
                let product = |k: usize| f64::from(x[row * inputs + k]) * f64::from(w[column * inputs + k]);
                let want = (0..inputs).map(product).sum::<f64>() + f64::from(bias[column]);
                let got = f64::from(y[row * outputs + column]);
                // NaN is wrong too.
                if (got - want).abs() <= TOLERANCE {
                    continue;
                }
                return Err(Error::device(format!("element {row}, {column} is {got}, expected {want}")));
            }
        }
    }
    Ok(())
}

/// A schedule of one linear layer.
fn linear([rows, k, n]: [usize; 3], w: &[f32], bias: &[f32]) -> Result<Schedule> {
    let constant =
        |tensor: Tensor| Buffer { len: tensor.shape().numel(), is_int: false, memory: Memory::Constant(tensor) };
    let arena = |arena: usize, len: usize| Buffer { len, is_int: false, memory: Memory::Arena { arena, offset: 0 } };
    let port =
        |id: usize, columns: usize| Port { buffer: BufferId(id), shape: [rows, columns].into(), dtype: DType::F32 };
    let arg = |id: usize| Arg { buffer: BufferId(id), offset: 0 };
    let fused = Fused { bias: true, ..Fused::default() };
    Ok(Schedule {
        buffers: vec![
            arena(0, rows * k),
            constant(Tensor::new([n, k], w)?),
            constant(Tensor::new([n], bias)?),
            arena(1, rows * n),
        ],
        prologue: Vec::new(),
        steps: vec![Step {
            name: "the test of the matrix units".into(),
            kernel: Kernel::Linear(LinearStep { rows, k, n, fused }),
            inputs: vec![arg(0), arg(1), arg(2)],
            output: arg(3),
        }],
        inputs: vec![port(0, k)],
        outputs: vec![port(3, n)],
        arenas: vec![(rows * k * 4).next_multiple_of(256), (rows * n * 4).next_multiple_of(256)],
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::gpu::kernels::{Caps, MATRICES};
    use crate::backend::gpu::tests::on_every_gpu;
    use crate::device::gpu::GpuOptions;

    /// The test accepts matrices that multiply, and none that give zeros, as those do that an adapter does not have, or
    /// that take their rows for columns.
    #[test]
    fn wrong_matrices_fail_their_test() {
        let zeros = MATRICES.replace(
            "var sums = c;\n    for (var i = 0u; i < side()",
            "var sums = Sum();\n    for (var i = 0u; i < 0u * side()",
        );
        let turned = MATRICES.replace("a * WORD + element / SIDE", "a * WORD + element % SIDE");
        for (source, is_right) in [(MATRICES.to_owned(), true), (zeros, false), (turned, false)] {
            assert_eq!(source == MATRICES, is_right);
            let source: &'static str = source.leak();
            on_every_gpu(GpuOptions::default(), |gpu| {
                let caps = Caps { matrices: Some(16), emulated: Some(source), is_software: false, ..Caps::new(gpu) };
                Pipelines::of(gpu).caps.set(caps).expect("nothing was selected before");
                match test(gpu, &[[40, 36, 37]]) {
                    Ok(()) => assert!(is_right, "{source}"),
                    Err(error) => {
                        assert!(!is_right, "{error}");
                        assert!(error.to_string().starts_with("element "), "{error}");
                    }
                }
            });
        }
    }
}
