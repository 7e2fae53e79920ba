//! Whether the files of a server can be read: on this host, or by its own functions.
//!
//! What costs the server nothing comes first, because it logs the sessions that it refuses.

use std::num::NonZeroUsize;
use std::sync::Arc;

use pgm_proto::{Client, ConnInfo};

use super::control_file::ControlFile;
use super::directory::{At, DataDirectory, Entry};
use super::place::Place;
use super::remote::RemoteDirectory;
use super::session::{Facts, Session};
use super::sessions::Sessions;
use super::walk::{Tree, Visitor};
use super::{Directory, Files};
use crate::backup::BackupRequest;
use crate::backup::basis::SourceKind;
use crate::backup::start::Now;
use crate::catalog::BackupWal;
use crate::context::{Context, Phase};
use crate::error::{Error, Result};
use crate::manifest::{DirectoryEntry, FilePath, TablespaceLink};

const REASON_CHARS_MAX: usize = 1000;
/// The sizes of pages and of files of relations that are understood.
const SIZES: [&str; 2] = ["8192", "1GB"];
const STREAM: &str = "take it with --source stream";
const ELSEWHERE: &str =
    "run pgmd on the server's host, as the server's user; or take the backup with --source stream";
const LOG_IN: &str =
    "let the role log in to the database `postgres` or that of the conninfo (pg_hba.conf)";
const SAME_SERVER: &str = "the conninfo must lead to one server, without a pooler in between";

/// Why the files are not read.
#[derive(Debug)]
pub(in super::super) struct WhyNot {
    pub(super) reason: String,
    pub(super) advice: String,
}

/// What was found.
pub(super) type Looked = Result<std::result::Result<Files, WhyNot>>;

/// Why the looking ended without files.
enum Not {
    /// Take another way.
    Because(WhyNot),
    /// Or none at all.
    Failed(Error),
}

impl WhyNot {
    pub(super) fn new(reason: impl Into<String>, advice: impl Into<String>) -> Self {
        Self {
            reason: reason.into().chars().take(REASON_CHARS_MAX).collect(),
            advice: advice.into(),
        }
    }

    /// For the catalog entry.
    pub(in super::super) fn note(&self) -> &str {
        &self.reason
    }
}

impl From<WhyNot> for Not {
    fn from(why_not: WhyNot) -> Self {
        Self::Because(why_not)
    }
}

impl From<Error> for Not {
    /// Whatever stands against reading is a reason to take another way.
    fn from(error: Error) -> Self {
        match error {
            Error::Cancelled | Error::Server(pgm_proto::Error::Interrupted) => {
                Self::Failed(Error::Cancelled)
            }
            error => Self::Because(WhyNot::new(
                error.to_string(),
                error.hint().unwrap_or_else(|| STREAM.to_owned()),
            )),
        }
    }
}

impl From<pgm_proto::Error> for Not {
    fn from(error: pgm_proto::Error) -> Self {
        Error::Server(error).into()
    }
}

fn looked(found: std::result::Result<Files, Not>) -> Looked {
    match found {
        Ok(files) => Ok(Ok(files)),
        Err(Not::Because(why_not)) => Ok(Err(why_not)),
        Err(Not::Failed(error)) => Err(error),
    }
}

/// Looks whether the files can be read on this host.
pub(super) fn here(cx: &Context, client: &Client, now: &Now, request: &BackupRequest) -> Looked {
    looked(look_here(cx, client, now, request))
}

fn look_here(
    cx: &Context,
    client: &Client,
    now: &Now,
    request: &BackupRequest,
) -> std::result::Result<Files, Not> {
    let conninfo = conninfo(request)?;
    cx.report(Phase::Plan, 0, None, "the files of the server");
    let place = Place::find(client.peer(), client.backend(), now.facts.system_id)
        .map_err(|reason| WhyNot::new(reason, ELSEWHERE))?;
    let catalog_version = place.catalog_version;
    let total_bytes = bytes(cx, &place.directory(), now, catalog_version)?;
    let (mut session, facts) = open(cx, conninfo, &[])?;
    place
        .compare(&facts, &mut session)
        .map_err(|reason| WhyNot::new(reason, ELSEWHERE))?;
    Ok(Files {
        directory: Directory::Here(place),
        session,
        catalog_version,
        total_bytes,
    })
}

/// Looks whether the server reads its files for us, in so many sessions.
pub(super) fn there(
    cx: &Context,
    client: &Client,
    now: &Now,
    request: &BackupRequest,
    readers: NonZeroUsize,
) -> Looked {
    looked(look_there(cx, client, now, request, readers))
}

fn look_there(
    cx: &Context,
    client: &Client,
    now: &Now,
    request: &BackupRequest,
    readers: NonZeroUsize,
) -> std::result::Result<Files, Not> {
    let conninfo = conninfo(request)?;
    cx.report(Phase::Plan, 0, None, "the files of the server");
    let (mut session, facts) = open(cx, conninfo, &Session::READING)?;
    let kind = if facts.in_recovery {
        SourceKind::Standby
    } else {
        SourceKind::Primary
    };
    let same = facts.system_id == now.facts.system_id && kind == now.source;
    let is_there = match client.backend() {
        Some(backend) if same => session.has_walsender(backend)?,
        _ => false,
    };
    if !is_there {
        let reason = "the ordinary session leads to another server than that for replication";
        return Err(WhyNot::new(reason, SAME_SERVER).into());
    }
    let sessions = Arc::new(open_readers(cx, conninfo, &facts, readers)?);
    let directory = RemoteDirectory::new(sessions, &facts)?;
    let (_, bytes_of_control) = directory.control_file()?;
    let catalog_version = ControlFile {
        bytes: bytes_of_control,
    }
    .catalog_version();
    let total_bytes = bytes(cx, &directory, now, catalog_version)?;
    Ok(Files {
        directory: Directory::There(directory),
        session,
        catalog_version,
        total_bytes,
    })
}

/// As many sessions for reading as the server lets be, at least one.
fn open_readers(
    cx: &Context,
    conninfo: &ConnInfo,
    facts: &Facts,
    readers: NonZeroUsize,
) -> std::result::Result<Sessions, Not> {
    let mut open = Vec::with_capacity(readers.get());
    for _ in 0..readers.get() {
        match Session::open_reading(cx, conninfo, facts.own) {
            Ok(Some(client)) => open.push(client),
            Ok(None) => {
                let reason = "each ordinary session leads to another server";
                return Err(WhyNot::new(reason, SAME_SERVER).into());
            }
            Err(error) if open.is_empty() => return Err(not_open(&error)),
            Err(pgm_proto::Error::Interrupted) => return Err(Error::Cancelled.into()),
            Err(error) => {
                let readers = open.len();
                tracing::info!(%error, readers, "the files are read in fewer sessions");
                break;
            }
        }
    }
    Ok(Sessions::new(open, cx.cancel.clone()))
}

fn not_open(error: &pgm_proto::Error) -> Not {
    if matches!(error, pgm_proto::Error::Interrupted) {
        return Not::Failed(Error::Cancelled);
    }
    let reason = format!("there is no ordinary session beside that for replication: {error}");
    WhyNot::new(reason, LOG_IN).into()
}

fn conninfo(request: &BackupRequest) -> std::result::Result<&ConnInfo, WhyNot> {
    if request.wal == BackupWal::Included {
        return Err(WhyNot::new("the WAL shall be in the backup", STREAM));
    }
    let conninfo = request.sql.as_ref();
    conninfo.ok_or_else(|| WhyNot::new("there is no ordinary session", STREAM))
}

/// Opens the session of the backup, if the role may do in it what it takes: begin and end a backup, and `more`.
fn open(
    cx: &Context,
    conninfo: &ConnInfo,
    more: &[&'static str],
) -> std::result::Result<(Session, Facts), Not> {
    let mut session = Session::open(cx, conninfo).map_err(|error| not_open(&error))?;
    let facts = session.facts()?;
    let needed = [&session.functions()[..], more].concat();
    if let Some(grant) = session.grant(&needed)? {
        return Err(WhyNot::new(grant.reason(), grant.advice()).into());
    }
    if facts.sizes != SIZES {
        let [page, file] = &facts.sizes;
        let reason = format!("its pages have {page} bytes, and its files {file}");
        return Err(WhyNot::new(reason, STREAM).into());
    }
    Ok((session, facts))
}

/// The bytes of everything that will be read; fails if something may not be read.
fn bytes<D: DataDirectory>(
    cx: &Context,
    directory: &D,
    now: &Now,
    catalog_version: u32,
) -> Result<u64> {
    let tree = Tree::new(directory, now.facts.version.major(), catalog_version)?;
    let mut sizes = Sizes {
        directory,
        bytes: 0,
    };
    tree.visit(cx, &mut sizes)?;
    Ok(sizes.bytes)
}

struct Sizes<'a, D> {
    directory: &'a D,
    bytes: u64,
}

impl<D: DataDirectory> Visitor<D> for Sizes<'_, D> {
    fn folder(&mut self, _: DirectoryEntry) -> Result<()> {
        Ok(())
    }

    fn tablespace(&mut self, _: TablespaceLink) -> Result<()> {
        Ok(())
    }

    fn file(&mut self, at: At<'_, D>, _: FilePath, entry: &Entry) -> Result<()> {
        self.bytes += entry.size;
        self.directory.may_read(at, entry)
    }

    fn left(&mut self, _: &FilePath, _: &'static str) -> Result<()> {
        Ok(())
    }
}
