//! Removing what interrupted backups and deletions left.
//!
//! Only a folder that has a label's name and certainly has no `backup.ron` is touched, and in it only what no backup
//! points into. If that cannot be found out, the packs stay and the report says why; an entry that is there but damaged
//! keeps its folder. A folder with lists of frames is a backup from which the next one can go on: it stays until a
//! backup has succeeded.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use pgm_proto::ServerName;
use pgm_storage::{ObjectPath, Storage};

use super::layout;
use super::lock::Lock;
use super::needed::{Needed, Unreadable};
use crate::catalog;
use crate::error::Result;
use crate::label::BackupLabel;

/// What a sweep removed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SweepReport {
    /// Backups that never were committed, or were deleted.
    pub backups: Vec<BackupLabel>,
    /// Objects in them.
    pub objects: u64,
    /// Leftovers of dead writers.
    pub leftovers: u64,
    /// What had to stay.
    pub kept: Vec<Kept>,
}

/// Packs of a backup that is no more, which stay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// The backup.
    pub label: BackupLabel,
    /// How many packs stay.
    pub packs: u64,
    /// The backup that may need them and cannot be read; `None` when readable backups need them.
    pub doubt: Option<Unreadable>,
}

/// What becomes of a backup that was interrupted and from which the next one can go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unfinished {
    /// It stays.
    Keep,
    /// It goes, but for what a backup points into.
    Remove,
}

/// What the removal of one folder did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Removal {
    pub(crate) objects: u64,
    pub(crate) bytes: u64,
    pub(crate) kept: Option<Kept>,
}

/// Removes what interrupted backups and deletions of the locked server left.
pub(super) fn sweep(
    storage: &dyn Storage,
    lock: &Lock,
    unfinished: Unfinished,
) -> Result<SweepReport> {
    let mut report = sweep_backups(storage, lock, unfinished)?;
    lock.check()?;
    report.leftovers = storage.sweep(&layout::server_folder(lock.server()))?;
    Ok(report)
}

/// Removes what interrupted backups and deletions left, and does not look for leftovers of dead writers in all folders of the server.
pub(super) fn sweep_backups(
    storage: &dyn Storage,
    lock: &Lock,
    unfinished: Unfinished,
) -> Result<SweepReport> {
    let server = lock.server();
    let mut report = SweepReport::default();
    let mut check = || lock.check();
    let labels = uncommitted(storage, server)?;
    let needed = match labels.first() {
        Some(oldest) => Needed::by_backups_after(*oldest, storage, server, &mut check)?,
        None => Needed::default(),
    };
    for label in labels {
        if unfinished == Unfinished::Keep && can_be_resumed(storage, server, label)? {
            continue;
        }
        let removal = remove_unneeded(storage, server, label, &needed, &mut check)?;
        if removal.objects > 0 {
            report.backups.push(label);
            report.objects += removal.objects;
        }
        report.kept.extend(removal.kept);
    }
    Ok(report)
}

/// The folders of backups that certainly have no catalog entry.
pub(crate) fn uncommitted(storage: &dyn Storage, server: &ServerName) -> Result<Vec<BackupLabel>> {
    let mut found = Vec::new();
    for label in catalog::labels(storage, server)? {
        if !is_committed(storage, server, label)? {
            found.push(label);
        }
    }
    Ok(found)
}

/// Whether the backup has a catalog entry.
pub(crate) fn is_committed(
    storage: &dyn Storage,
    server: &ServerName,
    label: BackupLabel,
) -> Result<bool> {
    match storage.head(&layout::entry(server, label)) {
        Ok(_) => Ok(true),
        Err(error) if error.is_not_found() => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Whether a later backup can go on from the one in this folder, which has no catalog entry.
pub(crate) fn can_be_resumed(
    storage: &dyn Storage,
    server: &ServerName,
    label: BackupLabel,
) -> Result<bool> {
    let mut found = false;
    storage.list(&layout::frame_lists(server, label), &mut |_| {
        found = true;
        ControlFlow::Break(())
    })?;
    Ok(found)
}

/// Removes the lists of a backup's frames: from then on nobody goes on from it.
pub(crate) fn remove_frame_lists(
    storage: &dyn Storage,
    server: &ServerName,
    label: BackupLabel,
) -> Result<()> {
    let mut lists = Vec::new();
    storage.list(&layout::frame_lists(server, label), &mut |meta| {
        lists.push(meta.path);
        ControlFlow::Continue(())
    })?;
    for list in lists {
        storage.delete(&list)?;
    }
    Ok(())
}

/// Removes from the folder of a backup without catalog entry what is not `needed`; `check` is asked before each step
/// that others could not forgive.
pub(crate) fn remove_unneeded(
    storage: &dyn Storage,
    server: &ServerName,
    label: BackupLabel,
    needed: &Needed,
    check: &mut dyn FnMut() -> Result<()>,
) -> Result<Removal> {
    let mut removal = Removal::default();
    if is_committed(storage, server, label)? {
        return Ok(removal);
    }
    let doubt = needed.doubt_about(label);
    let mut kept_packs = 0;
    for (object, size) in objects(storage, server, label)? {
        let pack = layout::pack_number(&object);
        if pack.is_some_and(|number| doubt.is_some() || needed.has(label, number)) {
            kept_packs += 1;
            continue;
        }
        check()?;
        storage.delete(&object)?;
        removal.objects += 1;
        removal.bytes += size;
    }
    if kept_packs > 0 {
        removal.kept = Some(Kept {
            label,
            packs: kept_packs,
            doubt: doubt.cloned(),
        });
    }
    Ok(removal)
}

/// Removes the objects of a backup that is given up by its own writer; nobody can point into it. Those from which a
/// later backup can go on may stay.
pub(super) fn remove_uncommitted(
    storage: &dyn Storage,
    server: &ServerName,
    label: BackupLabel,
    unfinished: Unfinished,
) -> Result<()> {
    if is_committed(storage, server, label)? {
        return Ok(());
    }
    let objects = objects(storage, server, label)?;
    let listed: BTreeSet<u32> = match unfinished {
        Unfinished::Remove => BTreeSet::new(),
        Unfinished::Keep => objects
            .iter()
            .filter_map(|(object, _)| layout::frame_list_number(object))
            .collect(),
    };
    for (object, _) in &objects {
        let pack = layout::pack_number(object).or_else(|| layout::frame_list_number(object));
        if !pack.is_some_and(|pack| listed.contains(&pack)) {
            storage.delete(object)?;
        }
    }
    Ok(())
}

/// What is in the folder of a backup, after what dead writers left in it was removed.
fn objects(
    storage: &dyn Storage,
    server: &ServerName,
    label: BackupLabel,
) -> Result<Vec<(ObjectPath, u64)>> {
    let folder = layout::backup(server, label);
    storage.sweep(&folder)?;
    let mut objects = Vec::new();
    storage.list(&folder, &mut |meta| {
        objects.push((meta.path, meta.size));
        ControlFlow::Continue(())
    })?;
    Ok(objects)
}
