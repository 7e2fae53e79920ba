//! The data directory into packs, and the manifests beside them, in every target.

use std::num::NonZeroUsize;

use pgm_proto::{BackupEnd, BackupPages, BaseBackup, BaseBackupEvent};
use pgm_storage::{Cancel, FileFormat};

use super::archive;
use super::feed::Feeder;
use super::lane::{Lane, Stored};
use super::lanes::Lanes;
use super::pipeline::{self, Exchange, PackOptions};
use super::{BackupRequest, WORKERS_MAX};
use crate::context::Context;
use crate::error::Result;

/// A pack is closed once it has its share of the backup, but no fewer bytes than this: less would be many requests.
const PACK_BYTES_MIN: u64 = 16 << 20;
/// A pack is closed once it has this many bytes.
const PACK_BYTES_MAX: u64 = 128 << 20;
/// In so many packs a worker shall store its share.
const PACKS_WANTED: u64 = 16;

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
    /// How the archives are compressed.
    pub(super) archives: Option<FileFormat>,
    /// Which pages of relations come.
    pub(super) pages: BackupPages,
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

/// What was said beside the data.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) end: BackupEnd,
    pub(super) label_file: Vec<u8>,
    /// What pgm itself has to say of what was read.
    pub(super) warnings: Vec<String>,
    /// Pages that it found damaged.
    pub(super) damaged: Vec<String>,
}

/// Reads a backup from the server to its end and stores all of it.
pub(super) fn copy(
    cx: &Context,
    source: &mut impl Source,
    announced: &Announced,
    lanes: Lanes<Lane>,
    options: PackOptions,
    discard: &Cancel,
) -> Result<Copied> {
    copy_from(cx, lanes, options, discard, |exchange, lanes| {
        let mut feeder = Feeder::new(cx, exchange, lanes, announced);
        let end = read_events(cx, source, &mut feeder, lanes, announced.archives)?;
        let label_file = feeder.finish()?;
        Ok(Said {
            end,
            label_file,
            warnings: Vec::new(),
            damaged: Vec::new(),
        })
    })
}

/// Stores all that `read` reads.
pub(super) fn copy_from(
    cx: &Context,
    mut lanes: Lanes<Lane>,
    options: PackOptions,
    discard: &Cancel,
    read: impl FnOnce(&Exchange, &Lanes<Lane>) -> Result<Said>,
) -> Result<Copied> {
    let read = pipeline::run(cx, &lanes, options, discard, |exchange| {
        read(exchange, &lanes)
    });
    for (lane, error) in lanes.dropped() {
        lane.gave_up(error);
    }
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
    archives: Option<FileFormat>,
) -> Result<BackupEnd> {
    let mut after_archive = None;
    loop {
        cx.check_cancel()?;
        let event = match after_archive.take() {
            Some(event) => event,
            None => source.next()?,
        };
        match event {
            BaseBackupEvent::Data(bytes) => feeder.data(bytes)?,
            BaseBackupEvent::Archive { tablespace } => {
                feeder.begin_archive(tablespace)?;
                if let Some(format) = archives {
                    after_archive = Some(archive::read_compressed(cx, source, format, feeder)?);
                }
            }
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

/// How `request` wants the packs of so many targets, for so much data.
pub(super) fn pack_options(
    request: &BackupRequest,
    targets: usize,
    total_bytes: Option<u64>,
) -> PackOptions {
    let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    // While a worker waits for one target, another one can serve the next.
    let wanted = request
        .workers
        .map_or(cores.max(targets.min(2)), NonZeroUsize::get);
    // Each worker has a pack open in each target, and what is on its way to a far store is in memory.
    let most = WORKERS_MAX / targets.max(1);
    let workers = NonZeroUsize::new(wanted.min(most)).unwrap_or(NonZeroUsize::MIN);
    PackOptions {
        workers,
        pack_bytes: pack_bytes(workers, total_bytes),
    }
}

/// A backup that is killed loses the packs that were open: little, also of a small one.
fn pack_bytes(workers: NonZeroUsize, total_bytes: Option<u64>) -> u64 {
    let packs = PACKS_WANTED * workers.get() as u64;
    let share = total_bytes.map_or(PACK_BYTES_MAX, |bytes| bytes / packs);
    share.clamp(PACK_BYTES_MIN, PACK_BYTES_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pack_is_a_small_share_of_the_backup_and_never_tiny_nor_huge() {
        let two = NonZeroUsize::new(2).unwrap();
        for (total, wanted) in [
            (None, PACK_BYTES_MAX),
            (Some(0), PACK_BYTES_MIN),
            (Some(1 << 30), (1 << 30) / 32),
            (Some(u64::MAX), PACK_BYTES_MAX),
        ] {
            assert_eq!(pack_bytes(two, total), wanted, "{total:?}");
        }
    }
}
