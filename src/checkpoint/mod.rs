//! Checkpoints: the files that PyTorch writes, as trees of values. Nothing in a file is ever executed.

mod storage;
mod stored;

pub use storage::Storage;
pub use stored::StoredTensor;
