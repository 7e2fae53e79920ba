//! Reading and describing records costs no allocation per record.
#![allow(clippy::unwrap_used)] // All of it is test code, also what has no `#[test]` on it.

use std::path::Path;

use pgm_tests::{Scratch, ThreadCountingAllocator, thread_allocations};
use pgm_wal::record::{DirectorySource, RecordReader, describe};
use pgm_wal::{History, SegmentName, SegmentSize};

#[global_allocator]
static ALLOCATOR: ThreadCountingAllocator = ThreadCountingAllocator;

/// For the reader, its buffers, and their growth to the longest record.
const ALLOCATIONS_MAX: u64 = 60;

#[test]
fn records_are_read_and_described_without_allocating_for_each() {
    let size = SegmentSize::MIN;
    let scratch = Scratch::new("wal-records");
    let packed =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("data/wal/pg17/000000010000000000000084.zst");
    let bytes = zstd::decode_all(std::fs::File::open(packed).unwrap()).unwrap();
    let name = SegmentName::parse("000000010000000000000084", size).unwrap();
    std::fs::write(scratch.path().join(name.file_name(size)), bytes).unwrap();

    let source = DirectorySource::new(scratch.path(), size);
    let before = thread_allocations();
    let mut reader =
        RecordReader::seek(source, History::root(name.timeline), name.start(size)).unwrap();
    let mut line = String::new();
    let mut records = 0;
    while let Some(record) = reader.next().unwrap() {
        line.clear();
        describe::write_line(&record, &mut line);
        records += 1;
    }
    let allocations = thread_allocations() - before;
    assert!(records > 6000, "{records}");
    assert!(
        allocations <= ALLOCATIONS_MAX,
        "{allocations} allocations for {records} records"
    );
}
