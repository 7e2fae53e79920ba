//! `wal get --ahead`: the segments that PostgreSQL will ask for next.
//!
//! Trouble with them is told and is never an answer: what is not there is fetched as without them.

use std::fmt::Write as _;
use std::path::Path;

use pgm_wal::archive::{AheadFolder, AheadRange, Archive, ArchiveError};
use pgm_wal::{SegmentName, SegmentSize, Spool};
use pgmd::place::RepositoryPlace;

use crate::arguments::WalGetArguments;
use crate::error::chain;

/// The folder of them, if there are to be any.
pub(super) struct Ahead<'a> {
    arguments: &'a WalGetArguments,
    /// What tells segments of here from those of elsewhere.
    source: String,
    /// Once it is there and ours.
    folder: Option<AheadFolder>,
}

impl<'a> Ahead<'a> {
    pub(super) fn open(
        arguments: &'a WalGetArguments,
        places: &[RepositoryPlace],
        spool: Option<&Path>,
    ) -> Self {
        let mut ahead = Self {
            arguments,
            source: source(arguments, places, spool),
            folder: None,
        };
        if arguments.ahead > 0 {
            let opened = AheadFolder::open(&arguments.path, &ahead.source);
            ahead.folder = told(opened).flatten();
        }
        ahead
    }

    /// Delivers the file that is asked for, if it was fetched ahead.
    pub(super) fn deliver(&self) -> bool {
        let WalGetArguments { file, path, .. } = self.arguments;
        let taken = self.folder.as_ref().map(|folder| folder.take(file, path));
        taken.and_then(told).unwrap_or_default()
    }

    /// Fetches what comes behind `name`, which was delivered.
    pub(super) fn fill(
        mut self,
        archive: &Archive,
        spool: Option<&Spool>,
        name: SegmentName,
        size: SegmentSize,
    ) {
        if self.arguments.ahead == 0 {
            return;
        }
        let first = name.next();
        let count = self.count(first, size);
        if self.folder.is_none() && count > 0 {
            let made = AheadFolder::create(&self.arguments.path, &self.source);
            self.folder = told(made).flatten();
        }
        let Some(folder) = self.folder else { return };
        let here = told(folder.fill(archive, spool, AheadRange { first, size, count }));
        // Nothing comes any more.
        if here == Some(0) {
            folder.remove_all();
        }
    }

    /// Removes them; false when there were none.
    pub(super) fn make_room(&mut self) -> bool {
        let folder = self.folder.take();
        folder.map(AheadFolder::remove_all).is_some()
    }

    /// Removes them: recovery has come to an end, or goes another way.
    pub(super) fn end(self) {
        if let Some(folder) = self.folder {
            folder.remove_all();
        }
    }

    /// How many from `first` on recovery can need.
    fn count(&self, first: SegmentName, size: SegmentSize) -> usize {
        let count = usize::from(self.arguments.ahead);
        match self.arguments.needed {
            Some(needed) if self.arguments.stops_there => {
                let bytes = needed.bytes().saturating_sub(first.start(size).bytes());
                count.min(usize::try_from(bytes.div_ceil(size.bytes())).unwrap_or(count))
            }
            _ => count,
        }
    }
}

/// Says in text where segments come from.
fn source(arguments: &WalGetArguments, places: &[RepositoryPlace], spool: Option<&Path>) -> String {
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
