//! The graph's builders, a file a family: argument checks, shape rules, and what is composed from other ops.

mod attention;
mod conv;
mod conv_transpose;
mod linear;
mod norm;
mod pointwise;
mod pool;
mod reduce;
mod rnn;
mod shape;
mod volume;

pub use conv::{ConvOptions, Padding, PaddingMode};
pub use conv_transpose::ConvTransposeOptions;
pub use pointwise::Approximate;
pub use pool::{AvgPoolOptions, MaxPoolOptions};
pub(crate) use rnn::{Cell, CellWeights, Recurrent};
