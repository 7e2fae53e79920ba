//! Both streams of BASE_BACKUP as golden scripts, cut at every place.

use std::fmt::Write;

use proptest::prelude::*;

use super::*;

const POSITION: &[u8] = b"\0\x02\0\0\0\x090/2000028\0\0\0\x011";
const END: &[u8] = b"\0\x02\0\0\0\x090/2000100\0\0\0\x011";
const TABLESPACE: &[u8] = b"\0\x03\0\0\0\x0516385\0\0\0\x05/fast\0\0\0\x0240";
const MAIN: &[u8] = b"\0\x03\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\0\0\0\x0522000";
const CHECKSUM_FAILURE: &[u8] = b"SERROR\0VERROR\0CXX001\0Mchecksum verification failure\0\0";

const HEADER: &[(u8, &[u8])] = &[
    (b'T', b""),
    (b'D', POSITION),
    (b'C', b"SELECT\0"),
    (b'T', b""),
    (b'D', TABLESPACE),
    (b'D', MAIN),
    (b'C', b"SELECT\0"),
];

const COPY_PER_ARCHIVE: &[(u8, &[u8])] = &[
    (b'H', b"\0\0\0"),
    (b'd', b"tar of 16385"),
    (b'c', b""),
    (b'H', b"\0\0\0"),
    (b'd', b"tar of base"),
    (b'd', b""),
    (b'd', b"more"),
    (b'c', b""),
    (b'H', b"\0\0\0"),
    (b'd', b"{manifest"),
    (b'd', b"}"),
    (b'c', b""),
];

const ONE_COPY: &[(u8, &[u8])] = &[
    (b'H', b"\0\0\0"),
    (b'd', b"n16385.tar\0/fast\0"),
    (b'd', b"dtar of 16385"),
    (b'd', b"p\0\0\0\0\0\0\0\x09"),
    (b'd', b"nbase.tar\0\0"),
    (b'd', b"dtar of base"),
    (b'd', b"d"),
    (b'd', b"dmore"),
    (b'd', b"m"),
    (b'd', b"d{manifest"),
    (b'd', b"d}"),
    (b'c', b""),
];

const TRAILER: &[(u8, &[u8])] = &[
    (b'T', b""),
    (b'D', END),
    (b'C', b"SELECT\0"),
    (b'C', b"SELECT\0"),
    (b'C', b"BASE_BACKUP\0"),
    (b'Z', b"I"),
];

const EVENTS: &str = "\
archive Some(16385)
data tar of 16385
archive None
data tar of base
data more
manifest
manifest data {manifest
manifest data }
end 0/2000100 on 1
";

fn new(major: u32) -> BackupStream {
    BackupStream::new(
        ServerVersion::from_number(major * 10_000),
        CompressionMethod::None,
    )
}

fn script(parts: &[&[(u8, &'static [u8])]]) -> Vec<(u8, &'static [u8])> {
    parts.concat()
}

/// What a reader sees of a script.
fn events(stream: &mut BackupStream, script: &[(u8, &[u8])]) -> Result<String, Error> {
    let mut log = String::new();
    let text = |body: &[u8], skip: usize| String::from_utf8_lossy(&body[skip..]).into_owned();
    for (tag, body) in script {
        match stream.take(*tag, body)? {
            Step::Skip => {}
            Step::Archive(oid) => writeln!(log, "archive {oid:?}").unwrap(),
            Step::Data { skip } => writeln!(log, "data {}", text(body, skip)).unwrap(),
            Step::Manifest => writeln!(log, "manifest").unwrap(),
            Step::ManifestData { skip } => {
                writeln!(log, "manifest data {}", text(body, skip)).unwrap();
            }
            Step::End { position, failure } => {
                let Position { lsn, timeline } = position;
                writeln!(log, "end {lsn} on {timeline}").unwrap();
                if let Some(failure) = failure {
                    writeln!(log, "failure {}", failure.sqlstate).unwrap();
                }
            }
        }
    }
    Ok(log)
}

#[test]
fn both_forms_give_the_same_events() {
    for (major, copies) in [(14, COPY_PER_ARCHIVE), (15, ONE_COPY), (18, ONE_COPY)] {
        let mut stream = new(major);
        let script = script(&[HEADER, copies, TRAILER]);
        assert_eq!(events(&mut stream, &script).unwrap(), EVENTS, "{major}");
        assert!(stream.is_answered());
    }
}

#[test]
fn start_and_tablespaces_are_known_before_the_first_archive() {
    let mut stream = new(15);
    events(&mut stream, &HEADER[..6]).unwrap();
    assert!(!stream.has_begun());
    events(&mut stream, &HEADER[6..]).unwrap();
    assert!(stream.has_begun());
    assert_eq!(stream.start().lsn.to_string(), "0/2000028");
    let expected = [
        Tablespace {
            oid: Some(16385),
            location: Some("/fast".into()),
            size_kib: Some(40),
        },
        Tablespace {
            oid: None,
            location: None,
            size_kib: Some(22000),
        },
    ];
    assert_eq!(stream.tablespaces(), expected);
}

#[test]
fn an_error_after_the_end_position_keeps_what_was_received() {
    for (major, copies) in [(14, COPY_PER_ARCHIVE), (17, ONE_COPY)] {
        let failure: &[(u8, &[u8])] = &[(b'E', CHECKSUM_FAILURE), (b'Z', b"I")];
        let script = script(&[HEADER, copies, &TRAILER[..3], failure]);
        let expected = format!("{EVENTS}failure XX001\n");
        assert_eq!(events(&mut new(major), &script).unwrap(), expected);
    }
}

#[test]
fn an_error_before_the_end_position_is_the_outcome() {
    let whole = script(&[HEADER, ONE_COPY]);
    for received in 0..=whole.len() {
        let mut stream = new(15);
        events(&mut stream, &whole[..received]).unwrap();
        assert_eq!(
            stream.take(b'E', b"C57014\0Mcanceled\0\0").unwrap(),
            Step::Skip
        );
        assert!(!stream.is_answered());
        let error = stream.take(b'Z', b"I").unwrap_err();
        assert_eq!(error.sqlstate(), Some("57014"), "{received}");
    }
}

#[test]
fn a_server_that_hangs_up_after_an_error_is_understood() {
    let mut stream = new(15);
    assert!(matches!(stream.closed(), Err(Error::Closed)));
    stream
        .take(b'E', b"SFATAL\0C57P01\0Mterminating\0\0")
        .unwrap();
    assert_eq!(stream.closed().unwrap_err().sqlstate(), Some("57P01"));
}

#[test]
fn archive_names_that_belong_to_no_tablespace_are_refused() {
    let names: [&[u8]; 7] = [
        b"n../../etc/passwd\0\0",
        b"n/16385.tar\0\0",
        b"n16386.tar\0\0",
        b"n016385.tar\0\0",
        b"n16385.tar.gz\0\0",
        b"nbase.tar",
        b"n\0\0",
    ];
    for name in names {
        let mut stream = new(15);
        events(&mut stream, &script(&[HEADER, &ONE_COPY[..1]])).unwrap();
        assert!(stream.take(b'd', name).is_err(), "{}", name.escape_ascii());
    }
}

#[test]
fn an_archive_that_comes_twice_or_never_is_refused() {
    let twice = script(&[HEADER, &ONE_COPY[..2], &ONE_COPY[1..]]);
    assert!(events(&mut new(15), &twice).is_err());
    let never = script(&[HEADER, &ONE_COPY[..4], &ONE_COPY[8..]]);
    assert!(events(&mut new(15), &never).is_err());
    let no_manifest = script(&[HEADER, &ONE_COPY[..8], &ONE_COPY[11..]]);
    assert!(events(&mut new(15), &no_manifest).is_err());
    let short = script(&[HEADER, &COPY_PER_ARCHIVE[..3], TRAILER]);
    assert!(events(&mut new(14), &short).is_err());
    let one_more = script(&[HEADER, COPY_PER_ARCHIVE, &COPY_PER_ARCHIVE[..3]]);
    assert!(events(&mut new(14), &one_more).is_err());
}

#[test]
fn a_message_left_out_is_never_an_end_without_everything() {
    for (major, copies) in [(14, COPY_PER_ARCHIVE), (15, ONE_COPY)] {
        let whole = script(&[HEADER, copies, TRAILER]);
        for left_out in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged.remove(left_out);
            // What remains is an error, or has every archive and the position.
            if let Ok(log) = events(&mut new(major), &damaged)
                && log.contains("end")
            {
                for part in ["archive Some(16385)", "archive None", "manifest\n"] {
                    assert!(log.contains(part), "{major} without {left_out}: {log}");
                }
            }
        }
    }
}

#[test]
fn bodies_cut_off_anywhere_are_no_panic() {
    for (major, copies) in [(14, COPY_PER_ARCHIVE), (15, ONE_COPY)] {
        let whole = script(&[HEADER, copies, TRAILER]);
        for (index, (tag, body)) in whole.iter().enumerate() {
            for end in 0..body.len() {
                let mut stream = new(major);
                events(&mut stream, &whole[..index]).unwrap();
                let _ = stream.take(*tag, &body[..end]);
            }
        }
    }
}

#[test]
fn lists_of_tablespaces_that_repeat_or_never_end_are_refused() {
    let mut stream = new(15);
    events(&mut stream, &HEADER[..5]).unwrap();
    assert!(stream.take(b'D', TABLESPACE).is_err());
    let mut stream = new(15);
    events(&mut stream, &HEADER[..4]).unwrap();
    let row = |oid: u32| {
        let mut row = b"\0\x03\0\0\0\x0A".to_vec();
        row.extend(format!("{oid:010}").as_bytes());
        row.extend([0xFF; 8]);
        row
    };
    assert!((0..20_000).any(|oid| stream.take(b'D', &row(oid)).is_err()));
}

proptest! {
    #[test]
    fn no_order_of_messages_ends_a_backup_without_everything(
        major in 14_u32..=15,
        order in prop::collection::vec(0_usize..60, 0..80),
    ) {
        let copies = if major == 14 { COPY_PER_ARCHIVE } else { ONE_COPY };
        let whole = script(&[HEADER, copies, TRAILER, &[(b'E', CHECKSUM_FAILURE)]]);
        let mut stream = new(major);
        // Mostly in order, with repetitions, omissions and jumps.
        let picked = whole.iter().copied().enumerate().flat_map(|(index, message)| {
            let extra = order.get(index).and_then(|other| whole.get(*other)).copied();
            std::iter::once(message).chain(extra)
        });
        let mut log = String::new();
        for (tag, body) in picked {
            match events(&mut stream, &[(tag, body)]) {
                Ok(more) => log.push_str(&more),
                Err(_) => return Ok(()),
            }
            if log.contains("end") {
                break;
            }
        }
        if log.contains("end") {
            for part in ["archive Some(16385)", "archive None", "manifest\n"] {
                prop_assert!(log.contains(part), "{}", log);
            }
        }
    }

    #[test]
    fn any_bytes_are_no_panic(
        messages in prop::collection::vec((any::<u8>(), prop::collection::vec(any::<u8>(), 0..40)), 0..20),
        begun in 0_usize..20,
    ) {
        for (major, copies) in [(14, COPY_PER_ARCHIVE), (15, ONE_COPY)] {
            let mut stream = new(major);
            let whole = script(&[HEADER, copies]);
            events(&mut stream, &whole[..begun.min(whole.len())]).unwrap();
            for (tag, body) in &messages {
                let _ = stream.take(*tag, body);
            }
        }
    }
}

#[test]
fn archives_have_the_suffix_of_what_was_asked_for() {
    let begun = |method, name: &str| {
        let mut stream = BackupStream::new(ServerVersion::from_number(170_000), method);
        stream.tablespaces = vec![Tablespace {
            oid: None,
            location: None,
            size_kib: None,
        }];
        stream.seen = vec![false];
        stream.expect = Expect::Messages(Current::Nothing);
        stream.take(b'd', format!("n{name}\0\0").as_bytes())
    };
    let archive = Step::Archive(None);
    assert_eq!(
        begun(CompressionMethod::Zstd, "base.tar.zst").unwrap(),
        archive
    );
    assert_eq!(
        begun(CompressionMethod::Gzip, "base.tar.gz").unwrap(),
        archive
    );
    assert_eq!(
        begun(CompressionMethod::Lz4, "base.tar.lz4").unwrap(),
        archive
    );
    begun(CompressionMethod::None, "base.tar.zst").unwrap_err();
    begun(CompressionMethod::Zstd, "base.tar").unwrap_err();
}
