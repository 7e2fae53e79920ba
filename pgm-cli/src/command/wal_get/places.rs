//! Where `wal get` looks: one repository, or several of the same server in order of preference.
//!
//! The first that gives the whole file is taken; what the others would have had to say does not matter then. What none of
//! them gives is judged by all: a segment is absent only when every one of them has answered that it is, because the one that
//! does not answer may have it, and more behind it. Of several each is given a short time first, and only when no other has the
//! file, all that its address says.
//!
//! Of a history file it is enough when one of them answers. What hangs on it is the number that a new timeline gets, and not data;
//! recovery, which asks for histories that do not exist at every start, would otherwise need all repositories at once.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use pgm_backup::Repository;
use pgm_proto::{Lsn, ServerName, TimelineId};
use pgm_wal::archive::{Archive, ArchiveError, Lookup, Origin, Remains};
use pgm_wal::{SegmentName, SegmentSize, Spool, WalFileName};
use pgmd::place::RepositoryPlace;

use crate::error::{CliError, Failure, chain};

/// The repositories, opened when they are needed.
pub(super) struct Places {
    server: ServerName,
    each: Vec<Candidate>,
}

/// One of them.
struct Candidate {
    place: RepositoryPlace,
    /// With a short time for each operation.
    short: OnceLock<Result<Opened, Said>>,
    /// With all time that its address gives it.
    patient: OnceLock<Result<Opened, Said>>,
}

struct Opened {
    repository: Repository,
    archive: Archive,
}

/// Why something was not to be had.
#[derive(Clone)]
struct Said {
    text: String,
    hint: Option<String>,
    /// It is there, and it is not what it should be.
    damaged: bool,
}

/// Why nothing was delivered.
pub(super) enum Trouble {
    /// The destination cannot be written.
    Destination(ArchiveError),
    /// It is not known whether there is such a file.
    Unknown(CliError),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Time {
    Short,
    All,
}

/// What is looked for, and where it goes.
#[derive(Clone, Copy)]
pub(super) struct Wanted<'a> {
    pub(super) size: SegmentSize,
    pub(super) destination: &'a Path,
    pub(super) spool: Option<&'a Spool>,
}

impl Places {
    pub(super) fn new(places: Vec<RepositoryPlace>, server: ServerName) -> Self {
        let each = places.into_iter().map(|place| Candidate {
            place,
            short: OnceLock::new(),
            patient: OnceLock::new(),
        });
        Self {
            server,
            each: each.collect(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.each.len()
    }

    /// The archive in one of them, if it can be opened.
    pub(super) fn archive(&self, at: usize) -> Option<&Archive> {
        let opened = self.open(at, Time::Short).ok()?;
        Some(&opened.archive)
    }

    fn open(&self, at: usize, time: Time) -> Result<&Opened, Said> {
        let Candidate {
            place,
            short,
            patient,
        } = &self.each[at];
        let only = self.each.len() == 1;
        let (cell, place) = match time {
            Time::Short if !only => (short, &place.hurried()),
            _ => (patient, place),
        };
        let opened = cell.get_or_init(|| {
            let repository =
                pgmd::repository::open(place).map_err(|error| said(&error, error.hint()))?;
            let archive = Archive::new(Arc::clone(repository.storage()), self.server.clone());
            Ok(Opened {
                repository,
                archive,
            })
        });
        opened.as_ref().map_err(Clone::clone)
    }

    /// The server's segment size, from whichever knows it.
    pub(super) fn segment_size(
        &self,
        spool: Option<&Spool>,
    ) -> Result<Option<SegmentSize>, CliError> {
        let mut failed = Vec::new();
        for at in 0..self.each.len() {
            match self.segment_size_in(at, spool) {
                Ok(Some(size)) => return Ok(Some(size)),
                Ok(None) => {}
                Err(said) => failed.push((at, said)),
            }
        }
        match failed.as_slice() {
            [] => Ok(None),
            failed => Err(self.unknown("the size of segments", failed)),
        }
    }

    fn segment_size_in(
        &self,
        at: usize,
        spool: Option<&Spool>,
    ) -> Result<Option<SegmentSize>, Said> {
        let Opened {
            repository,
            archive,
        } = self.open(at, Time::Short)?;
        let record = repository
            .server(&self.server)
            .map_err(|error| said(&error, error.hint()))?;
        let known =
            record.and_then(|record| SegmentSize::new(u64::from(record.segment_bytes)).ok());
        if known.is_some() {
            return Ok(known);
        }
        if let Some(spool) = spool {
            let known = spool.segment_size();
            if let Some(size) = known.map_err(|error| said(&error, error.hint()))? {
                return Ok(Some(size));
            }
        }
        archive
            .segment_size()
            .map_err(|error| said(&error, error.hint()))
    }

    /// Delivers a file, and says from where; or says what there is in its place.
    pub(super) fn fetch(
        &self,
        name: WalFileName,
        wanted: Wanted<'_>,
    ) -> Result<(Lookup, usize), Trouble> {
        match name {
            WalFileName::Segment(segment) => self.fetch_segment(segment, wanted),
            // What is no segment is small, and there or not.
            _ => self.fetch_other(name, wanted),
        }
    }

    fn fetch_segment(
        &self,
        name: SegmentName,
        wanted: Wanted<'_>,
    ) -> Result<(Lookup, usize), Trouble> {
        let Wanted {
            size,
            destination,
            spool,
        } = wanted;
        let file = name.file_name(size);
        let finished = |archive: &Archive| archive.fetch_finished(name, size, destination, spool);
        let mut failed: Vec<(usize, Said)> = Vec::new();
        for at in 0..self.each.len() {
            match self.ask(at, Time::Short, destination, finished)? {
                Ok(Some(origin)) => {
                    self.tell(&file, &failed);
                    return Ok((Lookup::Delivered(origin), at));
                }
                Ok(None) => {}
                Err(said) => failed.push((at, said)),
            }
        }
        if self.each.len() > 1 {
            // Nobody else has it: now they get their time.
            for (at, said) in &mut failed {
                match self.ask(*at, Time::All, destination, finished)? {
                    Ok(Some(origin)) => return Ok((Lookup::Delivered(origin), *at)),
                    Ok(None) => said.text.clear(),
                    Err(again) => *said = again,
                }
            }
            failed.retain(|(_, said)| !said.text.is_empty());
        }
        if !failed.is_empty() {
            return Err(Trouble::Unknown(self.unknown(&file, &failed)));
        }
        let mut longest: Option<(Lsn, usize)> = None;
        for at in 0..self.each.len() {
            let remains = |archive: &Archive| archive.remains(name, size, spool);
            match self.ask(at, Time::All, destination, remains)? {
                Ok(Remains::Later(next)) => {
                    let gap = Lookup::Gap {
                        missing: file,
                        next_present: next.file_name(size),
                    };
                    return Ok((gap, at));
                }
                Ok(Remains::Part(end)) if longest.is_none_or(|(known, _)| known < end) => {
                    longest = Some((end, at));
                }
                Ok(Remains::Part(_) | Remains::Nothing) => {}
                Err(said) => return Err(Trouble::Unknown(self.unknown(&file, &[(at, said)]))),
            }
        }
        let Some((_, at)) = longest else {
            return Ok((Lookup::Absent, 0));
        };
        let part = |archive: &Archive| archive.fetch_part(name, size, destination, spool);
        match self.ask(at, Time::All, destination, part)? {
            Ok(found) => Ok((found, at)),
            Err(said) => Err(Trouble::Unknown(self.unknown(&file, &[(at, said)]))),
        }
    }

    fn fetch_other(
        &self,
        name: WalFileName,
        wanted: Wanted<'_>,
    ) -> Result<(Lookup, usize), Trouble> {
        let Wanted {
            size,
            destination,
            spool,
        } = wanted;
        let file = name.file_name(size);
        let mut failed = Vec::new();
        let fetch = |archive: &Archive| archive.fetch(name, size, destination, spool);
        for at in 0..self.each.len() {
            match self.ask(at, Time::Short, destination, fetch)? {
                Ok(Lookup::Delivered(origin)) => {
                    self.tell(&file, &failed);
                    return Ok((Lookup::Delivered(origin), at));
                }
                Ok(_) => {}
                Err(said) => failed.push((at, said)),
            }
        }
        let nobody_answered = failed.len() == self.each.len();
        if nobody_answered || failed.iter().any(|(_, said)| said.damaged) {
            return Err(Trouble::Unknown(self.unknown(&file, &failed)));
        }
        self.tell(&file, &failed);
        Ok((Lookup::Absent, 0))
    }

    /// Whether one of them has WAL of `timeline`.
    pub(super) fn have_wal(
        &self,
        timeline: TimelineId,
        size: SegmentSize,
        spool: Option<&Spool>,
    ) -> Result<bool, CliError> {
        let mut failed = Vec::new();
        for at in 0..self.each.len() {
            let opened = self.open(at, Time::Short);
            let found = opened.and_then(|opened| {
                let found = opened.archive.has_wal(timeline, size, spool);
                found.map_err(|error| said(&error, error.hint()))
            });
            match found {
                Ok(true) => return Ok(true),
                Ok(false) => {}
                Err(said) => failed.push((at, said)),
            }
        }
        if failed.len() == self.each.len() {
            return Err(self.unknown(&format!("wal of timeline {timeline}"), &failed));
        }
        Ok(false)
    }

    /// Asks one of them. The outer error ends everything.
    fn ask<T>(
        &self,
        at: usize,
        time: Time,
        destination: &Path,
        what: impl Fn(&Archive) -> Result<T, ArchiveError>,
    ) -> Result<Result<T, Said>, Trouble> {
        let opened = match self.open(at, time) {
            Ok(opened) => opened,
            Err(said) => return Ok(Err(said)),
        };
        match what(&opened.archive) {
            Ok(answer) => Ok(Ok(answer)),
            Err(error @ ArchiveError::File { .. }) if matches!(&error, ArchiveError::File { path, .. } if path == destination) => {
                Err(Trouble::Destination(error))
            }
            Err(error) => Ok(Err(Said {
                damaged: error.needs_attention(),
                ..said(&error, error.hint())
            })),
        }
    }

    /// Says on standard error, which is PostgreSQL's log, who did not give `file`.
    fn tell(&self, file: &str, failed: &[(usize, Said)]) {
        for (at, said) in failed {
            let Candidate { place, .. } = &self.each[*at];
            eprintln!("note: {file} does not come from {place}: {}", said.text);
        }
    }

    /// What is said when nobody gives `file`, and not everybody has answered.
    fn unknown(&self, file: &str, failed: &[(usize, Said)]) -> CliError {
        let hint = failed.iter().find_map(|(_, said)| said.hint.clone());
        if let ([_], [(_, said)]) = (self.each.as_slice(), failed) {
            return CliError::new(Failure::StopRecovery, &said.text, hint);
        }
        let told = failed.iter().map(|(at, said)| {
            let Candidate { place, .. } = &self.each[*at];
            format!("{place}: {}", said.text)
        });
        let others = match self.each.len() - failed.len() {
            0 => "",
            _ => "; the other repositories do not have it",
        };
        let text = format!(
            "{file} cannot be had from {}{others}",
            told.collect::<Vec<_>>().join("; ")
        );
        let without =
            "or take that repository out of restore_command, to recover with what the others have";
        let hint = hint.map_or_else(|| without.to_owned(), |hint| format!("{hint}; {without}"));
        CliError::new(Failure::StopRecovery, text, Some(hint))
    }
}

fn said(error: &dyn std::error::Error, hint: Option<String>) -> Said {
    Said {
        text: chain(error),
        hint,
        damaged: false,
    }
}

/// Whether a lookup gave a whole file.
pub(super) fn is_whole(found: &Lookup) -> bool {
    matches!(found, Lookup::Delivered(Origin::Archive | Origin::Spool))
}
