//! The step between us and a program of PostgreSQL that we start: it makes sure that the program ends when we do.
//!
//! The kernel sends a signal to a process whose parent dies, if the process has asked for it; PostgreSQL does not, and a
//! parent cannot ask on behalf of its child. So what we start is ourselves, under the name [`NAME`]: that process asks, and
//! becomes the program. SIGQUIT is PostgreSQL's immediate shutdown: its other processes end with the first one.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, ExitCode};

use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};

/// The name (`argv[0]`) by which the guard knows that it is one.
pub(super) const NAME: &str = "pgm-guard";
/// The exit status when the program cannot be started, as that of a shell.
const NOT_STARTED: u8 = 127;

/// A command that runs `program` so that it ends with this process; arguments can be added. It must be started by a thread
/// that lives as long as the program shall.
pub(super) fn guarded(program: &Path) -> Command {
    // This very program, also after an upgrade has put another file in its place.
    let mut command = Command::new("/proc/self/exe");
    command.arg0(NAME);
    command.arg(std::process::id().to_string()).arg(program);
    command
}

/// Becomes the guarded program, if that is what this process was started for; to be called first of all.
pub fn guard() -> Option<ExitCode> {
    let mut words = std::env::args_os();
    if words.next()? != NAME {
        return None;
    }
    // Only a failure comes back.
    Some(become_program(words).unwrap_or(ExitCode::from(NOT_STARTED)))
}

fn become_program(mut words: impl Iterator<Item = OsString>) -> Option<ExitCode> {
    let parent: i32 = words.next()?.to_str()?.parse().ok()?;
    let program = words.next()?;
    set_parent_process_death_signal(Some(Signal::QUIT)).ok()?;
    // It may have died before we asked.
    if getppid() != Pid::from_raw(parent) {
        return None;
    }
    let error = Command::new(&program).args(words).exec();
    eprintln!("cannot start {}: {error}", Path::new(&program).display());
    None
}
