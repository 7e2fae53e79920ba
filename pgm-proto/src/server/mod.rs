//! The server's side: what a program needs that PostgreSQL's clients connect to.
//!
//! [`verifier`]: what a server keeps of a password.

mod verifier;

pub use verifier::{ParseVerifierError, ScramIterations, ScramVerifier};
