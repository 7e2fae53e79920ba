//! Reading WAL: records with their checksums, their blocks, summaries, descriptions; bytes of WAL per second.
//!
//! The input is segments of real servers in `tests/data/wal`, or every segment in the folder `PGM_WAL_BENCH`, which should be
//! in the page cache. Compare with `pg_waldump -q` (scan) and `pg_waldump > /dev/null` (describe) on the same segments; for
//! instruction counts that repeat: `valgrind --tool=callgrind --toggle-collect='*RecordReader*next*' BENCH --bench scan`.
#![allow(missing_docs)] // criterion's macros make public items.

use std::hint::black_box;
use std::path::{Path, PathBuf};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use pgm_benches::CountingAllocator;
use pgm_wal::files::{Run, SegmentFiles};
use pgm_wal::record::{DirectorySource, Record, RecordReader, SegmentSource as _, describe};
use pgm_wal::summary::{Rules, Summary};
use pgm_wal::{History, SegmentName, SegmentSize};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator::new();

/// Plain segments.
struct Input {
    folder: PathBuf,
    history: History,
    size: SegmentSize,
    runs: Vec<Run>,
    _unpacked: Option<tempfile::TempDir>,
}

impl Input {
    fn open() -> Self {
        if let Some(folder) = std::env::var_os("PGM_WAL_BENCH") {
            return Self::of(PathBuf::from(folder), None);
        }
        let packed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/wal/pg17");
        let files = SegmentFiles::find(&[packed]).expect("the segments are there");
        let unpacked = tempfile::tempdir().expect("a folder is made");
        let timeline = files.newest_timeline().expect("there are segments");
        for run in files.runs(&files.history(timeline)) {
            let name = SegmentName::at(timeline, run.start, files.size());
            let mut segment = vec![0; files.size().bytes() as usize];
            files
                .source(run)
                .read_at(name, 0, &mut segment)
                .expect("a segment is read");
            let path = unpacked.path().join(name.file_name(files.size()));
            std::fs::write(path, segment).expect("a segment is written");
        }
        Self::of(unpacked.path().to_owned(), Some(unpacked))
    }

    fn of(folder: PathBuf, unpacked: Option<tempfile::TempDir>) -> Self {
        let files = SegmentFiles::find(std::slice::from_ref(&folder)).expect("segments are there");
        let history = files.history(files.newest_timeline().expect("there are segments"));
        Self {
            runs: files.runs(&history),
            size: files.size(),
            folder,
            history,
            _unpacked: unpacked,
        }
    }

    /// Gives every record to `visit`; the number of records and of bytes of WAL.
    fn read(&self, mut visit: impl FnMut(&Record<'_>)) -> (u64, u64) {
        let (mut records, mut bytes) = (0, 0);
        for run in &self.runs {
            let source = DirectorySource::new(&self.folder, self.size);
            let mut reader = RecordReader::seek(source, self.history.clone(), run.start)
                .expect("the segment begins");
            while let Ok(Some(record)) = reader.next() {
                records += 1;
                visit(&record);
            }
            bytes += reader.position().bytes_since(run.start);
        }
        (records, bytes)
    }
}

fn read(criterion: &mut Criterion) {
    let input = Input::open();
    let (records, bytes) = input.read(|_| {});
    let allocations = ALLOCATOR.per_call(3, || {
        input.read(|_| {});
    });
    println!(
        "{records} records in {bytes} bytes of WAL; {allocations} allocations to read them all"
    );
    let mut group = criterion.benchmark_group("wal_read");
    group.throughput(Throughput::Bytes(bytes));
    group.bench_function("scan", |bencher| {
        bencher.iter(|| {
            input.read(|record| {
                black_box(record.xid);
            })
        });
    });
    group.bench_function("blocks", |bencher| {
        bencher.iter(|| {
            input.read(|record| {
                black_box(record.blocks().map(|block| block.number).sum::<u32>());
            })
        });
    });
    group.bench_function("summarise", |bencher| {
        bencher.iter(|| {
            let start = input.runs[0].start;
            let mut summary = Summary::new(input.history.timeline(), start, Rules::PostgreSql);
            input.read(|record| summary.add(record).expect("a record is whole"));
            summary.counts()
        });
    });
    let mut line = String::new();
    group.bench_function("describe", |bencher| {
        bencher.iter(|| {
            input.read(|record| {
                line.clear();
                describe::write_line(record, &mut line);
                black_box(line.len());
            })
        });
    });
}

criterion_group! {
    name = reading;
    config = Criterion::default().sample_size(20);
    targets = read
}
criterion_main!(reading);
