//! Convolutions, linear layers and matrix products against plain loops, for every instruction set of this machine.

use proptest::prelude::*;

use super::conv::{Conv, ConvWeights, Method};
use super::isa::Isa;
use super::linear::{Linear, LinearWeights};
use super::matmul::Matmul;
use super::pack::WeightSource;
use crate::backend::lens::Lens;
use crate::backend::naive;
use crate::checkpoint::StoredTensor;
use crate::device::pool::Pool;
use crate::dtype::DType;
use crate::graph::op::{Fused, Residual, Unary};
use crate::graph::step::{ConvStep, Kernel, LinearStep, MatmulStep};

/// Of the largest output, or of what a sum of `k` random products is likely to be where a clamp cut that off. The longest
/// sums here, of some 3,000 products added one after the other, come to about half of it.
const TOLERANCE: f32 = 5e-6;

/// The same for transformed convolutions, whose products are up to some ten times as large as what they sum to.
const TRANSFORMED: f32 = 1e-5;

fn random(len: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..len).map(|_| next()).collect()
}

fn isas() -> Vec<Isa> {
    Isa::available()
}

fn check(what: &str, k: usize, found: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(found.len(), expected.len());
    let largest = expected.iter().fold((k as f32).sqrt().max(1.0), |largest, x| largest.max(x.abs()));
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!((found - expected).abs() <= tolerance * largest, "{what}: element {i} is {found}, not {expected}");
    }
}

/// What the kernel must give, from its operands and those of these that `fused` names.
fn expected(kernel: &Kernel, fused: Fused, operands: [&[f32]; 2], [scale, bias, residual]: [&[f32]; 3]) -> Vec<f32> {
    let mut inputs = operands.to_vec();
    inputs.extend(fused.scale.then_some(scale));
    inputs.extend(fused.bias.then_some(bias));
    inputs.extend((fused.residual != Residual::None).then_some(residual));
    let inputs: Vec<Vec<f64>> = inputs.iter().map(|x| x.iter().map(|&x| x.into()).collect()).collect();
    let mut out = vec![0.0; Lens::of(kernel).output];
    naive::run(kernel, &inputs.iter().map(Vec::as_slice).collect::<Vec<_>>(), &mut out);
    out.into_iter().map(|y| y as f32).collect()
}

fn fused() -> impl Strategy<Value = Fused> {
    let activation = prop::sample::select(vec![
        None,
        Some(Unary::Relu),
        Some(Unary::Clamp { min: -0.5, max: 0.25 }),
        Some(Unary::LeakyRelu { slope: 0.1 }),
        Some(Unary::Silu),
    ]);
    let residual = prop::sample::select(vec![Residual::None, Residual::BeforeActivation, Residual::AfterActivation]);
    (any::<bool>(), any::<bool>(), activation, residual).prop_map(|(scale, bias, activation, residual)| Fused {
        scale,
        bias,
        activation,
        residual,
    })
}

fn check_conv(step: &ConvStep, threads: usize) {
    let k = step.c_in / step.groups * step.kernel[0] * step.kernel[1];
    let x = random(step.batch * step.input[0] * step.input[1] * step.c_in, 1);
    let w = random(step.c_out * k, 2);
    let out_len = step.batch * step.output[0] * step.output[1] * step.c_out;
    let (scale, bias, residual) = (random(step.c_out, 3), random(step.c_out, 4), random(out_len, 5));
    let kernel = Kernel::Conv2d(step.clone());
    let expected = expected(&kernel, step.fused, [&x, &w], [&scale, &bias, &residual]);
    let pool = Pool::new(threads);
    for isa in isas() {
        let scale = step.fused.scale.then_some(&*scale);
        let method = Method::of(step);
        let weights = ConvWeights::new(step, method, WeightSource::Computed(&w), scale, isa, &pool).unwrap();
        let conv = Conv::new(step, method, isa);
        let (mut out, mut scratch) = (vec![f32::NAN; out_len], vec![f32::NAN; conv.scratch_len()]);
        let bias = step.fused.bias.then_some(&*bias);
        let residual = (step.fused.residual != Residual::None).then_some(&*residual);
        conv.run(&weights, &x, bias, residual, &mut out, &mut scratch, &pool);
        let tolerance = if matches!(Method::of(step), Method::Winograd(_)) { TRANSFORMED } else { TOLERANCE };
        check(&format!("{} {step:?}", isa.name()), k, &out, &expected, tolerance);
    }
}

fn conv_step() -> impl Strategy<Value = ConvStep> {
    let pair = |range: std::ops::RangeInclusive<usize>| [range.clone(), range];
    // 0: one group, 1: depthwise, 2: a few groups.
    let channels = prop_oneof![
        (1usize..=70, 1usize..=70).prop_map(|(i, o)| (1, i, o)),
        (2usize..=70).prop_map(|c| (c, c, c)),
        (2usize..=5, 1usize..=9, 1usize..=20).prop_map(|(g, i, o)| (g, g * i, g * o)),
        (1usize..=3, 1usize..=3).prop_map(|(log, i)| ((16 * i) >> log, 16 * i, 16 * i)),
    ];
    (
        channels,
        pair(1..=7),
        pair(1..=3),
        pair(1..=2),
        pair(0..=3),
        pair(0..=12),
        prop::sample::select(vec![1, 3, 8]),
        fused(),
    )
        .prop_map(|((groups, c_in, c_out), kernel, stride, dilation, padding, extra, batch, fused)| {
            let span = |i: usize| (kernel[i] - 1) * dilation[i] + 1;
            // Padding may differ at the end: the last window may reach past the image by up to `padding`.
            let input = [0, 1].map(|i| (span(i) + extra[i]).saturating_sub(2 * padding[i]).max(1));
            let output = [0, 1].map(|i| (input[i] + 2 * padding[i]).saturating_sub(span(i)) / stride[i] + 1);
            ConvStep { batch, input, c_in, output, c_out, kernel, stride, dilation, padding, groups, fused }
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn convolutions_agree(step in conv_step(), threads in 1usize..=2) {
        check_conv(&step, threads);
    }

    #[test]
    fn transformed_convolutions_of_any_size_agree(
        size in [8usize..=34, 8usize..=34],
        channels in [2usize..=3, 2usize..=4],
        dilation in prop_oneof![2 => Just([1, 1]), 1 => [1usize..=3, 1usize..=3]],
        padding in [0usize..=3, 0usize..=3],
        batch in prop::sample::select(vec![1, 2, 8]),
        fused in fused(),
        threads in 1usize..=2,
    ) {
        let output = [0, 1].map(|i| size[i] + 2 * padding[i] - 2 * dilation[i]);
        let [c_in, c_out] = channels.map(|c| 16 * c);
        let step = ConvStep { batch, input: size, output, padding, dilation, fused, ..conv(c_in, 8, c_out, 3, 1, 0) };
        check_conv(&step, threads);
    }

    #[test]
    fn convolutions_whose_taps_lie_mostly_outside_agree(
        size in [1usize..=15, 1usize..=15],
        channels in [1usize..=40, 1usize..=40],
        kernel in [1usize..=5, 1usize..=5],
        dilation in [1usize..=20, 1usize..=20],
        stride in [1usize..=3, 1usize..=3],
        more in [0usize..=9, 0usize..=9],
        fused in fused(),
        batch in 1usize..=3,
    ) {
        let span = [0, 1].map(|i| (kernel[i] - 1) * dilation[i] + 1);
        let padding = [0, 1].map(|i| span[i] / 2 + more[i]);
        let output = [0, 1].map(|i| (size[i] + 2 * padding[i] - span[i]) / stride[i] + 1);
        let [c_in, c_out] = channels;
        let geometry = conv(c_in, 8, c_out, 1, 1, 0);
        check_conv(&ConvStep { batch, input: size, output, kernel, stride, dilation, padding, fused, ..geometry }, 2);
    }

    #[test]
    fn linears_agree(
        rows in prop_oneof![1usize..=9, 10usize..=50],
        k in prop_oneof![8 => 0usize..=150, 1 => 1000usize..=3200],
        n in 1usize..=150,
        fused in fused(),
        stored in any::<bool>(),
        threads in 1usize..=2,
    ) {
        let step = LinearStep { rows, k, n, fused };
        let (x, w, scale, bias, residual) =
            (random(rows * k, 1), random(n * k, 2), random(n, 3), random(n, 4), random(rows * n, 5));
        let kernel = Kernel::Linear(step.clone());
        let expected = expected(&kernel, fused, [&x, &w], [&scale, &bias, &residual]);
        let pool = Pool::new(threads);
        let tensor = StoredTensor::from_bytes(DType::F32, [n, k], bytemuck::cast_slice::<_, u8>(&w)).unwrap();
        let source = if stored { WeightSource::Stored(&tensor) } else { WeightSource::Computed(&w) };
        for isa in isas() {
            let weights = LinearWeights::new(&step, source, fused.scale.then_some(&*scale), isa, &pool).unwrap();
            let mut out = vec![f32::NAN; rows * n];
            let bias = fused.bias.then_some(&*bias);
            let residual = (fused.residual != Residual::None).then_some(&*residual);
            Linear::new(&step, isa).run(&weights, &x, bias, residual, &mut out, &pool);
            check(&format!("{} {step:?}", isa.name()), k, &out, &expected, TOLERANCE);
        }
    }

    #[test]
    fn matmuls_agree(
        (m, n, k) in (1usize..=60, 1usize..=80, 0usize..=90),
        (outer, inner) in (1usize..=3, 1usize..=3),
        (a_t, b_t, a_broadcast, b_broadcast) in any::<(bool, bool, bool, bool)>(),
        threads in 1usize..=2,
    ) {
        let step = MatmulStep {
            m,
            n,
            k,
            batch: vec![outer, inner],
            a_batch: vec![if a_broadcast { 0 } else { inner * m * k }, m * k],
            b_batch: vec![inner * k * n, if b_broadcast { 0 } else { k * n }],
            a: if a_t { [1, m] } else { [k, 1] },
            b: if b_t { [1, k] } else { [n, 1] },
        };
        let (a, b) = (random(outer * inner * m * k, 1), random(outer * inner * k * n, 2));
        let expected = expected(&Kernel::Matmul(step.clone()), Fused::default(), [&a, &b], [&[]; 3]);
        let pool = Pool::new(threads);
        for isa in isas() {
            let matmul = Matmul::new(&step, isa, threads);
            let (mut out, mut scratch) = (vec![f32::NAN; expected.len()], vec![f32::NAN; matmul.scratch_len()]);
            matmul.run(&a, &b, &mut out, &mut scratch, &pool);
            check(&format!("{} {step:?}", isa.name()), k, &out, &expected, TOLERANCE);
        }
    }
}

fn conv(c_in: usize, size: usize, c_out: usize, kernel: usize, stride: usize, padding: usize) -> ConvStep {
    ConvStep {
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
        fused: Fused { bias: true, ..Fused::default() },
    }
}

/// Every class of convolution on its own, of odd sizes: kernels, strides, dilations, groups, batches.
#[test]
fn every_class_of_convolution_agrees() {
    // One group, depthwise, a few groups with one and with several channels each; even and odd numbers of channels.
    let channels = [
        (1, 16, 32),
        (1, 5, 7),
        (16, 16, 16),
        (7, 7, 7),
        (4, 4, 12),
        (3, 15, 21),
        (8, 16, 16),
        (8, 32, 32),
        (6, 48, 48),
    ];
    for kernel in 1..=7 {
        for stride in 1..=3 {
            for dilation in 1..=2 {
                for (case, (groups, c_in, c_out)) in channels.into_iter().enumerate() {
                    let span = (kernel - 1) * dilation + 1;
                    let (padding, size) = ((kernel + case) % 3, span + 4 + case % 2);
                    let batch = if (kernel + stride + dilation + case) % 2 == 0 { 1 } else { 8 };
                    let step = ConvStep {
                        batch,
                        output: [(size + 2 * padding - span) / stride + 1; 2],
                        stride: [stride; 2],
                        dilation: [dilation; 2],
                        groups,
                        ..conv(c_in, size, c_out, kernel, 1, padding)
                    };
                    check_conv(&step, 1 + case % 2);
                }
            }
        }
    }
}

#[test]
fn first_layers_and_long_kernels_agree() {
    for step in [
        conv(3, 38, 33, 7, 2, 3),
        conv(3, 33, 16, 3, 2, 1),
        conv(3, 32, 24, 4, 4, 0),
        conv(3, 48, 40, 16, 16, 0),
        conv(2, 20, 5, 13, 1, 6),
        // Sums that are taken in parts.
        conv(256, 9, 40, 3, 2, 1),
        conv(2100, 5, 40, 1, 1, 0),
        ConvStep { groups: 6, ..conv(6, 20, 6, 13, 1, 6) },
        ConvStep { dilation: [1, 3], output: [12, 8], ..conv(40, 12, 40, 3, 1, 1) },
    ] {
        check_conv(&step, 2);
    }
}

/// The points that Winograd's transform goes through cost some of the precision.
#[test]
fn transformed_convolutions_agree() {
    for (step, batch, side) in [
        (conv(32, 26, 48, 3, 1, 1), 1, 4),
        (conv(64, 29, 32, 3, 1, 0), 1, 4),
        (conv(32, 14, 64, 3, 1, 2), 5, 4),
        (conv(48, 57, 80, 3, 1, 1), 3, 4),
        (ConvStep { output: [26, 24], padding: [1, 0], ..conv(32, 26, 32, 3, 1, 1) }, 1, 4),
        (conv(128, 28, 32, 3, 1, 1), 1, 4),
        (conv(256, 28, 32, 3, 1, 1), 1, 4),
        (conv(512, 28, 32, 3, 1, 1), 1, 4),
        (conv(1024, 28, 32, 3, 1, 1), 1, 4),
        (conv(1504, 28, 32, 3, 1, 1), 1, 4),
        (conv(256, 14, 64, 3, 1, 1), 1, 2),
        (conv(32, 7, 48, 3, 1, 1), 8, 2),
        (conv(32, 17, 48, 3, 1, 0), 1, 2),
        (ConvStep { dilation: [2; 2], padding: [2; 2], ..conv(256, 27, 32, 3, 1, 1) }, 1, 4),
        (ConvStep { dilation: [4, 1], padding: [4, 1], ..conv(64, 28, 48, 3, 1, 1) }, 1, 4),
        (ConvStep { dilation: [3; 2], padding: [3; 2], ..conv(32, 17, 48, 3, 1, 1) }, 2, 2),
    ] {
        for (activation, residual) in [
            (None, Residual::None),
            (Some(Unary::Relu), Residual::BeforeActivation),
            (Some(Unary::Silu), Residual::AfterActivation),
        ] {
            let fused = Fused { scale: activation.is_some(), bias: true, activation, residual };
            let step = ConvStep { batch, fused, ..step.clone() };
            assert_eq!(Method::of(&step), Method::Winograd(side));
            check_conv(&step, 2);
        }
    }
    // Too few tiles, tiles mostly outside the image, a stride, odd channels.
    assert_eq!(Method::of(&conv(32, 7, 64, 3, 1, 1)), Method::Direct);
    assert_eq!(
        Method::of(&ConvStep { dilation: [12; 2], padding: [12; 2], ..conv(32, 14, 48, 3, 1, 1) }),
        Method::Direct
    );
    assert_eq!(Method::of(&conv(32, 56, 48, 3, 2, 1)), Method::Direct);
    assert_eq!(Method::of(&conv(33, 26, 48, 3, 1, 1)), Method::Direct);
}

/// NaN and infinities reach the outputs whose windows hold them, and no others.
#[test]
fn what_is_not_finite_stays_where_it_is() {
    for (size, side, dilation) in [(29, 4, 1), (13, 2, 1), (31, 4, 2)] {
        let fused =
            Fused { scale: false, bias: true, activation: Some(Unary::Relu), residual: Residual::BeforeActivation };
        let spread = [dilation; 2];
        let step = ConvStep { fused, dilation: spread, padding: spread, ..conv(32, size, 48, 3, 1, 1) };
        assert_eq!(Method::of(&step), Method::Winograd(side));
        let mut x = random(size * size * 32, 1);
        x[5] = f32::NAN;
        x[(7 * size + 9) * 32 + 31] = f32::INFINITY;
        x[(size * size - 1) * 32 + 8] = f32::NEG_INFINITY;
        let (mut w, bias, residual) = (random(48 * 32 * 9, 2), random(48, 4), random(size * size * 48, 5));
        // An infinity times a weight of zero is NaN.
        w.iter_mut().step_by(2).for_each(|w| *w = 0.0);
        let pool = Pool::new(2);
        for infinite in [false, true] {
            if infinite {
                w[17 * 32 * 9 + 4] = f32::INFINITY;
            }
            let expected = expected(&Kernel::Conv2d(step.clone()), fused, [&x, &w], [&[], &bias, &residual]);
            assert!(expected.iter().filter(|y| !y.is_finite()).count() > 48 * 4);
            for isa in isas() {
                let source = WeightSource::Computed(&w);
                let weights = ConvWeights::new(&step, Method::of(&step), source, None, isa, &pool).unwrap();
                let conv = Conv::new(&step, weights.method(), isa);
                assert_eq!(conv.method() == Method::Direct, infinite);
                let (mut out, mut scratch) = (vec![f32::NAN; expected.len()], vec![f32::NAN; conv.scratch_len()]);
                conv.run(&weights, &x, Some(&bias), Some(&residual), &mut out, &mut scratch, &pool);
                for (at, (y, want)) in out.iter().zip(&expected).enumerate() {
                    let agrees = y == want || (y.is_nan() && want.is_nan()) || (y - want).abs() < 1e-4;
                    assert!(agrees, "{} {side}: element {at} is {y}, not {want}", isa.name());
                }
            }
        }
    }
}

#[test]
fn weights_of_any_dtype_and_stride_are_packed() {
    let step = conv(5, 6, 34, 3, 1, 1);
    let halves: Vec<half::f16> = random(34 * 5 * 9, 7).into_iter().map(half::f16::from_f32).collect();
    let floats: Vec<f32> = halves.iter().map(|x| x.to_f32()).collect();
    let half = StoredTensor::from_bytes(DType::F16, [34, 5, 3, 3], bytemuck::cast_slice::<_, u8>(&halves)).unwrap();
    // The same weight stored with its last two dimensions swapped.
    let mut swapped = floats.clone();
    for (to, from) in swapped.chunks_exact_mut(9).zip(floats.chunks_exact(9)) {
        (0..9).for_each(|at| to[at % 3 * 3 + at / 3] = from[at]);
    }
    let storage = crate::checkpoint::Storage::owned(bytemuck::cast_slice::<_, u8>(&swapped), "cpu");
    let strided = StoredTensor::new(storage, DType::F32, [34, 5, 3, 3], vec![45, 9, 1, 3], 0).unwrap();
    let pool = Pool::new(2);
    let pack = |source| {
        let weights = ConvWeights::new(&step, Method::Direct, source, None, Isa::Portable, &pool).unwrap();
        weights.packed().to_vec()
    };
    let expected = pack(WeightSource::Computed(&floats));
    assert_eq!(pack(WeightSource::Stored(&half)), expected);
    assert_eq!(pack(WeightSource::Stored(&strided)), expected);
    let short = WeightSource::Computed(&floats[1..]);
    assert!(ConvWeights::new(&step, Method::Direct, short, None, Isa::Portable, &pool).is_err());
}
