//! Whether the server itself is asked for what has changed (PostgreSQL 17 and later, `summarize_wal`), and with which parent.
//!
//! The server gets its own manifest of the parent, verbatim (`pg_manifest`). That is all that it needs, also of an incremental
//! parent: `basebackup_incremental.c` takes from it the range of WAL, whose start says since when blocks count as changed, and
//! the names of files, as they are or with `INCREMENTAL.` in front. A file that is not in it is sent whole. So the chain of the
//! server's manifests goes on as with `pg_combinebackup`, whatever was stored of it where.
//!
//! One stream goes to all repositories, so the parent is the newest backup that all of them have. Whatever stands against it is a
//! reason to take another way, and never a reason to take no backup.

use std::collections::BTreeMap;

use pgm_proto::{BackupPages, Client, ServerName};

use super::BackupRequest;
use super::basis::is_damaged;
use super::compact::Compaction;
use super::lane::{BuiltOn, ChangesBy, Lane};
use super::lanes::Lanes;
use super::parent::{MEMORY_MAX, Parent};
use super::source::BackupSource;
use super::start::Now;
use super::target::BackupTarget;
use crate::catalog::{BackupEntry, BackupStatus};
use crate::context::{Context, Phase};
use crate::error::{Error, Result};
use crate::repository::Repository;
use crate::restore::backup_manifest;

/// The first major version that sends changed pages only.
const MAJOR_MIN: u32 = 17;
const REASON_CHARS_MAX: usize = 1000;

/// A parent that the server has accepted so far, in every open lane.
#[derive(Debug)]
pub(super) struct Offer {
    parents: BTreeMap<usize, Parent>,
}

/// Why the server is not asked for changed pages only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct WhyNot {
    pub(super) reason: String,
    weight: Weight,
}

/// Whether somebody expected it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Weight {
    Note,
    Warning,
}

/// What became of the question.
pub(super) type Offered = std::result::Result<Offer, WhyNot>;

impl WhyNot {
    fn new(reason: impl Into<String>, source: BackupSource) -> Self {
        let weight = match source {
            BackupSource::Native => Weight::Warning,
            BackupSource::Auto
            | BackupSource::Local
            | BackupSource::Blocks
            | BackupSource::Stream => Weight::Note,
        };
        Self {
            reason: reason.into(),
            weight,
        }
    }

    /// The server refused, although everything seemed to be in place.
    fn refused(error: &pgm_proto::Error) -> Self {
        let text = format!("the server refused: {error}");
        Self {
            reason: text.chars().take(REASON_CHARS_MAX).collect(),
            weight: Weight::Warning,
        }
    }

    /// What a person must be told.
    pub(super) fn warning(&self) -> Option<String> {
        (self.weight == Weight::Warning).then(|| {
            format!(
                "everything was read, not the changed pages only: {}",
                self.reason
            )
        })
    }
}

/// Looks for a parent, reads its places in every lane, and gives its manifest to the server.
pub(super) fn offer(
    cx: &Context,
    client: &mut Client,
    lanes: &Lanes<Lane>,
    targets: &[BackupTarget<'_>],
    now: (&ServerName, &Now),
    request: &BackupRequest,
) -> Result<Offered> {
    let ((server, now), source) = (now, request.source);
    let no = |reason: String| Ok(Err(WhyNot::new(reason, source)));
    if source == BackupSource::Stream {
        return no("the source `stream` was asked for".to_owned());
    }
    if let Some(reason) = incapable(client, now)? {
        return no(reason);
    }
    let found = match find(cx, lanes, targets, (server, now), request.compaction)? {
        Ok(found) => found,
        Err(reason) => return no(reason),
    };
    let first = lanes.open().next();
    let Some(first) = first.and_then(|(number, _)| targets.get(number)) else {
        return no("there is no repository".to_owned());
    };
    let uploaded = upload(client, first.repository, &found.entry)?;
    Ok(uploaded.map(|()| Offer {
        parents: found.parents,
    }))
}

/// A backup that all open lanes have, and its places in each of them.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) entry: BackupEntry,
    parents: BTreeMap<usize, Parent>,
}

/// Looks for the newest backup that can be a parent, or finds out why there is none.
pub(super) fn find(
    cx: &Context,
    lanes: &Lanes<Lane>,
    targets: &[BackupTarget<'_>],
    now: (&ServerName, &Now),
    compaction: Compaction,
) -> Result<std::result::Result<Found, String>> {
    let (server, now) = now;
    cx.report(Phase::Plan, 0, None, "the backup before");
    let open: Vec<usize> = lanes.open().map(|(number, _)| number).collect();
    let repositories = open.iter().filter_map(|number| targets.get(*number));
    let repositories: Vec<&Repository> = repositories.map(|target| target.repository).collect();
    let entry = match parent(&repositories, server, now) {
        Ok(Ok(entry)) => entry,
        Ok(Err(reason)) => return Ok(Err(reason)),
        Err(error) => return Ok(Err(error.to_string())),
    };
    let mut parents = BTreeMap::new();
    let memory_max = MEMORY_MAX / open.len().max(1);
    for (number, repository) in open.into_iter().zip(&repositories) {
        cx.check_cancel()?;
        match own_entry(repository, &entry)
            .and_then(|own| Parent::read(repository, &own, memory_max, compaction))
        {
            Ok(Some(parent)) => parents.insert(number, parent),
            Ok(None) => {
                let label = entry.label;
                return Ok(Err(format!(
                    "backup {label} has too many files to know them all"
                )));
            }
            Err(error) => return Ok(Err(error.to_string())),
        };
    }
    Ok(Ok(Found { entry, parents }))
}

/// Which pages the server is asked for.
pub(super) fn pages(offered: Option<&Offered>) -> BackupPages {
    match offered {
        Some(Ok(_)) => BackupPages::Changed,
        Some(Err(_)) | None => BackupPages::All,
    }
}

/// Takes the offer back if that is what the server's `error` asks for.
pub(super) fn take_back(offered: &mut Option<Offered>, error: &Error) -> bool {
    let (Some(Ok(_)), Error::Server(error)) = (offered.as_ref(), error) else {
        return false;
    };
    if error.incremental_refusal().is_none() {
        return false;
    }
    *offered = Some(Err(WhyNot::refused(error)));
    true
}

impl Offer {
    /// Builds the backup on the parent in every lane.
    pub(super) fn build(self, lanes: Lanes<Lane>) -> Lanes<Lane> {
        build(self.parents, &lanes, ChangesBy::Server);
        lanes
    }
}

impl Found {
    /// Builds the backup on the parent in every lane.
    pub(super) fn build(self, lanes: &Lanes<Lane>) {
        build(self.parents, lanes, ChangesBy::Digests);
    }
}

fn build(mut parents: BTreeMap<usize, Parent>, lanes: &Lanes<Lane>, by: ChangesBy) {
    for (number, lane) in lanes.open() {
        if let Some(parent) = parents.remove(&number) {
            lane.build_on(Ok(BuiltOn::Parent { parent, by }));
        }
    }
}

/// Why the server can send no changed pages alone.
fn incapable(client: &mut Client, now: &Now) -> Result<Option<String>> {
    let major = now.facts.version.major();
    if major < MAJOR_MIN {
        return Ok(Some(format!(
            "PostgreSQL {major} has no incremental backups of its own"
        )));
    }
    for (setting, needed) in [
        ("summarize_wal", "on"),
        ("block_size", "8192"),
        ("segment_size", "1GB"),
    ] {
        let found = client.show(setting)?;
        if found != needed {
            return Ok(Some(format!("{setting} is {found} there, not {needed}")));
        }
    }
    Ok(None)
}

/// The newest backup that all repositories have and that can be a parent, or why there is none.
pub(super) fn parent(
    repositories: &[&Repository],
    server: &ServerName,
    now: &Now,
) -> Result<std::result::Result<BackupEntry, String>> {
    let mut reason = None;
    let mut catalogs = Vec::new();
    for repository in repositories {
        let mut backups = repository.catalog(server)?.backups().to_vec();
        let newest = backups.last().map(|entry| why_not(entry, now));
        reason = reason.or(newest.unwrap_or(Some("there is no backup before".to_owned())));
        backups.retain(|entry| why_not(entry, now).is_none());
        catalogs.push(backups);
    }
    let candidates = catalogs.first().cloned().unwrap_or_default();
    for entry in candidates.into_iter().rev() {
        let same = |other: &BackupEntry| {
            (other.label, other.start_lsn, other.end_lsn)
                == (entry.label, entry.start_lsn, entry.end_lsn)
        };
        if !catalogs.iter().all(|backups| backups.iter().any(same)) {
            reason
                .get_or_insert_with(|| "the repositories do not have the same backups".to_owned());
            continue;
        }
        let mut damaged = false;
        for repository in repositories {
            damaged |= is_damaged(repository, server, entry.label)?;
        }
        if !damaged {
            return Ok(Ok(entry));
        }
        reason.get_or_insert_with(|| format!("verifying backup {} found damage", entry.label));
    }
    Ok(Err(reason.unwrap_or_else(|| {
        "the repositories do not have the same backups".to_owned()
    })))
}

/// What stands against a backup as the parent.
fn why_not(entry: &BackupEntry, now: &Now) -> Option<String> {
    let label = entry.label;
    if entry.system_id != now.facts.system_id || entry.version.major() != now.facts.version.major()
    {
        Some(format!("backup {label} is of another server"))
    } else if entry.timeline != now.timeline {
        Some(format!("backup {label} is on timeline {}", entry.timeline))
    } else if entry.data_checksums != now.data_checksums {
        // Pages of then would have no checksums, or those of then.
        Some(format!(
            "page checksums were turned on or off after backup {label}"
        ))
    } else if entry.start_facts.from.as_deref() != Some(now.source.name()) {
        // Hint bits of the two may differ, and then a later backup that compares pages would take the one's for the other's.
        Some(format!(
            "either backup {label} is of a standby, or this one"
        ))
    } else if entry.status != BackupStatus::Complete {
        Some(format!("backup {label} has damaged pages"))
    } else {
        None
    }
}

/// The catalog entry of a parent in one of the repositories: its manifest there is its own.
fn own_entry(repository: &Repository, entry: &BackupEntry) -> Result<BackupEntry> {
    let catalog = repository.catalog(&entry.server)?;
    let mut backups = catalog.backups().iter();
    let own = backups.find(|own| own.label == entry.label).cloned();
    own.ok_or(Error::BasisDeleted { label: entry.label })
}

/// Gives the server its manifest of the parent.
fn upload(
    client: &mut Client,
    repository: &Repository,
    entry: &BackupEntry,
) -> Result<std::result::Result<(), WhyNot>> {
    let refused = |error: pgm_proto::Error| match error.incremental_refusal() {
        Some(_) => Ok(Err(WhyNot::refused(&error))),
        None => Err(error.into()),
    };
    let mut upload = match client.upload_manifest() {
        Ok(upload) => upload,
        Err(error) => return refused(error),
    };
    let written = match entry.server_manifest {
        Some(_) => {
            let written = repository.server_manifest(entry, &mut upload);
            written.map(drop).map_err(|error| error.to_string())
        }
        // Of a backup whose files were read where they are: as the server would have written it.
        None => backup_manifest::compose_names(repository, entry, &mut upload)
            .map_err(|error| error.to_string()),
    };
    match written {
        Ok(()) => match upload.finish() {
            Ok(()) => Ok(Ok(())),
            Err(error) => refused(error),
        },
        // Of the repository, or of the connection: that comes again here.
        Err(error) => {
            upload.give_up("the manifest cannot be read")?;
            Ok(Err(WhyNot {
                reason: error,
                weight: Weight::Warning,
            }))
        }
    }
}
