//! The archive on both engines, with damage, branches and failures.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use pgm_proto::{Lsn, SystemId, TimelineId};
use pgm_storage::{
    Compression, LocalStorage, MemoryStorage, ObjectMeta, ObjectPath, ObjectReader, ObjectWriter,
    PutMode, Space, Storage, StorageError,
};

use super::*;
use crate::record::fixture::{SIZE, Wal, timeline};
use crate::record::{RecordReader, TransactionEnd};
use crate::{SegmentName, SegmentNumber, SpoolIdentity, WalFileName};

mod ahead;
mod archiving;
mod fetching;
mod indexing;
mod pruning;
mod storing;

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn memory() -> (Arc<dyn Storage>, Archive) {
    let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
    (
        storage.clone(),
        Archive::new(storage, "main".parse().unwrap()),
    )
}

fn spool(folder: &Path) -> Spool {
    let spool = Spool::open(folder).unwrap();
    let identity = SpoolIdentity {
        system_id: SystemId::new(7),
        segment_size: SIZE,
    };
    spool.adopt(identity).unwrap();
    spool
}

fn name(timeline: TimelineId, number: u64) -> SegmentName {
    SegmentName::new(timeline, SegmentNumber::new(number))
}

fn start(number: u64) -> Lsn {
    Lsn::new(number * SIZE.bytes())
}

/// Segments 3 and 4 full, 5 begun.
fn wal() -> Wal {
    let mut wal = Wal::new(3, timeline(1));
    wal.commit(1, 10);
    wal.fill_segment();
    wal.commit(2, 20);
    wal.fill_segment();
    wal.commit(3, 30);
    wal
}

/// Writes `bytes` to a file and archives it as the segment `name`.
fn store(archive: &Archive, name: SegmentName, bytes: &[u8]) -> Result<Stored, ArchiveError> {
    let folder = folder();
    let path = folder.path().join(name.file_name(SIZE));
    std::fs::write(&path, bytes).unwrap();
    archive.store_segment(&path, name, SIZE, Compression::ZSTD)
}

fn store_partial(
    archive: &Archive,
    name: SegmentName,
    bytes: &[u8],
) -> Result<Stored, ArchiveError> {
    let folder = folder();
    let path = folder
        .path()
        .join(WalFileName::Partial(name).file_name(SIZE));
    std::fs::write(&path, bytes).unwrap();
    archive.store_partial(&path, name, SIZE, Compression::ZSTD)
}

fn objects(storage: &dyn Storage) -> Vec<String> {
    let mut all = Vec::new();
    storage
        .list(&ObjectPath::root(), &mut |meta| {
            all.push(meta.path.to_string());
            ControlFlow::Continue(())
        })
        .unwrap();
    all
}
