//! What the list of processes says about a worker.
//!
//! Its command line, `pgmd worker receive prod`, says what it is for, and stays. What it does right now is its short name
//! (`ps -e`, `top`, `/proc/PID/comm`), which the kernel keeps to 15 bytes: `pgmd:streaming`, `pgmd:copy`. To write more, over the
//! command line itself, takes unsafe code, which is not worth it: `pgm-cli status` tells everything. Neither ever holds more
//! than words of ours and the server's name.

use std::ffi::CString;
use std::sync::Arc;

use super::message::{Description, Task};
use crate::shared_state::{Phase, SharedState};

/// The kernel keeps this many bytes of a name.
const NAME_BYTES_MAX: usize = 15;

/// The short name of this process.
#[derive(Debug)]
pub(super) struct Title {
    state: Arc<SharedState>,
    slot: usize,
    subject: Subject,
    shown: String,
}

/// Whose name it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Subject {
    /// What it does is in the shared state.
    Receiver,
    /// It says its phases.
    Job,
}

impl Title {
    /// The name of the worker with this description.
    pub(super) fn new(state: Arc<SharedState>, description: &Description) -> Self {
        let subject = match description.task {
            Task::Receive { .. } => Subject::Receiver,
            _ => Subject::Job,
        };
        Self {
            state,
            slot: description.slot,
            subject,
            shown: String::new(),
        }
    }

    /// Shows what a receive worker has written into the shared state.
    pub(super) fn look(&mut self) {
        let slot = self.state.slot(self.slot);
        let Some(slot) = slot.filter(|_| self.subject == Subject::Receiver) else {
            return;
        };
        let phase = match slot.phase() {
            Phase::Starting => "starting",
            Phase::Connecting => "connecting",
            Phase::Streaming => "streaming",
            Phase::Backoff => "backoff",
            Phase::Error => "error",
            Phase::Stopping => "stopping",
        };
        self.show(phase);
    }

    /// Shows the phase of a job.
    pub(super) fn show(&mut self, phase: &str) {
        let name = name(phase);
        if name != self.shown {
            // The caller is the main thread, whose name is the process's. (/proc/self/comm cannot be written by a process
            // that nobody may look into.) A system without it shows the command line only.
            if let Ok(text) = CString::new(name.as_str()) {
                let _ = rustix::thread::set_name(&text);
            }
            self.shown = name;
        }
    }
}

/// `pgmd:` and the first word.
fn name(phase: &str) -> String {
    let word = phase.split([' ', ':']).next().unwrap_or(phase);
    let name = format!("pgmd:{word}");
    name[..name.floor_char_boundary(NAME_BYTES_MAX)].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit() {
        assert_eq!(name("streaming"), "pgmd:streaming");
        assert_eq!(name("copy: base.tar"), "pgmd:copy");
        assert_eq!(name("waiting for wal"), "pgmd:waiting");
        assert_eq!(name("ääääääääää"), "pgmd:äääää");
        assert_eq!(name(""), "pgmd:");
    }
}
