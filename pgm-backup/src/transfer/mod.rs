//! Copying what a repository has of a server into another repository: WAL, backups, what is said of them.
//!
//! Objects keep their paths and their bytes; how they are sealed and where they rest is the other repository's business.
//! Every frame of WAL and data is decoded and compared with its checksum on the way, so damage is found and not spread.
//! What is there already stays as it is, so a copy that was interrupted goes on where it was.
//!
//! WAL goes before backups, and a backup's catalog entry after everything it needs: what the other repository lists can be
//! restored from it alone. The lock of the other repository's backups is held meanwhile; of this one nothing is locked,
//! and a backup that is deleted while it is copied is an error.

mod object;
#[cfg(test)]
mod tests;
mod there;

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use pgm_proto::ServerName;
use pgm_storage::{ObjectPath, PutMode};

use crate::catalog::BackupEntry;
use crate::context::{Context, Phase};
use crate::error::{Error, Result};
use crate::label::BackupLabel;
use crate::record::RECORD_BYTES_MAX;
use crate::repository::{Lock, Purpose, Repository, ServerFacts, layout};

use object::Copier;
use there::There;

/// What is copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransferRequest {
    /// Only this backup; `None` for all.
    pub backup: Option<BackupLabel>,
    /// Whether the WAL goes along.
    pub wal: TransferWal,
}

/// Whether WAL is copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransferWal {
    /// All of it.
    All,
    /// None: it gets there by other ways.
    None,
}

/// What was copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransferReport {
    /// The server.
    pub server: ServerName,
    /// The backups that were copied, oldest first.
    pub backups: Vec<BackupLabel>,
    /// Backups that were there already.
    pub backups_there: u64,
    /// Objects that were copied.
    pub objects: u64,
    /// Objects that were there already.
    pub objects_there: u64,
    /// Raw bytes of the objects that were copied.
    pub bytes: u64,
}

/// Copies what `from` has of `server` into `to`.
pub fn transfer(
    cx: &Context,
    from: &Repository,
    to: &Repository,
    server: &ServerName,
    request: &TransferRequest,
) -> Result<TransferReport> {
    if from.id() == to.id() {
        return Err(Error::SameRepository {
            location: to.storage().describe(),
        });
    }
    register(from, to, server)?;
    let lock = to.lock(server, Purpose::Backup)?;
    let wanted = wanted(from, to, server, request)?;
    let mut work = Transfer {
        cx,
        from,
        to,
        lock: &lock,
        copier: Copier::new()?,
        total_bytes: total(from, server, request, &wanted.entries)?,
        done_bytes: 0,
        report: TransferReport {
            server: server.clone(),
            backups: Vec::new(),
            backups_there: wanted.there,
            objects: 0,
            objects_there: 0,
            bytes: 0,
        },
    };
    if request.wal == TransferWal::All {
        work.folder(&layout::wal(server))?;
        work.folder(&layout::summaries(server))?;
    }
    for entry in &wanted.entries {
        work.backup(entry)?;
    }
    Ok(work.report)
}

/// Notes in `to` who the server is; refuses if it knows another one under the name.
fn register(from: &Repository, to: &Repository, server: &ServerName) -> Result<()> {
    let Some(record) = from.server(server)? else {
        return Err(Error::NothingOfServer {
            server: server.clone(),
            location: from.storage().describe(),
        });
    };
    let facts = ServerFacts {
        system_id: record.system_id,
        version: record.version,
        segment_bytes: record.segment_bytes,
    };
    to.register(server, &facts).map(drop)
}

struct Wanted {
    entries: Vec<BackupEntry>,
    there: u64,
}

/// The backups that are to be copied, and how many of them are there.
fn wanted(
    from: &Repository,
    to: &Repository,
    server: &ServerName,
    request: &TransferRequest,
) -> Result<Wanted> {
    let catalog = from.catalog(server)?;
    let is_wanted = |label: BackupLabel| request.backup.is_none_or(|wanted| wanted == label);
    // What cannot be read is not passed over: it would look as if everything had been copied.
    let mut damaged = catalog.damaged().iter();
    if let Some(damaged) = damaged.find(|damaged| is_wanted(damaged.label)) {
        let path = layout::entry(server, damaged.label);
        return Err(Error::damaged(&path, damaged.error.to_string()));
    }
    let entries: Vec<BackupEntry> = catalog
        .backups()
        .iter()
        .filter(|entry| is_wanted(entry.label))
        .cloned()
        .collect();
    if let Some(label) = request.backup
        && entries.is_empty()
    {
        return Err(Error::NoSuchBackup {
            server: server.clone(),
            label: label.to_string(),
        });
    }
    let known = to.catalog(server)?;
    let known: BTreeSet<BackupLabel> = known.backups().iter().map(|entry| entry.label).collect();
    let all = entries.len();
    let entries: Vec<BackupEntry> = entries
        .into_iter()
        .filter(|entry| !known.contains(&entry.label))
        .collect();
    Ok(Wanted {
        there: (all - entries.len()) as u64,
        entries,
    })
}

/// How many bytes there are to copy at most.
fn total(
    from: &Repository,
    server: &ServerName,
    request: &TransferRequest,
    entries: &[BackupEntry],
) -> Result<u64> {
    let mut bytes: u64 = entries.iter().map(|entry| entry.size.stored_bytes).sum();
    if request.wal == TransferWal::All {
        from.storage().list(&layout::wal(server), &mut |meta| {
            bytes = bytes.saturating_add(meta.size);
            ControlFlow::Continue(())
        })?;
    }
    Ok(bytes)
}

struct Transfer<'a> {
    cx: &'a Context,
    from: &'a Repository,
    to: &'a Repository,
    lock: &'a Lock,
    copier: Copier,
    total_bytes: u64,
    done_bytes: u64,
    report: TransferReport,
}

impl Transfer<'_> {
    /// Copies every object below `folder`.
    fn folder(&mut self, folder: &ObjectPath) -> Result<()> {
        let objects = self.list(folder)?;
        let there: BTreeSet<ObjectPath> = list(self.to, folder)?
            .into_iter()
            .map(|(path, _)| path)
            .collect();
        for (path, size) in objects {
            if there.contains(&path) {
                self.report.objects_there += 1;
                self.step(size, &path);
            } else {
                self.object(&path, size)?;
            }
        }
        Ok(())
    }

    /// Copies a backup: what it needs, then what it is, then that it exists.
    fn backup(&mut self, entry: &BackupEntry) -> Result<()> {
        let server = &entry.server;
        let packs = self.from.manifest(entry)?.packs().to_vec();
        let labels = packs.iter().map(|pack| pack.label);
        let labels = labels.chain([entry.label]).collect();
        let there = There::look(self.from, self.to, self.lock, &labels)?;
        for pack in packs {
            let path = layout::pack(server, pack.label, pack.number);
            let is_there = there.has_pack(&pack)?;
            self.object_unless(is_there, &path, pack.size)?;
        }
        let manifest = (layout::manifest(server, entry.label), Some(entry.manifest));
        let server_manifest = layout::server_manifest(server, entry.label);
        for (path, object) in [manifest, (server_manifest, entry.server_manifest)] {
            if let Some(object) = object {
                let is_there = there.has_object(entry, &path, &object)?;
                self.object_unless(is_there, &path, object.size)?;
            }
        }
        for folder in [
            layout::marks(server, entry.label),
            layout::verifications(server, entry.label),
        ] {
            self.folder(&folder)?;
        }
        // Whoever took the lock over may have swept this folder.
        self.lock.check()?;
        let path = layout::entry(server, entry.label);
        let bytes = self.from.storage().get(&path, RECORD_BYTES_MAX)?;
        let put = self.to.storage().put(&path, &bytes, PutMode::Create);
        match put {
            Err(error) if error.is_already_exists() => {}
            put => put?,
        }
        self.report.objects += 1;
        self.report.backups.push(entry.label);
        Ok(())
    }

    fn object_unless(&mut self, is_there: bool, path: &ObjectPath, size: u64) -> Result<()> {
        if !is_there {
            return self.object(path, size);
        }
        self.report.objects_there += 1;
        self.step(size, path);
        Ok(())
    }

    fn object(&mut self, path: &ObjectPath, size: u64) -> Result<()> {
        self.cx.check_cancel()?;
        self.lock.check()?;
        let written = self.copier.copy(self.cx, self.from, self.to, path)?;
        self.report.objects += 1;
        self.report.bytes += written;
        self.step(size, path);
        Ok(())
    }

    fn step(&mut self, bytes: u64, path: &ObjectPath) {
        self.done_bytes = self.done_bytes.saturating_add(bytes);
        let total = self.total_bytes.max(self.done_bytes);
        self.cx
            .report(Phase::Transfer, self.done_bytes, Some(total), path.name());
    }

    fn list(&self, folder: &ObjectPath) -> Result<Vec<(ObjectPath, u64)>> {
        list(self.from, folder)
    }
}

/// The objects below `folder` with their sizes.
fn list(repository: &Repository, folder: &ObjectPath) -> Result<Vec<(ObjectPath, u64)>> {
    let mut objects = Vec::new();
    repository.storage().list(folder, &mut |meta| {
        objects.push((meta.path, meta.size));
        ControlFlow::Continue(())
    })?;
    Ok(objects)
}
