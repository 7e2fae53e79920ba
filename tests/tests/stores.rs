//! Far stores keep the contract that the local one keeps: the conformance suite against real servers.
#![allow(clippy::unwrap_used, reason = "a test: what fails in it must fail it")]

use std::collections::BTreeMap;
use std::io::Write;
use std::ops::ControlFlow;
use std::sync::{Arc, Barrier};
use std::thread;

use pgm_storage::{
    Credentials, Meter, ObjectPath, Operation, PutMode, RemoteProblem, Storage, StorageError,
    StoreAddress, StoreOptions, conformance, open,
};
use pgm_tests::{ChaosProxy, FakeGcs, StoreKind, StoreServer};

fn path(text: &str) -> ObjectPath {
    ObjectPath::parse(text).unwrap()
}

/// Opens what is at `address`, and gives the counters with it.
fn opened(credentials: &str, address: &str) -> (Arc<dyn Storage>, Arc<Meter>) {
    let options = StoreOptions {
        credentials: Credentials::parse(credentials).unwrap(),
        ..StoreOptions::default()
    };
    let meter = Arc::clone(&options.meter);
    let address = StoreAddress::parse(address).unwrap();
    (open(&address, &options).unwrap(), meter)
}

/// Bytes without a short period.
fn pattern(bytes: usize) -> Vec<u8> {
    (0..bytes as u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect()
}

/// What the suite cannot ask of every engine because it takes large objects.
fn large_objects_keep_the_contract_too(storage: &dyn Storage) {
    let content = pattern(20_000_000);
    let name = path("large/object");
    let mut writer = storage.create(&name).unwrap();
    for piece in content.chunks(999_999) {
        writer.write_all(piece).unwrap();
    }
    assert!(
        storage.head(&name).unwrap_err().is_not_found(),
        "parts are no object"
    );
    let mut listed = 0;
    storage
        .list(&path("large"), &mut |_| {
            listed += 1;
            std::ops::ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(listed, 0, "parts are not listed");
    assert_eq!(writer.finish().unwrap().size, content.len() as u64);

    let reader = storage.open(&name).unwrap();
    for (offset, bytes) in [
        (0, 100),
        (19_999_990, 10),
        (7_777_777, 5_000_000),
        (0, 20_000_000),
    ] {
        let mut read = vec![0; bytes];
        reader.read_exact_at(&mut read, offset as u64).unwrap();
        assert!(
            read == content[offset..offset + bytes],
            "{bytes} at {offset}"
        );
    }

    // Dropped in the middle, nothing is there and the path is free.
    let dropped = path("large/dropped");
    let mut writer = storage.create(&dropped).unwrap();
    writer.write_all(&content).unwrap();
    drop(writer);
    assert!(storage.head(&dropped).unwrap_err().is_not_found());

    // Replaced under a reader: it fails, or keeps to its own.
    storage.put(&name, b"other", PutMode::Replace).unwrap();
    let mut read = vec![0; 1_000_000];
    if reader.read_exact_at(&mut read, 12_000_000).is_ok() {
        assert!(read == content[12_000_000..13_000_000], "never other bytes");
    }

    let raced = path("large/raced");
    let barrier = Barrier::new(3);
    let winners: Vec<u8> = thread::scope(|scope| {
        let threads: Vec<_> = (1..=3u8)
            .map(|id| {
                let (barrier, raced) = (&barrier, &raced);
                scope.spawn(move || {
                    let mut writer = storage.create(raced).unwrap();
                    writer.write_all(&vec![id; 9_000_000]).unwrap();
                    barrier.wait();
                    match writer.finish() {
                        Ok(_) => Some(id),
                        Err(error) => {
                            assert!(error.is_already_exists(), "{error:?}");
                            None
                        }
                    }
                })
            })
            .collect();
        threads
            .into_iter()
            .filter_map(|thread| thread.join().unwrap())
            .collect()
    });
    assert_eq!(winners.len(), 1, "of concurrent creations one succeeds");
    let bytes = storage.get(&raced, 10_000_000).unwrap();
    assert!(bytes == vec![winners[0]; 9_000_000], "the winner's object");
}

#[test]
fn s3_keeps_the_contract() {
    let server = StoreServer::start(StoreKind::S3);
    let (storage, meter) = opened(&server.credentials(), &server.address("some/prefix"));
    conformance::check_flat(&*storage);
    large_objects_keep_the_contract_too(&*storage);
    let counts = meter.counts();
    assert!(
        counts[Operation::PutPart as usize].requests >= 3,
        "{counts:?}"
    );
    assert_eq!(counts[0].failures, 0, "{counts:?}");
}

#[test]
fn azure_keeps_the_contract() {
    let server = StoreServer::start(StoreKind::Azure);
    let (storage, _) = opened(&server.credentials(), &server.address("some/prefix"));
    conformance::check_flat(&*storage);
    large_objects_keep_the_contract_too(&*storage);
}

#[test]
fn gcs_as_it_is_documented_keeps_the_contract() {
    let server = FakeGcs::start();
    let (storage, _) = opened(&server.credentials(), &server.address("some/prefix"));
    conformance::check_flat(&*storage);
    large_objects_keep_the_contract_too(&*storage);
}

#[test]
fn sftp_keeps_the_contract() {
    let mut server = StoreServer::start(StoreKind::Sftp);
    let (storage, _) = opened(&server.credentials(), &server.address("some/prefix"));
    conformance::check(&*storage);
    large_objects_keep_the_contract_too(&*storage);

    // A server that went away and came back is found again; an open reader goes on.
    let content = pattern(3_000_000);
    let name = path("after/restart");
    storage.put(&name, &content, PutMode::Create).unwrap();
    let reader = storage.open(&name).unwrap();
    let mut unfinished = storage.create(&path("after/unfinished")).unwrap();
    unfinished.write_all(&content).unwrap();
    server.stop();
    server.restart();
    let mut read = vec![0; content.len()];
    reader.read_exact_at(&mut read, 0).unwrap();
    assert!(read == content, "the same bytes over another connection");
    let lost = unfinished.write_all(&content).and_then(|()| {
        unfinished.write_all(&content)?;
        unfinished.finish().map(drop).map_err(std::io::Error::from)
    });
    assert!(lost.is_err(), "a writer does not survive its connection");
    let absent = storage.head(&path("after/unfinished")).unwrap_err();
    assert!(absent.is_not_found(), "{absent}");
}

#[test]
fn sftp_refuses_a_server_whose_key_is_not_the_known_one() {
    let server = StoreServer::start(StoreKind::Sftp);
    let known = server.folder().join("known_hosts");
    let line = std::fs::read_to_string(&known).unwrap();
    let stranger = std::fs::read_to_string(server.folder().join("client.pub")).unwrap();
    let host = line.split(' ').next().unwrap();
    for content in [
        String::new(),
        format!("{host} {stranger}"),
        format!("{line}@revoked * {}", line.split_once(' ').unwrap().1),
    ] {
        std::fs::write(&known, content).unwrap();
        let (storage, _) = opened(&server.credentials(), &server.address("x"));
        let error = storage.head(&path("a")).unwrap_err();
        assert_problem(&error, RemoteProblem::HostKey);
    }
}

fn assert_problem(error: &StorageError, expected: RemoteProblem) {
    assert!(
        matches!(error, StorageError::Remote { problem, .. } if *problem == expected),
        "{error:?}"
    );
    assert!(error.hint().is_some());
}

#[test]
fn trouble_is_named_with_what_to_do() {
    let server = StoreServer::start(StoreKind::S3);
    let address = server.address("p");
    let (storage, _) = opened(
        &server.credentials(),
        &address.replace("s3://pgm", "s3://other"),
    );
    let error = storage.get(&path("a"), 10).unwrap_err();
    assert_problem(&error, RemoteProblem::BucketMissing);
    assert!(error.to_string().contains("s3://other/p/a"), "{error}");
    let error = storage.put(&path("a"), b"x", PutMode::Create).unwrap_err();
    assert_problem(&error, RemoteProblem::BucketMissing);

    let nobody = address.replace(&server.port().to_string(), "9") + "&retry_timeout=1";
    let (storage, _) = opened(&server.credentials(), &nobody);
    let error = storage.get(&path("a"), 10).unwrap_err();
    assert_problem(&error, RemoteProblem::Unreachable);

    // The TLS of somebody who speaks none.
    let tls = address.replace("http://", "https://") + "&retry_timeout=1";
    let (storage, _) = opened(&server.credentials(), &tls);
    assert!(storage.get(&path("a"), 10).is_err());
    let plain = address.replace("&allow_http=yes", "");
    let address = StoreAddress::parse(&plain).unwrap();
    let error = open(&address, &StoreOptions::default()).unwrap_err();
    assert_problem(&error, RemoteProblem::Settings);

    let azure = StoreServer::start(StoreKind::Azure);
    let wrong = azure.credentials().replace("Eby8", "Eby9");
    let (storage, _) = opened(&wrong, &azure.address("p"));
    let error = storage.get(&path("a"), 10).unwrap_err();
    assert!(!format!("{error:?}").contains("Eby"), "{error:?}");
    assert_problem(&error, RemoteProblem::Unauthenticated);
}

/// Tries to write 40 objects, every fifth in parts; gives all contents, and the names of those that were written.
fn write_many(storage: &dyn Storage) -> (BTreeMap<String, Vec<u8>>, Vec<String>) {
    let (mut contents, mut written) = (BTreeMap::new(), Vec::new());
    for number in 0..40_usize {
        let size = if number.is_multiple_of(5) {
            9_000_000
        } else {
            50_000 + number
        };
        let mut content = pattern(size);
        content[0] = number as u8;
        let name = format!("bad/{number:03}");
        let result = storage.create(&path(&name)).and_then(|mut writer| {
            writer
                .write_all(&content)
                .map_err(|error| StorageError::from_io("write", name.as_str(), error))?;
            writer.finish()
        });
        match result {
            Ok(meta) => {
                assert_eq!(meta.size, size as u64);
                written.push(name.clone());
            }
            Err(error) => assert!(!error.is_already_exists(), "nobody else writes: {error}"),
        }
        contents.insert(name, content);
    }
    (contents, written)
}

fn listed(storage: &dyn Storage, folder: &str) -> Result<Vec<String>, StorageError> {
    let mut found = Vec::new();
    storage.list(&path(folder), &mut |meta| {
        found.push(meta.path.to_string());
        ControlFlow::Continue(())
    })?;
    Ok(found)
}

/// Whatever happens on the way: what was said to be written is there whole, and nothing is there in part.
#[test]
fn on_a_bad_day_every_operation_succeeds_truly_or_fails_clearly() {
    let server = StoreServer::start(StoreKind::S3);
    let chaos = ChaosProxy::to(server.port(), 150, 4711);
    let address = server.address_through(chaos.port(), "p") + "&timeout=2&retry_timeout=20";
    let (storage, _) = opened(&server.credentials(), &address);
    let (truth, _) = opened(&server.credentials(), &server.address("p"));
    let (contents, written) = write_many(&*storage);
    for name in &written {
        let content = &contents[name];
        if let Ok(reader) = storage.open(&path(name)) {
            let mut read = vec![0; content.len()];
            if reader.read_exact_at(&mut read, 0).is_ok() {
                assert!(read == *content, "{name} is read as it was written");
            }
        }
    }
    let there = listed(&*truth, "bad").unwrap();
    if let Ok(listed) = listed(&*storage, "bad") {
        assert_eq!(listed, there, "a listing is complete or an error");
    }
    for name in &there {
        let bytes = truth.get(&path(name), 1 << 30).unwrap();
        assert!(bytes == contents[name], "{name} is whole");
    }
    for name in &written {
        assert!(there.contains(name), "{name} was said to be written");
    }
    let (requests, faults) = chaos.counts();
    println!(
        "{} of 40 written, {faults} faults in {requests} requests",
        written.len()
    );
    assert!(faults > 10, "the day was not bad");
    assert!(written.len() >= 36, "retries carry most of it through");
}
