//! In steady state a frame is made, put into a pack, read and checked without an allocation.
//!
//! One test in a program of its own: the allocator counts everything that the process does.
#![allow(unsafe_code)] // A global allocator can only be written with it.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering};

use pgm_storage::{
    Compression, FrameDecoder, FrameEncoder, MemoryStorage, ObjectPath, PackReader, PackWriter,
    Storage,
};

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: everything is handed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `realloc`.
        unsafe { System.realloc(pointer, layout, bytes) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// How many allocations `work` makes once it was done before.
fn allocations_when_warm(mut work: impl FnMut()) -> u64 {
    work();
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    for _ in 0..10 {
        work();
    }
    ALLOCATIONS.load(Ordering::Relaxed) - before
}

#[test]
fn a_frame_costs_no_allocation_once_warm() {
    let raw: Vec<u8> = (0..1_u32 << 18)
        .flat_map(|n| (n / 3).to_le_bytes())
        .collect();
    for compression in [
        Compression::NONE,
        Compression::ZSTD,
        Compression::LZ4,
        Compression::GZIP,
    ] {
        let mut encoder = FrameEncoder::new(compression).unwrap();
        let mut decoder = FrameDecoder::new().unwrap();
        let (mut frame, mut out) = (Vec::new(), Vec::new());
        let encoding = allocations_when_warm(|| {
            frame.clear();
            encoder.encode(&raw, &mut frame).unwrap();
        });
        let decoding = allocations_when_warm(|| {
            decoder.decode(&frame, &mut out).unwrap();
        });
        assert!(out == raw);
        assert_eq!(
            (encoding, decoding),
            (0, 0),
            "allocations of ten frames of {compression}"
        );

        let storage = MemoryStorage::new();
        let path = ObjectPath::parse("0001.pack").unwrap();
        let mut pack = PackWriter::new(storage.create(&path).unwrap(), compression).unwrap();
        for _ in 0..5 {
            pack.append(&raw).unwrap();
        }
        pack.finish().unwrap();
        let pack = PackReader::open(storage.open(&path).unwrap()).unwrap();
        let mut scratch = Vec::new();
        let reading = allocations_when_warm(|| {
            for location in pack.frames() {
                pack.read(location, &mut decoder, &mut scratch, &mut out)
                    .unwrap();
            }
        });
        assert_eq!(
            reading, 0,
            "allocations of reading fifty frames of {compression}"
        );
    }
}
