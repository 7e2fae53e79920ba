//! What is asked of a server that has recovered: can every database be used, is what they hold consistent, is what the user
//! expects there, and are the pages as they were written.
//!
//! A database that cannot be used is a failure of the backup. The rest may as well be wrong on the original server, and is a
//! complaint.

use std::fs::{File, OpenOptions};
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::Command;

use jiff::Timestamp;
use pgm_backup::verify::TrialReport;
use pgm_backup::verify::verification::{Check, CheckResult};
use pgm_backup::{Context, Phase};

use pgm_proto::{Client, Error, Lsn};

use super::TrialSetup;
use super::error::TrialError;
use super::process::{Process, command};
use super::programs::Programs;
use super::query::{self, column, objection, row};
use super::scratch::{PORT, Scratch};
use super::server::Server;
use crate::repository::chain;

/// The lines of a program's output that a complaint quotes.
const LINES_QUOTED: usize = 20;
const OUTPUT_BYTES_MAX: u64 = 1 << 20;
/// Databases that a server has from the start.
const FIRST_DATABASES: [&str; 2] = ["postgres", "template1"];
/// The role that `initdb` makes unless it is told another name.
const FIRST_ROLE: &str = "postgres";
const SUPERUSER: &str =
    "select rolname from pg_roles where rolsuper and rolcanlogin order by oid limit 1";
const DATABASES: &str =
    "select datname from pg_database where datallowconn and datconnlimit <> -2 order by datname";
const RECOVERED: &str = "select pg_last_wal_replay_lsn(), to_char(pg_last_xact_replay_timestamp() at time zone 'UTC', \
                         'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')";

/// Up to where the server recovered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Recovered {
    pub(super) lsn: Lsn,
    pub(super) last_commit: Option<Timestamp>,
}

/// The checks of one trial.
pub(super) struct Checks<'a> {
    cx: &'a Context,
    programs: &'a Programs,
    scratch: &'a Scratch,
    setup: &'a TrialSetup,
    report: &'a mut TrialReport,
    results: Vec<Check>,
}

/// A role and a database with which a session works.
struct Entrance {
    role: String,
    database: String,
}

impl<'a> Checks<'a> {
    /// `known` is the outcome of what was checked before.
    pub(super) fn new(
        cx: &'a Context,
        (programs, scratch, setup): (&'a Programs, &'a Scratch, &'a TrialSetup),
        report: &'a mut TrialReport,
        known: Option<Check>,
    ) -> Self {
        Self {
            cx,
            programs,
            scratch,
            setup,
            report,
            results: known.into_iter().collect(),
        }
    }

    pub(super) fn into_results(self) -> Vec<Check> {
        self.results
    }

    /// The checks of a server that runs; `None` when nobody can log in, which the report says.
    pub(super) fn of_running(&mut self, _: &mut Server) -> Result<Option<Recovered>, TrialError> {
        let (mut client, entrance) = match self.enter() {
            Ok(entered) => entered,
            Err(error) => return self.cannot_use(&error),
        };
        let recovered = match recovered(&mut client) {
            Ok(recovered) => recovered,
            Err(error) => return self.cannot_use(&error),
        };
        let databases = match column(&mut client, DATABASES) {
            Ok(databases) => databases,
            Err(error) => return self.cannot_use(&error),
        };
        let has_amcheck = "select true from pg_available_extensions where name = 'amcheck'";
        let has_amcheck = row(&mut client, has_amcheck).is_ok_and(|row| !row.is_empty());
        drop(client);
        self.databases(&entrance, &databases)?;
        self.statements(&entrance)?;
        self.amcheck(&entrance, has_amcheck)?;
        Ok(Some(recovered))
    }

    fn cannot_use(&mut self, error: &Error) -> Result<Option<Recovered>, TrialError> {
        self.cancelled()?;
        let text = format!("the recovered server cannot be used: {}", chain(error));
        self.report.failures.push(text);
        Ok(None)
    }

    fn cancelled(&self) -> Result<(), TrialError> {
        self.cx.check_cancel().map_err(|_| TrialError::Cancelled)
    }

    /// Logs in as a superuser. Which roles and databases there are is not known: likely names are tried.
    fn enter(&self) -> Result<(Client, Entrance), Error> {
        let user = std::env::var("USER").ok();
        let roles = [self.setup.role.clone(), Some(FIRST_ROLE.to_owned()), user];
        let own = self.setup.database.as_deref();
        let mut last = None;
        for role in roles.into_iter().flatten() {
            for database in FIRST_DATABASES.into_iter().chain(own) {
                match query::connect(self.cx, self.scratch, &role, database) {
                    Ok(mut client) => {
                        let superuser = column(&mut client, SUPERUSER)?.into_iter().next();
                        let role = superuser.unwrap_or(role);
                        let client = query::connect(self.cx, self.scratch, &role, database)?;
                        let database = database.to_owned();
                        return Ok((client, Entrance { role, database }));
                    }
                    Err(error) => last = Some(error),
                }
            }
        }
        Err(last.unwrap_or(Error::Closed))
    }

    fn note(&mut self, name: impl Into<String>, result: CheckResult) {
        self.results.push(Check {
            name: name.into(),
            result,
        });
    }

    /// Notes a check that has complaints, or none.
    fn conclude(&mut self, name: impl Into<String>, complaints: Vec<String>) {
        let result = if complaints.is_empty() {
            CheckResult::Passed
        } else {
            CheckResult::Failed
        };
        self.report.complaints.extend(complaints);
        self.note(name, result);
    }

    /// Every database can be connected to, and its catalog be read.
    fn databases(&mut self, entrance: &Entrance, databases: &[String]) -> Result<(), TrialError> {
        let mut result = CheckResult::Passed;
        for database in databases {
            self.cx
                .report(Phase::Check, 0, None, &format!("database {database}"));
            let read = query::connect(self.cx, self.scratch, &entrance.role, database)
                .and_then(|mut client| row(&mut client, "select count(*) from pg_class"));
            self.cancelled()?;
            if let Err(error) = read {
                let text = format!("database {database:?} cannot be used: {}", chain(&error));
                self.report.failures.push(text);
                result = CheckResult::Failed;
            }
        }
        self.note(format!("{} databases can be used", databases.len()), result);
        Ok(())
    }

    /// The user's own statements.
    fn statements(&mut self, entrance: &Entrance) -> Result<(), TrialError> {
        if self.setup.statements.is_empty() {
            return Ok(());
        }
        let database = self.setup.database.as_deref().unwrap_or(&entrance.database);
        let connected = query::connect(self.cx, self.scratch, &entrance.role, database);
        let mut client = match connected {
            Ok(client) => client,
            Err(error) => {
                let text = format!("database {database:?} cannot be used: {}", chain(&error));
                self.conclude("statements", vec![text]);
                return self.cancelled();
            }
        };
        for sql in &self.setup.statements {
            self.cx.report(Phase::Check, 0, None, sql);
            let objection = match client.query(sql) {
                Ok(results) => objection(&results),
                Err(error) => Some(chain(&error)),
            };
            self.cancelled()?;
            let complaints = objection.map(|objection| format!("statement `{sql}`: {objection}"));
            self.conclude(
                format!("statement `{sql}`"),
                complaints.into_iter().collect(),
            );
        }
        Ok(())
    }

    /// Tables and indexes agree with each other.
    fn amcheck(&mut self, entrance: &Entrance, has_extension: bool) -> Result<(), TrialError> {
        let name = "pg_amcheck";
        let skipped = |why: &str| CheckResult::Skipped(why.to_owned());
        let Some(program) = self.programs.optional(name) else {
            self.note(name, skipped("the program is not installed"));
            return Ok(());
        };
        if !has_extension {
            self.note(name, skipped("the extension amcheck is not installed"));
            return Ok(());
        }
        self.cx.report(Phase::Check, 0, None, name);
        let mut command = command(&program, self.scratch)?;
        command
            .arg("--host")
            .arg(self.scratch.socket_folder())
            .args(["--port", &PORT.to_string()])
            .args(["--username", &entrance.role, "--no-password"])
            .args(["--maintenance-db", &entrance.database])
            .args(["--all", "--install-missing"]);
        self.tool(name, &program, command)
    }

    /// The pages of a server that has stopped have their checksums.
    pub(super) fn page_checksums(&mut self, has_checksums: bool) -> Result<(), TrialError> {
        let name = "pg_checksums";
        let skipped = |why: &str| CheckResult::Skipped(why.to_owned());
        if !has_checksums {
            self.note(name, skipped("the server has no page checksums"));
            return Ok(());
        }
        let Some(program) = self.programs.optional(name) else {
            self.note(name, skipped("the program is not installed"));
            return Ok(());
        };
        self.cx.report(Phase::Check, 0, None, name);
        let mut command = command(&program, self.scratch)?;
        command.arg("--check").arg("-D").arg(self.scratch.data());
        self.tool(name, &program, command)
    }

    /// Runs a program that ends with 0 if all is well; what it prints otherwise is the complaint.
    fn tool(&mut self, name: &str, program: &Path, mut command: Command) -> Result<(), TrialError> {
        let path = self.scratch.folder().join(name);
        let output = output_file(&path)?;
        command.env("LC_ALL", "C");
        let status = Process::start(command, program, output)?.wait(self.cx)?;
        let complaints = if status.success() {
            Vec::new()
        } else {
            let quoted = quoted(&path)?;
            vec![format!(
                "{name} {}: {quoted}",
                crate::supervisor::describe_end(status)
            )]
        };
        self.conclude(name, complaints);
        Ok(())
    }
}

fn recovered(client: &mut Client) -> Result<Recovered, Error> {
    let fields = row(client, RECOVERED)?;
    let mut fields = fields.into_iter();
    let lsn = fields.next().flatten().and_then(|text| text.parse().ok());
    let last_commit = fields.next().flatten().and_then(|text| text.parse().ok());
    Ok(Recovered {
        lsn: lsn.unwrap_or(Lsn::INVALID),
        last_commit,
    })
}

fn output_file(path: &Path) -> Result<File, TrialError> {
    let opened = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path);
    opened.map_err(|error| TrialError::file("write", path, error))
}

/// The first lines of what a program printed, in one line.
fn quoted(path: &Path) -> Result<String, TrialError> {
    let mut text = Vec::new();
    File::open(path)
        .and_then(|file| file.take(OUTPUT_BYTES_MAX).read_to_end(&mut text))
        .map_err(|error| TrialError::file("read", path, error))?;
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    let more = lines.len().saturating_sub(LINES_QUOTED);
    let mut quoted = lines[..lines.len() - more].join(" | ");
    if more > 0 {
        quoted = format!("{quoted} | and {more} lines more");
    }
    Ok(quoted)
}
