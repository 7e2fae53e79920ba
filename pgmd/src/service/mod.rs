//! What the daemon offers to others.

pub mod management;

mod answer;
mod caller;
mod conversation;
mod status;

pub use caller::{Caller, Origin};
