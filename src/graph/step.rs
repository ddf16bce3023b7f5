//! Steps: what a plan executes, the same on every device. Layouts are decided, views are gone, memory is planned.
//!
//! All offsets and strides are in elements. Floats are `f32`, integers `i32`; images are NHWC (channels last).

use super::op::{Fused, PadMode, Parameter, PoolKind, Program, Reduce};
use crate::dtype::DType;
use crate::shape::Shape;
use crate::tensor::Tensor;

/// A graph made ready for the backends: the steps to run once when the weights are loaded, the steps of every run, and
/// where each value lives.
#[derive(Debug)]
pub(crate) struct Schedule {
    pub(crate) buffers: Vec<Buffer>,
    /// Steps that depend on parameters alone: run once, their results (`Memory::Derived`) are kept.
    pub(crate) prologue: Vec<Step>,
    /// The steps of a run, in order.
    pub(crate) steps: Vec<Step>,
    pub(crate) inputs: Vec<Port>,
    pub(crate) outputs: Vec<Port>,
    /// The sizes in bytes of the arenas that hold the `Memory::Arena` buffers. A plan for the CPU has one; one for a
    /// GPU has as many as it takes for no step to read the arena that it writes, since a dispatch may not bind one
    /// buffer both ways.
    pub(crate) arenas: Vec<usize>,
}

/// An input or an output of the plan: a contiguous buffer of its own (an input may be an output too).
#[derive(Clone, Debug)]
pub(crate) struct Port {
    pub(crate) buffer: BufferId,
    pub(crate) shape: Shape,
    pub(crate) dtype: DType,
}

/// The index of a buffer in `Schedule::buffers`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct BufferId(pub(crate) usize);

/// A value that has memory.
#[derive(Clone, Debug)]
pub(crate) struct Buffer {
    /// The number of elements; each takes four bytes.
    pub(crate) len: usize,
    /// Whether the elements are `i32` rather than `f32`.
    pub(crate) is_int: bool,
    pub(crate) memory: Memory,
}

/// Where a buffer lives.
#[derive(Clone, Debug)]
pub(crate) enum Memory {
    /// At this byte offset, a multiple of 256, of this arena. Buffers whose lifetimes meet do not overlap.
    Arena { arena: usize, offset: usize },
    /// A tensor of the file, of any runnable dtype and stride. As an argument it reads as contiguous `f32` (or `i32`).
    Parameter(Parameter),
    /// A tensor that is part of the program.
    Constant(Tensor),
    /// The result of a prologue step. Equal keys mean equal values, also between plans of one model.
    Derived(u64),
}

/// An argument: a buffer from an element on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Arg {
    pub(crate) buffer: BufferId,
    pub(crate) offset: usize,
}

/// One kernel with its arguments. No step writes what it reads.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    /// The layer: the name of the weight without `.weight`, else of the op.
    pub(crate) name: String,
    pub(crate) kernel: Kernel,
    pub(crate) inputs: Vec<Arg>,
    pub(crate) output: Arg,
}

/// What a step does. The inputs are in the order given here.
#[derive(Clone, Debug)]
pub(crate) enum Kernel {
    /// `x, weight`, then as its `fused` says.
    Conv2d(ConvStep),
    /// `x [rows, k], weight [n, k]`, then as `fused` says; gives `[rows, n]`. Everything is contiguous.
    Linear(LinearStep),
    /// `a, b`; gives contiguous `[batch..., m, n]`.
    Matmul(MatmulStep),
    /// As many inputs as the program names.
    Pointwise(PointwiseStep),
    /// `x` NHWC; gives NHWC.
    Pool2d(PoolStep),
    /// `x` NHWC; gives NHWC. Window `i` of `out` is `floor(i * in / out) .. ceil((i + 1) * in / out)`.
    AdaptivePool2d(AdaptivePoolStep),
    /// `x [outer, len, inner]`; gives `[outer, inner]`.
    Reduce { kind: Reduce, outer: usize, len: usize, inner: usize },
    /// `x [outer, len, inner]`; gives the same shape.
    Softmax { outer: usize, len: usize, inner: usize, log: bool },
    /// `x [outer, len, inner]`; gives the same shape, `y[i] = x[0] + ... + x[i]` along the middle.
    Cumsum { outer: usize, len: usize, inner: usize },
    /// `x [rows, len]`, and `weight [len], bias [len]` when `affine`.
    LayerNorm { rows: usize, len: usize, eps: f32, affine: bool },
    /// `q, k, v`, and the mask when there is one.
    Attention(AttentionStep),
    /// `indices (i32) [count], table [outer, rows, dim]`; gives `[outer, count, dim]`. An index outside `0..rows` is an
    /// error.
    Embedding { outer: usize, count: usize, rows: usize, dim: usize },
    /// `x`, contiguous, of shape `shape`; gives the padded shape, contiguous. `pads` has one pair a dimension.
    Pad { shape: Vec<usize>, pads: Vec<(usize, usize)>, mode: PadMode },
}

impl Kernel {
    /// The kernel's name: that of its shader and its row in a profile.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Kernel::Conv2d(_) => "conv2d",
            Kernel::Linear(_) => "linear",
            Kernel::Matmul(_) => "matmul",
            Kernel::Pointwise(_) => "pointwise",
            Kernel::Pool2d(pool) => pool.kind.name(),
            Kernel::AdaptivePool2d(pool) => pool.kind.adaptive_name(),
            Kernel::Reduce { kind, .. } => kind.name(),
            Kernel::Softmax { log: false, .. } => "softmax",
            Kernel::Softmax { log: true, .. } => "log_softmax",
            Kernel::Cumsum { .. } => "cumsum",
            Kernel::LayerNorm { .. } => "layer_norm",
            Kernel::Attention(_) => "scaled_dot_product_attention",
            Kernel::Embedding { .. } => "embedding",
            Kernel::Pad { .. } => "pad",
        }
    }
}

/// A convolution over NHWC images with weights `[c_out, c_in / groups, kh, kw]`, contiguous or a `Parameter`.
/// Output pixel `(y, x)`, tap `(i, j)` reads input pixel
/// `(y * stride + i * dilation - padding_top, x * stride + j * dilation - padding_left)`, zero outside the image.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ConvStep {
    pub(crate) batch: usize,
    pub(crate) input: [usize; 2],
    pub(crate) c_in: usize,
    pub(crate) output: [usize; 2],
    pub(crate) c_out: usize,
    pub(crate) kernel: [usize; 2],
    pub(crate) stride: [usize; 2],
    pub(crate) dilation: [usize; 2],
    /// Zeros at the top and at the left.
    pub(crate) padding: [usize; 2],
    pub(crate) groups: usize,
    pub(crate) fused: Fused,
}

/// A matrix product with a constant weight.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct LinearStep {
    pub(crate) rows: usize,
    pub(crate) k: usize,
    pub(crate) n: usize,
    pub(crate) fused: Fused,
}

/// A product of two computed matrices, per batch entry.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct MatmulStep {
    pub(crate) m: usize,
    pub(crate) n: usize,
    pub(crate) k: usize,
    /// The sizes of the batch dimensions, at most three, and the strides of `a` and `b` along them.
    pub(crate) batch: Vec<usize>,
    pub(crate) a_batch: Vec<usize>,
    pub(crate) b_batch: Vec<usize>,
    /// The strides of `a` along m and k.
    pub(crate) a: [usize; 2],
    /// The strides of `b` along k and n.
    pub(crate) b: [usize; 2],
}

/// A pointwise program over `shape` (at most six dimensions, neighbours merged where all strides allow it).
/// Also every copy: transpositions, slices, concatenation.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct PointwiseStep {
    pub(crate) shape: Vec<usize>,
    /// The strides of each input; 0 where it broadcasts.
    pub(crate) strides: Vec<Vec<usize>>,
    pub(crate) out_strides: Vec<usize>,
    pub(crate) program: Program,
    /// Whether the elements are `i32` (copies only).
    pub(crate) is_int: bool,
}

/// A pooling over NHWC images.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct PoolStep {
    pub(crate) kind: PoolKind,
    pub(crate) batch: usize,
    pub(crate) channels: usize,
    pub(crate) input: [usize; 2],
    pub(crate) output: [usize; 2],
    pub(crate) kernel: [usize; 2],
    pub(crate) stride: [usize; 2],
    pub(crate) padding: [usize; 2],
    pub(crate) dilation: [usize; 2],
}

/// An adaptive pooling over NHWC images.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct AdaptivePoolStep {
    pub(crate) kind: PoolKind,
    pub(crate) batch: usize,
    pub(crate) channels: usize,
    pub(crate) input: [usize; 2],
    pub(crate) output: [usize; 2],
}

/// `softmax(q k^T * scale + mask) v`. The last dimension of `q`, `k`, `v` and the output has stride 1; the other
/// strides are those of (batch, head, row). With `causal`, row `i` sees columns `0..=i` (PyTorch's `is_causal`).
/// A row that sees nothing, since all of its scores are minus infinity, gives zeros, as in PyTorch.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct AttentionStep {
    pub(crate) batch: usize,
    pub(crate) heads: usize,
    pub(crate) q_len: usize,
    pub(crate) kv_len: usize,
    pub(crate) head_dim: usize,
    pub(crate) v_dim: usize,
    pub(crate) q: [usize; 3],
    pub(crate) k: [usize; 3],
    pub(crate) v: [usize; 3],
    pub(crate) out: [usize; 3],
    /// The mask's strides along (batch, head, row, column), 0 where it broadcasts.
    pub(crate) mask: Option<[usize; 4]>,
    pub(crate) scale: f32,
    pub(crate) causal: bool,
    /// A row that sees nothing gives NaN instead, as a softmax does that is written out. WGSL lets a device assume that
    /// there are no NaN, so this binds the CPU alone.
    pub(crate) blind_is_nan: bool,
}
