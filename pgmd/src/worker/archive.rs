//! The archiving half of a receive worker: a thread for each repository beside the receiver, and what they tell.
//!
//! A repository that is away never keeps WAL from being received, nor from getting into the others: the spool grows, and
//! status says why, and how much waits, also while a store says nothing at all. Whatever is in the spool leaves it when all repositories have it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pgm_mgmt::Gap;
use pgm_proto::Lsn;
use pgm_storage::Cancel;
use pgm_wal::archive::{
    Archive, ArchiveError, ArchiveObserver, ArchiveSignal, Archiver, ArchiverOptions, BacklogWatch,
    Incident, SpoolRelease, Stored,
};
use pgm_wal::{SegmentName, SegmentSize, Spool, StartHint, WalFileName};
use tracing::{debug, error, info, warn};

use super::link::Link;
use super::message::{ArchiveNote, BacklogNote, Description, WorkerEvent};
use super::{archive_lock, identity};
use crate::place::RepositoryTarget;
use crate::repository::chain;
use crate::shared_state::Slot;

/// How often a repository that cannot be opened is tried.
const REOPEN_EVERY: Duration = Duration::from_secs(5);
/// How often it is measured what waits in the spool.
const MEASURE_EVERY: Duration = Duration::from_secs(1);

/// Wakes the archivers that there are by now.
#[derive(Debug, Default)]
pub(super) struct Bell(Mutex<Vec<ArchiveSignal>>);

impl Bell {
    pub(super) fn ring(&self) {
        for signal in self.0.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            signal.notify();
        }
    }

    fn wake(&self, signal: ArchiveSignal) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(signal);
    }
}

/// One of the archiving threads of a round.
#[derive(Debug)]
pub(super) struct Lane<'a> {
    pub(super) link: &'a Link,
    pub(super) description: &'a Description,
    pub(super) spool: &'a Spool,
    pub(super) slot: &'a Slot,
    pub(super) bell: &'a Bell,
    /// The number of its repository in the description; the first one's positions are those of the shared state.
    pub(super) number: usize,
    pub(super) release: SpoolRelease,
    pub(super) backlog: BacklogWatch,
}

/// The archive of the description's server in one of its repositories.
pub(super) fn open(
    description: &Description,
    target: &RepositoryTarget,
) -> Result<Archive, pgm_backup::Error> {
    let repository = crate::known_repository::open_beside(&target.place, &description.spool)?;
    Ok(Archive::new(
        Arc::clone(repository.storage()),
        description.server.clone(),
    ))
}

/// Where receiving has to go on when the spool is empty: where the archive ends that is behind the others. One that is
/// empty begins with what comes.
pub(super) fn start_hint(description: &Description) -> Option<StartHint> {
    let ends = description.repositories.iter().filter_map(|target| {
        let archive = open(description, target).ok()?;
        newest_end(&archive).unwrap_or_else(|error| {
            tracing::warn!("cannot tell where the archive ends: {}", chain(&error));
            None
        })
    });
    ends.min_by_key(|end| (end.timeline, end.lsn))
}

/// The newest end of an archive.
fn newest_end(archive: &Archive) -> Result<Option<StartHint>, ArchiveError> {
    let Some(size) = archive.segment_size()? else {
        return Ok(None);
    };
    let index = archive.index(size, None)?;
    let newest = index.timelines().next_back();
    Ok(newest.and_then(|timeline| {
        let lsn = index.newest_end(timeline)?;
        Some(StartHint { timeline, lsn })
    }))
}

/// The holes in archive and spool together.
pub(super) fn gaps(archive: &Archive, spool: &Spool) -> Result<Vec<Gap>, ArchiveError> {
    let size = match spool.segment_size()? {
        Some(size) => Some(size),
        None => archive.segment_size()?,
    };
    let Some(size) = size else {
        return Ok(Vec::new());
    };
    let index = archive.index(size, Some(spool))?;
    let gap = |gap: pgm_wal::archive::Gap| Gap {
        timeline: gap.timeline,
        from: gap.start,
        to: gap.end,
    };
    Ok(index.gaps().into_iter().map(gap).collect())
}

impl Lane<'_> {
    fn target(&self) -> &RepositoryTarget {
        &self.description.repositories[self.number]
    }

    /// Archives until cancelled. Gives the archiver for [`Lane::rest`], once the receiver has ended, too.
    pub(super) fn archive(&self, cancel: &Cancel) -> Option<Archiver> {
        let mut telling = Telling::new(self);
        let archive = loop {
            let checked =
                identity::check_spool(self.description, self.target(), self.spool, self.slot)
                    .and_then(|()| open(self.description, self.target()));
            match checked {
                Ok(archive) => break archive,
                Err(error) => {
                    telling.problem(&format!("cannot archive: {}", chain(&error)), error.hint());
                }
            }
            if cancel.is_cancelled() {
                return None;
            }
            self.link.pause(REOPEN_EVERY);
        };
        telling.begin(&archive);
        let options = ArchiverOptions {
            compression: self.target().compression,
            ..ArchiverOptions::default()
        };
        let mut archiver = Archiver::new(self.spool.clone(), archive, options)
            .watched_by(&self.backlog)
            .sharing(self.number, self.release.clone())
            .permitted_by(archive_lock::permit(&self.target().place, self.description));
        self.bell.wake(archiver.signal());
        archiver.run(cancel, &mut telling);
        Some(archiver)
    }

    /// Archives what is left, the unfinished segment included. The receiver must have ended. Gives how many files are
    /// still not archived.
    pub(super) fn rest(&self, archiver: &mut Archiver) -> usize {
        archiver.archive_rest(&Cancel::new(), &mut Telling::new(self))
    }

    /// Notes how large the spool is.
    fn measure_spool(&self) {
        let Ok(entries) = std::fs::read_dir(self.spool.folder()) else {
            return;
        };
        let sizes = entries.flatten().filter_map(|entry| entry.metadata().ok());
        self.slot
            .spool_bytes
            .store(sizes.map(|meta| meta.len()).sum());
    }
}

/// Tells how much waits for each repository, and notes how large the spool is, until cancelled. Whoever cancels unparks this
/// thread.
pub(super) fn measure(lanes: &[Lane<'_>], cancel: &Cancel) {
    let mut told = vec![None; lanes.len()];
    while !cancel.is_cancelled() {
        for (lane, told) in lanes.iter().zip(&mut told) {
            // The archiver says what is wrong with the spool.
            let Ok(backlog) = lane.backlog.measure() else {
                continue;
            };
            if *told != Some(backlog) {
                lane.link.tell(WorkerEvent::Backlog(BacklogNote {
                    repository: lane.target().place.name.clone(),
                    files: backlog.files,
                    since: backlog.since,
                }));
                *told = Some(backlog);
            }
        }
        if let Some(lane) = lanes.first() {
            lane.measure_spool();
        }
        std::thread::park_timeout(MEASURE_EVERY);
    }
}

/// Writes into the shared state and the log what an archiver does.
struct Telling<'a> {
    lane: &'a Lane<'a>,
    /// How far the WAL is archived.
    archived: Option<Lsn>,
    /// What has failed in this pass.
    failing: bool,
    /// What went wrong last and has not passed.
    problem: Option<(String, Option<String>)>,
    /// What was told last.
    told: Option<ArchiveNote>,
}

impl<'a> Telling<'a> {
    fn new(lane: &'a Lane<'a>) -> Self {
        Self {
            lane,
            archived: None,
            failing: false,
            problem: None,
            told: None,
        }
    }

    fn is_first(&self) -> bool {
        self.lane.number == 0
    }

    fn begin(&mut self, archive: &Archive) {
        match newest_end(archive) {
            Ok(Some(end)) => self.reached(end.lsn),
            Ok(None) => {}
            Err(error) => error!("cannot tell what is archived: {}", chain(&error)),
        }
        if self.is_first() {
            match gaps(archive, self.lane.spool) {
                Ok(gaps) => self.lane.link.tell(WorkerEvent::Gaps(gaps)),
                Err(error) => error!("cannot look for gaps in the archive: {}", chain(&error)),
            }
        }
    }

    fn reached(&mut self, end: Lsn) {
        if self.archived.is_none_or(|archived| archived < end) {
            self.archived = Some(end);
        }
        let slot = self.lane.slot;
        if self.is_first() && slot.archived().is_none_or(|archived| archived < end) {
            slot.set_archived(end);
        }
    }

    /// Logs a problem, once, and tells it.
    fn problem(&mut self, text: &str, hint: Option<String>) {
        let several = self.lane.description.repositories.len() > 1;
        let name = &self.lane.target().place.name;
        let text = if several {
            format!("repository {name}: {text}")
        } else {
            text.to_owned()
        };
        if self.problem.as_ref().map(|(told, _)| told) != Some(&text) {
            error!("{text}");
        }
        self.problem = Some((text, hint));
        self.tell();
    }

    /// Tells the supervisor how it goes, if it goes otherwise than before.
    fn tell(&mut self) {
        let note = ArchiveNote {
            repository: self.lane.target().place.name.clone(),
            archived: self.archived,
            problem: self.problem.clone(),
        };
        if self.told.as_ref() != Some(&note) {
            self.lane.link.tell(WorkerEvent::Archiving(note.clone()));
            self.told = Some(note);
        }
    }

    fn segment_size(&self) -> SegmentSize {
        self.lane
            .spool
            .segment_size()
            .ok()
            .flatten()
            .unwrap_or(SegmentSize::DEFAULT)
    }
}

impl ArchiveObserver for Telling<'_> {
    fn archived(&mut self, file: WalFileName, stored: Stored, took: Duration) {
        let name = file.file_name(self.segment_size());
        let new = matches!(stored, Stored::New(_));
        let slot = self.lane.slot;
        if let WalFileName::Segment(segment) = file {
            self.reached(segment.end(self.segment_size()));
            if new && self.is_first() {
                slot.archived_segments.add(1);
                slot.store.observe(took);
            }
        }
        if new {
            if self.is_first() {
                slot.last_stored.touch();
            }
            debug!("archived {name} in {}", self.lane.target().place.name);
        }
    }

    fn failed(&mut self, incident: &Incident<'_>) {
        self.failing = true;
        self.lane.slot.store_errors.add(1);
        let size = self.segment_size();
        let file = incident
            .file
            .map_or_else(|| "the spool".to_owned(), |file| file.file_name(size));
        let text = format!("cannot archive {file}: {}", chain(incident.error));
        self.problem(&text, incident.error.hint());
    }

    fn digest_failed(&mut self, segment: SegmentName, error: &ArchiveError) {
        let size = self.lane.spool.segment_size().ok().flatten();
        let name = segment.file_name(size.unwrap_or(SegmentSize::DEFAULT));
        warn!(
            "what {name} says could not be kept in {}; it is read again when it is needed: {}",
            self.lane.target().place,
            chain(error)
        );
    }

    fn waiting(&mut self, _: usize, _: Duration) {
        if !self.failing && self.problem.take().is_some() {
            info!("archiving works again in {}", self.lane.target().place.name);
        }
        self.tell();
        self.failing = false;
    }
}
