//! Cases of `Linear`, `Matmul`, `Conv2d`.

#[cfg(feature = "gpu")]
use super::Data;
use super::{Case, Random, Value};
use crate::dtype::DType;
use crate::graph::op::{Fused, Residual, Unary};
use crate::graph::step::{ConvStep, Kernel, LinearStep, MatmulStep};

pub(super) fn cases() -> Vec<Case> {
    let mut cases = linear();
    cases.extend(matmul());
    cases.extend(conv2d());
    cases
}

/// Every combination of scale, bias, residual, without and with an activation.
fn every_fused() -> Vec<(String, Fused)> {
    let mut all = Vec::new();
    for (scale, bias) in [(false, false), (false, true), (true, false), (true, true)] {
        for residual in [Residual::None, Residual::BeforeActivation, Residual::AfterActivation] {
            for activation in [None, Some(Unary::Relu), Some(Unary::Gelu)] {
                let fused = Fused { scale, bias, activation, residual };
                let name = activation.map_or("none", Unary::name);
                all.push((format!("scale_{scale} bias_{bias} {residual:?} {name}"), fused));
            }
        }
    }
    all
}

/// Every activation after a bias.
fn every_activation() -> Vec<Fused> {
    let activations = super::point::every_unary().into_iter().filter(|op| op.is_activation()).filter(|&op| {
        // These are not defined for all numbers.
        !matches!(op, Unary::Log | Unary::Sqrt | Unary::Rsqrt)
    });
    activations.map(|op| Fused { bias: true, activation: Some(op), ..Fused::default() }).collect()
}

/// The inputs that `fused` asks for after the weight.
fn fused_inputs(random: &mut Random, fused: &Fused, channels: usize, out: usize) -> Vec<Value> {
    let mut inputs = Vec::new();
    if fused.scale {
        inputs.push(Value::parameter(&[channels], random.exact(channels)));
    }
    if fused.bias {
        inputs.push(Value::parameter(&[channels], random.exact(channels)));
    }
    if fused.residual != Residual::None {
        inputs.push(random.floats(out, 1.0).into());
    }
    inputs
}

/// The error that rounding may make in a sum of `k` products of numbers below 1.
fn tolerance(k: usize) -> f64 {
    2e-5 * (k.max(1) as f64).sqrt()
}

fn linear_case(name: &str, [rows, k, n]: [usize; 3], fused: Fused, dtype: DType, strided: bool) -> Case {
    let name = format!("linear {rows}x{k}x{n} {name}");
    let mut random = Random::new(&name);
    let weight = Value::parameter(&[n, k], random.exact(n * k)).stored_as(dtype, strided);
    let mut inputs = vec![random.floats(rows * k, 1.0).into(), weight];
    inputs.extend(fused_inputs(&mut random, &fused, n, rows * n));
    Case::new(name, Kernel::Linear(LinearStep { rows, k, n, fused }), inputs, rows * n, tolerance(k))
}

fn linear() -> Vec<Case> {
    let bias = Fused { bias: true, ..Fused::default() };
    let mut cases = Vec::new();
    for sizes in [
        [0, 5, 3],
        [3, 0, 5],
        [13, 0, 40],
        [1, 1, 1],
        [1, 3, 1000],
        [1, 384, 7],
        [8, 516, 5],
        [1, 513, 17],
        [1, 1024, 256],
        [2, 7, 5],
        [3, 64, 64],
        [5, 31, 33],
        [13, 129, 65],
        [17, 65, 129],
        [64, 64, 64],
        [65, 257, 67],
        [131, 40, 130],
        [197, 48, 144],
        [130, 515, 19],
    ] {
        cases.push(linear_case("plain", sizes, Fused::default(), DType::F32, false));
        cases.push(linear_case("bias", sizes, bias, DType::F32, false));
    }
    for (dtype, strided) in
        [(DType::F16, false), (DType::BF16, false), (DType::F64, false), (DType::F32, true), (DType::BF16, true)]
    {
        cases.push(linear_case(&format!("{dtype} strided_{strided}"), [3, 37, 21], bias, dtype, strided));
        cases.push(linear_case(&format!("{dtype} strided_{strided}"), [1, 37, 21], bias, dtype, strided));
        cases.push(linear_case(&format!("{dtype} strided_{strided}"), [70, 24, 72], bias, dtype, strided));
    }
    for (name, fused) in every_fused() {
        for sizes in [[1, 19, 23], [7, 19, 23], [33, 20, 68]] {
            cases.push(linear_case(&name, sizes, fused, DType::F32, false));
        }
    }
    for fused in every_activation() {
        let name = format!("{:?}", fused.activation.expect("set"));
        cases.push(linear_case(&format!("then {name}"), [9, 6, 35], fused, DType::F32, false));
        cases.push(linear_case(&format!("then {name}"), [1, 6, 35], fused, DType::F32, false));
    }
    cases
}

fn matmul_case(name: &str, step: MatmulStep, a_offset: usize, b_offset: usize) -> Case {
    let name = format!("matmul {}x{}x{} batch {:?} {name}", step.m, step.k, step.n, step.batch);
    let mut random = Random::new(&name);
    let reach = |batch_strides: &[usize], sizes: [usize; 2], strides: [usize; 2]| {
        let last = |n: usize, s: usize| n.saturating_sub(1) * s;
        let batch: usize = step.batch.iter().zip(batch_strides).map(|(&n, &s)| last(n, s)).sum();
        batch + last(sizes[0], strides[0]) + last(sizes[1], strides[1]) + 1
    };
    let a = random.floats(reach(&step.a_batch, [step.m, step.k], step.a) + a_offset, 1.0);
    let b = random.floats(reach(&step.b_batch, [step.k, step.n], step.b) + b_offset, 1.0);
    let (mut a, mut b): (Value, Value) = (a.into(), b.into());
    (a.offset, b.offset) = (a_offset, b_offset);
    let out = step.batch.iter().product::<usize>() * step.m * step.n;
    let tolerance = tolerance(step.k);
    Case::new(name, Kernel::Matmul(step), vec![a, b], out, tolerance)
}

fn matmul() -> Vec<Case> {
    let mut cases = Vec::new();
    for [m, k, n] in [[1, 1, 1], [0, 3, 2], [2, 0, 3], [1, 300, 5], [7, 1, 9], [5, 17, 3], [64, 64, 64], [67, 33, 130]]
    {
        let step = MatmulStep { m, n, k, batch: vec![], a_batch: vec![], b_batch: vec![], a: [k, 1], b: [n, 1] };
        cases.push(matmul_case("plain", step.clone(), 0, 0));
        cases.push(matmul_case("a transposed", MatmulStep { a: [1, m], ..step.clone() }, 3, 0));
        cases.push(matmul_case("b transposed", MatmulStep { b: [1, k], ..step.clone() }, 0, 4));
        cases.push(matmul_case("both transposed", MatmulStep { a: [1, m], b: [1, k], ..step.clone() }, 5, 1));
        let gaps = MatmulStep { a: [2 * k + 1, 2], b: [3 * n, 3], ..step };
        cases.push(matmul_case("gaps", gaps, 1, 2));
    }
    let (m, n, k) = (19, 21, 23);
    let step = MatmulStep {
        m,
        n,
        k,
        batch: vec![3, 2],
        a_batch: vec![2 * m * k, m * k],
        b_batch: vec![2 * k * n, k * n],
        a: [k, 1],
        b: [n, 1],
    };
    cases.push(matmul_case("batched", step.clone(), 0, 0));
    cases.push(matmul_case("b broadcasts", MatmulStep { b_batch: vec![0, 0], ..step.clone() }, 0, 0));
    cases.push(matmul_case(
        "each broadcasts",
        MatmulStep { a_batch: vec![m * k, 0], b_batch: vec![0, k * n], ..step },
        0,
        0,
    ));
    // The layout of attention's heads: [tokens, heads, head_dim].
    let (tokens, heads, dim) = (35, 4, 16);
    let step = MatmulStep {
        m: tokens,
        n: tokens,
        k: dim,
        batch: vec![1, 2, heads],
        a_batch: vec![0, tokens * heads * dim, dim],
        b_batch: vec![0, tokens * heads * dim, dim],
        a: [heads * dim, 1],
        b: [1, heads * dim],
    };
    cases.push(matmul_case("heads", step, 0, 0));
    cases
}

/// A convolution of stride 1 without padding, dilation or groups, over an image as large as it takes.
fn conv(c_in: usize, c_out: usize, kernel: [usize; 2], output: [usize; 2]) -> ConvStep {
    ConvStep {
        batch: 1,
        input: [output[0] + kernel[0] - 1, output[1] + kernel[1] - 1],
        c_in,
        output,
        c_out,
        kernel,
        stride: [1, 1],
        dilation: [1, 1],
        padding: [0, 0],
        groups: 1,
        fused: Fused::default(),
    }
}

fn conv_case(name: &str, step: ConvStep, dtype: DType, strided: bool) -> Case {
    let name = format!("conv2d {name}");
    let mut random = Random::new(&name);
    let in_group = step.c_in / step.groups;
    let shape = [step.c_out, in_group, step.kernel[0], step.kernel[1]];
    let x = random.floats(step.batch * step.input[0] * step.input[1] * step.c_in, 1.0);
    let weight = Value::parameter(&shape, random.exact(shape.iter().product())).stored_as(dtype, strided);
    let out = step.batch * step.output[0] * step.output[1] * step.c_out;
    let mut inputs = vec![x.into(), weight];
    inputs.extend(fused_inputs(&mut random, &step.fused, step.c_out, out));
    let tolerance = tolerance(in_group * step.kernel[0] * step.kernel[1]);
    Case::new(name, Kernel::Conv2d(step), inputs, out, tolerance)
}

/// A 3x3 convolution of stride 1 of an image with zeros around it.
#[cfg(feature = "gpu")]
pub(crate) fn square_conv2d(c_in: usize, c_out: usize, output: [usize; 2]) -> Case {
    let step = ConvStep { input: output, padding: [1, 1], ..conv(c_in, c_out, [3, 3], output) };
    conv_case(&format!("3x3 {c_in} to {c_out} {output:?}"), step, DType::F32, false)
}

/// Products with more workgroups than a grid has along a dimension; and convolutions that may be cut by groups, images, rows
/// and columns, of single channels and of quads.
#[cfg(feature = "gpu")]
pub(crate) fn large() -> Vec<Case> {
    let count = 70_000;
    let batch = |m, k, n| MatmulStep {
        m,
        n,
        k,
        batch: vec![2, count / 2],
        a_batch: vec![count / 2 * m * k, m * k],
        b_batch: vec![count / 2 * k * n, k * n],
        a: [k, 1],
        b: [n, 1],
    };
    let mut cases = vec![matmul_case("many", batch(2, 3, 1), 0, 0)];
    let mut add = |name: &str, step: ConvStep| cases.push(conv_case(name, step, DType::F32, false));
    add("many groups", ConvStep { groups: count, ..conv(count, 2 * count, [1, 1], [1, 1]) });
    let fused = Fused { scale: true, bias: true, activation: Some(Unary::Relu), residual: Residual::BeforeActivation };
    for (c_in, c_out, groups) in [(3, 5, 1), (4, 8, 1), (6, 280, 2), (24, 36, 3), (16, 32, 4)] {
        let step = ConvStep { batch: 2, padding: [1, 2], groups, fused, ..conv(c_in, c_out, [3, 2], [3, 131]) };
        let name = format!("{c_in} to {c_out} in {groups}");
        add(&format!("{name} by columns"), ConvStep { input: [5, 260], stride: [2, 2], ..step.clone() });
        add(&format!("{name} by rows"), ConvStep { input: [131, 9], dilation: [1, 2], output: [131, 11], ..step });
        add(&format!("{name} 1x1"), ConvStep { batch: 3, groups, fused, ..conv(c_in, c_out, [1, 1], [7, 41]) });
    }
    cases.push(linear_case("many rows", [300, 6, 9], fused, DType::F16, false));
    cases
}

/// Convolutions and linear layers of sizes that are drawn: channels beside the powers of two, strides, dilation, groups, what
/// is fused, the dtype of the weight, and sometimes numbers that are not finite.
#[cfg(feature = "gpu")]
pub(crate) fn drawn(seed: &str, count: usize) -> Vec<Case> {
    let mut random = Random::new(seed);
    let mut cases = Vec::new();
    while cases.len() < count {
        let name = format!("{seed} {}", cases.len());
        let (_, fused) = every_fused().remove(random.below(every_fused().len()));
        let dtype = [DType::F32, DType::F32, DType::F16, DType::BF16, DType::F64][random.below(5)];
        let strided = random.below(3) == 0;
        let mut case = if random.below(5) == 0 {
            let sizes = [13, 300, 300].map(|most| 1 + random.below(most));
            linear_case(&name, sizes, fused, dtype, strided)
        } else {
            match drawn_conv(&mut random, fused) {
                Some(step) => conv_case(&name, step, dtype, strided),
                None => continue,
            }
        };
        case.name = format!("{} of {dtype} strided_{strided}: {:?}", case.name, case.kernel);
        if random.below(4) == 0 {
            // Whether an infinite weight meets the zeros around an image is nobody's promise.
            let meets_zeros = matches!(&case.kernel, Kernel::Conv2d(conv) if conv.padding != [0, 0]);
            for value in &mut case.inputs[..if meets_zeros { 1 } else { 2 }] {
                let Data::F32(data) = &mut value.data else { unreachable!("floats") };
                let at = random.below(data.len());
                data[at] = [f32::INFINITY, f32::NEG_INFINITY, f32::NAN][random.below(3)];
            }
        }
        cases.push(case);
    }
    cases
}

/// A convolution that is not too large for the reference; nothing when the kernel does not fit into the image.
#[cfg(feature = "gpu")]
fn drawn_conv(random: &mut Random, fused: Fused) -> Option<ConvStep> {
    const CHANNELS: [usize; 14] = [1, 2, 3, 4, 5, 8, 12, 16, 63, 64, 65, 128, 255, 257];
    let mut pick = |all: &[usize]| all[random.below(all.len())];
    let (mut c_in, mut c_out, batch) = (pick(&CHANNELS), pick(&CHANNELS), pick(&[1, 1, 2, 3]));
    let is_square = pick(&[0, 1]) == 1;
    let mut groups = 1;
    if !is_square {
        groups = match pick(&[0, 0, 1, 2, 3]) {
            1 => c_in,
            g => g.max(1),
        };
        (c_in, c_out) = (c_in.next_multiple_of(groups), c_out.next_multiple_of(groups));
    }
    let mut per_side = |square: usize, all: &[usize]| [0, 1].map(|_| if is_square { square } else { pick(all) });
    let (kernel, stride, dilation) =
        (per_side(3, &[1, 2, 3, 5, 7]), per_side(1, &[1, 2, 3]), per_side(1, &[1, 1, 2, 3]));
    let input = [0, 1].map(|_| 1 + random.below(15));
    let padding = kernel.map(|size| random.below(size));
    let out = |d: usize| {
        let (reach, size) = (dilation[d] * (kernel[d] - 1) + 1, input[d] + 2 * padding[d]);
        (size >= reach).then(|| (size - reach) / stride[d] + 1)
    };
    let output = [out(0)?, out(1)?];
    let products = batch * output[0] * output[1] * c_out * (c_in / groups) * kernel[0] * kernel[1];
    let step = ConvStep { batch, input, c_in, output, c_out, kernel, stride, dilation, padding, groups, fused };
    (products < 4_000_000).then_some(step)
}

fn conv2d() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |name: &str, step: ConvStep| cases.push(conv_case(name, step, DType::F32, false));
    // Dense.
    add("1x1", conv(16, 24, [1, 1], [7, 9]));
    add("1x1 odd", conv(5, 7, [1, 1], [3, 11]));
    add("1x1 one pixel", conv(33, 65, [1, 1], [1, 1]));
    add("1x1 batch", ConvStep { batch: 3, ..conv(20, 17, [1, 1], [5, 5]) });
    add("1x1 deep", conv(515, 66, [1, 1], [3, 3]));
    add("1x1 stride 2", ConvStep { input: [14, 13], stride: [2, 2], ..conv(12, 20, [1, 1], [7, 7]) });
    add("1x1 padded", ConvStep { input: [3, 3], padding: [1, 1], ..conv(4, 4, [1, 1], [5, 5]) });
    add("3x3", ConvStep { input: [14, 14], padding: [1, 1], ..conv(32, 64, [3, 3], [14, 14]) });
    add("3x3 odd", ConvStep { input: [13, 7], padding: [1, 1], ..conv(13, 19, [3, 3], [13, 7]) });
    add("3x3 batch", ConvStep { batch: 2, input: [9, 10], padding: [1, 1], ..conv(6, 34, [3, 3], [9, 10]) });
    add("3x3 stride 2", ConvStep { input: [15, 15], stride: [2, 2], padding: [1, 1], ..conv(16, 16, [3, 3], [8, 8]) });
    add("3x3 no padding", conv(8, 8, [3, 3], [6, 5]));
    add("3x3 one channel", ConvStep { input: [8, 8], padding: [1, 1], ..conv(1, 16, [3, 3], [8, 8]) });
    add("3x3 wide", ConvStep { input: [3, 130], padding: [1, 1], ..conv(4, 8, [3, 3], [3, 130]) });
    add("7x7 stem", ConvStep { input: [31, 33], stride: [2, 2], padding: [3, 3], ..conv(3, 64, [7, 7], [16, 17]) });
    add("4x4 patches", ConvStep { input: [16, 12], stride: [4, 4], ..conv(3, 24, [4, 4], [4, 3]) });
    add("stride over kernel", ConvStep { input: [11, 11], stride: [3, 4], ..conv(5, 6, [2, 2], [4, 3]) });
    add("1x7", ConvStep { input: [5, 17], padding: [0, 3], ..conv(9, 10, [1, 7], [5, 17]) });
    add("5x1", ConvStep { input: [17, 5], padding: [2, 0], ..conv(9, 10, [5, 1], [17, 5]) });
    add("dilation", ConvStep { input: [12, 12], dilation: [2, 3], padding: [2, 3], ..conv(8, 12, [3, 3], [12, 12]) });
    // The zeros below and to the right are said by the output's size.
    add("same, even kernel", ConvStep { input: [7, 7], padding: [1, 1], ..conv(4, 6, [4, 4], [7, 7]) });
    add("zeros below only", ConvStep { input: [6, 6], stride: [2, 2], ..conv(4, 6, [3, 3], [3, 3]) });
    add("padding over image", ConvStep { input: [2, 1], padding: [4, 4], ..conv(3, 5, [3, 3], [8, 7]) });
    add("empty batch", ConvStep { batch: 0, ..conv(4, 8, [3, 3], [4, 4]) });
    add("bottleneck", ConvStep { input: [28, 28], padding: [1, 1], ..conv(64, 64, [3, 3], [28, 28]) });
    let fused = Fused { bias: true, activation: Some(Unary::Relu), ..Fused::default() };
    add("3x3 large", ConvStep { input: [10, 21], padding: [1, 1], fused, ..conv(10, 130, [3, 3], [10, 21]) });
    add("3x3 large odd", ConvStep { batch: 2, ..conv(7, 131, [3, 2], [11, 6]) });
    // Grouped and depthwise.
    add("groups large", ConvStep { groups: 2, ..conv(12, 260, [2, 2], [9, 15]) });
    add("groups", ConvStep { groups: 4, input: [6, 6], padding: [1, 1], ..conv(16, 32, [3, 3], [6, 6]) });
    add("groups odd", ConvStep { groups: 3, input: [5, 7], padding: [1, 1], ..conv(15, 21, [3, 3], [5, 7]) });
    add("groups of 1 to 2", ConvStep { groups: 6, input: [5, 7], padding: [1, 1], ..conv(6, 12, [3, 3], [5, 7]) });
    add("groups 1x1", ConvStep { groups: 2, batch: 2, ..conv(34, 18, [1, 1], [5, 5]) });
    for channels in [1, 3, 16, 35, 64, 130] {
        let step =
            ConvStep { groups: channels, input: [9, 8], padding: [1, 1], ..conv(channels, channels, [3, 3], [9, 8]) };
        add(&format!("depthwise {channels}"), step.clone());
        add(&format!("depthwise {channels} stride 2"), ConvStep { stride: [2, 2], output: [5, 4], ..step });
    }
    let depthwise = |c, kernel, output| ConvStep { groups: c, ..conv(c, c, kernel, output) };
    add("depthwise 7x7", ConvStep { input: [14, 15], padding: [3, 3], ..depthwise(48, [7, 7], [14, 15]) });
    add("depthwise 5x5", ConvStep { batch: 2, input: [7, 7], padding: [2, 2], ..depthwise(40, [5, 5], [7, 7]) });
    add(
        "depthwise dilated",
        ConvStep { input: [9, 9], padding: [2, 2], dilation: [2, 2], ..depthwise(20, [3, 3], [9, 9]) },
    );
    add("depthwise tiny image", ConvStep { input: [2, 2], padding: [3, 3], ..depthwise(24, [7, 7], [2, 2]) });
    // Fused.
    for (name, fused) in every_fused() {
        let dense = ConvStep { input: [5, 6], padding: [1, 1], fused, ..conv(9, 18, [3, 3], [5, 6]) };
        add(&format!("3x3 {name}"), dense);
        add(&format!("1x1 {name}"), ConvStep { fused, ..conv(12, 36, [1, 1], [5, 5]) });
        let c_out = if fused.bias { 20 } else { 18 };
        let quads = ConvStep { batch: 2, input: [6, 7], padding: [1, 1], fused, ..conv(8, c_out, [3, 3], [6, 7]) };
        add(&format!("3x3 quads {name}"), quads);
        add(
            &format!("depthwise {name}"),
            ConvStep { fused, input: [5, 5], padding: [1, 1], ..depthwise(21, [3, 3], [5, 5]) },
        );
        add(&format!("groups {name}"), ConvStep { groups: 2, fused, ..conv(8, 12, [2, 2], [3, 3]) });
    }
    for fused in every_activation() {
        let name = format!("{:?}", fused.activation.expect("set"));
        add(&format!("then {name}"), ConvStep { fused, ..conv(3, 20, [2, 2], [3, 5]) });
        add(&format!("depthwise then {name}"), ConvStep { fused, ..depthwise(20, [2, 2], [3, 5]) });
    }
    for (dtype, strided) in [(DType::F16, false), (DType::BF16, true), (DType::F64, false), (DType::F32, true)] {
        let name = format!("{dtype} strided_{strided}");
        let fused = Fused { scale: true, bias: true, ..Fused::default() };
        let step = ConvStep { input: [6, 6], padding: [1, 1], fused, ..conv(10, 18, [3, 3], [6, 6]) };
        cases.push(conv_case(&format!("3x3 {name}"), step, dtype, strided));
        let step = ConvStep { fused, ..conv(10, 18, [1, 1], [6, 6]) };
        cases.push(conv_case(&format!("1x1 {name}"), step, dtype, strided));
        let step = ConvStep { input: [6, 6], padding: [1, 1], fused, ..depthwise(18, [3, 3], [6, 6]) };
        cases.push(conv_case(&format!("depthwise {name}"), step, dtype, strided));
    }
    cases
}
