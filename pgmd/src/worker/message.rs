//! What supervisor and worker say to each other over the worker's pipes.
//!
//! The description goes in on the standard input as one line of RON, and the pipe then stays open: its end means that
//! the supervisor is gone. Events come out on the standard output, one line of RON each.

use std::path::PathBuf;
use std::time::SystemTime;

use pgm_mgmt::{
    ArchiveOptions, BackupChoice, BackupOptions, Error, Gap, RestoreOptions, RetentionOptions,
    VerifyOptions,
};
use pgm_proto::{
    ConnInfo, ConnInfoError, Defaults, Lsn, RepositoryName, Secret, ServerName, SlotName,
};
use serde::{Deserialize, Serialize};

use super::standby::StandbyOptions;
use crate::config::{Config, JobPriority, LogLevel, ServerConfig};
use crate::place::{RepositoryPlace, RepositoryTarget};
use crate::seal_key::SealKey;
use crate::trial::TrialSetup;

/// The longest line between the two.
pub const LINE_BYTES_MAX: usize = 4 << 20;

/// What every worker is told first.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Description {
    /// The server that the worker is for.
    pub server: ServerName,
    /// How much it logs.
    pub log_level: LogLevel,
    /// Its place in the shared state.
    pub slot: usize,
    /// The repositories that it works on, at least one.
    pub repositories: Vec<RepositoryTarget>,
    /// The server's spool.
    pub spool: PathBuf,
    /// Whether the list of processes says what it does.
    pub title: ProcessTitle,
    /// How it shares disk and processor with others.
    pub priority: JobPriority,
    /// What it does.
    pub task: Task,
}

impl Description {
    /// The repository of a task that works on one.
    pub fn repository(&self) -> &RepositoryPlace {
        // The supervisor names at least one.
        &self.repositories[0].place
    }

    /// The same with the keys of its repositories. May run the commands that print them.
    #[must_use]
    pub fn with_keys(mut self) -> Self {
        for target in &mut self.repositories {
            let key = target.place.key.take();
            target.place.key = key.map(|key| key.for_worker());
        }
        self
    }
}

/// How archiving into one repository goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArchiveNote {
    /// Which.
    pub repository: RepositoryName,
    /// How far the WAL is archived there.
    pub archived: Option<Lsn>,
    /// Why archiving does not work: text, and what to do.
    pub problem: Option<(String, Option<String>)>,
}

/// What of the spool one repository does not have yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BacklogNote {
    /// Which.
    pub repository: RepositoryName,
    /// Finished files that wait for it.
    pub files: usize,
    /// Since when the oldest one has.
    pub since: Option<SystemTime>,
}

/// Whether the list of processes says what a worker does right now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProcessTitle {
    /// It does.
    Shown,
    /// It only says what the worker is for.
    Fixed,
}

impl ProcessTitle {
    /// What the configuration says.
    pub fn of(config: &Config) -> Self {
        if config.update_process_title {
            Self::Shown
        } else {
            Self::Fixed
        }
    }
}

/// What a worker does.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Task {
    /// Receives and archives WAL until it is told to stop.
    Receive {
        /// How to reach the server.
        connection: Connection,
        /// The replication slot.
        slot: SlotName,
        /// Whether it is made when it is missing.
        create_slot: bool,
    },
    /// Takes one backup.
    Backup {
        /// How to reach the server.
        connection: Connection,
        /// How.
        options: BackupOptions,
        /// An old pack of which at most so many percent are needed is given up.
        compact_below: u8,
        /// The place of the server's receive worker in the shared state.
        receiver_slot: usize,
    },
    /// Restores one.
    Restore {
        /// What, where to, up to where.
        options: RestoreOptions,
    },
    /// Deletes one.
    Delete {
        /// Which.
        backup: BackupChoice,
        /// Also one that is damaged, or the last one.
        force: bool,
    },
    /// Restores one into a tar file.
    Archive {
        /// What, up to where, into which file.
        options: ArchiveOptions,
        /// The key of a sealed one.
        key: Option<SealKey>,
    },
    /// Verifies backups.
    Verify {
        /// Which, and how far.
        options: VerifyOptions,
        /// How they are tried.
        setup: TrialSetup,
    },
    /// Removes what has expired.
    Retention {
        /// Under which policy.
        options: RetentionOptions,
    },
    /// Brings a standby's directory up to date.
    Standby {
        /// Which.
        options: StandbyOptions,
    },
}

/// A connection string and what completes it.
#[derive(Clone, Serialize, Deserialize)]
pub struct Connection {
    /// The string as configured; it may hold a password, so this type does not print it.
    conninfo: String,
    /// From the vault, for a string that has none.
    #[serde(default, with = "exposed")]
    password: Option<Secret>,
    user: Option<String>,
    passfile: Option<PathBuf>,
    application_name: Option<String>,
    ssl_directory: Option<PathBuf>,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Connection(***)")
    }
}

impl Connection {
    /// How `config` reaches `server`, with the vault's `password`.
    pub fn new(config: &Config, server: &ServerConfig, password: Option<&Secret>) -> Self {
        let defaults = config.connection_defaults.clone();
        Self {
            conninfo: server.conninfo_text.expose().to_owned(),
            password: password.cloned(),
            user: defaults.user,
            passfile: defaults.passfile,
            application_name: defaults.application_name,
            ssl_directory: defaults.ssl_directory,
        }
    }

    /// The checked connection string.
    pub fn conninfo(&self) -> Result<ConnInfo, ConnInfoError> {
        let info: ConnInfo = self.conninfo.parse()?;
        let info = match &self.password {
            Some(password) if !info.has_password() => info.with_password(password.clone()),
            _ => info,
        };
        Ok(info.with_defaults(&Defaults {
            user: self.user.clone(),
            passfile: self.passfile.clone(),
            application_name: self.application_name.clone(),
            ssl_directory: self.ssl_directory.clone(),
        }))
    }
}

/// A secret on its way through the pipe to the worker, the one place where it is written out.
mod exposed {
    use pgm_proto::Secret;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[allow(clippy::ref_option, reason = "serde's form")]
    pub(super) fn serialize<S: Serializer>(
        secret: &Option<Secret>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let text = secret.as_ref().map(Secret::expose);
        text.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Secret>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        Ok(text.map(Secret::new))
    }
}

impl Task {
    /// How the task is named on the worker's command line and in its log.
    pub fn words(&self) -> &'static [&'static str] {
        match self {
            Self::Receive { .. } => &["receive"],
            Self::Backup { .. } => &["job", "backup"],
            Self::Restore { .. } => &["job", "restore"],
            Self::Delete { .. } => &["job", "delete"],
            Self::Verify { .. } => &["job", "verify"],
            Self::Archive { .. } => &["job", "archive"],
            Self::Retention { .. } => &["job", "retention"],
            Self::Standby { .. } => &["job", "standby"],
        }
    }
}

/// What a worker is told while it works.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Order {
    /// Log this much from now on.
    LogLevel(LogLevel),
    /// End, and keep nothing of what is not finished. Without this order, whoever ends early keeps what the next one can
    /// go on from.
    Cancel,
}

/// What a worker says.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum WorkerEvent {
    /// WAL flows; what was wrong before is over.
    Streaming,
    /// Something is wrong with the server or its WAL.
    Problem {
        /// What: lower case, no full stop.
        text: String,
        /// What to do.
        hint: Option<String>,
    },
    /// How archiving into one repository goes.
    Archiving(ArchiveNote),
    /// This much of the spool waits for one repository.
    Backlog(BacklogNote),
    /// These are the holes in the archive now.
    Gaps(Vec<Gap>),
    /// There is one hole more.
    NewGap(Gap),
    /// The job is in this phase now.
    Phase(String),
    /// Something a person should read.
    Warning(String),
    /// The job is done.
    Done(Box<pgm_mgmt::Response>),
    /// The job failed.
    Failed(Error),
}
