//! Takes a server on or leaves it alone, while the daemon runs.

use std::sync::Arc;

use pgm_mgmt::{Error, ErrorCode, JobKind, ModeReport, ServerMode};
use pgm_proto::{Lsn, ServerName};
use tracing::info;

use super::daemon::Daemon;
use crate::config;

impl Daemon {
    /// Whether the daemon works for `server`: what was ordered, else what the configuration says.
    pub fn mode(&self, server: &ServerName) -> ServerMode {
        let ordered = self.modes.ordered(server);
        ordered.unwrap_or_else(|| {
            let config = self.config();
            match config.servers.get(server).map(|entry| entry.mode) {
                Some(config::ServerMode::Offline) => ServerMode::Offline,
                Some(config::ServerMode::Online) | None => ServerMode::Online,
            }
        })
    }

    /// The mode of a server, and where its WAL stands.
    pub fn mode_report(&self, server: &ServerName) -> Result<ModeReport, Error> {
        self.server(server)?;
        Ok(ModeReport {
            server: server.clone(),
            mode: self.mode(server),
            changed: false,
            durable_lsn: self.durable(server),
        })
    }

    /// Orders a mode, and waits until it is so.
    pub async fn set_mode(
        self: &Arc<Self>,
        server: &ServerName,
        mode: ServerMode,
    ) -> Result<ModeReport, Error> {
        // One change after the other.
        let _turn = self.switching.lock().await;
        let report = self.mode_report(server)?;
        if mode == ServerMode::Offline {
            self.refuse_while_needed(server)?;
        }
        self.modes.order(server, mode).map_err(|error| {
            let path = self.modes.path().display();
            let text = format!("the mode of {server} cannot be written into {path}: {error}");
            Error::new(ErrorCode::Internal, text).with_hint("let pgmd's user write there")
        })?;
        let changed = report.mode != mode;
        let durable_lsn = match mode {
            ServerMode::Online => {
                let entry = self.server(server)?;
                self.start_receiver(server, &entry);
                report.durable_lsn
            }
            ServerMode::Offline => self.stop_receiver(server).await.or(report.durable_lsn),
        };
        if changed {
            info!("server {server} is {mode} now");
        }
        Ok(ModeReport {
            mode,
            changed,
            durable_lsn,
            ..report
        })
    }

    /// A backup needs the WAL that is received beside it.
    fn refuse_while_needed(&self, server: &ServerName) -> Result<(), Error> {
        let Some(job) = self.jobs().unfinished(JobKind::Backup, server) else {
            return Ok(());
        };
        let text = format!("a backup of {server} runs (job {job}), and needs its wal");
        let hint =
            format!("wait for it, pgm-cli job wait {job}, or end it, pgm-cli job cancel {job}");
        Err(Error::new(ErrorCode::AlreadyRunning, text).with_hint(hint))
    }

    fn durable(&self, server: &ServerName) -> Option<Lsn> {
        let views = self.receivers().into_iter();
        let mut views = views.filter(|view| view.server == *server);
        views.next()?.slot().durable()
    }
}
