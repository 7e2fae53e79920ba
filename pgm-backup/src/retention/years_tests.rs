//! Three years of a backup a day under retention: what each run leaves restores to what was backed up, also where its data
//! rests in the packs of backups that have gone.

use std::fs;
use std::sync::Arc;

use jiff::Timestamp;
use jiff::civil::date;
use pgm_storage::{Compression, MemoryStorage, PackWriter, PutMode, crc32c};
use pgm_wal::archive::Archive;

use super::*;
use crate::catalog::tests::entry_with;
use crate::catalog::{BackupEntry, BackupSize, BackupStatus, BackupWal};
use crate::manifest::{
    DirectoryEntry, Extent, FileEntry, FilePath, ManifestEntry, ManifestHeader, ManifestWriter,
    PackRecord,
};
use crate::record;
use crate::repository::{ServerFacts, layout};
use crate::restore::{
    self, Boundary, Recovery, RestoreRequest, RestoreSource, Target, TargetAction, TimelineChoice,
};
use crate::verify::{self, Level, Listing, VerifyRequest};

const DAYS: i64 = 3 * 365 + 1;
/// Every so many days everything that is left is restored.
const RESTORE_EVERY: i64 = 366;
/// Retention runs every so many days, over that many new backups.
const RUN_EVERY: i64 = 3;
/// Every so many days everything that is left is read.
const READ_EVERY: i64 = 30;
/// Where the first frame of a pack is.
const FIRST_FRAME: u64 = 16;
/// The WAL of every backup, of which nobody reads more than its name.
const WAL: &str = "pg_wal/0000000B0000000100000002";
/// For so many days a backup takes over its predecessor's older file, wherever that rests.
const OLD_FOR: i64 = 10;

fn server() -> ServerName {
    "main".parse().unwrap()
}

/// A backup as it was made: two files, and the pack in which each rests.
#[derive(Clone)]
struct Made {
    label: BackupLabel,
    new: (Vec<u8>, PackRecord),
    old: (Vec<u8>, PackRecord),
}

struct Years {
    repository: Repository,
    archive: Archive,
    made: Vec<Made>,
}

impl Years {
    fn new() -> Self {
        let repository = Repository::create(Arc::new(MemoryStorage::new())).unwrap();
        let facts = ServerFacts {
            system_id: pgm_proto::SystemId::new(u64::MAX),
            version: pgm_proto::ServerVersion::from_number(170_010),
            segment_bytes: 16 << 20,
        };
        repository.register(&server(), &facts).unwrap();
        let archive = Archive::new(Arc::clone(repository.storage()), server());
        Self {
            repository,
            archive,
            made: Vec::new(),
        }
    }

    /// The backup of a day: its own file in its own pack, and one of an earlier backup.
    fn take(&mut self, day: i64, at: Timestamp) {
        let label: BackupLabel = at.strftime("%Y%m%dT%H%M%SZ").to_string().parse().unwrap();
        let content = format!("what was new on day {day}\n")
            .repeat(3)
            .into_bytes();
        let storage = self.repository.storage();
        let object = storage.create(&layout::pack(&server(), label, 0)).unwrap();
        let mut pack = PackWriter::new(object, Compression::NONE).unwrap();
        let frame = pack.append(&content).unwrap();
        assert_eq!(frame.offset, FIRST_FRAME);
        let summary = pack.finish().unwrap();
        let record = PackRecord {
            label,
            number: 0,
            size: summary.size,
            raw_bytes: summary.raw_bytes,
            frames: u64::from(summary.frames),
            index_crc32c: Some(summary.index_crc),
        };
        let new = (content, record);
        let old = match self.made.last() {
            None => new.clone(),
            Some(before) if day % OLD_FOR == 0 => before.new.clone(),
            Some(before) => before.old.clone(),
        };
        let made = Made { label, new, old };
        self.publish(&made, at);
        self.made.push(made);
    }

    fn publish(&self, made: &Made, at: Timestamp) {
        let storage = self.repository.storage();
        let mut entry = entry_with(&made.label.to_string());
        entry.wal = BackupWal::Included;
        entry.status = BackupStatus::Complete;
        (entry.warnings, entry.tablespaces, entry.server_manifest) = (vec![], vec![], None);
        entry.stopped = at + jiff::SignedDuration::from_mins(5);
        let object = storage
            .create(&layout::manifest(&server(), made.label))
            .unwrap();
        let header = ManifestHeader {
            format: 1,
            server: server(),
            label: made.label,
        };
        let mut writer = ManifestWriter::new(object, &header, Compression::NONE).unwrap();
        for path in ["base", "global", "pg_wal"] {
            let directory = DirectoryEntry {
                path: FilePath::new(path.as_bytes()).unwrap(),
                mode: 0o700,
                mtime: 0,
            };
            writer.entry(&ManifestEntry::Directory(directory)).unwrap();
        }
        let mut packs = vec![made.new.1.clone()];
        if made.old.1.label != made.label {
            packs.push(made.old.1.clone());
        }
        let place_of_old = u32::try_from(packs.len() - 1).unwrap();
        for file in [
            file(WAL, b"", 0),
            file("global/pg_control", &made.new.0, 0),
            file("base/old", &made.old.0, place_of_old),
        ] {
            writer.entry(&file).unwrap();
        }
        let (manifest, totals) = writer.finish(&packs).unwrap();
        entry.manifest = manifest;
        entry.size = BackupSize {
            files: totals.files,
            directories: totals.directories,
            raw_bytes: totals.raw_bytes,
            stored_bytes: made.new.1.size + manifest.size,
            packs: 1,
        };
        let path = layout::entry(&server(), made.label);
        storage
            .put(&path, &record::encode(&entry), PutMode::Create)
            .unwrap();
    }

    fn run(&self, policy: &RetentionPolicy, mode: Mode) -> RetentionReport {
        let wal = WalAtHand {
            archive: &self.archive,
            spool: None,
        };
        let report = carry_out(
            &Context::quiet(),
            &self.repository,
            wal,
            &server(),
            policy,
            mode,
        );
        report.unwrap()
    }

    fn left(&self) -> Vec<BackupEntry> {
        self.repository
            .catalog(&server())
            .unwrap()
            .backups()
            .to_vec()
    }

    /// Every file of every backup that is left has its checksum.
    fn all_are_sound(&self) {
        let wal = WalAtHand {
            archive: &self.archive,
            spool: None,
        };
        let request = VerifyRequest {
            backup: None,
            level: Level::Frames,
            listing: Listing::Failed,
        };
        let cx = Context::quiet();
        let reports = verify::verify(&cx, &self.repository, wal, &server(), request, &|_| {
            unreachable!("nothing is tried on this level")
        });
        for report in reports.unwrap() {
            assert_eq!(report.verification.outcome, Outcome::Sound, "{report:?}");
        }
    }

    /// Restores a backup and compares what comes out with what went in.
    fn restores(&self, entry: &BackupEntry) {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let request = RestoreRequest {
            backup: restore::BackupChoice::Label(entry.label),
            directory: data.clone(),
            existing: restore::Existing::Refuse,
            target: Target::Latest,
            boundary: Boundary::Inclusive,
            timeline: TimelineChoice::Newest,
            action: TargetAction::Promote,
            tablespaces: Vec::new(),
            recovery: Recovery::None,
        };
        let (cx, repository, archive) = (Context::quiet(), &self.repository, &self.archive);
        let plan = restore::plan(&cx, repository, archive, None, &server(), request).unwrap();
        restore::restore(&cx, RestoreSource::new(repository, archive), &plan)
            .unwrap_or_else(|error| panic!("{}: {error}", entry.label));
        let made = self
            .made
            .iter()
            .find(|made| made.label == entry.label)
            .unwrap();
        for (path, content) in [
            ("global/pg_control", &made.new.0),
            ("base/old", &made.old.0),
        ] {
            assert!(
                fs::read(data.join(path)).unwrap() == *content,
                "{} {path}",
                entry.label
            );
        }
    }
}

fn file(path: &str, content: &[u8], pack: u32) -> ManifestEntry {
    let extent = Extent {
        file_offset: 0,
        pack,
        frame_offset: FIRST_FRAME,
        start: 0,
        length: u32::try_from(content.len()).unwrap(),
    };
    ManifestEntry::File(FileEntry {
        path: FilePath::new(path.as_bytes()).unwrap(),
        size: content.len() as u64,
        mode: 0o600,
        mtime: 0,
        crc32c: Some(crc32c(content)),
        extents: if content.is_empty() {
            Vec::new()
        } else {
            vec![extent]
        },
    })
}

#[test]
fn over_three_years_everything_that_is_left_restores_and_the_dry_run_said_so() {
    let rules = "last 3, days 7, weeks 4, months 12, years 3"
        .parse()
        .unwrap();
    let mut years = Years::new();
    let first = date(2026, 1, 1)
        .at(2, 0, 0, 0)
        .to_zoned(jiff::tz::TimeZone::UTC)
        .unwrap();
    let mut elsewhere = 0;
    for day in 0..DAYS {
        let at = first.timestamp() + jiff::SignedDuration::from_hours(24 * day);
        years.take(day, at);
        if day % RUN_EVERY != 0 && day != DAYS - 1 {
            continue;
        }
        let before: Vec<BackupLabel> = years.left().iter().map(|entry| entry.label).collect();
        let dry = years.run(&rules, Mode::DryRun);
        let done = years.run(&rules, Mode::Apply);
        assert_eq!(dry.decisions, done.decisions);
        let harmless =
            |warning: &String| warning.ends_with("because later backups point into them");
        assert!(done.warnings.iter().all(harmless), "{:?}", done.warnings);
        let stay = |label: &BackupLabel| {
            let mut decisions = dry.decisions.iter();
            decisions.any(|decision| decision.label == *label && decision.stays())
        };
        let expected: Vec<BackupLabel> = before.into_iter().filter(stay).collect();
        let left = years.left();
        let labels: Vec<BackupLabel> = left.iter().map(|entry| entry.label).collect();
        assert_eq!(labels, expected);
        if day % READ_EVERY == 0 {
            years.all_are_sound();
            let made = |label| years.made.iter().find(|made| made.label == label).unwrap();
            let rests_elsewhere =
                |label: &&BackupLabel| !labels.contains(&made(**label).old.1.label);
            elsewhere += labels.iter().filter(rests_elsewhere).count();
        }
        if day % RESTORE_EVERY == 0 || day == DAYS - 1 {
            for entry in &left {
                years.restores(entry);
            }
        }
    }
    // 7 days, 4 weeks, 12 months, 3 years, some of them the same.
    assert!(
        (20..=26).contains(&years.left().len()),
        "{}",
        years.left().len()
    );
    assert!(
        elsewhere > 100,
        "data of backups that have gone was needed {elsewhere} times"
    );
}
