//! The vault: passwords of PostgreSQL's users, each sealed with the master key.
//!
//! ```text
//! (format: 1, passwords: [
//!     (user: "backup", server: None, changed: "2026-11-25T01:02:03Z", sealed: "UEdNUwEB…"),
//!     (user: "backup", server: Some("prod"), changed: "…", sealed: "…"),
//! ])
//! ```
//!
//! `sealed` is a sealed object in base64 whose context is `pgm vault`, the user and the server, with zero bytes between: a
//! password cannot be put under another name. An entry with a server counts for that server before one without. Listing
//! and removing take no key.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use pgm_proto::{Secret, ServerName};
use pgm_storage::seal::{self, MasterKey, SealError};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::error::SecretsError;
use super::private_file::{self, EditLock};
use super::user_name::UserName;
use crate::repository::second;

const FORMAT: u32 = 1;
const COMMENT: &str = "pgm's vault: written by `pgm-cli admin user`, not by hand";
const KIND: &str = "password of";

/// The vault's file, read.
#[derive(Debug)]
pub struct Vault {
    path: PathBuf,
    document: Document,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Document {
    format: u32,
    passwords: Vec<VaultEntry>,
}

/// One sealed password.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VaultEntry {
    /// The PostgreSQL user.
    pub user: UserName,
    /// The server that it is for; all when `None`.
    pub server: Option<ServerName>,
    /// When it was entered.
    pub changed: String,
    sealed: String,
}

impl Vault {
    /// Reads the vault in `path`; empty when there is no file.
    pub fn load(path: &Path) -> Result<Self, SecretsError> {
        let document: Option<Document> = private_file::read_ron(path)?;
        if let Some(document) = &document
            && document.format != FORMAT
        {
            let reason = format!("its format is {}, not {FORMAT}", document.format);
            return Err(SecretsError::unusable(path, reason));
        }
        Ok(Self {
            path: path.to_owned(),
            document: document.unwrap_or_default(),
        })
    }

    /// Reads the vault, lets `edit` change it, and writes it if that succeeds. Editors take turns.
    pub fn edit<T>(
        path: &Path,
        edit: impl FnOnce(&mut Self) -> Result<T, SecretsError>,
    ) -> Result<T, SecretsError> {
        let _turn: EditLock = private_file::lock(path)?;
        let mut vault = Self::load(path)?;
        let done = edit(&mut vault)?;
        vault.document.format = FORMAT;
        let order = |entry: &VaultEntry| (entry.user.clone(), entry.server.clone());
        vault.document.passwords.sort_by_key(order);
        private_file::write_ron(path, COMMENT, &vault.document)?;
        Ok(done)
    }

    /// The entries, by user.
    pub fn entries(&self) -> &[VaultEntry] {
        &self.document.passwords
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Adds a password that is not there yet.
    pub fn add(
        &mut self,
        key: &MasterKey,
        user: &UserName,
        server: Option<&ServerName>,
        password: &Secret,
    ) -> Result<(), SecretsError> {
        if self.find(user, server).is_some() {
            return Err(SecretsError::UserExists {
                kind: KIND,
                name: describe(user, server),
            });
        }
        self.same_key(key)?;
        let entry = sealed(key, user, server, password)?;
        self.document.passwords.push(entry);
        Ok(())
    }

    /// Replaces a password.
    pub fn replace(
        &mut self,
        key: &MasterKey,
        user: &UserName,
        server: Option<&ServerName>,
        password: &Secret,
    ) -> Result<(), SecretsError> {
        let at = self.position(user, server)?;
        self.same_key(key)?;
        self.document.passwords[at] = sealed(key, user, server, password)?;
        Ok(())
    }

    /// Takes a password out.
    pub fn remove(
        &mut self,
        user: &UserName,
        server: Option<&ServerName>,
    ) -> Result<(), SecretsError> {
        let at = self.position(user, server)?;
        self.document.passwords.remove(at);
        Ok(())
    }

    /// Opens one password.
    pub fn open(&self, key: &MasterKey, entry: &VaultEntry) -> Result<Secret, SecretsError> {
        let failed = |source| SecretsError::Sealed {
            user: describe(&entry.user, entry.server.as_ref()),
            path: self.path.clone(),
            source,
        };
        let context = context(&entry.user, entry.server.as_ref());
        let raw = seal::unseal(&entry.bytes().map_err(failed)?, key, &context).map_err(failed)?;
        let raw = Zeroizing::new(raw);
        let text = std::str::from_utf8(&raw).map_err(|_| failed(SealError::NotSealed))?;
        Ok(Secret::new(text))
    }

    fn find(&self, user: &UserName, server: Option<&ServerName>) -> Option<usize> {
        let fits = |entry: &VaultEntry| entry.user == *user && entry.server.as_ref() == server;
        self.document.passwords.iter().position(fits)
    }

    fn position(
        &self,
        user: &UserName,
        server: Option<&ServerName>,
    ) -> Result<usize, SecretsError> {
        let known = self.document.passwords.iter();
        let known = known.map(|entry| describe(&entry.user, entry.server.as_ref()));
        self.find(user, server)
            .ok_or_else(|| SecretsError::UnknownUser {
                kind: KIND,
                name: describe(user, server),
                known: known.collect(),
            })
    }

    /// One vault, one key: a password sealed with another would stop the daemon.
    fn same_key(&self, key: &MasterKey) -> Result<(), SecretsError> {
        for entry in &self.document.passwords {
            let header = entry.bytes().ok();
            let header = header.as_ref().and_then(|bytes| bytes.first_chunk());
            let needed = header.and_then(|bytes| seal::SealHeader::parse(bytes).ok());
            if let Some(needed) = needed.map(|header| header.key_id())
                && needed != key.id()
            {
                return Err(SecretsError::OtherKey {
                    path: self.path.clone(),
                    needed,
                    given: key.id(),
                });
            }
        }
        Ok(())
    }
}

impl VaultEntry {
    fn bytes(&self) -> Result<Vec<u8>, SealError> {
        BASE64
            .decode(&self.sealed)
            .map_err(|_| SealError::NotSealed)
    }
}

fn sealed(
    key: &MasterKey,
    user: &UserName,
    server: Option<&ServerName>,
    password: &Secret,
) -> Result<VaultEntry, SecretsError> {
    let raw = password.expose().as_bytes();
    let bytes = seal::seal(raw, key, &context(user, server)).map_err(SecretsError::Seal)?;
    Ok(VaultEntry {
        user: user.clone(),
        server: server.cloned(),
        changed: second(jiff::Timestamp::now()),
        sealed: BASE64.encode(bytes),
    })
}

/// What a sealed password is: neither name can hold the zero byte between them.
fn context(user: &UserName, server: Option<&ServerName>) -> Vec<u8> {
    let server = server.map_or("", ServerName::as_str);
    format!("pgm vault\0{user}\0{server}").into_bytes()
}

fn describe(user: &UserName, server: Option<&ServerName>) -> String {
    match server {
        Some(server) => format!("{user} for server {server}"),
        None => user.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str) -> UserName {
        name.parse().unwrap()
    }

    fn key(byte: u8) -> MasterKey {
        MasterKey::new(&[byte; 32])
    }

    #[test]
    fn passwords_come_back_and_are_nowhere_in_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vault.ron");
        let server: ServerName = "prod".parse().unwrap();
        let (one, two) = (Secret::new("hunter2"), Secret::new("hunter3"));
        Vault::edit(&path, |vault| {
            vault.add(&key(1), &user("b"), Some(&server), &two)?;
            vault.add(&key(1), &user("b"), None, &one)
        })
        .unwrap();
        let vault = Vault::load(&path).unwrap();
        let opened: Vec<Secret> = vault
            .entries()
            .iter()
            .map(|entry| vault.open(&key(1), entry).unwrap())
            .collect();
        assert!(opened == [one, two]);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(
            !text.contains("hunter") && text.contains("\"prod\""),
            "{text}"
        );
        assert!(!format!("{vault:?}").contains("hunter"));
    }

    #[test]
    fn a_password_cannot_be_put_under_another_name_or_opened_with_another_key() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vault.ron");
        let add = |vault: &mut Vault| vault.add(&key(1), &user("b"), None, &Secret::new("x"));
        Vault::edit(&path, add).unwrap();
        let vault = Vault::load(&path).unwrap();
        let mut moved = vault.entries()[0].clone();
        moved.user = user("superuser");
        let error = vault.open(&key(1), &moved).unwrap_err();
        assert!(matches!(
            error,
            SecretsError::Sealed {
                source: SealError::TamperedHeader,
                ..
            }
        ));
        let error = vault.open(&key(2), &vault.entries()[0]).unwrap_err();
        assert!(matches!(
            error,
            SecretsError::Sealed {
                source: SealError::WrongKey { .. },
                ..
            }
        ));
    }

    #[test]
    fn one_vault_has_one_key_and_each_name_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vault.ron");
        let secret = Secret::new("x");
        Vault::edit(&path, |vault| vault.add(&key(1), &user("b"), None, &secret)).unwrap();
        let before = std::fs::read_to_string(&path).unwrap();
        let other = Vault::edit(&path, |vault| vault.add(&key(2), &user("c"), None, &secret));
        assert!(matches!(other, Err(SecretsError::OtherKey { .. })));
        let twice = Vault::edit(&path, |vault| vault.add(&key(1), &user("b"), None, &secret));
        assert!(matches!(twice, Err(SecretsError::UserExists { .. })));
        let unknown = Vault::edit(&path, |vault| vault.remove(&user("bb"), None)).unwrap_err();
        assert!(unknown.hint().unwrap().contains("`b`"), "{unknown}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), before);
        Vault::edit(&path, |vault| vault.remove(&user("b"), None)).unwrap();
        assert!(Vault::load(&path).unwrap().entries().is_empty());
    }

    #[test]
    fn a_vault_of_another_format_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vault.ron");
        private_file::write(
            &path,
            "(format: 2, passwords: [])",
            private_file::Write::New,
        )
        .unwrap();
        assert!(
            Vault::load(&path)
                .unwrap_err()
                .to_string()
                .contains("format is 2")
        );
    }
}
