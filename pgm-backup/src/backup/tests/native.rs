//! Backups of which a scripted server sends changed pages only.

use std::ops::Range;

use super::*;
use crate::backup::basis::SourceKind;
use crate::backup::changed::changed_file;
use crate::backup::compact::Compaction;
use crate::backup::lane::ChangesBy;
use crate::backup::parent::{MEMORY_MAX, Parent};
use crate::backup::start::Now;
use crate::catalog::BackupKind;
use pgm_proto::BackupPages;
use pgm_storage::PutMode;

const PAGE: usize = 8192;

/// A second backup, on top of `before`, of what `steps` say.
fn take_changed(
    repository: &Repository,
    before: &BackupEntry,
    steps: Vec<Step>,
) -> Result<BackupEntry> {
    take_with(repository, before, steps, Compaction::default())
}

fn take_with(
    repository: &Repository,
    before: &BackupEntry,
    steps: Vec<Step>,
    compaction: Compaction,
) -> Result<BackupEntry> {
    let (cx, targets) = (Context::quiet(), [target(repository, "zstd")]);
    let request = BackupRequest {
        compaction,
        ..BackupRequest::default()
    };
    let locked = Lanes::of(&targets)
        .step(|target| Locked::take(target, &server(), request.resume, FRAMES_MAX))?;
    let mut beginning = beginning();
    beginning.method = BackupMethod::BaseBackupIncremental;
    let lanes = begin(locked, &server(), &beginning.facts, &request.discard)?;
    let parent = Parent::read(repository, before, MEMORY_MAX, request.compaction)?.unwrap();
    let (_, lane) = lanes.open().next().unwrap();
    lane.build_on(Ok(BuiltOn::Parent {
        parent,
        by: ChangesBy::Server,
    }));
    let announced = Announced {
        pages: BackupPages::Changed,
        tablespaces: vec![TABLESPACE],
        ..Announced::default()
    };
    // Cut so that no page and no header comes in one piece.
    let mut source = Script::new(steps, 5000);
    let copied = copy(
        &cx,
        &mut source,
        &announced,
        lanes,
        options(2),
        &request.discard,
    )?;
    let outcomes = finish(&cx, &targets, &request, &beginning, copied)?;
    outcomes.into_outcomes().pop().unwrap().into_result()
}

fn pages(runs: &[(Range<usize>, u8)], old: &[u8]) -> Vec<u8> {
    let mut bytes = old.to_vec();
    for (run, fill) in runs {
        let end = run.end * PAGE;
        bytes.resize(bytes.len().max(end), 0);
        bytes[run.start * PAGE..end].fill(*fill);
    }
    bytes
}

fn tablespace(steps: Vec<Step>) -> Vec<Step> {
    let mut all = vec![Step::Archive(Some(TABLESPACE))];
    all.extend(steps);
    all.push(Step::Bytes(end()));
    all
}

/// 300 pages, more than two frames, a file of a tablespace, and small ones.
fn full(repository: &Repository) -> (BackupEntry, Vec<u8>) {
    let mut large = vec![0; 300 * PAGE];
    pattern(5, &mut large);
    let mut steps = tablespace(vec![Step::Bytes(file("PG_17_1/5/9", &large[..4 * PAGE]))]);
    steps.extend(data_directory(vec![
        Step::Bytes(file("base/5/1", &large)),
        Step::Bytes(file("base/5/2", &large[..7 * PAGE])),
        Step::Bytes(file("base/5/3", &large[..5 * PAGE])),
        Step::Bytes(file("base/5/3_vm", &large[..PAGE])),
        Step::Bytes(file("base/5/gone", b"old")),
        Step::Bytes(file("base/5/INCREMENTAL.mine", b"a user's")),
        Step::Bytes(link("pg_tblspc/16385", "/mnt/ts")),
    ]));
    let source = Script::new(steps, 65_536);
    let entry = take(&Context::quiet(), repository, source).unwrap();
    (entry, large)
}

fn incremental(name: &str, truncation: u32, changed: &[(u32, u8)]) -> Step {
    Step::Bytes(file(name, &changed_file(truncation, changed)))
}

/// The archive of a server that changed some pages since.
fn changed_steps() -> Vec<Step> {
    let label = b"START WAL LOCATION: 0/2000028 (file 000000010000000000000002)\n\
        BACKUP FROM: primary\nSTART TIMELINE: 1\nINCREMENTAL FROM LSN: 0/1000028\nINCREMENTAL FROM TLI: 1\n";
    let mut steps = tablespace(vec![incremental("PG_17_1/5/INCREMENTAL.9", 4, &[])]);
    steps.extend([
        Step::Archive(None),
        Step::Bytes(file("backup_label", label)),
        incremental(
            "base/5/INCREMENTAL.1",
            300,
            &[(0, 1), (1, 2), (130, 3), (299, 4), (303, 5)],
        ),
        // Cut to three pages, and grown again.
        incremental("base/5/INCREMENTAL.2", 3, &[(5, 6)]),
        Step::Bytes(file("base/5/3", b"sent whole")),
        incremental("base/5/INCREMENTAL.3_vm", 1, &[(0, 9)]),
        Step::Bytes(file("base/5/4", b"new")),
        Step::Bytes(file("base/5/INCREMENTAL.mine", b"a user's")),
        Step::Bytes(link("pg_tblspc/16385", "/mnt/ts")),
        Step::Bytes(file("global/pg_control", &[7; 8192])),
        Step::Bytes(end()),
        Step::Manifest,
        Step::ManifestBytes(b"{}".to_vec()),
        Step::End(backup_end()),
    ]);
    steps
}

#[test]
fn changed_pages_and_the_backup_before_make_whole_files() {
    let repository = repository();
    let (before, large) = full(&repository);
    let entry = take_changed(&repository, &before, changed_steps()).unwrap();
    let files = contents(&repository, &entry);
    let one = pages(
        &[(0..1, 1), (1..2, 2), (130..131, 3), (299..300, 4)],
        &large,
    );
    let one = pages(&[(300..303, 0), (303..304, 5)], &one);
    assert!(files["base/5/1"] == one);
    let two = pages(&[(3..5, 0), (5..6, 6)], &large[..3 * PAGE]);
    assert!(files["base/5/2"] == two);
    assert_eq!(files["base/5/3"], b"sent whole");
    assert_eq!(files["base/5/4"], b"new");
    assert_eq!(files["base/5/INCREMENTAL.mine"], b"a user's");
    assert!(files["base/5/3_vm"] == [9; PAGE]);
    assert!(files["pg_tblspc/16385/PG_17_1/5/9"] == large[..4 * PAGE]);
    assert!(!files.contains_key("base/5/gone"));
    let label = String::from_utf8(files["backup_label"].clone()).unwrap();
    assert!(
        label.contains("START TIMELINE") && !label.contains("INCREMENTAL"),
        "{label}"
    );

    assert_eq!(entry.kind, BackupKind::Incremental);
    assert_eq!(entry.method, BackupMethod::BaseBackupIncremental);
    let basis = entry.basis.unwrap();
    assert_eq!(basis.label, before.label);
    assert_eq!(basis.raw_bytes, (296 + 3 + 4) * PAGE as u64);
    assert!(entry.size.stored_bytes < before.size.stored_bytes / 10);

    // Only what went by whole, or did not change at all, has a checksum.
    let manifest = repository.manifest(&entry).unwrap();
    let known: BTreeMap<String, bool> = manifest
        .filter_map(|line| match line.unwrap() {
            ManifestEntry::File(file) => Some((file.path.to_string(), file.crc32c.is_some())),
            _ => None,
        })
        .collect();
    let unknown: Vec<_> = known.iter().filter(|(_, known)| !**known).collect();
    let names: Vec<&str> = unknown.iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(names, ["base/5/1", "base/5/2"]);
}

#[test]
fn a_third_backup_is_built_on_what_the_second_is_made_of() {
    let repository = repository();
    let (before, large) = full(&repository);
    let second = take_changed(&repository, &before, changed_steps()).unwrap();
    let mut steps = tablespace(Vec::new());
    steps.extend(data_directory(vec![
        incremental("base/5/INCREMENTAL.1", 304, &[(2, 8)]),
        incremental("base/5/INCREMENTAL.2", 6, &[]),
    ]));
    let third = take_changed(&repository, &second, steps).unwrap();
    let files = contents(&repository, &third);
    let one = pages(
        &[
            (0..1, 1),
            (1..2, 2),
            (2..3, 8),
            (130..131, 3),
            (299..300, 4),
        ],
        &large,
    );
    assert!(files["base/5/1"] == pages(&[(300..303, 0), (303..304, 5)], &one));
    assert!(files["base/5/2"] == pages(&[(3..5, 0), (5..6, 6)], &large[..3 * PAGE]));
    assert!(!files.contains_key("base/5/3"));
}

#[test]
fn packs_of_which_little_is_needed_are_given_up_and_the_files_stay_what_they_were() {
    let repository = repository();
    let (before, large) = full(&repository);
    // Nearly all of the first backup is outdated by the second, so the third one needs little of it.
    let blocks: Vec<(u32, u8)> = (0..295).map(|block| (block, 7)).collect();
    let mut steps = tablespace(Vec::new());
    steps.extend(data_directory(vec![
        incremental("base/5/INCREMENTAL.1", 300, &blocks),
        incremental("base/5/INCREMENTAL.2", 7, &[(1, 4)]),
    ]));
    let second = take_changed(&repository, &before, steps).unwrap();
    assert_eq!(second.basis.unwrap().packs_given_up, 0);
    let packs_of_first = |entry: &BackupEntry| {
        let manifest = repository.manifest(entry).unwrap();
        let packs = manifest.packs().iter();
        packs.filter(|pack| pack.label == before.label).count()
    };
    let third = |compaction| {
        let mut steps = tablespace(Vec::new());
        steps.extend(data_directory(vec![
            incremental("base/5/INCREMENTAL.1", 300, &[]),
            incremental("base/5/INCREMENTAL.2", 7, &[(0, 5)]),
        ]));
        let entry = take_with(&repository, &second, steps, compaction).unwrap();
        let files = contents(&repository, &entry);
        assert!(files["base/5/1"] == pages(&[(0..295, 7)], &large));
        assert!(files["base/5/2"] == pages(&[(0..1, 5), (1..2, 4)], &large[..7 * PAGE]));
        entry
    };
    let never = third(Compaction {
        needed_percent_max: 0,
    });
    let facts = never.basis.unwrap();
    assert_eq!((facts.packs_given_up, facts.stored_again_bytes), (0, 0));
    assert!(packs_of_first(&never) > 0);
    let compacted = third(Compaction {
        needed_percent_max: 30,
    });
    let facts = compacted.basis.unwrap();
    assert!(facts.packs_given_up > 0, "{facts:?}");
    assert!(facts.stored_again_bytes >= 5 * PAGE as u64, "{facts:?}");
    assert!(packs_of_first(&compacted) < packs_of_first(&never));
}

/// What is to be stored again and cannot be read is pointed at as before.
#[test]
fn a_pack_that_is_to_be_given_up_and_cannot_be_read_stays() {
    let repository = repository();
    let (before, large) = full(&repository);
    let blocks: Vec<(u32, u8)> = (0..295).map(|block| (block, 7)).collect();
    let mut steps = tablespace(Vec::new());
    steps.extend(data_directory(vec![
        incremental("base/5/INCREMENTAL.1", 300, &blocks),
        incremental("base/5/INCREMENTAL.2", 7, &[(1, 4)]),
    ]));
    let second = take_changed(&repository, &before, steps).unwrap();
    let old: Vec<_> = (repository.manifest(&second).unwrap().packs().iter())
        .filter(|pack| pack.label == before.label)
        .map(|pack| crate::repository::layout::pack(&server(), pack.label, pack.number))
        .collect();
    let storage = repository.storage();
    let sound: Vec<Vec<u8>> = old
        .iter()
        .map(|path| storage.get(path, u64::MAX).unwrap())
        .collect();
    for (path, bytes) in old.iter().zip(&sound) {
        // Of the same size, so it is not found to be gone.
        let bytes = vec![0x55; bytes.len()];
        storage.put(path, &bytes, PutMode::Replace).unwrap();
    }
    let mut steps = tablespace(Vec::new());
    steps.extend(data_directory(vec![
        incremental("base/5/INCREMENTAL.1", 300, &[]),
        incremental("base/5/INCREMENTAL.2", 7, &[(0, 5)]),
    ]));
    let compaction = Compaction {
        needed_percent_max: 30,
    };
    let third = take_with(&repository, &second, steps, compaction).unwrap();
    assert_eq!(third.basis.unwrap().stored_again_bytes, 0);
    // Whoever puts the right bytes back has all of it.
    for (path, bytes) in old.iter().zip(&sound) {
        storage.put(path, bytes, PutMode::Replace).unwrap();
    }
    let files = contents(&repository, &third);
    assert!(files["base/5/1"] == pages(&[(0..295, 7)], &large));
    assert!(files["base/5/2"] == pages(&[(0..1, 5), (1..2, 4)], &large[..7 * PAGE]));
}

#[test]
fn pages_of_a_file_that_nobody_has_are_no_backup() {
    let repository = repository();
    let (before, _) = full(&repository);
    for (name, content) in [
        ("base/5/INCREMENTAL.77", changed_file(2, &[(0, 1)])),
        ("base/5/INCREMENTAL.1", b"no such thing".to_vec()),
        (
            "base/5/INCREMENTAL.1",
            changed_file(2, &[(0, 1)])[..PAGE].to_vec(),
        ),
    ] {
        let mut steps = tablespace(Vec::new());
        steps.extend(data_directory(vec![Step::Bytes(file(name, &content))]));
        let error = take_changed(&repository, &before, steps).unwrap_err();
        assert!(matches!(error, Error::BadStream { .. }), "{name}: {error}");
    }
    // Both forms of one file.
    let mut steps = tablespace(Vec::new());
    steps.extend(data_directory(vec![
        Step::Bytes(file("base/5/2", b"whole")),
        incremental("base/5/INCREMENTAL.2", 1, &[]),
    ]));
    let error = take_changed(&repository, &before, steps).unwrap_err();
    assert!(error.to_string().contains("comes twice"), "{error}");
}

#[test]
fn a_pack_that_was_exchanged_for_another_sound_one_is_noticed() {
    let repository = repository();
    let (before, _) = full(&repository);
    let entry = take_changed(&repository, &before, changed_steps()).unwrap();
    let manifest = repository.manifest(&entry).unwrap();
    let foreign = manifest
        .packs()
        .iter()
        .find(|pack| pack.label == before.label);
    let foreign = foreign.unwrap().clone();
    repository.pack(&server(), &foreign).unwrap();
    let other = crate::manifest::PackRecord {
        index_crc32c: foreign.index_crc32c.map(|crc| crc ^ 1),
        ..foreign
    };
    let error = repository.pack(&server(), &other).unwrap_err();
    assert!(error.to_string().contains("another pack"), "{error}");
}

fn now() -> Now {
    Now {
        facts: beginning().facts,
        timeline: TimelineId::FIRST,
        data_checksums: DataChecksums::On,
        source: SourceKind::Primary,
    }
}

#[test]
fn the_parent_is_the_newest_backup_that_all_repositories_have() {
    let (one, other) = (repository(), repository());
    let parent =
        |now: &Now| crate::backup::native::parent(&[&one, &other], &server(), now).unwrap();
    let none = parent(&now()).unwrap_err();
    assert!(none.contains("no backup before"), "{none}");
    let both = [target(&one, "zstd"), target(&other, "lz4")];
    let cx = Context::quiet();
    let mut common = Vec::new();
    for _ in 0..2 {
        let outcomes = take_into(&cx, &both, Script::new(sample(), 65_536)).unwrap();
        common = outcomes;
    }
    let common = common.pop().unwrap().into_result().unwrap();
    let alone = take(&cx, &one, Script::new(sample(), 65_536)).unwrap();
    assert!(alone.label > common.label);
    assert_eq!(parent(&now()).unwrap().label, common.label);

    for (now, why) in [
        (
            Now {
                timeline: TimelineId::new(2).unwrap(),
                ..now()
            },
            "timeline 1",
        ),
        (
            Now {
                data_checksums: DataChecksums::Off,
                ..now()
            },
            "checksums",
        ),
        (
            Now {
                source: SourceKind::Standby,
                ..now()
            },
            "standby",
        ),
    ] {
        let reason = parent(&now).unwrap_err();
        assert!(reason.contains(why), "{reason}");
    }
}
