//! A small repository with everything in it, and what verifying says once any of it is damaged.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use pgm_proto::{Lsn, ServerVersion, SystemId, TimelineId};
use pgm_storage::{Compression, MemoryStorage, ObjectPath, PutMode};
use pgm_wal::archive::{Archive, StoredName};
use pgm_wal::{SegmentName, SegmentNumber, SegmentSize};

use super::verification::Outcome;
use super::*;
use crate::backup::tests::take_sample;
use crate::marks::{AnnotationKey, MarkChange};
use crate::repository::ServerFacts;

const SIZE: SegmentSize = SegmentSize::DEFAULT;

fn server() -> ServerName {
    "main".parse().unwrap()
}

fn timeline(number: u32) -> TimelineId {
    TimelineId::new(number).unwrap()
}

pub(crate) struct Sample {
    pub(crate) repository: Repository,
    archive: Archive,
    pub(crate) entry: BackupEntry,
}

impl Sample {
    /// A backup from 0/2000028 to 0/2000138; the WAL of timeline 1 up to 0/4000000 and some more, and that of timeline 2,
    /// which began at 0/3800000.
    pub(crate) fn new() -> Self {
        let repository = Repository::create(Arc::new(MemoryStorage::new())).unwrap();
        let facts = ServerFacts {
            system_id: SystemId::new(7),
            version: ServerVersion::from_number(170_010),
            segment_bytes: 16 << 20,
        };
        repository.register(&server(), &facts).unwrap();
        let entry = take_sample(&repository);
        let archive = Archive::new(Arc::clone(repository.storage()), server());
        let folder = tempfile::tempdir().unwrap();
        for (on, number) in [(1, 1), (1, 2), (1, 3), (2, 3)] {
            let name = SegmentName::new(timeline(on), SegmentNumber::new(number));
            let path = segment(folder.path(), name);
            archive
                .store_segment(&path, name, SIZE, Compression::ZSTD)
                .unwrap();
        }
        let history = folder.path().join("history");
        std::fs::write(&history, "1\t0/3800000\tno recovery target specified\n").unwrap();
        archive.store_history(&history, timeline(2)).unwrap();
        let note = AnnotationKey::new("why").unwrap();
        let add = MarkChange::Add(note, "test".into());
        repository.mark(&server(), entry.label, &add).unwrap();
        Self {
            repository,
            archive,
            entry,
        }
    }

    fn verify(&self, level: Level) -> VerifyReport {
        let request = VerifyRequest {
            backup: None,
            level,
            listing: Listing::Failed,
        };
        let mut reports = self.run(request).unwrap();
        assert_eq!(reports.len(), 1);
        reports.remove(0)
    }

    fn run(&self, request: VerifyRequest) -> Result<Vec<VerifyReport>> {
        let wal = WalAtHand {
            archive: &self.archive,
            spool: None,
        };
        let no_trial = |_: &BackupEntry| unreachable!("no level but the last tries anything");
        verify(
            &Context::quiet(),
            &self.repository,
            wal,
            &server(),
            request,
            &no_trial,
        )
    }

    fn objects(&self) -> Vec<ObjectPath> {
        let mut objects = Vec::new();
        let list = self
            .repository
            .storage()
            .list(&layout::server_folder(&server()), &mut |meta| {
                objects.push(meta.path);
                ControlFlow::Continue(())
            });
        list.unwrap();
        objects
    }

    fn get(&self, object: &ObjectPath) -> Vec<u8> {
        self.repository.storage().get(object, u64::MAX).unwrap()
    }

    fn put(&self, object: &ObjectPath, bytes: &[u8]) {
        self.repository
            .storage()
            .put(object, bytes, PutMode::Replace)
            .unwrap();
    }

    fn wal(&self, on: u32, number: u64) -> ObjectPath {
        let name = SegmentName::new(timeline(on), SegmentNumber::new(number));
        let path = self.archive.object_path(StoredName::Segment(name), SIZE);
        ObjectPath::parse(&path.unwrap()).unwrap()
    }
}

/// A segment whose first page is written.
fn segment(folder: &Path, name: SegmentName) -> std::path::PathBuf {
    let mut bytes = vec![0; 16 << 20];
    bytes[..2].copy_from_slice(&0xD116_u16.to_le_bytes());
    bytes[2..4].copy_from_slice(&2_u16.to_le_bytes());
    bytes[4..8].copy_from_slice(&name.timeline.number().to_le_bytes());
    bytes[8..16].copy_from_slice(&name.start(SIZE).bytes().to_le_bytes());
    bytes[24..32].copy_from_slice(&7_u64.to_le_bytes());
    bytes[32..36].copy_from_slice(&(16_u32 << 20).to_le_bytes());
    bytes[36..40].copy_from_slice(&8192_u32.to_le_bytes());
    let path = folder.join("segment");
    std::fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn a_sound_backup_is_sound_at_every_level_and_that_is_noted() {
    let sample = Sample::new();
    for level in [Level::Catalog, Level::Frames, Level::Wal] {
        let report = sample.verify(level);
        assert_eq!(report.verification.findings, [], "{level:?}");
        assert_eq!(report.verification.outcome, Outcome::Sound);
        assert_eq!(report.verification.counts.files, sample.entry.size.files);
        assert_eq!(
            report.verification.counts.frames > 0,
            level > Level::Catalog
        );
        let noted = sample
            .repository
            .verifications(&server(), sample.entry.label)
            .unwrap();
        assert_eq!(noted[0], report.verification);
    }
    let noted = sample
        .repository
        .verifications(&server(), sample.entry.label)
        .unwrap();
    assert_eq!(noted[0].counts.wal_segments, 3);
    let all = VerifyRequest {
        backup: Some(BackupChoice::Newest),
        level: Level::Frames,
        listing: Listing::All,
    };
    let report = sample.run(all).unwrap().remove(0);
    assert_eq!(report.files.len() as u64, sample.entry.size.files);
    assert!(report.files.iter().all(VerifiedFile::is_sound) && report.files_omitted == 0);
}

/// Some bits of an object of this many bytes: those at the ends and `between` in between.
fn bits(bytes: usize, between: usize) -> Vec<usize> {
    let bits = bytes * 8;
    let step = (bits / between).max(1);
    let between = (0..bits).step_by(step).map(|bit| bit + (bit * 7919) % step);
    let mut chosen: Vec<usize> = between
        .chain([0, 1, bits - 1, bits - 9, bits - 200])
        .collect();
    chosen.retain(|bit| *bit < bits);
    chosen
}

#[test]
fn a_flipped_bit_in_any_object_is_found_and_the_object_named() {
    let sample = Sample::new();
    sample.verify(Level::Catalog);
    let objects = sample.objects();
    let kinds = [
        "server.ron",
        "backup.ron",
        "/manifest",
        "pg_manifest",
        ".pack",
        "/marks/",
        "/verify/",
        ".history",
        "/wal/00000002/",
    ];
    for kind in kinds {
        assert!(
            objects.iter().any(|object| object.as_str().contains(kind)),
            "{kind}"
        );
    }
    // Locks, and the WAL before the backup, are nothing that it needs.
    let before = sample.wal(1, 1);
    let live = objects
        .iter()
        .filter(|object| !object.as_str().contains("/lock/") && **object != before);
    for object in live {
        let whole = sample.get(object);
        let between = if object.as_str().contains("/wal/") {
            8
        } else {
            40
        };
        for bit in bits(whole.len(), between) {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            sample.put(object, &flipped);
            expect_finding(&sample, object, bit);
            sample.put(object, &whole);
        }
        for length in [0, 1, whole.len() / 2, whole.len() - 1] {
            sample.put(object, &whole[..length]);
            expect_finding(&sample, object, length);
        }
        sample.put(object, &whole);
    }
    assert_eq!(
        sample.verify(Level::Wal).verification.outcome,
        Outcome::Sound
    );
}

/// Verifying finds something, names the object, and leaves its record out of the way of the next try.
fn expect_finding(sample: &Sample, object: &ObjectPath, place: usize) {
    // Reading all WAL takes a while: only where it matters.
    let is_wal = object.as_str().contains("/wal/");
    let report = sample.verify(if is_wal { Level::Wal } else { Level::Frames });
    let folder = layout::verifications(&server(), sample.entry.label);
    let newest = *crate::repository::numbered::numbers(&**sample.repository.storage(), &folder)
        .unwrap()
        .last()
        .unwrap();
    let noted = crate::repository::numbered::object(&folder, newest).unwrap();
    sample.repository.storage().delete(&noted).unwrap();
    assert_ne!(
        report.verification.outcome,
        Outcome::Sound,
        "{object} at {place}"
    );
    let named = report
        .verification
        .findings
        .iter()
        .any(|finding| finding.object == object.as_str());
    assert!(
        named,
        "{object} at {place}: {:?}",
        report.verification.findings
    );
}

#[test]
fn a_damaged_frame_is_told_with_its_place_and_its_files() {
    let sample = Sample::new();
    let pack = layout::pack(&server(), sample.entry.label, 0);
    let mut bytes = sample.get(&pack);
    // In the payload of the first frame.
    bytes[100] ^= 1;
    sample.put(&pack, &bytes);
    assert_eq!(
        sample.verify(Level::Catalog).verification.outcome,
        Outcome::Sound
    );
    let report = sample.verify(Level::Frames);
    assert_eq!(report.verification.outcome, Outcome::Damaged);
    let finding = &report.verification.findings[0];
    assert_eq!(
        (finding.object.as_str(), finding.offset),
        (pack.as_str(), Some(16))
    );
    let file = finding.file.as_ref().unwrap();
    assert!(
        report
            .files
            .iter()
            .any(|listed| listed.path == *file && listed.found.is_none())
    );
}

#[test]
fn missing_wal_damages_the_backup_and_missing_wal_behind_it_flaws_it() {
    let sample = Sample::new();
    let own = sample.wal(1, 2);
    let behind = sample.wal(1, 3);
    let bytes = sample.get(&own);
    let storage = Arc::clone(sample.repository.storage());
    storage.delete(&own).unwrap();
    let report = sample.verify(Level::Wal);
    assert_eq!(report.verification.outcome, Outcome::Damaged);
    assert_eq!(report.verification.findings[0].object, own.as_str());
    sample.put(&own, &bytes);
    // Segments 4 and 5 follow, then 3 goes: a hole.
    let folder = tempfile::tempdir().unwrap();
    let fourth = SegmentName::new(timeline(1), SegmentNumber::new(4));
    let path = segment(folder.path(), fourth);
    sample
        .archive
        .store_segment(&path, fourth, SIZE, Compression::ZSTD)
        .unwrap();
    storage.delete(&behind).unwrap();
    let report = sample.verify(Level::Wal);
    assert_eq!(report.verification.outcome, Outcome::Flawed);
    assert_eq!(report.verification.findings[0].object, behind.as_str());
    assert!(
        report.verification.findings[0]
            .reason
            .contains(&Lsn::new(0x300_0000).to_string())
    );
}

#[test]
fn sound_objects_in_each_others_place_are_noticed() {
    let sample = Sample::new();
    let (own, behind) = (sample.wal(1, 2), sample.wal(1, 3));
    let (first, second) = (sample.get(&own), sample.get(&behind));
    sample.put(&own, &second);
    sample.put(&behind, &first);
    let report = sample.verify(Level::Wal);
    assert_eq!(report.verification.outcome, Outcome::Damaged);
    assert_eq!(report.verification.findings_total, 2);
}

#[test]
fn a_backup_that_is_not_there_is_no_damage() {
    let sample = Sample::new();
    let request = VerifyRequest {
        backup: Some(BackupChoice::Label("20200101T000000Z".parse().unwrap())),
        level: Level::Wal,
        listing: Listing::Failed,
    };
    let error = sample.run(request).unwrap_err();
    assert!(matches!(error, Error::NoSuchBackup { .. }), "{error}");
}

#[test]
fn a_trial_decides_last_and_is_not_made_of_what_is_known_to_be_damaged() {
    let made = Sample::new();
    let request = VerifyRequest {
        backup: None,
        level: Level::Restore,
        listing: Listing::Failed,
    };
    let tried = std::cell::Cell::new(0);
    let run = |report: TrialReport| {
        let wal = WalAtHand {
            archive: &made.archive,
            spool: None,
        };
        let trial = |entry: &BackupEntry| {
            assert_eq!(entry.label, made.entry.label);
            tried.set(tried.get() + 1);
            Ok(report.clone())
        };
        let cx = Context::quiet();
        let reports = verify(&cx, &made.repository, wal, &server(), request, &trial);
        reports.unwrap().remove(0).verification
    };
    let proof = verification::Trial {
        lsn: made.entry.end_lsn,
        last_commit: None,
        proven: made.entry.stopped,
        restore_ms: 1,
        replay_ms: 2,
        check_ms: 3,
        checks: Vec::new(),
    };
    let good = TrialReport {
        trial: Some(proof.clone()),
        ..TrialReport::default()
    };
    let complaint = TrialReport {
        complaints: vec!["not true".to_owned()],
        ..good.clone()
    };
    let failure = TrialReport {
        failures: vec!["it does not start".to_owned()],
        ..TrialReport::default()
    };
    assert_eq!(run(good.clone()).outcome, Outcome::Sound);
    assert_eq!(run(complaint).outcome, Outcome::Flawed);
    assert_eq!(run(failure).outcome, Outcome::Damaged);
    let noted = made.repository.verifications(&server(), made.entry.label);
    let trials: Vec<_> = noted
        .unwrap()
        .into_iter()
        .map(|noted| noted.trial)
        .collect();
    assert_eq!(trials, [None, Some(proof.clone()), Some(proof)]);
    let pack = layout::pack(&server(), made.entry.label, 0);
    let mut bytes = made.get(&pack);
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    made.put(&pack, &bytes);
    assert_eq!(run(good).outcome, Outcome::Damaged);
    assert_eq!(tried.get(), 3);
}
