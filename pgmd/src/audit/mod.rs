//! The audit log: every management action, one line of JSON each.
//!
//! ```text
//! {"at":"2026-11-25T01:02:03.456Z","user":"ann","role":"admin","from":"192.0.2.7:50123","action":"backup","server":"prod",
//!  "job":12,"outcome":"started","duration_ms":1}
//! {"at":"2026-11-25T01:12:09.001Z","user":"ann","role":"admin","from":"192.0.2.7:50123","action":"backup","server":"prod",
//!  "job":12,"outcome":"ok","duration_ms":605544}
//! ```
//!
//! Lines are only ever appended (`O_APPEND`), by one thread that callers never wait for, and made durable with `fdatasync` as
//! soon as no more of them wait. When the file cannot be written (a full disk), the log says so and the work goes on: an
//! audit log must not stop a backup. Whoever moves the file away (logrotate) gets a new one with the next line.
//!
//! What is recorded says who did what; no secret is ever part of it.

mod record;
mod writer;

use std::io;
use std::path::Path;
use std::sync::mpsc::{self, SyncSender, TrySendError};
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;

use tracing::warn;

pub use record::{Outcome, Record};

/// How many lines may wait to be written.
const WAITING_MAX: usize = 1024;

/// The audit log of a daemon; what waits is written before the value is gone.
#[derive(Debug)]
pub struct Audit {
    lines: Option<SyncSender<String>>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl Audit {
    /// Begins to append to `path`; fails when that is not possible now.
    pub fn start(path: &Path) -> io::Result<Self> {
        let mut file = writer::AuditFile::open(path)?;
        let (lines, waiting) = mpsc::sync_channel(WAITING_MAX);
        let writer = std::thread::Builder::new().name("pgm-audit".to_owned());
        let writer = writer.spawn(move || file.write_all_of(&waiting))?;
        Ok(Self {
            lines: Some(lines),
            writer: Mutex::new(Some(writer)),
        })
    }

    /// Records `record`. Never waits.
    pub fn record(&self, record: &Record) {
        let Some(lines) = &self.lines else { return };
        match lines.try_send(record.to_line()) {
            Ok(()) => {}
            Err(TrySendError::Full(line) | TrySendError::Disconnected(line)) => {
                warn!(
                    "the audit log cannot keep up and lacks: {}",
                    line.trim_end()
                );
            }
        }
    }
}

impl Drop for Audit {
    fn drop(&mut self) {
        // The end of the channel is the end of the thread.
        drop(self.lines.take());
        let writer = self.writer.lock();
        let writer = writer.unwrap_or_else(PoisonError::into_inner).take();
        if let Some(writer) = writer {
            let _ = writer.join();
        }
    }
}

/// Appends one record to `path`, durably: for programs that are no daemon.
pub fn append(path: &Path, record: &Record) -> io::Result<()> {
    let mut file = writer::AuditFile::open(path)?;
    file.append(&record.to_line())?;
    file.sync()
}

#[cfg(test)]
mod tests;
