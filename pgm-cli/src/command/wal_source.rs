//! Where the `wal` commands read from: files and folders, or a server's archive and spool.

use std::sync::Arc;

use pgm_proto::{Lsn, TimelineId};
use pgm_wal::archive::{Archive, ArchiveIndex, ArchiveSource};
use pgm_wal::digest::{ChangesError, Exact, exact};
use pgm_wal::files::{Run, SegmentFiles};
use pgm_wal::record::{SegmentSource, SourceError};
use pgm_wal::{History, SegmentName, SegmentNumber, SegmentSize, Spool};

use super::{Cx, offline};
use crate::arguments::WalSourceArguments;
use crate::error::{CliError, Failure, chain};

/// Some WAL, and the way through its timelines.
pub(super) struct WalSource {
    place: Place,
    pub(super) history: History,
    pub(super) size: SegmentSize,
}

enum Place {
    Files(SegmentFiles),
    Server {
        archive: Archive,
        spool: Option<Spool>,
        index: ArchiveIndex,
    },
}

impl WalSource {
    /// Finds the WAL that the arguments name.
    pub(super) fn open(cx: &Cx, arguments: &WalSourceArguments) -> Result<Self, CliError> {
        match &arguments.server {
            None => Self::of_files(arguments),
            Some(server) => {
                let at = cx.at()?;
                let repository = offline::open(&at)?;
                let archive = Archive::new(Arc::clone(repository.storage()), server.clone());
                let spool = match at.spool_of(server) {
                    Some(folder) => Spool::find(folder),
                    None => Ok(None),
                };
                let spool = spool.map_err(|error| failed(&error, error.hint()))?;
                let size = match &spool {
                    Some(spool) => spool
                        .segment_size()
                        .map_err(|error| failed(&error, error.hint()))?,
                    None => None,
                };
                let size = match size {
                    Some(size) => Some(size),
                    None => archive
                        .segment_size()
                        .map_err(|error| failed(&error, error.hint()))?,
                };
                Self::of_server(archive, spool, size, arguments)
            }
        }
    }

    /// The WAL in files and folders.
    pub(super) fn of_files(arguments: &WalSourceArguments) -> Result<Self, CliError> {
        let files = SegmentFiles::find(&arguments.paths)
            .map_err(|error| CliError::new(Failure::NotFound, chain(&error), error.hint()))?;
        let timeline = arguments.timeline.or(files.newest_timeline());
        let history = files.history(timeline.unwrap_or(TimelineId::FIRST));
        Ok(Self {
            size: files.size(),
            place: Place::Files(files),
            history,
        })
    }

    fn of_server(
        archive: Archive,
        spool: Option<Spool>,
        size: Option<SegmentSize>,
        arguments: &WalSourceArguments,
    ) -> Result<Self, CliError> {
        let none = |archive: &Archive| {
            let text = format!("there is no WAL of `{}`", archive.server());
            let hint = "`pgm-cli status` shows what has been received".to_owned();
            CliError::new(Failure::NotFound, text, Some(hint))
        };
        let size = size.ok_or_else(|| none(&archive))?;
        let index = archive
            .index(size, spool.as_ref())
            .map_err(|error| failed(&error, error.hint()))?;
        let newest = index.timelines().next_back();
        let timeline = arguments.timeline.or(newest);
        let timeline = timeline.ok_or_else(|| none(&archive))?;
        let history = archive
            .history(timeline, spool.as_ref())
            .map_err(|error| failed(&error, error.hint()))?
            .unwrap_or_else(|| History::root(timeline));
        Ok(Self {
            place: Place::Server {
                archive,
                spool,
                index,
            },
            history,
            size,
        })
    }

    /// The stretches without a hole, within the positions that the arguments name.
    pub(super) fn runs(&self, arguments: &WalSourceArguments) -> Vec<Run> {
        let runs = match &self.place {
            Place::Files(files) => files.runs(&self.history),
            Place::Server { index, .. } => self.archived_runs(index),
        };
        let start = arguments.start.unwrap_or(Lsn::INVALID);
        let end = arguments.end.unwrap_or(Lsn::new(u64::MAX));
        runs.into_iter()
            .map(|run| Run {
                start: run.start.max(start),
                end: run.end.min(end),
            })
            .filter(|run| run.start < run.end)
            .collect()
    }

    fn archived_runs(&self, index: &ArchiveIndex) -> Vec<Run> {
        let mut parts: Vec<Run> = index
            .intervals()
            .into_iter()
            .filter_map(|interval| {
                let begin = self.history.start_of(interval.timeline)?;
                let left = self.history.ancestor(interval.timeline);
                let start = interval.start.max(self.size.round_down(begin));
                let end = left.map_or(interval.end, |entry| entry.end.min(interval.end));
                (start < end).then_some(Run { start, end })
            })
            .collect();
        parts.sort_by_key(|run| run.start);
        let mut runs: Vec<Run> = Vec::new();
        for part in parts {
            match runs.last_mut() {
                Some(run) if part.start <= run.end => run.end = run.end.max(part.end),
                _ => runs.push(part),
            }
        }
        runs
    }

    /// The summary of `run` from the digests of a server's archive; `None` for files, which have none.
    pub(super) fn summary(&self, run: Run) -> Option<Result<Exact, ChangesError>> {
        let Place::Server { archive, spool, .. } = &self.place else {
            return None;
        };
        let range = (run.start, run.end);
        let spool = spool.as_ref();
        Some(exact(archive, spool, &self.history, self.size, range))
    }

    /// The segments of `run`; those after it do not exist for the source.
    pub(super) fn source(&self, run: Run) -> Box<dyn SegmentSource + '_> {
        let whole = Run {
            start: self.size.round_down(run.start),
            // A record may go on behind the end.
            end: Lsn::new(u64::MAX),
        };
        match &self.place {
            Place::Files(files) => Box::new(files.source(self.run_around(run).unwrap_or(whole))),
            Place::Server { archive, spool, .. } => Box::new(Bounded {
                source: ArchiveSource::new(archive.clone(), spool.clone(), self.size),
                run: self.run_around(run).unwrap_or(whole),
            }),
        }
    }

    /// The whole run that `part` was cut from.
    fn run_around(&self, part: Run) -> Option<Run> {
        let runs = match &self.place {
            Place::Files(files) => files.runs(&self.history),
            Place::Server { index, .. } => self.archived_runs(index),
        };
        runs.into_iter()
            .find(|run| run.start <= part.start && part.end <= run.end)
    }
}

/// A source that ends with a run: a hole behind it is the end.
struct Bounded {
    source: ArchiveSource,
    run: Run,
}

impl SegmentSource for Bounded {
    fn segment_size(&self) -> SegmentSize {
        self.source.segment_size()
    }

    fn read_at(
        &mut self,
        segment: SegmentName,
        offset: u64,
        buf: &mut [u8],
    ) -> Result<Option<usize>, SourceError> {
        if segment.start(self.segment_size()) >= self.run.end {
            return Ok(None);
        }
        self.source.read_at(segment, offset, buf)
    }

    fn newest(&mut self, timeline: TimelineId) -> Result<Option<SegmentNumber>, SourceError> {
        let last = self.segment_size().number_before(self.run.end);
        let newest = self.source.newest(timeline)?;
        Ok(newest.map(|number| number.min(last)))
    }
}

fn failed(error: &dyn std::error::Error, hint: Option<String>) -> CliError {
    CliError::new(Failure::Failed, chain(error), hint)
}
