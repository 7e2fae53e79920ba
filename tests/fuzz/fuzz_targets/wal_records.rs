//! Records of the write-ahead log.
#![no_main]

use pgm_fuzz::bounded_allocator::BoundedAllocator;

#[global_allocator]
static ALLOCATOR: BoundedAllocator = BoundedAllocator;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| pgm_fuzz::entry::wal_records(bytes));
