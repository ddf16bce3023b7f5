//! Pooling.

use crate::error::{Error, Result};
use crate::graph::lower::{Lowering, Value};
use crate::graph::op::{Op, Pool2d, PoolKind};
use crate::graph::step::{AdaptivePoolStep, Kernel, PoolStep};
use crate::graph::view::CHANNELS_LAST;
use crate::graph::{Graph, Var};

/// The arguments of max pooling over `N` spatial dimensions, with PyTorch's names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MaxPoolOptions<const N: usize> {
    /// The window's size.
    pub kernel_size: [usize; N],
    /// The step between windows; PyTorch's default is the window's size.
    pub stride: [usize; N],
    /// Padding on both sides, at most half of the window; it never wins.
    pub padding: [usize; N],
    /// The step between the elements of a window.
    pub dilation: [usize; N],
    /// Whether a last window that reaches past the padding counts.
    pub ceil_mode: bool,
}

impl<const N: usize> MaxPoolOptions<N> {
    /// A window of this size, stepping by its size.
    pub fn new(kernel_size: [usize; N]) -> Self {
        Self { kernel_size, stride: kernel_size, padding: [0; N], dilation: [1; N], ceil_mode: false }
    }
}

/// The arguments of average pooling over `N` spatial dimensions, with PyTorch's names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AvgPoolOptions<const N: usize> {
    /// The window's size.
    pub kernel_size: [usize; N],
    /// The step between windows; PyTorch's default is the window's size.
    pub stride: [usize; N],
    /// Zeros on both sides, at most half of the window.
    pub padding: [usize; N],
    /// Whether a last window that reaches past the padding counts.
    pub ceil_mode: bool,
    /// Whether the zeros of the padding count in the mean.
    pub count_include_pad: bool,
    /// The divisor instead of the number of elements.
    pub divisor_override: Option<usize>,
}

impl<const N: usize> AvgPoolOptions<N> {
    /// A window of this size, stepping by its size.
    pub fn new(kernel_size: [usize; N]) -> Self {
        Self {
            kernel_size,
            stride: kernel_size,
            padding: [0; N],
            ceil_mode: false,
            count_include_pad: true,
            divisor_override: None,
        }
    }
}

/// The number of windows along one dimension, by PyTorch's rule; `None` when there is none.
fn windows(
    size: usize,
    kernel: usize,
    stride: usize,
    padding: usize,
    dilation: usize,
    ceil_mode: bool,
) -> Option<usize> {
    // The first window may reach past the end, too, by less than a stride.
    let past = if ceil_mode { stride - 1 } else { 0 };
    let free = (size + 2 * padding + past).checked_sub(dilation * (kernel - 1) + 1)?;
    let mut count = free / stride + 1;
    // The last window must begin inside the input or its left padding.
    if ceil_mode && (count - 1) * stride >= size + padding {
        count -= 1;
    }
    Some(count)
}

impl Graph {
    /// The largest element of each window of `x [n, c, h, w]` (or without `n`).
    /// [`torch.nn.functional.max_pool2d`](https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.max_pool2d.html).
    ///
    /// # Errors
    /// [`ErrorKind::Shape`](crate::ErrorKind::Shape) when input and options do not fit.
    pub fn max_pool2d(&mut self, x: Var, options: &MaxPoolOptions<2>) -> Result<Var> {
        let pool = Pool2d {
            kind: PoolKind::Max,
            kernel: options.kernel_size,
            stride: options.stride,
            padding: options.padding,
            dilation: options.dilation,
        };
        self.pool2d(x, pool, options.ceil_mode)
    }

    /// The mean of each window of `x [n, c, h, w]` (or without `n`).
    /// [`torch.nn.functional.avg_pool2d`](https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.avg_pool2d.html).
    ///
    /// # Errors
    /// [`ErrorKind::Shape`](crate::ErrorKind::Shape) when input and options do not fit.
    pub fn avg_pool2d(&mut self, x: Var, options: &AvgPoolOptions<2>) -> Result<Var> {
        if options.divisor_override == Some(0) {
            return Err(Error::shape("avg_pool2d: the divisor must not be zero"));
        }
        let kind = PoolKind::Avg { count_include_pad: options.count_include_pad, divisor: options.divisor_override };
        let pool = Pool2d {
            kind,
            kernel: options.kernel_size,
            stride: options.stride,
            padding: options.padding,
            dilation: [1; 2],
        };
        self.pool2d(x, pool, options.ceil_mode)
    }

    /// The largest element of each window of `x [n, c, l]` (or without `n`).
    ///
    /// # Errors
    /// As [`Graph::max_pool2d`].
    pub fn max_pool1d(&mut self, x: Var, options: &MaxPoolOptions<1>) -> Result<Var> {
        let options = MaxPoolOptions {
            kernel_size: [1, options.kernel_size[0]],
            stride: [1, options.stride[0]],
            padding: [0, options.padding[0]],
            dilation: [1, options.dilation[0]],
            ceil_mode: options.ceil_mode,
        };
        let image = self.unsqueeze(x, -2)?;
        let y = self.max_pool2d(image, &options)?;
        self.squeeze(y, -2)
    }

    /// The mean of each window of `x [n, c, l]` (or without `n`).
    ///
    /// # Errors
    /// As [`Graph::avg_pool2d`].
    pub fn avg_pool1d(&mut self, x: Var, options: &AvgPoolOptions<1>) -> Result<Var> {
        let options = AvgPoolOptions {
            kernel_size: [1, options.kernel_size[0]],
            stride: [1, options.stride[0]],
            padding: [0, options.padding[0]],
            ceil_mode: options.ceil_mode,
            count_include_pad: options.count_include_pad,
            divisor_override: options.divisor_override,
        };
        let image = self.unsqueeze(x, -2)?;
        let y = self.avg_pool2d(image, &options)?;
        self.squeeze(y, -2)
    }

    fn pool2d(&mut self, x: Var, pool: Pool2d, ceil_mode: bool) -> Result<Var> {
        let op = Op::Pool2d(pool.clone());
        let name = op.name();
        if self.shape(x).len() == 3 {
            let batched = self.unsqueeze(x, 0)?;
            let y = self.pool2d(batched, pool, ceil_mode)?;
            return self.squeeze(y, 0);
        }
        self.expect_image(name, x)?;
        if [pool.kernel, pool.stride, pool.dilation].iter().any(|sizes| sizes.contains(&0)) {
            return Err(Error::shape(format!("{name}: kernel, stride and dilation must be at least 1")));
        }
        if (0..2).any(|d| pool.padding[d] > pool.kernel[d] / 2) {
            return Err(Error::shape(format!(
                "{name}: padding {:?} is more than half of the kernel {:?}",
                pool.padding, pool.kernel
            )));
        }
        let mut shape = self.shape(x).to_vec();
        for d in 0..2 {
            let count =
                windows(shape[2 + d], pool.kernel[d], pool.stride[d], pool.padding[d], pool.dilation[d], ceil_mode);
            shape[2 + d] = count.filter(|&count| count > 0).ok_or_else(|| {
                Error::shape(format!(
                    "{name}: {} is too small for the kernel {:?}",
                    self.describe(x, "input"),
                    pool.kernel
                ))
            })?;
        }
        Ok(self.add_float(op, vec![x], shape))
    }

    /// The mean of `output` windows that cover `x [n, c, h, w]` (or without `n`); `None` keeps the input's size.
    /// [`torch.nn.functional.adaptive_avg_pool2d`](https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.adaptive_avg_pool2d.html).
    ///
    /// # Errors
    /// [`ErrorKind::Shape`](crate::ErrorKind::Shape) when the input is not an image.
    pub fn adaptive_avg_pool2d(&mut self, x: Var, output: [Option<usize>; 2]) -> Result<Var> {
        self.adaptive_pool2d(x, PoolKind::AVG, output)
    }

    /// The largest element of `output` windows that cover `x [n, c, h, w]` (or without `n`).
    /// [`torch.nn.functional.adaptive_max_pool2d`](https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.adaptive_max_pool2d.html).
    ///
    /// # Errors
    /// [`ErrorKind::Shape`](crate::ErrorKind::Shape) when the input is not an image.
    pub fn adaptive_max_pool2d(&mut self, x: Var, output: [Option<usize>; 2]) -> Result<Var> {
        self.adaptive_pool2d(x, PoolKind::Max, output)
    }

    /// The mean of `output` windows that cover `x [n, c, l]` (or without `n`).
    ///
    /// # Errors
    /// As [`Graph::adaptive_avg_pool2d`].
    pub fn adaptive_avg_pool1d(&mut self, x: Var, output: usize) -> Result<Var> {
        let image = self.unsqueeze(x, -2)?;
        let y = self.adaptive_avg_pool2d(image, [None, Some(output)])?;
        self.squeeze(y, -2)
    }

    /// The largest element of `output` windows that cover `x [n, c, l]` (or without `n`).
    ///
    /// # Errors
    /// As [`Graph::adaptive_max_pool2d`].
    pub fn adaptive_max_pool1d(&mut self, x: Var, output: usize) -> Result<Var> {
        let image = self.unsqueeze(x, -2)?;
        let y = self.adaptive_max_pool2d(image, [None, Some(output)])?;
        self.squeeze(y, -2)
    }

    fn adaptive_pool2d(&mut self, x: Var, kind: PoolKind, output: [Option<usize>; 2]) -> Result<Var> {
        if self.shape(x).len() == 3 {
            let batched = self.unsqueeze(x, 0)?;
            let y = self.adaptive_pool2d(batched, kind, output)?;
            return self.squeeze(y, 0);
        }
        let name = Op::AdaptivePool2d { kind }.name();
        self.expect_image(name, x)?;
        let mut shape = self.shape(x).to_vec();
        if shape[2..].contains(&0) {
            return Err(Error::shape(format!("{name}: {} is empty", self.describe(x, "input"))));
        }
        let output = [output[0].unwrap_or(shape[2]), output[1].unwrap_or(shape[3])];
        if output == [1, 1] && kind != PoolKind::Max {
            return self.mean(x, &[2, 3], true);
        }
        shape[2..].copy_from_slice(&output);
        Ok(self.add_float(Op::AdaptivePool2d { kind }, vec![x], shape))
    }

    fn expect_image(&self, op: &str, x: Var) -> Result<()> {
        self.expect_float(op, &[x])?;
        if self.shape(x).len() != 4 {
            return Err(Error::shape(format!("{op}: {} must be [n, c, h, w]", self.describe(x, "input"))));
        }
        Ok(())
    }
}

impl Lowering<'_> {
    pub(in crate::graph) fn pool2d(&mut self, pool: &Pool2d, x: &Value, shape: &[usize]) -> Value {
        let x = self.dense_in(x, &CHANNELS_LAST);
        let kernel = Kernel::Pool2d(PoolStep {
            kind: pool.kind,
            batch: shape[0],
            channels: shape[1],
            input: [x.view.shape[2], x.view.shape[3]],
            output: [shape[2], shape[3]],
            kernel: pool.kernel,
            stride: pool.stride,
            padding: pool.padding,
            dilation: pool.dilation,
        });
        self.emit(kernel, &[x], shape, &CHANNELS_LAST)
    }

    pub(in crate::graph) fn adaptive_pool2d(&mut self, kind: PoolKind, x: &Value, shape: &[usize]) -> Value {
        let x = self.dense_in(x, &CHANNELS_LAST);
        let kernel = Kernel::AdaptivePool2d(AdaptivePoolStep {
            kind,
            batch: shape[0],
            channels: shape[1],
            input: [x.view.shape[2], x.view.shape[3]],
            output: [shape[2], shape[3]],
        });
        self.emit(kernel, &[x], shape, &CHANNELS_LAST)
    }
}

#[cfg(test)]
mod tests {
    use super::windows;

    #[test]
    fn counts_windows_as_pytorch_does() {
        // Values of torch.nn.MaxPool1d(kernel, stride, padding, dilation, ceil_mode=...).
        assert_eq!(windows(7, 3, 2, 0, 1, false), Some(3));
        assert_eq!(windows(8, 3, 2, 0, 1, true), Some(4));
        assert_eq!(windows(5, 2, 3, 1, 1, true), Some(2));
        assert_eq!(windows(2, 3, 1, 0, 1, true), None);
        assert_eq!(windows(1, 2, 2, 0, 1, true), Some(1));
        assert_eq!(windows(1, 2, 2, 0, 1, false), None);
        assert_eq!(windows(1, 3, 2, 0, 1, true), None);
        assert_eq!(windows(1, 3, 3, 0, 1, true), Some(1));
        assert_eq!(windows(2, 2, 2, 0, 3, true), None);
    }
}
