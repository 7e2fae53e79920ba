//! Segment writing: WAL from memory into the segments of a spool, in bytes per second, by how much one sync covers.
//!
//! The folder is made under the system's temporary directory (`TMPDIR`), whose disk is what is measured.
#![allow(missing_docs)] // criterion's macros make public items.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use pgm_benches::{CountingAllocator, input};
use pgm_proto::TimelineId;
use pgm_wal::{SegmentNumber, SegmentSize, SegmentWriter, Spool};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator::new();

/// What PostgreSQL sends in one message at most.
const MESSAGE_BYTES: usize = 128 << 10;
/// How much one measured step writes: four segments.
const STEP_BYTES: usize = 64 << 20;

/// Where a group commit comes: after so many bytes.
const GROUPS: [(&str, usize); 3] = [
    ("sync every 128 KiB", 128 << 10),
    ("sync every MiB", 1 << 20),
    ("sync every segment", 16 << 20),
];

/// A spool whose files go away as they are finished, so that the disk does not fill.
struct Target {
    folder: tempfile::TempDir,
    writer: SegmentWriter,
}

impl Target {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder is made");
        let spool = Spool::open(folder.path()).expect("a spool is made");
        let mut writer = SegmentWriter::new(&spool, SegmentSize::DEFAULT);
        let start = SegmentNumber::new(1).start(SegmentSize::DEFAULT);
        writer
            .begin(TimelineId::FIRST, start)
            .expect("a segment is made");
        Self { folder, writer }
    }

    /// Writes one step's WAL, synced in groups.
    fn step(&mut self, message: &[u8], group: usize) {
        let mut unsynced = 0;
        for _ in 0..STEP_BYTES / MESSAGE_BYTES {
            self.writer.write(message, &mut ()).expect("there is room");
            unsynced += message.len();
            if unsynced >= group {
                self.writer.sync(&mut ()).expect("the disk is healthy");
                unsynced = 0;
            }
        }
        self.sweep();
    }

    fn sweep(&self) {
        for entry in std::fs::read_dir(self.folder.path())
            .expect("the folder is there")
            .flatten()
        {
            if entry.file_name().len() == 24 {
                std::fs::remove_file(entry.path()).expect("a finished segment is removed");
            }
        }
    }
}

fn segment_write(c: &mut Criterion) {
    let message = input::wal(MESSAGE_BYTES);
    let mut group = c.benchmark_group("segment_write");
    group
        .throughput(Throughput::Bytes(STEP_BYTES as u64))
        .sample_size(10);
    for (name, bytes) in GROUPS {
        let mut target = Target::new();
        let per_step = ALLOCATOR.per_call(2, || target.step(&message, bytes));
        let per_segment = per_step * SegmentSize::DEFAULT.bytes() as f64 / STEP_BYTES as f64;
        println!(
            "{name}: {per_segment} allocations per segment, the bench's own sweeping included"
        );
        group.bench_function(BenchmarkId::from_parameter(name), |bencher| {
            bencher.iter(|| target.step(&message, bytes));
        });
    }
    group.finish();
}

criterion_group!(benches, segment_write);
criterion_main!(benches);
