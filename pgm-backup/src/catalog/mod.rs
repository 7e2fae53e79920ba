//! Which backups a server has.
//!
//! A backup exists when its `backup.ron` does. Reading the catalog takes no lock. An entry that cannot be read is
//! reported as damaged beside the others: it neither hides them nor counts as absent, so nothing is deleted on its
//! account.

mod entry;

use pgm_proto::ServerName;
use pgm_storage::Storage;

use crate::error::{Error, Result};
use crate::label::BackupLabel;
use crate::record::{self, RECORD_BYTES_MAX};
use crate::repository::layout;

pub use entry::{
    BackupEntry, BackupKind, BackupMethod, BackupSize, BackupStatus, BackupWal, BasisFacts,
    DataChecksums, ObjectChecksum, ReusedSize, Sent, StartFacts, TablespaceEntry,
};

/// The backups of one server, oldest first.
#[derive(Debug)]
pub struct Catalog {
    server: ServerName,
    backups: Vec<BackupEntry>,
    damaged: Vec<DamagedEntry>,
}

/// A backup whose catalog entry cannot be read.
#[derive(Debug)]
pub struct DamagedEntry {
    /// Its label, from the folder's name.
    pub label: BackupLabel,
    /// Why it cannot be read.
    pub error: Error,
}

impl Catalog {
    /// Reads the catalog of `server`; a server without backups has an empty one.
    pub(crate) fn read(storage: &dyn Storage, server: &ServerName) -> Result<Self> {
        let mut catalog = Self {
            server: server.clone(),
            backups: Vec::new(),
            damaged: Vec::new(),
        };
        for label in labels(storage, server)? {
            match read_entry(storage, server, label) {
                Ok(Some(entry)) => catalog.backups.push(entry),
                Ok(None) => {}
                Err(error) => catalog.damaged.push(DamagedEntry { label, error }),
            }
        }
        Ok(catalog)
    }

    /// The server.
    pub fn server(&self) -> &ServerName {
        &self.server
    }

    /// Every backup whose entry is readable, oldest first.
    pub fn backups(&self) -> &[BackupEntry] {
        &self.backups
    }

    /// Every backup whose entry is not readable.
    pub fn damaged(&self) -> &[DamagedEntry] {
        &self.damaged
    }

    /// The readable entries and the others.
    pub(crate) fn into_parts(self) -> (Vec<BackupEntry>, Vec<DamagedEntry>) {
        (self.backups, self.damaged)
    }

    /// The newest backup.
    pub fn newest(&self) -> Option<&BackupEntry> {
        self.backups.last()
    }

    /// The oldest backup.
    pub fn oldest(&self) -> Option<&BackupEntry> {
        self.backups.first()
    }

    /// The backup with this label, or `newest` or `oldest`.
    pub fn find(&self, name: &str) -> Result<&BackupEntry> {
        let found = match name {
            "newest" => self.newest(),
            "oldest" => self.oldest(),
            _ => self
                .backups
                .iter()
                .find(|entry| entry.label.to_string() == name),
        };
        found.ok_or_else(|| self.why_not_found(name))
    }

    fn why_not_found(&self, name: &str) -> Error {
        let damaged = self
            .damaged
            .iter()
            .find(|damaged| damaged.label.to_string() == name);
        match damaged {
            Some(DamagedEntry { label, error }) => {
                let object = layout::entry(&self.server, *label);
                Error::damaged(&object, error.to_string())
            }
            None => Error::NoSuchBackup {
                server: self.server.clone(),
                label: name.to_owned(),
            },
        }
    }
}

/// The labels of all backup folders of `server`, sorted; other folders are not ours and left alone.
pub(crate) fn labels(storage: &dyn Storage, server: &ServerName) -> Result<Vec<BackupLabel>> {
    let folders = storage.folders(&layout::backups(server))?;
    let mut labels: Vec<BackupLabel> = folders
        .iter()
        .filter_map(|name| name.parse().ok())
        .collect();
    labels.sort_unstable();
    Ok(labels)
}

/// The entry of one backup; `None` when it has none.
pub(crate) fn read_entry(
    storage: &dyn Storage,
    server: &ServerName,
    label: BackupLabel,
) -> Result<Option<BackupEntry>> {
    let path = layout::entry(server, label);
    let bytes = match storage.get(&path, RECORD_BYTES_MAX) {
        Ok(bytes) => bytes,
        Err(error) if error.is_not_found() => return Ok(None),
        Err(error) => return Err(Error::reading(&path, error)),
    };
    let entry: BackupEntry = record::decode(&path, &bytes, BackupEntry::FORMAT)?;
    if entry.label != label || entry.server != *server {
        let reason = format!(
            "it is the entry of backup {} of `{}`",
            entry.label, entry.server
        );
        return Err(Error::damaged(&path, reason));
    }
    Ok(Some(entry))
}

#[cfg(test)]
pub(crate) mod tests;
