//! The end of what can be reached along one way: where the WAL ends, a hole begins, or damage is.

use pgm_proto::Lsn;
use pgm_wal::SegmentName;
use pgm_wal::record::{self, RecordError, Scan, TransactionEnd, TransactionKind};

use super::error::{Reach, RestoreError};
use super::search::Search;
use crate::catalog::BackupWal;
use crate::context::Phase;
use crate::error::Error;

/// The end of what can be reached.
pub(super) struct End {
    pub(super) reach: Reach,
    pub(super) last_record: Option<Lsn>,
    pub(super) last_transaction: Option<TransactionEnd>,
    pub(super) obstacle: Option<Obstacle>,
}

/// Why there is more WAL, and recovery does not get to it.
#[derive(Clone)]
pub(super) enum Obstacle {
    /// This segment is missing.
    Missing(String),
    /// Something is damaged, or storage fails.
    Unreadable(String),
}

impl Search<'_> {
    /// How far the WAL goes without a hole; at least to the end of the backup.
    pub(super) fn contiguous(&self) -> Result<Lsn, RestoreError> {
        let entry = self.entry;
        let from = match entry.wal {
            BackupWal::Archive => entry.start_lsn,
            // What the backup brings along need not be in the archive.
            BackupWal::Included => entry.end_lsn,
        };
        let reach = self.wal.index.reach(self.history, from);
        if reach >= entry.end_lsn {
            return Ok(reach);
        }
        Err(RestoreError::BackupWithoutWal {
            missing: self.segment_at(reach),
            label: entry.label,
        })
    }

    pub(super) fn end(&self, contiguous: Lsn) -> Result<End, RestoreError> {
        match self.tail(contiguous) {
            Ok(tail) => {
                let obstacle = self.hole(contiguous).map(Obstacle::Missing);
                Ok(self.end_at(
                    tail.end,
                    tail.last_record,
                    tail.last_transaction,
                    tail.last_commit,
                    obstacle,
                ))
            }
            Err(RestoreError::Record(error)) if is_unreadable(&error) => {
                self.end_before_damage(error)
            }
            Err(error) => Err(error),
        }
    }

    fn tail(&self, contiguous: Lsn) -> Result<record::Tail, RestoreError> {
        let oldest = self
            .wal
            .index
            .segment_size()
            .round_down(self.entry.start_lsn);
        let last_byte = Lsn::new(contiguous.bytes().saturating_sub(1));
        let mut source = self.wal.source();
        self.scan(|scan| record::last_valid(scan, &mut source, self.history, last_byte, oldest))
    }

    /// Where the newest WAL is damaged, only reading from the backup on tells how far recovery gets.
    fn end_before_damage(&self, damage: RecordError) -> Result<End, RestoreError> {
        let mut reader = self.reader(self.entry.start_lsn)?;
        let (mut last_transaction, mut last_commit) = (None, None);
        let damage = loop {
            self.cx.check_cancel()?;
            match reader.next() {
                Ok(Some(record)) => {
                    let ended = TransactionEnd::of(&record);
                    last_transaction = ended.or(last_transaction);
                    last_commit = ended
                        .filter(|end| end.kind == TransactionKind::Commit)
                        .or(last_commit);
                }
                Ok(None) => break damage,
                Err(found) => break found,
            }
        };
        let position = reader.position();
        if position < self.entry.end_lsn {
            return Err(RestoreError::Record(damage));
        }
        let obstacle = Some(Obstacle::Unreadable(with_causes(&damage)));
        Ok(self.end_at(
            position,
            reader.last_record(),
            last_transaction,
            last_commit,
            obstacle,
        ))
    }

    fn end_at(
        &self,
        end: Lsn,
        last_record: Option<Lsn>,
        last_transaction: Option<TransactionEnd>,
        last_commit: Option<TransactionEnd>,
        obstacle: Option<Obstacle>,
    ) -> End {
        let end = end.max(self.entry.end_lsn);
        End {
            reach: Reach {
                end,
                timeline: self.history.timeline_at(end),
                last_commit: last_commit.map(|commit| commit.time),
            },
            last_record,
            last_transaction,
            obstacle,
        }
    }

    /// WAL behind `contiguous` on this way: then a hole lies between.
    fn hole(&self, contiguous: Lsn) -> Option<String> {
        let behind = self.wal.index.intervals().into_iter().any(|interval| {
            let left_at = self
                .history
                .ancestor(interval.timeline)
                .map(|ancestor| ancestor.end);
            self.history.includes(interval.timeline)
                && interval.start > contiguous
                && left_at.is_none_or(|left_at| interval.start < left_at)
        });
        behind.then(|| self.segment_at(contiguous))
    }

    fn scan<T>(
        &self,
        ask: impl FnOnce(&mut Scan<'_>) -> Result<T, RecordError>,
    ) -> Result<T, RestoreError> {
        let from = self.entry.start_lsn;
        let mut progress = |lsn: Lsn| {
            self.cx
                .report(Phase::Plan, lsn.bytes_since(from), None, "reading WAL");
        };
        let mut scan = Scan {
            cancel: &self.cx.cancel,
            progress: &mut progress,
        };
        let answer = ask(&mut scan);
        if self.cx.cancel.is_cancelled() {
            return Err(RestoreError::Repository(Error::Cancelled));
        }
        answer.map_err(RestoreError::Record)
    }

    fn segment_at(&self, lsn: Lsn) -> String {
        let size = self.wal.index.segment_size();
        SegmentName::at(self.history.timeline_at(lsn), lsn, size).file_name(size)
    }
}

/// Whether stored WAL is not what it should be, or cannot be read.
pub(super) fn is_unreadable(error: &RecordError) -> bool {
    matches!(error, RecordError::Damaged { .. } | RecordError::Source(_))
}

/// An error and what caused it, in one line.
pub(super) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        // Some errors print their source themselves.
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}
