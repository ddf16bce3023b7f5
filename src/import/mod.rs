//! Models from files alone.

mod module;

pub use module::StoredModule;
pub(crate) use module::{forward, load};
