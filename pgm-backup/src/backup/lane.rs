//! What a backup writes into one of its targets: packs, and the manifests beside them.
//!
//! Feeder and workers share it. It takes everything that the data directory consists of; who fills the packs is the
//! `pipeline`.

use std::sync::{Mutex, MutexGuard, PoisonError};

use pgm_storage::Compression;

use super::collect::Collector;
use super::server_manifest::ServerManifest;
use crate::catalog::ObjectChecksum;
use crate::error::{Error, Result};
use crate::manifest::{
    MANIFEST_FORMAT, ManifestHeader, ManifestTotals, ManifestWriter, PackRecord,
};
use crate::repository::Staging;

/// A target's share of a copy.
#[derive(Debug)]
pub(super) struct Lane {
    compression: Compression,
    pub(super) collector: Collector,
    pub(super) packs: PackTable,
    server_manifest: Mutex<ServerManifest>,
    /// Last, so that the writers are gone when it is.
    staging: Staging,
}

/// All data of a backup in one target.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) compression: Compression,
    pub(super) staging: Staging,
    pub(super) packs: Vec<PackRecord>,
    pub(super) totals: ManifestTotals,
    pub(super) manifest: ObjectChecksum,
    pub(super) server_manifest: Option<ObjectChecksum>,
}

/// The manifest's table of packs as it grows: a pack has its index there from its first frame on.
#[derive(Debug, Default)]
pub(super) struct PackTable {
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    /// `None` for a pack that is being written.
    packs: Vec<Option<PackRecord>>,
    next_number: u32,
}

/// A pack that is being written: its place in the table, and its number among the backup's own packs.
#[derive(Debug, Clone, Copy)]
pub(super) struct PackSlot {
    pub(super) index: u32,
    pub(super) number: u32,
}

impl Lane {
    pub(super) fn begin(staging: Staging, compression: Compression) -> Result<Self> {
        let header = ManifestHeader {
            format: MANIFEST_FORMAT,
            server: staging.server().clone(),
            label: staging.label(),
        };
        let object = staging.create_manifest()?;
        let manifest = ManifestWriter::new(object, &header, compression)?;
        Ok(Self {
            compression,
            staging,
            collector: Collector::new(manifest),
            packs: PackTable::default(),
            server_manifest: Mutex::new(ServerManifest::new(compression)),
        })
    }

    pub(super) fn compression(&self) -> Compression {
        self.compression
    }

    pub(super) fn staging(&self) -> &Staging {
        &self.staging
    }

    pub(super) fn begin_server_manifest(&self) -> Result<()> {
        lock(&self.server_manifest).begin(&self.staging)
    }

    pub(super) fn server_manifest_data(&self, bytes: &[u8]) -> Result<()> {
        lock(&self.server_manifest).data(bytes)
    }

    /// Writes the ends of the manifests.
    pub(super) fn finish(self) -> Result<Stored> {
        let packs = self.packs.finish()?;
        let (manifest, totals) = self.collector.finish(&packs)?;
        let server_manifest = self
            .server_manifest
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner)
            .finish()?;
        Ok(Stored {
            compression: self.compression,
            staging: self.staging,
            packs,
            totals,
            manifest,
            server_manifest,
        })
    }
}

impl PackTable {
    /// A place for a new pack of the backup's own.
    pub(super) fn begin(&self) -> PackSlot {
        let mut table = lock(&self.table);
        let slot = PackSlot {
            index: table.packs.len() as u32,
            number: table.next_number,
        };
        table.packs.push(None);
        table.next_number += 1;
        slot
    }

    /// Notes what the pack in `slot` has become.
    pub(super) fn finished(&self, slot: PackSlot, record: PackRecord) {
        if let Some(place) = lock(&self.table).packs.get_mut(slot.index as usize) {
            *place = Some(record);
        }
    }

    fn finish(self) -> Result<Vec<PackRecord>> {
        let table = self.table.into_inner();
        let packs = table.unwrap_or_else(PoisonError::into_inner).packs;
        let packs: Option<Vec<PackRecord>> = packs.into_iter().collect();
        // Extents that point nowhere must never be written down, whatever went wrong here.
        packs.ok_or_else(|| Error::BadStream {
            reason: "a pack was not finished".into(),
        })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
