//! The pgm daemon as a library: its configuration, which the command line reads too, and everything behind `pgmd`.
//!
//! Modules in reading order: [`config`] and [`log`] first; [`supervisor`] starts and watches the [`worker`] processes and
//! shares memory with them ([`shared_state`]); [`service`] answers clients. The binary only reads its command line.
//!
//! ```
//! use std::path::Path;
//! use pgmd::config::{Config, sample};
//!
//! let servers = [("prod".parse()?, "host=db1 user=backup".to_owned())];
//! let config = Config::parse(Path::new("/var/lib/pgm/pgmd.ron"), &sample(&servers))?;
//! assert_eq!(config.socket(), Path::new("/var/lib/pgm/run/.s.pgmd"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod arguments;
pub mod audit;
pub mod config;
pub mod known_repository;
pub mod listing;
pub mod log;
pub mod operations;
pub mod place;
pub mod repository;
pub mod restore;
pub mod restore_command;
pub mod retention;
pub mod seal_key;
pub mod secrets;
pub mod service;
pub mod shared_state;
pub mod supervisor;
pub mod tarball;
pub mod trial;
pub mod windows;
pub mod worker;
