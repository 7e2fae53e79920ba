//! The server's side: what a program needs that PostgreSQL's clients connect to.
//!
//! A [`Handshake`] is everything from the first byte of a connection to the login: requests for encryption, the startup
//! packet, SCRAM. It is a value without sockets and clocks: bytes go in, bytes and what to do next come out. Who may log
//! in is asked from a function; a [`ScramVerifier`] is what a server keeps of a password. After the login the bytes are
//! the caller's; [`welcome`], [`ready`] and [`Refusal`] say what has to be said in PostgreSQL's words.
//! [`ServerTls`] is the certificate that such a server shows.
//!
//! Passwords are never asked for in clear or as MD5.

mod cancel;
mod handshake;
mod reply;
mod scram;
mod startup;
mod tls;
mod verifier;

pub use cancel::CancelKey;
pub use handshake::{
    BUFFER_BYTES_MAX, Encryption, Handshake, HandshakeOptions, Login, Next, PlainText, Step,
};
pub use reply::{Refusal, ready, welcome};
pub use scram::MockSecret;
pub use tls::{ServerTls, ServerTlsFiles};
pub use verifier::{ParseVerifierError, ScramIterations, ScramVerifier};
