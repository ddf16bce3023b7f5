//! Conv1d, Conv2d, Conv3d.

use super::module::Module;
use super::repr::{Dims, tuple};
use super::slot::Parameter;
use crate::error::Result;
use crate::graph::{ConvOptions, Graph, Padding, PaddingMode, Var};

/// A convolution over `N` dimensions: [`Conv1d`], [`Conv2d`], [`Conv3d`].
pub struct Conv<const N: usize> {
    /// `[out_channels, in_channels / groups, *kernel_size]`.
    pub weight: Parameter,
    /// `[out_channels]`.
    pub bias: Option<Parameter>,
    in_channels: usize,
    out_channels: usize,
    kernel_size: [usize; N],
    options: ConvOptions<N>,
}

/// `[N, C_in, L]` gives `[N, C_out, L_out]`.
///
/// [`nn.Conv1d`](https://docs.pytorch.org/docs/stable/generated/torch.nn.Conv1d.html).
pub type Conv1d = Conv<1>;

/// `[N, C_in, H, W]` gives `[N, C_out, H_out, W_out]`, where
/// `H_out = (H + 2 * padding - dilation * (kernel_size - 1) - 1) / stride + 1`, rounded down.
///
/// [`nn.Conv2d`](https://docs.pytorch.org/docs/stable/generated/torch.nn.Conv2d.html).
///
/// ```
/// use sconce::nn::{Conv2d, Padding};
/// let conv = Conv2d::new(3, 64, 7).stride(2).padding(3).bias(false);
/// assert_eq!(
///     conv.to_string(),
///     "Conv2d(3, 64, kernel_size=(7, 7), stride=(2, 2), padding=(3, 3), bias=False)"
/// );
/// let same = Conv2d::new(8, 8, (3, 1)).padding(Padding::Same).groups(8);
/// assert_eq!(same.weight.shape()[..], [8, 1, 3, 1]);
/// ```
pub type Conv2d = Conv<2>;

/// `[N, C_in, D, H, W]` gives `[N, C_out, D_out, H_out, W_out]`.
///
/// [`nn.Conv3d`](https://docs.pytorch.org/docs/stable/generated/torch.nn.Conv3d.html).
pub type Conv3d = Conv<3>;

crate::module!(Conv<1> as "Conv1d" { weight, bias });
crate::module!(Conv<2> as "Conv2d" { weight, bias });
crate::module!(Conv<3> as "Conv3d" { weight, bias });

impl<const N: usize> Conv<N> {
    /// `nn.Conv2d(in_channels, out_channels, kernel_size)`.
    pub fn new(in_channels: usize, out_channels: usize, kernel_size: impl Into<Dims<N>>) -> Self {
        let kernel_size = kernel_size.into().sizes();
        let weight = Parameter::new([out_channels, 1]);
        let bias = Some(Parameter::new([out_channels]));
        let options = ConvOptions { padding: Padding::Explicit([0; N]), ..ConvOptions::default() };
        Self { weight, bias, in_channels, out_channels, kernel_size, options }.groups(1)
    }

    /// The distance between windows: 1 by default.
    #[must_use]
    pub fn stride(mut self, stride: impl Into<Dims<N>>) -> Self {
        self.options.stride = stride.into().sizes();
        self
    }

    /// What is added around the input: sizes (0 by default), [`Padding::Same`] or [`Padding::Valid`].
    #[must_use]
    pub fn padding(mut self, padding: impl Into<Padding<N>>) -> Self {
        self.options.padding = padding.into();
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
        let mut shape = vec![self.out_channels, self.in_channels.checked_div(groups).unwrap_or(0)];
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

    /// What the padding is filled with: [`PaddingMode::Zeros`] by default.
    #[must_use]
    pub fn padding_mode(mut self, mode: PaddingMode) -> Self {
        self.options.padding_mode = mode;
        self
    }

    /// The number of channels of the input.
    pub fn in_channels(&self) -> usize {
        self.in_channels
    }

    /// The number of channels of the output.
    pub fn out_channels(&self) -> usize {
        self.out_channels
    }

    /// The size of the window.
    pub fn kernel_size(&self) -> [usize; N] {
        self.kernel_size
    }

    /// Stride, padding, dilation, groups and padding mode.
    pub fn options(&self) -> &ConvOptions<N> {
        &self.options
    }

    fn vars(&self, graph: &mut Graph) -> Result<(Var, Option<Var>)> {
        let weight = self.weight.var(graph)?;
        Ok((weight, self.bias.as_ref().map(|bias| bias.var(graph)).transpose()?))
    }

    fn print(&self) -> String {
        let ConvOptions { stride, padding, dilation, groups, padding_mode } = &self.options;
        let (kernel_size, stride) = (tuple(&self.kernel_size), tuple(stride));
        let mut text =
            format!("{}, {}, kernel_size={kernel_size}, stride={stride}", self.in_channels, self.out_channels);
        match padding {
            Padding::Explicit(sizes) if sizes.iter().all(|&size| size == 0) => {}
            Padding::Explicit(sizes) => text += &format!(", padding={}", tuple(sizes)),
            Padding::Same => text += ", padding=same",
            Padding::Valid => text += ", padding=valid",
        }
        if *dilation != [1; N] {
            text += &format!(", dilation={}", tuple(dilation));
        }
        if *groups != 1 {
            text += &format!(", groups={groups}");
        }
        if self.bias.is_none() {
            text += ", bias=False";
        }
        match padding_mode {
            PaddingMode::Zeros => {}
            PaddingMode::Reflect => text += ", padding_mode=reflect",
            PaddingMode::Replicate => text += ", padding_mode=replicate",
            PaddingMode::Circular => text += ", padding_mode=circular",
        }
        text
    }
}

macro_rules! forward {
    ($($n:literal $op:ident)*) => { $(
        impl Module for Conv<$n> {
            fn forward(&self, graph: &mut Graph, x: Var) -> Result<Var> {
                let (weight, bias) = self.vars(graph)?;
                graph.$op(x, weight, bias, &self.options)
            }

            fn extra_repr(&self) -> String {
                self.print()
            }
        }
    )* };
}

forward! { 1 conv1d 2 conv2d 3 conv3d }

impl<const N: usize, D: Into<Dims<N>>> From<D> for Padding<N> {
    fn from(sizes: D) -> Self {
        Padding::Explicit(sizes.into().sizes())
    }
}
