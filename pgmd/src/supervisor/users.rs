//! The daemon's secrets while it runs: read at the start, again at a reload, and when `pgm-cli admin user` says so.

use std::sync::Arc;

use pgm_mgmt::{Error, ErrorCode, UsersReloaded};
use pgm_proto::ServerName;
use tokio::task::JoinError;
use tracing::info;

use super::StartError;
use super::daemon::{Daemon, lock};
use crate::config::{Config, ConfigError, MasterKeySource, ServerConfig};
use crate::secrets::{LoadedSecrets, Passwords, SecretsError};
use crate::service::remote::RemoteTlsError;
use crate::worker::Connection;

/// Why a reload changed nothing.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Master key, vault or admins cannot be used.
    #[error(transparent)]
    Secrets(#[from] SecretsError),
    /// The certificate of remote management cannot be used.
    #[error(transparent)]
    RemoteTls(#[from] RemoteTlsError),
    /// A new repository cannot be made or opened.
    #[error(transparent)]
    Repository(Box<StartError>),
    /// The task that read them died.
    #[error("cannot read the configuration: {0}")]
    Task(#[from] JoinError),
}

impl ReloadError {
    /// The same as a management client hears it.
    pub fn to_answer(&self) -> Error {
        Error {
            code: ErrorCode::Configuration,
            text: self.to_string(),
            hint: self.hint(),
        }
    }

    /// What to do next.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Config(error) => error.hint(),
            Self::Secrets(error) => error.hint(),
            Self::RemoteTls(error) => error.hint(),
            Self::Repository(error) => error.hint(),
            Self::Task(_) => None,
        }
    }
}

impl Daemon {
    /// The secrets in force.
    pub fn secrets(&self) -> Arc<LoadedSecrets> {
        Arc::clone(&lock(&self.secrets))
    }

    /// The environment variable with the master key, when that is where it comes from.
    pub(super) fn key_variable(&self) -> Option<String> {
        match &self.config().master_key {
            MasterKeySource::Environment(name) => Some(name.clone()),
            MasterKeySource::File(_) | MasterKeySource::Command(_) => None,
        }
    }

    /// How `server` is reached, with its password from the vault.
    pub fn connection(&self, server: &ServerName, entry: &ServerConfig) -> Connection {
        let secrets = self.secrets();
        let password = secrets.passwords.of(server, &entry.conninfo);
        Connection::new(&self.config(), entry, password)
    }

    /// Reads vault and admins again; servers whose password has changed get new receive workers.
    pub async fn reload_users(self: &Arc<Self>) -> Result<UsersReloaded, ReloadError> {
        let _turn = self.reloading.lock().await;
        let config = self.config();
        let new = load(&config).await?;
        let renewed = self.put_secrets(&config, new);
        let secrets = self.secrets();
        let report = UsersReloaded {
            passwords: secrets.passwords.count() as u64,
            admins: secrets.admins.count() as u64,
            renewed: renewed.clone(),
        };
        info!(
            "users: {} passwords in the vault, {} admins",
            report.passwords, report.admins
        );
        self.renew(&renewed, renewed.clone());
        Ok(report)
    }

    /// From now on `new` is in force. Gives the servers of `config` whose password is another one now.
    pub(super) fn put_secrets(&self, config: &Config, new: LoadedSecrets) -> Vec<ServerName> {
        let old = std::mem::replace(&mut *lock(&self.secrets), Arc::new(new));
        let new = self.secrets();
        let changed = |(name, entry): &(&ServerName, &ServerConfig)| {
            let password = |passwords: &Passwords| passwords.of(name, &entry.conninfo).cloned();
            password(&old.passwords) != password(&new.passwords)
        };
        let servers = config.servers.iter().filter(changed);
        servers.map(|(name, _)| name.clone()).collect()
    }
}

/// Reads all secrets, off the event loop: a command that gives the master key may take its time.
pub(super) async fn load(config: &Arc<Config>) -> Result<LoadedSecrets, ReloadError> {
    let config = Arc::clone(config);
    let read = tokio::task::spawn_blocking(move || LoadedSecrets::load(&config));
    Ok(read.await??)
}
