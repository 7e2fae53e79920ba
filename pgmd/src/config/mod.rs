//! The configuration: one RON file, `pgmd.ron`.
//!
//! Every value is checked where it is read and kept as its own type; nothing is looked at again later. An error names
//! file, line and column, says what was expected, and offers the nearest valid name. Unknown fields are refused.
//! Relative paths are resolved against the folder of the file. Environment variables are not expanded.
//!
//! Reading a configuration has no effect on the disk: folders are made by whoever uses them.

mod error;
mod os_user;
mod reader;
mod sample;
mod source;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use pgm_proto::{ConnInfo, Defaults, Secret, ServerName, SlotName};
use pgm_storage::Compression;
use serde::{Deserialize, Serialize};

pub use error::ConfigError;
pub(crate) use error::nearest_hint;
pub use os_user::OsUser;
pub use sample::{Sample, sample};

/// The name of the configuration file in the daemon's directory.
pub const FILE_NAME: &str = "pgmd.ron";
/// The name of the management socket in its folder.
pub const SOCKET_NAME: &str = ".s.pgmd";
/// The name of the lock file in the run folder; it holds the daemon's process id.
pub const PID_FILE_NAME: &str = "pgmd.pid";

/// A configuration file, read and checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// The file itself, absolute.
    pub file: PathBuf,
    /// How much is logged.
    pub log_level: LogLevel,
    /// The folder of the management socket and the lock file, absolute.
    pub unix_socket_dir: PathBuf,
    /// Where backups and WAL rest.
    pub repository: RepositoryConfig,
    /// The folder where WAL becomes durable first, absolute; one folder a server in it.
    pub spool: PathBuf,
    /// What completes the servers' connection strings.
    pub connection_defaults: Defaults,
    /// How many jobs may run at the same time, over all servers.
    pub jobs_max: usize,
    /// The servers to protect.
    pub servers: BTreeMap<ServerName, ServerConfig>,
}

/// Where backups and WAL rest, and how they are packed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepositoryConfig {
    /// The folder, absolute.
    pub path: PathBuf,
    /// How new backups and WAL are compressed.
    pub compression: Compression,
}

/// One server.
#[derive(Debug, Clone, PartialEq)]
pub struct ServerConfig {
    /// How to reach it, completed with the defaults of the daemon's user.
    pub conninfo: ConnInfo,
    /// The same as it is written in the file.
    pub conninfo_text: Secret,
    /// The physical replication slot that keeps its WAL for us.
    pub slot: SlotName,
    /// Whether the slot is made when it is missing.
    pub create_slot: bool,
    /// Backups transfer at most this much, in KiB a second.
    pub backup_max_rate_kib: Option<u32>,
}

/// How much is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Only what failed.
    Error,
    /// And what needs attention.
    Warn,
    /// And what happens.
    #[default]
    Info,
    /// And how.
    Debug,
    /// Everything.
    Trace,
}

impl LogLevel {
    /// All of them, quietest first.
    pub const ALL: [Self; 5] = [
        Self::Error,
        Self::Warn,
        Self::Info,
        Self::Debug,
        Self::Trace,
    ];

    /// The name in the configuration: `info`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

impl Config {
    /// Reads and checks the configuration in `file`.
    ///
    /// A file that holds a password must be readable by its owner alone.
    pub fn load(file: &Path) -> Result<Self, ConfigError> {
        reader::load(file)
    }

    /// Checks the configuration in `text`, as if it stood in `file`; the file itself is not touched.
    pub fn parse(file: &Path, text: &str) -> Result<Self, ConfigError> {
        reader::parse(file, text)
    }

    /// The management socket.
    pub fn socket(&self) -> PathBuf {
        self.unix_socket_dir.join(SOCKET_NAME)
    }

    /// The lock file, which holds the process id of the daemon that runs.
    pub fn pid_file(&self) -> PathBuf {
        self.unix_socket_dir.join(PID_FILE_NAME)
    }

    /// The spool of `server`.
    pub fn spool_of(&self, server: &ServerName) -> PathBuf {
        self.spool.join(server.as_str())
    }

    /// The entry of `server`.
    pub fn server(&self, server: &ServerName) -> Result<&ServerConfig, ConfigError> {
        self.servers
            .get(server)
            .ok_or_else(|| ConfigError::UnknownServer {
                file: self.file.clone(),
                server: server.to_string(),
                known: self.servers.keys().map(ToString::to_string).collect(),
            })
    }
}

#[cfg(test)]
mod tests;
