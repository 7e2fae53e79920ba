//! Hooks: commands of the user's before and after an operation.
//!
//! A hook is told the facts in its environment and nothing else of ours: no secret is there, not even what pgmd itself was
//! started with. What it prints goes into the log, line by line. It has a deadline, and its whole process group is ended
//! when it passes it or when the job is cancelled. A hook before an operation prevents it by failing; one after it, whose
//! failure is a warning, runs whenever the operation was begun, however that came out.

mod facts;
mod process;

use std::time::Duration;

use pgm_mgmt::{Error, ErrorCode, JobId, JobKind, MessageLevel, Response};
use tokio::sync::watch;
use tracing::{info, warn};

use super::daemon::Daemon;
use super::jobs::Wish;
use crate::config::{HookCommand, HooksConfig};
use crate::worker::{Description, Task};

use facts::Facts;
use process::End;

/// On which side of an operation a hook runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Before,
    After,
}

/// The hooks of one job.
pub(super) struct Hooks<'a> {
    daemon: &'a Daemon,
    id: JobId,
    kind: JobKind,
    description: &'a Description,
}

impl<'a> Hooks<'a> {
    pub(super) fn of(
        daemon: &'a Daemon,
        id: JobId,
        kind: JobKind,
        description: &'a Description,
    ) -> Self {
        Self {
            daemon,
            id,
            kind,
            description,
        }
    }

    /// Runs the hook before the operation; its failure is the operation's.
    pub(super) async fn before(&self, wished: &mut watch::Receiver<Wish>) -> Result<(), Error> {
        let Some((name, command, timeout)) = self.hook(Side::Before) else {
            return Ok(());
        };
        self.daemon.jobs.set_phase(self.id, format!("hook: {name}"));
        let facts = Facts::before(&name, self.id, self.description);
        let cancelled = async {
            // It fails only when the job is gone.
            let _ = wished.wait_for(|wish| *wish != Wish::GoOn).await;
        };
        let label = self.label(&name);
        match process::run(&label, &command, &facts, timeout, cancelled).await {
            End::Success => Ok(()),
            End::Cancelled => Err(Error::new(
                ErrorCode::Cancelled,
                "the job was cancelled during its first hook; nothing was begun",
            )),
            End::Failure(how) => {
                let text = format!(
                    "the hook {name} {how}: the {} of {} was not begun",
                    self.kind, self.description.server
                );
                let hint =
                    "what it printed is in pgmd's log; `pgm-cli conf get hooks` names the commands";
                Err(Error::new(ErrorCode::HookFailed, text).with_hint(hint))
            }
        }
    }

    /// Runs the hook after the operation, which came out so.
    pub(super) async fn after(
        &self,
        outcome: &Result<Response, Error>,
        wished: &mut watch::Receiver<Wish>,
    ) {
        let Some((name, command, timeout)) = self.hook(Side::After) else {
            return;
        };
        self.daemon.jobs.set_phase(self.id, format!("hook: {name}"));
        let facts = Facts::after(&name, self.id, self.description, outcome);
        // That the operation was cancelled is a fact to be told; only a daemon that cannot wait any longer ends the hook.
        let killed = async {
            let _ = wished.wait_for(|wish| *wish == Wish::Kill).await;
        };
        let label = self.label(&name);
        let how = match process::run(&label, &command, &facts, timeout, killed).await {
            End::Success => return,
            End::Cancelled => "was ended with the job".to_owned(),
            End::Failure(how) => how,
        };
        warn!("{label} {how}");
        let text = format!("the hook {name} {how}; what it printed is in pgmd's log");
        self.daemon.jobs.tell(self.id, MessageLevel::Warning, &text);
    }

    /// The hook on that side: its name, command and deadline.
    fn hook(&self, side: Side) -> Option<(String, HookCommand, Duration)> {
        if matches!(&self.description.task, Task::Restore { options } if options.plan_only) {
            return None;
        }
        let config = self.daemon.config();
        let kind = self.kind.to_string();
        let command = command(&config.hooks, side, &kind)?.clone();
        let name = match side {
            Side::Before => format!("before_{kind}"),
            Side::After => format!("after_{kind}"),
        };
        info!(
            "job {}: hook {name} of {}",
            self.id, self.description.server
        );
        Some((name, command, config.hooks.timeout))
    }

    fn label(&self, name: &str) -> String {
        format!("job {}: hook {name}", self.id)
    }
}

fn command<'a>(hooks: &'a HooksConfig, side: Side, kind: &str) -> Option<&'a HookCommand> {
    let command = match (side, kind) {
        (Side::Before, "backup") => &hooks.before_backup,
        (Side::After, "backup") => &hooks.after_backup,
        (Side::Before, "restore") => &hooks.before_restore,
        (Side::After, "restore") => &hooks.after_restore,
        (Side::Before, "archive") => &hooks.before_archive,
        (Side::After, "archive") => &hooks.after_archive,
        (Side::Before, "delete") => &hooks.before_delete,
        (Side::After, "delete") => &hooks.after_delete,
        (Side::Before, "standby") => &hooks.before_standby,
        (Side::After, "standby") => &hooks.after_standby,
        _ => return None,
    };
    command.as_ref()
}
