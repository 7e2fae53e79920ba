//! Other repositories that may have the backup which is restored: what cannot be read in one is taken from the next.
//!
//! A backup that went to several repositories has one label in all of them and the same files, but not the same packs: each
//! has been compressed, sealed and built on earlier backups by itself. So what is missing is looked for by file and position,
//! in the other's own manifest, which is read once for everything that is missing. The first that has the backup is also read
//! beside the one of the plan from the beginning (`beside`).

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use pgm_proto::ServerName;
use pgm_wal::archive::{Archive, Lookup};
use pgm_wal::{SegmentSize, Spool, WalFileName};

use super::beside;
use super::dispatch::Dispatcher;
use super::error::RestoreError;
use super::place::{Shared, Source};
use super::queue::Queue;
use super::window::Piece;
use crate::catalog::{BackupEntry, BackupMethod};
use crate::error::Result as RepositoryResult;
use crate::label::BackupLabel;
use crate::manifest::{Extent, FileEntry, FilePath, ManifestEntry, ManifestReader};
use crate::repository::Repository;

/// Pieces that are remembered: a TiB of large files.
const PIECES_MAX: usize = 1 << 20;
/// So many characters of an error are told in a warning.
const REASON_CHARS_MAX: usize = 300;

/// Opens a repository.
type Open<'a> = Box<dyn Fn() -> RepositoryResult<Repository> + Send + Sync + 'a>;
/// Opens a repository for a thread that may be left behind.
pub(super) type Hurried = dyn Fn() -> RepositoryResult<Repository> + Send + Sync;

/// A repository that may have the same backup as the one that is read. It is opened when something is missing there.
pub struct OtherRepository<'a> {
    name: String,
    open: Open<'a>,
    /// The same, when there is another one to read from: what takes long is given up early.
    hurried: Arc<Hurried>,
}

impl std::fmt::Debug for OtherRepository<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut debug = f.debug_struct("OtherRepository");
        debug.field("name", &self.name).finish_non_exhaustive()
    }
}

impl<'a> OtherRepository<'a> {
    /// The repository that `open` opens, called `name` in warnings; `hurried` opens it for reading what another one has too, where an
    /// operation that takes long is better given up.
    pub fn new(
        name: impl Into<String>,
        open: impl Fn() -> RepositoryResult<Repository> + Send + Sync + 'a,
        hurried: impl Fn() -> RepositoryResult<Repository> + Send + Sync + 'static,
    ) -> Self {
        Self {
            name: name.into(),
            open: Box::new(open),
            hurried: Arc::new(hurried),
        }
    }
}

/// Everywhere else, for one backup.
#[derive(Debug)]
pub(super) struct Elsewhere<'a> {
    entry: &'a BackupEntry,
    others: &'a [OtherRepository<'a>],
    warnings: Mutex<Vec<String>>,
    /// How many bytes which of them gave.
    given: Mutex<Vec<(String, u64)>>,
}

impl<'a> Elsewhere<'a> {
    pub(super) fn new(entry: &'a BackupEntry, others: &'a [OtherRepository<'a>]) -> Self {
        Self {
            entry,
            others,
            warnings: Mutex::default(),
            given: Mutex::default(),
        }
    }

    pub(super) fn has_others(&self) -> bool {
        !self.others.is_empty()
    }

    /// How many bytes of files which of them gave.
    pub(super) fn given(&self) -> Vec<(String, u64)> {
        let given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        given.clone()
    }

    fn count(&self, name: &str, bytes: u64) {
        let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        match given.iter_mut().find(|(known, _)| known == name) {
            Some((_, sum)) => *sum += bytes,
            None if bytes > 0 => given.push((name.to_owned(), bytes)),
            None => {}
        }
    }

    /// Reads from the first that has the same backup what can be borrowed from `queue`. It is no trouble if there is none: what is
    /// wrong there is told when it was begun with.
    pub(super) fn help(&self, shared: &Shared<'_>, queue: &Queue) {
        for OtherRepository { name, hurried, .. } in self.others {
            let copy = match beside::prepare(shared, queue, hurried, self.entry) {
                Ok(Some(copy)) => copy,
                Ok(None) => return,
                Err(reason) => {
                    tracing::info!("repository {name} is not read beside the first: {reason}");
                    continue;
                }
            };
            let helped = beside::help(shared, queue, copy);
            self.count(name, helped.bytes);
            if let Some(failure) = helped.failure {
                self.warn(format!(
                    "repository {name} was not read to the end, which the first one did: {failure}"
                ));
            }
            return;
        }
    }

    /// What a person should know of where things came from.
    pub(super) fn into_warnings(self) -> Vec<String> {
        self.warnings
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Fetches what was set aside from one repository after the other; fails with what was the matter first if something is
    /// still missing then.
    pub(super) fn give(&self, shared: &Shared<'_>) -> Result<(), RestoreError> {
        for other in self.others {
            let pieces = shared.aside.take_pieces();
            if pieces.is_empty() {
                return Ok(());
            }
            let bytes = bytes_of(&pieces);
            let found = match find_copy(&*other.open, self.entry) {
                Ok(found) => found,
                Err(reason) => {
                    self.warn(format!("repository {} is of no help: {reason}", other.name));
                    shared.aside.put_back(pieces);
                    continue;
                }
            };
            self.count(&other.name, found.give(shared, pieces)?);
            let missing = shared.aside.bytes();
            self.warn(format!(
                "{} of {bytes} bytes that could not be read came from repository {}; the first failure was: {}",
                bytes.saturating_sub(missing),
                other.name,
                shared.aside.first_failure(),
            ));
        }
        shared.aside.finish()
    }

    /// Fetches a segment that the archive which is read does not give. `Err` gives `failed` back.
    pub(super) fn give_segment(
        &self,
        (name, size): (WalFileName, SegmentSize),
        destination: &Path,
        spool: Option<&Spool>,
        failed: RestoreError,
    ) -> Result<(), RestoreError> {
        for other in self.others {
            let fetched = (other.open)().ok().and_then(|repository| {
                let storage = Arc::clone(repository.storage());
                let archive = Archive::new(storage, self.entry.server.clone());
                archive.fetch(name, size, destination, spool).ok()
            });
            if matches!(fetched, Some(Lookup::Delivered(_))) {
                self.warn(format!(
                    "wal segment {} came from repository {}: {}",
                    name.file_name(size),
                    other.name,
                    told(&failed)
                ));
                return Ok(());
            }
        }
        Err(failed)
    }

    /// Has the server's manifest written from where it can be read. `Err` gives `failed` back.
    ///
    /// One that is composed of ours needs no repository: what was read of it at the beginning is kept.
    pub(super) fn give_manifest(
        &self,
        write: &dyn Fn(&Repository, &BackupEntry) -> Result<(), RestoreError>,
        failed: RestoreError,
    ) -> Result<(), RestoreError> {
        let is_verbatim = |entry: &BackupEntry| {
            entry.server_manifest.is_some() && entry.method == BackupMethod::BaseBackup
        };
        for other in self.others.iter().filter(|_| is_verbatim(self.entry)) {
            let Ok(copy) = find_copy(&*other.open, self.entry) else {
                continue;
            };
            if is_verbatim(&copy.entry) && write(&copy.repository, &copy.entry).is_ok() {
                self.warn(format!(
                    "the server's manifest came from repository {}: {}",
                    other.name,
                    told(&failed)
                ));
                return Ok(());
            }
        }
        Err(failed)
    }

    fn warn(&self, text: String) {
        tracing::warn!("{text}");
        let mut warnings = self.warnings.lock().unwrap_or_else(PoisonError::into_inner);
        warnings.push(text);
    }
}

/// The backup `wanted` in the repository that `open` opens, or why it is not there.
pub(super) fn find_copy(
    open: &dyn Fn() -> RepositoryResult<Repository>,
    wanted: &BackupEntry,
) -> Result<FoundCopy, String> {
    let said = |error: crate::error::Error| error.to_string();
    let repository = open().map_err(said)?;
    let catalog = repository.catalog(&wanted.server).map_err(said)?;
    let entry = catalog.backups().iter().find(|entry| {
        entry.label == wanted.label
            && entry.system_id == wanted.system_id
            && (entry.start_lsn, entry.end_lsn) == (wanted.start_lsn, wanted.end_lsn)
            && entry.timeline == wanted.timeline
    });
    let Some(entry) = entry else {
        return Err(format!("it does not have backup {}", wanted.label));
    };
    let manifest = repository.manifest(entry).map_err(said)?;
    Ok(FoundCopy {
        entry: entry.clone(),
        manifest,
        repository,
    })
}

/// A backup in another repository.
#[derive(Debug)]
pub(super) struct FoundCopy {
    pub(super) repository: Repository,
    pub(super) entry: BackupEntry,
    pub(super) manifest: ManifestReader,
}

impl FoundCopy {
    /// Fetches the pieces. What is not there, or is another file, stays set aside.
    fn give(self, shared: &Shared<'_>, pieces: Vec<Piece>) -> Result<u64, RestoreError> {
        let server: &ServerName = &self.entry.server;
        let packs = self.manifest.packs().to_vec();
        let source = Source {
            repository: &self.repository,
            server,
            label: self.entry.label,
            packs: &packs,
        };
        let mut wanted = by_file(pieces);
        let mut manifest = self.manifest;
        let ((), given) = shared.round(source, None, |dispatcher| {
            while let Some(entry) = manifest.next_entry()? {
                let ManifestEntry::File(file) = entry else {
                    continue;
                };
                if let Some(pieces) = wanted.remove(&file.path) {
                    hand_out(shared, dispatcher, &file, pieces)?;
                }
            }
            dispatcher.hand_out()
        })?;
        shared.aside.put_back(wanted.into_values().flatten());
        Ok(given)
    }
}

/// Hands the pieces of a file out, as they lie in the packs of another repository.
fn hand_out(
    shared: &Shared<'_>,
    dispatcher: &mut Dispatcher<'_>,
    file: &FileEntry,
    pieces: Vec<Piece>,
) -> Result<(), RestoreError> {
    let is_same = |piece: &Piece| piece.destination.is(file);
    if !pieces.iter().all(is_same) || shared.check_extents(file).is_err() {
        shared.aside.put_back(pieces);
        return Ok(());
    }
    // A file of one piece may not have been made, and may be in several here.
    let mut made = HashMap::new();
    for piece in pieces {
        let known = Arc::as_ptr(&piece.destination);
        let destination = if let Some(destination) = made.get(&known) {
            Arc::clone(destination)
        } else {
            let destination = piece.destination.made(shared.roots)?;
            let destination = destination.map_or_else(|| piece.destination.clone(), Arc::new);
            made.insert(known, destination.clone());
            destination
        };
        for extent in parts(&file.extents, piece.extent) {
            dispatcher.piece(Piece {
                destination: destination.clone(),
                extent,
            })?;
        }
    }
    Ok(())
}

/// The parts of `extents`, which make up a file, that hold the bytes of the file for which `wanted` stands.
pub(super) fn parts(extents: &[Extent], wanted: Extent) -> impl Iterator<Item = Extent> {
    let end_of = |extent: &Extent| extent.file_offset + u64::from(extent.length);
    let (begin, end) = (wanted.file_offset, end_of(&wanted));
    let first = extents.partition_point(|extent| end_of(extent) <= begin);
    extents[first..]
        .iter()
        .take_while(move |extent| extent.file_offset < end)
        .map(move |extent| {
            let from = extent.file_offset.max(begin);
            let to = end_of(extent).min(end);
            Extent {
                file_offset: from,
                // Both are within the extent, whose length is of 32 bits.
                start: extent.start + (from - extent.file_offset) as u32,
                length: (to - from) as u32,
                ..*extent
            }
        })
}

fn by_file(pieces: Vec<Piece>) -> HashMap<FilePath, Vec<Piece>> {
    let mut files: HashMap<FilePath, Vec<Piece>> = HashMap::new();
    for piece in pieces {
        match files.get_mut(piece.destination.path()) {
            Some(pieces) => pieces.push(piece),
            None => {
                files.insert(piece.destination.path().clone(), vec![piece]);
            }
        }
    }
    files
}

fn bytes_of(pieces: &[Piece]) -> u64 {
    let lengths = pieces.iter().map(|piece| u64::from(piece.extent.length));
    lengths.sum()
}

/// An error with its causes, not longer than a person reads.
pub(super) fn told(error: &RestoreError) -> String {
    use std::error::Error as _;
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text.chars().take(REASON_CHARS_MAX).collect()
}

/// What could not be read.
#[derive(Debug)]
pub(super) struct Aside {
    label: BackupLabel,
    may_be_elsewhere: bool,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    pieces: Vec<Piece>,
    /// What was the matter with the first.
    first: Option<RestoreError>,
}

impl Aside {
    pub(super) fn new(label: BackupLabel, may_be_elsewhere: bool) -> Self {
        Self {
            label,
            may_be_elsewhere,
            kept: Mutex::default(),
        }
    }

    /// Sets pieces aside, of which `error` tells why, if that is not known yet; gives it back when there is nowhere else, or
    /// too much.
    pub(super) fn put(
        &self,
        pieces: Vec<Piece>,
        error: Option<RestoreError>,
    ) -> Result<(), RestoreError> {
        let mut kept = self.kept();
        if let Some(error) = error {
            if !self.may_be_elsewhere {
                return Err(error);
            }
            kept.first.get_or_insert(error);
        }
        if kept.pieces.len() + pieces.len() > PIECES_MAX
            && let Some(first) = kept.first.take()
        {
            return Err(first);
        }
        kept.pieces.extend(pieces);
        Ok(())
    }

    fn put_back(&self, pieces: impl IntoIterator<Item = Piece>) {
        self.kept().pieces.extend(pieces);
    }

    fn take_pieces(&self) -> Vec<Piece> {
        std::mem::take(&mut self.kept().pieces)
    }

    fn bytes(&self) -> u64 {
        bytes_of(&self.kept().pieces)
    }

    fn first_failure(&self) -> String {
        self.kept().first.as_ref().map_or_else(String::new, told)
    }

    /// Fails if something is still missing.
    fn finish(&self) -> Result<(), RestoreError> {
        let mut kept = self.kept();
        let first = kept.first.take();
        if kept.pieces.is_empty() {
            return Ok(());
        }
        Err(first.unwrap_or_else(|| RestoreError::Damaged {
            label: self.label,
            reason: format!("{} pieces of files are nowhere", kept.pieces.len()),
        }))
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[path = "elsewhere_tests.rs"]
mod tests;
