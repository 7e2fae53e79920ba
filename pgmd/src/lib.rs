//! The daemon as a library: configuration, shared with the command line, and everything behind `pgmd`.

pub mod config;
pub mod log;
pub mod shared_state;
pub mod supervisor;
