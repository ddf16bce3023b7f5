//! Keys of constant values: what the plans of a model know their shared weights by.

use std::sync::Arc;

use crate::dtype::DType;
use crate::graph::step::{Buffer, Memory};

/// What a constant buffer holds. Equal keys mean equal values while the storages that they name exist, which
/// [`Model`](crate::Model) sees to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum WeightKey {
    /// A view of the storage at this address.
    Stored {
        storage: usize,
        offset: usize,
        shape: Vec<usize>,
        stride: Vec<usize>,
        dtype: DType,
        bits: (bool, bool),
        /// Whether it is read as integers rather than as floats.
        is_int: bool,
    },
    Constant {
        dtype: DType,
        shape: Vec<usize>,
        bytes: Vec<u8>,
    },
    Derived(u64),
}

impl WeightKey {
    pub(crate) fn new(Buffer { memory, is_int, .. }: &Buffer) -> Self {
        match memory {
            Memory::Parameter(parameter) => {
                let tensor = &parameter.tensor;
                Self::Stored {
                    storage: Arc::as_ptr(tensor.storage()).addr(),
                    offset: tensor.offset(),
                    shape: tensor.shape().to_vec(),
                    stride: tensor.stride().to_vec(),
                    dtype: tensor.dtype(),
                    bits: tensor.bits(),
                    is_int: *is_int,
                }
            }
            Memory::Constant(tensor) => {
                Self::Constant { dtype: tensor.dtype(), shape: tensor.shape().to_vec(), bytes: tensor.bytes().to_vec() }
            }
            Memory::Derived(key) => Self::Derived(*key),
            Memory::Arena { .. } => unreachable!("an activation is not a weight"),
        }
    }
}
