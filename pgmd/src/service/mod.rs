//! What the daemon offers to others.

pub mod configuration;
pub mod http;
pub mod management;
pub mod remote;

mod answer;
pub(crate) mod audited;
mod caller;
mod choice;
mod console;
mod conversation;
mod details;
mod facts;
mod jobs;
mod listen;
mod metrics;
mod operations;
mod overview;
mod socket_group;
mod status;

pub use caller::{Caller, Origin};
pub use socket_group::SocketGroup;
