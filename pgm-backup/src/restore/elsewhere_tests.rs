//! What one repository has lost, restored from another: cut out, damaged or gone, in data and WAL.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use pgm_proto::{ServerVersion, SystemId, TimelineId};
use pgm_storage::{Compression, LocalStorage, Storage};
use pgm_wal::{SegmentName, SegmentNumber};

use super::*;
use crate::backup::tests::take_small_into;
use crate::context::Context;
use crate::repository::ServerFacts;
use crate::restore::{
    BackupChoice, Boundary, Existing, Recovery, RestoreReport, RestoreRequest, RestoreSource,
    Target, TargetAction, TimelineChoice, plan, restore,
};

fn extent(file_offset: u64, length: u32, pack: u32, start: u32) -> Extent {
    Extent {
        file_offset,
        pack,
        frame_offset: 16,
        start,
        length,
    }
}

#[test]
fn a_piece_is_cut_out_of_the_extents_of_another_manifest() {
    let theirs = [
        extent(0, 100, 0, 7),
        extent(100, 50, 1, 0),
        extent(150, 1000, 2, 3),
    ];
    let parts = |from, length| parts(&theirs, extent(from, length, 9, 9)).collect::<Vec<_>>();
    assert_eq!(parts(0, 100), [extent(0, 100, 0, 7)]);
    assert_eq!(parts(10, 20), [extent(10, 20, 0, 17)]);
    assert_eq!(
        parts(90, 70),
        [
            extent(90, 10, 0, 97),
            extent(100, 50, 1, 0),
            extent(150, 10, 2, 3)
        ]
    );
    assert_eq!(parts(1149, 1), [extent(1149, 1, 2, 1002)]);
}

type Files = BTreeMap<PathBuf, Vec<u8>>;

/// The same backup in two folders, each compressed in its own way, with its WAL in both; the second has an older one, too.
struct Twice {
    scratch: tempfile::TempDir,
    label: BackupLabel,
    /// What a restore makes of it.
    whole: Files,
}

impl Twice {
    fn new() -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let mut twice = Self {
            scratch,
            label: BackupLabel::from_time(jiff::Timestamp::UNIX_EPOCH),
            whole: Files::new(),
        };
        let repositories = ["one", "two"].map(|name| {
            let folder = twice.scratch.path().join(name);
            let storage: Arc<dyn Storage> = Arc::new(LocalStorage::create(folder).unwrap());
            let repository = Repository::create(storage).unwrap();
            let facts = ServerFacts {
                system_id: SystemId::new(7),
                version: ServerVersion::from_number(170_010),
                segment_bytes: 1 << 20,
            };
            repository.register(&server(), &facts).unwrap();
            twice.store_wal(&repository);
            repository
        });
        take_small_into(&[(&repositories[1], "lz4")], 1, 200_000);
        let both = [(&repositories[0], "zstd"), (&repositories[1], "none")];
        let entries = take_small_into(&both, 2, 5_000_000);
        twice.label = entries[0].label;
        twice.whole = twice.restore(&[]).unwrap().1;
        twice
    }

    fn store_wal(&self, repository: &Repository) {
        let archive = Archive::new(Arc::clone(repository.storage()), server());
        for number in 31..35 {
            let name = SegmentName::new(TimelineId::FIRST, SegmentNumber::new(number));
            let path = self.scratch.path().join("segment");
            fs::write(&path, segment(name)).unwrap();
            archive
                .store_segment(&path, name, size(), Compression::ZSTD)
                .unwrap();
        }
    }

    fn open(&self, name: &str) -> RepositoryResult<Repository> {
        Repository::open(Arc::new(LocalStorage::open(
            self.scratch.path().join(name),
        )?))
    }

    /// Restores it from the first folder; gives what the report says and what is there.
    fn restore(&self, others: &[&str]) -> Result<(RestoreReport, Files), RestoreError> {
        let repository = self.open("one").unwrap();
        let archive = Archive::new(Arc::clone(repository.storage()), server());
        let directory = self.scratch.path().join("restored");
        let request = RestoreRequest {
            backup: BackupChoice::Label(self.label),
            directory: directory.clone(),
            existing: Existing::Refuse,
            target: Target::Immediate,
            boundary: Boundary::default(),
            timeline: TimelineChoice::Exactly(TimelineId::FIRST),
            action: TargetAction::default(),
            tablespaces: Vec::new(),
            recovery: Recovery::Command("false".to_owned()),
        };
        let cx = Context::quiet();
        let planned = plan(&cx, &repository, &archive, None, &server(), request)?;
        let others: Vec<OtherRepository<'_>> = others
            .iter()
            .map(|name| OtherRepository::new(*name, || self.open(name)))
            .collect();
        let source = RestoreSource {
            others: &others,
            ..RestoreSource::new(&repository, &archive)
        };
        let restored = restore(&cx, source, &planned);
        let is_server = directory.join("global/pg_control").exists();
        let mut files = Files::new();
        collect(&directory, &directory, &mut files);
        fs::remove_dir_all(&directory).unwrap();
        assert_eq!(restored.is_ok(), is_server, "{restored:?}");
        restored.map(|report| (report, files))
    }

    fn packs(&self, name: &str) -> Vec<PathBuf> {
        let label = self.label;
        let folder = format!("{name}/main/backup/{label}");
        let entries = fs::read_dir(self.scratch.path().join(folder)).unwrap();
        let mut packs: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
        packs.retain(|path| {
            path.extension()
                .is_some_and(|extension| extension == "pack")
        });
        packs.sort();
        packs
    }

    /// Restores with `damage` done to a file of the first folder, and puts that right again.
    fn damaged(&self, file: &Path, damage: impl Fn(&mut Vec<u8>), others: &[&str]) -> Outcome {
        let whole = fs::read(file).unwrap();
        let mut bytes = whole.clone();
        damage(&mut bytes);
        if bytes.is_empty() {
            fs::remove_file(file).unwrap();
        } else {
            fs::write(file, bytes).unwrap();
        }
        let outcome = self.restore(others);
        fs::write(file, whole).unwrap();
        outcome
    }

    fn assert_helped(&self, outcome: Outcome, what: &str) {
        let (report, files) = outcome.unwrap_or_else(|error| panic!("{what}: {error}"));
        assert!(files == self.whole, "{what}");
        let told = report.warnings.iter();
        assert!(
            told.clone()
                .any(|text| text.contains("came from repository two")),
            "{what}: {:?}",
            report.warnings
        );
    }
}

type Outcome = Result<(RestoreReport, Files), RestoreError>;

fn server() -> ServerName {
    "main".parse().unwrap()
}

fn size() -> SegmentSize {
    SegmentSize::new(1 << 20).unwrap()
}

/// A segment whose first page is written.
fn segment(name: SegmentName) -> Vec<u8> {
    let mut bytes = vec![0; 1 << 20];
    bytes[..2].copy_from_slice(&0xD116_u16.to_le_bytes());
    bytes[2..4].copy_from_slice(&2_u16.to_le_bytes());
    bytes[4..8].copy_from_slice(&1_u32.to_le_bytes());
    bytes[8..16].copy_from_slice(&name.start(size()).bytes().to_le_bytes());
    bytes[24..32].copy_from_slice(&7_u64.to_le_bytes());
    bytes[32..36].copy_from_slice(&(1_u32 << 20).to_le_bytes());
    bytes[36..40].copy_from_slice(&8192_u32.to_le_bytes());
    bytes
}

fn collect(root: &Path, folder: &Path, files: &mut Files) {
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(root, &path, files);
        } else {
            let name = path.strip_prefix(root).unwrap().to_owned();
            files.insert(name, fs::read(&path).unwrap());
        }
    }
}

#[test]
fn what_one_repository_has_lost_comes_from_the_other() {
    let twice = Twice::new();
    let packs = twice.packs("one");
    assert!(packs.len() > 1, "{packs:?}");
    for pack in &packs {
        let length = fs::metadata(pack).unwrap().len() as usize;
        let what = pack.display();
        for tenth in 0..10 {
            let flip = |bytes: &mut Vec<u8>| bytes[length / 10 * tenth + 40] ^= 1;
            twice.assert_helped(
                twice.damaged(pack, flip, &["two"]),
                &format!("{what}, {tenth} tenths"),
            );
        }
        for (cut, left) in [("shorter", length / 2), ("gone", 0)] {
            let cut_off = |bytes: &mut Vec<u8>| bytes.truncate(left);
            // The first of the others is of no help.
            let outcome = twice.damaged(pack, cut_off, &["nowhere", "two"]);
            twice.assert_helped(outcome, &format!("{what} is {cut}"));
        }
    }
}

#[test]
fn a_segment_that_the_archive_has_lost_comes_from_the_other() {
    let twice = Twice::new();
    let archive = twice.scratch.path().join("one/main/wal");
    let mut segments = Files::new();
    collect(&archive, &archive, &mut segments);
    let needed = segments.keys().find(|name| {
        let text = name.to_string_lossy();
        text.contains("000000010000000000000020") && !text.contains("digest")
    });
    let needed = archive.join(needed.unwrap());
    let outcome = twice.damaged(&needed, |bytes| bytes[100] ^= 1, &["two"]);
    twice.assert_helped(outcome, "a segment");
}

#[test]
fn what_nobody_has_fails_with_the_first_reason_and_makes_no_server() {
    let twice = Twice::new();
    let pack = &twice.packs("one")[0];
    let alone = twice.damaged(pack, Vec::clear, &[]).unwrap_err();
    // The other one has lost more.
    for other in twice.packs("two") {
        fs::remove_file(other).unwrap();
    }
    let error = twice
        .damaged(pack, Vec::clear, &["two", "nowhere"])
        .unwrap_err();
    assert_eq!(error.to_string(), alone.to_string());
    assert!(error.to_string().contains("0000.pack"), "{error}");
    assert!(twice.restore(&["two"]).is_ok());
}
