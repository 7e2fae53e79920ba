//! Backups of which pgm reads the files itself, by several threads: where they are, on the same host, or through the server's own functions.
//!
//! The server is told that a backup begins and ends; in between everything is read that it would have sent, in any order, and `pg_control` last. What the server
//! sends for `BASE_BACKUP` goes through one process of its own, and that is what a backup of it waits for; here is none. An incremental backup reads only the pages that
//! pgm's digests of the WAL name.
//!
//! Before anything begins it is made sure that the files are those of the server and that all of them can be read. Whatever stands against it is a
//! reason to take another way, unless this one was asked for.

mod changes;
mod control_file;
mod copy;
mod directory;
mod find;
mod local;
mod names;
mod place;
mod remote;
mod session;
mod sessions;
mod sql;
mod walk;

use std::sync::Arc;

use pgm_proto::{BackupEnd, Client, Lsn, ServerName};
use pgm_wal::summary::Summary;

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
use crate::catalog::{BackupMethod, DataChecksums, Sent, TablespaceEntry};
use crate::context::{Context, Phase};
use crate::error::{Error, Result};
use copy::{Copier, Reading};
use directory::DataDirectory;
use place::Place;
use remote::RemoteDirectory;
use session::Session;
use walk::Tree;

pub(super) use find::WhyNot;

/// A server whose files can be read.
#[derive(Debug)]
pub(super) struct Files {
    directory: Directory,
    session: Session,
    catalog_version: u32,
    total_bytes: u64,
}

/// Where its files are.
#[derive(Debug)]
enum Directory {
    Here(Place),
    There(RemoteDirectory),
}

/// A backup that has begun.
#[derive(Debug)]
pub(super) struct Begun {
    files: Files,
    start_lsn: Lsn,
    /// On what it can be built, if that is wanted, and what has changed since; or why it cannot.
    built: Option<std::result::Result<(Found, Summary), String>>,
}

/// Looks whether the files of the server can be read, and opens the sessions that it takes; `None` when nobody asked. Through the
/// server they are read only if that was asked for.
pub(super) fn find(
    cx: &Context,
    client: &Client,
    now: (&ServerName, &Now),
    request: &BackupRequest,
    targets: usize,
) -> Result<Option<std::result::Result<Files, WhyNot>>> {
    let (server, now) = now;
    let found = match request.source {
        BackupSource::Stream | BackupSource::Native => return Ok(None),
        BackupSource::Auto | BackupSource::Local => find::here(cx, client, now, request)?,
        BackupSource::Blocks => there(cx, client, now, request, targets)?,
    };
    match (found, request.source) {
        (Err(WhyNot { reason, advice }), BackupSource::Local | BackupSource::Blocks) => {
            Err(Error::NoFiles {
                server: server.clone(),
                reason,
                advice,
            })
        }
        (found, _) => Ok(Some(found)),
    }
}

/// The same through the server's functions; each thread that compresses has a session of its own.
fn there(
    cx: &Context,
    client: &Client,
    now: &Now,
    request: &BackupRequest,
    targets: usize,
) -> find::Looked {
    let readers = pack_options(request, targets, None).workers;
    find::there(cx, client, now, request, readers)
}

/// Begins an incremental backup of what the server reads for us, if that is possible; else says why not, and nothing has begun.
pub(super) fn begin_changed(
    cx: &Context,
    client: &Client,
    lanes: &Lanes<Lane>,
    targets: &[BackupTarget<'_>],
    now: (&ServerName, &Now),
    request: &BackupRequest,
) -> Result<std::result::Result<Begun, WhyNot>> {
    let found = match native::find(cx, lanes, targets, now, request.compaction)? {
        Ok(found) => found,
        // Without a backup before nobody asks the server for more sessions.
        Err(reason) => return Ok(Err(WhyNot::new(reason, ""))),
    };
    let files = match there(cx, client, now.1, request, targets.len())? {
        Ok(files) => files,
        Err(why_not) => return Ok(Err(why_not)),
    };
    let begun = files.begin_with(cx, lanes, targets, now.1, request, Some(Ok(found)))?;
    Ok(match begun.built {
        // The session ends here, and so does the backup that it has begun.
        Some(Err(reason)) => Err(WhyNot::new(reason, "")),
        _ => Ok(begun),
    })
}

impl Files {
    /// Begins a backup.
    pub(super) fn begin(
        self,
        cx: &Context,
        lanes: &Lanes<Lane>,
        targets: &[BackupTarget<'_>],
        now: (&ServerName, &Now),
        request: &BackupRequest,
    ) -> Result<Begun> {
        let before = match request.incremental {
            Incremental::Never => None,
            Incremental::IfPossible => {
                Some(native::find(cx, lanes, targets, now, request.compaction)?)
            }
        };
        self.begin_with(cx, lanes, targets, now.1, request, before)
    }

    fn begin_with(
        mut self,
        cx: &Context,
        lanes: &Lanes<Lane>,
        targets: &[BackupTarget<'_>],
        now: &Now,
        request: &BackupRequest,
        before: Option<std::result::Result<Found, String>>,
    ) -> Result<Begun> {
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
                let changes = changes_since(cx, lanes, targets, &found, (now, start_lsn))?;
                Ok((found, changes))
            })
        });
        Ok(Begun {
            files: self,
            start_lsn,
            built,
        })
    }
}

impl Begun {
    /// Takes the backup, but for its publication.
    pub(super) fn copy(
        self,
        cx: &Context,
        lanes: Lanes<Lane>,
        targets: usize,
        now: &Now,
        request: &BackupRequest,
    ) -> Result<(Beginning, Copied)> {
        let Self {
            files,
            start_lsn,
            built,
        } = self;
        let changes = build(&lanes, built);
        let Files {
            directory,
            mut session,
            catalog_version,
            total_bytes,
        } = files;
        let checks = match now.data_checksums {
            DataChecksums::On => Some(Arc::new(PageChecks::new(start_lsn))),
            DataChecksums::Off => None,
        };
        let reading = Reading {
            checks: checks.as_ref(),
            changes: changes.as_ref(),
            // How much of it has changed is known only when it has been read.
            total_bytes: changes.is_none().then_some(total_bytes),
            max_rate_kib: request.max_rate_kib,
        };
        let run = Run {
            cx,
            targets,
            now,
            request,
            reading,
            catalog_version,
        };
        let (copied, tablespaces) = match &directory {
            Directory::Here(place) => run.copy(&place.directory(), &mut session, lanes)?,
            Directory::There(directory) => run.copy(directory, &mut session, lanes)?,
        };
        let (method, note) = match directory {
            Directory::Here(_) => (BackupMethod::Files, "the files were read where they are"),
            Directory::There(_) => (
                BackupMethod::Blocks,
                "the server read its files for ordinary sessions",
            ),
        };
        let beginning = Beginning {
            facts: now.facts,
            data_checksums: now.data_checksums,
            timeline: now.timeline,
            start_lsn,
            tablespaces,
            sent: Sent::Plain,
            method,
            note: note.to_owned(),
            warnings: Vec::new(),
        };
        Ok((beginning, copied))
    }
}

/// What a copy needs to know.
struct Run<'a> {
    cx: &'a Context,
    targets: usize,
    now: &'a Now,
    request: &'a BackupRequest,
    reading: Reading<'a>,
    catalog_version: u32,
}

impl Run<'_> {
    fn copy<D: DataDirectory>(
        &self,
        directory: &D,
        session: &mut Session,
        lanes: Lanes<Lane>,
    ) -> Result<(Copied, Vec<TablespaceEntry>)> {
        let major = self.now.facts.version.major();
        let tree = Tree::new(directory, major, self.catalog_version)?;
        let options = pack_options(self.request, self.targets, self.reading.total_bytes);
        let discard = &self.request.discard;
        let copied = copy_from(self.cx, lanes, options, discard, |exchange, lanes| {
            let shared = (exchange, lanes);
            let copier = Copier::new(self.cx, directory, shared, session, self.reading);
            let (stopped, warnings) = copier.copy(&tree)?;
            Ok(Said {
                end: BackupEnd {
                    end_lsn: stopped.end_lsn,
                    timeline: self.now.timeline,
                    notices: stopped.notices,
                    failure: None,
                },
                label_file: stopped.label_file,
                warnings,
                damaged: self
                    .reading
                    .checks
                    .map(|checks| checks.warnings())
                    .unwrap_or_default(),
            })
        })?;
        let tablespaces = tree.tablespaces.iter().map(|tablespace| TablespaceEntry {
            oid: tablespace.oid,
            location: tablespace.target.clone(),
        });
        Ok((copied, tablespaces.collect()))
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
    now: (&Now, Lsn),
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
