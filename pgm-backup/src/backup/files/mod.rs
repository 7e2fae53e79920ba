//! Backups of a server on the same host: its files are read where they are, by several threads.
//!
//! The server is told that a backup begins and ends; in between everything is read that it would have sent, in any order, and `pg_control` last. What the server
//! sends for `BASE_BACKUP` goes through one process of its own, and that is what a backup of it waits for; here is none. An incremental backup reads only the pages that
//! pgm's digests of the WAL name.
//!
//! Before anything begins it is made sure that the directory is that of the server and that all of it can be read. Whatever stands against it is a
//! reason to take another way, unless this one was asked for.

mod changes;
mod control_file;
mod copy;
mod names;
mod place;
mod session;
mod walk;

use std::ffi::OsStr;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::Arc;

use pgm_proto::{BackupEnd, Client, ServerName};
use pgm_wal::summary::Summary;
use rustix::fs::{Access, AtFlags, Stat};
use rustix::process::geteuid;

use super::copy::{Copied, Said, copy_from, pack_options};
use super::lane::Lane;
use super::lanes::Lanes;
use super::native::{self, Found};
use super::publish::Beginning;
use super::read::PageChecks;
use super::source::BackupSource;
use super::start::Now;
use super::target::BackupTarget;
use super::{BackupRequest, Incremental};
use crate::catalog::{BackupMethod, BackupWal, DataChecksums, Sent, TablespaceEntry};
use crate::context::{Context, Phase};
use crate::error::{Error, Result};
use crate::manifest::{DirectoryEntry, FilePath, TablespaceLink};
use copy::{Copier, Reading};
use place::Place;
use session::Session;
use walk::{Tree, Visitor, failed};

const REASON_CHARS_MAX: usize = 1000;
/// The sizes of pages and of files of relations that are understood.
const SIZES: [&str; 2] = ["8192", "1GB"];

/// A server whose files can be read.
#[derive(Debug)]
pub(super) struct Files {
    place: Place,
    session: Session,
    total_bytes: u64,
}

/// Why the files are not read.
#[derive(Debug)]
pub(super) struct WhyNot {
    reason: String,
    advice: String,
}

impl WhyNot {
    fn new(reason: impl Into<String>, advice: impl Into<String>) -> Self {
        Self {
            reason: reason.into().chars().take(REASON_CHARS_MAX).collect(),
            advice: advice.into(),
        }
    }

    /// For the catalog entry.
    pub(super) fn note(&self) -> String {
        format!("the files were not read where they are: {}", self.reason)
    }
}

/// Looks whether the files of the server can be read, and opens the session that it takes; `None` when nobody asked.
pub(super) fn find(
    cx: &Context,
    client: &Client,
    now: (&ServerName, &Now),
    request: &BackupRequest,
) -> Result<Option<std::result::Result<Files, WhyNot>>> {
    let (server, now) = now;
    match request.source {
        BackupSource::Stream | BackupSource::Native => return Ok(None),
        BackupSource::Auto | BackupSource::Local => {}
    }
    match (look(cx, client, now, request), request.source) {
        (Err(Error::Cancelled), _) => Err(Error::Cancelled),
        (Err(error), _) => Err(error),
        (Ok(Err(WhyNot { reason, advice })), BackupSource::Local) => Err(Error::NoFiles {
            server: server.clone(),
            reason,
            advice,
        }),
        (Ok(found), _) => Ok(Some(found)),
    }
}

fn look(
    cx: &Context,
    client: &Client,
    now: &Now,
    request: &BackupRequest,
) -> Result<std::result::Result<Files, WhyNot>> {
    const ELSEWHERE: &str = "run pgmd on the server's host, as the server's user; or take the backup with --source stream";
    let no = |reason: String, advice: &str| Ok(Err(WhyNot::new(reason, advice)));
    if request.wal == BackupWal::Included {
        return no(
            "the WAL shall be in the backup".to_owned(),
            "take it with --source stream",
        );
    }
    let Some(conninfo) = &request.sql else {
        return no(
            "there is no ordinary session".to_owned(),
            "take it with --source stream",
        );
    };
    cx.report(Phase::Plan, 0, None, "the files of the server");
    // What costs the server nothing comes first: it logs sessions that it refuses.
    let place = match Place::find(client.peer(), client.backend(), now.facts.system_id) {
        Ok(place) => place,
        Err(reason) => return no(reason, ELSEWHERE),
    };
    let major = now.facts.version.major();
    let total_bytes = match bytes(cx, &place, major) {
        Ok(bytes) => bytes,
        Err(Error::Cancelled) => return Err(Error::Cancelled),
        Err(error) => return no(error.to_string(), &error.hint().unwrap_or_default()),
    };
    let mut session = match Session::open(cx, conninfo) {
        Ok(session) => session,
        Err(pgm_proto::Error::Interrupted) => return Err(Error::Cancelled),
        Err(error) => {
            return no(
                format!("there is no ordinary session beside that for replication: {error}"),
                "let the role log in to the database `postgres` or that of the conninfo (pg_hba.conf)",
            );
        }
    };
    let facts = match session.facts() {
        Ok(facts) => facts,
        Err(pgm_proto::Error::Interrupted) => return Err(Error::Cancelled),
        Err(error) => return no(error.to_string(), ELSEWHERE),
    };
    if !facts.may {
        let [begin, end] = session.functions();
        let grants = format!(
            "GRANT EXECUTE ON FUNCTION {begin}, {end} TO the role, in the database of the session"
        );
        return no(
            format!("the role may not execute {begin} and {end}"),
            &grants,
        );
    }
    if facts.sizes != SIZES {
        let [page, file] = &facts.sizes;
        return no(
            format!("its pages have {page} bytes, and its files {file}"),
            "take it with --source stream",
        );
    }
    if let Err(reason) = place.compare(&facts, &mut session) {
        return no(reason, ELSEWHERE);
    }
    Ok(Ok(Files {
        place,
        session,
        total_bytes,
    }))
}

/// The bytes of everything that will be read; fails if something may not be read.
fn bytes(cx: &Context, place: &Place, major: u32) -> Result<u64> {
    let tree = Tree::new(place.folder.as_fd(), major, place.catalog_version)?;
    let mut sizes = Sizes { bytes: 0 };
    tree.visit(cx, &mut sizes)?;
    Ok(sizes.bytes)
}

struct Sizes {
    bytes: u64,
}

impl Visitor for Sizes {
    fn folder(&mut self, _: DirectoryEntry) -> Result<()> {
        Ok(())
    }

    fn tablespace(&mut self, _: TablespaceLink) -> Result<()> {
        Ok(())
    }

    fn file(
        &mut self,
        folder: BorrowedFd<'_>,
        name: &OsStr,
        path: FilePath,
        stat: &Stat,
    ) -> Result<()> {
        self.bytes += u64::try_from(stat.st_size).unwrap_or(0);
        let user = geteuid();
        if user.is_root() || (stat.st_uid == user.as_raw() && stat.st_mode & 0o400 != 0) {
            return Ok(());
        }
        match rustix::fs::accessat(folder, name, Access::READ_OK, AtFlags::EACCESS) {
            Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
            Err(error) => Err(failed("read", path.as_bytes(), error)),
        }
    }

    fn left(&mut self, _: &FilePath, _: &'static str) -> Result<()> {
        Ok(())
    }
}

impl Files {
    /// Takes the backup, but for its publication.
    pub(super) fn copy(
        mut self,
        cx: &Context,
        lanes: Lanes<Lane>,
        targets: &[BackupTarget<'_>],
        now: (&ServerName, &Now),
        request: &BackupRequest,
    ) -> Result<(Beginning, Copied)> {
        let before = match request.incremental {
            Incremental::Never => None,
            Incremental::IfPossible => {
                Some(native::find(cx, &lanes, targets, now, request.compaction)?)
            }
        };
        let now = now.1;
        cx.report(
            Phase::Checkpoint,
            0,
            None,
            "waiting for the server's checkpoint",
        );
        let start_lsn = self
            .session
            .start(&request.server_label, request.checkpoint)?;
        let built = before.map(|before| {
            before.and_then(|found| {
                let changes = changes_since(cx, &lanes, targets, &found, (now, start_lsn))?;
                Ok((found, changes))
            })
        });
        let changes = build(&lanes, built);
        let major = now.facts.version.major();
        let place = &self.place;
        let tree = Tree::new(place.folder.as_fd(), major, place.catalog_version)?;
        let checks = match now.data_checksums {
            DataChecksums::On => Some(Arc::new(PageChecks::new(start_lsn))),
            DataChecksums::Off => None,
        };
        let reading = Reading {
            checks: checks.as_ref(),
            changes: changes.as_ref(),
            // How much of it has changed is known only when it has been read.
            total_bytes: changes.is_none().then_some(self.total_bytes),
            max_rate_kib: request.max_rate_kib,
        };
        let options = pack_options(request, targets.len(), reading.total_bytes);
        let session = &mut self.session;
        let copied = copy_from(cx, lanes, options, &request.discard, |exchange, lanes| {
            let copier = Copier::new(cx, exchange, lanes, session, reading);
            let (stopped, warnings) = copier.copy(&tree, place.control_file())?;
            Ok(Said {
                end: BackupEnd {
                    end_lsn: stopped.end_lsn,
                    timeline: now.timeline,
                    notices: stopped.notices,
                    failure: None,
                },
                label_file: stopped.label_file,
                warnings,
                damaged: checks
                    .as_ref()
                    .map(|checks| checks.warnings())
                    .unwrap_or_default(),
            })
        })?;
        let tablespaces = tree.tablespaces.iter().map(|tablespace| TablespaceEntry {
            oid: tablespace.oid,
            location: tablespace.target.clone(),
        });
        let beginning = Beginning {
            facts: now.facts,
            data_checksums: now.data_checksums,
            timeline: now.timeline,
            start_lsn,
            tablespaces: tablespaces.collect(),
            sent: Sent::Plain,
            method: BackupMethod::Files,
            note: "the files were read where they are".to_owned(),
            warnings: Vec::new(),
        };
        Ok((beginning, copied))
    }
}

/// Builds the backup on the one before, where there is one to build on.
fn build(
    lanes: &Lanes<Lane>,
    built: Option<std::result::Result<(Found, Summary), String>>,
) -> Option<Summary> {
    match built? {
        Ok((found, changes)) => {
            found.build(lanes);
            Some(changes)
        }
        Err(reason) => {
            for (_, lane) in lanes.open() {
                lane.build_on(Err(reason.clone()));
            }
            None
        }
    }
}

/// What has changed since the start of the backup before, by whichever archive can tell.
fn changes_since(
    cx: &Context,
    lanes: &Lanes<Lane>,
    targets: &[BackupTarget<'_>],
    found: &Found,
    now: (&Now, pgm_proto::Lsn),
) -> std::result::Result<Summary, String> {
    let (now, start_lsn) = now;
    let entry = &found.entry;
    cx.report(
        Phase::Plan,
        0,
        None,
        "what has changed since the backup before",
    );
    if entry.start_lsn >= start_lsn {
        return Err(format!("backup {} is newer", entry.label));
    }
    let mut reason = None;
    for target in lanes.open().filter_map(|(number, _)| targets.get(number)) {
        let changes = target
            .coverage
            .changes(now.timeline, entry.start_lsn, start_lsn);
        match changes {
            Ok(Some(changes)) => match changes.minimal {
                None => return Ok(changes),
                Some(lsn) => {
                    reason.get_or_insert(format!("wal_level is minimal from {lsn} on"));
                }
            },
            Ok(None) => {
                reason.get_or_insert("nobody can say what has changed".to_owned());
            }
            Err(error) => {
                reason.get_or_insert(error.to_string());
            }
        }
    }
    Err(reason.unwrap_or_else(|| "there is no repository".to_owned()))
}
