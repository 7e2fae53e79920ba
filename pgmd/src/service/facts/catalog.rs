//! What the repository holds, read again and again on a thread of its own.
//!
//! Whoever asks gets what was seen last: a repository that is slow, or hangs, keeps nobody waiting but this thread. It
//! is a plain thread, not the runtime's, so that not even the end of the daemon waits for it. A look that fails leaves
//! what was seen before and says why; a look that takes long is followed by a longer pause.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use pgm_backup::catalog::{BackupEntry, BackupStatus, DataChecksums};
use pgm_backup::verify::verification::Outcome;
use pgm_backup::{Catalog, Repository};
use pgm_proto::{Lsn, ServerName, TimelineId};
use pgm_storage::{LocalStorage, Space, Storage as _};
use pgm_wal::History;
use pgm_wal::archive::{Archive, ArchiveIndex, Interval, StoredName};

use super::Look;
use super::proof::{News, Proof};
use super::timeline::Timeline;
use crate::config::Config;
use crate::repository::{self, chain};
use crate::supervisor::Daemon;

/// How long there is rest between two looks at least, unless somebody asks for one.
const REST: Duration = Duration::from_secs(20);
/// The same when the repository is far, where each look costs requests.
const REST_FAR: Duration = Duration::from_mins(5);
/// A look may take one part in so many of the time.
const SHARE: u32 = 20;

/// What was seen in the repository.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    pub(super) look: Option<Look>,
    pub(super) space: Option<Space>,
    pub(super) spool_space: Option<Space>,
    pub(super) servers: BTreeMap<ServerName, ServerCatalog>,
}

/// What the repository has of one server.
#[derive(Debug, Clone, Default)]
pub(in crate::service) struct ServerCatalog {
    /// Its backups, oldest first, damaged ones at the end.
    pub(in crate::service) backups: Vec<Backup>,
    /// Stretches of WAL without a hole, by timeline.
    pub(in crate::service) wal: Vec<Interval>,
    /// How large its segments are, once there is one.
    pub(in crate::service) segment_bytes: Option<u64>,
    /// Bytes of its WAL objects.
    pub(in crate::service) wal_bytes: u64,
    /// How many WAL objects there are.
    pub(in crate::service) wal_objects: u64,
    /// How far its worker had stored WAL when the look began.
    pub(in crate::service) archived: Option<Lsn>,
    /// When which position was written.
    pub(in crate::service) timeline: Timeline,
    /// Why something of it could not be read.
    pub(in crate::service) error: Option<String>,
}

/// One backup.
#[derive(Debug, Clone)]
pub(in crate::service) struct Backup {
    /// Its label.
    pub(in crate::service) label: String,
    /// When it began.
    pub(in crate::service) started: Timestamp,
    /// When it ended.
    pub(in crate::service) stopped: Timestamp,
    /// The timeline it was taken on.
    pub(in crate::service) timeline: TimelineId,
    /// Where its WAL begins.
    pub(in crate::service) start: Lsn,
    /// Where it is consistent.
    pub(in crate::service) end: Lsn,
    /// Bytes of the server's files.
    pub(in crate::service) raw_bytes: u64,
    /// Bytes in the repository.
    pub(in crate::service) stored_bytes: u64,
    /// Whether the server had page checksums.
    pub(in crate::service) checksums: bool,
    /// Whether it is good.
    pub(in crate::service) soundness: Soundness,
    /// How far the repository's WAL goes from its start without a hole, and on which timeline.
    pub(in crate::service) reach: (TimelineId, Lsn),
    /// What verifications say of it, if that could be read.
    pub(in crate::service) proof: Option<Proof>,
}

/// Whether a backup is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::service) enum Soundness {
    /// Yes.
    Valid,
    /// Yes, but there is something to read.
    Warnings,
    /// Its entry cannot be read, or verifying it found damage.
    Damaged,
}

impl ServerCatalog {
    fn proof_of(&self, label: &str) -> Option<&Proof> {
        let backup = self.backups.iter().find(|backup| backup.label == label);
        backup.and_then(|backup| backup.proof.as_ref())
    }
}

impl Backup {
    /// What a verification found goes beyond what the entry says.
    fn learn(&mut self, proof: Proof) {
        match proof.outcome {
            Some(Outcome::Damaged) => self.soundness = Soundness::Damaged,
            Some(Outcome::Flawed) if self.soundness == Soundness::Valid => {
                self.soundness = Soundness::Warnings;
            }
            _ => {}
        }
        self.proof = Some(proof);
    }

    /// Whether it can be restored.
    pub(in crate::service) fn is_sound(&self) -> bool {
        self.soundness != Soundness::Damaged
    }
}

/// What was seen last, and who looks.
#[derive(Debug)]
pub(super) struct CatalogWatch {
    seen: Arc<Mutex<Arc<Seen>>>,
    wake: SyncSender<()>,
}

impl CatalogWatch {
    /// Looks until the daemon is gone.
    pub(super) fn start(daemon: &Arc<Daemon>) -> std::io::Result<Self> {
        let seen = Arc::new(Mutex::new(Arc::new(Seen::default())));
        let (wake, woken) = sync_channel(1);
        let (daemon, place) = (Arc::downgrade(daemon), Arc::clone(&seen));
        std::thread::Builder::new()
            .name("pgm-catalog".to_owned())
            .spawn(move || watch(&daemon, &place, &woken))?;
        Ok(Self { seen, wake })
    }

    /// What was seen last.
    pub(super) fn seen(&self) -> Arc<Seen> {
        Arc::clone(&self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Something has changed: look soon.
    pub(super) fn look_soon(&self) {
        // When one wish waits already, or the thread is gone, another is of no use.
        let (Ok(()) | Err(TrySendError::Full(()) | TrySendError::Disconnected(()))) =
            self.wake.try_send(());
    }
}

fn watch(daemon: &Weak<Daemon>, place: &Mutex<Arc<Seen>>, woken: &Receiver<()>) {
    let mut news = News::Some;
    loop {
        let Some(daemon) = daemon.upgrade() else {
            return;
        };
        let config = daemon.config();
        // Before the look: whatever was stored by then is there to be seen.
        let archived = archived(&daemon);
        drop(daemon);
        let began = Instant::now();
        let before = Arc::clone(&place.lock().unwrap_or_else(PoisonError::into_inner));
        let mut seen = look(&config, &before, &archived, news);
        let took = began.elapsed();
        if let Some(look) = &mut seen.look {
            look.took = took;
        }
        *place.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(seen);
        // Even a wish is fulfilled only after a pause in proportion.
        let pause = took.saturating_mul(SHARE);
        std::thread::sleep(pause.min(REST));
        let is_far = config.repository.place().folder().is_none();
        let rest = if is_far { REST_FAR } else { REST };
        news = match woken.recv_timeout(rest.max(pause)) {
            Ok(()) => News::Some,
            Err(RecvTimeoutError::Timeout) => News::None,
            Err(RecvTimeoutError::Disconnected) => return,
        };
    }
}

/// How far the workers have stored WAL.
fn archived(daemon: &Daemon) -> BTreeMap<ServerName, Lsn> {
    let receivers = daemon.receivers().into_iter();
    receivers
        .filter_map(|view| Some((view.server.clone(), view.slot().archived()?)))
        .collect()
}

/// One look at everything.
fn look(config: &Config, before: &Seen, archived: &BTreeMap<ServerName, Lsn>, news: News) -> Seen {
    let place = config.repository.place();
    let mut seen = Seen {
        space: place.folder().and_then(|folder| space(&folder)),
        spool_space: space(&config.spool),
        ..Seen::default()
    };
    let mut error = None;
    match repository::open(&place) {
        Ok(repository) => {
            for server in config.servers.keys() {
                let known = before.servers.get(server);
                let mut catalog = server_catalog(&repository, server, known, news);
                catalog.archived = archived.get(server).copied();
                seen.servers.insert(server.clone(), catalog);
            }
            error = seen.servers.values().find_map(|of| of.error.clone());
        }
        Err(failure) => {
            error.get_or_insert(chain(&failure));
            seen.servers.clone_from(&before.servers);
        }
    }
    seen.look = Some(Look {
        at: Timestamp::now(),
        took: Duration::ZERO,
        error,
    });
    seen
}

fn space(folder: &std::path::Path) -> Option<Space> {
    LocalStorage::open(folder).ok()?.space().ok()?
}

fn server_catalog(
    repository: &Repository,
    server: &ServerName,
    known: Option<&ServerCatalog>,
    news: News,
) -> ServerCatalog {
    let mut seen = ServerCatalog::default();
    let catalog = match repository.catalog(server) {
        Ok(catalog) => catalog,
        Err(error) => {
            seen.error = Some(chain(&error));
            return seen;
        }
    };
    let archive = Archive::new(Arc::clone(repository.storage()), server.clone());
    let wal = read_wal(&archive, &mut seen).unwrap_or_else(|error| {
        seen.error = Some(chain(&error));
        None
    });
    for entry in catalog.backups() {
        seen.timeline.add(entry.start_lsn, entry.started);
        seen.timeline.add(entry.end_lsn, entry.stopped);
    }
    seen.timeline.sort();
    seen.backups = backups(&catalog, wal.as_ref());
    for (backup, entry) in seen.backups.iter_mut().zip(catalog.backups()) {
        let earlier = known.and_then(|known| known.proof_of(&backup.label));
        let proof = match earlier {
            Some(proof) if proof.stands(news) => Ok(proof.clone()),
            _ => Proof::read(repository, entry),
        };
        match proof {
            Ok(proof) => backup.learn(proof),
            Err(error) => seen.error = Some(chain(&error)),
        }
    }
    seen
}

/// The WAL in the repository, and the ways through its timelines.
struct Wal {
    index: ArchiveIndex,
    histories: Vec<History>,
}

fn read_wal(
    archive: &Archive,
    seen: &mut ServerCatalog,
) -> Result<Option<Wal>, pgm_wal::archive::ArchiveError> {
    let Some(size) = archive.segment_size()? else {
        return Ok(None);
    };
    seen.segment_bytes = Some(size.bytes());
    let mut index = ArchiveIndex::new(size);
    archive.survey(size, &mut |name, meta| {
        index.add(name);
        seen.wal_objects += 1;
        seen.wal_bytes += meta.size;
        let end = match name {
            StoredName::Segment(segment) => Some(segment.end(size)),
            StoredName::Partial { end, .. } => Some(end),
            StoredName::History(_) => None,
        };
        if let (Some(end), Ok(at)) = (end, Timestamp::try_from(meta.modified)) {
            seen.timeline.add(end, at);
        }
        ControlFlow::Continue(())
    })?;
    let mut histories = Vec::new();
    for timeline in index.timelines() {
        histories.extend(archive.history(timeline, None)?);
    }
    seen.wal = index.intervals();
    Ok(Some(Wal { index, histories }))
}

fn backups(catalog: &Catalog, wal: Option<&Wal>) -> Vec<Backup> {
    let sound = catalog.backups().iter().map(|entry| Backup {
        label: entry.label.to_string(),
        started: entry.started,
        stopped: entry.stopped,
        timeline: entry.timeline,
        start: entry.start_lsn,
        end: entry.end_lsn,
        raw_bytes: entry.size.raw_bytes,
        stored_bytes: entry.size.stored_bytes,
        checksums: entry.data_checksums == DataChecksums::On,
        soundness: soundness(entry),
        reach: wal.map_or((entry.timeline, entry.start_lsn), |wal| wal.reach(entry)),
        proof: None,
    });
    let damaged = catalog.damaged().iter().map(|damaged| Backup {
        label: damaged.label.to_string(),
        started: damaged.label.time(),
        stopped: damaged.label.time(),
        timeline: TimelineId::FIRST,
        start: Lsn::INVALID,
        end: Lsn::INVALID,
        raw_bytes: 0,
        stored_bytes: 0,
        checksums: false,
        soundness: Soundness::Damaged,
        reach: (TimelineId::FIRST, Lsn::INVALID),
        proof: None,
    });
    sound.chain(damaged).collect()
}

fn soundness(entry: &BackupEntry) -> Soundness {
    if entry.status == BackupStatus::DamagedPages || !entry.warnings.is_empty() {
        Soundness::Warnings
    } else {
        Soundness::Valid
    }
}

impl Wal {
    /// How far WAL goes from the start of a backup, on the newest timeline that it can follow.
    fn reach(&self, entry: &BackupEntry) -> (TimelineId, Lsn) {
        let history = self
            .histories
            .iter()
            .rev()
            .find(|history| history.contains(entry.timeline, entry.end_lsn));
        history.map_or((entry.timeline, entry.start_lsn), |history| {
            let reach = self.index.reach(history, entry.start_lsn);
            (history.timeline_at(reach), reach)
        })
    }
}
