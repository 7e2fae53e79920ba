//! Reads the WAL in a folder of plain segments once and tells how much it was: for a profiler, and to be measured beside
//! `pg_waldump` by `benches/wal_read_peers`.
//!
//! Usage: `wal_scan scan|summarise|describe FOLDER [READERS]`. Every way checks every record's checksum.

use std::hint::black_box;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use pgm_wal::files::SegmentFiles;
use pgm_wal::record::{
    DirectorySource, Record, RecordError, RecordReader, Stretches, describe, read_stretches,
};
use pgm_wal::summary::{Rules, Summary};
use pgm_wal::{History, SegmentSize};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (way, folder, readers) = match arguments.as_slice() {
        [way, folder] => (way, folder, 1),
        [way, folder, readers] => (way, folder, readers.parse().expect("readers are a number")),
        _ => panic!("usage: wal_scan scan|summarise|describe FOLDER [READERS]"),
    };
    let folder = PathBuf::from(folder);
    let files = SegmentFiles::find(std::slice::from_ref(&folder)).expect("segments are there");
    let history = files.history(files.newest_timeline().expect("there are segments"));
    let (mut records, mut bytes) = (0, 0);
    for run in files.runs(&history) {
        let stretches = Stretches {
            history: history.clone(),
            size: files.size(),
            from: run.start,
            to: run.end,
            readers,
            bytes_min: files.size().bytes(),
        };
        records += match (way.as_str(), readers) {
            ("scan", 1) => read(&folder, &stretches, |record| {
                black_box(record.xid);
            }),
            ("scan", _) => scan_parallel(&folder, &stretches),
            ("summarise", 1) => {
                let mut summary = Summary::new(history.timeline(), run.start, Rules::PostgreSql);
                let records = read(&folder, &stretches, |record| {
                    summary.add(record).expect("a record is whole");
                });
                black_box(summary.counts());
                records
            }
            ("describe", 1) => {
                let mut line = String::new();
                read(&folder, &stretches, |record| {
                    line.clear();
                    describe::write_line(record, &mut line);
                    black_box(line.len());
                })
            }
            _ => panic!("only scan takes several readers"),
        };
        bytes += run.end.bytes_since(run.start);
    }
    println!("{records} records in {bytes} bytes of WAL");
}

fn source(folder: &Path, size: SegmentSize) -> DirectorySource {
    DirectorySource::new(folder, size)
}

fn read(folder: &Path, stretches: &Stretches, mut visit: impl FnMut(&Record<'_>)) -> u64 {
    let history: History = stretches.history.clone();
    let mut reader = RecordReader::seek(source(folder, stretches.size), history, stretches.from)
        .expect("the segment begins");
    let mut records = 0;
    reader
        .for_each(|record| {
            records += 1;
            visit(record);
            Ok::<_, RecordError>(ControlFlow::Continue(()))
        })
        .expect("the WAL is whole");
    records
}

fn scan_parallel(folder: &Path, stretches: &Stretches) -> u64 {
    let joined = read_stretches(
        stretches,
        || source(folder, stretches.size),
        || 0,
        |records: &mut u64, _| {
            *records += 1;
            Ok(())
        },
    )
    .expect("the WAL is whole");
    joined.outcomes.iter().sum()
}
