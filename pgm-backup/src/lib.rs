//! PostgreSQL backups: repository, catalog, manifest, backup, restore.
//!
//! Modules in reading order: [`label`](BackupLabel) and [`Context`] are the words, `repository` is the layout with its
//! locks, staging areas and sweeps, [`catalog`] says which backups there are, [`manifest`] where each page of one
//! rests, [`mod@backup`] takes one, [`restore`] gives one back, [`verify`] looks whether that would work, and [`mod@delete`]
//! removes one; [`window`] says from where to where a server can be restored. [`marks`] are what people say about a backup. This crate never reads a configuration file, the home
//! directory or the terminal: it takes typed options and reports progress through a value.
//!
//! ```no_run
//! use std::sync::Arc;
//!
//! use pgm_backup::catalog::BackupWal;
//! use pgm_backup::{BackupRequest, Context, NoArchive, Repository, BackupTarget, backup};
//! use pgm_proto::{Client, Session};
//! use pgm_storage::{Compression, LocalStorage};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let repository = Repository::open_or_create(Arc::new(LocalStorage::create("/backup")?))?;
//! let mut client = Client::connect(&"host=db user=backup".parse()?, Session::PhysicalReplication)?;
//! let request = BackupRequest { wal: BackupWal::Included, ..BackupRequest::default() };
//! let server = "main".parse()?;
//! let target =
//!     BackupTarget { repository: &repository, compression: Compression::ZSTD, coverage: &NoArchive };
//! backup(&Context::quiet(), &mut client, &server, &[target], &request)?;
//! for entry in repository.catalog(&server)?.backups() {
//!     println!("{} {} bytes", entry.label, entry.size.raw_bytes);
//! }
//! # Ok(())
//! # }
//! ```

mod checksum;
mod context;
mod error;
mod label;
pub mod marks;
mod record;

pub mod backup;
pub mod catalog;
pub mod delete;
pub mod manifest;
pub mod repository;
pub mod restore;
pub mod retention;
pub mod transfer;
pub mod verify;
pub mod window;

pub use backup::{
    BackupOutcome, BackupRequest, BackupSource, BackupTarget, Compaction, Coverage, Incremental,
    NoArchive, Resume, WalCoverage, backup,
};
pub use catalog::{BackupEntry, Catalog};
pub use context::{Context, Phase, Progress, ProgressSink, Quiet};
pub use error::{Error, Result};
pub use label::{BackupLabel, ParseLabelError};
pub use repository::{Purpose, Repository};
