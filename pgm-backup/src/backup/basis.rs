//! The backup before, on which an incremental one is built.
//!
//! A page of the stream is not stored again when three things say that it is the page which the backup before has: the WAL
//! between the starts of the two does not change it, its own LSN is older than the start of that backup, and its checksum
//! shows that it was read whole. The manifest then points at the old bytes. The WAL alone would do for replay, but then the
//! stored bytes could differ in hint bits from those that went by; the LSN alone would take a file of another relation under the same name for
//! the old one.
//!
//! Even so they may differ: an access method may keep hints on a page without any trace, as SP-GiST does on its metapage. That one is
//! always stored; for others the old hints are as good for replay. But what went by does not tell the checksum of what is kept: a file has one only when
//! all of it is stored anew, or all of it is kept, and then that of the backup before.
//!
//! So it takes page checksums, a primary, one timeline, and a basis that no verification has found to be damaged. Whatever
//! is missing of that makes a full backup, and `backup.ron` says why.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use pgm_proto::{Lsn, ServerName, TimelineId};
use pgm_wal::record::{Fork, RelationFile};
use pgm_wal::summary::{ForkChanges, RelationFork, Summary};

use super::collect::FileHeader;
use super::compact::{Compaction, GivenUp, NeededBytes};
use super::page::{PAGE_BYTES, is_unchanged};
use super::pipeline::Piece;
use super::target::BackupTarget;
use crate::catalog::{BackupEntry, BackupStatus, DataChecksums};
use crate::error::{Error, Result};
use crate::label::BackupLabel;
use crate::manifest::{Extent, FilePath, ManifestEntry, PackRecord};
use crate::repository::{Repository, ServerFacts};
use crate::verify::verification::Outcome;

/// Pages in a file of a relation (`RELSEG_SIZE`).
const SEGMENT_PAGES: u32 = 131_072;
/// `DEFAULTTABLESPACE_OID` and `GLOBALTABLESPACE_OID`.
const TABLESPACE_DEFAULT: u32 = 1663;
const TABLESPACE_GLOBAL: u32 = 1664;
/// At most so much is remembered of the files of the backup before; of more, the rest is stored again.
const MEMORY_MAX: usize = 96 << 20;
const MEMORY_PER_FILE: usize = 176;

/// What of a backup is compared with that before.
#[derive(Debug, Clone, Copy)]
pub(super) struct Beginning {
    pub(super) facts: ServerFacts,
    pub(super) data_checksums: DataChecksums,
    pub(super) source: SourceKind,
    pub(super) timeline: TimelineId,
    pub(super) start_lsn: Lsn,
}

/// Whether the server replays another one's WAL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SourceKind {
    Primary,
    Standby,
}

impl SourceKind {
    /// What `backup_label` says of it.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Standby => "standby",
        }
    }
}

/// The backup before, or why a full one is taken.
pub(super) type Choice = std::result::Result<BackupEntry, String>;

/// The newest backup in `repository`, if an incremental one can be built on it.
pub(super) fn choose(
    repository: &Repository,
    server: &ServerName,
    now: &Beginning,
) -> Result<Choice> {
    let catalog = repository.catalog(server)?;
    let Some(entry) = catalog.backups().last() else {
        return Ok(Err("there is no backup before".to_owned()));
    };
    let label = entry.label;
    let why_not =
        if now.data_checksums == DataChecksums::Off || entry.data_checksums == DataChecksums::Off {
            Some("an incremental backup takes page checksums (pg_checksums --enable)".to_owned())
        } else if now.source == SourceKind::Standby
            || entry.start_facts.from.as_deref() != Some(SourceKind::Primary.name())
        {
            Some(format!("backup {label} or this one is of a standby"))
        } else if entry.timeline != now.timeline {
            Some(format!("backup {label} is on timeline {}", entry.timeline))
        } else if entry.system_id != now.facts.system_id
            || entry.version.major() != now.facts.version.major()
        {
            Some(format!("backup {label} is of another server"))
        } else if entry.start_lsn >= now.start_lsn || entry.status != BackupStatus::Complete {
            Some(format!("backup {label} is newer, or has damaged pages"))
        } else {
            None
        };
    if let Some(reason) = why_not {
        return Ok(Err(reason));
    }
    if is_damaged(repository, server, label)? {
        return Ok(Err(format!("verifying backup {label} found damage")));
    }
    Ok(Ok(entry.clone()))
}

/// Whether the newest verification of a backup found damage.
pub(super) fn is_damaged(
    repository: &Repository,
    server: &ServerName,
    label: BackupLabel,
) -> Result<bool> {
    let verifications = repository.verifications(server, label)?;
    let newest = verifications.first();
    Ok(newest.is_some_and(|newest| newest.outcome == Outcome::Damaged))
}

/// Reads what a backup of `target` is built on, or says why it is a full one: that cannot fail.
pub(super) fn of(
    target: &BackupTarget<'_>,
    server: &ServerName,
    now: &Beginning,
    compaction: Compaction,
) -> std::result::Result<Basis, String> {
    let said = |error: Error| error.to_string();
    let entry = choose(target.repository, server, now).map_err(said)??;
    let changes = target
        .coverage
        .changes(now.timeline, entry.start_lsn, now.start_lsn)
        .map_err(said)?
        .ok_or("nobody can say what has changed")?;
    if let Some(lsn) = changes.minimal {
        return Err(format!("wal_level is minimal from {lsn} on"));
    }
    Basis::read(target.repository, &entry, changes, compaction).map_err(said)
}

/// Where the bytes of files rest, by path.
type Places = HashMap<Box<[u8]>, Place>;

#[derive(Debug)]
struct Place {
    crc32c: Option<u32>,
    size: u64,
    extents: Box<[Extent]>,
}

/// The files of the backup before, and what has changed since.
#[derive(Debug)]
pub(super) struct Basis {
    pub(super) label: BackupLabel,
    start_lsn: Lsn,
    changes: Summary,
    packs: Vec<PackRecord>,
    given_up: GivenUp,
    /// Those that did not come by yet.
    files: Mutex<Places>,
    /// Those that are coming by, and their numbers.
    open: Mutex<HashMap<u64, Arc<OldFile>>>,
}

/// A file of a relation in the backup before.
#[derive(Debug)]
pub(super) struct OldFile {
    place: RelationFork,
    first_block: u32,
    extents: Box<[Extent]>,
}

/// A run of a piece.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Run {
    /// It is to be stored: so many bytes from this offset of the piece on.
    Store { offset: u32, length: u32 },
    /// The backup before has it.
    Kept {
        offset: u32,
        length: u32,
        extent: Extent,
    },
}

impl Basis {
    /// Reads the manifest of `entry`; `changes` says what the WAL has changed since its start.
    pub(super) fn read(
        repository: &Repository,
        entry: &BackupEntry,
        changes: Summary,
        compaction: Compaction,
    ) -> Result<Self> {
        let mut manifest = repository.manifest(entry)?;
        let packs = manifest.packs().to_vec();
        let mut needed = NeededBytes::of(&packs);
        let (mut files, mut memory) = (HashMap::new(), 0);
        while let Some(line) = manifest.next_entry()? {
            let ManifestEntry::File(file) = line else {
                continue;
            };
            if relation(&file.path).is_none() || file.extents.is_empty() {
                continue;
            }
            memory += MEMORY_PER_FILE + size_of_val(file.extents.as_slice());
            if memory > MEMORY_MAX {
                break;
            }
            needed.add(&file.extents);
            let path: Box<[u8]> = file.path.as_bytes().into();
            let place = Place {
                crc32c: file.crc32c,
                size: file.size,
                extents: file.extents.into_boxed_slice(),
            };
            files.insert(path, place);
        }
        Ok(Self {
            label: entry.label,
            start_lsn: entry.start_lsn,
            changes,
            given_up: needed.choose(&packs, compaction),
            packs,
            files: Mutex::new(files),
            open: Mutex::new(HashMap::new()),
        })
    }

    /// The packs that the backup before points into.
    pub(super) fn packs(&self) -> &[PackRecord] {
        &self.packs
    }

    /// The packs that this backup gives up.
    pub(super) fn given_up(&self) -> &GivenUp {
        &self.given_up
    }

    pub(super) fn pack(&self, number: u32) -> Option<&PackRecord> {
        self.packs.get(number as usize)
    }

    /// A file comes by; gives the checksum that it has if all of it is kept.
    pub(super) fn begin_file(&self, number: u64, header: &FileHeader) -> Option<u32> {
        let (place, first_block) = relation(&header.path)?;
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let Place {
            crc32c,
            size,
            extents,
        } = files.remove(header.path.as_bytes())?;
        let old = OldFile {
            place,
            first_block,
            extents,
        };
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.insert(number, Arc::new(old));
        crc32c.filter(|_| size == header.size)
    }

    /// The file of the backup before that the piece belongs to.
    pub(super) fn file_of(&self, piece: &Piece) -> Option<Arc<OldFile>> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.get(&piece.file).cloned()
    }

    /// The runs of a piece with these `bytes`, in order; together they are the piece.
    pub(super) fn runs(&self, file: &OldFile, piece: &Piece, bytes: &[u8], runs: &mut Vec<Run>) {
        runs.clear();
        let page = PAGE_BYTES as u64;
        if !piece.file_offset.is_multiple_of(page) {
            return store(runs, 0, piece.length);
        }
        let changes = self.of_fork(file.place);
        let mut offset = 0;
        for page_bytes in bytes.chunks(PAGE_BYTES) {
            let length = page_bytes.len() as u32;
            let at = piece.file_offset + u64::from(offset);
            let block = file.first_block.saturating_add((at / page) as u32);
            let same =
                !is_changed(changes, block) && is_unchanged(page_bytes, block, self.start_lsn);
            match file.extent_at(at, length).filter(|_| same) {
                Some(extent) if self.given_up.has(extent.pack) => {
                    self.given_up.note(length);
                    store(runs, offset, length);
                }
                Some(extent) => keep(runs, offset, extent),
                None => store(runs, offset, length),
            }
            offset += length;
        }
    }

    /// What the WAL says of a fork, and of all relations of its database.
    fn of_fork(&self, place: RelationFork) -> [Option<&ForkChanges>; 2] {
        let whole = RelationFork {
            relation: RelationFile {
                number: 0,
                ..place.relation
            },
            fork: Fork::Main,
        };
        [self.changes.fork(place), self.changes.fork(whole)]
    }
}

fn is_changed(changes: [Option<&ForkChanges>; 2], block: u32) -> bool {
    let [fork, database] = changes;
    database.is_some()
        || fork.is_some_and(|fork| {
            fork.limit().is_some_and(|limit| block >= limit) || fork.blocks().contains(block)
        })
}

fn store(runs: &mut Vec<Run>, offset: u32, more: u32) {
    match runs.last_mut() {
        Some(Run::Store { length, .. }) => *length += more,
        _ => runs.push(Run::Store {
            offset,
            length: more,
        }),
    }
}

fn keep(runs: &mut Vec<Run>, offset: u32, next: Extent) {
    match runs.last_mut() {
        Some(Run::Kept { length, extent, .. })
            if (extent.pack, extent.frame_offset) == (next.pack, next.frame_offset)
                && extent.start + extent.length == next.start =>
        {
            *length += next.length;
            extent.length += next.length;
        }
        _ => runs.push(Run::Kept {
            offset,
            length: next.length,
            extent: next,
        }),
    }
}

impl OldFile {
    /// The part of an extent that holds these bytes of the file; `None` when no single one does.
    fn extent_at(&self, offset: u64, length: u32) -> Option<Extent> {
        let after = self
            .extents
            .partition_point(|extent| extent.file_offset <= offset);
        let extent = self.extents.get(after.checked_sub(1)?)?;
        let skip = offset - extent.file_offset;
        if skip + u64::from(length) > u64::from(extent.length) {
            return None;
        }
        Some(Extent {
            file_offset: offset,
            start: extent.start + skip as u32,
            length,
            ..*extent
        })
    }
}

/// Whose file it is, and its first block; `None` for what is no relation's main fork. The other forks are small, and always
/// stored: the free space map is not fully logged, and bits of the visibility map are cleared without a trace in its pages.
pub(super) fn relation(path: &FilePath) -> Option<(RelationFork, u32)> {
    let text = std::str::from_utf8(path.as_bytes()).ok()?;
    let mut words = text.split('/');
    let (tablespace, database) = match words.next()? {
        "base" => (TABLESPACE_DEFAULT, words.next()?.parse().ok()?),
        "global" => (TABLESPACE_GLOBAL, 0),
        "pg_tblspc" => {
            let oid = words.next()?.parse().ok()?;
            let _version = words.next()?;
            (oid, words.next()?.parse().ok()?)
        }
        _ => return None,
    };
    let name = words.next().filter(|_| words.next().is_none())?;
    let (name, segment) = match name.split_once('.') {
        Some((name, segment)) => (name, segment.parse::<u32>().ok()?),
        None => (name, 0),
    };
    let relation = RelationFile {
        tablespace,
        database,
        // Other forks have a _ in their names, and others' temporary files begin with a t.
        number: name.parse().ok()?,
    };
    let fork = Fork::Main;
    Some((
        RelationFork { relation, fork },
        segment.checked_mul(SEGMENT_PAGES)?,
    ))
}

#[cfg(test)]
mod tests {
    use super::super::page::sealed_page;
    use super::*;

    #[test]
    fn files_of_relations_are_told_from_others() {
        let of = |path: &str| relation(&FilePath::new(path).unwrap());
        let (place, first) = of("base/5/16384.2").unwrap();
        let RelationFile {
            tablespace,
            database,
            number,
        } = place.relation;
        assert_eq!(
            (tablespace, database, number, first),
            (1663, 5, 16384, 262_144)
        );
        assert_eq!(
            of("pg_tblspc/70000/PG_17_202406281/5/16390")
                .unwrap()
                .0
                .relation
                .tablespace,
            70_000
        );
        for other in [
            "base/5/16384_fsm",
            "global/1262_vm",
            "base/5/16384_init",
            "base/5/PG_VERSION",
            "global/pg_control",
            "pg_xact/0000",
            "base/5/t3_1234",
            "base/5/x/16384",
            "base/5/1.9999999",
        ] {
            assert!(of(other).is_none(), "{other}");
        }
    }

    #[test]
    fn runs_cover_a_piece_and_keep_only_what_nothing_speaks_against() {
        let since = Lsn::new(0x500);
        let path = FilePath::new("base/5/16384").unwrap();
        let (place, _) = relation(&path).unwrap();
        let extent = |page: u64, pages: u32, frame_offset| Extent {
            file_offset: page * 8192,
            pack: 3,
            frame_offset,
            start: 0,
            length: pages * 8192,
        };
        let mut changes = Summary::new(TimelineId::FIRST, since, pgm_wal::summary::Rules::Complete);
        changes.note(place, 1);
        let mut basis = Basis {
            label: "20261122T023456Z".parse().unwrap(),
            start_lsn: since,
            changes,
            packs: Vec::new(),
            given_up: GivenUp::default(),
            files: Mutex::new(HashMap::from([(
                path.as_bytes().into(),
                Place {
                    crc32c: Some(7),
                    size: 6 * PAGE_BYTES as u64,
                    extents: vec![extent(0, 4, 16), extent(4, 2, 99)].into_boxed_slice(),
                },
            )])),
            open: Mutex::default(),
        };
        let header = FileHeader {
            path,
            size: 8 * 8192,
            mode: 0o600,
            mtime: 0,
        };
        basis.begin_file(7, &header);
        let piece = Piece {
            file: 7,
            file_offset: 0,
            start: 0,
            length: 8 * 8192,
        };
        let file = basis.file_of(&piece).unwrap();
        let page = |lsn: u64, block: u32| sealed_page(Lsn::new(lsn), block, 1);
        // 0 kept; 1 changed by the WAL; 2 newer; 3, 4, 5 kept from two frames; 6, 7 are not in the old file.
        let bytes = [
            page(0x100, 0),
            page(0x100, 1),
            page(0x600, 2),
            page(0x100, 3),
            page(0x100, 4),
            page(0x100, 5),
            page(0x100, 6),
            page(0x100, 7),
        ]
        .concat();
        let mut runs = Vec::new();
        basis.runs(&file, &piece, &bytes, &mut runs);
        let shown: Vec<(char, u32, u32)> = runs
            .iter()
            .map(|run| match run {
                Run::Store { offset, length } => ('s', offset / 8192, length / 8192),
                Run::Kept { offset, length, .. } => ('k', offset / 8192, length / 8192),
            })
            .collect();
        assert_eq!(
            shown,
            [
                ('k', 0, 1),
                ('s', 1, 2),
                ('k', 3, 1),
                ('k', 4, 2),
                ('s', 6, 2)
            ]
        );
        let Run::Kept { extent, .. } = &runs[3] else {
            panic!("{runs:?}");
        };
        assert_eq!(
            (extent.frame_offset, extent.start, extent.length),
            (99, 0, 16_384)
        );
        // What would be kept in a pack that is given up is stored again.
        basis.given_up = GivenUp::all(4);
        basis.runs(&file, &piece, &bytes, &mut runs);
        let all = Run::Store {
            offset: 0,
            length: 8 * 8192,
        };
        assert_eq!(runs, [all]);
        assert_eq!(basis.given_up.bytes(), 4 * 8192);
    }
}
