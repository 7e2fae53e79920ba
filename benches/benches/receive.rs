//! Receiving end to end: WAL from a scripted server over loopback into a spool, in bytes per second, and how many
//! allocations a message costs.
//!
//! The spool is made under the system's temporary directory (`TMPDIR`), whose disk is measured with it.
#![allow(missing_docs)] // criterion's macros make public items.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use pgm_benches::CountingAllocator;
use pgm_proto::{Lsn, PostgresTransport, SlotPolicy, TimelineId, TransportOptions};
use pgm_storage::Cancel;
use pgm_tests::fake_server::{FakeServer, Script};
use pgm_wal::{DurableLsn, ReceiveObserver, ReceiveOptions, Receiver, Spool, StartHint};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator::new();

const SEGMENT_BYTES: u64 = 16 << 20;
/// So much WAL is received at each step: 16 segments.
const WAL_BYTES: u64 = 16 * SEGMENT_BYTES;
const START: Lsn = Lsn::new(SEGMENT_BYTES);

/// Stops the receiver when everything is durable.
struct StopAt {
    end: Lsn,
    cancel: Cancel,
}

impl ReceiveObserver for StopAt {
    fn durable(&mut self, lsn: DurableLsn) {
        if lsn.lsn() >= self.end {
            self.cancel.cancel();
        }
    }
}

fn server(message_bytes: usize, wal_bytes: u64) -> FakeServer {
    FakeServer::start(Script {
        timelines: vec![(TimelineId::FIRST, START + wal_bytes)],
        message_bytes,
        ..Script::default()
    })
}

/// Receives everything that the server has, into a new spool.
fn receive(server: &FakeServer, wal_bytes: u64) {
    let folder = tempfile::tempdir().expect("a temporary folder is made");
    let transport = PostgresTransport::new(TransportOptions {
        conninfo: server
            .conninfo()
            .parse()
            .expect("the kit's string is right"),
        slot: None,
        create_slot: SlotPolicy::Require,
    });
    let hint = StartHint {
        timeline: TimelineId::FIRST,
        lsn: START,
    };
    let options = ReceiveOptions {
        start_hint: Some(hint),
        ..ReceiveOptions::default()
    };
    let spool = Spool::open(folder.path()).expect("a spool is made");
    let cancel = Cancel::new();
    let mut stop = StopAt {
        end: START + wal_bytes,
        cancel: cancel.clone(),
    };
    let ended = Receiver::new(transport, spool, options).run(&cancel, &mut stop);
    ended.expect("everything is received");
}

/// Allocations of the whole process, the server's threads included, for each message more.
fn allocations_per_message(message_bytes: usize) -> f64 {
    let count = |wal_bytes: u64| {
        let server = server(message_bytes, wal_bytes);
        ALLOCATOR.per_call(1, || receive(&server, wal_bytes))
    };
    let messages = (WAL_BYTES - WAL_BYTES / 2) as f64 / message_bytes as f64;
    (count(WAL_BYTES) - count(WAL_BYTES / 2)) / messages
}

fn bench(c: &mut Criterion) {
    let mut group = c.benchmark_group("receive");
    group
        .throughput(Throughput::Bytes(WAL_BYTES))
        .sample_size(10);
    for message_bytes in [8 << 10, 128 << 10] {
        let per_message = allocations_per_message(message_bytes);
        println!(
            "{message_bytes} B messages: {per_message:.3} allocations per message, those for new segments included"
        );
        let server = server(message_bytes, WAL_BYTES);
        let id = BenchmarkId::new("loopback", format!("{} KiB messages", message_bytes >> 10));
        group.bench_function(id, |bencher| bencher.iter(|| receive(&server, WAL_BYTES)));
    }
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
