//! A repository: where the backups and the WAL of any number of servers rest.
//!
//! A [`Repository`] is a storage with a `repository.ron` of a known format. Reading needs no lock; whoever writes or
//! removes backups of a server holds its [`Lock`]. The layout is drawn in [`layout`]; every object but a lock is
//! written once and never changed.
//!
//! A repository is made plain or sealed and stays so. In a sealed one [`Repository::storage`] is a layer that seals
//! whatever is put and refuses what was not sealed for its place; only `repository.ron` and the keys are plain.

pub(crate) mod frame_cache;
pub(crate) mod frame_list;
mod keys;
pub mod layout;
mod lock;
mod needed;
pub(crate) mod numbered;
mod open;
mod owner;
mod server;
mod staging;
pub(crate) mod sweep;

use std::fmt;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use pgm_proto::ServerName;
use pgm_storage::{FrameDecoder, ObjectPath, PackReader, SealedStorage, Storage, StorageError};
use serde::{Deserialize, Serialize};

use crate::catalog::{self, BackupEntry, Catalog};
use crate::error::{Error, Result};
use crate::label::BackupLabel;
use crate::manifest::{self, ManifestObject, ManifestReader, PackRecord};
use crate::marks::{self, FoundMarks, MarkChange, Marks};
use crate::verify::verification::{self, Verification};

pub use keys::{DataKeyChoice, Rekey, Rekeyed};
pub use lock::{Lock, Purpose};
pub(crate) use needed::Needed;
pub use needed::Unreadable;
pub use owner::LockOwner;
pub use server::{ServerFacts, ServerRecord};
pub use staging::Staging;
pub use sweep::{Kept, SweepReport, Unfinished};

/// How often a lock that is held for moments is tried, and how long it is waited for in between.
const LOCK_TRIES_MAX: u32 = 30;
const LOCK_TRY_EVERY: Duration = Duration::from_millis(100);

/// An opened repository; clones are the same one.
#[derive(Debug, Clone)]
pub struct Repository {
    storage: Arc<dyn Storage>,
    /// The layer that `storage` is, when the repository is sealed.
    sealed: Option<SealedStorage>,
    id: RepositoryId,
}

/// A repository's random name, the same wherever it is copied to.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RepositoryId(String);

impl Repository {
    /// The repository's id.
    pub fn id(&self) -> &RepositoryId {
        &self.id
    }

    /// The storage, in which everything is as if nothing were sealed.
    pub fn storage(&self) -> &Arc<dyn Storage> {
        &self.storage
    }

    /// The servers that have anything here, sorted.
    pub fn servers(&self) -> Result<Vec<ServerName>> {
        let folders = self.storage.folders(&ObjectPath::root())?;
        Ok(folders
            .iter()
            .filter_map(|name| name.parse().ok())
            .collect())
    }

    /// What the repository knows of `server`; `None` if nothing was registered yet.
    pub fn server(&self, server: &ServerName) -> Result<Option<ServerRecord>> {
        server::read(&*self.storage, server)
    }

    /// Notes who `server` is, or checks that it still is the one that was noted.
    pub fn register(&self, server: &ServerName, facts: &ServerFacts) -> Result<ServerRecord> {
        server::register(&*self.storage, server, facts)
    }

    /// The backups of `server`.
    pub fn catalog(&self, server: &ServerName) -> Result<Catalog> {
        Catalog::read(&*self.storage, server)
    }

    /// The manifest of a backup, checked against the entry's checksum.
    pub fn manifest(&self, entry: &BackupEntry) -> Result<ManifestReader> {
        self.manifest_object(entry)?.read(entry)
    }

    /// The same, for whoever reads it more than once.
    pub(crate) fn manifest_object(&self, entry: &BackupEntry) -> Result<ManifestObject> {
        let path = layout::manifest(&entry.server, entry.label);
        ManifestObject::open(&*self.storage, &path, entry)
    }

    /// Writes the server's own `backup_manifest` to `out`, verbatim; gives its bytes, `None` if the server sent none.
    pub fn server_manifest(&self, entry: &BackupEntry, out: &mut dyn Write) -> Result<Option<u64>> {
        let Some(expected) = &entry.server_manifest else {
            return Ok(None);
        };
        let path = layout::server_manifest(&entry.server, entry.label);
        let object = self.storage.open(&path)?;
        manifest::check_object(&path, &*object, expected)?;
        let pack = PackReader::open(object)?;
        let mut decoder = FrameDecoder::new().map_err(|source| StorageError::Frame {
            path: path.to_string(),
            source,
        })?;
        let (mut scratch, mut raw, mut bytes) = (Vec::new(), Vec::new(), 0);
        for frame in pack.frames() {
            pack.read(frame, &mut decoder, &mut scratch, &mut raw)?;
            let written = out.write_all(&raw);
            written.map_err(|source| Error::System {
                operation: "writing backup_manifest",
                source,
            })?;
            bytes += raw.len() as u64;
        }
        Ok(Some(bytes))
    }

    /// How long the server's own `backup_manifest` is.
    pub fn server_manifest_bytes(&self, entry: &BackupEntry) -> Result<Option<u64>> {
        if entry.server_manifest.is_none() {
            return Ok(None);
        }
        let path = layout::server_manifest(&entry.server, entry.label);
        let pack = PackReader::open(self.storage.open(&path)?)?;
        Ok(Some(pack.summary().raw_bytes))
    }

    /// Opens a pack of `server` that a manifest names, checked against the size and the checksum noted there.
    pub fn pack(&self, server: &ServerName, pack: &PackRecord) -> Result<PackReader> {
        open_pack(&*self.storage, server, pack)
    }

    /// What people say about a backup.
    pub fn marks(&self, server: &ServerName, label: BackupLabel) -> Result<FoundMarks> {
        marks::read(&*self.storage, &layout::marks(server, label))
    }

    /// Changes what people say about a backup that is in the catalog, readable or not.
    pub fn mark(
        &self,
        server: &ServerName,
        label: BackupLabel,
        change: &MarkChange,
    ) -> Result<Marks> {
        // Whoever deletes holds the same lock: a backup that was said to be retained is.
        let lock = self.lock_patiently(server, Purpose::Retention)?;
        self.storage
            .head(&layout::entry(server, label))
            .map_err(|error| Error::no_such_backup(server, label, error))?;
        lock.check()?;
        marks::change(&*self.storage, &layout::marks(server, label), change)
    }

    /// What verifying a backup found, newest first.
    pub fn verifications(
        &self,
        server: &ServerName,
        label: BackupLabel,
    ) -> Result<Vec<Verification>> {
        verification::read(&*self.storage, &layout::verifications(server, label))
    }

    /// Notes what verifying a backup found, unless the backup is gone by now.
    pub fn note_verification(
        &self,
        server: &ServerName,
        label: BackupLabel,
        verification: &Verification,
    ) -> Result<()> {
        self.storage
            .head(&layout::entry(server, label))
            .map_err(|error| Error::no_such_backup(server, label, error))?;
        verification::note(
            &*self.storage,
            &layout::verifications(server, label),
            verification,
        )
    }

    /// Takes a lock that others hold for moments only.
    fn lock_patiently(&self, server: &ServerName, purpose: Purpose) -> Result<Lock> {
        let mut tries = 0;
        loop {
            match self.lock(server, purpose) {
                Err(Error::LockHeld { .. }) if tries < LOCK_TRIES_MAX => tries += 1,
                taken => return taken,
            }
            std::thread::sleep(LOCK_TRY_EVERY);
        }
    }

    /// Takes the lock of `server` for one purpose, or says who holds it.
    pub fn lock(&self, server: &ServerName, purpose: Purpose) -> Result<Lock> {
        Lock::take(&self.storage, server, purpose, lock::Lease::default())
    }

    /// Removes what interrupted backups of the locked server left: folders without catalog entry, and the leftovers of
    /// dead writers. Nothing that is in doubt is removed.
    pub fn sweep(&self, lock: &Lock, unfinished: Unfinished) -> Result<SweepReport> {
        sweep::sweep(&*self.storage, lock, unfinished)
    }

    /// Begins a new backup of the locked server, whose label comes after all others.
    pub fn stage(&self, lock: Lock) -> Result<Staging> {
        let labels = catalog::labels(&*self.storage, lock.server())?;
        self.stage_after(lock, Timestamp::now(), labels.last().copied())
    }

    /// Begins a new backup of the locked server at `now`, whose label comes after `newest`, the newest one here or of
    /// another repository that gets the same backup.
    pub(crate) fn stage_after(
        &self,
        lock: Lock,
        now: Timestamp,
        newest: Option<BackupLabel>,
    ) -> Result<Staging> {
        // What fills a disk must be deletable when the disk is full.
        Lock::prepare(&*self.storage, lock.server(), Purpose::Retention)?;
        Ok(Staging::begin(&self.storage, lock, now, newest))
    }
}

/// A pack, which must be the one that the manifest means.
pub(crate) fn open_pack(
    storage: &dyn Storage,
    server: &ServerName,
    pack: &PackRecord,
) -> Result<PackReader> {
    let path = layout::pack(server, pack.label, pack.number);
    let object = storage.open(&path)?;
    if object.size() != pack.size {
        let reason = format!("it has {} bytes instead of {}", object.size(), pack.size);
        return Err(Error::damaged(&path, reason));
    }
    let reader = PackReader::open(object)?;
    let wanted = pack.index_crc32c;
    if wanted.is_some_and(|wanted| wanted != reader.summary().index_crc) {
        return Err(Error::damaged(
            &path,
            "it is another pack than the one of the manifest",
        ));
    }
    Ok(reader)
}

impl fmt::Display for RepositoryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// 128 random bits as 32 digits.
fn random_hex() -> Result<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| Error::System {
        operation: "reading random bytes",
        source: std::io::Error::other(error),
    })?;
    Ok(format!("{:032x}", u128::from_be_bytes(bytes)))
}

#[cfg(test)]
mod tests;
