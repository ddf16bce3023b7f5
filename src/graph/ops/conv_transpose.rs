//! Transposed convolutions, written as convolutions.

use super::conv::ConvOptions;
use crate::error::{Error, Result};
use crate::graph::op::PadMode;
use crate::graph::{Graph, Var};
use crate::tensor::Tensor;

/// The arguments of a transposed convolution over `N` spatial dimensions, with PyTorch's names and defaults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConvTransposeOptions<const N: usize> {
    /// The step between the output positions of neighbouring inputs.
    pub stride: [usize; N],
    /// How much of the output is cut off on both sides.
    pub padding: [usize; N],
    /// How much is added to one side of the output.
    pub output_padding: [usize; N],
    /// The step between the elements of the kernel.
    pub dilation: [usize; N],
    /// The number of blocks that connect inputs to outputs.
    pub groups: usize,
}

impl<const N: usize> Default for ConvTransposeOptions<N> {
    fn default() -> Self {
        Self { stride: [1; N], padding: [0; N], output_padding: [0; N], dilation: [1; N], groups: 1 }
    }
}

impl<const N: usize> ConvTransposeOptions<N> {
    /// Whether every output comes from one input.
    fn is_separate(&self, kernel: &[usize]) -> bool {
        let Self { stride, padding, output_padding, dilation, groups } = self;
        let plain = *padding == [0; N] && *output_padding == [0; N] && *dilation == [1; N];
        plain && *groups == 1 && kernel == stride
    }
}

impl Graph {
    /// A 1-d transposed convolution: `x [n, c_in, l]` (or without `n`), `weight [c_in, c_out / groups, k]`,
    /// `bias [c_out]`.
    /// [`conv_transpose1d`](https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.conv_transpose1d.html).
    ///
    /// # Errors
    /// As [`Graph::conv_transpose2d`].
    pub fn conv_transpose1d(
        &mut self,
        x: Var,
        weight: Var,
        bias: Option<Var>,
        options: &ConvTransposeOptions<1>,
    ) -> Result<Var> {
        self.conv_transpose(x, weight, bias, options, Graph::conv1d)
    }

    /// A 2-d transposed convolution: `x [n, c_in, h, w]` (or without `n`), `weight [c_in, c_out / groups, kh, kw]`,
    /// `bias [c_out]`, giving `[n, c_out, oh, ow]` with
    /// `oh = (h - 1) * stride - 2 * padding + dilation * (kh - 1) + output_padding + 1`.
    /// [`conv_transpose2d`](https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.conv_transpose2d.html).
    ///
    /// # Errors
    /// [`ErrorKind::Shape`](crate::ErrorKind::Shape) when shapes and options do not fit.
    pub fn conv_transpose2d(
        &mut self,
        x: Var,
        weight: Var,
        bias: Option<Var>,
        options: &ConvTransposeOptions<2>,
    ) -> Result<Var> {
        self.conv_transpose(x, weight, bias, options, Graph::conv2d)
    }

    /// A 3-d transposed convolution: `x [n, c_in, d, h, w]` (or without `n`), `weight [c_in, c_out / groups, kd, kh, kw]`,
    /// `bias [c_out]`.
    /// [`conv_transpose3d`](https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.conv_transpose3d.html).
    ///
    /// # Errors
    /// As [`Graph::conv_transpose2d`].
    pub fn conv_transpose3d(
        &mut self,
        x: Var,
        weight: Var,
        bias: Option<Var>,
        options: &ConvTransposeOptions<3>,
    ) -> Result<Var> {
        self.conv_transpose(x, weight, bias, options, Graph::conv3d)
    }

    fn conv_transpose<const N: usize>(
        &mut self,
        x: Var,
        weight: Var,
        bias: Option<Var>,
        options: &ConvTransposeOptions<N>,
        conv: fn(&mut Graph, Var, Var, Option<Var>, &ConvOptions<N>) -> Result<Var>,
    ) -> Result<Var> {
        if self.shape(x).len() == N + 1 {
            let batched = self.unsqueeze(x, 0)?;
            let y = self.conv_transpose(batched, weight, bias, options, conv)?;
            return self.squeeze(y, 0);
        }
        self.check_transpose(x, weight, bias, options)?;
        let kernel = self.shape(weight)[2..].to_vec();
        if N == 2 && options.is_separate(&kernel) {
            return self.separate(x, weight, bias);
        }
        let weight = self.turned(weight, options.groups)?;
        let (mut x, mut pads, mut cuts) = (x, vec![(0, 0); N + 2], vec![(0, 0); N]);
        for d in 0..N {
            x = self.spread(x, 2 + d, options.stride[d])?;
            let before = (options.dilation[d] * (kernel[d] - 1)) as isize - options.padding[d] as isize;
            let after = before + options.output_padding[d] as isize;
            pads[2 + d] = (before.max(0) as usize, after.max(0) as usize);
            cuts[d] = ((-before).max(0) as usize, (-after).max(0) as usize);
        }
        x = self.pad(x, &pads, PadMode::Constant(0.0))?;
        for (d, (before, after)) in cuts.into_iter().enumerate() {
            let size = self.shape(x)[2 + d];
            x = self.slice(x, 2 + d as isize, before, size - after, 1)?;
        }
        let ConvTransposeOptions { dilation, groups, .. } = *options;
        conv(self, x, weight, bias, &ConvOptions { dilation, groups, ..ConvOptions::default() })
    }

    fn check_transpose<const N: usize>(
        &self,
        x: Var,
        weight: Var,
        bias: Option<Var>,
        options: &ConvTransposeOptions<N>,
    ) -> Result<()> {
        let op = format!("conv_transpose{N}d");
        self.expect_float(&op, &[&[x, weight], bias.as_slice()].concat())?;
        let fail = |why: String| Err(Error::shape(format!("{op}: {why}")));
        let (input, filter) = (self.shape(x), self.shape(weight));
        let ConvTransposeOptions { stride, padding, output_padding, dilation, groups } = options;
        if filter.len() != N + 2 || filter.contains(&0) {
            return fail(format!("{} must have {} dimensions, none of them 0", self.describe(weight, "weight"), N + 2));
        }
        if *groups == 0 || stride.contains(&0) || dilation.contains(&0) {
            return fail("groups, stride and dilation must be at least 1".into());
        }
        if input.len() != N + 2 || input[1] != filter[0] || filter[0] % groups != 0 {
            return fail(format!(
                "{} does not fit {} in {groups} groups",
                self.describe(x, "input"),
                self.describe(weight, "weight")
            ));
        }
        let out = filter[1].saturating_mul(*groups);
        if let Some(bias) = bias.filter(|&bias| self.shape(bias)[..] != [out]) {
            return fail(format!("{} does not fit {out} output channels", self.describe(bias, "bias")));
        }
        for d in 0..N {
            if output_padding[d] >= stride[d].max(dilation[d]) {
                return fail(format!(
                    "output_padding {output_padding:?} must be smaller than stride {stride:?} or dilation {dilation:?}"
                ));
            }
            let size =
                (input[2 + d].max(1) - 1) * stride[d] + dilation[d] * (filter[2 + d] - 1) + output_padding[d] + 1;
            if input[2 + d] == 0 || size <= 2 * padding[d] {
                return fail(format!("{} is too small for padding {padding:?}", self.describe(x, "input")));
            }
        }
        Ok(())
    }

    /// A product for each pixel, and its results side by side.
    fn separate(&mut self, x: Var, weight: Var, bias: Option<Var>) -> Result<Var> {
        let (input, kernel) = (self.shape(x).to_vec(), self.shape(weight).to_vec());
        let (c_in, out, kh, kw) = (kernel[0], kernel[1], kernel[2], kernel[3]);
        let weight = self.permute(weight, &[2, 3, 1, 0])?;
        let weight = self.reshaped(weight, &[kh * kw * out, c_in, 1, 1])?;
        let y = self.conv2d(x, weight, None, &ConvOptions::default())?;
        let y = self.reshaped(y, &[input[0], kh, kw, out, input[2], input[3]])?;
        let y = self.permute(y, &[0, 3, 4, 1, 5, 2])?;
        let y = self.reshaped(y, &[input[0], out, input[2] * kh, input[3] * kw])?;
        let Some(bias) = bias else { return Ok(y) };
        let bias = self.reshaped(bias, &[out, 1, 1])?;
        self.add(y, bias)
    }

    /// `[in, out / groups, k...]` as `[out, in / groups, k...]`, the kernel turned round.
    fn turned(&mut self, weight: Var, groups: usize) -> Result<Var> {
        let shape = self.shape(weight).to_vec();
        let (c_in, out) = (shape[0] / groups, shape[1]);
        let w = self.reshaped(weight, &[&[groups, c_in, out], &shape[2..]].concat())?;
        let w = self.transpose(w, 1, 2)?;
        let mut w = self.reshaped(w, &[&[groups * out, c_in], &shape[2..]].concat())?;
        for (d, &size) in shape.iter().enumerate().skip(2) {
            if size > 1 {
                let indices: Vec<i64> = (0..size as i64).rev().collect();
                let indices = self.constant(Tensor::new([size], indices)?)?;
                w = self.index_select(w, d as isize, indices)?;
            }
        }
        Ok(w)
    }

    /// The value with `stride - 1` zeros between the elements along `dim`.
    fn spread(&mut self, x: Var, dim: usize, stride: usize) -> Result<Var> {
        let mut shape = self.shape(x).to_vec();
        if stride == 1 || shape[dim] <= 1 {
            return Ok(x);
        }
        let x = self.unsqueeze(x, dim as isize + 1)?;
        let mut pads = vec![(0, 0); shape.len() + 1];
        pads[dim + 1].1 = stride - 1;
        let x = self.pad(x, &pads, PadMode::Constant(0.0))?;
        let end = (shape[dim] - 1) * stride + 1;
        shape[dim] *= stride;
        let x = self.reshaped(x, &shape)?;
        self.slice(x, dim as isize, 0, end, 1)
    }
}
