//! Storages around storages.

mod paced;

pub(crate) use paced::PacedStorage;
