//! Failing system calls, for tests alone: a test arms a fault, and the next call of that kind on its thread fails.

use std::cell::Cell;
use std::io;

/// A kind of system call that can be made to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// `fdatasync` of a segment.
    Sync,
    /// Writing into a segment.
    Write,
    /// Preallocating a segment.
    Allocate,
}

thread_local! {
    static ARMED: Cell<Option<(Fault, u32, rustix::io::Errno)>> = const { Cell::new(None) };
}

/// Makes call number `nth` (from 0) of this kind fail with `errno`, once.
pub(crate) fn arm(fault: Fault, nth: u32, errno: rustix::io::Errno) {
    ARMED.set(Some((fault, nth, errno)));
}

/// Fails if this call is the armed one.
pub(crate) fn strike(fault: Fault) -> io::Result<()> {
    match ARMED.get() {
        Some((armed, 0, errno)) if armed == fault => {
            ARMED.set(None);
            Err(errno.into())
        }
        Some((armed, nth, errno)) if armed == fault => {
            ARMED.set(Some((armed, nth - 1, errno)));
            Ok(())
        }
        _ => Ok(()),
    }
}
