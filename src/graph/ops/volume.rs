//! Convolutions over volumes, written as convolutions over images.

use super::conv::{ConvOptions, Padding, PaddingMode};
use crate::error::{Error, Result};
use crate::graph::{Graph, Var};

impl Graph {
    /// A 3-d convolution: `x [n, c_in, d, h, w]` (or without `n`), `weight [c_out, c_in / groups, kd, kh, kw]`,
    /// `bias [c_out]`.
    /// [`torch.nn.functional.conv3d`](https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.conv3d.html).
    ///
    /// # Errors
    /// As [`Graph::conv2d`].
    pub fn conv3d(&mut self, x: Var, weight: Var, bias: Option<Var>, options: &ConvOptions<3>) -> Result<Var> {
        if self.shape(x).len() == 4 {
            let batched = self.unsqueeze(x, 0)?;
            let y = self.conv3d(batched, weight, bias, options)?;
            return self.squeeze(y, 0);
        }
        self.check_conv(x, weight, bias, options, "conv3d")?;
        let kernel = self.shape(weight).to_vec();
        let mut pads = options.pads([kernel[2], kernel[3], kernel[4]])?;
        let mut x = x;
        let even = pads.iter().all(|(before, after)| before == after);
        if !even || options.padding_mode != PaddingMode::Zeros {
            x = self.pad(x, &[[(0, 0); 2].as_slice(), &pads].concat(), options.padding_mode.into())?;
            pads = [(0, 0); 3];
        }
        let pads = pads.map(|(pad, _)| pad);
        let shape = self.shape(x).to_vec();
        let (n, h, w) = (shape[0], shape[3], shape[4]);
        let image = |from: usize| ConvOptions {
            stride: [options.stride[from], options.stride[2]],
            padding: Padding::Explicit([pads[from], pads[2]]),
            dilation: [options.dilation[from], options.dilation[2]],
            groups: options.groups,
            padding_mode: PaddingMode::Zeros,
        };
        if kernel[3..] == [1, 1] && options.stride[1..] == [1, 1] && pads[1..] == [0, 0] {
            // Along the depth only: an image of the depth and all pixels.
            let x = self.reshaped(x, &[n, shape[1], shape[2], h * w])?;
            let weight = self.reshaped(weight, &[kernel[0], kernel[1], kernel[2], 1])?;
            let y = self.conv2d(x, weight, bias, &image(0))?;
            let depth = self.shape(y)[2];
            return self.reshaped(y, &[n, kernel[0], depth, h, w]);
        }
        let (x, depth) = self.taps(x, kernel[2], pads[0], options.stride[0], options.dilation[0])?;
        let weight = self.reshaped(weight, &[kernel[0], kernel[1] * kernel[2], kernel[3], kernel[4]])?;
        let y = self.conv2d(x, weight, bias, &image(1))?;
        let (height, width) = (self.shape(y)[2], self.shape(y)[3]);
        let y = self.reshaped(y, &[n, depth, kernel[0], height, width])?;
        self.permute(y, &[0, 2, 1, 3, 4])
    }

    /// The depths that meet one tap of the kernel as images, and those of all taps as channels of one image:
    /// `[n * depth, c * kernel, h, w]`, with the depth of the output.
    fn taps(&mut self, x: Var, kernel: usize, padding: usize, stride: usize, dilation: usize) -> Result<(Var, usize)> {
        let pad = (padding, padding);
        let x = self.pad(x, &[(0, 0), (0, 0), pad, (0, 0), (0, 0)], PaddingMode::Zeros.into())?;
        let shape = self.shape(x).to_vec();
        let (n, c, h, w) = (shape[0], shape[1], shape[3], shape[4]);
        let depth = shape[2].checked_sub(dilation * (kernel - 1) + 1).map(|free| free / stride + 1);
        let depth = depth.ok_or_else(|| {
            Error::shape(format!(
                "conv3d: {} is too small for a kernel of the depth {kernel} with dilation {dilation}",
                self.describe(x, "input")
            ))
        })?;
        let mut taps = Vec::with_capacity(kernel);
        for tap in 0..kernel {
            let start = tap * dilation;
            let tap = self.slice(x, 2, start, start + (depth - 1) * stride + 1, stride)?;
            let tap = self.permute(tap, &[0, 2, 1, 3, 4])?;
            taps.push(self.reshaped(tap, &[n * depth, c, 1, h, w])?);
        }
        let x = self.cat(&taps, 2)?;
        Ok((self.reshaped(x, &[n * depth, c * kernel, h, w])?, depth))
    }

    /// [`Graph::reshape`] to sizes that are all known.
    pub(super) fn reshaped(&mut self, x: Var, shape: &[usize]) -> Result<Var> {
        self.reshape(x, &shape.iter().map(|&size| size as isize).collect::<Vec<_>>())
    }
}
