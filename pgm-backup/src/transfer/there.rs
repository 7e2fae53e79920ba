//! What is in the other repository already, under the names of the objects that a backup needs.
//!
//! Usually that is the same object, of a copy that was interrupted or of a backup that shares its packs. But a backup goes to
//! several repositories under one label, and one that failed in the other repository may have left packs there which are not
//! those of this one. They are replaced, unless a backup there needs them.

use std::collections::BTreeSet;

use pgm_storage::{ObjectPath, PackReader, StorageError};

use crate::catalog::{BackupEntry, ObjectChecksum};
use crate::error::{Error, Result};
use crate::label::BackupLabel;
use crate::manifest::{self, PackRecord};
use crate::repository::{Lock, Needed, Repository, layout, sweep};

/// What the other repository needs of the folders that a backup's packs come from.
pub(super) struct There<'a> {
    from: &'a Repository,
    to: &'a Repository,
    lock: &'a Lock,
    needed: Needed,
    committed: BTreeSet<BackupLabel>,
}

impl<'a> There<'a> {
    /// Looks who needs the packs of `labels` in `to`, and sees to it that no backup goes on from what is left there: the packs that
    /// are listed may be replaced.
    pub(super) fn look(
        from: &'a Repository,
        to: &'a Repository,
        lock: &'a Lock,
        labels: &BTreeSet<BackupLabel>,
    ) -> Result<Self> {
        let (storage, server) = (&**to.storage(), lock.server());
        let mut there = Self {
            from,
            to,
            lock,
            needed: Needed::default(),
            committed: BTreeSet::new(),
        };
        let Some(oldest) = labels.first() else {
            return Ok(there);
        };
        there.needed = Needed::by_backups_after(*oldest, storage, server, &mut || lock.check())?;
        for label in labels {
            if sweep::is_committed(storage, server, *label)? {
                there.committed.insert(*label);
            } else {
                lock.check()?;
                sweep::remove_frame_lists(storage, server, *label)?;
            }
        }
        Ok(there)
    }

    /// Whether the pack is there. Another one of the same name is gone afterwards, or is an error.
    pub(super) fn has_pack(&self, pack: &PackRecord) -> Result<bool> {
        let path = layout::pack(self.lock.server(), pack.label, pack.number);
        let there = match self.to.storage().open(&path) {
            Ok(object) if object.size() == pack.size => PackReader::open(object),
            Ok(object) => Err(StorageError::Damaged {
                path: object.place(),
                reason: "it has another size".into(),
            }),
            Err(error) if error.is_not_found() => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        match there {
            Ok(there) => {
                let here = self.from.pack(self.lock.server(), pack)?;
                if there.frames() == here.frames() {
                    return Ok(true);
                }
            }
            Err(StorageError::Damaged { .. } | StorageError::Frame { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        let is_needed = self.committed.contains(&pack.label)
            || self.needed.has(pack.label, pack.number)
            || self.needed.doubt_about(pack.label).is_some();
        if is_needed {
            let reason = format!(
                "a backup there needs it, and it is not the one in {}",
                self.from.storage().describe()
            );
            return Err(Error::damaged(&path, reason));
        }
        self.remove(&path)
    }

    /// Whether an object with this checksum is there. Another one of the same name is gone afterwards.
    pub(super) fn has_object(
        &self,
        entry: &BackupEntry,
        path: &ObjectPath,
        expected: &ObjectChecksum,
    ) -> Result<bool> {
        let object = match self.to.storage().open(path) {
            Ok(object) => object,
            Err(error) if error.is_not_found() => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        match manifest::check_object(path, &*object, expected) {
            Ok(()) => Ok(true),
            Err(Error::Damaged { .. }) if !self.committed.contains(&entry.label) => {
                self.remove(path)
            }
            Err(error) => Err(error),
        }
    }

    fn remove(&self, path: &ObjectPath) -> Result<bool> {
        self.lock.check()?;
        self.to.storage().delete(path)?;
        Ok(false)
    }
}
