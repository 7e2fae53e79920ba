//! A backup on its way: a folder that no reader takes for a backup.
//!
//! Objects are written straight to their final places; what is missing until the end is `backup.ron`.
//! [`Staging::commit`] puts it, and that is the moment at which the backup exists. A staging area that is dropped
//! before removes what was written, as long as it still has its lock; one whose process died is removed by the next
//! sweep.

use std::sync::Arc;

use jiff::Timestamp;
use pgm_proto::ServerName;
use pgm_storage::{ObjectWriter, PutMode, Storage};

use super::lock::Lock;
use super::{layout, sweep};
use crate::catalog::BackupEntry;
use crate::error::Result;
use crate::label::BackupLabel;
use crate::record;

/// The folder of a backup that is being written.
#[derive(Debug)]
pub struct Staging {
    storage: Arc<dyn Storage>,
    lock: Lock,
    label: BackupLabel,
    started: Timestamp,
    end: End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Open,
    Committed,
}

impl Staging {
    /// Chooses a label after `newest`; nothing is written yet.
    pub(super) fn begin(
        storage: &Arc<dyn Storage>,
        lock: Lock,
        now: Timestamp,
        newest: Option<BackupLabel>,
    ) -> Self {
        Self {
            storage: Arc::clone(storage),
            lock,
            label: BackupLabel::next_free(now, newest),
            started: now,
            end: End::Open,
        }
    }

    /// The server.
    pub fn server(&self) -> &ServerName {
        self.lock.server()
    }

    /// The label that the backup will have.
    pub fn label(&self) -> BackupLabel {
        self.label
    }

    /// When it began, by pgm's clock.
    pub fn started(&self) -> Timestamp {
        self.started
    }

    /// The storage below.
    pub fn storage(&self) -> &Arc<dyn Storage> {
        &self.storage
    }

    /// A writer for pack `number`.
    pub fn create_pack(&self, number: u32) -> Result<Box<dyn ObjectWriter>> {
        Ok(self
            .storage
            .create(&layout::pack(self.server(), self.label, number))?)
    }

    /// A writer for the manifest.
    pub fn create_manifest(&self) -> Result<Box<dyn ObjectWriter>> {
        Ok(self
            .storage
            .create(&layout::manifest(self.server(), self.label))?)
    }

    /// A writer for the server's own manifest.
    pub fn create_server_manifest(&self) -> Result<Box<dyn ObjectWriter>> {
        Ok(self
            .storage
            .create(&layout::server_manifest(self.server(), self.label))?)
    }

    /// Writes the catalog entry: from here on the backup exists.
    pub fn commit(mut self, entry: &BackupEntry) -> Result<()> {
        // Whoever took the lock over may have swept this folder.
        self.lock.check()?;
        let bytes = record::encode(entry);
        self.storage.put(
            &layout::entry(self.server(), self.label),
            &bytes,
            PutMode::Create,
        )?;
        self.end = End::Committed;
        Ok(())
    }
}

impl Staging {
    fn remove(&self) -> Result<()> {
        // Whoever took the lock over may work with what is here.
        self.lock.check()?;
        // An entry that is there after all (its put failed after it took effect) is a backup: it stays.
        sweep::remove_uncommitted(&*self.storage, self.server(), self.label)?;
        Ok(())
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if self.end == End::Committed {
            return;
        }
        if let Err(error) = self.remove() {
            tracing::warn!(server = %self.server(), label = %self.label, %error,
                "leftovers of the backup stay until the next one");
        }
    }
}
