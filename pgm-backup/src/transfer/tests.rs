//! A small repository with everything in it, copied, and copied again after every possible interruption.

use std::collections::BTreeMap;
use std::sync::Arc;

use pgm_storage::{Compression, MemoryStorage, PackWriter, Storage};
use pgm_wal::archive::Archive;

use super::*;
use crate::backup::tests::faulty::Faulty;
use crate::delete::WalAtHand;
use crate::repository::frame_list::FrameList;
use crate::verify::tests::Sample;
use crate::verify::verification::Outcome;
use crate::verify::{Level, Listing, VerifyRequest, verify};

const ALL: TransferRequest = TransferRequest {
    backup: None,
    wal: TransferWal::All,
};

fn server() -> ServerName {
    "main".parse().unwrap()
}

fn empty() -> (Arc<dyn Storage>, Repository) {
    let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
    let repository = Repository::create(Arc::clone(&storage)).unwrap();
    (storage, repository)
}

fn run(from: &Repository, to: &Repository, request: &TransferRequest) -> Result<TransferReport> {
    transfer(&Context::quiet(), from, to, &server(), request)
}

/// Every object but locks and who the server is, with its bytes.
fn content(repository: &Repository) -> BTreeMap<String, Vec<u8>> {
    let objects = list(repository, &layout::server_folder(&server())).unwrap();
    let objects = objects.into_iter().map(|(path, _)| path);
    let compared = objects.filter(|path| {
        !path.as_str().starts_with("main/lock/") && path.as_str() != "main/server.ron"
    });
    compared
        .map(|path| {
            let bytes = repository.storage().get(&path, u64::MAX).unwrap();
            (path.to_string(), bytes)
        })
        .collect()
}

fn is_sound(repository: &Repository) -> bool {
    let archive = Archive::new(Arc::clone(repository.storage()), server());
    let wal = WalAtHand {
        archive: &archive,
        spool: None,
    };
    let request = VerifyRequest {
        backup: None,
        level: Level::Wal,
        listing: Listing::Failed,
    };
    let no_trial = |_: &BackupEntry| unreachable!("no level but the last tries anything");
    let cx = Context::quiet();
    let reports = verify(&cx, repository, wal, &server(), request, &no_trial).unwrap();
    reports.len() == 1 && reports[0].verification.outcome == Outcome::Sound
}

#[test]
fn everything_is_there_afterwards_and_sound() {
    let sample = Sample::new();
    let (_, to) = empty();
    let report = run(&sample.repository, &to, &ALL).unwrap();
    assert_eq!(report.backups, [sample.entry.label]);
    assert_eq!(content(&to), content(&sample.repository));
    assert!(is_sound(&to));
    let again = run(&sample.repository, &to, &ALL).unwrap();
    assert_eq!((again.objects, again.bytes, again.backups_there), (0, 0, 1));
}

#[test]
fn one_backup_alone_goes_without_wal() {
    let sample = Sample::new();
    let (_, to) = empty();
    let request = TransferRequest {
        backup: Some(sample.entry.label),
        wal: TransferWal::None,
    };
    run(&sample.repository, &to, &request).unwrap();
    assert!(
        content(&to)
            .keys()
            .all(|path| path.starts_with("main/backup/"))
    );
    let unknown = TransferRequest {
        backup: Some("20200101T000000Z".parse().unwrap()),
        ..ALL
    };
    let error = run(&sample.repository, &to, &unknown).unwrap_err();
    assert!(matches!(error, Error::NoSuchBackup { .. }), "{error}");
}

#[test]
fn after_every_interruption_nothing_half_is_listed_and_the_copy_goes_on() {
    let sample = Sample::new();
    let expected = content(&sample.repository);
    let mut interruptions = 0;
    for operations in 0.. {
        let storage = Arc::new(Faulty::new(u64::MAX));
        let to = Repository::create(Arc::clone(&storage) as Arc<dyn Storage>).unwrap();
        storage.fail_after(operations);
        let copied = run(&sample.repository, &to, &ALL);
        storage.repair();
        if copied.is_ok() {
            break;
        }
        interruptions += 1;
        if !to.catalog(&server()).unwrap().backups().is_empty() {
            assert_eq!(content(&to), expected, "after {operations}");
        }
        run(&sample.repository, &to, &ALL).unwrap();
        assert_eq!(content(&to), expected, "after {operations}");
    }
    assert!(interruptions > 20, "{interruptions}");
}

/// What a backup left that went to both repositories and failed in the other one.
fn leave(to: &Repository, sample: &Sample, content: &[u8]) {
    let storage = to.storage();
    let label = sample.entry.label;
    let mut pack = PackWriter::with_kind(
        storage.create(&layout::pack(&server(), label, 0)).unwrap(),
        Compression::NONE,
        layout::DATA_PACK,
    )
    .unwrap();
    pack.append(content).unwrap();
    let pack_bytes = pack.finish().unwrap().size;
    let list = FrameList {
        pack: 0,
        pack_bytes,
        hash_key: [0; 16],
        frames: Vec::new(),
    };
    let path = layout::frame_list(&server(), label, 0);
    list.write(storage.create(&path).unwrap()).unwrap();
    let manifest = layout::manifest(&server(), label);
    storage.put(&manifest, content, PutMode::Create).unwrap();
}

#[test]
fn what_an_interrupted_backup_left_under_the_same_label_is_replaced() {
    let sample = Sample::new();
    let from = sample.repository.storage();
    let pack = layout::pack(&server(), sample.entry.label, 0);
    let size = from.head(&pack).unwrap().size;
    // One of another size, and one of the very same.
    for left in [vec![1; 5], vec![1; size as usize - 64]] {
        let (_, to) = empty();
        leave(&to, &sample, &left);
        run(&sample.repository, &to, &ALL).unwrap();
        assert_eq!(content(&to), content(&sample.repository));
        assert!(is_sound(&to));
    }
}

#[test]
fn damage_is_named_and_not_spread() {
    let sample = Sample::new();
    let storage = sample.repository.storage();
    let pack = layout::pack(&server(), sample.entry.label, 0);
    let mut bytes = storage.get(&pack, u64::MAX).unwrap();
    bytes[1000] ^= 1;
    storage.put(&pack, &bytes, PutMode::Replace).unwrap();
    let (_, to) = empty();
    let error = run(&sample.repository, &to, &ALL).unwrap_err();
    assert!(error.to_string().contains(pack.as_str()), "{error}");
    assert!(to.catalog(&server()).unwrap().backups().is_empty());
    assert!(to.storage().head(&pack).is_err());
}

#[test]
fn a_repository_is_not_copied_into_itself_nor_over_another_server() {
    let sample = Sample::new();
    let error = run(&sample.repository, &sample.repository, &ALL).unwrap_err();
    assert!(matches!(error, Error::SameRepository { .. }), "{error}");
    let (_, to) = empty();
    let facts = ServerFacts {
        system_id: pgm_proto::SystemId::new(8),
        version: pgm_proto::ServerVersion::from_number(170_010),
        segment_bytes: 16 << 20,
    };
    to.register(&server(), &facts).unwrap();
    let error = run(&sample.repository, &to, &ALL).unwrap_err();
    assert!(matches!(error, Error::OtherSystem { .. }), "{error}");
    let error = transfer(
        &Context::quiet(),
        &sample.repository,
        &to,
        &"other".parse().unwrap(),
        &ALL,
    );
    assert!(matches!(error, Err(Error::NothingOfServer { .. })));
}
