//! An allocator that ends the program when one allocation is larger than anything that the input could justify.

use std::alloc::{GlobalAlloc, Layout, System};

/// libFuzzer's inputs have at most 4 KiB here, and a buffer for a payload grows in steps of 64 KiB.
const BYTES_MAX: usize = 1 << 20;

/// The system's allocator, with a bound on each allocation.
#[derive(Debug)]
pub struct BoundedAllocator;

fn check(bytes: usize) {
    if bytes > BYTES_MAX {
        // No panic: that would allocate.
        std::process::abort();
    }
}

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for BoundedAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        check(layout.size());
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: `block` came from the system's allocator, with this layout.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        check(bytes);
        // SAFETY: as with `dealloc`.
        unsafe { System.realloc(block, layout, bytes) }
    }
}
