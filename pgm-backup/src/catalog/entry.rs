//! The catalog entry `backup.ron`: everything about one backup but its files.
//!
//! It is written last, with put-if-absent: it is the commit point of a backup. It carries the checksums of the manifest
//! objects, and through the manifest's packs and frames everything else is checked.

use jiff::Timestamp;
use pgm_proto::{Lsn, ServerCompression, ServerName, ServerVersion, SystemId, TimelineId};
use pgm_storage::Compression;
use serde::{Deserialize, Serialize};

use crate::label::BackupLabel;

/// One backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupEntry {
    /// Format version of the entry.
    pub format: u32,
    /// Its name: the UTC second at which it began.
    pub label: BackupLabel,
    /// The server.
    pub server: ServerName,
    /// What it contains.
    pub kind: BackupKind,
    /// How it was taken.
    pub method: BackupMethod,
    /// Why it was taken in that way.
    pub reason: String,
    /// Whether anything was wrong with what the server sent.
    pub status: BackupStatus,
    /// Warnings of the server, verbatim, and ours.
    pub warnings: Vec<String>,
    /// The server's system identifier.
    pub system_id: SystemId,
    /// The server's version.
    pub version: ServerVersion,
    /// The server's WAL segment size in bytes.
    pub segment_bytes: u32,
    /// Whether the server had page checksums.
    pub data_checksums: DataChecksums,
    /// The timeline of the backup.
    pub timeline: TimelineId,
    /// Replay must begin here.
    pub start_lsn: Lsn,
    /// Replay must reach this position before the data directory is consistent.
    pub end_lsn: Lsn,
    /// What the server's `backup_label` says.
    pub start_facts: StartFacts,
    /// When it began, by pgm's clock.
    pub started: Timestamp,
    /// When the server had ended it, by pgm's clock.
    pub stopped: Timestamp,
    /// Where the WAL from start to end is.
    pub wal: BackupWal,
    /// How the packs were compressed.
    pub compression: Compression,
    /// How the server sent its files.
    #[serde(default)]
    pub sent: Sent,
    /// Counts and sizes.
    pub size: BackupSize,
    /// What it took over from backups that were interrupted.
    #[serde(default)]
    pub reused: ReusedSize,
    /// What it has in common with the backup before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub basis: Option<BasisFacts>,
    /// Tablespaces beside the data directory.
    pub tablespaces: Vec<TablespaceEntry>,
    /// Size and checksum of the object `manifest`.
    pub manifest: ObjectChecksum,
    /// Size and checksum of the object `pg_manifest`, if the server sent one.
    pub server_manifest: Option<ObjectChecksum>,
}

impl BackupEntry {
    /// The newest format version that this code knows.
    pub const FORMAT: u32 = 1;

    /// The WAL that the backup needs to become consistent: from here (inclusive) to there (exclusive).
    pub fn wal_range(&self) -> (Lsn, Lsn) {
        (self.start_lsn, self.end_lsn)
    }
}

/// What a backup contains.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum BackupKind {
    /// Every page was read from the server, and is in its own packs or in those of a backup that was interrupted.
    Full,
    /// Pages that have not changed are in the packs of earlier backups. It restores like a full one, and needs no other
    /// backup: what it needs of their packs stays when they are deleted.
    Incremental,
}

/// What an incremental backup did not store again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BasisFacts {
    /// The backup before.
    pub label: BackupLabel,
    /// Raw bytes that rest in earlier packs.
    pub raw_bytes: u64,
    /// Raw bytes that have not changed and were stored again all the same, so that earlier packs can go.
    #[serde(default)]
    pub stored_again_bytes: u64,
    /// How many of the earlier packs it does not need for that reason.
    #[serde(default)]
    pub packs_given_up: u32,
}

/// How a backup was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum BackupMethod {
    /// The replication command BASE_BACKUP, with all pages.
    BaseBackup,
    /// BASE_BACKUP with INCREMENTAL: the server sent the pages that its WAL summaries name. `pg_manifest` lists what it sent, not
    /// what is restored.
    BaseBackupIncremental,
    /// Files of the server were read on its host, between the functions that begin and end a backup. There is no `pg_manifest`.
    Files,
    /// The server read its files for ordinary sessions, between the same functions. There is no `pg_manifest`.
    Blocks,
}

/// Whether the server sent what it should.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum BackupStatus {
    /// All is well.
    Complete,
    /// The server found pages whose checksum is wrong; the warnings name them.
    DamagedPages,
}

/// Whether the server had page checksums.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum DataChecksums {
    /// Yes: the server checked every page that it sent.
    On,
    /// No.
    Off,
}

/// Where the WAL is that makes a backup consistent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum BackupWal {
    /// In the server's WAL archive.
    Archive,
    /// In the backup itself, below `pg_wal`: it stands alone.
    Included,
}

/// How the server sent its files.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Sent {
    /// As they are.
    #[default]
    Plain,
    /// Compressed.
    Compressed(ServerCompression),
    /// As they are, though they should have been compressed.
    NotCompressed {
        /// How.
        wanted: ServerCompression,
        /// Why not.
        reason: String,
    },
}

/// Counts and sizes of a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct BackupSize {
    /// Regular files.
    pub files: u64,
    /// Directories.
    pub directories: u64,
    /// Bytes of all files.
    pub raw_bytes: u64,
    /// Bytes of the backup's own objects: packs and manifests.
    pub stored_bytes: u64,
    /// Packs of its own.
    pub packs: u32,
}

/// What a backup did not store again, because a backup that was interrupted had stored it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ReusedSize {
    /// Packs that it points into.
    pub packs: u32,
    /// Frames.
    pub frames: u64,
    /// Bytes of these frames before compression.
    pub raw_bytes: u64,
}

/// A tablespace beside the data directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TablespaceEntry {
    /// Its OID, and its name below `pg_tblspc`.
    pub oid: u32,
    /// Where the server had it.
    pub location: String,
}

/// Size and checksum of a whole object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectChecksum {
    /// Its bytes.
    pub size: u64,
    /// CRC-32C of its bytes.
    pub crc32c: u32,
}

/// The contents of the server's `backup_label` file.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct StartFacts {
    /// The checkpoint from which replay begins.
    pub checkpoint_lsn: Option<Lsn>,
    /// `BACKUP FROM`: `primary` or `standby`.
    pub from: Option<String>,
    /// `START TIME` in the server's words and time zone.
    pub start_time: Option<String>,
    /// `LABEL`: the label that was given to the server.
    pub label: Option<String>,
}
