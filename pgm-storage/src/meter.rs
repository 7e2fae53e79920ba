//! Counting what a store is asked: requests, failures and bytes by kind of request.
//!
//! A request is what goes over the network and may be billed: one HTTP request, one message of SFTP. An operation of
//! [`Storage`](crate::Storage) may need none, one or many. Counting never waits.

use std::sync::atomic::{AtomicU64, Ordering};

/// A kind of request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Operation {
    /// Writing a whole object.
    Put,
    /// Beginning, completing or giving up an object in parts.
    Multipart,
    /// Writing a part of an object.
    PutPart,
    /// Reading an object or a part of it.
    Get,
    /// Asking for size and time.
    Head,
    /// Listing.
    List,
    /// Removing.
    Delete,
    /// Renaming or copying at the store.
    Copy,
    /// Anything else: tokens, sessions.
    Other,
}

impl Operation {
    /// Every kind.
    pub const ALL: [Self; 9] = [
        Self::Put,
        Self::Multipart,
        Self::PutPart,
        Self::Get,
        Self::Head,
        Self::List,
        Self::Delete,
        Self::Copy,
        Self::Other,
    ];

    /// One word, such as `get`, for labels.
    pub fn name(self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::Multipart => "multipart",
            Self::PutPart => "put_part",
            Self::Get => "get",
            Self::Head => "head",
            Self::List => "list",
            Self::Delete => "delete",
            Self::Copy => "copy",
            Self::Other => "other",
        }
    }
}

/// The counts of one kind of request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OperationCount {
    /// The kind.
    pub operation: Operation,
    /// Requests made, repeated ones each time.
    pub requests: u64,
    /// Of these, the ones that were not answered, or with a failure of the store (5xx, too many requests).
    pub failures: u64,
    /// Bytes of content that were sent.
    pub bytes_sent: u64,
    /// Bytes of content that were received.
    pub bytes_received: u64,
}

/// Counters that a store and whoever watches it share.
#[derive(Debug, Default)]
pub struct Meter([Counter; Operation::ALL.len()]);

#[derive(Debug, Default)]
struct Counter {
    requests: AtomicU64,
    failures: AtomicU64,
    bytes_sent: AtomicU64,
    bytes_received: AtomicU64,
}

impl Meter {
    /// All zero.
    pub fn new() -> Self {
        Self::default()
    }

    /// The counts of every kind of request.
    pub fn counts(&self) -> [OperationCount; Operation::ALL.len()] {
        Operation::ALL.map(|operation| {
            let counter = self.counter(operation);
            OperationCount {
                operation,
                requests: counter.requests.load(Ordering::Relaxed),
                failures: counter.failures.load(Ordering::Relaxed),
                bytes_sent: counter.bytes_sent.load(Ordering::Relaxed),
                bytes_received: counter.bytes_received.load(Ordering::Relaxed),
            }
        })
    }

    /// The requests of every kind together.
    pub fn requests(&self) -> u64 {
        self.counts().iter().map(|count| count.requests).sum()
    }

    fn counter(&self, operation: Operation) -> &Counter {
        &self.0[operation as usize]
    }

    #[cfg(any(feature = "cloud", feature = "sftp"))]
    pub(crate) fn request(&self, operation: Operation, bytes_sent: u64) {
        let counter = self.counter(operation);
        counter.requests.fetch_add(1, Ordering::Relaxed);
        counter.bytes_sent.fetch_add(bytes_sent, Ordering::Relaxed);
    }

    #[cfg(any(feature = "cloud", feature = "sftp"))]
    pub(crate) fn received(&self, operation: Operation, bytes: u64) {
        self.counter(operation)
            .bytes_received
            .fetch_add(bytes, Ordering::Relaxed);
    }

    #[cfg(any(feature = "cloud", feature = "sftp"))]
    pub(crate) fn failed(&self, operation: Operation) {
        self.counter(operation)
            .failures
            .fetch_add(1, Ordering::Relaxed);
    }
}
