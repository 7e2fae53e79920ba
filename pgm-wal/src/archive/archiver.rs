//! Brings what is finished in the spool into the archive.
//!
//! One pass archives, in order: history files; finished segments, by timeline and number; the unfinished last segments
//! of timelines that were left. A file goes from the spool only after its object was read back, and the newest finished
//! segment of the newest timeline stays in any case, because the receiver finds its place by it.
//!
//! A repository that fails is tried again for ever, ever more slowly; the spool grows meanwhile and the observer is told.
//! A file that needs a person's attention (corrupt, split brain) is reported and passed over, and what comes after it is
//! still archived. Nothing is ever dropped to make room.

use std::collections::HashSet;
use std::fmt;
use std::io;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use pgm_proto::TimelineId;
use pgm_storage::{Cancel, Compression};

use super::backlog::{BacklogWatch, Done};
use super::{Archive, ArchiveError, SpoolRelease, Stored};
use crate::digest::Digester;
use crate::{SegmentName, SegmentSize, Spool, SpoolListing, WalFileName};

/// How often a waiting archiver looks whether it is cancelled.
const CANCEL_LATENCY: Duration = Duration::from_millis(100);

/// What becomes of a file in the spool once it is archived.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LocalCopy {
    /// It is removed.
    #[default]
    Remove,
    /// It stays.
    Keep,
}

/// How an [`Archiver`] works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ArchiverOptions {
    /// How segments are compressed.
    pub compression: Compression,
    /// What becomes of the spool's files.
    pub local_copy: LocalCopy,
    /// How long it waits at most before it looks into the spool again.
    pub poll: Duration,
    /// How long it waits after the first failure; twice as long after each further one.
    pub retry_min: Duration,
    /// How long it waits at most after a failure.
    pub retry_max: Duration,
}

impl Default for ArchiverOptions {
    fn default() -> Self {
        Self {
            compression: Compression::ZSTD,
            local_copy: LocalCopy::Remove,
            poll: Duration::from_secs(5),
            retry_min: Duration::from_secs(1),
            retry_max: Duration::from_mins(1),
        }
    }
}

/// Something that could not be archived.
#[derive(Debug)]
pub struct Incident<'a> {
    /// The file, `None` when the spool itself could not be read.
    pub file: Option<WalFileName>,
    /// Why.
    pub error: &'a ArchiveError,
}

/// Is told what an [`Archiver`] does. Called on the archiver's thread.
pub trait ArchiveObserver {
    /// `file` is in the archive: written and read back just now, or found there. It took so long.
    fn archived(&mut self, file: WalFileName, stored: Stored, took: Duration);

    /// Something could not be archived and will be tried again.
    fn failed(&mut self, incident: &Incident<'_>);

    /// The digest of an archived segment could not be kept; whoever wants it reads the segment instead.
    fn digest_failed(&mut self, segment: SegmentName, error: &ArchiveError) {
        let _ = (segment, error);
    }

    /// A pass is over: `backlog` finished files are not archived yet, and the next pass is due after `wait` at the
    /// latest.
    fn waiting(&mut self, backlog: usize, wait: Duration) {
        let _ = (backlog, wait);
    }
}

/// Wakes an archiver; clones wake the same one.
#[derive(Debug, Clone, Default)]
pub struct ArchiveSignal(Arc<(Mutex<bool>, Condvar)>);

impl ArchiveSignal {
    /// Says that there is something to archive.
    pub fn notify(&self) {
        let (pending, condition) = &*self.0;
        *pending.lock().unwrap_or_else(PoisonError::into_inner) = true;
        condition.notify_all();
    }

    /// Waits for a notification, a cancellation or the end of `timeout`; takes the notification.
    fn wait(&self, cancel: &Cancel, timeout: Duration) {
        let deadline = Instant::now() + timeout;
        let (pending, condition) = &*self.0;
        let mut guard = pending.lock().unwrap_or_else(PoisonError::into_inner);
        while !*guard && !cancel.is_cancelled() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let waited = condition.wait_timeout(guard, left.min(CANCEL_LATENCY));
            guard = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        *guard = false;
    }
}

/// Archives one server's spool into one archive; others may take from the same spool.
#[derive(Debug)]
pub struct Archiver {
    spool: Spool,
    archive: Archive,
    options: ArchiverOptions,
    signal: ArchiveSignal,
    /// Archived files that are still in the spool.
    done: Done,
    permit: Permit,
    digester: Digester,
    /// Its number among the archivers of the spool, and what they tell each other.
    number: usize,
    release: SpoolRelease,
}

/// Says whether this archiver may write to the archive now; asked before each write, so it has to be quick when the answer is
/// yes.
pub type AskPermit = dyn FnMut() -> Result<(), ArchiveError> + Send;

/// Who is asked, if anybody.
#[derive(Default)]
struct Permit(Option<Box<AskPermit>>);

impl Permit {
    fn ask(&mut self) -> Result<(), ArchiveError> {
        self.0.as_mut().map_or(Ok(()), |ask| ask())
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Permit")
    }
}

/// Which unfinished segments a pass archives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Partials {
    OfLeftTimelines,
    All,
}

/// How a pass came out.
struct Pass {
    backlog: usize,
    outcome: Result<(), Trouble>,
}

/// Why a pass has not archived everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trouble {
    Failed,
    NotPermitted,
}

impl Trouble {
    fn of(error: &ArchiveError) -> Self {
        match error {
            ArchiveError::NotPermitted { .. } => Self::NotPermitted,
            _ => Self::Failed,
        }
    }
}

impl Archiver {
    /// Archives `spool` into `archive`.
    pub fn new(spool: Spool, archive: Archive, options: ArchiverOptions) -> Self {
        Self {
            spool,
            archive,
            options,
            signal: ArchiveSignal::default(),
            done: Done::default(),
            permit: Permit::default(),
            digester: Digester::default(),
            number: 0,
            release: SpoolRelease::new(1),
        }
    }

    /// Writes only while `ask` permits it; without a permit it is asked again soon.
    #[must_use]
    pub fn permitted_by(mut self, ask: Box<AskPermit>) -> Self {
        self.permit = Permit(Some(ask));
        self
    }

    /// The archiver with this number, from 0, of those that share `release`: a file leaves the spool when all of them
    /// have it.
    #[must_use]
    pub fn sharing(mut self, number: usize, release: SpoolRelease) -> Self {
        self.number = number;
        self.release = release;
        self
    }

    /// Lets `watch`, which was made for the same spool, tell what is not archived yet.
    #[must_use]
    pub fn watched_by(mut self, watch: &BacklogWatch) -> Self {
        self.done = watch.done();
        self
    }

    /// What wakes this archiver: to be notified when a segment was finished.
    pub fn signal(&self) -> ArchiveSignal {
        self.signal.clone()
    }

    /// Runs on a thread of its own, named `archiver`, until it is cancelled; gives the archiver back.
    pub fn spawn(
        mut self,
        cancel: Cancel,
        mut observer: Box<dyn ArchiveObserver + Send>,
    ) -> io::Result<JoinHandle<Self>> {
        std::thread::Builder::new()
            .name("archiver".to_owned())
            .spawn(move || {
                self.run(&cancel, observer.as_mut());
                self
            })
    }

    /// Archives whatever there is to archive, until it is cancelled.
    pub fn run(&mut self, cancel: &Cancel, observer: &mut dyn ArchiveObserver) {
        let mut retry = self.options.retry_min;
        while !cancel.is_cancelled() {
            let pass = self.pass(cancel, observer, Partials::OfLeftTimelines);
            let wait = match pass.outcome {
                Ok(()) => {
                    retry = self.options.retry_min;
                    self.options.poll
                }
                // Nothing is the matter with the repository, and the other one may be gone any moment.
                Err(Trouble::NotPermitted) => self.options.poll,
                Err(Trouble::Failed) => {
                    let wait = retry;
                    retry = (retry * 2).min(self.options.retry_max);
                    wait
                }
            };
            observer.waiting(pass.backlog, wait);
            if pass.outcome.is_ok() {
                self.signal.wait(cancel, wait);
            } else {
                // A finished segment is no reason to press a repository that just failed.
                ArchiveSignal::default().wait(cancel, wait);
            }
        }
    }

    /// Archives everything once, unfinished segments included: for an orderly stop and after a promotion. The receiver
    /// must not be writing. Gives how many files could not be archived.
    pub fn archive_rest(&mut self, cancel: &Cancel, observer: &mut dyn ArchiveObserver) -> usize {
        self.pass(cancel, observer, Partials::All).backlog
    }

    fn pass(
        &mut self,
        cancel: &Cancel,
        observer: &mut dyn ArchiveObserver,
        partials: Partials,
    ) -> Pass {
        let found = match self.spool.segment_size() {
            Ok(Some(size)) => self.spool.list().map(|listing| (size, listing)),
            Ok(None) => {
                return Pass {
                    backlog: 0,
                    outcome: Ok(()),
                };
            }
            Err(error) => Err(error),
        };
        let (size, listing) = match found {
            Ok(found) => found,
            Err(error) => {
                observer.failed(&Incident {
                    file: None,
                    error: &error.into(),
                });
                return Pass {
                    backlog: 0,
                    outcome: Err(Trouble::Failed),
                };
            }
        };
        let queue = queue(&listing, partials);
        if partials == Partials::All {
            // They may have grown since the last look.
            self.done.files().retain(|file| {
                let unfinished = matches!(file, WalFileName::Partial(_));
                if unfinished {
                    self.release.grown(self.number, *file);
                }
                !unfinished
            });
        }
        self.done.files().retain(|file| {
            let there = queue.contains(file);
            if !there {
                self.release.gone(*file);
            }
            there
        });
        let keep = listing.segments.last().copied();
        let mut pass = Pass {
            backlog: 0,
            outcome: Ok(()),
        };
        if let Err(error) = self.permit.ask() {
            observer.failed(&Incident {
                file: None,
                error: &error,
            });
            let left = |file: &&WalFileName| !self.done.contains(**file);
            return Pass {
                backlog: queue.iter().filter(left).count(),
                outcome: Err(Trouble::of(&error)),
            };
        }
        let mut blocked: HashSet<TimelineId> = HashSet::new();
        let mut repository_failed = false;
        for file in queue {
            if self.done.contains(file) && self.may_stay(file, keep) {
                continue;
            }
            if repository_failed || cancel.is_cancelled() || blocked.contains(&file.timeline()) {
                pass.backlog += 1;
                continue;
            }
            let archived = self.permit.ask();
            let archived =
                archived.and_then(|()| self.archive_file(file, size, keep, &listing, observer));
            if let Err(error) = archived {
                observer.failed(&Incident {
                    file: Some(file),
                    error: &error,
                });
                pass.backlog += 1;
                pass.outcome = Err(Trouble::of(&error));
                repository_failed = !error.needs_attention();
                if matches!(file, WalFileName::History(_)) {
                    // A timeline's history comes before its segments.
                    blocked.insert(file.timeline());
                }
            }
        }
        pass
    }

    /// Archives one file and removes it from the spool if it may go.
    fn archive_file(
        &mut self,
        file: WalFileName,
        size: SegmentSize,
        keep: Option<SegmentName>,
        listing: &SpoolListing,
        observer: &mut dyn ArchiveObserver,
    ) -> Result<(), ArchiveError> {
        if !self.done.contains(file) {
            let path = self.spool.folder().join(file.file_name(size));
            let compression = self.options.compression;
            let began = Instant::now();
            let stored = match file {
                WalFileName::History(timeline) => self.archive.store_history(&path, timeline)?,
                WalFileName::Segment(name) => {
                    self.archive.store_segment(&path, name, size, compression)?
                }
                WalFileName::Partial(name) => {
                    self.archive.store_partial(&path, name, size, compression)?
                }
            };
            self.done.files().insert(file);
            if stored != Stored::Nothing {
                observer.archived(file, stored, began.elapsed());
            }
            if let WalFileName::Segment(name) = file
                && let Err(error) = self.digester.digest(&self.archive, &path, name, size)
            {
                // It can be made anew from what is archived.
                observer.digest_failed(name, &error);
            }
        }
        let was_left = match file {
            WalFileName::Partial(name) => is_left(name.timeline, listing),
            _ => true,
        };
        if self.release.stored(self.number, file) && was_left && !self.may_stay(file, keep) {
            self.spool.remove(file)?;
            self.release.gone(file);
            self.done.files().remove(&file);
        }
        Ok(())
    }

    /// Whether an archived file remains in the spool. History files always do: they are small, and the receiver needs
    /// them to find its place.
    fn may_stay(&self, file: WalFileName, keep: Option<SegmentName>) -> bool {
        match file {
            WalFileName::History(_) => true,
            WalFileName::Segment(name) => {
                self.options.local_copy == LocalCopy::Keep || keep == Some(name)
            }
            WalFileName::Partial(_) => self.options.local_copy == LocalCopy::Keep,
        }
    }
}

/// The files that a pass looks at, in order.
pub(super) fn queue(listing: &SpoolListing, partials: Partials) -> Vec<WalFileName> {
    let histories = listing.histories.iter().copied().map(WalFileName::History);
    let segments = listing.segments.iter().copied().map(WalFileName::Segment);
    let unfinished = listing
        .partials
        .iter()
        .copied()
        .filter(|name| partials == Partials::All || is_left(name.timeline, listing))
        .filter(|name| listing.segments.binary_search(name).is_err())
        .map(WalFileName::Partial);
    histories.chain(segments).chain(unfinished).collect()
}

/// Whether there is WAL of a newer timeline, so that the receiver is done with this one.
fn is_left(timeline: TimelineId, listing: &SpoolListing) -> bool {
    listing
        .segments
        .iter()
        .chain(&listing.partials)
        .any(|name| name.timeline > timeline)
}
