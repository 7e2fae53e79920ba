//! Making sure that the server is the right one, and starting BASE_BACKUP.

use pgm_proto::{
    BackupPages, BaseBackup, BaseBackupOptions, Client, CompressionMethod, ManifestChecksums,
    ServerCompression, ServerName, TimelineId, WalInclusion,
};
use pgm_storage::FileFormat;
use pgm_wal::SegmentSize;

use super::BackupRequest;
use super::basis::{self, SourceKind};
use super::copy::Announced;
use crate::catalog::{BackupWal, DataChecksums, Sent, TablespaceEntry};
use crate::context::{Context, Phase};
use crate::error::{Error, Result};
use crate::repository::ServerFacts;

/// The oldest major version whose backups are understood.
const MAJOR_MIN: u32 = 14;
const REASON_CHARS_MAX: usize = 1000;

/// A backup that the server has begun.
#[derive(Debug)]
pub(super) struct Started<'a> {
    pub(super) facts: ServerFacts,
    pub(super) data_checksums: DataChecksums,
    pub(super) sent: Sent,
    pub(super) source: SourceKind,
    pub(super) pages: BackupPages,
    pub(super) stream: BaseBackup<'a>,
}

/// A server, as it is before the backup begins.
#[derive(Debug, Clone, Copy)]
pub(super) struct Now {
    pub(super) facts: ServerFacts,
    pub(super) timeline: TimelineId,
    pub(super) data_checksums: DataChecksums,
    pub(super) source: SourceKind,
}

/// Asks the server that `client` leads to who it is.
pub(super) fn identify(cx: &Context, client: &mut Client, server: &ServerName) -> Result<Now> {
    let cancel = cx.cancel.clone();
    client.set_interrupt(move || cancel.is_cancelled());
    let version = client.server_version();
    if version.major() < MAJOR_MIN {
        return Err(Error::UnsupportedVersion {
            server: server.clone(),
            version,
        });
    }
    let identity = client.identify_system()?;
    Ok(Now {
        facts: ServerFacts {
            system_id: identity.system_id,
            version,
            segment_bytes: segment_bytes(&client.show("wal_segment_size")?)?,
        },
        timeline: identity.timeline,
        data_checksums: match client.show("data_checksums")?.as_str() {
            "on" => DataChecksums::On,
            _ => DataChecksums::Off,
        },
        source: match client.show("in_hot_standby")?.as_str() {
            "on" => SourceKind::Standby,
            _ => SourceKind::Primary,
        },
    })
}

/// Starts the backup of the server.
pub(super) fn start<'a>(
    cx: &Context,
    client: &'a mut Client,
    now: &Now,
    request: &BackupRequest,
    pages: BackupPages,
) -> Result<Started<'a>> {
    // The server answers when its checkpoint is done, which may take as long as checkpoints there take.
    cx.report(
        Phase::Checkpoint,
        0,
        None,
        "waiting for the server's checkpoint",
    );
    let stream = client.base_backup(&BaseBackupOptions {
        label: request.server_label.clone(),
        checkpoint: request.checkpoint,
        wal: match request.wal {
            BackupWal::Archive => WalInclusion::Exclude,
            BackupWal::Included => WalInclusion::Include,
        },
        max_rate_kib: request.max_rate_kib,
        manifest_checksums: ManifestChecksums::Crc32c,
        compression: request.server_compression,
        pages,
    })?;
    Ok(Started {
        facts: now.facts,
        data_checksums: now.data_checksums,
        sent: sent(&stream, request.server_compression),
        source: now.source,
        pages,
        stream,
    })
}

/// How the server sends its files.
fn sent(stream: &BaseBackup<'_>, wanted: ServerCompression) -> Sent {
    if let Some(reason) = stream.refusal() {
        tracing::warn!(%wanted, reason, "the server does not compress what it sends");
        return Sent::NotCompressed {
            wanted,
            reason: reason.chars().take(REASON_CHARS_MAX).collect(),
        };
    }
    match stream.compression() {
        ServerCompression::NONE => Sent::Plain,
        compression => Sent::Compressed(compression),
    }
}

impl Started<'_> {
    /// The tablespaces beside the data directory.
    pub(super) fn tablespaces(&self) -> Vec<TablespaceEntry> {
        let all = self.stream.tablespaces().iter();
        all.filter_map(|tablespace| {
            let location = tablespace.location.clone().unwrap_or_default();
            // One in place (`allow_in_place_tablespaces`) is a folder of the data directory like others.
            if !location.starts_with('/') {
                return None;
            }
            Some(TablespaceEntry {
                oid: tablespace.oid?,
                location,
            })
        })
        .collect()
    }

    /// What is compared with the backup before.
    pub(super) fn beginning(&self) -> basis::Beginning {
        basis::Beginning {
            facts: self.facts,
            data_checksums: self.data_checksums,
            source: self.source,
            timeline: self.stream.timeline(),
            start_lsn: self.stream.start_lsn(),
        }
    }

    /// What the copy must know before the first archive.
    pub(super) fn announced(&self) -> Announced {
        let all = self.stream.tablespaces();
        let sizes: Option<Vec<u64>> = all.iter().map(|tablespace| tablespace.size_kib).collect();
        Announced {
            archives: match self.stream.compression().method() {
                CompressionMethod::None => None,
                CompressionMethod::Gzip => Some(FileFormat::Gzip),
                CompressionMethod::Lz4 => Some(FileFormat::Lz4),
                CompressionMethod::Zstd => Some(FileFormat::Zstd),
            },
            pages: self.pages,
            tablespaces: all.iter().filter_map(|tablespace| tablespace.oid).collect(),
            // Of changed pages the server estimates the size of all.
            total_bytes: sizes
                .filter(|_| self.pages == BackupPages::All)
                .map(|sizes| {
                    sizes.into_iter().fold(0_u64, |sum, kib| {
                        sum.saturating_add(kib.saturating_mul(1024))
                    })
                }),
        }
    }
}

/// The bytes of a setting such as `16MB`.
fn segment_bytes(setting: &str) -> Result<u32> {
    let digits = setting.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit: u64 = match &setting[digits.len()..] {
        "" | "B" => 1,
        "kB" => 1 << 10,
        "MB" => 1 << 20,
        "GB" => 1 << 30,
        _ => 0,
    };
    let bytes = digits
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(unit));
    bytes
        .and_then(|bytes| SegmentSize::new(bytes).ok())
        .and_then(|size| u32::try_from(size.bytes()).ok())
        .ok_or_else(|| Error::BadStream {
            reason: format!("wal_segment_size is `{setting}`"),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segment_size_is_read_as_the_server_shows_it() {
        assert_eq!(segment_bytes("16MB").unwrap(), 16 << 20);
        assert_eq!(segment_bytes("1GB").unwrap(), 1 << 30);
        for setting in [
            "",
            "MB",
            "16",
            "16TB",
            "3MB",
            "-1MB",
            "99999999999999999999GB",
            "16MBä",
        ] {
            assert!(segment_bytes(setting).is_err(), "{setting}");
        }
    }
}
