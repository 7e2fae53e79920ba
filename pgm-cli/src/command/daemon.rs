//! Talks to pgmd: connects, sends one request, follows its progress, takes the answer.

use std::time::{Duration, Instant};

use pgm_mgmt::{Client, ClientError, Deadlines, ErrorCode, Event, MessageLevel, Request, Response};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::Cx;
use crate::error::{CliError, Failure};
use crate::output::progress::Bar;

/// How long `shutdown` waits for the daemon to be gone.
const SHUTDOWN_MAX: Duration = Duration::from_mins(5);

/// Sends `request` and waits for the answer, with a progress bar when there is progress.
pub(super) fn call(cx: &Cx, request: &Request) -> Result<Response, CliError> {
    let request = &on_repository(cx, request);
    let mut client = cx.connect()?;
    client.hello(concat!("pgm-cli ", env!("CARGO_PKG_VERSION")))?;
    let mut bar = None;
    let answer = client.call_with_events(request, |event| match event {
        Event::Progress(progress) => bar.get_or_insert_with(|| Bar::new(cx.format)).update(
            &progress.phase,
            progress.done_bytes,
            progress.total_bytes,
        ),
        Event::Message { level, text } => match level {
            MessageLevel::Info => eprintln!("{text}"),
            MessageLevel::Warning => eprintln!("warning: {text}"),
        },
    });
    if let Some(bar) = bar {
        bar.finish();
    }
    Ok(answer?)
}

/// The request for the repository that `--repo` names.
fn on_repository(cx: &Cx, request: &Request) -> Request {
    match &cx.at.repo {
        Some(repository) => Request::On {
            repository: repository.clone(),
            request: Box::new(request.clone()),
        },
        None => request.clone(),
    }
}

/// Whether a daemon is to be asked: one that listens, or was named. None is, if a repository was named.
pub(super) fn is_running(cx: &Cx) -> Result<bool, CliError> {
    if cx.at.repository.is_some() {
        return Ok(false);
    }
    if cx.remote.is_some() {
        return Ok(true);
    }
    let socket = cx.config()?.socket();
    match Client::connect(&socket, Deadlines::default()) {
        Ok(_) => Ok(true),
        Err(ClientError::Connect { source, .. })
            if source.kind() == std::io::ErrorKind::PermissionDenied =>
        {
            Ok(true)
        }
        Err(_) => Ok(false),
    }
}

/// Waits until the process has ended; whether somebody collects its exit status does not matter.
pub(super) fn wait_gone(pid: u32) -> Result<(), CliError> {
    let process = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let handle = process.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
    let Some(handle) = handle else { return Ok(()) };
    let deadline = Instant::now() + SHUTDOWN_MAX;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).ok();
        match poll(&mut [PollFd::new(&handle, PollFlags::IN)], left.as_ref()) {
            Err(Errno::INTR) => {}
            Ok(0) => {
                let seconds = SHUTDOWN_MAX.as_secs();
                let text = format!("pgmd (process {pid}) is still stopping after {seconds} s");
                return Err(CliError::new(
                    Failure::Failed,
                    text,
                    Some("look at pgmd's log".into()),
                ));
            }
            _ => return Ok(()),
        }
    }
}

/// The error for an answer of the wrong type.
pub(super) fn unexpected(answer: &Response) -> CliError {
    let text = format!("pgmd answered something else: {answer:?}");
    CliError::new(
        Failure::Failed,
        text,
        Some("are pgm-cli and pgmd of the same version?".into()),
    )
}

impl From<ClientError> for CliError {
    fn from(error: ClientError) -> Self {
        let failure = match &error {
            unreachable if unreachable.is_unreachable() => Failure::Unreachable,
            ClientError::Refused(refused) => match refused.code {
                ErrorCode::UnknownServer
                | ErrorCode::UnknownBackup
                | ErrorCode::UnknownJob
                | ErrorCode::UnknownSetting
                | ErrorCode::UnknownAnnotation => Failure::NotFound,
                ErrorCode::BadRequest | ErrorCode::BadValue | ErrorCode::Configuration => {
                    Failure::Usage
                }
                _ => Failure::Failed,
            },
            _ => Failure::Failed,
        };
        let hint = error.hint();
        Self::new(failure, error, hint)
    }
}
