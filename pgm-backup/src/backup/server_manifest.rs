//! The server's own manifest on its way into the object `pg_manifest`, verbatim: a pack whose frames are one stream.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use pgm_storage::{Compression, FRAME_RAW_MAX, PackWriter};

use crate::catalog::ObjectChecksum;
use crate::error::{Error, Result};
use crate::manifest::Checksummed;
use crate::repository::{Staging, layout};

/// Takes the manifest as it comes; there need not be one.
#[derive(Debug)]
pub(super) struct ServerManifest {
    compression: Compression,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    pack: PackWriter,
    checksum: Arc<AtomicU32>,
    raw: Vec<u8>,
}

impl ServerManifest {
    pub(super) fn new(compression: Compression) -> Self {
        Self {
            compression,
            open: None,
        }
    }

    pub(super) fn begin(&mut self, staging: &Staging) -> Result<()> {
        if self.open.is_some() {
            return Err(bad("two manifests"));
        }
        let (object, checksum) = Checksummed::around(staging.create_server_manifest()?);
        let pack = PackWriter::with_kind(object, self.compression, layout::SERVER_MANIFEST_PACK)?;
        self.open = Some(Open {
            pack,
            checksum,
            raw: Vec::with_capacity(FRAME_RAW_MAX),
        });
        Ok(())
    }

    pub(super) fn data(&mut self, mut bytes: &[u8]) -> Result<()> {
        let Some(open) = &mut self.open else {
            return Err(bad("manifest data without a manifest"));
        };
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(FRAME_RAW_MAX - open.raw.len()));
            open.raw.extend_from_slice(now);
            if open.raw.len() == FRAME_RAW_MAX {
                open.pack.append(&open.raw)?;
                open.raw.clear();
            }
            bytes = later;
        }
        Ok(())
    }

    pub(super) fn finish(self) -> Result<Option<ObjectChecksum>> {
        let Some(mut open) = self.open else {
            return Ok(None);
        };
        if !open.raw.is_empty() {
            open.pack.append(&open.raw)?;
        }
        let size = open.pack.finish()?.size;
        let crc32c = open.checksum.load(Ordering::Acquire);
        Ok(Some(ObjectChecksum { size, crc32c }))
    }
}

fn bad(reason: &str) -> Error {
    Error::BadStream {
        reason: reason.into(),
    }
}
