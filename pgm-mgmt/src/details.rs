//! Everything that a status tells when it is asked for details.

use pgm_proto::{Lsn, ServerName, TimelineId};
use serde::{Deserialize, Serialize};

use crate::mode::ServerMode;
use crate::response::DaemonStatus;
use crate::verify::ProvenRecovery;
use crate::window::RecoveryWindow;

/// The status, and what is looked up for it besides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusDetails {
    /// The status.
    pub status: DaemonStatus,
    /// Seconds since the daemon started.
    pub uptime_seconds: u64,
    /// Where backups and WAL rest.
    pub repository: MediumDetails,
    /// Where WAL becomes durable first.
    pub spool: MediumDetails,
    /// What the configuration file says; everything else has its default.
    pub settings: Vec<WrittenSetting>,
    /// The servers, by name.
    pub servers: Vec<ServerDetails>,
}

/// A folder and the medium that it is on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MediumDetails {
    /// The folder.
    pub path: String,
    /// Bytes of the whole medium, where it can be told.
    pub total_bytes: Option<u64>,
    /// Bytes in use on it.
    pub used_bytes: Option<u64>,
    /// Bytes free for pgmd.
    pub free_bytes: Option<u64>,
}

/// A setting and its value, as `conf ls` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WrittenSetting {
    /// The setting.
    pub key: String,
    /// Its value; secrets are not shown.
    pub value: Option<String>,
}

/// What is looked up for one server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerDetails {
    /// The server.
    pub server: ServerName,
    /// Whether the daemon works for it.
    pub mode: ServerMode,
    /// The process of its receive worker, while there is one.
    pub worker_pid: Option<u32>,
    /// Seconds since that process started.
    pub worker_seconds: Option<u64>,
    /// How often the worker was started again.
    pub restarts: u64,
    /// Bytes of the files in its backups.
    pub backup_raw_bytes: u64,
    /// Bytes of its backups in the repository.
    pub backup_stored_bytes: u64,
    /// Objects of archived WAL: segments and histories.
    pub wal_objects: u64,
    /// Bytes of archived WAL in the repository.
    pub wal_stored_bytes: u64,
    /// Bytes in the spool.
    pub spool_bytes: u64,
    /// The stretches of WAL that there are, in repository and spool, oldest first.
    pub timelines: Vec<WalStretch>,
    /// The backup from which the oldest point can be restored, when there is a sound one.
    pub oldest_backup: Option<RestorePoint>,
    /// From where to where it can be restored, oldest first.
    #[serde(default)]
    pub windows: Vec<RecoveryWindow>,
    /// The newest sound backup.
    pub newest_backup: Option<RestorePoint>,
    /// What is proven of its recovery: the last moment, and how long it took.
    #[serde(default)]
    pub proven: Option<ProvenRecovery>,
    /// Why the repository could not be asked, when it could not.
    pub repository_error: Option<String>,
}

/// WAL without a hole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WalStretch {
    /// The timeline.
    pub timeline: TimelineId,
    /// Its first byte.
    pub from: Lsn,
    /// The position behind its last byte.
    pub to: Lsn,
}

/// A backup, and the first moment of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestorePoint {
    /// The backup.
    pub label: String,
    /// The earliest moment that can be restored from it: when it ended.
    pub from_time: String,
    /// The position at which it is consistent.
    pub from_lsn: Lsn,
}
