//! Layers by PyTorch's names, with PyTorch's arguments, state-dict keys and printed form.
//!
//! A layer is made from its hyper-parameters and has no weights until
//! [`load_state_dict`](Module::load_state_dict) gives it some. Required arguments go to `new`; PyTorch's keyword
//! arguments are methods with the same names and defaults: `nn.Conv2d(3, 64, 7, stride=2, bias=False)` is
//! `nn::Conv2d::new(3, 64, 7).stride(2).bias(false)`. Every layer computes what PyTorch computes after `eval()`.
//!
//! [`Module`] shows a net of one's own; [`models`](crate::models) has torchvision's.

mod activation;
mod attention;
mod container;
mod conv;
mod conv_transpose;
mod decoder;
mod dropout;
mod embedding;
mod group_norm;
mod linear;
mod load;
mod module;
mod norm;
mod padding;
mod pool;
mod rare_activation;
pub(crate) mod repr;
mod resize;
mod rnn;
mod slot;

pub use activation::{
    ELU, GELU, Hardsigmoid, Hardswish, Hardtanh, LeakyReLU, LogSoftmax, ReLU, ReLU6, SiLU, Sigmoid, Softmax, Tanh,
};
pub use attention::{MultiheadAttention, TransformerEncoder, TransformerEncoderLayer};
pub use container::{ModuleDict, ModuleList, Sequential};
pub use conv::{Conv, Conv1d, Conv2d, Conv3d};
pub use conv_transpose::{ConvTranspose, ConvTranspose1d, ConvTranspose2d, ConvTranspose3d};
pub use decoder::{Transformer, TransformerDecoder, TransformerDecoderLayer};
pub use dropout::{
    AlphaDropout, Dropout, Dropout1d, Dropout2d, Dropout3d, FeatureAlphaDropout, Flatten, Identity, Unflatten,
};
pub use embedding::Embedding;
pub use group_norm::{
    GroupNorm, InstanceNorm, InstanceNorm1d, InstanceNorm2d, InstanceNorm3d, LocalResponseNorm, RMSNorm,
};
pub use linear::Linear;
#[cfg(test)]
pub(crate) use module::slots;
pub use module::{AsField, Field, FieldMut, Fields, FieldsMut, Module, Structure};
pub use norm::{BatchNorm, BatchNorm1d, BatchNorm2d, BatchNorm3d, LayerNorm};
pub use padding::{
    CircularPad, CircularPad1d, CircularPad2d, CircularPad3d, ConstantPad, ConstantPad1d, ConstantPad2d, ConstantPad3d,
    ReflectionPad, ReflectionPad1d, ReflectionPad2d, ReflectionPad3d, ReplicationPad, ReplicationPad1d,
    ReplicationPad2d, ReplicationPad3d, ZeroPad, ZeroPad1d, ZeroPad2d, ZeroPad3d,
};
pub use pool::{
    AdaptiveAvgPool1d, AdaptiveAvgPool2d, AdaptiveMaxPool1d, AdaptiveMaxPool2d, AvgPool, AvgPool1d, AvgPool2d, MaxPool,
    MaxPool1d, MaxPool2d,
};
pub use rare_activation::{
    CELU, GLU, LogSigmoid, Mish, PReLU, RReLU, SELU, Softmax2d, Softmin, Softplus, Softshrink, Softsign, Tanhshrink,
};
pub use repr::Dims;
pub use resize::{ChannelShuffle, PixelShuffle, PixelUnshuffle, Upsample, UpsampleMode};
pub use rnn::{GRU, LSTM, RNN};
pub use slot::{Buffer, Parameter, Slot};

pub use crate::graph::{Approximate, Padding, PaddingMode};

#[cfg(test)]
mod tests;
