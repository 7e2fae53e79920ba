//! A thousand bits flipped and ends cut off in a plain and in a sealed repository: verifying names the object, and
//! restoring gives the right bytes or an error.
//!
//! The numbers come from a seed, so a failure comes again. What is damaged is chosen by object first, so small records are
//! hit as often as packs.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pgm_proto::{ServerVersion, SystemId, TimelineId};
use pgm_storage::seal::MasterKey;
use pgm_storage::{Compression, LocalStorage, ObjectPath, Storage, StorageError};
use pgm_wal::archive::{Archive, StoredName};
use pgm_wal::{SegmentName, SegmentNumber, SegmentSize, WalFileName};

use super::verification::Outcome;
use super::*;
use crate::backup::tests::take_small;
use crate::marks::{AnnotationKey, MarkChange};
use crate::repository::{ServerFacts, numbered};
use crate::restore::{
    Boundary, Recovery, RestoreRequest, RestoreSource, Target, TargetAction, TimelineChoice,
    export, plan, plan_export, restore,
};

const SEED: u64 = 0x5eed_0fda_4a6e;
const DAMAGES: usize = 1000;
/// Every so many damages a directory is restored, too.
const RESTORED_EVERY: usize = 25;

/// Numbers without a pattern (`SplitMix64`).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }
}

/// In memory, where there is such a place: thousands of small files are synced.
fn scratch() -> tempfile::TempDir {
    let memory = tempfile::tempdir_in("/dev/shm");
    memory.or_else(|_| tempfile::tempdir()).unwrap()
}

fn server() -> ServerName {
    "main".parse().unwrap()
}

fn size() -> SegmentSize {
    SegmentSize::new(1 << 20).unwrap()
}

/// Two backups and their WAL in a folder.
struct Sample {
    scratch: tempfile::TempDir,
    key: Option<MasterKey>,
    entries: Vec<BackupEntry>,
}

/// An opened sample.
struct Opened {
    repository: Repository,
    archive: Archive,
}

impl Sample {
    fn new(key: Option<MasterKey>) -> Self {
        let mut sample = Self {
            scratch: scratch(),
            key,
            entries: Vec::new(),
        };
        let storage: Arc<dyn Storage> = Arc::new(LocalStorage::create(sample.root()).unwrap());
        let repository = match &sample.key {
            Some(key) => Repository::create_sealed(storage, key).unwrap(),
            None => Repository::create(storage).unwrap(),
        };
        let facts = ServerFacts {
            system_id: SystemId::new(7),
            version: ServerVersion::from_number(170_010),
            segment_bytes: 1 << 20,
        };
        repository.register(&server(), &facts).unwrap();
        sample.entries = (0..2).map(|seed| take_small(&repository, seed)).collect();
        let archive = Archive::new(Arc::clone(repository.storage()), server());
        for number in 31..35 {
            let path = segment(sample.scratch.path(), name(number));
            archive
                .store_segment(&path, name(number), size(), Compression::ZSTD)
                .unwrap();
        }
        for entry in &sample.entries {
            let note = MarkChange::Add(AnnotationKey::new("why").unwrap(), "test".into());
            repository.mark(&server(), entry.label, &note).unwrap();
        }
        sample
    }

    fn root(&self) -> PathBuf {
        self.scratch.path().join("repository")
    }

    fn open(&self) -> Result<Opened> {
        let storage: Arc<dyn Storage> = Arc::new(LocalStorage::open(self.root())?);
        let repository = match &self.key {
            Some(key) => Repository::open_sealed(storage, key)?,
            None => Repository::open(storage)?,
        };
        let archive = Archive::new(Arc::clone(repository.storage()), server());
        Ok(Opened {
            repository,
            archive,
        })
    }

    /// Every object that a backup needs, or that people rely on; no locks, no WAL from before the first backup.
    fn live(&self) -> Vec<ObjectPath> {
        let storage = LocalStorage::open(self.root()).unwrap();
        let mut objects = Vec::new();
        let list = storage.list(&ObjectPath::root(), &mut |meta| {
            objects.push(meta.path);
            ControlFlow::Continue(())
        });
        list.unwrap();
        let before = wal(31);
        objects.retain(|object| !object.as_str().contains("/lock/") && *object != before);
        objects
    }

    fn file(&self, object: &ObjectPath) -> PathBuf {
        self.root().join(object.as_str())
    }

    fn read(&self, object: &ObjectPath) -> Vec<u8> {
        std::fs::read(self.file(object)).unwrap()
    }

    fn write(&self, object: &ObjectPath, bytes: &[u8]) {
        std::fs::write(self.file(object), bytes).unwrap();
    }

    fn exchange(&self, one: &ObjectPath, other: &ObjectPath) {
        let (first, second) = (self.read(one), self.read(other));
        self.write(one, &second);
        self.write(other, &first);
    }
}

impl Opened {
    /// What verifying finds, by object. Leaves no record of it.
    fn verify(&self) -> BTreeMap<String, String> {
        let wal = WalAtHand {
            archive: &self.archive,
            spool: None,
        };
        let request = VerifyRequest {
            backup: None,
            level: Level::Wal,
            listing: Listing::Failed,
        };
        let cx = Context::quiet();
        let no_trial = |_: &BackupEntry| panic!("this level starts no server");
        let reports = verify(&cx, &self.repository, wal, &server(), request, &no_trial).unwrap();
        let mut found: BTreeMap<String, String> = BTreeMap::new();
        for report in reports {
            let folder = layout::verifications(&server(), report.label);
            let storage = &**self.repository.storage();
            let newest = *numbered::numbers(storage, &folder).unwrap().last().unwrap();
            let noted = numbered::object(&folder, newest).unwrap();
            storage.delete(&noted).unwrap();
            let verification = report.verification;
            let is_sound = verification.outcome == Outcome::Sound;
            assert_eq!(is_sound, verification.findings.is_empty());
            for finding in verification.findings {
                let reasons = found.entry(finding.object).or_default();
                reasons.push_str(&finding.reason);
                reasons.push('\n');
            }
        }
        found
    }

    /// What comes back of a backup and of the WAL behind it, or the first error.
    fn bring_back(&self, label: BackupLabel, scratch: &Path) -> Result<Vec<u8>, String> {
        let cx = Context::quiet();
        let request = request(label, scratch);
        let plan = plan_export(
            &cx,
            &self.repository,
            &self.archive,
            None,
            &server(),
            request,
        )
        .map_err(|error| error.to_string())?;
        let mut tar = Vec::new();
        export(&cx, &self.repository, &self.archive, None, &plan, &mut tar)
            .map_err(|error| error.to_string())?;
        let mut back = without_times(tar);
        for number in 32..35 {
            let file = scratch.join("fetched");
            self.archive
                .fetch(WalFileName::Segment(name(number)), size(), &file, None)
                .map_err(|error| error.to_string())?;
            let fetched = std::fs::read(&file).map_err(|error| error.to_string())?;
            back.extend(fetched);
        }
        Ok(back)
    }

    /// Restores a backup into a directory; gives its files.
    fn restore(
        &self,
        label: BackupLabel,
        scratch: &Path,
    ) -> Result<BTreeMap<PathBuf, Vec<u8>>, String> {
        let cx = Context::quiet();
        let request = request(label, scratch);
        let directory = request.directory.clone();
        let planned = plan(
            &cx,
            &self.repository,
            &self.archive,
            None,
            &server(),
            request,
        )
        .map_err(|error| error.to_string())?;
        let restored = restore(
            &cx,
            RestoreSource::new(&self.repository, &self.archive),
            &planned,
        );
        let mut files = BTreeMap::new();
        collect(&directory, &mut files);
        if directory.exists() {
            std::fs::remove_dir_all(&directory).unwrap();
        }
        restored.map(|_| files).map_err(|error| error.to_string())
    }
}

fn collect(folder: &Path, files: &mut BTreeMap<PathBuf, Vec<u8>>) {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    for entry in entries {
        let path = entry.unwrap().path();
        let kind = path.symlink_metadata().unwrap();
        if kind.is_dir() {
            collect(&path, files);
        } else if kind.is_file() {
            let bytes = std::fs::read(&path).unwrap();
            files.insert(path, bytes);
        }
    }
}

fn request(label: BackupLabel, scratch: &Path) -> RestoreRequest {
    RestoreRequest {
        backup: BackupChoice::Label(label),
        directory: scratch.join("restored"),
        existing: crate::restore::Existing::Refuse,
        target: Target::Immediate,
        boundary: Boundary::default(),
        timeline: TimelineChoice::Exactly(TimelineId::FIRST),
        action: TargetAction::default(),
        tablespaces: Vec::new(),
        recovery: Recovery::Command("false".to_owned()),
    }
}

/// A tar archive without times and checksums of headers.
fn without_times(mut tar: Vec<u8>) -> Vec<u8> {
    let mut at = 0;
    while at + 512 <= tar.len() {
        let digits = std::str::from_utf8(&tar[at + 124..at + 135]).unwrap();
        let bytes = usize::from_str_radix(digits.trim_matches(['\0', ' ']), 8).unwrap_or(0);
        tar[at + 136..at + 156].fill(0);
        at += 512 + bytes.next_multiple_of(512);
    }
    tar
}

fn name(number: u64) -> SegmentName {
    SegmentName::new(TimelineId::FIRST, SegmentNumber::new(number))
}

fn wal(number: u64) -> ObjectPath {
    let name = StoredName::Segment(name(number)).path(size());
    layout::server_folder(&server())
        .join(&format!("wal/{name}"))
        .unwrap()
}

/// A segment whose first page is written.
fn segment(folder: &Path, name: SegmentName) -> PathBuf {
    let mut bytes = vec![0; 1 << 20];
    bytes[..2].copy_from_slice(&0xD116_u16.to_le_bytes());
    bytes[2..4].copy_from_slice(&2_u16.to_le_bytes());
    bytes[4..8].copy_from_slice(&1_u32.to_le_bytes());
    bytes[8..16].copy_from_slice(&name.start(size()).bytes().to_le_bytes());
    bytes[24..32].copy_from_slice(&7_u64.to_le_bytes());
    bytes[32..36].copy_from_slice(&(1_u32 << 20).to_le_bytes());
    bytes[36..40].copy_from_slice(&8192_u32.to_le_bytes());
    let path = folder.join("segment");
    std::fs::write(&path, bytes).unwrap();
    path
}

/// Flips a bit of `whole`, or cuts it; most often the former.
fn damaged(whole: &[u8], random: &mut Random) -> (Vec<u8>, String) {
    if random.below(4) == 0 {
        let length = random.below(whole.len());
        return (whole[..length].to_vec(), format!("cut to {length}"));
    }
    let bit = random.below(whole.len() * 8);
    let mut flipped = whole.to_vec();
    flipped[bit / 8] ^= 1 << (bit % 8);
    (flipped, format!("bit {bit}"))
}

fn thousand_damages(key: Option<MasterKey>) {
    let sample = Sample::new(key);
    let scratch = scratch();
    let scratch = scratch.path();
    let sound = sample.open().unwrap();
    assert_eq!(sound.verify(), BTreeMap::new());
    let labels: Vec<BackupLabel> = sample.entries.iter().map(|entry| entry.label).collect();
    let back: Vec<_> = labels
        .iter()
        .map(|label| sound.bring_back(*label, scratch).unwrap())
        .collect();
    let files: Vec<_> = labels
        .iter()
        .map(|label| sound.restore(*label, scratch).unwrap())
        .collect();
    assert!(back[0] != back[1] && files[0].len() > 5);
    let (live, mut random) = (sample.live(), Random(SEED));
    let (mut refused, mut unharmed) = (0, 0);
    for number in 0..DAMAGES {
        let object = &live[random.below(live.len())];
        let whole = sample.read(object);
        let (bytes, what) = damaged(&whole, &mut random);
        sample.write(object, &bytes);
        let what = format!("{number}: {object}, {what}");
        match sample.open() {
            // Whoever cannot open it gets nothing wrong out of it.
            Err(error) => assert!(
                error.to_string().contains(object.as_str()),
                "{what}: {error}"
            ),
            Ok(opened) => {
                let findings = opened.verify();
                assert!(
                    findings.contains_key(object.as_str()),
                    "{what}: {findings:?}"
                );
                for (at, label) in labels.iter().enumerate() {
                    match opened.bring_back(*label, scratch) {
                        Ok(found) => {
                            assert!(found == back[at], "{what}");
                            unharmed += 1;
                        }
                        Err(_) => refused += 1,
                    }
                    if number % RESTORED_EVERY == 0 {
                        let restored = opened.restore(*label, scratch);
                        assert!(
                            restored.is_err() || restored.unwrap() == files[at],
                            "{what}"
                        );
                    }
                }
            }
        }
        sample.write(object, &whole);
    }
    assert_eq!(sample.open().unwrap().verify(), BTreeMap::new());
    // Both things happen: what needs the damaged object is refused, what does not comes back.
    assert!(refused > 100 && unharmed > 100, "{refused} {unharmed}");
}

#[test]
fn of_a_plain_repository_every_damage_is_named_and_nothing_wrong_comes_back() {
    thousand_damages(None);
}

#[test]
fn of_a_sealed_repository_every_damage_is_named_and_nothing_wrong_comes_back() {
    thousand_damages(Some(MasterKey::generate().unwrap()));
}

#[test]
fn in_a_sealed_repository_objects_in_each_others_place_are_refused_and_named() {
    let sample = Sample::new(Some(MasterKey::generate().unwrap()));
    let [one, other] = [0, 1].map(|at| sample.entries[at].label);
    let exchanged = [
        (
            layout::pack(&server(), one, 0),
            layout::pack(&server(), other, 0),
        ),
        (
            layout::manifest(&server(), one),
            layout::manifest(&server(), other),
        ),
        (
            layout::entry(&server(), one),
            layout::entry(&server(), other),
        ),
        (
            layout::server_manifest(&server(), one),
            layout::server_manifest(&server(), other),
        ),
        (wal(32), wal(33)),
        (layout::server(&server()), layout::entry(&server(), one)),
    ];
    for (first, second) in exchanged {
        sample.exchange(&first, &second);
        let opened = sample.open().unwrap();
        let findings = opened.verify();
        for object in [&first, &second] {
            let reason = findings.get(object.as_str());
            let reason = reason.unwrap_or_else(|| panic!("{object}: {findings:?}"));
            assert!(reason.contains("not what was stored there"), "{reason}");
            let read = opened.repository.storage().open(object).err();
            assert!(
                matches!(read, Some(StorageError::Foreign { .. })),
                "{read:?}"
            );
        }
        sample.exchange(&first, &second);
    }
    assert_eq!(sample.open().unwrap().verify(), BTreeMap::new());
}
