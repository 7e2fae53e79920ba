//! The data directory into packs, and the manifests beside them, in every target.

use std::num::NonZeroUsize;

use pgm_proto::{BackupEnd, BaseBackup, BaseBackupEvent};

use super::feed::Feeder;
use super::lane::{Lane, Stored};
use super::lanes::Lanes;
use super::pipeline::{self, PACK_BYTES, PackOptions};
use super::{BackupRequest, WORKERS_MAX};
use crate::context::Context;
use crate::error::Result;

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
    pub(super) said: Said,
    pub(super) stored: Lanes<Stored>,
    /// What the targets that failed had come to. Letting go of it may take until their storages give up, so that comes
    /// last.
    pub(super) fallen: Vec<Lane>,
}

/// What the stream said beside the data.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) end: BackupEnd,
    pub(super) label_file: Vec<u8>,
}

/// Reads a backup to its end and stores all of it.
pub(super) fn copy(
    cx: &Context,
    source: &mut impl Source,
    announced: &Announced,
    mut lanes: Lanes<Lane>,
    options: PackOptions,
) -> Result<Copied> {
    let read = pipeline::run(cx, &lanes, options, |exchange| {
        let Announced {
            tablespaces,
            total_bytes,
        } = announced;
        let mut feeder = Feeder::new(cx, exchange, &lanes, tablespaces, *total_bytes);
        let end = read_events(cx, source, &mut feeder, &lanes)?;
        let label_file = feeder.finish()?;
        Ok(Said { end, label_file })
    });
    // Without a target everything stops, and what stopped it is the error.
    if !lanes.is_any_open() {
        return Err(lanes.into_first_error());
    }
    let said = read?;
    let fallen = lanes.take_dropped();
    let stored = lanes.step(Lane::finish)?;
    Ok(Copied {
        said,
        stored,
        fallen,
    })
}

fn read_events(
    cx: &Context,
    source: &mut impl Source,
    feeder: &mut Feeder<'_>,
    lanes: &Lanes<Lane>,
) -> Result<BackupEnd> {
    loop {
        cx.check_cancel()?;
        match source.next()? {
            BaseBackupEvent::Data(bytes) => feeder.data(bytes)?,
            BaseBackupEvent::Archive { tablespace } => feeder.begin_archive(tablespace)?,
            BaseBackupEvent::Manifest => {
                feeder.end_archive()?;
                lanes.each(Lane::begin_server_manifest)?;
            }
            BaseBackupEvent::ManifestData(bytes) => {
                lanes.each(|lane| lane.server_manifest_data(bytes))?;
            }
            BaseBackupEvent::End(end) => return Ok(end),
        }
    }
}

/// How `request` wants the packs of so many targets.
pub(super) fn pack_options(request: &BackupRequest, targets: usize) -> PackOptions {
    let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    // While a worker waits for one target, another one can serve the next.
    let wanted = request
        .workers
        .map_or(cores.max(targets.min(2)), NonZeroUsize::get);
    // Each worker has a pack open in each target, and what is on its way to a far store is in memory.
    let most = WORKERS_MAX / targets.max(1);
    PackOptions {
        workers: NonZeroUsize::new(wanted.min(most)).unwrap_or(NonZeroUsize::MIN),
        pack_bytes: PACK_BYTES,
    }
}
