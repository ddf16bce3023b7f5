//! From an optimised graph to steps: decides layouts, resolves views, inserts the copies that remain, plans memory.
//!
//! Every value is a strided view of a buffer while this runs. Convolutions and pools want channels last and give it;
//! pointwise ops keep the layout that they get; permutations, slices, expansions and most reshapes cost nothing.

mod keys;

use std::collections::HashMap;
use std::fmt::Debug;

use super::memory;
use super::op::{Op, Program};
use super::step::{Arg, Buffer, BufferId, Kernel, Memory, PointwiseStep, Port, Schedule, Step};
use super::view::View;
use super::{Graph, Node, Var};
use crate::dtype::DType;
use crate::error::{Error, Result};

/// Lowers an optimised graph. With `separate`, no step reads the arena that it writes. Computed floats take
/// `float_bytes` each.
pub(crate) fn lower(graph: &Graph, separate: bool, float_bytes: usize) -> Result<Schedule> {
    let mut lowering = Lowering::new(graph);
    for var in graph.vars() {
        let value = lowering.node(var, graph.node(var))?;
        lowering.values.push(value);
    }
    let outputs = graph.outputs.iter().map(|&x| lowering.output(x)).collect::<Result<Vec<_>>>()?;
    let inputs = graph.inputs.iter().map(|&x| lowering.port(x, lowering.values[x.0 as usize].buffer)).collect();
    let mut schedule = Schedule {
        buffers: lowering.buffers,
        prologue: lowering.prologue,
        steps: lowering.steps,
        inputs,
        outputs,
        arenas: vec![],
    };
    keys::drop_unused_prologue(&mut schedule);
    memory::plan(&mut schedule, separate, float_bytes);
    Ok(schedule)
}

/// A value while lowering: a view of a buffer.
#[derive(Clone, Debug)]
pub(super) struct Value {
    pub(super) buffer: BufferId,
    pub(super) view: View,
    pub(super) is_int: bool,
}

/// A view of a buffer, and the order of dimensions of its copy.
type CopyKey = (BufferId, View, Vec<usize>);

pub(super) struct Lowering<'a> {
    graph: &'a Graph,
    buffers: Vec<Buffer>,
    prologue: Vec<Step>,
    steps: Vec<Step>,
    /// The value of each node so far.
    values: Vec<Value>,
    /// Copies that were made: of which view of which buffer, in which order of dimensions.
    copies: HashMap<CopyKey, Value>,
    /// The name of the node at hand, for its steps.
    name: String,
}

impl<'a> Lowering<'a> {
    fn new(graph: &'a Graph) -> Self {
        Self {
            graph,
            buffers: vec![],
            prologue: vec![],
            steps: vec![],
            values: vec![],
            copies: HashMap::new(),
            name: String::new(),
        }
    }

    fn value(&self, x: Var) -> Value {
        self.values[x.0 as usize].clone()
    }

    fn node(&mut self, var: Var, node: &Node) -> Result<Value> {
        self.name = if node.name.is_empty() { node.op.name().to_string() } else { node.name.to_string() };
        let shape = &node.shape[..];
        if shape.iter().try_fold(1usize, |product, &size| product.checked_mul(size)).is_none_or(|n| n > MAX_ELEMENTS) {
            return Err(Error::unsupported(format!(
                "`{}` has the shape {}, which is larger than {MAX_ELEMENTS} elements",
                self.name, node.shape
            )));
        }
        let whole = |buffer, is_int| Value { buffer, view: View::contiguous(shape), is_int };
        let len = node.shape.numel();
        Ok(match &node.op {
            Op::Input => whole(self.arena(len, node.is_int), node.is_int),
            Op::Parameter(p) => whole(self.buffer(len, node.is_int, Memory::Parameter(p.clone())), node.is_int),
            Op::Constant(t) => whole(self.buffer(len, node.is_int, Memory::Constant(t.clone())), node.is_int),
            Op::Reshape => {
                let value = self.value(node.inputs[0]);
                match value.view.reshape(shape) {
                    Some(view) => Value { view, ..value },
                    None => {
                        let value = self.contiguous(&value);
                        let view = value.view.reshape(shape).expect("contiguous data takes any shape");
                        Value { view, ..value }
                    }
                }
            }
            Op::Permute(dims) => {
                let value = self.value(node.inputs[0]);
                Value { view: value.view.permute(dims), ..value }
            }
            Op::Expand => {
                let value = self.value(node.inputs[0]);
                Value { view: value.view.expand(shape), ..value }
            }
            Op::Slice { dim, start, step } => {
                let value = self.value(node.inputs[0]);
                Value { view: value.view.slice(*dim, *start, *step, shape[*dim]), ..value }
            }
            _ => self.compute(var, node)?,
        })
    }

    /// An output of the plan: a contiguous buffer in an arena.
    fn output(&mut self, x: Var) -> Result<Port> {
        let value = self.value(x);
        let in_arena = matches!(self.buffers[value.buffer.0].memory, Memory::Arena { .. });
        let whole = value.view.offset == 0
            && value.view.is_contiguous()
            && self.buffers[value.buffer.0].len == value.view.numel();
        if in_arena && whole {
            return Ok(self.port(x, value.buffer));
        }
        self.name = "output".into();
        let order: Vec<usize> = (0..value.view.shape.len()).collect();
        let buffer = self.arena(value.view.numel(), value.is_int);
        let out = Value { buffer, view: View::dense(&value.view.shape, &order), is_int: value.is_int };
        let step = self.pointwise_step(Program::copy(), std::slice::from_ref(&value), &out);
        self.steps.extend(step);
        Ok(self.port(x, buffer))
    }

    fn port(&self, x: Var, buffer: BufferId) -> Port {
        let node = self.graph.node(x);
        Port { buffer, shape: node.shape.clone(), dtype: if node.is_int { DType::I64 } else { DType::F32 } }
    }

    fn buffer(&mut self, len: usize, is_int: bool, memory: Memory) -> BufferId {
        self.buffers.push(Buffer { len, is_int, memory });
        BufferId(self.buffers.len() - 1)
    }

    /// A buffer whose place in an arena is not yet known.
    fn arena(&mut self, len: usize, is_int: bool) -> BufferId {
        self.buffer(len, is_int, Memory::Arena { arena: 0, offset: 0 })
    }

    /// A new dense value for what `computation`, whose debug text says all about it, makes of these inputs.
    pub(super) fn dense(
        &mut self,
        shape: &[usize],
        order: &[usize],
        is_int: bool,
        inputs: &[Value],
        computation: &dyn Debug,
    ) -> Value {
        let len = shape.iter().product();
        let constant = inputs.iter().all(|value| !matches!(self.buffers[value.buffer.0].memory, Memory::Arena { .. }));
        let memory = if constant {
            Memory::Derived(keys::derived(&self.buffers, inputs.iter().map(Value::arg), computation))
        } else {
            Memory::Arena { arena: 0, offset: 0 }
        };
        Value { buffer: self.buffer(len, is_int, memory), view: View::dense(shape, order), is_int }
    }

    /// Adds the step that computes `out` from `inputs`: to the prologue if it depends on parameters alone.
    pub(super) fn push(&mut self, kernel: Kernel, inputs: &[Value], out: &Value) {
        if out.view.numel() == 0 {
            return;
        }
        let step = Step {
            name: self.name.clone(),
            kernel,
            inputs: inputs.iter().map(Value::arg).collect(),
            output: out.arg(),
        };
        match self.buffers[out.buffer.0].memory {
            Memory::Derived(_) => self.prologue.push(step),
            _ => self.steps.push(step),
        }
    }

    /// The value with its dimensions in memory in the order `order`, without gaps: itself if it is so already.
    pub(super) fn dense_in(&mut self, value: &Value, order: &[usize]) -> Value {
        if value.view.is_dense_in(order) {
            return value.clone();
        }
        let key = (value.buffer, value.view.clone(), order.to_vec());
        if let Some(copy) = self.copies.get(&key) {
            return copy.clone();
        }
        let out_view = View::dense(&value.view.shape, order);
        let step = pointwise(Program::copy(), &[&value.view], &out_view, value.is_int);
        let kernel = Kernel::Pointwise(step);
        let inputs = std::slice::from_ref(value);
        let out = self.dense(&value.view.shape, order, value.is_int, inputs, &kernel);
        self.push(kernel, inputs, &out);
        self.copies.insert(key, out.clone());
        out
    }

    pub(super) fn contiguous(&mut self, value: &Value) -> Value {
        let order: Vec<usize> = (0..value.view.shape.len()).collect();
        self.dense_in(value, &order)
    }

    fn pointwise_step(&self, program: Program, inputs: &[Value], out: &Value) -> Option<Step> {
        let views: Vec<&View> = inputs.iter().map(|value| &value.view).collect();
        (out.view.numel() > 0).then(|| Step {
            name: self.name.clone(),
            kernel: Kernel::Pointwise(pointwise(program, &views, &out.view, out.is_int)),
            inputs: inputs.iter().map(Value::arg).collect(),
            output: out.arg(),
        })
    }

    /// The value of a node that computes something.
    fn compute(&mut self, var: Var, node: &Node) -> Result<Value> {
        let inputs: Vec<Value> = node.inputs.iter().map(|&x| self.value(x)).collect();
        let shape = &node.shape[..];
        match &node.op {
            Op::Pointwise(program) => Ok(self.pointwise(program, &inputs, shape, node.is_int)),
            Op::Conv2d(conv, fused) => Ok(self.conv2d(conv, *fused, &inputs, shape)),
            Op::Linear(fused) => Ok(self.linear(*fused, &inputs, shape)),
            Op::Matmul => self.matmul(&inputs, shape),
            Op::Pool2d(pool) => Ok(self.pool2d(pool, &inputs[0], shape)),
            Op::AdaptivePool2d { kind } => Ok(self.adaptive_pool2d(*kind, &inputs[0], shape)),
            Op::Reduce { kind, dims } => Ok(self.reduce(*kind, dims, &inputs[0], shape)),
            Op::Softmax { dim, log } => Ok(self.softmax(*dim, *log, &inputs[0])),
            Op::Cumsum { dim } => Ok(self.cumsum(*dim, &inputs[0])),
            Op::LayerNorm { dims, eps, affine } => Ok(self.layer_norm(*dims, *eps, *affine, &inputs)),
            Op::Attention { scale, causal, blind_is_nan } => {
                Ok(self.attention(*scale, *causal, *blind_is_nan, &inputs, shape))
            }
            Op::Embedding => Ok(self.embedding(&inputs, shape)),
            Op::IndexSelect { dim } => Ok(self.index_select(*dim, &inputs, shape)),
            Op::Cat { dim } => Ok(self.cat(*dim, &inputs, shape)),
            Op::Pad { pads, mode } => Ok(self.pad(pads, *mode, &inputs[0])),
            // The first group is handled by the caller, the second is written in other ops by the passes.
            op @ (Op::Input
            | Op::Parameter(_)
            | Op::Constant(_)
            | Op::Reshape
            | Op::Permute(_)
            | Op::Expand
            | Op::Slice { .. }
            | Op::BatchNorm { .. }
            | Op::Unary(_)
            | Op::Binary(_)) => unreachable!("value {} is `{}`, which has no step", var.0, op.name()),
        }
    }

    /// Adds a step whose result is dense in `order`.
    pub(super) fn emit(&mut self, kernel: Kernel, inputs: &[Value], shape: &[usize], order: &[usize]) -> Value {
        let out = self.dense(shape, order, false, inputs, &kernel);
        self.push(kernel, inputs, &out);
        out
    }

    /// The value without gaps, the order in which it lies, and its sizes in memory before `dim`, along it and after it.
    pub(super) fn lines(&mut self, dim: usize, x: &Value) -> (Value, Vec<usize>, [usize; 3]) {
        let mut order = x.view.order();
        if !x.view.is_dense_in(&order) {
            order = (0..x.view.shape.len()).collect();
        }
        let x = self.dense_in(x, &order);
        let at = order.iter().position(|&d| d == dim).expect("a dimension of the value");
        let product = |dims: &[usize]| dims.iter().map(|&d| x.view.shape[d]).product();
        let sizes = [product(&order[..at]), x.view.shape[dim], product(&order[at + 1..])];
        (x, order, sizes)
    }

    /// The dimensions in memory with the last `dims` innermost in their own order: as the value lies if that is so,
    /// else row-major.
    pub(super) fn rows_order(value: &Value, dims: usize) -> Vec<usize> {
        let rank = value.view.shape.len();
        let order = value.view.order();
        let last = (rank - dims..rank).collect::<Vec<_>>();
        if order.ends_with(&last) && value.view.is_dense_in(&order) { order } else { (0..rank).collect() }
    }
}

impl Value {
    fn arg(&self) -> Arg {
        Arg { buffer: self.buffer, offset: self.view.offset }
    }
}

/// Indices are 32 bits wide on GPUs.
const MAX_ELEMENTS: usize = i32::MAX as usize;

/// A pointwise step over views of one shape: dimensions in the output's order in memory, neighbours merged.
pub(super) fn pointwise(program: Program, inputs: &[&View], out: &View, is_int: bool) -> PointwiseStep {
    let inputs: Vec<View> = inputs.iter().map(|view| view.expand(&out.shape)).collect();
    // (size, strides of the inputs, stride of the output), outermost first.
    let mut dims: Vec<(usize, Vec<usize>, usize)> = Vec::new();
    for d in out.order() {
        let (size, out_stride) = (out.shape[d], out.strides[d]);
        if size == 1 {
            continue;
        }
        let strides: Vec<usize> = inputs.iter().map(|view| view.strides[d]).collect();
        match dims.last_mut() {
            Some((len, outer, outer_stride))
                if *outer_stride == out_stride * size
                    && outer.iter().zip(&strides).all(|(&outer, &stride)| outer == stride * size) =>
            {
                (*len, *outer, *outer_stride) = (*len * size, strides, out_stride);
            }
            _ => dims.push((size, strides, out_stride)),
        }
    }
    PointwiseStep {
        shape: dims.iter().map(|dim| dim.0).collect(),
        strides: (0..inputs.len()).map(|i| dims.iter().map(|dim| dim.1[i]).collect()).collect(),
        out_strides: dims.iter().map(|dim| dim.2).collect(),
        program,
        is_int,
    }
}
