//! Pickles, protocols 0 to 5, read without running anything: the instructions build nodes in an arena; the few
//! functions that PyTorch's own files call are known by name, everything else stays an opaque object.

mod input;
mod machine;
mod node;
pub(super) mod opcode;
mod persistent;
mod rebuild;
mod reduce;
mod text;
mod tree;

pub(super) use machine::{Unpickled, unpickle, unpickle_at};
pub(super) use node::{Inside, StorageId, storage_class, storage_dtype};
pub(super) use persistent::{Embedded, KeyedTensor, ObjectIndex, Objects, Outside};
