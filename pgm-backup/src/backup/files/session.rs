//! The session in which the server is told that a backup begins and ends.
//!
//! An ordinary one, which must stay open in between: when it ends, so does the backup (`do_pg_abort_backup` in `xlog.c`). So now and then it is looked
//! whether it is still there. Names are qualified, because the role's search path is somebody else's.

use std::time::{Duration, Instant};

use pgm_proto::{
    CHECKPOINT_SPREAD_MAX, Checkpoint, Client, ConnInfo, Lsn, SILENCE_MAX, ServerNotice, SystemId,
};

use crate::context::Context;
use crate::error::{Error, Result};

/// How often it is looked whether the session is still there.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// The first major version in which the functions are called as they are now.
const NEW_NAMES_SINCE: u32 = 15;

/// The session.
#[derive(Debug)]
pub(super) struct Session {
    client: Client,
    looked: Instant,
}

/// What the server says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) backend: u32,
    pub(super) system_id: SystemId,
    pub(super) port: u16,
    /// When its postmaster started, in seconds since 1970.
    pub(super) started: i64,
    /// Whether the role may begin and end backups.
    pub(super) may: bool,
    /// The sizes of its pages and of the files of relations.
    pub(super) sizes: [String; 2],
}

/// The end of a backup.
#[derive(Debug)]
pub(super) struct Stopped {
    pub(super) end_lsn: Lsn,
    pub(super) label_file: Vec<u8>,
    pub(super) notices: Vec<ServerNotice>,
}

impl Session {
    pub(super) fn open(cx: &Context, conninfo: &ConnInfo) -> Result<Self, pgm_proto::Error> {
        let conninfo = match conninfo.database() {
            Some(_) => conninfo.clone(),
            None => conninfo.clone().with_database("postgres"),
        };
        let mut client = Client::connect(&conninfo, pgm_proto::Session::Sql)?;
        let cancel = cx.cancel.clone();
        client.set_interrupt(move || cancel.is_cancelled());
        client.query(
            "SET statement_timeout = 0; SET idle_session_timeout = 0; SET lock_timeout = 0; \
             SET standard_conforming_strings = on",
        )?;
        Ok(Self {
            client,
            looked: Instant::now(),
        })
    }

    /// Asks the server who it is.
    pub(super) fn facts(&mut self) -> Result<Facts, pgm_proto::Error> {
        let functions = self.functions();
        let [begin, end] = functions.map(|function| {
            format!("pg_catalog.has_function_privilege('pg_catalog.{function}', 'EXECUTE')")
        });
        let row = self.row(&format!(
            "SELECT pg_catalog.pg_backend_pid(), \
             (SELECT system_identifier FROM pg_catalog.pg_control_system()), \
             pg_catalog.current_setting('port'), \
             pg_catalog.floor(pg_catalog.date_part('epoch', pg_catalog.pg_postmaster_start_time())), \
             {begin} AND {end}, \
             pg_catalog.current_setting('block_size'), pg_catalog.current_setting('segment_size')"
        ))?;
        Ok(Facts {
            backend: word(&row, 0)?,
            system_id: SystemId::new(word::<i64>(&row, 1)?.cast_unsigned()),
            port: word(&row, 2)?,
            started: word(&row, 3)?,
            may: word::<String>(&row, 4)? == "t",
            sizes: [word(&row, 5)?, word(&row, 6)?],
        })
    }

    /// The functions that begin and end a backup, with the types of what they take.
    pub(super) fn functions(&self) -> [&'static str; 2] {
        if self.client.server_version().major() < NEW_NAMES_SINCE {
            [
                "pg_start_backup(text,boolean,boolean)",
                "pg_stop_backup(boolean,boolean)",
            ]
        } else {
            ["pg_backup_start(text,boolean)", "pg_backup_stop(boolean)"]
        }
    }

    /// Where the last checkpoint is, by the server's own look at `pg_control`.
    pub(super) fn checkpoint(&mut self) -> Result<Lsn, pgm_proto::Error> {
        let row = self.row("SELECT checkpoint_lsn FROM pg_catalog.pg_control_checkpoint()")?;
        word(&row, 0)
    }

    /// Begins the backup; returns where replay must begin once the server has made its checkpoint.
    pub(super) fn start(&mut self, label: &str, checkpoint: Checkpoint) -> Result<Lsn> {
        let label = label.replace('\'', "''");
        let label = format!("'{label}'");
        let fast = checkpoint == Checkpoint::Fast;
        let call = if self.client.server_version().major() < NEW_NAMES_SINCE {
            format!("pg_start_backup({label}, {fast}, false)")
        } else {
            format!("pg_backup_start({label}, {fast})")
        };
        let silence = match checkpoint {
            Checkpoint::Fast => SILENCE_MAX,
            Checkpoint::Spread => SILENCE_MAX + CHECKPOINT_SPREAD_MAX,
        };
        self.client.set_silence_max(silence);
        let row = self.row(&format!("SELECT pg_catalog.{call}"))?;
        self.client.set_silence_max(SILENCE_MAX);
        self.looked = Instant::now();
        Ok(word(&row, 0)?)
    }

    /// Makes sure, now and then, that the session is still there.
    pub(super) fn look(&mut self) -> Result<()> {
        if self.looked.elapsed() >= LOOK_EVERY {
            self.look_now()?;
        }
        Ok(())
    }

    pub(super) fn look_now(&mut self) -> Result<()> {
        self.looked = Instant::now();
        self.client.query("SELECT 1").map_err(lost)?;
        Ok(())
    }

    /// Ends the backup. The archive of the server is not waited for: the caller knows when the WAL is safe.
    pub(super) fn stop(&mut self) -> Result<Stopped> {
        self.client.take_notices();
        let call = if self.client.server_version().major() < NEW_NAMES_SINCE {
            "pg_stop_backup(false, false)"
        } else {
            "pg_backup_stop(false)"
        };
        let row = self
            .row(&format!("SELECT lsn, labelfile FROM pg_catalog.{call}"))
            .map_err(lost)?;
        Ok(Stopped {
            end_lsn: word(&row, 0)?,
            label_file: word::<String>(&row, 1)?.into_bytes(),
            notices: self.client.take_notices(),
        })
    }

    fn row(&mut self, sql: &str) -> Result<Vec<Option<String>>, pgm_proto::Error> {
        let mut results = self.client.query(sql)?;
        let last = results.pop().unwrap_or_default();
        let mut rows = last.rows.into_iter();
        match (rows.next(), rows.next()) {
            (Some(row), None) => Ok(row),
            _ => Err(pgm_proto::Error::Protocol(
                "the server did not answer with one row".to_owned(),
            )),
        }
    }
}

/// A word of an answer.
fn word<T: std::str::FromStr>(row: &[Option<String>], at: usize) -> Result<T, pgm_proto::Error> {
    let text = row.get(at).and_then(Option::as_deref).unwrap_or_default();
    text.parse()
        .map_err(|_| pgm_proto::Error::Protocol(format!("the server answered with `{text}`")))
}

/// An error of the session in the middle of a backup: whatever it is, the backup is over.
fn lost(source: pgm_proto::Error) -> Error {
    match source {
        pgm_proto::Error::Interrupted => Error::Cancelled,
        source => Error::BackupSessionLost { source },
    }
}
