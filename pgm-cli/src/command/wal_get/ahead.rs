//! `wal get --ahead`: the segments that PostgreSQL will ask for next.
//!
//! Trouble with them is told and is never an answer: what is not there is fetched as without them.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use pgm_proto::Lsn;
use pgm_wal::archive::{AheadFolder, Archive, ArchiveError};
use pgm_wal::{SegmentName, SegmentSize, Spool};
use pgmd::place::RepositoryPlace;

use super::reader;
use crate::arguments::WalGetArguments;
use crate::error::chain;

/// The folder of them, if there are to be any.
pub(super) struct Ahead<'a> {
    file: &'a str,
    path: &'a Path,
    reach: Reach,
    /// What tells segments of here from those of elsewhere.
    source: String,
    /// Once it is there and ours.
    folder: Option<AheadFolder>,
}

/// How far ahead is fetched.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reach {
    ahead: u8,
    /// Where recovery stops.
    end: Option<Lsn>,
}

impl Reach {
    pub(super) fn of(arguments: &WalGetArguments) -> Self {
        Self {
            ahead: arguments.ahead,
            end: arguments.needed.filter(|_| arguments.stops_there),
        }
    }

    /// How many segments from `first` on recovery can need.
    pub(super) fn count(self, first: SegmentName, size: SegmentSize) -> usize {
        let count = usize::from(self.ahead);
        let Some(end) = self.end else {
            return count;
        };
        let bytes = end.bytes().saturating_sub(first.start(size).bytes());
        count.min(usize::try_from(bytes.div_ceil(size.bytes())).unwrap_or(count))
    }
}

impl<'a> Ahead<'a> {
    pub(super) fn open(arguments: &'a WalGetArguments, source: String) -> Self {
        let mut ahead = Self {
            file: &arguments.file,
            path: &arguments.path,
            reach: Reach::of(arguments),
            source,
            folder: None,
        };
        if arguments.ahead > 0 {
            let opened = AheadFolder::open(&arguments.path, &ahead.source);
            ahead.folder = told(opened).flatten();
        }
        ahead
    }

    /// Delivers the file that is asked for, if it was fetched ahead, and sees to it that more is.
    pub(super) fn deliver(&self) -> bool {
        let Some(folder) = &self.folder else {
            return false;
        };
        let taken = told(folder.take(self.file, self.path)).unwrap_or_default();
        if taken {
            // The reader may have come to its end and removed the folder.
            let _ = folder.ask(self.file);
            let size = std::fs::metadata(self.path).map(|file| SegmentSize::new(file.len()));
            if let Ok(Ok(size)) = size
                && let Ok(name) = SegmentName::parse(self.file, size)
                && self.reach.count(name.next(), size) > 0
                && !folder.has_reader()
            {
                reader::start();
            }
        }
        taken
    }

    /// Sees to it that what comes behind `name`, which was delivered, is fetched.
    pub(super) fn follow(
        mut self,
        archive: Option<&Archive>,
        spool: Option<&Spool>,
        name: SegmentName,
        size: SegmentSize,
    ) {
        let next = name.next();
        let is_wanted = self.reach.count(next, size) > 0;
        if is_wanted
            && let Some(folder) = &self.folder
            && folder.has_reader()
        {
            // Recovery has overtaken it, or gone another way.
            told(folder.ask(self.file));
            return;
        }
        let comes = |archive: &Archive| archive.has_finished(next, size, spool).unwrap_or(false);
        if !is_wanted || !archive.is_some_and(comes) {
            self.end();
            return;
        }
        if self.folder.is_none() {
            let made = AheadFolder::create(self.path, &self.source);
            self.folder = told(made).flatten();
        }
        let Some(folder) = self.folder else { return };
        if told(folder.ask(self.file)).is_some() {
            reader::start();
        }
    }

    /// Removes them; false when there were none.
    pub(super) fn make_room(&mut self) -> bool {
        let folder = self.folder.take();
        folder.map(AheadFolder::end).is_some()
    }

    /// Removes them: recovery has come to an end, or goes another way.
    pub(super) fn end(self) {
        if let Some(folder) = self.folder {
            folder.end();
        }
    }
}

/// Says in text where segments come from.
pub(super) fn source(
    arguments: &WalGetArguments,
    places: &[RepositoryPlace],
    spool: Option<&PathBuf>,
) -> String {
    let mut text = format!("server {}\n", arguments.server);
    for place in places {
        let _ = writeln!(text, "repository {place}");
    }
    if let Some(spool) = spool {
        let _ = writeln!(text, "spool {}", spool.display());
    }
    text
}

/// The outcome; a failure goes to standard error, which is PostgreSQL's log.
fn told<T>(outcome: Result<T, ArchiveError>) -> Option<T> {
    outcome
        .inspect_err(|error| {
            eprintln!(
                "note: {}; the segment is fetched without reading ahead",
                chain(error)
            );
        })
        .ok()
}
