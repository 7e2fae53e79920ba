//! Deleting a backup.
//!
//! [`delete`] is the whole procedure. The catalog entry goes first: from that moment on the backup is not listed, whatever
//! happens. Then its objects go, all but those that a remaining backup points into. A process that dies in between
//! leaves a folder without a catalog entry, which the next sweep finishes. Deleting writes nothing, so it works on a
//! full disk.
//!
//! An incremental backup points into packs of earlier ones. It looks for them once more with deletions locked out before it
//! is committed, so what it needs is there, and from then on its manifest keeps it.

use std::collections::BTreeSet;

use pgm_proto::{ServerName, TimelineId};
use pgm_wal::archive::{Archive, ArchiveIndex};
use pgm_wal::{SegmentSize, Spool};

use crate::catalog::{BackupEntry, BackupWal, Catalog};
use crate::context::{Context, Phase};
use crate::error::{Error, Result};
use crate::label::BackupLabel;
use crate::marks::Retention;
use crate::repository::sweep::{self, Kept, Removal};
use crate::repository::{Lock, Needed, Purpose, Repository, layout};
use crate::restore::BackupChoice;
use crate::verify::verification::Outcome;

/// Whether a backup goes that is damaged, or the last one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Force {
    /// No.
    No,
    /// Yes. A retained backup stays all the same.
    Yes,
}

/// What a deletion did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeleteReport {
    /// The server.
    pub server: ServerName,
    /// The backup that is no more.
    pub label: BackupLabel,
    /// Objects that were removed.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Packs that stay, of this backup or of ones deleted earlier.
    pub kept: Vec<Kept>,
    /// What a person should know.
    pub warnings: Vec<String>,
}

/// What deleting looks at besides the catalog.
#[derive(Debug, Clone, Copy)]
pub struct WalAtHand<'a> {
    /// The archive.
    pub archive: &'a Archive,
    /// WAL that is not archived yet.
    pub spool: Option<&'a Spool>,
}

/// Deletes one backup of `server`, unless it is retained or nothing could be restored without it.
pub fn delete(
    cx: &Context,
    repository: &Repository,
    wal: WalAtHand<'_>,
    server: &ServerName,
    choice: BackupChoice,
    force: Force,
) -> Result<DeleteReport> {
    let lock = repository.lock(server, Purpose::Retention)?;
    let catalog = repository.catalog(server)?;
    let label = choose(&catalog, choice, force)?;
    refuse_retained(repository, server, label, force)?;
    if force == Force::No {
        refuse_last(repository, wal, &catalog, label)?;
    }
    cx.check_cancel()?;
    cx.report(Phase::Delete, 0, None, "");
    lock.check()?;
    // A folder without catalog entry but with lists of frames would be one from which a backup can go on.
    sweep::remove_frame_lists(&**repository.storage(), server, label)?;
    // The commit point: from here on the deletion is only ever finished.
    repository.storage().delete(&layout::entry(server, label))?;
    let mut report = DeleteReport {
        server: server.clone(),
        label,
        objects: 1,
        bytes: 0,
        kept: Vec::new(),
        warnings: Vec::new(),
    };
    if let Err(error) = remove_objects(cx, repository, &lock, label, &mut report) {
        report.warnings.push(format!(
            "the backup is deleted, but not all of its objects are removed yet: {error}; the next backup or deletion \
             of `{server}` removes them"
        ));
    }
    report.warnings.extend(report.kept.iter().map(why_kept));
    Ok(report)
}

fn choose(catalog: &Catalog, choice: BackupChoice, force: Force) -> Result<BackupLabel> {
    let label = match choice {
        BackupChoice::Newest => return Ok(catalog.find("newest")?.label),
        BackupChoice::Oldest => return Ok(catalog.find("oldest")?.label),
        BackupChoice::Label(label) => label,
    };
    let damaged = catalog.damaged().iter().find(|entry| entry.label == label);
    match damaged {
        Some(_) if force == Force::Yes => Ok(label),
        Some(entry) => Err(Error::DoubtfulBackup {
            server: catalog.server().clone(),
            label,
            reason: entry.error.to_string(),
        }),
        None => Ok(catalog.find(&label.to_string())?.label),
    }
}

fn refuse_retained(
    repository: &Repository,
    server: &ServerName,
    label: BackupLabel,
    force: Force,
) -> Result<()> {
    let found = repository.marks(server, label)?;
    match (found.damage, found.marks.retention) {
        (Some(_), _) if force == Force::Yes => Ok(()),
        (Some(error), _) => Err(Error::DoubtfulBackup {
            server: server.clone(),
            label,
            reason: format!("whether it is retained is not readable: {error}"),
        }),
        (None, Retention::Retained) => Err(Error::BackupRetained {
            server: server.clone(),
            label,
        }),
        (None, Retention::Normal) => Ok(()),
    }
}

/// Refuses unless another backup is left from which something certainly can be restored.
fn refuse_last(
    repository: &Repository,
    wal: WalAtHand<'_>,
    catalog: &Catalog,
    label: BackupLabel,
) -> Result<()> {
    let mut index = None;
    for other in catalog.backups().iter().rev() {
        if other.label != label && is_restorable(repository, wal, &mut index, other)? {
            return Ok(());
        }
    }
    Err(Error::LastRestorable {
        server: catalog.server().clone(),
        label,
    })
}

/// Whether the WAL of a backup is there, and it was not found damaged when it was verified last.
fn is_restorable(
    repository: &Repository,
    wal: WalAtHand<'_>,
    index: &mut Option<ArchiveIndex>,
    entry: &BackupEntry,
) -> Result<bool> {
    let newest = repository
        .verifications(&entry.server, entry.label)?
        .into_iter()
        .next();
    if newest.is_some_and(|verification| verification.outcome == Outcome::Damaged) {
        return Ok(false);
    }
    if entry.wal == BackupWal::Included {
        return Ok(true);
    }
    let Ok(size) = SegmentSize::new(u64::from(entry.segment_bytes)) else {
        return Ok(false);
    };
    if index
        .as_ref()
        .is_none_or(|index| index.segment_size() != size)
    {
        let coverage = |error| Error::Coverage(Box::new(error));
        *index = Some(wal.archive.index(size, wal.spool).map_err(coverage)?);
    }
    let (timeline, (start, end)): (TimelineId, _) = (entry.timeline, entry.wal_range());
    Ok(index
        .as_ref()
        .is_some_and(|index| index.covers(timeline, start, end)))
}

/// Removes what the deleted backup leaves, and what earlier deletions left because it was needed then.
fn remove_objects(
    cx: &Context,
    repository: &Repository,
    lock: &Lock,
    label: BackupLabel,
    report: &mut DeleteReport,
) -> Result<()> {
    let (storage, server) = (&**repository.storage(), lock.server());
    let mut others = sweep::uncommitted(storage, server)?;
    others.retain(|other| *other != label);
    for other in std::mem::take(&mut others) {
        if !sweep::can_be_resumed(storage, server, other)? {
            others.push(other);
        }
    }
    // A folder without catalog entry may be that of a backup under way: only whoever holds its lock can tell.
    let backups = if others.is_empty() {
        None
    } else {
        repository.lock(server, Purpose::Backup).ok()
    };
    let mut labels = BTreeSet::from([label]);
    if backups.is_some() {
        labels.extend(others);
    }
    let mut check = || {
        lock.check()?;
        backups.as_ref().map_or(Ok(()), Lock::check)
    };
    let oldest = labels.first().copied().unwrap_or(label);
    let needed = Needed::by_backups_after(oldest, storage, server, &mut check)?;
    for label in labels {
        let Removal {
            objects,
            bytes,
            kept,
        } = sweep::remove_unneeded(storage, server, label, &needed, &mut check)?;
        report.objects += objects;
        report.bytes += bytes;
        report.kept.extend(kept);
        cx.report(Phase::Delete, report.bytes, None, "");
    }
    Ok(())
}

fn why_kept(kept: &Kept) -> String {
    let Kept { label, packs, .. } = kept;
    match &kept.doubt {
        None => format!("{packs} packs of {label} stay, because later backups point into them"),
        Some(doubt) => format!(
            "{packs} packs of {label} stay, because backup {} may need them and cannot be read: {}",
            doubt.label, doubt.reason
        ),
    }
}

#[cfg(test)]
mod tests;
