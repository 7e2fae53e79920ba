//! A backup on its way: a folder that no reader takes for a backup.
//!
//! Objects are written straight to their final places; what is missing until the end is `backup.ron`.
//! [`Staging::commit`] puts it, and that is the moment at which the backup exists. A staging area that is dropped
//! before keeps its finished packs and the lists of their frames, from which the next backup goes on, and removes
//! everything else, as long as it still has its lock. It keeps nothing when whoever took the backup wants it so, or when the
//! room is needed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use jiff::Timestamp;
use pgm_proto::ServerName;
use pgm_storage::{Cancel, ObjectWriter, PutMode, Storage, StorageError};

use super::frame_list::FrameList;
use super::lock::{Lease, Lock, Purpose};
use super::sweep::Unfinished;
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
    discard: Cancel,
    discarded: AtomicBool,
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
            discard: Cancel::new(),
            discarded: AtomicBool::new(false),
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

    /// Notes what is in a finished pack, so that a later backup can go on from it.
    pub(crate) fn note_frames(&self, list: &FrameList) -> Result<()> {
        let path = layout::frame_list(self.server(), self.label, list.pack);
        list.write(self.storage.create(&path)?)
    }

    /// Keeps others from deleting backups of the server as long as the lock lives.
    pub(crate) fn lock_deletions(&self) -> Result<Lock> {
        Lock::take(
            &self.storage,
            self.server(),
            Purpose::Retention,
            Lease::default(),
        )
    }

    /// Keeps nothing if the backup is not committed and `discard` is set.
    pub(crate) fn discard_when(&mut self, discard: &Cancel) {
        self.discard = discard.clone();
    }

    /// Keeps nothing if the backup is not committed.
    pub(crate) fn discard(&self) {
        self.discarded.store(true, Ordering::Relaxed);
    }

    /// Writes the catalog entry: from here on the backup exists.
    pub fn commit(mut self, entry: &BackupEntry) -> Result<()> {
        // Whoever took the lock over may have swept this folder.
        self.lock.check()?;
        let bytes = record::encode(entry);
        let path = layout::entry(self.server(), self.label);
        if let Err(error) = self.storage.put(&path, &bytes, PutMode::Create) {
            if matches!(error, StorageError::NoSpace { .. }) {
                self.discard();
            }
            return Err(error.into());
        }
        self.end = End::Committed;
        if let Err(error) = self.tidy() {
            tracing::warn!(server = %self.server(), label = %self.label, %error,
                "what interrupted backups left stays until the next one");
        }
        Ok(())
    }

    /// Nobody goes on from this backup any more, nor from those that it took over.
    fn tidy(&self) -> Result<()> {
        sweep::remove_frame_lists(&*self.storage, self.server(), self.label)?;
        sweep::sweep_backups(&*self.storage, &self.lock, Unfinished::Remove)?;
        Ok(())
    }
}

impl Staging {
    fn remove(&self) -> Result<()> {
        // Whoever took the lock over may work with what is here.
        self.lock.check()?;
        // An entry that is there after all (its put failed after it took effect) is a backup: it stays.
        let unfinished = if self.discard.is_cancelled() || self.discarded.load(Ordering::Relaxed) {
            Unfinished::Remove
        } else {
            Unfinished::Keep
        };
        sweep::remove_uncommitted(&*self.storage, self.server(), self.label, unfinished)?;
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
