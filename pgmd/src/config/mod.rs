//! The configuration: one RON file, `pgmd.ron`.
//!
//! Every value is checked where it is read and kept as its own type; nothing is looked at again later. An error names
//! file, line and column, says what was expected, and offers the nearest valid name. Unknown fields are refused.
//! Relative paths are resolved against the folder of the file; `$NAME` in a path is an environment variable.
//!
//! Every setting is declared once, in `settings.rs`; `registry.rs` says what follows from that.
//!
//! Reading a configuration has no effect on the disk: folders are made by whoever uses them.

mod change;
mod draft;
mod edit;
mod entry;
mod error;
mod member;
mod os_user;
mod reader;
mod reference;
mod registry;
mod sample;
mod section;
mod settings;
mod source;
mod standbys;
mod value;

use std::path::{Path, PathBuf};

use pgm_storage::StoreAddress;

use pgm_proto::{RepositoryName, ServerName};

use crate::place::{RepositoryPlace, RepositoryTarget};
use crate::seal_key::PlaceKey;

pub use change::{Before, Key};
pub use draft::Draft;
pub use entry::Entry;
pub use error::ConfigError;
pub(crate) use error::nearest_hint;
pub use member::{Member, MemberGroup};
pub use os_user::OsUser;
pub use reference::{REGENERATE, page as reference_page};
pub use registry::{DefaultValue, ReloadClass, Setting};
use sample::quoted;
pub use sample::{Sample, sample};
pub use settings::{
    Config, FurtherRepositoryConfig, HooksConfig, LoggingConfig, ManagementConfig, MetricsConfig,
    RepositoryConfig, ServerConfig, StandbyConfig, VerifyConfig, all as settings,
};
pub use value::{
    BackupSource, ByteSize, ConninfoText, Form, HookCommand, JobPriority, Kind, LogLevel, LogMode,
    LogType, MasterKeySource, PathTemplate, ProgramFolders, ServerMode, Statements,
    TablespacePlaces, VerifyDepth,
};

/// The name of the configuration file in the daemon's directory.
pub const FILE_NAME: &str = "pgmd.ron";
/// The name of the management socket in its folder.
pub const SOCKET_NAME: &str = ".s.pgmd";
/// The name of the lock file in the run folder; it holds the daemon's process id.
pub const PID_FILE_NAME: &str = "pgmd.pid";

impl RepositoryConfig {
    /// Where it is.
    pub fn place(&self) -> RepositoryPlace {
        let place = match &self.url {
            Some(address) => RepositoryPlace {
                name: RepositoryName::default(),
                address: address.clone(),
                credentials: self.credentials_file.clone(),
                key: None,
            },
            None => RepositoryPlace::local(&self.path),
        };
        place.sealed(self.seal.clone())
    }
}

impl FurtherRepositoryConfig {
    /// Where it is; `name` is its name.
    fn place(&self, name: &RepositoryName) -> RepositoryPlace {
        let folder = self.path.clone().unwrap_or_default();
        let local = || StoreAddress::local(folder);
        RepositoryPlace {
            name: name.clone(),
            address: self.url.clone().unwrap_or_else(local),
            credentials: self.credentials_file.clone(),
            key: self.seal.clone().map(PlaceKey::new),
        }
    }
}

impl Config {
    /// Reads and checks the configuration in `file`.
    ///
    /// A file that holds a password must be readable by its owner alone.
    pub fn load(file: &Path) -> Result<Self, ConfigError> {
        reader::load(file, &[])
    }

    /// Checks the configuration in `text`, as if it stood in `file`; the file itself is not touched.
    pub fn parse(file: &Path, text: &str) -> Result<Self, ConfigError> {
        reader::parse(file, text, &[])
    }

    /// The file of this configuration read again. Settings that cannot change while the daemon runs keep their values,
    /// and their entries say what waits for a restart.
    pub(crate) fn load_again(&self) -> Result<Self, ConfigError> {
        reader::load(&self.file, &self.entries)
    }

    /// Whether a password stands in it.
    pub(crate) fn has_password(&self) -> bool {
        let mut servers = self.servers.values();
        servers.any(|server| server.conninfo.has_password())
    }

    /// The folder of the file: the base directory.
    pub fn folder(&self) -> &Path {
        self.file.parent().unwrap_or(Path::new("/"))
    }

    /// The management socket.
    pub fn socket(&self) -> PathBuf {
        self.unix_socket_dir.join(SOCKET_NAME)
    }

    /// The lock file, which holds the process id of the daemon that runs.
    pub fn pid_file(&self) -> PathBuf {
        let named = self.pidfile.clone();
        named.unwrap_or_else(|| self.unix_socket_dir.join(PID_FILE_NAME))
    }

    /// The spool of `server`.
    pub fn spool_of(&self, server: &ServerName) -> PathBuf {
        self.spool.join(server.as_str())
    }

    /// The entry of `server`.
    pub fn server(&self, server: &ServerName) -> Result<&ServerConfig, ConfigError> {
        let entry = self.servers.get(server);
        entry.ok_or_else(|| self.unknown_server(server.as_str()))
    }

    /// Every repository, the one named `default` first.
    pub fn targets(&self) -> Vec<RepositoryTarget> {
        let first = RepositoryTarget {
            place: self.repository.place(),
            compression: self.repository.compression,
        };
        let further = self
            .repositories
            .iter()
            .map(|(name, entry)| RepositoryTarget {
                place: entry.place(name),
                compression: entry.compression,
            });
        std::iter::once(first).chain(further).collect()
    }

    /// The repository of this name.
    pub fn target(&self, name: &RepositoryName) -> Result<RepositoryTarget, ConfigError> {
        let mut targets = self.targets().into_iter();
        let found = targets.find(|target| target.place.name == *name);
        found.ok_or_else(|| self.unknown_repository(name.as_str()))
    }

    fn unknown_server(&self, server: &str) -> ConfigError {
        ConfigError::UnknownServer {
            file: self.file.clone(),
            server: server.to_owned(),
            known: self.servers.keys().map(ToString::to_string).collect(),
        }
    }

    fn unknown_standby(&self, standby: &str) -> ConfigError {
        ConfigError::UnknownStandby {
            file: self.file.clone(),
            standby: standby.to_owned(),
            known: self.standbys.keys().cloned().collect(),
        }
    }

    fn unknown_repository(&self, repository: &str) -> ConfigError {
        let names = self.targets().into_iter();
        ConfigError::UnknownRepository {
            file: self.file.clone(),
            repository: repository.to_owned(),
            known: names.map(|target| target.place.name.to_string()).collect(),
        }
    }
}

#[cfg(test)]
mod tests;
