//! What the passes and the lowering make of small networks: how many steps, and that they compute the same, by the
//! naive kernels, as the graph does without the fusing passes.

use std::collections::HashMap;

use super::naive;
use crate::checkpoint::{Storage, StoredTensor};
use crate::dtype::DType;
use crate::graph::step::{Buffer, Kernel, Memory, Schedule, Step};
use crate::graph::{
    Approximate, ConvOptions, Graph, MaxPoolOptions, PadMode, Padding, Var, lower, only_needed, optimize,
};
use crate::models;
use crate::nn::Module as _;
use crate::shape::Shape;
use crate::state_dict::{StateDict, Strict};
use crate::tensor::bytes_to_f32;

/// Small numbers that look random and differ from each other.
fn numbers(len: usize, seed: usize) -> Vec<f32> {
    (0..len).map(|i| (((i * 7919 + seed * 104_729) % 1009) as f32 / 1009.0 - 0.4) * 2.0).collect()
}

struct Net {
    graph: Graph,
    seed: usize,
}

impl Net {
    fn new() -> Self {
        Self { graph: Graph::new(), seed: 1 }
    }

    fn input(&mut self, shape: &[usize]) -> Var {
        self.graph.input(shape.into(), DType::F32)
    }

    /// A parameter with values between -0.8 and 1.2, or about 1 when it is `positive`.
    fn parameter(&mut self, shape: &[usize], positive: bool) -> Var {
        self.seed += 1;
        let mut data = numbers(shape.iter().product(), self.seed);
        if positive {
            data.iter_mut().for_each(|x| *x = x.abs() + 0.5);
        }
        let tensor = StoredTensor::from_bytes(DType::F32, shape, bytemuck::cast_slice(&data)).unwrap();
        self.graph.parameter(&format!("p{}.weight", self.seed), &tensor).unwrap()
    }

    fn conv(&mut self, x: Var, c_out: usize, kernel: usize, bias: bool) -> Var {
        let c_in = self.graph.shape(x)[1];
        let weight = self.parameter(&[c_out, c_in, kernel, kernel], false);
        let bias = bias.then(|| self.parameter(&[c_out], false));
        let options = ConvOptions { padding: Padding::Same, ..ConvOptions::default() };
        self.graph.conv2d(x, weight, bias, &options).unwrap()
    }

    fn batch_norm(&mut self, x: Var) -> Var {
        let c = [self.graph.shape(x)[1]];
        let running = (self.parameter(&c, false), self.parameter(&c, true));
        let affine = (self.parameter(&c, true), self.parameter(&c, false));
        self.graph.batch_norm(x, Some(running), Some(affine), 1e-5).unwrap()
    }

    fn linear(&mut self, x: Var, out: usize) -> Var {
        let features = *self.graph.shape(x).last().unwrap();
        let (weight, bias) = (self.parameter(&[out, features], false), self.parameter(&[out], false));
        self.graph.linear(x, weight, Some(bias)).unwrap()
    }

    /// The names of the steps of a run after all passes, once both ways of running agree on the outputs.
    fn check(mut self, outputs: &[Var]) -> Vec<&'static str> {
        self.graph.set_outputs(outputs.to_vec());
        let plain = only_needed(&self.graph).unwrap();
        let mut answers = Vec::new();
        let mut names = Vec::new();
        for graph in [plain, optimize(&self.graph).unwrap()] {
            for separate in [false, true] {
                let schedule = lower(&graph, separate, 4).unwrap();
                answers.push(execute(&schedule));
                names = schedule.steps.iter().map(|step| step.kernel.name()).collect();
            }
        }
        for answer in &answers[1..] {
            for (a, b) in answer.iter().flatten().zip(answers[0].iter().flatten()) {
                assert!((a - b).abs() <= 1e-4 * b.abs().max(1.0), "{a} {b}: {names:?}");
            }
        }
        names
    }
}

/// Runs a schedule by the naive kernels, with buffers in the arenas where the planner has put them.
fn execute(schedule: &Schedule) -> Vec<Vec<f64>> {
    let mut arenas: Vec<Vec<f64>> = schedule.arenas.iter().map(|bytes| vec![f64::NAN; bytes / 4]).collect();
    let mut constants: HashMap<usize, Vec<f64>> = HashMap::new();
    for (i, Buffer { memory, len, .. }) in schedule.buffers.iter().enumerate() {
        let data = match memory {
            Memory::Parameter(p) => bytes_to_f32(p.tensor.dtype(), &p.tensor.contiguous_bytes().unwrap()).unwrap(),
            Memory::Constant(tensor) => tensor.to_f32().unwrap(),
            Memory::Derived(_) => vec![f32::NAN; *len],
            Memory::Arena { .. } => continue,
        };
        constants.insert(i, data.into_iter().map(f64::from).collect());
    }
    for (i, port) in schedule.inputs.iter().enumerate() {
        let Memory::Arena { arena, offset } = schedule.buffers[port.buffer.0].memory else { panic!("an arena input") };
        let data = numbers(port.shape.numel(), 1000 + i);
        for (slot, x) in arenas[arena][offset / 4..].iter_mut().zip(data) {
            *slot = x.into();
        }
    }
    let read = |id: usize, arenas: &[Vec<f64>], constants: &HashMap<usize, Vec<f64>>| match schedule.buffers[id].memory
    {
        Memory::Arena { arena, offset } => arenas[arena][offset / 4..][..schedule.buffers[id].len].to_vec(),
        _ => constants[&id].clone(),
    };
    for Step { kernel, inputs, output, .. } in schedule.prologue.iter().chain(&schedule.steps) {
        let data: Vec<Vec<f64>> =
            inputs.iter().map(|arg| read(arg.buffer.0, &arenas, &constants)[arg.offset..].to_vec()).collect();
        let mut out = read(output.buffer.0, &arenas, &constants);
        naive::run(kernel, &data.iter().map(Vec::as_slice).collect::<Vec<_>>(), &mut out[output.offset..]);
        match schedule.buffers[output.buffer.0].memory {
            Memory::Arena { arena, offset } => arenas[arena][offset / 4..][..out.len()].copy_from_slice(&out),
            _ => drop(constants.insert(output.buffer.0, out)),
        }
    }
    schedule.outputs.iter().map(|port| read(port.buffer.0, &arenas, &constants)).collect()
}

#[test]
fn a_residual_block_is_two_convolutions() {
    let mut net = Net::new();
    let image = net.input(&[2, 3, 6, 5]);
    let x = net.conv(image, 8, 3, false);
    let x = net.batch_norm(x);
    let x = net.graph.relu(x).unwrap();
    let y = net.conv(x, 8, 3, false);
    let y = net.batch_norm(y);
    let y = net.graph.add(y, x).unwrap();
    let y = net.graph.relu(y).unwrap();
    // One copy to channels last, one back for the output.
    assert_eq!(net.check(&[y]), ["pointwise", "conv2d", "conv2d", "pointwise"]);
}

#[test]
fn a_downsampling_block_fuses_its_shortcut_whatever_the_order() {
    for swapped in [false, true] {
        let mut net = Net::new();
        let image = net.input(&[1, 4, 4, 4]);
        let y = net.conv(image, 8, 3, true);
        let y = net.batch_norm(y);
        let shortcut = net.conv(image, 8, 1, false);
        let shortcut = net.batch_norm(shortcut);
        let (a, b) = if swapped { (shortcut, y) } else { (y, shortcut) };
        let y = net.graph.add(a, b).unwrap();
        let y = net.graph.relu(y).unwrap();
        let y = net.graph.mean(y, &[2, 3], false).unwrap();
        assert_eq!(net.check(&[y]), ["pointwise", "conv2d", "conv2d", "mean"]);
    }
}

#[test]
fn a_convolution_that_is_used_twice_keeps_its_value() {
    let mut net = Net::new();
    let image = net.input(&[1, 3, 4, 4]);
    let x = net.conv(image, 4, 1, true);
    let y = net.graph.relu(x).unwrap();
    let z = net.graph.mul(y, x).unwrap();
    let pooled = net.graph.mean(z, &[-1, -2], true).unwrap();
    assert_eq!(net.check(&[pooled, x]), ["pointwise", "conv2d", "pointwise", "mean", "pointwise"]);
}

#[test]
fn batch_norm_before_a_convolution_and_chains_are_one_kernel() {
    let mut net = Net::new();
    let image = net.input(&[1, 5, 4, 4]);
    let x = net.batch_norm(image);
    let x = net.graph.relu(x).unwrap();
    let x = net.graph.add_scalar(x, 0.5).unwrap();
    let x = net.graph.sigmoid(x).unwrap();
    let y = net.conv(x, 6, 3, false);
    let y = net.graph.mul_scalar(y, 0.5).unwrap();
    let y = net.graph.silu(y).unwrap();
    let y = net.graph.amax(y, &[2, 3], false).unwrap();
    assert_eq!(net.check(&[y]), ["pointwise", "pointwise", "conv2d", "amax"]);
}

#[test]
fn a_convnext_block_needs_no_copies() {
    let mut net = Net::new();
    let image = net.input(&[1, 3, 8, 8]);
    let x = net.conv(image, 4, 3, true);
    let y = net.conv(x, 4, 7, true);
    let y = net.graph.permute(y, &[0, 2, 3, 1]).unwrap();
    let (weight, bias) = (net.parameter(&[4], true), net.parameter(&[4], false));
    let y = net.graph.layer_norm(y, &[4], Some(weight), Some(bias), 1e-6).unwrap();
    let y = net.linear(y, 16);
    let y = net.graph.gelu(y, Approximate::None).unwrap();
    let y = net.linear(y, 4);
    let y = net.graph.permute(y, &[0, 3, 1, 2]).unwrap();
    let scale = net.parameter(&[4, 1, 1], false);
    let y = net.graph.mul(y, scale).unwrap();
    let y = net.graph.add(y, x).unwrap();
    let y = net.graph.mean(y, &[2, 3], false).unwrap();
    assert_eq!(net.check(&[y]), ["pointwise", "conv2d", "conv2d", "layer_norm", "linear", "linear", "mean"]);
}

#[test]
fn an_attention_block_reads_its_heads_in_place() {
    let mut net = Net::new();
    let x = net.input(&[2, 5, 8]);
    let qkv = net.linear(x, 24);
    let heads = |graph: &mut Graph, x: Var| {
        let x = graph.reshape(x, &[2, 5, 2, 4]).unwrap();
        graph.transpose(x, 1, 2).unwrap()
    };
    let parts = net.graph.chunk(qkv, 3, -1).unwrap();
    let [q, k, v] = [0, 1, 2].map(|i| heads(&mut net.graph, parts[i]));
    let y = net.graph.scaled_dot_product_attention(q, k, v, None, false, None).unwrap();
    let y = net.graph.transpose(y, 1, 2).unwrap();
    let y = net.graph.reshape(y, &[2, 5, 8]).unwrap();
    let y = net.linear(y, 8);
    let y = net.graph.add(x, y).unwrap();
    assert_eq!(net.check(&[y]), ["linear", "scaled_dot_product_attention", "linear"]);
}

#[test]
fn a_1d_convolution_takes_its_batch_norm_and_activation() {
    let mut net = Net::new();
    let x = net.input(&[2, 3, 9]);
    let weight = net.parameter(&[4, 3, 3], false);
    let y = net.graph.conv1d(x, weight, None, &ConvOptions::default()).unwrap();
    let y = net.batch_norm(y);
    let y = net.graph.relu(y).unwrap();
    let y = net.graph.mean(y, &[2], false).unwrap();
    assert_eq!(net.check(&[y]), ["pointwise", "conv2d", "mean"]);
}

#[test]
fn layouts_and_views_survive_every_kind_of_step() {
    let mut net = Net::new();
    let x = net.input(&[2, 3, 4, 6]);
    let t = net.graph.transpose(x, 1, 3).unwrap();
    let t = net.graph.slice(t, 1, 1, 6, 2).unwrap();
    let a = net.graph.softmax(t, 1).unwrap();
    let b = net.graph.pad(t, &[(0, 0), (1, 0), (0, 2), (1, 1)], PadMode::Reflect).unwrap();
    let c = net.graph.cat(&[t, a], -1).unwrap();
    let d = net.graph.sum(c, &[0, 2], true).unwrap();
    let e = net.graph.max_pool2d(t, &MaxPoolOptions::new([2, 2])).unwrap();
    let f = net.graph.transpose(t, 2, 3).unwrap();
    let f = net.graph.matmul(t, f).unwrap();
    let g = net.graph.reshape(t, &[6, -1]).unwrap();
    let h = net.graph.layer_norm(t, &[4, 3], None, None, 1e-5).unwrap();
    let i = net.graph.expand(d, &[2, -1, -1, -1]).unwrap();
    let j = net.graph.adaptive_avg_pool2d(b, [Some(3), Some(2)]).unwrap();
    let k = net.graph.neg(i).unwrap();
    let names = net.check(&[a, b, c, d, e, f, g, h, i, j, k, x, x]);
    assert!(names.len() > 12, "{names:?}");
}

#[test]
fn constants_alone_make_an_output() {
    let mut net = Net::new();
    let _unused = net.input(&[2]);
    let p = net.parameter(&[3], false);
    let q = net.graph.relu(p).unwrap();
    assert_eq!(net.check(&[p, q]), ["pointwise", "pointwise"]);
}

#[test]
fn empty_tensors_have_no_steps() {
    let mut net = Net::new();
    let x = net.input(&[0, 4]);
    let y = net.linear(x, 3);
    let y = net.graph.relu(y).unwrap();
    assert!(net.check(&[y]).is_empty());
}

#[test]
fn errors_name_the_weight() {
    let mut net = Net::new();
    let x = net.input(&[2, 4]);
    let tensor = StoredTensor::from_bytes(DType::F32, [4, 3], vec![0; 48]).unwrap();
    let weight = net.graph.parameter("body.0.weight", &tensor).unwrap();
    assert_eq!(
        net.graph.linear(x, weight, None).unwrap_err().to_string(),
        "linear: input [2, 4] has 4 features, weight `body.0.weight` [4, 3] expects 3"
    );
}

/// A tensor of one number again and again, in the memory of one.
fn constant(dtype: DType, shape: Shape) -> StoredTensor {
    let one = Storage::owned([0, 0, 0, 61, 0, 0, 0, 0], "cpu");
    let stride = vec![0; shape.len()];
    StoredTensor::new(one, dtype, shape, stride, 0).unwrap()
}

/// The schedule of an architecture for one image, or for one row of an `mlp` of three layers, with weights that take no
/// memory.
pub(crate) fn schedule_of(name: &str, size: usize) -> Schedule {
    let mut layers = StateDict::new();
    let is_mlp = name == "mlp";
    for (layer, shape) in [("0", [512, size]), ("2", [512, 512]), ("4", [10, 512])].into_iter().filter(|_| is_mlp) {
        layers.insert(format!("{layer}.weight"), constant(DType::F32, shape.into()));
        layers.insert(format!("{layer}.bias"), constant(DType::F32, [shape[0]].into()));
    }
    let mut net = models::by_name(name, &layers).unwrap();
    let mut state = StateDict::new();
    let parameters = net.named_parameters().into_iter().map(|(name, slot)| (name, slot.shape().clone()));
    let buffers = net.named_buffers().into_iter().map(|(name, slot)| (name, slot.shape().clone()));
    for (name, shape) in parameters.chain(buffers) {
        let dtype = if name.ends_with("num_batches_tracked") { DType::I64 } else { DType::F32 };
        state.insert(name, constant(dtype, shape));
    }
    net.load_state_dict(&state, Strict::Yes).unwrap();
    let mut graph = Graph::new();
    let shape = if is_mlp { [1, size].into() } else { [1, 3, size, size].into() };
    let x = graph.input(shape, DType::F32);
    let y = net.forward(&mut graph, x).unwrap();
    graph.set_outputs(vec![y]);
    lower(&optimize(&graph).unwrap(), true, 4).unwrap()
}

#[test]
fn architectures_take_few_steps() {
    for (name, most) in [("resnet18", 25), ("resnet50", 58), ("mobilenet_v2", 56), ("vgg16", 25), ("vit_b_16", 10 * 12)]
    {
        let steps = schedule_of(name, 224).steps.len();
        assert!(steps <= most, "{name}: {steps} steps, at most {most} are expected");
    }
}

#[test]
fn kernels_have_names() {
    let softmax = Kernel::Softmax { outer: 1, len: 1, inner: 1, log: true };
    assert_eq!(softmax.name(), "log_softmax");
}
