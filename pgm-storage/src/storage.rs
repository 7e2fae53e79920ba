//! The contract of every place where bytes rest.
//!
//! An engine keeps immutable objects under checked paths. What the documentation of [`Storage`] says is what callers
//! rely on and what [`crate::conformance`] checks on every engine; an engine adds nothing a caller may depend on.
//!
//! Not here: directories as things of their own (a folder exists as long as objects are in it), partial updates,
//! locks, and knowledge of what the bytes mean.

use std::fmt::Debug;
use std::io::Write;
use std::ops::ControlFlow;
use std::time::SystemTime;

use crate::error::Result;
use crate::path::ObjectPath;

/// A place where objects rest.
///
/// **Atomicity.** A reader sees an object whole or not at all: never a part of one, never a mixture of an old and a new
/// one. An object that is being written appears in no answer of any method until its writer's
/// [`finish`](ObjectWriter::finish) (or `put`) has done its work; if that fails, or the writer is dropped, or its
/// process dies, it never appears.
///
/// **Durability.** When `finish` or `put` returns `Ok`, the object survives a power cut: its bytes, its name and every
/// folder above it are on stable storage. It may become visible a moment *before* that, so a reader must not take what
/// it sees for a promise of durability; the writer's `Ok` is that promise. After `delete` returns, the object is gone
/// also after a power cut.
///
/// **Failed syncs.** If anything fails on the way, above all an fsync, the object is not written: what was written of
/// it is discarded, and nothing is tried again on the same file. The caller may start over with a new writer.
///
/// **Put-if-absent.** Of any number of concurrent creations of one path, in one process or many, exactly one succeeds;
/// the others get [`AlreadyExists`](crate::StorageError::AlreadyExists) at the latest from `finish`, and the winner's
/// object is untouched.
///
/// **Readers.** A reader that was opened keeps reading the object it opened, also while that path is replaced or
/// deleted. Where the store cannot keep an object of more than 64 KiB that is gone, reading it fails; a reader never gives
/// bytes of another object.
///
/// **Listing.** Objects come in the order of their paths' text. An object that exists from before a listing begins
/// until after it ended is listed exactly once; one that appears or vanishes meanwhile may or may not be. A listing that
/// cannot be complete is an error, so the absence of a path from an `Ok` listing means that it was not there.
///
/// **Folders.** An object and a folder never share a path: creating `a/b` where `a` is an object fails. Engines whose
/// folders are only prefixes of keys do not notice, so nobody relies on that failure.
///
/// **Networks.** A store across a network may carry out a request whose answer is lost. A writer then looks whether the
/// object is its own; only if that fails as well does it report an error for an object that may be there. Whoever
/// starts over gets [`AlreadyExists`](crate::StorageError::AlreadyExists) then.
pub trait Storage: Debug + Send + Sync {
    /// Begins a new object at `path`, streamed; fails if one is there already, now or in
    /// [`finish`](ObjectWriter::finish).
    fn create(&self, path: &ObjectPath) -> Result<Box<dyn ObjectWriter>>;

    /// Writes a whole small object, durably, before it returns.
    fn put(&self, path: &ObjectPath, bytes: &[u8], mode: PutMode) -> Result<()>;

    /// Writes a whole small object that only matters to processes that run now, such as a lock, or that can be made anew: when the machine
    /// that has the storage dies, it may be gone, or be the one that was there before. What of it is ever seen is whole. The same as [`put`](Self::put) unless that costs
    /// more.
    fn put_transient(&self, path: &ObjectPath, bytes: &[u8], mode: PutMode) -> Result<()> {
        self.put(path, bytes, mode)
    }

    /// Opens the object at `path` for reads at any place.
    fn open(&self, path: &ObjectPath) -> Result<Box<dyn ObjectReader>>;

    /// The bytes of a small object; [`TooLarge`](crate::StorageError::TooLarge) if there are more than `bytes_max`.
    fn get(&self, path: &ObjectPath, bytes_max: u64) -> Result<Vec<u8>>;

    /// Size and time of the object at `path`.
    fn head(&self, path: &ObjectPath) -> Result<ObjectMeta>;

    /// Gives every object below the folder `prefix`, however deep, to `visit`, in the order of their paths, until it
    /// breaks. A folder that does not exist has no objects; an object named exactly `prefix` is not below it.
    fn list(
        &self,
        prefix: &ObjectPath,
        visit: &mut dyn FnMut(ObjectMeta) -> ControlFlow<()>,
    ) -> Result<()>;

    /// The names of the folders directly in `prefix`, sorted. Every folder with an object in it is named; one that has
    /// just become empty may be.
    fn folders(&self, prefix: &ObjectPath) -> Result<Vec<String>>;

    /// Removes the object at `path`; an absent one is fine.
    fn delete(&self, path: &ObjectPath) -> Result<()>;

    /// Removes an object that only matters to processes that run now: when the machine that has the storage dies, it may come back.
    fn delete_transient(&self, path: &ObjectPath) -> Result<()> {
        self.delete(path)
    }

    /// Removes what writers that died left below `prefix`, and gives how many leftovers that were. A live writer's
    /// work, in this process or another one on this host, is never touched.
    fn sweep(&self, prefix: &ObjectPath) -> Result<u64>;

    /// Free and total space, where that means something.
    fn space(&self) -> Result<Option<Space>>;

    /// The storage in a person's words, such as `local directory /backup`.
    fn describe(&self) -> String;
}

/// An object being written. Dropped without [`finish`](Self::finish), it leaves nothing.
///
/// Errors of `write` carry a [`StorageError`](crate::StorageError) inside; [`StorageError::from_io`] gets it out.
/// After a failed write or flush the writer is spent: `finish` fails.
///
/// [`StorageError::from_io`]: crate::StorageError::from_io
pub trait ObjectWriter: Write + Send {
    /// The place in a person's words, for error messages.
    fn place(&self) -> String;

    /// Makes the object durable and visible, or fails and leaves nothing.
    fn finish(self: Box<Self>) -> Result<ObjectMeta>;
}

/// An opened object; reads at any place, from any thread.
pub trait ObjectReader: Send + Sync {
    /// The place in a person's words, for error messages.
    fn place(&self) -> String;

    /// The object's size in bytes.
    fn size(&self) -> u64;

    /// Fills `buf` from `offset`; [`Damaged`](crate::StorageError::Damaged) when the object ends before.
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> Result<()>;
}

/// What [`Storage::put`] does when an object is already there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutMode {
    /// Fails and leaves it.
    Create,
    /// Replaces it in one step: readers see the old or the new one.
    Replace,
}

/// What is known about an object without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectMeta {
    /// Where it rests.
    pub path: ObjectPath,
    /// Its bytes.
    pub size: u64,
    /// When it was written, by the storage's clock; to the second, and give or take the time of the request, where that is
    /// all the storage tells.
    pub modified: SystemTime,
}

/// Room on the medium.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Bytes that this process may still write.
    pub free: u64,
    /// Bytes of the whole medium.
    pub total: u64,
}
