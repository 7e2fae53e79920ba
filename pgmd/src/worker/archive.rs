//! The archiving half of a receive worker: a thread beside the receiver, and what it tells.
//!
//! A repository that is away never keeps WAL from being received: the spool grows, and status says why.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use pgm_mgmt::Gap;
use pgm_storage::Cancel;
use pgm_wal::archive::{
    Archive, ArchiveError, ArchiveObserver, ArchiveSignal, Archiver, ArchiverOptions, Incident,
    Stored,
};
use pgm_wal::{SegmentSize, Spool, StartHint, WalFileName};
use tracing::{debug, error, info};

use super::link::Link;
use super::message::{Description, WorkerEvent};
use super::{archive_lock, identity};
use crate::repository::chain;
use crate::shared_state::Slot;

/// How often a repository that cannot be opened is tried.
const REOPEN_EVERY: Duration = Duration::from_secs(5);

/// Wakes the archiver, once there is one.
pub(super) type Bell = OnceLock<ArchiveSignal>;

/// The archive of a description's server.
pub(super) fn open(description: &Description) -> Result<Archive, pgm_backup::Error> {
    let repository =
        crate::known_repository::open_beside(&description.repository, &description.spool)?;
    Ok(Archive::new(
        Arc::clone(repository.storage()),
        description.server.clone(),
    ))
}

/// Where receiving has to go on when the spool is empty: the newest end of the archive.
pub(super) fn newest_end(archive: &Archive) -> Result<Option<StartHint>, ArchiveError> {
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

/// Archives until cancelled, then once more everything, the unfinished segment included if `rest` says so.
pub(super) fn archive(
    link: &Link,
    description: &Description,
    spool: &Spool,
    slot: &Slot,
    bell: &Bell,
    cancel: &Cancel,
) -> Option<Archiver> {
    let archive = loop {
        let checked = identity::check_spool(description, spool).and_then(|()| open(description));
        match checked {
            Ok(archive) => break archive,
            Err(error) => {
                let text = format!("cannot archive: {}", chain(&error));
                error!("{text}");
                link.tell(WorkerEvent::ArchiveProblem {
                    text,
                    hint: error.hint(),
                });
            }
        }
        if cancel.is_cancelled() {
            return None;
        }
        link.pause(REOPEN_EVERY);
    };
    let mut telling = Telling::new(link, spool, slot);
    telling.begin(&archive);
    let options = ArchiverOptions {
        compression: description.compression,
        ..ArchiverOptions::default()
    };
    let mut archiver = Archiver::new(spool.clone(), archive, options)
        .permitted_by(archive_lock::permit(&description.repository, description));
    let _ = bell.set(archiver.signal());
    archiver.run(cancel, &mut telling);
    Some(archiver)
}

/// Archives what is left, the unfinished segment included. The receiver must have ended. Gives how many files are still
/// not archived.
pub(super) fn rest(archiver: &mut Archiver, link: &Link, spool: &Spool, slot: &Slot) -> usize {
    let mut telling = Telling::new(link, spool, slot);
    archiver.archive_rest(&Cancel::new(), &mut telling)
}

/// Writes into the shared state and the log what the archiver does.
struct Telling<'a> {
    link: &'a Link,
    spool: &'a Spool,
    slot: &'a Slot,
    /// What has failed in this pass.
    failing: bool,
    /// What was told last, so that the log is not filled with repetitions.
    told: Option<String>,
}

impl<'a> Telling<'a> {
    fn new(link: &'a Link, spool: &'a Spool, slot: &'a Slot) -> Self {
        Self {
            link,
            spool,
            slot,
            failing: false,
            told: None,
        }
    }

    fn begin(&self, archive: &Archive) {
        match newest_end(archive) {
            Ok(Some(end)) => self.slot.set_archived(end.lsn),
            Ok(None) => {}
            Err(error) => error!("cannot tell what is archived: {}", chain(&error)),
        }
        match gaps(archive, self.spool) {
            Ok(gaps) => self.link.tell(WorkerEvent::Gaps(gaps)),
            Err(error) => error!("cannot look for gaps in the archive: {}", chain(&error)),
        }
        self.measure();
    }

    fn segment_size(&self) -> SegmentSize {
        self.spool
            .segment_size()
            .ok()
            .flatten()
            .unwrap_or(SegmentSize::DEFAULT)
    }

    /// Notes how large the spool is.
    fn measure(&self) {
        let Ok(entries) = std::fs::read_dir(self.spool.folder()) else {
            return;
        };
        let sizes = entries.flatten().filter_map(|entry| entry.metadata().ok());
        self.slot
            .spool_bytes
            .store(sizes.map(|meta| meta.len()).sum());
    }
}

impl ArchiveObserver for Telling<'_> {
    fn archived(&mut self, file: WalFileName, stored: Stored, took: Duration) {
        let name = file.file_name(self.segment_size());
        if let WalFileName::Segment(segment) = file {
            let end = segment.end(self.segment_size());
            if self.slot.archived().is_none_or(|archived| archived < end) {
                self.slot.set_archived(end);
            }
            if matches!(stored, Stored::New(_)) {
                self.slot.archived_segments.add(1);
                self.slot.store.observe(took);
            }
        }
        if matches!(stored, Stored::New(_)) {
            self.slot.last_stored.touch();
            debug!("archived {name}");
        }
        self.measure();
    }

    fn failed(&mut self, incident: &Incident<'_>) {
        self.failing = true;
        self.slot.store_errors.add(1);
        let size = self.segment_size();
        let file = incident
            .file
            .map_or_else(|| "the spool".to_owned(), |file| file.file_name(size));
        let text = format!("cannot archive {file}: {}", chain(incident.error));
        if self.told.as_ref() != Some(&text) {
            error!("{text}");
        }
        let hint = incident.error.hint();
        self.link.tell(WorkerEvent::ArchiveProblem {
            text: text.clone(),
            hint,
        });
        self.told = Some(text);
    }

    fn waiting(&mut self, _: usize, _: Duration) {
        self.measure();
        if !self.failing && self.told.take().is_some() {
            info!("archiving works again");
        }
        if !self.failing {
            self.link.tell(WorkerEvent::Archiving);
        }
        self.failing = false;
    }
}
