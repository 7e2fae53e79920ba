//! What BASE_BACKUP is asked for, and the command in the words of each version.
//!
//! Follows the manual's 55.4: before PostgreSQL 15 options are a plain list, from 15 on a list in parentheses.

use std::time::Duration;

use super::ServerCompression;
use super::upload::INCREMENTAL_MAJOR;
use crate::client::quote::literal;
use crate::client::replication::PARENTHESES_MAJOR;
use crate::{Error, ServerVersion};

/// How much longer than usual the server may stay silent at the beginning, with [`Checkpoint::Spread`].
pub const CHECKPOINT_SPREAD_MAX: Duration = Duration::from_hours(1);

/// What to back up, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseBackupOptions {
    /// The label that is written into `backup_label`.
    pub label: String,
    /// How the server makes the checkpoint that a backup begins with.
    pub checkpoint: Checkpoint,
    /// Whether the WAL of the backup is part of it.
    pub wal: WalInclusion,
    /// The most that the server sends per second, in KiB: 32 to 1048576.
    pub max_rate_kib: Option<u32>,
    /// The checksums of files in the server's `backup_manifest`.
    pub manifest_checksums: ManifestChecksums,
    /// How the server compresses the archives, if it can.
    pub compression: ServerCompression,
    /// Which pages are sent.
    pub pages: BackupPages,
}

/// Which pages of relations a backup has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BackupPages {
    /// All of them.
    #[default]
    All,
    /// Those that have changed since the backup whose manifest was [uploaded](crate::Client::upload_manifest) in this session.
    /// A file of which only some pages are sent is called `INCREMENTAL.` and its name. PostgreSQL 17 and later, with
    /// `summarize_wal`; what it refuses is told by [`Error::incremental_refusal`].
    Changed,
}

/// How the server makes a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checkpoint {
    /// At once.
    Fast,
    /// Over the time that `checkpoint_completion_target` gives it.
    Spread,
}

/// Whether the WAL of a backup is in its main archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WalInclusion {
    /// It is not: it comes from the archive.
    Exclude,
    /// It is, in `pg_wal`.
    Include,
}

/// The checksum of each file in `backup_manifest`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ManifestChecksums {
    /// CRC-32C.
    Crc32c,
    /// SHA-256.
    Sha256,
    /// None.
    None,
}

impl BaseBackupOptions {
    /// Whether a server of this version has all that is asked for.
    pub(super) fn is_known_to(&self, version: ServerVersion) -> Result<(), Error> {
        if self.pages == BackupPages::Changed && version.major() < INCREMENTAL_MAJOR {
            return Err(Error::TooOld {
                command: "BASE_BACKUP (INCREMENTAL)",
                major_min: INCREMENTAL_MAJOR,
                version,
            });
        }
        Ok(())
    }

    pub(super) fn command(&self, version: ServerVersion) -> String {
        let label = literal(&self.label);
        let checksums = literal(match self.manifest_checksums {
            ManifestChecksums::Crc32c => "CRC32C",
            ManifestChecksums::Sha256 => "SHA256",
            ManifestChecksums::None => "NONE",
        });
        let mut options = vec![format!("LABEL {label}"), "PROGRESS".into()];
        options.push("MANIFEST 'yes'".into());
        options.push(format!("MANIFEST_CHECKSUMS {checksums}"));
        if self.wal == WalInclusion::Include {
            options.push("WAL".into());
        }
        if let Some(rate) = self.max_rate_kib {
            options.push(format!("MAX_RATE {rate}"));
        }
        options.extend(self.compression.options());
        if self.pages == BackupPages::Changed {
            options.push("INCREMENTAL true".into());
        }
        if version.major() < PARENTHESES_MAJOR {
            options.push("NOWAIT".into());
            if self.checkpoint == Checkpoint::Fast {
                options.push("FAST".into());
            }
            return format!("BASE_BACKUP {}", options.join(" "));
        }
        options.push("WAIT false".into());
        options.push(match self.checkpoint {
            Checkpoint::Fast => "CHECKPOINT 'fast'".into(),
            Checkpoint::Spread => "CHECKPOINT 'spread'".into(),
        });
        format!("BASE_BACKUP ({})", options.join(", "))
    }
}

impl Checkpoint {
    pub(super) fn silence(self) -> Duration {
        match self {
            Self::Fast => Duration::ZERO,
            Self::Spread => CHECKPOINT_SPREAD_MAX,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> BaseBackupOptions {
        BaseBackupOptions {
            label: "it's".into(),
            checkpoint: Checkpoint::Fast,
            wal: WalInclusion::Include,
            max_rate_kib: Some(32),
            manifest_checksums: ManifestChecksums::Crc32c,
            compression: ServerCompression::NONE,
            pages: BackupPages::All,
        }
    }

    #[test]
    fn options_are_a_plain_list_before_15() {
        assert_eq!(
            options().command(ServerVersion::from_number(140_023)),
            "BASE_BACKUP LABEL 'it''s' PROGRESS MANIFEST 'yes' MANIFEST_CHECKSUMS 'CRC32C' WAL \
             MAX_RATE 32 NOWAIT FAST"
        );
    }

    #[test]
    fn changed_pages_alone_take_postgresql_17() {
        let changed = BaseBackupOptions {
            pages: BackupPages::Changed,
            ..options()
        };
        let known = |number| changed.is_known_to(ServerVersion::from_number(number));
        assert!(known(170_000).is_ok() && known(160_009).is_err());
        assert!(
            options()
                .is_known_to(ServerVersion::from_number(140_000))
                .is_ok()
        );
    }

    #[test]
    fn options_are_in_parentheses_from_15_on() {
        let spread = BaseBackupOptions {
            checkpoint: Checkpoint::Spread,
            wal: WalInclusion::Exclude,
            max_rate_kib: None,
            manifest_checksums: ManifestChecksums::None,
            compression: "zstd:1".parse().unwrap(),
            pages: BackupPages::Changed,
            ..options()
        };
        assert_eq!(
            spread.command(ServerVersion::from_number(170_000)),
            "BASE_BACKUP (LABEL 'it''s', PROGRESS, MANIFEST 'yes', MANIFEST_CHECKSUMS 'NONE', \
             COMPRESSION 'zstd', COMPRESSION_DETAIL 'level=1', INCREMENTAL true, WAIT false, \
             CHECKPOINT 'spread')"
        );
    }
}
