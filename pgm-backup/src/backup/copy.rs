//! The data directory into packs, and the manifests beside them.

use std::num::NonZeroUsize;

use pgm_proto::{BackupEnd, BaseBackup, BaseBackupEvent};
use pgm_storage::{Compression, FRAME_RAW_MAX, PackWriter};

use super::collect::Collector;
use super::feed::Feeder;
use super::pipeline::{self, PACK_BYTES, PackOptions};
use super::{BackupRequest, WORKERS_MAX};
use crate::catalog::ObjectChecksum;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::manifest::{
    Checksummed, MANIFEST_FORMAT, ManifestHeader, ManifestTotals, ManifestWriter, PackRecord,
};
use crate::repository::{Staging, layout};

/// Where the events of a BASE_BACKUP come from: a server, or a test's script.
pub(super) trait Source {
    /// The next event; after `End` there is none.
    fn next(&mut self) -> Result<BaseBackupEvent<'_>, pgm_proto::Error>;
}

impl Source for BaseBackup<'_> {
    fn next(&mut self) -> Result<BaseBackupEvent<'_>, pgm_proto::Error> {
        BaseBackup::next(self)
    }
}

/// What is announced before the first archive.
#[derive(Debug, Clone, Default)]
pub(super) struct Announced {
    pub(super) tablespaces: Vec<u32>,
    pub(super) total_bytes: Option<u64>,
}

/// What was copied.
#[derive(Debug)]
pub(super) struct Copied {
    pub(super) end: BackupEnd,
    pub(super) label_file: Vec<u8>,
    pub(super) packs: Vec<PackRecord>,
    pub(super) totals: ManifestTotals,
    pub(super) manifest: ObjectChecksum,
    pub(super) server_manifest: Option<ObjectChecksum>,
}

/// Reads a backup to its end and stores all of it.
pub(super) fn copy(
    cx: &Context,
    source: &mut impl Source,
    announced: &Announced,
    staging: &Staging,
    options: PackOptions,
) -> Result<Copied> {
    let header = ManifestHeader {
        format: MANIFEST_FORMAT,
        server: staging.server().clone(),
        label: staging.label(),
    };
    let manifest = ManifestWriter::new(staging.create_manifest()?, &header, options.compression)?;
    let collector = Collector::new(manifest);
    let mut server_manifest = ServerManifest {
        staging,
        compression: options.compression,
        open: None,
    };
    let ((end, label_file), packs) = pipeline::run(cx, staging, options, &collector, |exchange| {
        let Announced {
            tablespaces,
            total_bytes,
        } = announced;
        let mut feeder = Feeder::new(cx, exchange, &collector, tablespaces, *total_bytes);
        let end = read_events(cx, source, &mut feeder, &mut server_manifest)?;
        Ok((end, feeder.finish()?))
    })?;
    let (manifest, totals) = collector.finish(&packs)?;
    let server_manifest = server_manifest.finish()?;
    Ok(Copied {
        end,
        label_file,
        packs,
        totals,
        manifest,
        server_manifest,
    })
}

fn read_events(
    cx: &Context,
    source: &mut impl Source,
    feeder: &mut Feeder<'_>,
    server_manifest: &mut ServerManifest<'_>,
) -> Result<BackupEnd> {
    loop {
        cx.check_cancel()?;
        match source.next()? {
            BaseBackupEvent::Data(bytes) => feeder.data(bytes)?,
            BaseBackupEvent::Archive { tablespace } => feeder.begin_archive(tablespace)?,
            BaseBackupEvent::Manifest => {
                feeder.end_archive()?;
                server_manifest.begin()?;
            }
            BaseBackupEvent::ManifestData(bytes) => server_manifest.data(bytes)?,
            BaseBackupEvent::End(end) => return Ok(end),
        }
    }
}

/// The server's own manifest on its way into the object `pg_manifest`, verbatim: a pack whose frames are one stream.
struct ServerManifest<'a> {
    staging: &'a Staging,
    compression: Compression,
    open: Option<OpenManifest>,
}

struct OpenManifest {
    pack: PackWriter,
    checksum: std::sync::Arc<std::sync::atomic::AtomicU32>,
    raw: Vec<u8>,
}

impl ServerManifest<'_> {
    fn begin(&mut self) -> Result<()> {
        if self.open.is_some() {
            return Err(Error::BadStream {
                reason: "two manifests".into(),
            });
        }
        let (object, checksum) = Checksummed::around(self.staging.create_server_manifest()?);
        let pack = PackWriter::with_kind(object, self.compression, layout::SERVER_MANIFEST_PACK)?;
        self.open = Some(OpenManifest {
            pack,
            checksum,
            raw: Vec::with_capacity(FRAME_RAW_MAX),
        });
        Ok(())
    }

    fn data(&mut self, mut bytes: &[u8]) -> Result<()> {
        let Some(open) = &mut self.open else {
            return Err(Error::BadStream {
                reason: "manifest data without a manifest".into(),
            });
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

    fn finish(self) -> Result<Option<ObjectChecksum>> {
        let Some(mut open) = self.open else {
            return Ok(None);
        };
        if !open.raw.is_empty() {
            open.pack.append(&open.raw)?;
        }
        let size = open.pack.finish()?.size;
        let crc32c = open.checksum.load(std::sync::atomic::Ordering::Acquire);
        Ok(Some(ObjectChecksum { size, crc32c }))
    }
}

/// How `request` wants its packs.
pub(super) fn pack_options(request: &BackupRequest) -> PackOptions {
    let cores = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let most = NonZeroUsize::new(WORKERS_MAX).unwrap_or(NonZeroUsize::MIN);
    PackOptions {
        compression: request.compression,
        workers: request.workers.unwrap_or(cores).min(most),
        pack_bytes: PACK_BYTES,
    }
}
