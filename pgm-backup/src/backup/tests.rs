//! Whole copies from scripted servers, into memory, with everything that can go wrong on the way.

use std::collections::BTreeMap;
use std::sync::Arc;

use pgm_proto::{Lsn, ServerError, ServerNotice, ServerVersion, SystemId, TimelineId};
use pgm_storage::{Cancel, FrameDecoder, MemoryStorage, Storage};

use super::copy::{Announced, Source};
use super::pipeline::PackOptions;
use super::script::{
    Script, Step, backup_end, data_directory, directory, end, file, header, link, pattern,
};
use super::*;
use crate::catalog::{BackupMethod, BackupStatus, DataChecksums, Sent, TablespaceEntry};
use crate::error::Error;
use crate::manifest::{FileEntry, ManifestEntry};
use crate::repository::{Repository, ServerFacts, layout};

mod compressed;
pub(crate) mod faulty;
mod native;
mod resumed;
mod several;

const TABLESPACE: u32 = 16385;

fn server() -> ServerName {
    "main".parse().unwrap()
}

fn options(workers: usize) -> PackOptions {
    let workers = NonZeroUsize::new(workers).unwrap();
    PackOptions {
        workers,
        pack_bytes: 4 << 20,
    }
}

fn beginning() -> Beginning {
    Beginning {
        facts: ServerFacts {
            system_id: SystemId::new(7),
            version: ServerVersion::from_number(170_010),
            segment_bytes: 16 << 20,
        },
        sent: Sent::Plain,
        method: BackupMethod::BaseBackup,
        note: String::new(),
        warnings: Vec::new(),
        data_checksums: DataChecksums::On,
        timeline: TimelineId::FIRST,
        start_lsn: Lsn::new(0x200_0028),
        tablespaces: vec![TablespaceEntry {
            oid: TABLESPACE,
            location: "/mnt/ts".into(),
        }],
    }
}

/// [`backup`] without the server at its beginning, into one repository.
fn take(cx: &Context, repository: &Repository, source: impl Source) -> Result<BackupEntry> {
    let mut outcomes = take_into(cx, &[target(repository, "zstd")], source)?;
    outcomes.pop().unwrap().into_result()
}

fn target<'a>(repository: &'a Repository, compression: &str) -> BackupTarget<'a> {
    BackupTarget {
        repository,
        compression: compression.parse().unwrap(),
        coverage: &Covered,
    }
}

/// All WAL is there.
struct Covered;

impl WalCoverage for Covered {
    fn covered(&self, _: TimelineId, _: Lsn, _: Lsn) -> Result<Coverage> {
        Ok(Coverage::Complete)
    }
}

fn take_into(
    cx: &Context,
    targets: &[BackupTarget<'_>],
    source: impl Source,
) -> Result<Vec<BackupOutcome>> {
    take_as(cx, targets, source, options(2), &BackupRequest::default())
}

fn take_as(
    cx: &Context,
    targets: &[BackupTarget<'_>],
    mut source: impl Source,
    options: PackOptions,
    request: &BackupRequest,
) -> Result<Vec<BackupOutcome>> {
    let locked = Lanes::of(targets)
        .step(|target| Locked::take(target, &server(), request.resume, FRAMES_MAX))?;
    let lanes = begin(locked, &server(), &beginning().facts, &request.discard)?;
    let announced = Announced {
        archives: None,
        pages: BackupPages::All,
        tablespaces: vec![TABLESPACE],
        total_bytes: Some(1 << 20),
    };
    let copied = copy(
        cx,
        &mut source,
        &announced,
        lanes,
        options,
        &request.discard,
    )?;
    Ok(finish(cx, targets, request, &beginning(), copied)?.into_outcomes())
}

fn repository() -> Repository {
    Repository::create(Arc::new(MemoryStorage::new())).unwrap()
}

/// Reads every file of a backup to `visit`, in pieces, and checks its checksum.
fn read_files(
    repository: &Repository,
    entry: &BackupEntry,
    mut visit: impl FnMut(&FileEntry, u64, &[u8]),
) -> Vec<ManifestEntry> {
    let mut manifest = repository.manifest(entry).unwrap();
    let packs: Vec<_> = manifest
        .packs()
        .iter()
        .map(|pack| repository.pack(&entry.server, pack).unwrap())
        .collect();
    let mut decoder = FrameDecoder::new().unwrap();
    let (mut scratch, mut raw, mut in_raw) = (Vec::new(), Vec::new(), None);
    let mut others = Vec::new();
    while let Some(line) = manifest.next_entry().unwrap() {
        let ManifestEntry::File(found) = line else {
            others.push(line);
            continue;
        };
        let mut crc = 0;
        for extent in &found.extents {
            let place = (extent.pack, extent.frame_offset);
            if in_raw != Some(place) {
                let pack = &packs[extent.pack as usize];
                let location = pack
                    .frames()
                    .iter()
                    .find(|frame| frame.offset == extent.frame_offset)
                    .unwrap();
                pack.read(location, &mut decoder, &mut scratch, &mut raw)
                    .unwrap();
                in_raw = Some(place);
            }
            let run = &raw[extent.start as usize..][..extent.length as usize];
            crc = crc32c::crc32c_append(crc, run);
            visit(&found, extent.file_offset, run);
        }
        assert_eq!(crc, found.crc32c.unwrap_or(crc), "{}", found.path);
        if found.extents.is_empty() {
            visit(&found, 0, &[]);
        }
    }
    others
}

fn contents(repository: &Repository, entry: &BackupEntry) -> BTreeMap<String, Vec<u8>> {
    let mut files: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    read_files(repository, entry, |found, offset, run| {
        let content = files.entry(found.path.to_string()).or_default();
        assert_eq!(content.len() as u64, offset);
        content.extend_from_slice(run);
    });
    files
}

/// An even smaller one, of a server with segments of 1 MiB; `seed` makes its content another one.
pub(crate) fn take_small(repository: &Repository, seed: u64) -> BackupEntry {
    let mut entries = take_small_into(&[(repository, "lz4")], seed, 300_000);
    entries.pop().unwrap()
}

/// The same in several repositories, each with its own compression, with so many bytes in one of its files.
pub(crate) fn take_small_into(
    repositories: &[(&Repository, &str)],
    seed: u64,
    bytes: usize,
) -> Vec<BackupEntry> {
    let mut content = vec![0; bytes];
    pattern(seed, &mut content);
    let steps = data_directory(vec![
        Step::Bytes(directory("base")),
        Step::Bytes(file("base/1", &content)),
        Step::Bytes(file("base/empty", b"")),
        Step::Bytes(file("PG_VERSION", b"17\n")),
    ]);
    let mut beginning = beginning();
    beginning.facts.segment_bytes = 1 << 20;
    beginning.tablespaces = Vec::new();
    let cx = Context::quiet();
    let targets = repositories.iter();
    let targets: Vec<BackupTarget<'_>> = targets
        .map(|(repository, compression)| target(repository, compression))
        .collect();
    let request = BackupRequest::default();
    let locked = Lanes::of(&targets)
        .step(|target| Locked::take(target, &server(), request.resume, FRAMES_MAX));
    let discard = &request.discard;
    let lanes = begin(locked.unwrap(), &server(), &beginning.facts, discard).unwrap();
    let mut source = Script::new(steps, 65_536);
    let nothing = Announced::default();
    let copied = copy(&cx, &mut source, &nothing, lanes, options(2), discard);
    let taken = finish(&cx, &targets, &request, &beginning, copied.unwrap());
    let outcomes = taken.unwrap().into_outcomes().into_iter();
    outcomes
        .map(|outcome| outcome.into_result().unwrap())
        .collect()
}

/// A small backup with a tablespace, its WAL in the archive.
pub(crate) fn take_sample(repository: &Repository) -> BackupEntry {
    let source = Script::new(sample(), 100_000);
    take(&Context::quiet(), repository, source).unwrap()
}

fn sample() -> Vec<Step> {
    let mut content = vec![0; 3_000_000];
    pattern(0, &mut content);
    let mut steps = vec![
        Step::Archive(Some(TABLESPACE)),
        Step::Bytes(directory("PG_17_202406281")),
        Step::Bytes(file("PG_17_202406281/16390", &content[..20_000])),
        Step::Bytes(end()),
    ];
    steps.extend(data_directory(vec![
        Step::Bytes(directory("base")),
        Step::Bytes(directory("pg_notify")),
        Step::Bytes(file("base/1", &content)),
        Step::Bytes(file("base/empty", b"")),
        Step::Bytes(directory("./pg_wal/archive_status")),
        Step::Bytes(file("PG_VERSION", b"17\n")),
        Step::Bytes(link("pg_tblspc/16385", "/mnt/ts")),
        Step::Bytes(file("base/2", &content[100..1_200_100])),
    ]));
    steps
}

#[test]
fn every_file_comes_back_byte_for_byte() {
    let repository = repository();
    let entry = take(
        &Context::quiet(),
        &repository,
        Script::new(sample(), 65_536),
    )
    .unwrap();
    let files = contents(&repository, &entry);
    let mut content = vec![0; 3_000_000];
    pattern(0, &mut content);
    assert_eq!(files["base/1"], content);
    assert_eq!(files["base/2"], content[100..1_200_100]);
    assert_eq!(
        files["pg_tblspc/16385/PG_17_202406281/16390"],
        content[..20_000]
    );
    assert_eq!(files["base/empty"], b"");
    assert_eq!(files["PG_VERSION"], b"17\n");
    assert_eq!(files.len(), 7);
    assert_eq!(entry.size.files, 7);
    assert_eq!(entry.size.directories, 4);
    assert_eq!(
        entry.size.raw_bytes,
        files.values().map(|file| file.len() as u64).sum::<u64>()
    );
    assert_eq!(entry.start_facts.from.as_deref(), Some("primary"));
    assert_eq!(
        repository.catalog(&server()).unwrap().backups(),
        std::slice::from_ref(&entry)
    );
    let mut verbatim = Vec::new();
    repository.server_manifest(&entry, &mut verbatim).unwrap();
    assert_eq!(
        verbatim,
        b"{ \"PostgreSQL-Backup-Manifest-Version\": 2 }".repeat(1000)
    );
}

#[test]
fn backup_is_the_same_in_pieces_of_any_size() {
    let whole = repository();
    let expected = contents(
        &whole,
        &take(&Context::quiet(), &whole, Script::new(sample(), 1 << 20)).unwrap(),
    );
    for piece_bytes in [509, 512, 8192, 32_768] {
        let repository = repository();
        let entry = take(
            &Context::quiet(),
            &repository,
            Script::new(sample(), piece_bytes),
        )
        .unwrap();
        assert_eq!(contents(&repository, &entry), expected, "{piece_bytes}");
    }
}

#[test]
fn large_files_are_cut_at_pages() {
    let repository = repository();
    let entry = take(
        &Context::quiet(),
        &repository,
        Script::new(sample(), 65_536),
    )
    .unwrap();
    let mut extents = 0;
    read_files(&repository, &entry, |_, offset, _| {
        assert_eq!(offset % 8192, 0);
        extents += 1;
    });
    assert!(extents > 7);
}

#[test]
fn relation_over_one_gib_and_sparse_streams_over_many_packs() {
    let size = (1 << 30) + 100 * (1 << 20) + 8192;
    let steps = data_directory(vec![
        Step::Bytes(header(b"base/5/16384", b'0', size, b"").to_vec()),
        Step::Pattern(size),
    ]);
    let repository = repository();
    let entry = take(&Context::quiet(), &repository, Script::new(steps, 1 << 18)).unwrap();
    assert!(entry.size.packs > 2, "{} packs", entry.size.packs);
    let mut expected = Vec::new();
    let mut seen = 0;
    read_files(&repository, &entry, |found, offset, run| {
        if found.size == size {
            expected.resize(run.len(), 0);
            pattern(offset, &mut expected);
            assert!(run == expected, "offset {offset}");
            seen += run.len() as u64;
        }
    });
    assert_eq!(seen, size);
}

#[test]
fn fifty_thousand_tiny_files_share_frames() {
    let many = 50_000;
    let mut archive = Vec::new();
    for number in 0..many {
        archive.extend(file(
            &format!("base/{}/{number}", number % 7),
            format!("{number}").as_bytes(),
        ));
    }
    let repository = repository();
    let steps = data_directory(vec![Step::Bytes(archive)]);
    let entry = take(&Context::quiet(), &repository, Script::new(steps, 65_536)).unwrap();
    let files = contents(&repository, &entry);
    assert_eq!(files.len(), many + 2);
    assert!(
        (0..many).all(|number| files[&format!("base/{}/{number}", number % 7)]
            == format!("{number}").as_bytes())
    );
    let packs = repository.manifest(&entry).unwrap().packs().to_vec();
    assert!(packs.iter().map(|pack| pack.frames).sum::<u64>() < 20);
}

#[test]
fn wrong_page_checksums_mark_the_backup_and_keep_the_warnings() {
    let mut steps = sample();
    let warning = ServerError {
        severity: "WARNING".into(),
        sqlstate: "01000".into(),
        message: "checksum verification failed in file \"base/1\", block 3".into(),
        ..ServerError::default()
    };
    let failure = ServerError {
        severity: "ERROR".into(),
        sqlstate: "XX001".into(),
        message: "checksum verification failure".into(),
        ..ServerError::default()
    };
    steps.pop();
    steps.push(Step::End(pgm_proto::BackupEnd {
        notices: vec![ServerNotice(warning)],
        failure: Some(failure),
        ..backup_end()
    }));
    let repository = repository();
    let entry = take(&Context::quiet(), &repository, Script::new(steps, 65_536)).unwrap();
    assert_eq!(entry.status, BackupStatus::DamagedPages);
    assert!(entry.warnings[0].contains("block 3") && entry.warnings.len() == 2);
}

#[test]
fn any_other_error_of_the_server_after_the_end_fails_the_backup() {
    let mut steps = sample();
    let failure = ServerError {
        severity: "ERROR".into(),
        sqlstate: "58030".into(),
        message: "could not read file".into(),
        ..ServerError::default()
    };
    steps.pop();
    steps.push(Step::End(pgm_proto::BackupEnd {
        failure: Some(failure),
        ..backup_end()
    }));
    refused(steps, "could not read file");
}

/// The backup fails with these words, and leaves nothing.
fn refused(steps: Vec<Step>, words: &str) {
    let repository = repository();
    let error = take(&Context::quiet(), &repository, Script::new(steps, 1000)).unwrap_err();
    assert!(error.to_string().contains(words), "{error}");
    assert_nothing_left(&repository);
}

/// Nothing is left but finished packs, each with the list from which the next backup goes on.
fn assert_nothing_left(repository: &Repository) {
    let mut left = left(repository);
    let lists = left.clone();
    let listed = |path: &str| {
        let (folder, name) = path.rsplit_once('/').unwrap();
        match folder.strip_suffix("/resume") {
            Some(folder) => lists.contains(&format!("{folder}/{name}.pack")),
            None => lists.contains(&format!(
                "{folder}/resume/{}",
                name.trim_end_matches(".pack")
            )),
        }
    };
    left.retain(|path| !listed(path));
    assert_eq!(left, Vec::<String>::new());
    assert!(repository.catalog(&server()).unwrap().backups().is_empty());
}

fn assert_nothing_at_all_left(repository: &Repository) {
    assert_eq!(left(repository), Vec::<String>::new());
    assert!(repository.catalog(&server()).unwrap().backups().is_empty());
}

fn left(repository: &Repository) -> Vec<String> {
    let mut left = Vec::new();
    repository
        .storage()
        .list(&pgm_storage::ObjectPath::root(), &mut |meta| {
            left.push(meta.path.to_string());
            std::ops::ControlFlow::Continue(())
        })
        .unwrap();
    left.retain(|path| !path.contains(".ron") && !path.contains("/lock/"));
    left
}

#[test]
fn hostile_names_are_refused() {
    for name in [
        "/etc/passwd",
        "../outside",
        "base/../../x",
        "base//x",
        ".//etc/passwd",
        "././base",
        "./",
        "",
        "base/.",
        "base/",
    ] {
        refused(
            data_directory(vec![Step::Bytes(file(name, b"x"))]),
            "file name",
        );
    }
    let ts = |name| {
        let mut steps = vec![
            Step::Archive(Some(TABLESPACE)),
            Step::Bytes(file(name, b"x")),
        ];
        steps.extend(data_directory(vec![]));
        steps
    };
    refused(ts("/etc/passwd"), "is absolute");
    refused(ts("../16386/x"), "component");
}

#[test]
fn streams_that_contradict_themselves_are_refused() {
    let with = |archive: Vec<u8>| data_directory(vec![Step::Bytes(archive)]);
    refused(
        with([file("a", b"1"), file("a", b"2")].concat()),
        "comes twice",
    );
    refused(
        with(file("pg_tblspc/16385/PG_17/1", b"x")),
        "not with its tablespace",
    );
    refused(with(link("base", "/etc")), "symbolic link");
    refused(with(link("pg_tblspc/016385", "/mnt")), "symbolic link");
    refused(with(link("pg_tblspc/16385", "../../etc")), "symbolic link");
    refused(
        with(header(b"a", b'0', 1 << 20, b"").to_vec()),
        "stream is not valid",
    );
    refused(vec![Step::Bytes(vec![0; 512])], "before the first archive");
    refused(vec![Step::Archive(Some(9))], "not announced");
    refused(
        vec![Step::Archive(None), Step::Archive(None)],
        "two archives",
    );
    refused(vec![Step::ManifestBytes(vec![1])], "without a manifest");
    let bare = vec![
        Step::Archive(None),
        Step::Bytes(file("x", b"y")),
        Step::End(backup_end()),
    ];
    refused(bare, "pg_control");
    let control = file("global/pg_control", &[7; 8192]);
    let no_label = vec![
        Step::Archive(None),
        Step::Bytes(control),
        Step::End(backup_end()),
    ];
    refused(no_label, "backup_label");
    let mut early = sample();
    early.pop();
    early.push(Step::End(pgm_proto::BackupEnd {
        end_lsn: Lsn::new(5),
        ..backup_end()
    }));
    refused(early, "before its start");
}

#[test]
fn backup_label_of_another_backup_is_refused() {
    let steps = vec![
        Step::Archive(None),
        Step::Bytes(file(
            "backup_label",
            b"START WAL LOCATION: 0/5000028 (file x)\nSTART TIMELINE: 1\n",
        )),
        Step::Bytes(file("global/pg_control", &[7; 8192])),
        Step::End(backup_end()),
    ];
    refused(steps, "not that of this backup");
}

#[test]
fn connection_that_breaks_anywhere_leaves_nothing() {
    let steps = sample().len();
    for length in 0..steps {
        let mut cut = sample();
        cut.truncate(length);
        refused(cut, "closed the connection");
    }
}

#[test]
fn cancelled_backup_stops_at_the_next_message() {
    for after in [0, 1, 7, 30] {
        let cancel = Cancel::new();
        let cx = Context::new(cancel.clone(), Arc::new(crate::Quiet));
        let mut script = Script::new(sample(), 65_536);
        let mut messages = 0;
        script.before_next = Box::new(move || {
            messages += 1;
            if messages > after {
                cancel.cancel();
            }
            assert!(messages <= after + 1, "went on after the cancellation");
        });
        let repository = repository();
        let error = take(&cx, &repository, script).unwrap_err();
        assert!(matches!(error, Error::Cancelled), "{error}");
        assert_nothing_left(&repository);
    }
}

#[test]
fn storage_that_fails_at_any_operation_never_lists_a_backup_that_does_not_read_back() {
    let steps = || {
        let mut small = vec![0; 1_500_000];
        pattern(0, &mut small);
        data_directory(vec![Step::Bytes(file("base/1", &small))])
    };
    let mut succeeded = false;
    for allowed in 0.. {
        let storage = Arc::new(faulty::Faulty::new(allowed));
        let result =
            Repository::create(Arc::clone(&storage) as Arc<dyn Storage>).and_then(|repository| {
                take(&Context::quiet(), &repository, Script::new(steps(), 65_536))
            });
        storage.repair();
        if let Err(error) = &result {
            assert!(!error.to_string().is_empty());
        }
        let repository = Repository::open_or_create(storage).unwrap();
        for entry in repository.catalog(&server()).unwrap().backups() {
            assert_eq!(contents(&repository, entry).len(), 3);
        }
        // The next backup works, and nothing else is left behind it.
        let next = take(&Context::quiet(), &repository, Script::new(steps(), 65_536)).unwrap();
        let catalog = repository.catalog(&server()).unwrap();
        assert!(catalog.newest() == Some(&next) && catalog.damaged().is_empty());
        let mut unneeded = left(&repository);
        for entry in catalog.backups() {
            unneeded.retain(|path| !path.contains(&entry.label.to_string()));
            for pack in repository.manifest(entry).unwrap().packs() {
                let needed = layout::pack(&server(), pack.label, pack.number);
                unneeded.retain(|path| path != needed.as_str());
            }
        }
        assert_eq!(unneeded, Vec::<String>::new());
        if result.is_ok() {
            succeeded = true;
            break;
        }
    }
    assert!(succeeded);
}

#[test]
fn full_disk_is_said_with_a_hint() {
    let storage = Arc::new(faulty::Faulty::new(u64::MAX));
    let repository = Repository::create(Arc::clone(&storage) as Arc<dyn Storage>).unwrap();
    storage.fill();
    let error = take(
        &Context::quiet(),
        &repository,
        Script::new(sample(), 65_536),
    )
    .unwrap_err();
    assert!(error.hint().unwrap().contains("free space"), "{error}");
}

#[test]
fn progress_never_goes_back_and_ends_with_everything() {
    #[derive(Debug, Default)]
    struct Record(std::sync::Mutex<Vec<u64>>);
    impl crate::ProgressSink for Record {
        fn report(&self, progress: &crate::Progress<'_>) {
            if progress.phase == crate::Phase::Copy {
                assert_eq!(progress.total_bytes, Some(1 << 20));
                self.0.lock().unwrap().push(progress.done_bytes);
            }
        }
    }
    let record = Arc::new(Record::default());
    let cx = Context::new(
        Cancel::new(),
        Arc::clone(&record) as Arc<dyn crate::ProgressSink>,
    );
    take(&cx, &repository(), Script::new(sample(), 65_536)).unwrap();
    let reports = record.0.lock().unwrap();
    assert!(reports.is_sorted() && reports.len() >= 4, "{reports:?}");
    assert!(*reports.last().unwrap() > 4_000_000);
}

mod wal {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[derive(Default)]
    struct Arriving {
        left: AtomicU32,
    }

    impl WalCoverage for Arriving {
        fn covered(&self, timeline: TimelineId, start: Lsn, end: Lsn) -> Result<Coverage> {
            assert_eq!(
                (timeline, start, end),
                (
                    TimelineId::FIRST,
                    Lsn::new(0x200_0028),
                    Lsn::new(0x200_0138)
                )
            );
            let what = "wal segment 000000010000000000000002".into();
            Ok(match self.left.load(Ordering::Relaxed) {
                0 => Coverage::Complete,
                _ => Coverage::Missing { what },
            })
        }

        fn wait(&self, _: Duration) {
            let _ = self
                .left
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                    left.checked_sub(1)
                });
        }
    }

    fn take_with(
        cx: &Context,
        repository: &Repository,
        coverage: &dyn WalCoverage,
        wal_timeout: Duration,
    ) -> Result<Vec<BackupOutcome>> {
        let targets = [BackupTarget {
            coverage,
            ..target(repository, "zstd")
        }];
        let locked = Lanes::of(&targets)
            .step(|target| Locked::take(target, &server(), Resume::IfPossible, FRAMES_MAX))?;
        let request = BackupRequest {
            wal_timeout,
            ..BackupRequest::default()
        };
        let discard = &request.discard;
        let lanes = begin(locked, &server(), &beginning().facts, discard)?;
        let mut source = Script::new(data_directory(vec![]), 65_536);
        let nothing = Announced::default();
        let copied = copy(cx, &mut source, &nothing, lanes, options(2), discard)?;
        Ok(finish(cx, &targets, &request, &beginning(), copied)?.into_outcomes())
    }

    #[test]
    fn wal_is_awaited_until_it_is_complete() {
        let coverage = Arriving { left: 3.into() };
        let repository = repository();
        take_with(
            &Context::quiet(),
            &repository,
            &coverage,
            Duration::from_mins(1),
        )
        .unwrap();
        assert_eq!(coverage.left.into_inner(), 0);
        assert_eq!(repository.catalog(&server()).unwrap().backups().len(), 1);
    }

    #[test]
    fn wal_that_never_arrives_is_named() {
        let coverage = Arriving { left: 1.into() };
        let repository = repository();
        let error =
            take_with(&Context::quiet(), &repository, &coverage, Duration::ZERO).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("wal segment 000000010000000000000002"),
            "{error}"
        );
        assert!(error.hint().is_some());
        assert_nothing_left(&repository);
    }

    /// Cancels the backup when it is asked.
    struct Cancelling(Cancel);

    impl WalCoverage for Cancelling {
        fn covered(&self, _: TimelineId, _: Lsn, _: Lsn) -> Result<Coverage> {
            self.0.cancel();
            let what = "everything".into();
            Ok(Coverage::Missing { what })
        }
    }

    #[test]
    fn waiting_for_wal_can_be_cancelled() {
        let cx = Context::quiet();
        let coverage = Cancelling(cx.cancel.clone());
        let repository = repository();
        let error = take_with(&cx, &repository, &coverage, Duration::from_mins(1)).unwrap_err();
        assert!(matches!(error, Error::Cancelled));
        assert_nothing_left(&repository);
    }
}
