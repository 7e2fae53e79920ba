//! The secrets as the running daemon holds them, and how servers get their passwords.

use std::collections::BTreeMap;

use pgm_proto::{ConnInfo, Secret, ServerName};

use super::admins::Admins;
use super::error::SecretsError;
use super::master_key::master_key;
use super::mock_secret::MockSecret;
use super::user_name::UserName;
use super::vault::Vault;
use crate::config::Config;

/// Everything that a reload of the users reads.
#[derive(Debug, Clone)]
pub struct LoadedSecrets {
    /// PostgreSQL's users.
    pub passwords: Passwords,
    /// The users of remote management.
    pub admins: Admins,
    /// For the users who do not exist.
    pub mock: MockSecret,
}

/// The opened passwords of the vault; never printed, wiped when dropped.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Passwords(BTreeMap<(UserName, Option<ServerName>), Secret>);

impl LoadedSecrets {
    /// Reads all files that `config` names; those that are not there are empty.
    pub fn load(config: &Config) -> Result<Self, SecretsError> {
        Ok(Self {
            passwords: Passwords::load(config)?,
            admins: Admins::load(&config.admins)?,
            mock: MockSecret::load_or_create(&config.admins)?,
        })
    }
}

impl Passwords {
    /// Opens the vault of `config` with its master key. An empty vault takes no key.
    pub fn load(config: &Config) -> Result<Self, SecretsError> {
        let vault = Vault::load(&config.vault)?;
        if vault.entries().is_empty() {
            return Ok(Self::default());
        }
        let key = master_key(&config.master_key)?;
        let mut passwords = BTreeMap::new();
        for entry in vault.entries() {
            let password = vault.open(&key, entry)?;
            passwords.insert((entry.user.clone(), entry.server.clone()), password);
        }
        Ok(Self(passwords))
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The password that the vault has for `server`, unless its connection string has one.
    pub fn of(&self, server: &ServerName, conninfo: &ConnInfo) -> Option<&Secret> {
        if conninfo.has_password() {
            return None;
        }
        let user: UserName = conninfo.user()?.parse().ok()?;
        let own = self.0.get(&(user.clone(), Some(server.clone())));
        own.or_else(|| self.0.get(&(user, None)))
    }

    /// `conninfo` with the password that the vault has for it.
    pub fn complete(&self, server: &ServerName, conninfo: ConnInfo) -> ConnInfo {
        match self.of(server, &conninfo) {
            Some(password) => conninfo.with_password(password.clone()),
            None => conninfo,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn passwords() -> Passwords {
        let user: UserName = "backup".parse().unwrap();
        Passwords(BTreeMap::from([
            ((user.clone(), None), Secret::new("for all")),
            ((user, "prod".parse().ok()), Secret::new("for prod")),
        ]))
    }

    #[test]
    fn a_servers_own_password_counts_before_that_for_all_and_the_conninfo_before_both() {
        let passwords = passwords();
        let of = |server: &str, conninfo: &str| {
            let conninfo: ConnInfo = conninfo.parse().unwrap();
            let password = passwords.of(&server.parse().unwrap(), &conninfo);
            password.map(|password| password.expose().to_owned())
        };
        assert_eq!(of("prod", "user=backup").as_deref(), Some("for prod"));
        assert_eq!(of("test", "user=backup").as_deref(), Some("for all"));
        assert_eq!(of("test", "user=backup password=x"), None);
        assert_eq!(of("test", "user=other"), None);
        assert_eq!(of("test", "host=x"), None);
    }

    #[test]
    fn a_daemon_without_a_vault_needs_no_master_key() {
        let folder = tempfile::tempdir().unwrap();
        let config = Config::parse(&folder.path().join("pgmd.ron"), "(servers: {})").unwrap();
        let secrets = LoadedSecrets::load(&config).unwrap();
        assert_eq!((secrets.passwords.count(), secrets.admins.count()), (0, 0));
        assert!(
            Path::new(&config.admins)
                .with_file_name("scram.secret")
                .exists()
        );
    }
}
