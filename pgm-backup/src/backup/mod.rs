//! Taking a backup.
//!
//! [`backup()`] is the whole procedure, in order. It reads the server once and stores in any number of repositories; what
//! it has come to in each of them is a lane (`lanes`). Readers see nothing of a backup before its last step. What is left of
//! one that was interrupted is finished packs: the next backup goes on from them (`resume`), and then they are swept. The
//! hot path is `feed` (tar to frames) and `pipeline` (frames to packs); memory is a fixed number of 1 MiB buffers and the
//! files whose bytes are on their way.

mod archive;
mod await_wal;
mod basis;
mod changed;
mod collect;
mod compact;
mod copy;
mod feed;
mod files;
mod fill;
mod lane;
mod lanes;
mod native;
mod open_pack;
mod page;
mod parent;
mod pipeline;
mod publish;
mod read;
mod resume;
#[cfg(test)]
mod script;
mod server_manifest;
mod source;
mod start;
mod store_again;
mod tar;
mod target;
mod worker;

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use pgm_proto::{BackupPages, Checkpoint, Client, ConnInfo, ServerCompression, ServerName};
use pgm_storage::Cancel;

use crate::catalog::{self, BackupEntry, BackupWal};
use crate::context::{Context, Phase};
use crate::error::Result;
use crate::label::BackupLabel;
use crate::repository::frame_list::FrameHasher;
use crate::repository::{Lock, Purpose, ServerFacts, Unfinished};

use await_wal::{Unpublished, publish_when_durable};
use copy::{Copied, copy, pack_options};
use lane::{BuiltOn, Lane};
use lanes::Lanes;
use native::WhyNot;
use publish::Beginning;
use resume::{FRAMES_MAX, Reusable};
use start::{Now, Started, identify, start};

pub use await_wal::{Coverage, NoArchive, WalCoverage};
pub use compact::Compaction;
pub use resume::Resume;
pub use source::BackupSource;
pub use target::{BackupOutcome, BackupTarget};

/// How a backup is to be taken.
#[derive(Debug, Clone)]
pub struct BackupRequest {
    /// The label given to the server, which it writes to its log and into `backup_label`.
    pub server_label: String,
    /// Whether the server's checkpoint is hurried.
    pub checkpoint: Checkpoint,
    /// Threads that compress; `None` for one per core, at most [`WORKERS_MAX`] divided by the number of targets.
    pub workers: Option<NonZeroUsize>,
    /// Where the WAL shall come from.
    pub wal: BackupWal,
    /// The server sends at most this many KiB per second.
    pub max_rate_kib: Option<u32>,
    /// How the server compresses what it sends. Where it cannot, it sends everything as it is, and the catalog entry says so.
    pub server_compression: ServerCompression,
    /// Whether pages that have not changed since the backup before are stored again.
    pub incremental: Incremental,
    /// How the data is read.
    pub source: BackupSource,
    /// How an ordinary session is opened, to the same server; without it, its files are not read where they are.
    pub sql: Option<ConnInfo>,
    /// When an incremental one stores again what it needs of an old pack.
    pub compaction: Compaction,
    /// Whether it goes on from a backup that was interrupted.
    pub resume: Resume,
    /// Set when nothing of the backup shall be kept for the next one if it does not come to its end. Being cancelled alone
    /// keeps what is finished.
    pub discard: Cancel,
    /// How long the end of the WAL is waited for after the server has ended the backup.
    pub wal_timeout: Duration,
}

/// Whether pages are stored again that have not changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Incremental {
    /// They are: a full backup.
    #[default]
    Never,
    /// They are not, where that is possible; else the catalog entry says why it is a full backup.
    IfPossible,
}

/// The most threads that compress, and the most packs that are written at a time.
pub const WORKERS_MAX: usize = 8;

impl Default for BackupRequest {
    fn default() -> Self {
        Self {
            server_label: "pgm".into(),
            checkpoint: Checkpoint::Fast,
            workers: None,
            wal: BackupWal::Archive,
            max_rate_kib: None,
            server_compression: ServerCompression::NONE,
            incremental: Incremental::Never,
            source: BackupSource::Auto,
            sql: None,
            compaction: Compaction::default(),
            resume: Resume::IfPossible,
            discard: Cancel::new(),
            wal_timeout: Duration::from_mins(10),
        }
    }
}

/// Takes one backup over a session for physical replication, into every target in one pass. Nothing is visible to
/// readers of a target until it is published there, the commit point.
///
/// A target that fails is left out with a warning, and its outcome says why; the backup fails once no target is left, with
/// the error of the first one. Outcomes come in the order of the targets.
pub fn backup(
    cx: &Context,
    client: &mut Client,
    server: &ServerName,
    targets: &[BackupTarget<'_>],
    request: &BackupRequest,
) -> Result<Vec<BackupOutcome>> {
    let frames_max = FRAMES_MAX / targets.len().max(1);
    let locked = Lanes::of(targets)
        .step(|target| Locked::take(target, server, request.resume, frames_max))?;
    let now = identify(cx, client, server)?;
    let files = files::find(cx, client, (server, &now), request, targets.len())?;
    let lanes = begin(locked, server, &now.facts, &request.discard)?;
    let now = (server, &now);
    let (beginning, copied) = match files {
        Some(Ok(files)) => {
            let begun = files.begin(cx, &lanes, targets, now, request)?;
            begun.copy(cx, lanes, targets.len(), now.1, request)?
        }
        Some(Err(why_not)) => {
            let why_not = format!("the files were not read where they are: {}", why_not.note());
            let (beginning, copied) = sent(cx, client, lanes, targets, now, request)?;
            (beginning.noting(&why_not), copied)
        }
        None => sent(cx, client, lanes, targets, now, request)?,
    };
    let outcomes = finish(cx, targets, request, &beginning, copied)?;
    Ok(outcomes.into_outcomes())
}

/// Takes a backup from what the server sends, but for its publication. Before it sends everything for an incremental one, it is
/// looked whether it reads the changed pages for ordinary sessions.
fn sent(
    cx: &Context,
    client: &mut Client,
    lanes: Lanes<Lane>,
    targets: &[BackupTarget<'_>],
    now: (&ServerName, &Now),
    request: &BackupRequest,
) -> Result<(Beginning, Copied)> {
    let mut offered = match request.incremental {
        Incremental::Never => None,
        Incremental::IfPossible => Some(native::offer(cx, client, &lanes, targets, now, request)?),
    };
    if let Some(Ok(_)) = &offered {
        let pages = native::pages(offered.as_ref());
        match start(cx, client, now.1, request, pages) {
            Ok(started) => return stream(cx, started, lanes, targets, now.0, request, offered),
            Err(error) if native::take_back(&mut offered, &error) => {}
            Err(error) => return Err(error),
        }
    }
    let mut why_no_blocks = None;
    if let (Some(Err(why_all)), BackupSource::Auto) = (&offered, request.source) {
        match files::begin_changed(cx, client, &lanes, targets, now, request)? {
            Ok(begun) => {
                let (beginning, copied) = begun.copy(cx, lanes, targets.len(), now.1, request)?;
                return Ok((beginning.warning(why_all.warning()), copied));
            }
            Err(why_not) if why_not.note() == why_all.reason => {}
            Err(why_not) => why_no_blocks = Some(why_not),
        }
    }
    let started = start(cx, client, now.1, request, BackupPages::All)?;
    let (beginning, copied) = stream(cx, started, lanes, targets, now.0, request, offered)?;
    Ok(match why_no_blocks {
        None => (beginning, copied),
        Some(why_not) => {
            let why_not = format!(
                "nor did the server read them for ordinary sessions: {}",
                why_not.note()
            );
            (beginning.noting(&why_not), copied)
        }
    })
}

/// Takes the backup that the server has begun to send.
fn stream(
    cx: &Context,
    mut started: Started<'_>,
    lanes: Lanes<Lane>,
    targets: &[BackupTarget<'_>],
    server: &ServerName,
    request: &BackupRequest,
    offered: Option<native::Offered>,
) -> Result<(Beginning, Copied)> {
    let mut beginning = Beginning::of(&started);
    let lanes = match offered {
        None => lanes,
        Some(Ok(offer)) => offer.build(lanes),
        Some(Err(why_all)) => {
            beginning.warnings.extend(why_all.warning());
            let now = (&started.beginning(), &why_all);
            build_on(cx, lanes, targets, server, now, request.compaction)?
        }
    };
    let announced = started.announced();
    let options = pack_options(request, targets.len(), announced.total_bytes);
    let copied = copy(
        cx,
        &mut started.stream,
        &announced,
        lanes,
        options,
        &request.discard,
    )?;
    Ok((beginning, copied))
}

/// Begins a backup under one label in all targets.
fn begin(
    locked: Lanes<Locked<'_>>,
    server: &ServerName,
    facts: &ServerFacts,
    discard: &Cancel,
) -> Result<Lanes<Lane>> {
    let locked = locked.step(|locked| {
        locked.target.repository.register(server, facts)?;
        Ok(locked)
    })?;
    let newest = locked.open().filter_map(|(_, locked)| locked.newest).max();
    let hash_key = locked
        .open()
        .find_map(|(_, locked)| locked.reusable.hash_key());
    let hasher = Arc::new(hash_key.map_or_else(FrameHasher::random, FrameHasher::new)?);
    let now = Timestamp::now();
    locked.step(|locked| {
        let (target, lock) = (locked.target, locked.lock);
        let staging = target.repository.stage_after(lock, now, newest)?;
        let reusable = locked.reusable.with_key(hasher.key());
        let hasher = Arc::clone(&hasher);
        Lane::begin(discard, staging, target.compression, (reusable, hasher))
    })
}

/// Builds the backup, of which all pages come, on the one before in every target where that is possible.
fn build_on(
    cx: &Context,
    lanes: Lanes<Lane>,
    targets: &[BackupTarget<'_>],
    server: &ServerName,
    now: (&basis::Beginning, &WhyNot),
    compaction: Compaction,
) -> Result<Lanes<Lane>> {
    let (now, why_all) = now;
    cx.report(
        Phase::Plan,
        0,
        None,
        "what has changed since the backup before",
    );
    lanes.zip(targets).step(|(lane, target)| {
        cx.check_cancel()?;
        let basis = basis::of(target, server, now, compaction);
        lane.build_on(match basis {
            Ok(basis) => Ok(BuiltOn::Basis {
                basis: Box::new(basis),
                why_all: why_all.reason.clone(),
            }),
            // Mostly the same stands against both.
            Err(reason) if reason == why_all.reason => Err(reason),
            Err(reason) => Err(format!("{reason}; {}", why_all.reason)),
        });
        Ok(lane)
    })
}

/// Publishes what was copied.
fn finish(
    cx: &Context,
    targets: &[BackupTarget<'_>],
    request: &BackupRequest,
    beginning: &Beginning,
    copied: Copied,
) -> Result<Lanes<BackupEntry>> {
    let Copied {
        said,
        stored,
        fallen,
    } = copied;
    let ending = publish::ending(beginning, said)?;
    let unpublished = stored.zip(targets).step(|(stored, target)| {
        Ok(Unpublished {
            coverage: target.coverage,
            entry: publish::entry(&stored, request, beginning, &ending),
            foreign: stored.foreign,
            staging: stored.staging,
        })
    })?;
    // A backup is usable only once every WAL byte up to its end is ours.
    let published = publish_when_durable(cx, unpublished, request);
    drop(fallen);
    published
}

/// A target whose server is locked and swept.
struct Locked<'a> {
    target: &'a BackupTarget<'a>,
    lock: Lock,
    /// The newest label of the server there.
    newest: Option<BackupLabel>,
    /// What interrupted backups left there.
    reusable: Reusable,
}

impl<'a> Locked<'a> {
    fn take(
        target: &'a BackupTarget<'a>,
        server: &ServerName,
        resume: Resume,
        frames_max: usize,
    ) -> Result<Self> {
        let lock = target.repository.lock(server, Purpose::Backup)?;
        let unfinished = match resume {
            Resume::IfPossible => Unfinished::Keep,
            Resume::Never => Unfinished::Remove,
        };
        target.repository.sweep(&lock, unfinished)?;
        let storage = &**target.repository.storage();
        let newest = catalog::labels(storage, server)?;
        Ok(Self {
            target,
            lock,
            newest: newest.last().copied(),
            reusable: match resume {
                Resume::IfPossible => Reusable::find(storage, server, frames_max)?,
                Resume::Never => Reusable::default(),
            },
        })
    }
}

#[cfg(test)]
pub(crate) mod tests;
