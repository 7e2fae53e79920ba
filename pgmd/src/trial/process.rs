//! A program of PostgreSQL that runs under the guard, and is ended when somebody asks to stop.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use pgm_backup::Context;
use rustix::process::{Pid, Signal, kill_process};

use super::error::TrialError;
use super::guard::guarded;
use super::scratch::Scratch;

/// How often a process is looked at that is waited for.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How long a process may take to end before it is killed.
const END_PATIENCE: Duration = Duration::from_secs(30);

/// A process that does not outlive this value.
#[derive(Debug)]
pub(super) struct Process {
    program: PathBuf,
    child: Child,
}

/// A command that runs `program` in the scratch folder, which stays locked as long as it lives.
pub(super) fn command(program: &Path, scratch: &Scratch) -> Result<Command, TrialError> {
    let mut command = guarded(program);
    command
        .current_dir(scratch.folder())
        .stdin(Stdio::from(scratch.lock()?));
    // Where clients of other servers connect to, and how, is none of its business.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PG") && !name.to_string_lossy().starts_with("PGM_") {
            command.env_remove(name);
        }
    }
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    Ok(command)
}

impl Process {
    /// Starts it, with its output in `output`.
    pub(super) fn start(
        mut command: Command,
        program: &Path,
        output: File,
    ) -> Result<Self, TrialError> {
        let failed = |error| TrialError::program(program, error);
        let errors = output.try_clone().map_err(failed)?;
        let child = command
            .stdout(Stdio::from(output))
            .stderr(Stdio::from(errors))
            .spawn()
            .map_err(failed)?;
        Ok(Self {
            program: program.to_owned(),
            child,
        })
    }

    /// How it ended, if it has.
    pub(super) fn ended(&mut self) -> Result<Option<ExitStatus>, TrialError> {
        self.child
            .try_wait()
            .map_err(|error| TrialError::program(&self.program, error))
    }

    pub(super) fn signal(&self, signal: Signal) {
        if let Some(pid) = Pid::from_raw(self.child.id().cast_signed()) {
            // Fails only when it has just ended.
            let _ = kill_process(pid, signal);
        }
    }

    /// Waits until it has ended, or somebody asks to stop.
    pub(super) fn wait(&mut self, cx: &Context) -> Result<ExitStatus, TrialError> {
        loop {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            if cx.cancel.is_cancelled() {
                return Err(TrialError::Cancelled);
            }
            thread::sleep(LOOK_EVERY);
        }
    }

    /// Ends it with `signal`, or else by force.
    pub(super) fn end(&mut self, signal: Signal) -> Result<ExitStatus, TrialError> {
        self.signal(signal);
        let deadline = Instant::now() + END_PATIENCE;
        while Instant::now() < deadline {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            thread::sleep(LOOK_EVERY);
        }
        self.signal(Signal::KILL);
        self.child
            .wait()
            .map_err(|error| TrialError::program(&self.program, error))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if matches!(self.ended(), Ok(None)) {
            // SIGQUIT: a server takes its other processes along.
            let _ = self.end(Signal::QUIT);
        }
    }
}
