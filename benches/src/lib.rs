//! pgm's benchmarks: WAL throughput first. Here is what they share; `cargo bench -p pgm-benches` runs them.

mod counting_allocator;
pub mod input;

pub use counting_allocator::CountingAllocator;
