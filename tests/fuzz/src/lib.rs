//! What pgm reads from strangers, for libFuzzer: see `run`.

pub mod bounded_allocator;
pub mod entry;
