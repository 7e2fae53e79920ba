//! What a backup writes into one of its targets: packs, and the manifests beside them.
//!
//! Feeder and workers share it. It takes everything that the data directory consists of; who fills the packs is the
//! `pipeline`.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use pgm_storage::{Cancel, Compression, StorageError};

use super::basis::Basis;
use super::changed::ChangedPages;
use super::collect::{Collector, FileHeader, Placed};
use super::compact::GivenUp;
use super::parent::Parent;
use super::pipeline::Piece;
use super::resume::{Found, Reusable};
use super::server_manifest::ServerManifest;
use super::store_again::{Outcome, StoreAgain};
use crate::catalog::{BasisFacts, ObjectChecksum, ReusedSize};
use crate::error::{Error, Result};
use crate::label::BackupLabel;
use crate::manifest::{
    Extent, FileEntry, FilePath, MANIFEST_FORMAT, ManifestHeader, ManifestTotals, ManifestWriter,
    PackRecord,
};
use crate::repository::Staging;
use crate::repository::frame_list::FrameHasher;

/// A target's share of a copy.
#[derive(Debug)]
pub(super) struct Lane {
    compression: Compression,
    pub(super) collector: Collector,
    pub(super) packs: PackTable,
    /// What interrupted backups left here.
    pub(super) reusable: Reusable,
    /// What tells frames apart; the same one in every lane.
    pub(super) hasher: Arc<FrameHasher>,
    reused_frames: AtomicU64,
    reused_bytes: AtomicU64,
    /// The backup before, on which this one is built, or why there is none.
    built_on: OnceLock<std::result::Result<BuiltOn, String>>,
    kept_bytes: AtomicU64,
    /// What is stored again of old packs, once there is something.
    again: Mutex<Option<StoreAgain>>,
    server_manifest: Mutex<ServerManifest>,
    /// Last, so that the writers are gone when it is.
    staging: Staging,
}

/// The backup before, on which one is built.
#[derive(Debug)]
pub(super) enum BuiltOn {
    /// All pages come, and those that it has are not stored again.
    Basis {
        basis: Box<Basis>,
        /// Why all pages come.
        why_all: String,
    },
    /// Only pages come that have changed since.
    Parent { parent: Parent, by: ChangesBy },
}

/// Who says what has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ChangesBy {
    /// The server, by its summaries of its WAL.
    Server,
    /// pgm, by its digests of the WAL.
    Digests,
}

impl BuiltOn {
    fn label(&self) -> BackupLabel {
        match self {
            Self::Basis { basis, .. } => basis.label,
            Self::Parent { parent, .. } => parent.label,
        }
    }

    fn packs(&self) -> &[PackRecord] {
        match self {
            Self::Basis { basis, .. } => basis.packs(),
            Self::Parent { parent, .. } => parent.packs(),
        }
    }

    fn given_up(&self) -> &GivenUp {
        match self {
            Self::Basis { basis, .. } => basis.given_up(),
            Self::Parent { parent, .. } => parent.given_up(),
        }
    }

    fn reason(&self) -> String {
        match self {
            Self::Basis { basis, why_all } => format!(
                "unchanged pages since {} by the WAL, by their LSN and by their checksum; all were read: {why_all}",
                basis.label
            ),
            Self::Parent { parent, by } => format!(
                "changed pages since {} by {}",
                parent.label,
                match by {
                    ChangesBy::Server => "the server's own summaries of its WAL",
                    ChangesBy::Digests => "pgm's digests of its WAL",
                }
            ),
        }
    }
}

/// All data of a backup in one target.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) compression: Compression,
    pub(super) staging: Staging,
    /// Its own packs.
    pub(super) packs: Vec<PackRecord>,
    /// Those of earlier backups, on which it is built.
    pub(super) foreign: Vec<PackRecord>,
    pub(super) basis: Option<BasisFacts>,
    /// Why it was taken in this way; `None` for a full one, as asked.
    pub(super) reason: Option<String>,
    pub(super) reused: ReusedSize,
    pub(super) totals: ManifestTotals,
    pub(super) manifest: ObjectChecksum,
    pub(super) server_manifest: Option<ObjectChecksum>,
}

/// The manifest's table of packs as it grows: a pack has its index there from its first frame on.
#[derive(Debug, Default)]
pub(super) struct PackTable {
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    /// `None` for a pack that is being written.
    packs: Vec<Option<PackRecord>>,
    /// Where packs of interrupted backups are in it.
    reused: BTreeMap<(BackupLabel, u32), u32>,
    next_number: u32,
}

/// A pack that is being written: its place in the table, and its number among the backup's own packs.
#[derive(Debug, Clone, Copy)]
pub(super) struct PackSlot {
    pub(super) index: u32,
    pub(super) number: u32,
}

impl Lane {
    pub(super) fn begin(
        discard: &Cancel,
        mut staging: Staging,
        compression: Compression,
        reusable: (Reusable, Arc<FrameHasher>),
    ) -> Result<Self> {
        let (reusable, hasher) = reusable;
        staging.discard_when(discard);
        let header = ManifestHeader {
            format: MANIFEST_FORMAT,
            server: staging.server().clone(),
            label: staging.label(),
        };
        let object = staging.create_manifest()?;
        let manifest = ManifestWriter::new(object, &header, compression)?;
        Ok(Self {
            compression,
            staging,
            collector: Collector::new(manifest),
            packs: PackTable::default(),
            reusable,
            hasher,
            reused_frames: AtomicU64::new(0),
            reused_bytes: AtomicU64::new(0),
            built_on: OnceLock::new(),
            kept_bytes: AtomicU64::new(0),
            again: Mutex::default(),
            server_manifest: Mutex::new(ServerManifest::new(compression)),
        })
    }

    pub(super) fn compression(&self) -> Compression {
        self.compression
    }

    pub(super) fn staging(&self) -> &Staging {
        &self.staging
    }

    pub(super) fn begin_server_manifest(&self) -> Result<()> {
        lock(&self.server_manifest).begin(&self.staging)
    }

    pub(super) fn server_manifest_data(&self, bytes: &[u8]) -> Result<()> {
        lock(&self.server_manifest).data(bytes)
    }

    /// Notes that a frame was stored already; gives the index of its pack.
    pub(super) fn reuse(&self, found: Found<'_>, raw_bytes: usize) -> u32 {
        self.reused_frames.fetch_add(1, Ordering::Relaxed);
        self.reused_bytes
            .fetch_add(raw_bytes as u64, Ordering::Relaxed);
        self.packs.reuse(found.pack)
    }

    /// Builds the backup on the one before, or says why not.
    pub(super) fn build_on(&self, basis: std::result::Result<BuiltOn, String>) {
        // It is said once.
        let _ = self.built_on.set(basis);
    }

    /// The backup on which this one is built, when all pages come.
    pub(super) fn basis(&self) -> Option<&Basis> {
        match self.built_on.get()?.as_ref().ok()? {
            BuiltOn::Basis { basis, .. } => Some(basis),
            BuiltOn::Parent { .. } => None,
        }
    }

    /// A file comes by, whose pieces will name it by `number`.
    pub(super) fn begin_file(&self, number: u64, header: &FileHeader) -> Result<()> {
        let kept = self
            .basis()
            .and_then(|basis| basis.begin_file(number, header));
        self.collector.file_kept_as(number, header.clone(), kept)
    }

    /// How long a file was in the backup before, of which only changed pages are wanted.
    pub(super) fn bytes_before(&self, path: &FilePath) -> Option<u64> {
        match self.built_on.get()?.as_ref().ok()? {
            BuiltOn::Parent { parent, .. } => Some(parent.file(path)?.size),
            BuiltOn::Basis { .. } => None,
        }
    }

    /// A file comes by of which only changed pages follow; gives how long it was in the backup before.
    pub(super) fn begin_changed(
        &self,
        number: u64,
        header: &FileHeader,
        changed: &ChangedPages,
    ) -> Result<u64> {
        let Some(Ok(BuiltOn::Parent { parent, .. })) = self.built_on.get() else {
            return Err(bad(format!("only pages of {} come", header.path)));
        };
        let Some(before) = parent.file(&header.path) else {
            let reason = format!(
                "only pages of {} come, which is not in the backup before",
                header.path
            );
            return Err(bad(reason));
        };
        let runs = changed.kept(before.size);
        let places = before.places(&runs).ok_or_else(|| {
            bad(format!(
                "{} is incomplete in the backup before",
                header.path
            ))
        })?;
        let is_same = changed.blocks.is_empty() && before.size == header.size;
        if header.size == 0 {
            self.collector.file(number, header.clone())?;
            return Ok(before.size);
        }
        let pack_of = |place: &Extent| {
            let pack = parent.packs().get(place.pack as usize);
            pack.ok_or_else(|| bad("the backup before has no such pack".to_owned()))
        };
        let gives_up = |place: &Extent| parent.given_up().has(place.pack);
        if is_same && !places.iter().any(gives_up) {
            let kept = places
                .iter()
                .map(|place| Ok(self.kept(place, pack_of(place)?)));
            self.collector.placed_file(FileEntry {
                path: header.path.clone(),
                size: header.size,
                mode: header.mode,
                mtime: header.mtime,
                crc32c: before.crc32c,
                extents: kept.collect::<Result<_>>()?,
            })?;
            return Ok(before.size);
        }
        let crc32c = before.crc32c.filter(|_| is_same);
        self.collector.known_file(number, header.clone(), crc32c)?;
        let mut placed = Vec::with_capacity(places.len());
        for place in &places {
            let pack = pack_of(place)?;
            if gives_up(place) && self.store_again(number, place, pack)? == Outcome::Taken {
                parent.given_up().note(place.length);
                continue;
            }
            let extent = self.kept(place, pack);
            placed.push(Placed {
                piece: Piece {
                    file: number,
                    file_offset: extent.file_offset,
                    start: extent.start,
                    length: extent.length,
                },
                crc32c: None,
                pack: extent.pack,
                frame_offset: extent.frame_offset,
            });
        }
        self.collector.placed(&placed)?;
        Ok(before.size)
    }

    /// Where bytes are that stay in the pack of an earlier backup.
    fn kept(&self, place: &Extent, pack: &PackRecord) -> Extent {
        Extent {
            pack: self.keep(pack, place.length),
            ..*place
        }
    }

    /// Stores bytes of a pack that is given up.
    fn store_again(&self, file: u64, place: &Extent, pack: &PackRecord) -> Result<Outcome> {
        let mut again = lock(&self.again);
        let again = match &mut *again {
            Some(again) => again,
            none => none.insert(StoreAgain::new(self)?),
        };
        again.take(self, file, place, pack)
    }

    /// Notes that the backup before has these bytes; gives the index of the pack.
    pub(super) fn keep(&self, pack: &PackRecord, raw_bytes: u32) -> u32 {
        self.kept_bytes
            .fetch_add(raw_bytes.into(), Ordering::Relaxed);
        self.packs.reuse(pack)
    }

    /// How many raw bytes were stored already.
    pub(super) fn reused_bytes(&self) -> u64 {
        self.reused_bytes.load(Ordering::Relaxed)
    }

    /// The target was given up because of `error`.
    pub(super) fn gave_up(&self, error: &Error) {
        gave_up(&self.staging, error);
    }

    /// Writes the ends of the manifests.
    pub(super) fn finish(self) -> Result<Stored> {
        let reused_bytes = self.reused_bytes();
        let again = lock(&self.again).take();
        let again = again.map_or(Ok(()), |again| again.finish(&self));
        let ended = again.and_then(|()| end(self.packs, self.collector, self.server_manifest));
        let (packs, manifest, totals, server_manifest) = match ended {
            Ok(ended) => ended,
            Err(error) => {
                gave_up(&self.staging, &error);
                return Err(error);
            }
        };
        let label = self.staging.label();
        let kept_bytes = self.kept_bytes.load(Ordering::Relaxed);
        let (basis, reason) = match self.built_on.into_inner() {
            Some(Ok(built_on)) => {
                let facts = BasisFacts {
                    label: built_on.label(),
                    raw_bytes: kept_bytes,
                    stored_again_bytes: built_on.given_up().bytes(),
                    packs_given_up: built_on.given_up().count(),
                };
                let reason = built_on.reason();
                (Some((facts, built_on)), Some(reason))
            }
            Some(Err(why)) => (None, Some(format!("a full one: {why}"))),
            None => (None, None),
        };
        let before: HashSet<_> = basis
            .iter()
            .flat_map(|(_, built_on)| built_on.packs())
            .map(|pack| (pack.label, pack.number))
            .collect();
        let foreign: Vec<PackRecord> = packs
            .iter()
            .filter(|pack| pack.label != label && before.contains(&(pack.label, pack.number)))
            .cloned()
            .collect();
        let (packs, reused): (Vec<_>, Vec<_>) =
            packs.into_iter().partition(|pack| pack.label == label);
        let reused = ReusedSize {
            packs: (reused.len() - foreign.len()) as u32,
            frames: self.reused_frames.into_inner(),
            raw_bytes: reused_bytes,
        };
        Ok(Stored {
            compression: self.compression,
            staging: self.staging,
            packs,
            foreign,
            basis: basis.map(|(facts, _)| facts),
            reason,
            reused,
            totals,
            manifest,
            server_manifest,
        })
    }
}

type Ended = (
    Vec<PackRecord>,
    ObjectChecksum,
    ManifestTotals,
    Option<ObjectChecksum>,
);

fn end(
    packs: PackTable,
    collector: Collector,
    server_manifest: Mutex<ServerManifest>,
) -> Result<Ended> {
    let packs = packs.finish()?;
    let (manifest, totals) = collector.finish(&packs)?;
    let server_manifest = server_manifest.into_inner();
    let server_manifest = server_manifest
        .unwrap_or_else(PoisonError::into_inner)
        .finish()?;
    Ok((packs, manifest, totals, server_manifest))
}

fn bad(reason: String) -> Error {
    Error::BadStream { reason }
}

/// A target is given up because of `error`.
fn gave_up(staging: &Staging, error: &Error) {
    // What is kept for the next backup must not take the room that everything else needs.
    if matches!(error, Error::Storage(StorageError::NoSpace { .. })) {
        staging.discard();
    }
}

impl PackTable {
    /// A place for a new pack of the backup's own.
    pub(super) fn begin(&self) -> PackSlot {
        let mut table = lock(&self.table);
        let slot = PackSlot {
            index: table.packs.len() as u32,
            number: table.next_number,
        };
        table.packs.push(None);
        table.next_number += 1;
        slot
    }

    /// The place of a pack that an interrupted backup left.
    fn reuse(&self, pack: &PackRecord) -> u32 {
        let mut table = lock(&self.table);
        let Table { packs, reused, .. } = &mut *table;
        *reused.entry((pack.label, pack.number)).or_insert_with(|| {
            packs.push(Some(pack.clone()));
            packs.len() as u32 - 1
        })
    }

    /// Notes what the pack in `slot` has become.
    pub(super) fn finished(&self, slot: PackSlot, record: PackRecord) {
        if let Some(place) = lock(&self.table).packs.get_mut(slot.index as usize) {
            *place = Some(record);
        }
    }

    fn finish(self) -> Result<Vec<PackRecord>> {
        let table = self.table.into_inner();
        let packs = table.unwrap_or_else(PoisonError::into_inner).packs;
        let packs: Option<Vec<PackRecord>> = packs.into_iter().collect();
        // Extents that point nowhere must never be written down, whatever went wrong here.
        packs.ok_or_else(|| Error::BadStream {
            reason: "a pack was not finished".into(),
        })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
