//! Writes a stream of WAL into the segments of a spool.
//!
//! ```text
//! begin -> write* -> sync -> write* ...          one sync covers everything since the last: group commit
//!            at the end of a segment: sync, rename .partial to its final name, make the next, sync the folder
//! ```
//!
//! After an error nothing more is written or acknowledged until `begin`. A file whose sync failed is dead, since the
//! kernel forgets a lost write once it has told: it is renamed to `….partial.failed-N`, its WAL is received into a new
//! file, and it is removed when that one is finished. Steady-state writing allocates nothing per message.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

use pgm_proto::{Lsn, TimelineId};

use super::ReceiveObserver;
use super::padding::is_padding;
use super::segment_file::{COMPARE_BYTES, SegmentFile};
use crate::durable::DurableLsn;
use crate::error::{ReceiveError, SpoolError};
use crate::segment::{SegmentName, SegmentSize, WalFileName};
use crate::spool::{self, Spool};

/// How many dead files of one segment are kept.
const FAILED_FILES_MAX: u32 = 4;

/// Writes WAL into a spool and makes it durable.
#[derive(Debug)]
pub struct SegmentWriter {
    spool: Spool,
    size: SegmentSize,
    scratch: Box<[u8]>,
    current: Option<Current>,
}

/// What is being written.
#[derive(Debug)]
struct Current {
    file: SegmentFile,
    written: Lsn,
    durable: Option<DurableLsn>,
}

/// What an old timeline's last segment holds behind the switch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Tail {
    /// Nothing.
    Empty,
    /// Bytes that the server's branch does not have.
    Held(PathBuf),
}

impl SegmentWriter {
    /// A writer for the spool, whose segments are of `size`.
    pub fn new(spool: &Spool, size: SegmentSize) -> Self {
        let scratch = vec![0; COMPARE_BYTES].into_boxed_slice();
        Self {
            spool: spool.clone(),
            size,
            scratch,
            current: None,
        }
    }

    /// Goes to `lsn` on `timeline`, which must be the beginning of a segment, and makes its file.
    pub fn begin(&mut self, timeline: TimelineId, lsn: Lsn) -> Result<(), ReceiveError> {
        self.current = None;
        if self.size.offset_of(lsn) != 0 {
            return Err(ReceiveError::Unexpected("a start inside a segment"));
        }
        let name = SegmentName::at(timeline, lsn, self.size);
        let file = SegmentFile::open(&self.spool, name, self.size)?;
        self.current = Some(Current {
            file,
            written: lsn,
            durable: None,
        });
        Ok(())
    }

    /// Appends `data`. A segment that becomes full is finished; the observer hears of it.
    pub fn write(
        &mut self,
        mut data: &[u8],
        observer: &mut dyn ReceiveObserver,
    ) -> Result<(), ReceiveError> {
        while !data.is_empty() {
            let Some(current) = &mut self.current else {
                return Err(ReceiveError::Unexpected("WAL before a start"));
            };
            let offset = self.size.offset_of(current.written);
            let room = usize::try_from(self.size.bytes() - offset).unwrap_or(usize::MAX);
            let (piece, rest) = data.split_at(data.len().min(room));
            let mut written = current.file.write(piece, offset, &mut self.scratch);
            if let Err(ReceiveError::SplitBrain { lsn, .. }) = written
                && is_padding(&self.spool, current.file.name(), self.size, lsn)
            {
                current.file.overwrite();
                written = current.file.write(piece, offset, &mut self.scratch);
            }
            if let Err(error) = written {
                self.current = None;
                return Err(error);
            }
            current.written = current.written + piece.len() as u64;
            data = rest;
            if piece.len() == room {
                self.finish(observer)?;
            }
        }
        Ok(())
    }

    /// Makes everything that was written durable; `None` when nothing was written since [`SegmentWriter::begin`].
    pub fn sync(
        &mut self,
        observer: &mut dyn ReceiveObserver,
    ) -> Result<Option<DurableLsn>, ReceiveError> {
        let Some(mut current) = self.current.take() else {
            return Ok(None);
        };
        let clean = current
            .durable
            .map_or(current.file.name().start(self.size), DurableLsn::lsn);
        if current.written > clean {
            let began = Instant::now();
            let synced = current.file.sync(current.written);
            observer.synced(began.elapsed());
            match synced {
                Ok(durable) => current.durable = Some(durable),
                Err(source) => return Err(Self::set_aside(&current.file, source)),
            }
        }
        let durable = current.durable;
        self.current = Some(current);
        Ok(durable)
    }

    /// The end of what is on disk, `None` before the first sync.
    pub fn durable(&self) -> Option<DurableLsn> {
        self.current.as_ref().and_then(|current| current.durable)
    }

    /// The end of what was written, [`Lsn::INVALID`] before [`SegmentWriter::begin`].
    pub fn written(&self) -> Lsn {
        self.current
            .as_ref()
            .map_or(Lsn::INVALID, |current| current.written)
    }

    /// Leaves the timeline, which another one follows from `switch` on. Its last segment stays unfinished, with what
    /// it holds behind the switch; an empty one is removed.
    pub(super) fn leave(&mut self, switch: Lsn) -> Result<Tail, ReceiveError> {
        let Some(Current { file, written, .. }) = self.current.take() else {
            return Ok(Tail::Empty);
        };
        let start = file.name().start(self.size);
        if file.holds_bytes_from(written.max(switch).bytes_since(start), &mut self.scratch)? {
            return Ok(Tail::Held(file.path().to_owned()));
        }
        if written == start {
            self.spool.remove(WalFileName::Partial(file.name()))?;
        }
        Ok(Tail::Empty)
    }

    fn finish(&mut self, observer: &mut dyn ReceiveObserver) -> Result<(), ReceiveError> {
        let durable = self.sync(observer)?;
        let Some(Current { file, written, .. }) = self.current.take() else {
            return Ok(());
        };
        let name = file.name();
        let path = self.spool.path(WalFileName::Segment(name));
        place(file.path(), &path, name.start(self.size), &mut self.scratch)?;
        self.forget_failed(name)?;
        drop(file);
        // Opening syncs the folder: the rename and the new file become durable together.
        let file = SegmentFile::open(&self.spool, name.next(), self.size)?;
        self.current = Some(Current {
            file,
            written,
            durable,
        });
        observer.segment_finished(name);
        Ok(())
    }

    /// Renames a file that could not be synced, so that its WAL is received into a new one.
    fn set_aside(file: &SegmentFile, source: io::Error) -> ReceiveError {
        let path = file.path().to_owned();
        // The first ones hold what was acknowledged: only the last is replaced.
        let free = (1..FAILED_FILES_MAX).find(|number| !failed_path(&path, *number).exists());
        let aside = failed_path(&path, free.unwrap_or(FAILED_FILES_MAX));
        let renamed = std::fs::rename(&path, aside);
        if let Err(source) = renamed {
            return SpoolError::io("set aside", &path, source).into();
        }
        ReceiveError::SyncFailed { path, source }
    }

    /// Removes what was set aside of a segment that is finished now.
    fn forget_failed(&self, name: SegmentName) -> Result<(), SpoolError> {
        let partial = self.spool.path(WalFileName::Partial(name));
        for number in 1..=FAILED_FILES_MAX {
            let path = failed_path(&partial, number);
            match std::fs::remove_file(&path) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                Err(source) => return Err(SpoolError::io("remove", &path, source)),
            }
        }
        Ok(())
    }
}

fn failed_path(partial: &Path, number: u32) -> PathBuf {
    let mut path = partial.as_os_str().to_owned();
    path.push(format!(".failed-{number}"));
    path.into()
}

/// Gives a full segment its final name. A file of that name may be there only with the same bytes.
fn place(partial: &Path, path: &Path, start: Lsn, scratch: &mut [u8]) -> Result<(), ReceiveError> {
    let error = match spool::rename_new(partial, path) {
        Ok(()) => return Ok(()),
        Err(error) => error,
    };
    let taken = matches!(&error, SpoolError::Io { source, .. } if source.kind() == io::ErrorKind::AlreadyExists);
    if !taken {
        return Err(error.into());
    }
    let difference = spool::first_difference(partial, path, scratch)?;
    if let Some(offset) = difference {
        return Err(ReceiveError::SplitBrain {
            path: path.to_owned(),
            lsn: start + offset,
        });
    }
    let removed = std::fs::remove_file(partial);
    removed.map_err(|source| SpoolError::io("remove", partial, source).into())
}
