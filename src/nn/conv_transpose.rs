//! ConvTranspose1d, ConvTranspose2d, ConvTranspose3d.

use super::module::Module;
use super::repr::{Dims, tuple};
use super::slot::Parameter;
use crate::error::Result;
use crate::graph::{ConvTransposeOptions, Graph, Var};

/// A transposed convolution over `N` dimensions: [`ConvTranspose1d`], [`ConvTranspose2d`], [`ConvTranspose3d`].
pub struct ConvTranspose<const N: usize> {
    /// `[in_channels, out_channels / groups, *kernel_size]`.
    pub weight: Parameter,
    /// `[out_channels]`.
    pub bias: Option<Parameter>,
    in_channels: usize,
    out_channels: usize,
    kernel_size: [usize; N],
    options: ConvTransposeOptions<N>,
}

/// `[N, C_in, L]` gives `[N, C_out, L_out]`.
///
/// [`nn.ConvTranspose1d`](https://docs.pytorch.org/docs/stable/generated/torch.nn.ConvTranspose1d.html).
pub type ConvTranspose1d = ConvTranspose<1>;

/// `[N, C_in, H, W]` gives `[N, C_out, H_out, W_out]`, where
/// `H_out = (H - 1) * stride - 2 * padding + dilation * (kernel_size - 1) + output_padding + 1`.
///
/// [`nn.ConvTranspose2d`](https://docs.pytorch.org/docs/stable/generated/torch.nn.ConvTranspose2d.html).
///
/// ```
/// use sconce::nn::ConvTranspose2d;
/// let up = ConvTranspose2d::new(64, 32, 4).stride(2).padding(1);
/// assert_eq!(up.to_string(), "ConvTranspose2d(64, 32, kernel_size=(4, 4), stride=(2, 2), padding=(1, 1))");
/// assert_eq!(up.weight.shape()[..], [64, 32, 4, 4]);
/// ```
pub type ConvTranspose2d = ConvTranspose<2>;

/// `[N, C_in, D, H, W]` gives `[N, C_out, D_out, H_out, W_out]`.
///
/// [`nn.ConvTranspose3d`](https://docs.pytorch.org/docs/stable/generated/torch.nn.ConvTranspose3d.html).
pub type ConvTranspose3d = ConvTranspose<3>;

crate::module!(ConvTranspose<1> as "ConvTranspose1d" { weight, bias });
crate::module!(ConvTranspose<2> as "ConvTranspose2d" { weight, bias });
crate::module!(ConvTranspose<3> as "ConvTranspose3d" { weight, bias });

impl<const N: usize> ConvTranspose<N> {
    /// `nn.ConvTranspose2d(in_channels, out_channels, kernel_size)`.
    pub fn new(in_channels: usize, out_channels: usize, kernel_size: impl Into<Dims<N>>) -> Self {
        let kernel_size = kernel_size.into().sizes();
        let (weight, bias) = (Parameter::new([in_channels, 1]), Some(Parameter::new([out_channels])));
        let options = ConvTransposeOptions::default();
        Self { weight, bias, in_channels, out_channels, kernel_size, options }.groups(1)
    }

    /// The distance between the outputs of neighbouring inputs: 1 by default.
    #[must_use]
    pub fn stride(mut self, stride: impl Into<Dims<N>>) -> Self {
        self.options.stride = stride.into().sizes();
        self
    }

    /// What is cut off around the output: 0 by default.
    #[must_use]
    pub fn padding(mut self, padding: impl Into<Dims<N>>) -> Self {
        self.options.padding = padding.into().sizes();
        self
    }

    /// What is added to one side of the output, less than stride or dilation: 0 by default.
    #[must_use]
    pub fn output_padding(mut self, output_padding: impl Into<Dims<N>>) -> Self {
        self.options.output_padding = output_padding.into().sizes();
        self
    }

    /// The distance between the elements of a window: 1 by default.
    #[must_use]
    pub fn dilation(mut self, dilation: impl Into<Dims<N>>) -> Self {
        self.options.dilation = dilation.into().sizes();
        self
    }

    /// The number of groups of channels that are convolved apart: 1 by default. `forward` refuses a number that does
    /// not divide both numbers of channels.
    #[must_use]
    pub fn groups(mut self, groups: usize) -> Self {
        self.options.groups = groups;
        let mut shape = vec![self.in_channels, self.out_channels.checked_div(groups).unwrap_or(0)];
        shape.extend(self.kernel_size);
        self.weight = Parameter::new(shape);
        self
    }

    /// Whether there is a bias: by default.
    #[must_use]
    pub fn bias(mut self, bias: bool) -> Self {
        self.bias = bias.then(|| Parameter::new([self.out_channels]));
        self
    }

    fn print(&self) -> String {
        let ConvTransposeOptions { stride, padding, output_padding, dilation, groups } = &self.options;
        let (kernel_size, stride) = (tuple(&self.kernel_size), tuple(stride));
        let mut text =
            format!("{}, {}, kernel_size={kernel_size}, stride={stride}", self.in_channels, self.out_channels);
        if *padding != [0; N] {
            text += &format!(", padding={}", tuple(padding));
        }
        if *dilation != [1; N] {
            text += &format!(", dilation={}", tuple(dilation));
        }
        if *output_padding != [0; N] {
            text += &format!(", output_padding={}", tuple(output_padding));
        }
        if *groups != 1 {
            text += &format!(", groups={groups}");
        }
        if self.bias.is_none() {
            text += ", bias=False";
        }
        text
    }
}

macro_rules! forward {
    ($($n:literal $op:ident)*) => { $(
        impl Module for ConvTranspose<$n> {
            fn forward(&self, graph: &mut Graph, x: Var) -> Result<Var> {
                let weight = self.weight.var(graph)?;
                let bias = self.bias.as_ref().map(|bias| bias.var(graph)).transpose()?;
                graph.$op(x, weight, bias, &self.options)
            }

            fn extra_repr(&self) -> String {
                self.print()
            }
        }
    )* };
}

forward! { 1 conv_transpose1d 2 conv_transpose2d 3 conv_transpose3d }
