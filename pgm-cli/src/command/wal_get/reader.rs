//! The process that fetches ahead while PostgreSQL replays: this very program, started by a call of `wal get` that ends before it.
//!
//! It belongs to the recovering server and to nobody else. PostgreSQL's startup process leads a session of its own, and the
//! reader stays in it: when that leader is gone, so is the reader, ten milliseconds later. (While the reader is in the session,
//! the leader's number is not given to another process.) It is in a process group of its own, because PostgreSQL signals the
//! startup process's group, and has no standard streams, because PostgreSQL waits for all who hold its log.
//!
//! It always ends with 0 or 1. Where PostgreSQL is process 1 of a container it is handed orphans, and takes another status for
//! the crash of a backend.

use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode, Stdio};

use pgm_wal::Spool;
use pgm_wal::archive::{AheadPlan, AheadReader};
use rustix::process::Pid;

use super::ahead::Reach;
use super::places::Places;
use crate::arguments::WalGetArguments;

/// Tells the reader that it is one.
const VARIABLE: &str = "PGM_READS_AHEAD";

/// Starts a reader with the arguments of this call. Without one, segments are fetched when they are asked for.
pub(super) fn start() {
    // Also after an upgrade has put another file in its place.
    let mut command = Command::new("/proc/self/exe");
    command
        .args(std::env::args_os().skip(1))
        .env(VARIABLE, "1")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0);
    if let Err(error) = command.spawn() {
        eprintln!("note: no process that reads ahead can be started: {error}");
    }
}

/// Whether this process is a reader.
pub(super) fn is_one() -> bool {
    std::env::var_os(VARIABLE).is_some()
}

/// Fetches ahead, as long as the session's leader is there.
pub(super) fn run(
    arguments: &WalGetArguments,
    places: Places,
    spool: Option<Spool>,
    source: &str,
) -> ExitCode {
    std::panic::set_hook(Box::new(|_| std::process::exit(1)));
    let Some(leader) = leader() else {
        return ExitCode::SUCCESS;
    };
    let Ok(Some(reader)) = AheadReader::begin(&arguments.path, source) else {
        return ExitCode::SUCCESS;
    };
    let Ok(Some(size)) = places.segment_size(spool.as_ref()) else {
        return ExitCode::SUCCESS;
    };
    let reach = Reach::of(arguments);
    let plan = AheadPlan {
        size,
        count: Box::new(move |first| reach.count(first, size)),
        places: places.len(),
        archive: Box::new(move |at| places.archive(at).cloned()),
        spool,
    };
    reader.run(plan, &|| is_there(leader));
    ExitCode::SUCCESS
}

/// The process that leads this session, if it can be seen from here.
fn leader() -> Option<Pid> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // Behind the name, which may contain anything: state, parent, group, session.
    let (_, fields) = stat.rsplit_once(')')?;
    let session = fields.split_whitespace().nth(3)?.parse().ok()?;
    Pid::from_raw(session)
}

fn is_there(process: Pid) -> bool {
    !matches!(
        rustix::process::test_kill_process(process),
        Err(rustix::io::Errno::SRCH)
    )
}
