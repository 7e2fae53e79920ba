//! An allocator that counts: what a steady state must not do, shown.
//!
//! It hands everything on to the system's allocator. Memory that C libraries take for themselves is not seen.
#![allow(unsafe_code)] // A global allocator can only be written with it.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering};

/// The system's allocator with a counter. Make it the program's:
///
/// ```
/// #[global_allocator]
/// static ALLOCATOR: pgm_benches::CountingAllocator = pgm_benches::CountingAllocator::new();
///
/// let before = ALLOCATOR.allocations();
/// let boxed = Box::new(7);
/// assert!(ALLOCATOR.allocations() > before);
/// # drop(boxed);
/// ```
#[derive(Debug, Default)]
pub struct CountingAllocator {
    allocations: AtomicU64,
}

impl CountingAllocator {
    /// An allocator that has counted nothing yet.
    pub const fn new() -> Self {
        Self {
            allocations: AtomicU64::new(0),
        }
    }

    /// Allocations and reallocations of all threads since the program began.
    pub fn allocations(&self) -> u64 {
        self.allocations.load(Ordering::Relaxed)
    }

    /// Allocations per call of `work`, on average over `calls` calls after one that warms up. All threads count.
    pub fn per_call(&self, calls: u32, mut work: impl FnMut()) -> f64 {
        work();
        let before = self.allocations();
        for _ in 0..calls {
            work();
        }
        (self.allocations() - before) as f64 / f64::from(calls)
    }
}

// SAFETY: everything is handed on to the system's allocator as it came; counting touches no memory of the caller.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.allocations.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        self.allocations.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `alloc_zeroed`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        self.allocations.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `realloc`.
        unsafe { System.realloc(pointer, layout, bytes) }
    }
}
