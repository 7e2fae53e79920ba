//! The login of PostgreSQL's clients, before anybody is believed.
#![no_main]

use pgm_fuzz::bounded_allocator::BoundedAllocator;

#[global_allocator]
static ALLOCATOR: BoundedAllocator = BoundedAllocator;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| pgm_fuzz::entry::handshake(bytes));
