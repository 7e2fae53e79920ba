//! Storages around storages.

mod paced;
mod sealed;

pub(crate) use paced::PacedStorage;
pub use sealed::{SealedOptions, SealedStorage};
