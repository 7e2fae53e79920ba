//! The master key of a sealed repository: where it comes from, and how it gets to those who open the repository.
//!
//! A place names the source of its key, never the key: so it can be handed on, written into a `restore_command` and
//! compared. The key is read when the repository is opened. What a command printed is remembered until a repository
//! refuses it. Workers read a file themselves; what a command printed and what is in the environment goes with the
//! description through the worker's own pipe, and the variable is taken from its environment.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use pgm_storage::seal::MasterKey;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::config::MasterKeySource;
use crate::secrets::{SecretsError, master_key};

/// What commands have printed.
static PRINTED: Mutex<BTreeMap<String, SealKey>> = Mutex::new(BTreeMap::new());

/// Where the master key of a repository comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlaceKey {
    source: MasterKeySource,
    /// The key itself, for a process that cannot ask the source.
    given: Option<SealKey>,
}

impl PlaceKey {
    /// The key that `source` gives.
    pub fn new(source: MasterKeySource) -> Self {
        Self {
            source,
            given: None,
        }
    }

    /// Where it comes from.
    pub fn source(&self) -> &MasterKeySource {
        &self.source
    }

    /// The key.
    pub fn key(&self) -> Result<MasterKey, SecretsError> {
        if let Some(given) = &self.given {
            return given.key().ok_or(SecretsError::NoMasterKey);
        }
        let MasterKeySource::Command(command) = &self.source else {
            return master_key(&self.source);
        };
        if let Some(key) = printed().get(command).and_then(SealKey::key) {
            return Ok(key);
        }
        match self.fresh_key()? {
            Some(key) => Ok(key),
            None => master_key(&self.source),
        }
    }

    /// The key that the source gives now, when that may be another one than [`PlaceKey::key`] remembers.
    pub fn fresh_key(&self) -> Result<Option<MasterKey>, SecretsError> {
        let MasterKeySource::Command(command) = &self.source else {
            return Ok(None);
        };
        let key = master_key(&self.source)?;
        printed().insert(command.clone(), SealKey::of(&key));
        Ok(Some(key))
    }

    /// The same for a worker: with the key, unless that is in a file. A key that cannot be had is asked for again by the
    /// worker, which has other things to do as well.
    #[must_use]
    pub fn for_worker(&self) -> Self {
        let given = match &self.source {
            MasterKeySource::File(_) => None,
            MasterKeySource::Command(_) | MasterKeySource::Environment(_) => {
                self.key().ok().map(|key| SealKey::of(&key))
            }
        };
        Self {
            source: self.source.clone(),
            given,
        }
    }

    /// The environment variable and the key in it, if that is where the key is looked for.
    pub fn in_environment(&self) -> Option<(&str, Zeroizing<String>)> {
        let (name, key) = (self.variable()?, self.key().ok()?);
        Some((name, Zeroizing::new(key.expose().to_string())))
    }

    /// The environment variable with the key, when that is where it comes from.
    pub fn variable(&self) -> Option<&str> {
        match &self.source {
            MasterKeySource::Environment(name) => Some(name),
            MasterKeySource::File(_) | MasterKeySource::Command(_) => None,
        }
    }
}

fn printed() -> MutexGuard<'static, BTreeMap<String, SealKey>> {
    PRINTED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A master key on its way to a worker, through the worker's own pipe; never printed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealKey(String);

impl SealKey {
    /// This key.
    pub fn of(key: &MasterKey) -> Self {
        Self(key.expose().to_string())
    }

    /// The key again.
    pub fn key(&self) -> Option<MasterKey> {
        self.0.parse().ok()
    }
}

impl Drop for SealKey {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.0);
    }
}

impl fmt::Debug for SealKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealKey(***)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_command_printed_is_remembered_and_handed_on() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key");
        let (first, second) = (
            MasterKey::generate().unwrap(),
            MasterKey::generate().unwrap(),
        );
        std::fs::write(&file, first.expose().as_str()).unwrap();
        let place = PlaceKey::new(MasterKeySource::Command(format!("cat {}", file.display())));
        assert_eq!(place.key().unwrap().id(), first.id());
        std::fs::write(&file, second.expose().as_str()).unwrap();
        assert_eq!(place.key().unwrap().id(), first.id());
        assert_eq!(place.fresh_key().unwrap().unwrap().id(), second.id());
        assert_eq!(place.key().unwrap().id(), second.id());
        let worker = place.for_worker();
        std::fs::remove_file(&file).unwrap();
        assert_eq!(worker.key().unwrap().id(), second.id());
        assert!(!format!("{worker:?}").contains(second.expose().as_str()));
    }

    #[test]
    fn a_worker_reads_a_file_itself() {
        let source: MasterKeySource = "/nowhere/key".parse().unwrap();
        let worker = PlaceKey::new(source).for_worker();
        assert!(worker.given.is_none() && worker.key().is_err());
    }
}
