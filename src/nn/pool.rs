//! Max, average and adaptive pools.

use super::module::Module;
use super::repr::{Dims, boolean, tuple};
use crate::error::Result;
use crate::graph::{AvgPoolOptions, Graph, MaxPoolOptions, Var};

/// The largest element of each window over `N` dimensions: [`MaxPool1d`], [`MaxPool2d`].
pub struct MaxPool<const N: usize> {
    kernel_size: Dims<N>,
    stride: Dims<N>,
    padding: Dims<N>,
    dilation: Dims<N>,
    ceil_mode: bool,
}

/// `[N, C, L]` gives `[N, C, L_out]`.
///
/// [`nn.MaxPool1d`](https://docs.pytorch.org/docs/stable/generated/torch.nn.MaxPool1d.html).
pub type MaxPool1d = MaxPool<1>;
/// `[N, C, H, W]` gives `[N, C, H_out, W_out]`.
///
/// [`nn.MaxPool2d`](https://docs.pytorch.org/docs/stable/generated/torch.nn.MaxPool2d.html).
///
/// ```
/// let pool = sconce::nn::MaxPool2d::new(3).stride(2).padding(1);
/// assert_eq!(pool.to_string(), "MaxPool2d(kernel_size=3, stride=2, padding=1, dilation=1, ceil_mode=False)");
/// ```
pub type MaxPool2d = MaxPool<2>;

crate::module!(MaxPool<1> as "MaxPool1d" {});
crate::module!(MaxPool<2> as "MaxPool2d" {});

impl<const N: usize> MaxPool<N> {
    /// `nn.MaxPool2d(kernel_size)`, with the window's size as its stride.
    pub fn new(kernel_size: impl Into<Dims<N>>) -> Self {
        let kernel_size = kernel_size.into();
        Self { kernel_size, stride: kernel_size, padding: 0.into(), dilation: 1.into(), ceil_mode: false }
    }

    /// The distance between windows.
    #[must_use]
    pub fn stride(mut self, stride: impl Into<Dims<N>>) -> Self {
        self.stride = stride.into();
        self
    }

    /// What is added around the input, and never the largest: 0 by default.
    #[must_use]
    pub fn padding(mut self, padding: impl Into<Dims<N>>) -> Self {
        self.padding = padding.into();
        self
    }

    /// The distance between the elements of a window: 1 by default.
    #[must_use]
    pub fn dilation(mut self, dilation: impl Into<Dims<N>>) -> Self {
        self.dilation = dilation.into();
        self
    }

    /// Whether the number of windows is rounded up: not by default.
    #[must_use]
    pub fn ceil_mode(mut self, ceil_mode: bool) -> Self {
        self.ceil_mode = ceil_mode;
        self
    }

    fn options(&self) -> MaxPoolOptions<N> {
        MaxPoolOptions {
            kernel_size: self.kernel_size.sizes(),
            stride: self.stride.sizes(),
            padding: self.padding.sizes(),
            dilation: self.dilation.sizes(),
            ceil_mode: self.ceil_mode,
        }
    }

    fn print(&self) -> String {
        format!(
            "kernel_size={}, stride={}, padding={}, dilation={}, ceil_mode={}",
            self.kernel_size,
            self.stride,
            self.padding,
            self.dilation,
            boolean(self.ceil_mode)
        )
    }
}

/// The mean of each window over `N` dimensions: [`AvgPool1d`], [`AvgPool2d`].
pub struct AvgPool<const N: usize> {
    kernel_size: Dims<N>,
    stride: Dims<N>,
    padding: Dims<N>,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: Option<usize>,
}

/// `[N, C, L]` gives `[N, C, L_out]`.
///
/// [`nn.AvgPool1d`](https://docs.pytorch.org/docs/stable/generated/torch.nn.AvgPool1d.html).
pub type AvgPool1d = AvgPool<1>;
/// `[N, C, H, W]` gives `[N, C, H_out, W_out]`.
///
/// [`nn.AvgPool2d`](https://docs.pytorch.org/docs/stable/generated/torch.nn.AvgPool2d.html).
pub type AvgPool2d = AvgPool<2>;

crate::module!(AvgPool<1> as "AvgPool1d" {});
crate::module!(AvgPool<2> as "AvgPool2d" {});

impl<const N: usize> AvgPool<N> {
    /// `nn.AvgPool2d(kernel_size)`, with the window's size as its stride.
    pub fn new(kernel_size: impl Into<Dims<N>>) -> Self {
        let kernel_size = kernel_size.into();
        Self {
            kernel_size,
            stride: kernel_size,
            padding: 0.into(),
            ceil_mode: false,
            count_include_pad: true,
            divisor_override: None,
        }
    }

    /// The distance between windows.
    #[must_use]
    pub fn stride(mut self, stride: impl Into<Dims<N>>) -> Self {
        self.stride = stride.into();
        self
    }

    /// The zeros that are added around the input: 0 by default.
    #[must_use]
    pub fn padding(mut self, padding: impl Into<Dims<N>>) -> Self {
        self.padding = padding.into();
        self
    }

    /// Whether the number of windows is rounded up: not by default.
    #[must_use]
    pub fn ceil_mode(mut self, ceil_mode: bool) -> Self {
        self.ceil_mode = ceil_mode;
        self
    }

    /// Whether the zeros of the padding count in the mean: by default.
    #[must_use]
    pub fn count_include_pad(mut self, include: bool) -> Self {
        self.count_include_pad = include;
        self
    }

    fn options(&self) -> AvgPoolOptions<N> {
        AvgPoolOptions {
            kernel_size: self.kernel_size.sizes(),
            stride: self.stride.sizes(),
            padding: self.padding.sizes(),
            ceil_mode: self.ceil_mode,
            count_include_pad: self.count_include_pad,
            divisor_override: self.divisor_override,
        }
    }
}

impl AvgPool<2> {
    /// What the sum of a window is divided by, instead of the number of its elements.
    #[must_use]
    pub fn divisor_override(mut self, divisor: usize) -> Self {
        self.divisor_override = Some(divisor);
        self
    }
}

impl Module for AvgPool<1> {
    fn forward(&self, graph: &mut Graph, x: Var) -> Result<Var> {
        graph.avg_pool1d(x, &self.options())
    }

    fn extra_repr(&self) -> String {
        let [kernel_size, stride, padding] = [self.kernel_size, self.stride, self.padding].map(|d| tuple(&d.sizes()));
        format!("kernel_size={kernel_size}, stride={stride}, padding={padding}")
    }
}

impl Module for AvgPool<2> {
    fn forward(&self, graph: &mut Graph, x: Var) -> Result<Var> {
        graph.avg_pool2d(x, &self.options())
    }

    fn extra_repr(&self) -> String {
        format!("kernel_size={}, stride={}, padding={}", self.kernel_size, self.stride, self.padding)
    }
}

impl Module for MaxPool<1> {
    fn forward(&self, graph: &mut Graph, x: Var) -> Result<Var> {
        graph.max_pool1d(x, &self.options())
    }

    fn extra_repr(&self) -> String {
        self.print()
    }
}

impl Module for MaxPool<2> {
    fn forward(&self, graph: &mut Graph, x: Var) -> Result<Var> {
        graph.max_pool2d(x, &self.options())
    }

    fn extra_repr(&self) -> String {
        self.print()
    }
}

macro_rules! adaptive {
    ($($(#[$doc:meta])* $name:ident: $size:ty => $method:ident;)*) => { $(
        $(#[$doc])*
        pub struct $name {
            output_size: $size,
        }

        crate::module!($name {});

        impl $name {
            /// As many windows as `output_size` says.
            pub fn new(output_size: impl Into<$size>) -> Self {
                Self { output_size: output_size.into() }
            }
        }

        impl Module for $name {
            fn forward(&self, graph: &mut Graph, x: Var) -> Result<Var> {
                graph.$method(x, OutputSize::get(self.output_size))
            }

            fn extra_repr(&self) -> String {
                format!("output_size={}", self.output_size)
            }
        }
    )* };
}

/// An output size as the graph takes it.
trait OutputSize {
    type Sizes;

    fn get(self) -> Self::Sizes;
}

impl OutputSize for usize {
    type Sizes = usize;

    fn get(self) -> usize {
        self
    }
}

impl OutputSize for Dims<2, Option<usize>> {
    type Sizes = [Option<usize>; 2];

    fn get(self) -> [Option<usize>; 2] {
        self.sizes()
    }
}

adaptive! {
    /// The mean of `output_size` windows that cover the input: `[N, C, L]` gives `[N, C, output_size]`.
    ///
    /// [`nn.AdaptiveAvgPool1d`](https://docs.pytorch.org/docs/stable/generated/torch.nn.AdaptiveAvgPool1d.html).
    AdaptiveAvgPool1d: usize => adaptive_avg_pool1d;
    /// The largest element of `output_size` windows that cover the input: `[N, C, L]` gives `[N, C, output_size]`.
    ///
    /// [`nn.AdaptiveMaxPool1d`](https://docs.pytorch.org/docs/stable/generated/torch.nn.AdaptiveMaxPool1d.html).
    AdaptiveMaxPool1d: usize => adaptive_max_pool1d;
    /// The mean of windows that cover the input: `[N, C, H, W]` gives `[N, C, H_out, W_out]`. A size that is `None`
    /// is that of the input.
    ///
    /// [`nn.AdaptiveAvgPool2d`](https://docs.pytorch.org/docs/stable/generated/torch.nn.AdaptiveAvgPool2d.html).
    AdaptiveAvgPool2d: Dims<2, Option<usize>> => adaptive_avg_pool2d;
    /// The largest element of windows that cover the input: `[N, C, H, W]` gives `[N, C, H_out, W_out]`. A size that
    /// is `None` is that of the input.
    ///
    /// [`nn.AdaptiveMaxPool2d`](https://docs.pytorch.org/docs/stable/generated/torch.nn.AdaptiveMaxPool2d.html).
    AdaptiveMaxPool2d: Dims<2, Option<usize>> => adaptive_max_pool2d;
}
