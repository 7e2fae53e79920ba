//! Archives that the server has compressed.

use std::io::Write;

use pgm_storage::{Compression, FileFormat, StreamEncoder};

use super::*;

const FORMATS: [(&str, FileFormat); 4] = [
    ("zstd:1", FileFormat::Zstd),
    ("zstd:-10", FileFormat::Zstd),
    ("lz4", FileFormat::Lz4),
    ("gzip:1", FileFormat::Gzip),
];

fn take_compressed(
    repository: &Repository,
    steps: Vec<Step>,
    piece_bytes: usize,
    format: FileFormat,
) -> Result<BackupEntry> {
    let (cx, request) = (Context::quiet(), BackupRequest::default());
    let targets = [target(repository, "zstd")];
    let locked = Lanes::of(&targets)
        .step(|target| Locked::take(target, &server(), request.resume, FRAMES_MAX))?;
    let discard = &request.discard;
    let lanes = begin(locked, &server(), &beginning().facts, discard)?;
    let announced = Announced {
        pages: BackupPages::All,
        archives: Some(format),
        tablespaces: vec![TABLESPACE],
        total_bytes: None,
    };
    let mut source = Script::new(steps, piece_bytes);
    let copied = copy(&cx, &mut source, &announced, lanes, options(2), discard)?;
    let mut outcomes = finish(&cx, &targets, &request, &beginning(), copied)?.into_outcomes();
    outcomes.pop().unwrap().into_result()
}

/// A sample as a server with `compression` sends it; its plain form gives the same contents.
fn steps(compression: &str) -> Vec<Step> {
    let plain = vec![
        Step::Archive(Some(TABLESPACE)),
        Step::Bytes(file("PG_17_202406281/5/1", &[3; 70_000])),
        Step::Bytes(end()),
    ];
    let mut content = vec![0; 3_000_000];
    pattern(5, &mut content);
    let link = format!("pg_tblspc/{TABLESPACE}");
    let main = data_directory(vec![
        Step::Bytes(directory("base")),
        Step::Bytes(link_to(&link)),
        Step::Bytes(file("base/1", &content)),
        Step::Bytes(file("base/empty", b"")),
    ]);
    let mut steps = Vec::new();
    let mut archive = Vec::new();
    for step in plain.into_iter().chain(main) {
        match step {
            Step::Bytes(bytes) => archive.extend_from_slice(&bytes),
            step => {
                if !archive.is_empty() {
                    steps.push(Step::Bytes(compress(&archive, compression)));
                    archive.clear();
                }
                steps.push(step);
            }
        }
    }
    steps
}

fn link_to(name: &str) -> Vec<u8> {
    link(name, "/mnt/ts")
}

fn compress(raw: &[u8], compression: &str) -> Vec<u8> {
    let compression: Compression = compression.parse().unwrap();
    let mut encoder = StreamEncoder::new(Vec::new(), compression).unwrap();
    encoder.write_all(raw).unwrap();
    encoder.finish().unwrap()
}

/// The archive of the data directory.
fn main_archive(steps: &mut [Step]) -> &mut Vec<u8> {
    let archives = steps.iter_mut().filter_map(|step| match step {
        Step::Bytes(bytes) => Some(bytes),
        _ => None,
    });
    archives.last().unwrap()
}

#[test]
fn every_compression_gives_the_same_backup_in_pieces_of_any_size() {
    let plain = repository();
    let expected = take(
        &Context::quiet(),
        &plain,
        Script::new(steps("none"), 65_536),
    )
    .unwrap();
    let expected = contents(&plain, &expected);
    assert_eq!(expected["base/1"].len(), 3_000_000);
    for (compression, format) in FORMATS {
        for piece_bytes in [997, 8192, 65_536] {
            let repository = repository();
            let taken = take_compressed(&repository, steps(compression), piece_bytes, format);
            let entry = taken.unwrap();
            assert_eq!(contents(&repository, &entry), expected, "{compression}");
            assert_eq!(
                entry.size.raw_bytes,
                expected.values().map(|file| file.len() as u64).sum::<u64>()
            );
        }
    }
}

#[test]
fn an_archive_that_is_cut_or_goes_on_or_is_another_format_is_no_backup() {
    for (compression, format) in FORMATS {
        let whole = main_archive(&mut steps(compression)).len();
        for cut in [1, 100, whole / 2, whole - 1] {
            let mut steps = steps(compression);
            main_archive(&mut steps).truncate(whole - cut);
            let error = take_compressed(&repository(), steps, 4096, format).unwrap_err();
            assert!(
                matches!(error, Error::BadStream { .. }),
                "{compression}: {error}"
            );
        }
        let mut more = steps(compression);
        main_archive(&mut more).extend_from_slice(b"more than the end");
        take_compressed(&repository(), more, 4096, format).unwrap_err();
        take_compressed(&repository(), steps("none"), 4096, format).unwrap_err();
    }
    let repository = repository();
    take_compressed(&repository, steps("zstd"), 4096, FileFormat::Gzip).unwrap_err();
    assert_nothing_left(&repository);
}

#[test]
fn a_connection_that_breaks_within_an_archive_is_what_is_said() {
    for (compression, format) in FORMATS {
        let mut steps = steps(compression);
        let archive = main_archive(&mut steps);
        archive.truncate(archive.len() / 2);
        let at = steps
            .iter()
            .rposition(|step| matches!(step, Step::Bytes(_)));
        steps.truncate(at.unwrap() + 1);
        let error = take_compressed(&repository(), steps, 4096, format).unwrap_err();
        assert!(
            matches!(error, Error::Server(pgm_proto::Error::Closed)),
            "{error:?}"
        );
    }
}

#[test]
fn a_window_that_takes_too_much_memory_is_refused() {
    let mut steps = steps("none");
    let archive = main_archive(&mut steps);
    // The content does not matter: the header of a zstd frame with a window of 128 MiB.
    *archive = [&[0x28, 0xB5, 0x2F, 0xFD, 0, 17 << 3][..], archive].concat();
    let begin = steps
        .iter()
        .position(|step| matches!(step, Step::Archive(None)));
    let steps = steps.split_off(begin.unwrap());
    let error = take_compressed(&repository(), steps, 4096, FileFormat::Zstd).unwrap_err();
    assert!(error.to_string().contains("memory"), "{error}");
}
