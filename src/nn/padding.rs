//! ConstantPad1d to CircularPad3d: layers that put elements around their input.

use super::module::Module;
use super::repr::{float, tuple};
use crate::error::{Error, Result};
use crate::graph::{Graph, PadMode, Var};

/// `(before, after)` of the last dimension, then of the one before it, and so on, as PyTorch has them.
fn pad(graph: &mut Graph, x: Var, padding: &[usize], mode: PadMode) -> Result<Var> {
    let rank = graph.shape(x).len();
    let lead = rank.checked_sub(padding.len() / 2).ok_or_else(|| {
        Error::shape(format!("pad: {} numbers do not fit an input {}", padding.len(), graph.shape(x)))
    })?;
    let mut pads = vec![(0, 0); lead];
    pads.extend(padding.chunks_exact(2).rev().map(|pair| (pair[0], pair[1])));
    graph.pad(x, &pads, mode)
}

macro_rules! pads {
    ($($(#[$doc:meta])* $name:ident: $name1:ident $class1:literal, $name2:ident $class2:literal,
       $name3:ident $class3:literal => $mode:expr, $link:literal;)*) => { $(
        $(#[$doc])*
        pub struct $name<const N: usize> {
            padding: Vec<usize>,
        }

        pads!(@kind $name, $name1, $class1, 1, $mode, $link);
        pads!(@kind $name, $name2, $class2, 2, $mode, $link);
        pads!(@kind $name, $name3, $class3, 3, $mode, $link);

        impl<const N: usize> $name<N> {
            /// The number of elements before and after along the last dimension, then the one before it, and so on; one
            /// number for all of them.
            ///
            /// # Panics
            /// When there is another number of them.
            pub fn new(padding: impl Into<Vec<usize>>) -> Self {
                Self { padding: expand::<N>(padding.into()) }
            }
        }
    )* };
    (@kind $name:ident, $alias:ident, $class:literal, $n:literal, $mode:expr, $link:literal) => {
        #[doc = concat!("[`nn.", $class, "`](", $link, $class, ".html).")]
        pub type $alias = $name<$n>;

        crate::module!($name<$n> as $class {});

        impl Module for $name<$n> {
            fn forward(&self, graph: &mut Graph, x: Var) -> Result<Var> {
                pad(graph, x, &self.padding, $mode)
            }

            fn extra_repr(&self) -> String {
                tuple(&self.padding)
            }
        }
    };
}

fn expand<const N: usize>(padding: Vec<usize>) -> Vec<usize> {
    match padding[..] {
        [all] => vec![all; 2 * N],
        _ => {
            assert_eq!(padding.len(), 2 * N, "padding of {N} dimensions");
            padding
        }
    }
}

pads! {
    /// Zeros around the last `N` dimensions.
    ZeroPad: ZeroPad1d "ZeroPad1d", ZeroPad2d "ZeroPad2d", ZeroPad3d "ZeroPad3d"
        => PadMode::Constant(0.0), "https://docs.pytorch.org/docs/stable/generated/torch.nn.";
    /// The input mirrored at its edges, which are not repeated, around the last `N` dimensions.
    ReflectionPad: ReflectionPad1d "ReflectionPad1d", ReflectionPad2d "ReflectionPad2d",
        ReflectionPad3d "ReflectionPad3d"
        => PadMode::Reflect, "https://docs.pytorch.org/docs/stable/generated/torch.nn.";
    /// The input's edges repeated around the last `N` dimensions.
    ReplicationPad: ReplicationPad1d "ReplicationPad1d", ReplicationPad2d "ReplicationPad2d",
        ReplicationPad3d "ReplicationPad3d"
        => PadMode::Replicate, "https://docs.pytorch.org/docs/stable/generated/torch.nn.";
    /// The input's other end around the last `N` dimensions.
    CircularPad: CircularPad1d "CircularPad1d", CircularPad2d "CircularPad2d", CircularPad3d "CircularPad3d"
        => PadMode::Circular, "https://docs.pytorch.org/docs/stable/generated/torch.nn.";
}

/// One value around the last `N` dimensions: [`ConstantPad1d`], [`ConstantPad2d`], [`ConstantPad3d`].
pub struct ConstantPad<const N: usize> {
    padding: Vec<usize>,
    value: f64,
}

/// [`nn.ConstantPad1d`](https://docs.pytorch.org/docs/stable/generated/torch.nn.ConstantPad1d.html).
pub type ConstantPad1d = ConstantPad<1>;
/// [`nn.ConstantPad2d`](https://docs.pytorch.org/docs/stable/generated/torch.nn.ConstantPad2d.html).
pub type ConstantPad2d = ConstantPad<2>;
/// [`nn.ConstantPad3d`](https://docs.pytorch.org/docs/stable/generated/torch.nn.ConstantPad3d.html).
pub type ConstantPad3d = ConstantPad<3>;

impl<const N: usize> ConstantPad<N> {
    /// The number of elements before and after along the last dimension, then the one before it, and so on (one number
    /// for all of them), and their value.
    ///
    /// # Panics
    /// When there is another number of them.
    pub fn new(padding: impl Into<Vec<usize>>, value: f64) -> Self {
        Self { padding: expand::<N>(padding.into()), value }
    }
}

macro_rules! constant_pad {
    ($($n:literal $class:literal)*) => { $(
        crate::module!(ConstantPad<$n> as $class {});

        impl Module for ConstantPad<$n> {
            fn forward(&self, graph: &mut Graph, x: Var) -> Result<Var> {
                pad(graph, x, &self.padding, PadMode::Constant(self.value as f32))
            }

            fn extra_repr(&self) -> String {
                format!("padding={}, value={}", tuple(&self.padding), float(self.value))
            }
        }
    )* };
}

constant_pad!(1 "ConstantPad1d" 2 "ConstantPad2d" 3 "ConstantPad3d");
