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

/// The first major version that has this timeout.
const TRANSACTION_TIMEOUT_SINCE: u32 = 17;
/// When a process of the server's began.
const BEGAN: &str =
    "pg_catalog.round(pg_catalog.date_part('epoch', backend_start) * 1000000)::pg_catalog.int8";

/// The session.
#[derive(Debug)]
pub(super) struct Session {
    client: Client,
    looked: Instant,
}

/// What the server says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) own: Backend,
    pub(super) system_id: SystemId,
    pub(super) port: u16,
    /// When its postmaster started, in seconds since 1970.
    pub(super) started: i64,
    pub(super) in_recovery: bool,
    /// The sizes of its pages and of the files of relations.
    pub(super) sizes: [String; 2],
    /// The permissions of its folders, in octal.
    pub(super) folder_mode: String,
    /// Of the session's database.
    pub(super) encoding: String,
}

/// A process of the server's, told from all others that ever were there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Backend {
    pub(super) process: u32,
    /// When it began, in microseconds since 1970.
    began: i64,
}

/// What a role must be allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Grant {
    missing: Vec<String>,
    database: String,
    role: String,
}

impl Grant {
    /// What is missing.
    pub(super) fn reason(&self) -> String {
        format!("the role may not execute {}", self.missing.join(" and "))
    }

    /// What to do.
    pub(super) fn advice(&self) -> String {
        let Self {
            missing,
            database,
            role,
        } = self;
        format!(
            "in database `{database}`: GRANT EXECUTE ON FUNCTION {} TO {role}",
            missing.join(", ")
        )
    }
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
        settle(&mut client)?;
        Ok(Self {
            client,
            looked: Instant::now(),
        })
    }

    /// Asks the server who it is.
    pub(super) fn facts(&mut self) -> Result<Facts, pgm_proto::Error> {
        let row = self.row(&format!(
            "SELECT pg_catalog.pg_backend_pid(), {BEGAN}, \
             (SELECT system_identifier FROM pg_catalog.pg_control_system()), \
             pg_catalog.current_setting('port'), \
             pg_catalog.floor(pg_catalog.date_part('epoch', pg_catalog.pg_postmaster_start_time())), \
             pg_catalog.pg_is_in_recovery(), \
             pg_catalog.current_setting('block_size'), pg_catalog.current_setting('segment_size'), \
             pg_catalog.current_setting('data_directory_mode'), \
             pg_catalog.current_setting('server_encoding') \
             FROM pg_catalog.pg_stat_activity WHERE pid = pg_catalog.pg_backend_pid()"
        ))?;
        Ok(Facts {
            own: Backend {
                process: word(&row, 0)?,
                began: word(&row, 1)?,
            },
            system_id: SystemId::new(word::<i64>(&row, 2)?.cast_unsigned()),
            port: word(&row, 3)?,
            started: word(&row, 4)?,
            in_recovery: word::<String>(&row, 5)? == "t",
            sizes: [word(&row, 6)?, word(&row, 7)?],
            folder_mode: word(&row, 8)?,
            encoding: word(&row, 9)?,
        })
    }

    /// What the role may not do of what `functions` do, as the statement that lets it; `None` when it may do all.
    pub(super) fn grant(&mut self, functions: &[&str]) -> Result<Option<Grant>, pgm_proto::Error> {
        let may = functions.iter().map(|function| {
            format!("pg_catalog.has_function_privilege('pg_catalog.{function}', 'EXECUTE')")
        });
        let may: Vec<String> = may.collect();
        let row = self.row(&format!(
            "SELECT pg_catalog.current_database(), pg_catalog.quote_ident(current_user), {}",
            may.join(", ")
        ))?;
        let mut missing = Vec::new();
        for (at, function) in functions.iter().enumerate() {
            if word::<String>(&row, 2 + at)? != "t" {
                missing.push((*function).to_owned());
            }
        }
        Ok((!missing.is_empty()).then_some(Grant {
            missing,
            database: word(&row, 0)?,
            role: word(&row, 1)?,
        }))
    }

    /// Whether this session's server has the process `backend`, and that is one that sends WAL or backups.
    pub(super) fn has_walsender(&mut self, backend: u32) -> Result<bool, pgm_proto::Error> {
        self.has(&format!("pid = {backend} AND backend_type = 'walsender'"))
    }

    fn has(&mut self, what: &str) -> Result<bool, pgm_proto::Error> {
        let row = self.row(&format!(
            "SELECT EXISTS (SELECT FROM pg_catalog.pg_stat_activity WHERE {what})"
        ))?;
        Ok(word::<String>(&row, 0)? == "t")
    }

    /// A further session for reading with the server that has the process `with`.
    pub(super) fn open_reading(
        cx: &Context,
        conninfo: &ConnInfo,
        with: Backend,
    ) -> Result<Option<Client>, pgm_proto::Error> {
        let mut session = Self::open(cx, conninfo)?;
        let Backend { process, began } = with;
        if !session.has(&format!("pid = {process} AND {BEGAN} = {began}"))? {
            return Ok(None);
        }
        let mut client = session.client;
        // Names of files are bytes; and a folder is listed in memory.
        client.query("SET client_encoding = 'SQL_ASCII'; SET work_mem = '64MB'; SET jit = off")?;
        Ok(Some(client))
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

    /// The functions that list folders and read files.
    pub(super) const READING: [&'static str; 3] = [
        "pg_ls_dir(text,boolean,boolean)",
        "pg_stat_file(text,boolean)",
        "pg_read_binary_file(text,bigint,bigint,boolean)",
    ];

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

/// Makes a session depend on nothing that its role or its database has set.
fn settle(client: &mut Client) -> Result<(), pgm_proto::Error> {
    client.query(
        "SET statement_timeout = 0; SET idle_session_timeout = 0; SET lock_timeout = 0; \
         SET search_path = pg_catalog, pg_temp; SET standard_conforming_strings = on; \
         SET default_transaction_isolation = 'read committed'",
    )?;
    if client.server_version().major() >= TRANSACTION_TIMEOUT_SINCE {
        client.query("SET transaction_timeout = 0")?;
    }
    // So that what nobody waits for any more ends at the server, too. Not every system can do that.
    match client.query("SET client_connection_check_interval = '2s'") {
        Ok(_) | Err(pgm_proto::Error::Server(_)) => Ok(()),
        Err(error) => Err(error),
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
