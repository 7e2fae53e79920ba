//! What the daemon offers to others.

pub mod management;

mod answer;
mod conversation;
mod status;
