//! The operations of a graph, at the level of PyTorch's composite ops.

use std::sync::Arc;

use crate::checkpoint::StoredTensor;
use crate::tensor::Tensor;

/// What a node computes. The inputs are those of the node, in the order given here; shapes are PyTorch's (NCHW).
#[derive(Clone, Debug)]
pub(crate) enum Op {
    /// A model input.
    Input,
    /// A tensor of a state dict.
    Parameter(Parameter),
    /// A small tensor that is part of the program.
    Constant(Tensor),
    /// `x, weight [out, in]`, then as `Fused` says.
    Linear(Fused),
    /// `x, weight [out, in / groups, kh, kw]`, then as `Fused` says.
    Conv2d(Conv2d, Fused),
    /// `x, running_mean, running_var, weight, bias`, each `[channels]`.
    BatchNorm { eps: f32 },
    /// `x, weight, bias` or only `x`; normalises the last `dims` dimensions.
    LayerNorm { dims: usize, eps: f32, affine: bool },
    /// One input.
    Unary(Unary),
    /// Two inputs that broadcast.
    Binary(Binary),
    /// Several inputs that broadcast: what a chain of `Unary` and `Binary` becomes.
    Pointwise(Program),
    /// `x [n, c, h, w]`.
    Pool2d(Pool2d),
    /// `x [n, c, h, w]`.
    AdaptivePool2d { kind: PoolKind },
    /// Reduces `dims` (sorted), which stay as 1 or go, as the node's shape says.
    Reduce { kind: Reduce, dims: Vec<usize> },
    /// Along `dim`; `log` makes it `log_softmax`.
    Softmax { dim: usize, log: bool },
    /// Running sums along `dim`.
    Cumsum { dim: usize },
    /// `a [..., m, k], b [..., k, n]`; the leading dimensions broadcast.
    Matmul,
    /// `q [b, h, l, d], k [b, h, s, d], v [b, h, s, e]`, and maybe a float mask that broadcasts to `[b, h, l, s]` and is
    /// added to the scores.
    Attention { scale: f32, causal: bool, blind_is_nan: bool },
    /// `indices (int64), table [rows, dim]`.
    Embedding,
    /// `x, indices [n] (int64)`: places of `x` along `dim`.
    IndexSelect { dim: usize },
    /// Any number of inputs.
    Cat { dim: usize },
    /// Any contiguous reinterpretation; the new shape is the node's.
    Reshape,
    /// Output dimension `i` is input dimension `dims[i]`.
    Permute(Vec<usize>),
    /// Broadcasts to the node's shape.
    Expand,
    /// `x[start..end : step]` along `dim`; the length is in the node's shape.
    Slice { dim: usize, start: usize, step: usize },
    /// Adds `(before, after)` elements to every dimension.
    Pad { pads: Vec<(usize, usize)>, mode: PadMode },
}

impl Op {
    /// The op's name: that of its shader, its reference cases and its row in the profile.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Op::Input => "input",
            Op::Parameter(_) => "parameter",
            Op::Constant(_) => "constant",
            Op::Linear(_) => "linear",
            Op::Conv2d(..) => "conv2d",
            Op::BatchNorm { .. } => "batch_norm",
            Op::LayerNorm { .. } => "layer_norm",
            Op::Unary(unary) => unary.name(),
            Op::Binary(binary) => binary.name(),
            Op::Pointwise(_) => "pointwise",
            Op::Pool2d(pool) => pool.kind.name(),
            Op::AdaptivePool2d { kind } => kind.adaptive_name(),
            Op::Reduce { kind, .. } => kind.name(),
            Op::Softmax { log: false, .. } => "softmax",
            Op::Softmax { log: true, .. } => "log_softmax",
            Op::Cumsum { .. } => "cumsum",
            Op::Matmul => "matmul",
            Op::Attention { .. } => "scaled_dot_product_attention",
            Op::Embedding => "embedding",
            Op::IndexSelect { .. } => "index_select",
            Op::Cat { .. } => "cat",
            Op::Reshape => "reshape",
            Op::Permute(_) => "permute",
            Op::Expand => "expand",
            Op::Slice { .. } => "slice",
            Op::Pad { .. } => "pad",
        }
    }
}

/// A tensor of a state dict, under its name.
#[derive(Clone, Debug)]
pub(crate) struct Parameter {
    pub(crate) name: Arc<str>,
    pub(crate) tensor: StoredTensor,
}

/// What a convolution or a linear layer does besides its product, and which inputs it has for that after `x` and the
/// weight: `scale [out]` (multiplies the weight's rows), `bias [out]`, `residual` (the output's shape), in this order.
///
/// `y = product(x, weight * scale) + bias`, then the activation and the residual in the order that `residual` says.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Fused {
    pub(crate) scale: bool,
    pub(crate) bias: bool,
    pub(crate) activation: Option<Unary>,
    pub(crate) residual: Residual,
}

impl Fused {
    /// The position of the scale among the inputs.
    pub(crate) fn scale_index(&self) -> Option<usize> {
        self.scale.then_some(2)
    }

    /// The position of the bias among the inputs.
    pub(crate) fn bias_index(&self) -> Option<usize> {
        self.bias.then_some(2 + usize::from(self.scale))
    }

    /// The position of the residual among the inputs.
    pub(crate) fn residual_index(&self) -> Option<usize> {
        (self.residual != Residual::None).then_some(2 + usize::from(self.scale) + usize::from(self.bias))
    }
}

/// When a residual is added.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum Residual {
    /// Never.
    #[default]
    None,
    /// `activation(y + residual)`.
    BeforeActivation,
    /// `activation(y) + residual`.
    AfterActivation,
}

/// The geometry of a convolution. Pairs are (vertical, horizontal).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Conv2d {
    pub(crate) stride: [usize; 2],
    /// Zeros added at the top, bottom, left and right.
    pub(crate) padding: [usize; 4],
    pub(crate) dilation: [usize; 2],
    pub(crate) groups: usize,
}

/// The geometry of a pooling window. Pairs are (vertical, horizontal); the output's size is in the node's shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pool2d {
    pub(crate) kind: PoolKind,
    pub(crate) kernel: [usize; 2],
    pub(crate) stride: [usize; 2],
    pub(crate) padding: [usize; 2],
    pub(crate) dilation: [usize; 2],
}

/// What a pooling window computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PoolKind {
    /// The largest element; padding never counts. NaN wins.
    Max,
    /// The mean.
    Avg {
        /// Whether the zeros of the padding count in the divisor (never what lies beyond the padding, as in PyTorch).
        count_include_pad: bool,
        /// The divisor instead of the number of elements.
        divisor: Option<usize>,
    },
}

impl PoolKind {
    /// The adaptive mean, whose windows never reach past the input.
    pub(crate) const AVG: PoolKind = PoolKind::Avg { count_include_pad: true, divisor: None };

    pub(super) fn name(self) -> &'static str {
        match self {
            PoolKind::Max => "max_pool2d",
            PoolKind::Avg { .. } => "avg_pool2d",
        }
    }

    pub(super) fn adaptive_name(self) -> &'static str {
        match self {
            PoolKind::Max => "adaptive_max_pool2d",
            PoolKind::Avg { .. } => "adaptive_avg_pool2d",
        }
    }
}

/// What a reduction computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reduce {
    Mean,
    Sum,
    Max,
}

impl Reduce {
    pub(super) fn name(self) -> &'static str {
        match self {
            Reduce::Mean => "mean",
            Reduce::Sum => "sum",
            Reduce::Max => "amax",
        }
    }
}

/// How [`Graph::pad`](crate::Graph::pad) makes its elements, by PyTorch's names.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum PadMode {
    /// This value.
    Constant(f32),
    /// The input mirrored at its edge, which is not repeated.
    Reflect,
    /// The input's edge repeated.
    Replicate,
    /// The input's other end.
    Circular,
}

/// A function of one number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Unary {
    Relu,
    /// `min(max(x, min), max)`: relu6, hardtanh.
    Clamp {
        min: f32,
        max: f32,
    },
    LeakyRelu {
        slope: f32,
    },
    Elu {
        alpha: f32,
    },
    Sigmoid,
    Tanh,
    Silu,
    /// `x / 2 * (1 + erf(x / sqrt(2)))`.
    Gelu,
    /// `x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3)))`.
    GeluTanh,
    Hardswish,
    Hardsigmoid,
    Neg,
    Abs,
    Exp,
    Log,
    Sqrt,
    Rsqrt,
    Erf,
    Sin,
    Cos,
    Floor,
    Ceil,
    /// To the nearest whole number, from the middle to the even one.
    Round,
    Trunc,
    /// The number that an integer is.
    FromInt,
    /// The integer that a whole number is.
    ToInt,
}

impl Unary {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Unary::Relu => "relu",
            Unary::Clamp { .. } => "clamp",
            Unary::LeakyRelu { .. } => "leaky_relu",
            Unary::Elu { .. } => "elu",
            Unary::Sigmoid => "sigmoid",
            Unary::Tanh => "tanh",
            Unary::Silu => "silu",
            Unary::Gelu => "gelu",
            Unary::GeluTanh => "gelu_tanh",
            Unary::Hardswish => "hardswish",
            Unary::Hardsigmoid => "hardsigmoid",
            Unary::Neg => "neg",
            Unary::Abs => "abs",
            Unary::Exp => "exp",
            Unary::Log => "log",
            Unary::Sqrt => "sqrt",
            Unary::Rsqrt => "rsqrt",
            Unary::Erf => "erf",
            Unary::Sin => "sin",
            Unary::Cos => "cos",
            Unary::Floor => "floor",
            Unary::Ceil => "ceil",
            Unary::Round => "round",
            Unary::Trunc => "trunc",
            Unary::FromInt => "int_to_float",
            Unary::ToInt => "float_to_int",
        }
    }
}

impl Unary {
    /// Whether the kernels of convolutions and linear layers can apply it to what they give.
    pub(crate) fn is_activation(self) -> bool {
        use Unary::{Ceil, Cos, Floor, FromInt, Round, Sin, ToInt, Trunc};
        !matches!(self, Sin | Cos | Floor | Ceil | Round | Trunc | FromInt | ToInt)
    }
}

/// A function of two numbers. Comparisons give 0 or 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Binary {
    Add,
    Sub,
    Mul,
    Div,
    Maximum,
    Minimum,
    Pow,
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    /// The second number where the first is not 0, else 0.
    Keep,
}

impl Binary {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Binary::Add => "add",
            Binary::Sub => "sub",
            Binary::Mul => "mul",
            Binary::Div => "div",
            Binary::Maximum => "maximum",
            Binary::Minimum => "minimum",
            Binary::Pow => "pow",
            Binary::Eq => "eq",
            Binary::Ne => "ne",
            Binary::Lt => "lt",
            Binary::Le => "le",
            Binary::Gt => "gt",
            Binary::Ge => "ge",
            Binary::Keep => "keep",
        }
    }
}

/// A pointwise expression in static single assignment: each instruction names earlier ones, the last is the result.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Program {
    pub(crate) instrs: Vec<Instr>,
}

/// One instruction of a [`Program`]; the numbers after an operator are indices of instructions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Instr {
    /// The node's input of this number.
    Input(usize),
    Const(f32),
    Unary(Unary, usize),
    Binary(Binary, usize, usize),
}

impl Program {
    /// The program that copies its one input.
    pub(crate) fn copy() -> Self {
        Self { instrs: vec![Instr::Input(0)] }
    }

    /// Whether it only copies its one input.
    #[cfg(feature = "gpu")]
    pub(crate) fn is_copy(&self) -> bool {
        self.instrs == [Instr::Input(0)]
    }
}
