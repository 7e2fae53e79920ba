//! The page for people and the metrics, over HTTP.
//!
//! ```text
//! GET /          the overview            GET /metrics   metrics as text, in chunks when there is much
//! anything else  403                     other methods  405
//! ```
//!
//! Nobody logs in here and nothing can be changed here. A request asks no server, no worker and no repository: it reads
//! the facts (`facts`). One connection carries one request, so every client is gone after a bounded time:
//! `metrics.timeout` for asking, and as long again for reading the answer. When all places are taken, the client that
//! has been silent longest goes.
//!
//! What the configuration names must be there: a certificate or key that cannot be used keeps the daemon from starting;
//! there is no way from TLS back to plain HTTP.

mod body;
mod error;
mod place;
mod response;
mod server;
mod tls;

pub use error::HttpError;
pub use server::HttpServer;
