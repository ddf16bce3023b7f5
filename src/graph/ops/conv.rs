//! Convolutions.

use crate::error::{Error, Result};
use crate::graph::lower::{Lowering, Value};
use crate::graph::op::{Conv2d, Fused, Op, PadMode};
use crate::graph::step::{ConvStep, Kernel};
use crate::graph::view::CHANNELS_LAST;
use crate::graph::{Graph, Var};
use crate::shape::Shape;

/// The arguments of a convolution over `N` spatial dimensions, with PyTorch's names and defaults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConvOptions<const N: usize> {
    /// The step between output positions.
    pub stride: [usize; N],
    /// What surrounds the input.
    pub padding: Padding<N>,
    /// The step between the elements of the kernel.
    pub dilation: [usize; N],
    /// The number of blocks that connect inputs to outputs.
    pub groups: usize,
    /// The values of the padding.
    pub padding_mode: PaddingMode,
}

impl<const N: usize> Default for ConvOptions<N> {
    fn default() -> Self {
        Self { stride: [1; N], padding: Padding::Valid, dilation: [1; N], groups: 1, padding_mode: PaddingMode::Zeros }
    }
}

/// How much padding a convolution adds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Padding<const N: usize> {
    /// `padding='same'`: the output is as large as the input; the stride must be 1.
    Same,
    /// `padding='valid'`: none.
    Valid,
    /// So much on both sides of each dimension.
    Explicit([usize; N]),
}

/// The values of a convolution's padding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PaddingMode {
    /// Zeros.
    #[default]
    Zeros,
    /// The input mirrored at its edge, which is not repeated.
    Reflect,
    /// The input's edge repeated.
    Replicate,
    /// The input's other end.
    Circular,
}

impl From<PaddingMode> for PadMode {
    fn from(mode: PaddingMode) -> Self {
        match mode {
            PaddingMode::Zeros => PadMode::Constant(0.0),
            PaddingMode::Reflect => PadMode::Reflect,
            PaddingMode::Replicate => PadMode::Replicate,
            PaddingMode::Circular => PadMode::Circular,
        }
    }
}

impl<const N: usize> ConvOptions<N> {
    /// The padding before and after each dimension of a kernel of this size.
    pub(super) fn pads(&self, kernel: [usize; N]) -> Result<[(usize, usize); N]> {
        match self.padding {
            Padding::Valid => Ok([(0, 0); N]),
            Padding::Explicit(sizes) => Ok(sizes.map(|size| (size, size))),
            Padding::Same if self.stride != [1; N] => {
                Err(Error::unsupported("padding `same` is not supported for strided convolutions"))
            }
            Padding::Same => Ok(std::array::from_fn(|d| {
                let total = self.dilation[d] * (kernel[d].max(1) - 1);
                (total / 2, total - total / 2)
            })),
        }
    }
}

impl Graph {
    /// A 2-d convolution: `x [n, c_in, h, w]` (or without `n`), `weight [c_out, c_in / groups, kh, kw]`,
    /// `bias [c_out]`, giving `[n, c_out, oh, ow]` with
    /// `oh = (h + padding - dilation * (kh - 1) - 1) / stride + 1`.
    /// [`torch.nn.functional.conv2d`](https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.conv2d.html).
    ///
    /// # Errors
    /// [`ErrorKind::Shape`](crate::ErrorKind::Shape) when shapes and options do not fit,
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) for a weight that is not a parameter or constant.
    pub fn conv2d(&mut self, x: Var, weight: Var, bias: Option<Var>, options: &ConvOptions<2>) -> Result<Var> {
        if self.shape(x).len() == 3 {
            let batched = self.unsqueeze(x, 0)?;
            let y = self.conv2d(batched, weight, bias, options)?;
            return self.squeeze(y, 0);
        }
        self.check_conv(x, weight, bias, options, "conv2d")?;
        let kernel = [self.shape(weight)[2], self.shape(weight)[3]];
        let mut pads = options.pads(kernel)?;
        let mut x = x;
        if options.padding_mode != PaddingMode::Zeros && pads != [(0, 0); 2] {
            x = self.pad(x, &[(0, 0), (0, 0), pads[0], pads[1]], options.padding_mode.into())?;
            pads = [(0, 0); 2];
        }
        let input = self.shape(x);
        let size = |d: usize| -> Result<usize> {
            let padded = input[2 + d] + pads[d].0 + pads[d].1;
            let reach = options.dilation[d] * (kernel[d] - 1) + 1;
            padded.checked_sub(reach).map(|free| free / options.stride[d] + 1).ok_or_else(|| {
                Error::shape(format!(
                    "conv2d: {} is too small for {} with dilation {:?} and padding {pads:?}",
                    self.describe(x, "input"),
                    self.describe(weight, "weight"),
                    options.dilation
                ))
            })
        };
        let shape = Shape::from([input[0], self.shape(weight)[0], size(0)?, size(1)?]);
        let conv = Conv2d {
            stride: options.stride,
            padding: [pads[0].0, pads[0].1, pads[1].0, pads[1].1],
            dilation: options.dilation,
            groups: options.groups,
        };
        let fused = Fused { bias: bias.is_some(), ..Fused::default() };
        let name = self.layer_name(weight);
        let inputs = [x, weight].into_iter().chain(bias).collect();
        Ok(self.add_node(Op::Conv2d(conv, fused), inputs, shape, false, &name))
    }

    /// A 1-d convolution: `x [n, c_in, l]` (or without `n`), `weight [c_out, c_in / groups, k]`, `bias [c_out]`.
    /// [`torch.nn.functional.conv1d`](https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.conv1d.html).
    ///
    /// # Errors
    /// As [`Graph::conv2d`].
    pub fn conv1d(&mut self, x: Var, weight: Var, bias: Option<Var>, options: &ConvOptions<1>) -> Result<Var> {
        if self.shape(x).len() == 2 {
            let batched = self.unsqueeze(x, 0)?;
            let y = self.conv1d(batched, weight, bias, options)?;
            return self.squeeze(y, 0);
        }
        self.check_conv(x, weight, bias, options, "conv1d")?;
        let [pad] = options.pads([self.shape(weight)[2]])?;
        let mut x = x;
        let mut padding = Padding::Explicit([0, pad.0]);
        if pad.0 != pad.1 || options.padding_mode != PaddingMode::Zeros {
            x = self.pad(x, &[(0, 0), (0, 0), pad], options.padding_mode.into())?;
            padding = Padding::Valid;
        }
        let image = self.unsqueeze(x, 2)?;
        let kernel = self.unsqueeze(weight, 2)?;
        let options = ConvOptions {
            stride: [1, options.stride[0]],
            padding,
            dilation: [1, options.dilation[0]],
            groups: options.groups,
            padding_mode: PaddingMode::Zeros,
        };
        let y = self.conv2d(image, kernel, bias, &options)?;
        self.squeeze(y, 2)
    }

    pub(super) fn check_conv<const N: usize>(
        &self,
        x: Var,
        weight: Var,
        bias: Option<Var>,
        options: &ConvOptions<N>,
        op: &str,
    ) -> Result<()> {
        self.expect_float(op, &[&[x, weight], bias.as_slice()].concat())?;
        let (input, filter) = (self.shape(x), self.shape(weight));
        let fail = |why: String| Err(Error::shape(format!("{op}: {why}")));
        if filter.len() != N + 2 {
            return fail(format!("{} must have {} dimensions", self.describe(weight, "weight"), N + 2));
        }
        if input.len() != N + 2 {
            let sizes = ["length", "height, width", "depth, height, width"][N - 1];
            return fail(format!(
                "{} expects an input [batch, channels, {sizes}] or one without the batch, found {}",
                self.describe(weight, "weight"),
                self.describe(x, "input")
            ));
        }
        if options.groups == 0 || options.stride.contains(&0) || options.dilation.contains(&0) {
            return fail("groups, stride and dilation must be at least 1".into());
        }
        if filter.contains(&0) {
            return fail(format!("{} is empty", self.describe(weight, "weight")));
        }
        if filter[1].checked_mul(options.groups) != Some(input[1]) {
            return fail(format!(
                "{} has {} channels, {} expects {}",
                self.describe(x, "input"),
                input[1],
                self.describe(weight, "weight"),
                filter[1].saturating_mul(options.groups)
            ));
        }
        if filter[0] % options.groups != 0 {
            let weight = self.describe(weight, "weight");
            return fail(format!("{weight} has output channels that {} groups do not divide", options.groups));
        }
        if let Some(bias) = bias.filter(|&bias| **self.shape(bias) != [filter[0]]) {
            return fail(format!("{} must be [{}]", self.describe(bias, "bias"), filter[0]));
        }
        if !self.node(weight).is_constant {
            return Err(Error::unsupported(format!("{op}: a weight that is computed from the input is not supported")));
        }
        Ok(())
    }
}

impl Lowering<'_> {
    pub(in crate::graph) fn conv2d(&mut self, conv: &Conv2d, fused: Fused, inputs: &[Value], shape: &[usize]) -> Value {
        let mut inputs = inputs.to_vec();
        let image = inputs[0].view.shape.clone();
        let weight = inputs[1].view.shape.clone();
        inputs[0] = self.dense_in(&inputs[0], &CHANNELS_LAST);
        for (i, input) in inputs.iter_mut().enumerate().skip(1) {
            *input = if Some(i) == fused.residual_index() {
                self.dense_in(input, &CHANNELS_LAST)
            } else {
                self.contiguous(input)
            };
        }
        let kernel = Kernel::Conv2d(ConvStep {
            batch: image[0],
            input: [image[2], image[3]],
            c_in: image[1],
            output: [shape[2], shape[3]],
            c_out: shape[1],
            kernel: [weight[2], weight[3]],
            stride: conv.stride,
            dilation: conv.dilation,
            padding: [conv.padding[0], conv.padding[2]],
            groups: conv.groups,
            fused,
        });
        self.emit(kernel, &inputs, shape, &CHANNELS_LAST)
    }
}
