//! Models from files alone.

mod module;

pub(crate) use module::load;
pub use module::StoredModule;
