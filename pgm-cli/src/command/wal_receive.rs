//! `pgm-cli wal receive`: streams WAL from a server into a folder, as `pg_receivewal` does, until it is interrupted.
//!
//! The folder is a spool: segments are durable before they are acknowledged.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use pgm_proto::{ConnInfo, Defaults, Lsn, PostgresTransport, SlotPolicy, TransportOptions};
use pgm_storage::Cancel;
use pgm_wal::{
    DurableLsn, ReceiveError, ReceiveObserver, ReceiveOptions, Receiver, SegmentName, Spool,
};
use pgmd::config::OsUser;
use rustix::pipe::PipeFlags;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::Cx;
use crate::arguments::{Format, WalReceiveArguments};
use crate::error::{CliError, Failure, chain};
use crate::output::print_json;
use crate::output::stdout::out;

pub(super) fn run(cx: &Cx, arguments: &WalReceiveArguments) -> Result<ExitCode, CliError> {
    let conninfo: ConnInfo = arguments
        .conninfo
        .parse()
        .map_err(|error| CliError::new(Failure::Usage, error, None))?;
    let conninfo = conninfo.with_defaults(&connection_defaults());
    let spool = open(&arguments.target)?;
    let cancel = Cancel::new();
    let wake = stop_on_signal(&cancel)?;
    let transport = PostgresTransport::new(TransportOptions {
        conninfo,
        slot: arguments.slot.clone(),
        create_slot: if arguments.create_slot {
            SlotPolicy::Create
        } else {
            SlotPolicy::Require
        },
    });
    let options = ReceiveOptions {
        wake: Some(wake),
        ..ReceiveOptions::default()
    };
    let mut watch = Watch {
        cancel: cancel.clone(),
        end: arguments.endpos,
        durable: None,
    };
    Receiver::new(transport, spool, options)
        .run_forever(&cancel, &mut watch)
        .map_err(|error| CliError::new(Failure::Failed, chain(&error), error.hint()))?;
    let durable = watch.durable.map(|lsn| lsn.to_string());
    match cx.format {
        Format::Json => print_json(&serde_json::json!({ "durable_lsn": durable })),
        Format::Text => out!(
            "durable up to {}",
            durable.as_deref().unwrap_or("nothing yet")
        ),
    }
    Ok(ExitCode::SUCCESS)
}

fn open(folder: &Path) -> Result<Spool, CliError> {
    Spool::open(folder).map_err(|error| CliError::new(Failure::Failed, chain(&error), error.hint()))
}

/// What libpq would take from the user's account.
pub(crate) fn connection_defaults() -> Defaults {
    let user = OsUser::current();
    Defaults {
        passfile: user.home.as_ref().map(|home| home.join(".pgpass")),
        ssl_directory: user.home.as_ref().map(|home| home.join(".postgresql")),
        user: Some(user.name),
        application_name: Some("pgm-cli".into()),
    }
}

/// Lets SIGINT and SIGTERM end the stream in order; gives what wakes the receiver.
fn stop_on_signal(cancel: &Cancel) -> Result<Arc<OwnedFd>, CliError> {
    let failed = |error: std::io::Error| {
        CliError::new(
            Failure::Failed,
            format!("cannot listen to signals: {error}"),
            None,
        )
    };
    let (woken, wake) =
        rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map_err(|error| failed(error.into()))?;
    let mut signals = Signals::new([SIGINT, SIGTERM]).map_err(failed)?;
    let cancel = cancel.clone();
    std::thread::spawn(move || {
        // The write end lives as long as this thread: closing it would wake the receiver for nothing.
        if signals.forever().next().is_some() {
            cancel.cancel();
            let _ = rustix::io::write(&wake, b"x");
        }
    });
    Ok(Arc::new(woken))
}

/// Remembers what is durable, and ends the stream at the position asked for.
struct Watch {
    cancel: Cancel,
    end: Option<Lsn>,
    durable: Option<Lsn>,
}

impl ReceiveObserver for Watch {
    fn durable(&mut self, lsn: DurableLsn) {
        self.durable = Some(lsn.lsn());
        if self.end.is_some_and(|end| lsn.lsn() >= end) {
            self.cancel.cancel();
        }
    }

    fn segment_finished(&mut self, name: SegmentName) {
        tracing::info!(timeline = %name.timeline, number = name.number.value(), "segment finished");
    }

    fn error(&mut self, error: &ReceiveError, retry_in: Duration) {
        tracing::warn!(
            "{}; trying again in {} ms",
            chain(error),
            retry_in.as_millis()
        );
        if let Some(hint) = error.hint() {
            tracing::warn!("HINT: {hint}");
        }
    }
}
