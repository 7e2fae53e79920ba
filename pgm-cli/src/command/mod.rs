//! The commands: one file each, named as it is typed.

mod admin;
mod archive;
mod backup;
mod check;
mod completions;
mod conf;
mod config_import;
mod daemon;
mod delete;
mod file;
mod info;
mod init;
mod job;
mod list_backup;
mod man;
mod mark;
mod mode;
mod offline;
mod ping;
mod progress;
mod repository;
mod restore;
mod retention;
mod shutdown;
mod status;
mod status_details;
mod verify;
mod wal_browse;
mod wal_filter;
mod wal_find;
mod wal_get;
mod wal_info;
mod wal_receive;
mod wal_source;
mod wal_summary;
mod wal_verify;
mod window;

pub(crate) use wal_receive::connection_defaults;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use pgm_mgmt::{Client, Deadlines};
use pgm_proto::{RepositoryName, ServerName};
use pgm_storage::{Compression, StoreAddress};
use pgmd::config::{Config, MasterKeySource};
use pgmd::place::{RepositoryPlace, RepositoryTarget};
use pgmd::seal_key::PlaceKey;

use crate::arguments::{Arguments, Command, Format, RepositoryArguments, WalCommand};
use crate::error::{CliError, Failure};
use crate::locate;
use crate::remote::Remote;

/// What every command needs to know: where the daemon lives and how to print.
#[derive(Debug)]
struct Cx {
    directory: Option<PathBuf>,
    config: Option<PathBuf>,
    format: Format,
    at: RepositoryArguments,
    remote: Option<Remote>,
}

impl Cx {
    /// Connects to the daemon, wherever it is.
    fn connect(&self) -> Result<Client, CliError> {
        match &self.remote {
            Some(remote) => remote.connect(),
            None => Ok(Client::connect(
                &self.config()?.socket(),
                Deadlines::default(),
            )?),
        }
    }

    /// Whether the daemon is on another host, whose paths are not ours.
    fn is_elsewhere(&self) -> bool {
        self.remote.as_ref().is_some_and(Remote::is_elsewhere)
    }

    /// Reads the configuration.
    fn config(&self) -> Result<Config, CliError> {
        locate::config(self.config.as_deref(), self.directory.as_deref())
    }
}

/// Repositories, and the configuration if they were named by that.
#[derive(Debug)]
struct At {
    /// At least one.
    targets: Vec<RepositoryTarget>,
    config: Option<Config>,
}

impl At {
    /// The repository, for what is done in one.
    fn place(&self) -> Result<&RepositoryPlace, CliError> {
        match self.targets.as_slice() {
            [target] => Ok(&target.place),
            several => {
                let names = several.iter().map(|target| target.place.name.as_str());
                let names: Vec<&str> = names.collect();
                Err(CliError::new(
                    Failure::Usage,
                    "there are several repositories, and this is done in one",
                    Some(format!("say which with --repo: {}", names.join(", "))),
                ))
            }
        }
    }

    /// All of them.
    fn places(&self) -> Vec<RepositoryPlace> {
        let targets = self.targets.iter();
        targets.map(|target| target.place.clone()).collect()
    }

    /// The spool of a server, when there is a configuration that says where it is.
    fn spool_of(&self, server: &ServerName) -> Option<PathBuf> {
        let config = self.config.as_ref();
        config.map(|config| config.spool_of(server))
    }
}

impl Cx {
    /// The repository that was named, else those of the configuration, or that one of them which `--repo` names.
    fn at(&self) -> Result<At, CliError> {
        if let Some(place) = self.named_place()? {
            let target = RepositoryTarget {
                place,
                compression: Compression::ZSTD,
            };
            return Ok(At {
                targets: vec![target],
                config: None,
            });
        }
        let config = self.config()?;
        let mut targets = match &self.at.repo {
            Some(name) => vec![config.target(name)?],
            None => config.targets(),
        };
        if let Some(key) = &self.at.master_key {
            // The configuration knows which of them are sealed.
            let sealed = targets.iter_mut().map(|target| &mut target.place.key);
            for place_key in sealed.filter(|place_key| place_key.is_some()) {
                *place_key = Some(PlaceKey::new(absolute_key(key)?));
            }
        }
        Ok(At {
            targets,
            config: Some(config),
        })
    }

    /// The repository that was named, with absolute paths.
    fn named_place(&self) -> Result<Option<RepositoryPlace>, CliError> {
        let address = self.at.repository.as_ref();
        let (credentials, key) = (self.at.credentials.as_deref(), self.at.master_key.as_ref());
        let place = address.map(|address| place_at(address, credentials, key));
        place.transpose()
    }
}

/// A repository that is named outright, with absolute paths.
fn place_at(
    address: &StoreAddress,
    credentials: Option<&Path>,
    key: Option<&MasterKeySource>,
) -> Result<RepositoryPlace, CliError> {
    let address = match address.directory() {
        Some(folder) => StoreAddress::local(absolute(&folder)?),
        None => address.clone(),
    };
    Ok(RepositoryPlace {
        name: RepositoryName::default(),
        address,
        credentials: credentials.map(absolute).transpose()?,
        key: key.map(absolute_key).transpose()?.map(PlaceKey::new),
    })
}

fn absolute_key(source: &MasterKeySource) -> Result<MasterKeySource, CliError> {
    Ok(match source {
        MasterKeySource::File(file) => MasterKeySource::File(absolute(file)?),
        other => other.clone(),
    })
}

fn absolute(path: &Path) -> Result<PathBuf, CliError> {
    std::path::absolute(path).map_err(|error| {
        let text = format!("{} cannot be found: {error}", path.display());
        CliError::new(Failure::Usage, text, None)
    })
}

/// Carries out what was typed.
pub(crate) fn run(arguments: Arguments) -> Result<ExitCode, CliError> {
    let cx = Cx {
        directory: arguments.directory,
        config: arguments.config,
        format: arguments.format,
        at: arguments.at,
        remote: if arguments.command.works_here_only() {
            None
        } else {
            Remote::new(&arguments.remote)?
        },
    };
    match arguments.command {
        Command::Init(arguments) => init::run(&cx, &arguments),
        Command::Check(arguments) => check::run(&cx, &arguments),
        Command::Ping => ping::run(&cx),
        Command::Status(arguments) => status::run(&cx, arguments),
        Command::Backup(arguments) => backup::run(&cx, arguments),
        Command::ListBackup(arguments) => list_backup::run(&cx, arguments),
        Command::Info(arguments) => info::run(&cx, arguments),
        Command::Restore(arguments) => restore::run(&cx, arguments),
        Command::Archive(arguments) => archive::run(&cx, arguments),
        Command::Delete(arguments) => delete::run(&cx, arguments),
        Command::Retention(arguments) => retention::run(&cx, arguments),
        Command::Retain(arguments) => mark::retain(&cx, arguments),
        Command::Expunge(arguments) => mark::expunge(&cx, arguments),
        Command::Annotate(arguments) => mark::annotate(&cx, arguments),
        Command::Verify(arguments) => verify::run(&cx, arguments),
        Command::Repository(command) => repository::run(&cx, &command),
        Command::Progress(arguments) => progress::run(&cx, &arguments),
        Command::Mode(arguments) => mode::run(&cx, arguments),
        Command::Job(command) => job::run(&cx, command),
        Command::Clear(what) => job::clear(&cx, &what),
        Command::Wal(WalCommand::Get(arguments)) => wal_get::run(&cx, &arguments),
        Command::Wal(WalCommand::Receive(arguments)) => wal_receive::run(&cx, &arguments),
        Command::Admin(command) => admin::run(&cx, command),
        Command::Conf(command) => conf::run(&cx, command),
        Command::Encrypt(arguments) => file::encrypt(&cx, &arguments),
        Command::Decrypt(arguments) => file::decrypt(&cx, &arguments),
        Command::Compress(arguments) => file::compress(&cx, &arguments),
        Command::Decompress(arguments) => file::decompress(&cx, &arguments),
        Command::Wal(WalCommand::Info(arguments)) => wal_info::run(&cx, &arguments),
        Command::Wal(WalCommand::Verify(arguments)) => wal_verify::run(&cx, &arguments),
        Command::Wal(WalCommand::Summary(arguments)) => wal_summary::run(&cx, &arguments),
        Command::Wal(WalCommand::Browse(arguments)) => wal_browse::run(&cx, &arguments),
        Command::Wal(WalCommand::Filter(arguments)) => wal_filter::run(&cx, &arguments),
        Command::Wal(WalCommand::Find(arguments)) => wal_find::run(&cx, &arguments),
        Command::Shutdown => shutdown::run(&cx),
        Command::Completions(arguments) => Ok(completions::run(&arguments)),
        Command::Man(arguments) => man::run(&arguments),
    }
}
