//! The admin console: commands in text over PostgreSQL's protocol, for psql and for every driver.
//!
//! ```text
//! query -> lexer -> command (a Request) -> answer() -> shape (columns, rows) -> messages
//! ```
//!
//! A command becomes the same [`Request`](pgm_mgmt::Request) that other clients send, and goes the same way, so roles and
//! the audit log hold. Jobs are followed to their end, with their progress as notices; who presses Ctrl-C, or goes,
//! leaves the job running. Statements of one query are understood all before the first is carried out.
//!
//! The simple and the extended protocol are spoken, the latter without parameters. There are no transactions: each
//! command stands for itself.

mod command;
mod frontend;
mod lexer;
mod reply;
mod session;
mod shape;
mod sql;
mod table;
mod words;

#[cfg(test)]
mod tests;

pub(super) use session::converse;
pub(super) use sql::SERVER_VERSION;
