//! Starts workers and keeps them alive. The only place that starts processes.

pub mod state;
