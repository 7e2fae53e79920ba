//! Running programs, and ending exactly the processes that a test started.

use std::fs;
use std::path::Path;
use std::process::Command;

use rustix::process::{Pid, Signal, kill_process};

use crate::wait::wait_until;

/// What a program that ran to its end left.
#[derive(Debug)]
pub struct Run {
    /// The exit status, 128 + the signal's number if one ended it.
    pub status: i32,
    /// What it printed.
    pub stdout: String,
    /// What it complained about.
    pub stderr: String,
}

/// Runs `command` to its end.
pub fn run(command: &mut Command) -> Run {
    use std::os::unix::process::ExitStatusExt;
    let output = command.output().unwrap_or_else(|error| {
        panic!(
            "{} cannot be started: {error}",
            command.get_program().display()
        )
    });
    let signal = output.status.signal().unwrap_or(0);
    Run {
        status: output.status.code().unwrap_or(128 + signal),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Runs `command` to its end and returns what it printed; fails the test unless it exits with 0.
pub fn run_ok(command: &mut Command) -> String {
    let run = run(command);
    assert!(
        run.status == 0,
        "{command:?} exited with {}\n{}{}",
        run.status,
        run.stdout,
        run.stderr
    );
    run.stdout
}

/// Sends `signal` to the process `pid`; a process that is gone already is fine.
pub(crate) fn send(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}

/// Whether the process `pid` runs (a zombie does not).
pub(crate) fn is_running(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .ok()
        .and_then(|stat| {
            stat.rsplit_once(") ")
                .map(|(_, rest)| !rest.starts_with(['Z', 'X']))
        })
        .unwrap_or(false)
}

/// The processes whose working directory is `folder` or below it.
pub(crate) fn working_in(folder: &Path) -> Vec<u32> {
    let Ok(processes) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    processes
        .flatten()
        .filter_map(|process| process.file_name().to_str()?.parse::<u32>().ok())
        .filter(|pid| {
            fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd.starts_with(folder))
        })
        .collect()
}

/// The running processes of the session that `leader` began.
pub(crate) fn in_session(leader: u32) -> Vec<u32> {
    let Ok(processes) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let session = |pid: u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name in parentheses may contain anything; state, parent, group and session follow it.
        let (_, fields) = stat.rsplit_once(") ")?;
        fields.split(' ').nth(3)?.parse::<u32>().ok()
    };
    processes
        .flatten()
        .filter_map(|process| process.file_name().to_str()?.parse().ok())
        .filter(|pid| session(*pid) == Some(leader) && is_running(*pid))
        .collect()
}

/// Ends with SIGKILL every process that works in `folder`, and waits until they are gone.
pub(crate) fn kill_all_in(folder: &Path) {
    wait_until("killed processes end", || {
        let pids = working_in(folder);
        for pid in &pids {
            send(*pid, Signal::KILL);
        }
        !pids.into_iter().any(is_running)
    });
}
