//! The end of a backup: its catalog entry, which makes it one.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use pgm_proto::{BackupPages, Lsn, ServerError, ServerNotice, TimelineId};

use super::BackupRequest;
use super::copy::Said;
use super::lane::Stored;
use super::start::Started;
use crate::catalog::{
    BackupEntry, BackupKind, BackupMethod, BackupSize, BackupStatus, DataChecksums, Sent,
    StartFacts, TablespaceEntry,
};
use crate::context::{Context, Phase};
use crate::error::{Error, Result};
use crate::manifest::PackRecord;
use crate::repository::{Lock, ServerFacts, Staging, layout};

/// `ERRCODE_DATA_CORRUPTED`: what BASE_BACKUP ends with when page checksums did not match.
const DATA_CORRUPTED: &str = "XX001";
/// How long deletions of other backups are waited for.
const DELETIONS_MAX: Duration = Duration::from_mins(30);
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Why a backup is a full one when nobody asked for less.
const FULL_AS_ASKED: &str = "BASE_BACKUP needs no more than the replication attribute";
const WARNINGS_MAX: usize = 200;
const WARNING_CHARS_MAX: usize = 1000;

/// What the start of a backup told.
#[derive(Debug)]
pub(super) struct Beginning {
    pub(super) facts: ServerFacts,
    pub(super) data_checksums: DataChecksums,
    pub(super) timeline: TimelineId,
    pub(super) start_lsn: Lsn,
    pub(super) tablespaces: Vec<TablespaceEntry>,
    pub(super) sent: Sent,
    pub(super) method: BackupMethod,
    /// How the files were read, or why in no better way; empty when nobody asked.
    pub(super) note: String,
    /// What a person must know of how it began.
    pub(super) warnings: Vec<String>,
}

impl Beginning {
    /// What `started` told.
    pub(super) fn of(started: &Started<'_>) -> Self {
        Self {
            facts: started.facts,
            data_checksums: started.data_checksums,
            timeline: started.stream.timeline(),
            start_lsn: started.stream.start_lsn(),
            tablespaces: started.tablespaces(),
            sent: started.sent.clone(),
            method: match started.pages {
                BackupPages::All => BackupMethod::BaseBackup,
                BackupPages::Changed => BackupMethod::BaseBackupIncremental,
            },
            note: String::new(),
            warnings: Vec::new(),
        }
    }

    /// With one more note, in front of what was noted before.
    pub(super) fn noting(mut self, note: &str) -> Self {
        self.note = match self.note.as_str() {
            "" => note.to_owned(),
            before => format!("{note}; {before}"),
        };
        self
    }

    /// With one more warning, if there is one.
    pub(super) fn warning(mut self, warning: Option<String>) -> Self {
        self.warnings.extend(warning);
        self
    }
}

/// What its end told.
#[derive(Debug)]
pub(super) struct Ending {
    status: BackupStatus,
    warnings: Vec<String>,
    end_lsn: Lsn,
    start_facts: StartFacts,
    stopped: Timestamp,
}

/// What the whole stream told; fails if the server did not end the backup well.
pub(super) fn ending(beginning: &Beginning, said: Said) -> Result<Ending> {
    let Said {
        end,
        label_file,
        warnings: ours,
        damaged,
    } = said;
    let status = match end.failure {
        None if damaged.is_empty() => BackupStatus::Complete,
        None => BackupStatus::DamagedPages,
        Some(failure) if failure.sqlstate == DATA_CORRUPTED => BackupStatus::DamagedPages,
        Some(failure) => return Err(pgm_proto::Error::from(failure).into()),
    };
    let label_text = String::from_utf8_lossy(&label_file);
    check_label_file(&label_text, beginning)?;
    if end.end_lsn < beginning.start_lsn {
        return Err(Error::BadStream {
            reason: format!(
                "the backup ends at {} before its start at {}",
                end.end_lsn, beginning.start_lsn
            ),
        });
    }
    Ok(Ending {
        status,
        warnings: [
            beginning.warnings.clone(),
            warnings(&end.notices, status),
            ours,
            damaged,
        ]
        .concat(),
        end_lsn: end.end_lsn,
        start_facts: start_facts(&label_text),
        stopped: Timestamp::now(),
    })
}

/// The catalog entry of what was stored in one target.
pub(super) fn entry(
    stored: &Stored,
    request: &BackupRequest,
    beginning: &Beginning,
    ending: &Ending,
) -> BackupEntry {
    let staging = &stored.staging;
    let packed: u64 = stored.packs.iter().map(|pack| pack.size).sum();
    let manifests = stored.manifest.size + stored.server_manifest.map_or(0, |object| object.size);
    BackupEntry {
        format: BackupEntry::FORMAT,
        label: staging.label(),
        server: staging.server().clone(),
        kind: match stored.basis {
            Some(_) => BackupKind::Incremental,
            None => BackupKind::Full,
        },
        method: beginning.method,
        reason: reason(stored.reason.as_deref(), beginning),
        status: ending.status,
        warnings: ending.warnings.clone(),
        system_id: beginning.facts.system_id,
        version: beginning.facts.version,
        segment_bytes: beginning.facts.segment_bytes,
        data_checksums: beginning.data_checksums,
        timeline: beginning.timeline,
        start_lsn: beginning.start_lsn,
        end_lsn: ending.end_lsn,
        start_facts: ending.start_facts.clone(),
        started: staging.started(),
        stopped: ending.stopped,
        wal: request.wal,
        compression: stored.compression,
        sent: beginning.sent.clone(),
        size: BackupSize {
            files: stored.totals.files,
            directories: stored.totals.directories,
            raw_bytes: stored.totals.raw_bytes,
            stored_bytes: packed + manifests,
            packs: stored.packs.len() as u32,
        },
        reused: stored.reused,
        basis: stored.basis,
        tablespaces: beginning.tablespaces.clone(),
        manifest: stored.manifest,
        server_manifest: stored.server_manifest,
    }
}

/// Why the backup was taken in this way, for people.
fn reason(kind: Option<&str>, beginning: &Beginning) -> String {
    let kind = match (kind, beginning.method) {
        (None, BackupMethod::Files | BackupMethod::Blocks) => "a full one, as asked",
        (None, _) => FULL_AS_ASKED,
        (Some(kind), _) => kind,
    };
    match beginning.note.as_str() {
        "" => kind.to_owned(),
        note => format!("{kind}; {note}"),
    }
}

/// Makes the backup visible in one target.
///
/// What it needs of earlier backups' packs must still be there, and must stay until the entry says that it is needed: so
/// nothing is deleted meanwhile.
pub(super) fn publish(
    cx: &Context,
    staging: Staging,
    foreign: &[PackRecord],
    entry: BackupEntry,
) -> Result<BackupEntry> {
    cx.check_cancel()?;
    cx.report(Phase::Publish, 0, None, "");
    let nobody_deletes = if foreign.is_empty() {
        None
    } else {
        let lock = lock_deletions(cx, &staging)?;
        must_be_there(&staging, foreign)?;
        Some(lock)
    };
    staging.commit(&entry)?;
    drop(nobody_deletes);
    Ok(entry)
}

fn lock_deletions(cx: &Context, staging: &Staging) -> Result<Lock> {
    let begun = Instant::now();
    loop {
        match staging.lock_deletions() {
            Err(Error::LockHeld { .. }) if begun.elapsed() < DELETIONS_MAX => cx.check_cancel()?,
            taken => return taken,
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

fn must_be_there(staging: &Staging, foreign: &[PackRecord]) -> Result<()> {
    for pack in foreign {
        let path = layout::pack(staging.server(), pack.label, pack.number);
        match staging.storage().head(&path) {
            Ok(there) if there.size == pack.size => {}
            Ok(_) => return Err(Error::damaged(&path, "it has another size than before")),
            Err(error) if error.is_not_found() => {
                return Err(Error::BasisDeleted { label: pack.label });
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// The server's warnings, verbatim but bounded.
fn warnings(notices: &[ServerNotice], status: BackupStatus) -> Vec<String> {
    let serious = |notice: &&ServerNotice| {
        !matches!(
            notice.0.severity.as_str(),
            "NOTICE" | "INFO" | "DEBUG" | "LOG"
        )
    };
    let mut texts: Vec<String> = notices
        .iter()
        .filter(serious)
        .map(|notice| words(&notice.0))
        .collect();
    if texts.len() > WARNINGS_MAX {
        let more = texts.len() - WARNINGS_MAX;
        texts.truncate(WARNINGS_MAX);
        texts.push(format!("and {more} more"));
    }
    if status == BackupStatus::DamagedPages {
        texts.push("pages were found whose checksum is wrong, and stored as they are".into());
    }
    texts
}

fn words(notice: &ServerError) -> String {
    notice.to_string().chars().take(WARNING_CHARS_MAX).collect()
}

/// What `backup_label` says under `key`.
fn label_line<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(": "))
}

fn start_facts(text: &str) -> StartFacts {
    let words = |key| label_line(text, key).map(|value| value.chars().take(200).collect());
    StartFacts {
        checkpoint_lsn: label_line(text, "CHECKPOINT LOCATION").and_then(|lsn| lsn.parse().ok()),
        from: words("BACKUP FROM"),
        start_time: words("START TIME"),
        label: words("LABEL"),
    }
}

/// `backup_label` must be that of this backup: replay begins where it says (`do_pg_backup_start` in `xlog.c`).
fn check_label_file(text: &str, beginning: &Beginning) -> Result<()> {
    let start = label_line(text, "START WAL LOCATION").and_then(|value| value.split(' ').next());
    let timeline = label_line(text, "START TIMELINE");
    let same = start.and_then(|lsn| lsn.parse().ok()) == Some(beginning.start_lsn)
        && timeline.and_then(|number| number.parse().ok()) == Some(beginning.timeline);
    if same {
        return Ok(());
    }
    Err(Error::BadStream {
        reason: "backup_label is not that of this backup".into(),
    })
}
