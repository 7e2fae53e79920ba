//! Frames: encoding and decoding by codec, in raw bytes per second, on three kinds of input.
//!
//! Before the measurement it prints how far each input shrinks and how many allocations a frame costs once warm.
#![allow(missing_docs)] // criterion's macros make public items.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use pgm_benches::{CountingAllocator, input};
use pgm_storage::{Compression, FRAME_RAW_MAX, FrameDecoder, FrameEncoder};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator::new();

const COMPRESSIONS: [Compression; 4] = [
    Compression::NONE,
    Compression::ZSTD,
    Compression::LZ4,
    Compression::GZIP,
];

fn inputs() -> [(&'static str, Vec<u8>); 3] {
    [
        ("wal", input::wal(FRAME_RAW_MAX)),
        ("compressible", input::compressible(FRAME_RAW_MAX)),
        ("incompressible", input::incompressible(FRAME_RAW_MAX)),
    ]
}

fn encoded(compression: Compression, raw: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    let mut encoder = FrameEncoder::new(compression).expect("a compressor is made");
    encoder
        .encode(raw, &mut frame)
        .expect("a frame of the largest size is encoded");
    frame
}

/// Says what the figures below cannot: ratio and allocations.
fn report(_: &mut Criterion) {
    println!("codec   input           ratio  allocations per frame: encode  decode");
    for compression in COMPRESSIONS {
        for (name, raw) in inputs() {
            let frame = encoded(compression, &raw);
            let ratio = raw.len() as f64 / frame.len() as f64;
            let mut encoder = FrameEncoder::new(compression).expect("a compressor is made");
            let mut decoder = FrameDecoder::new().expect("a decompressor is made");
            let mut out = Vec::new();
            let encode = ALLOCATOR.per_call(10, || {
                out.clear();
                encoder
                    .encode(&raw, &mut out)
                    .expect("it was encoded before");
            });
            let decode = ALLOCATOR.per_call(10, || {
                decoder
                    .decode(&frame, &mut out)
                    .expect("it was encoded just now");
            });
            println!("{compression:<7} {name:<14} {ratio:>6.2} {encode:>30} {decode:>7}");
        }
    }
}

fn encode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("frame/encode");
    group.throughput(Throughput::Bytes(FRAME_RAW_MAX as u64));
    for (name, raw) in inputs() {
        for compression in COMPRESSIONS {
            let mut encoder = FrameEncoder::new(compression).expect("a compressor is made");
            let mut out = Vec::new();
            group.bench_function(BenchmarkId::new(compression.to_string(), name), |bencher| {
                bencher.iter(|| {
                    out.clear();
                    encoder
                        .encode(black_box(&raw), &mut out)
                        .expect("a frame is encoded")
                });
            });
        }
    }
}

fn decode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("frame/decode");
    group.throughput(Throughput::Bytes(FRAME_RAW_MAX as u64));
    for (name, raw) in inputs() {
        for compression in COMPRESSIONS {
            let frame = encoded(compression, &raw);
            let mut decoder = FrameDecoder::new().expect("a decompressor is made");
            let mut out = Vec::new();
            group.bench_function(BenchmarkId::new(compression.to_string(), name), |bencher| {
                bencher.iter(|| {
                    decoder
                        .decode(black_box(&frame), &mut out)
                        .expect("a frame is decoded")
                });
            });
        }
    }
}

criterion_group! {
    name = frames;
    config = Criterion::default().sample_size(20);
    targets = report, encode, decode
}
criterion_main!(frames);
