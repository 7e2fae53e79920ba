//! Removing what interrupted backups left.
//!
//! Only a folder that has a label's name and certainly has no `backup.ron` is removed. If that cannot be found out, the
//! sweep stops; an entry that is there but damaged keeps its folder.

use std::ops::ControlFlow;

use pgm_proto::ServerName;
use pgm_storage::Storage;

use super::layout;
use super::lock::Lock;
use crate::catalog;
use crate::error::Result;
use crate::label::BackupLabel;

/// What a sweep removed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SweepReport {
    /// Backups that never were committed.
    pub backups: Vec<BackupLabel>,
    /// Objects in them.
    pub objects: u64,
    /// Leftovers of dead writers.
    pub leftovers: u64,
}

/// Removes what interrupted backups of the locked server left.
pub(super) fn sweep(storage: &dyn Storage, lock: &Lock) -> Result<SweepReport> {
    let server = lock.server();
    let mut report = SweepReport::default();
    for label in catalog::labels(storage, server)? {
        // Another holder may be writing by now.
        lock.check()?;
        let objects = remove_uncommitted(storage, server, label)?;
        if objects > 0 {
            report.backups.push(label);
            report.objects += objects;
        }
    }
    lock.check()?;
    report.leftovers = storage.sweep(&layout::server_folder(server))?;
    Ok(report)
}

/// Removes the objects of a backup folder unless it has a catalog entry; gives how many that were.
pub(super) fn remove_uncommitted(
    storage: &dyn Storage,
    server: &ServerName,
    label: BackupLabel,
) -> Result<u64> {
    match storage.head(&layout::entry(server, label)) {
        Ok(_) => return Ok(0),
        Err(error) if error.is_not_found() => {}
        Err(error) => return Err(error.into()),
    }
    let folder = layout::backup(server, label);
    storage.sweep(&folder)?;
    let mut objects = Vec::new();
    storage.list(&folder, &mut |meta| {
        objects.push(meta.path);
        ControlFlow::Continue(())
    })?;
    for object in &objects {
        storage.delete(object)?;
    }
    Ok(objects.len() as u64)
}
