//! The keys of a sealed repository: a ring of data keys, sealed with the master key.
//!
//! ```text
//! repository.keys/00000001    superseded
//! repository.keys/00000002    in force
//! repository.keys/00000003    the same ring again, in case that one of them is damaged
//! ```
//!
//! The highest number counts. A change puts the next one, failing if it exists, so of two writers one wins; then the one
//! behind it with the same ring; reads back what it has put; and removes the lower ones, which the master key before
//! could open. It may die at any point: until the put the old ring is in force, from then on the new one. The number and
//! the repository's id are bound into each ring, so none stands in for another.
//!
//! Not seen: that the newest numbers were deleted and older ones put back in their place.

use pgm_storage::seal::{self, KeyId, KeyRing, MasterKey, SealError};
use pgm_storage::{ObjectPath, PutMode, Storage};
use serde::{Deserialize, Serialize};

use super::{RepositoryId, layout, numbered};
use crate::error::{Error, Result};
use crate::record;

const FORMAT: u32 = 1;
/// How often a ring is looked for that vanished between being listed and being read.
const ATTEMPTS_MAX: u32 = 4;

/// What is changed in the keys of a repository.
#[derive(Debug, Clone, Copy)]
pub struct Rekey<'a> {
    /// The master key from now on, if it is another one.
    pub new_master_key: Option<&'a MasterKey>,
    /// Which data key new objects take.
    pub data_key: DataKeyChoice,
}

/// Which data key new objects take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataKeyChoice {
    /// The one in force.
    Keep,
    /// A new one; the others stay for what they sealed.
    New,
}

/// The keys after a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rekeyed {
    /// The master key in force.
    pub master_key: KeyId,
    /// The data keys, the active one last.
    pub data_keys: Vec<KeyId>,
    /// Older rings that could not be removed, and why: whoever has the master key before can open them.
    pub left: Vec<String>,
}

#[derive(Serialize, Deserialize)]
struct KeysRecord {
    format: u32,
    /// The id of the master key that opens the ring.
    master_key: String,
    /// The sealed ring in base64.
    ring: String,
}

/// Where the keys rest, and of which repository they are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Keys<'a> {
    pub(super) storage: &'a dyn Storage,
    pub(super) id: &'a RepositoryId,
}

impl Keys<'_> {
    /// Makes the first ring, or opens the one that somebody else made at the same time.
    pub(super) fn create(&self, master: &MasterKey) -> Result<KeyRing> {
        let ring = KeyRing::generate().map_err(|error| self.unusable(error))?;
        match self.put(1, &ring, master)? {
            Put::Done => {
                self.put(2, &ring, master)?;
                Ok(ring)
            }
            Put::Exists => self.open(master),
        }
    }

    /// The ring in force.
    pub(super) fn open(&self, master: &MasterKey) -> Result<KeyRing> {
        self.newest(master).map(|(_, ring)| ring)
    }

    /// Whether there is any ring.
    pub(super) fn are_there(&self) -> Result<bool> {
        Ok(!self.numbers()?.is_empty())
    }

    /// The copies of the ring that are damaged.
    pub(super) fn damaged(&self) -> Result<Vec<Error>> {
        let mut damaged = Vec::new();
        for number in self.numbers()? {
            let folder = layout::keys();
            match numbered::read::<KeysRecord>(self.storage, &folder, number, FORMAT) {
                Ok(_) => {}
                Err(error @ (Error::Damaged { .. } | Error::UnknownFormat { .. })) => {
                    damaged.push(error);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(damaged)
    }

    /// Carries `change` out.
    pub(super) fn change(
        &self,
        master: &MasterKey,
        change: Rekey<'_>,
    ) -> Result<(KeyRing, Rekeyed)> {
        let (number, before) = self.newest(master)?;
        let ring = match change.data_key {
            DataKeyChoice::Keep => before,
            DataKeyChoice::New => before.with_new_key().map_err(|e| self.unusable(e))?,
        };
        let master = change.new_master_key.unwrap_or(master);
        let next = number.saturating_add(1);
        if let Put::Exists = self.put(next, &ring, master)? {
            return Err(self.changed());
        }
        // Whoever was faster here has built on the ring just put.
        self.put(next.saturating_add(1), &ring, master)?;
        self.must_be_in_force(next, &ring, master)?;
        let left = self.remove_below(next)?;
        let rekeyed = Rekeyed {
            master_key: master.id(),
            data_keys: ring.keys().map(seal::DataKey::id).collect(),
            left,
        };
        Ok((ring, rekeyed))
    }

    /// Reads back what was put under `number`: before anything is removed it is known that the key at hand opens it. A
    /// writer that slept over several changes has put a number that had been removed, and takes it back.
    fn must_be_in_force(&self, number: u64, ring: &KeyRing, master: &MasterKey) -> Result<()> {
        let ours = |found: &KeyRing| found.to_bytes() == ring.to_bytes();
        let found = self.read(number, master)?;
        let highest = self.numbers()?.last().copied().unwrap_or(0);
        let above = self.read(highest, master);
        if highest > number.saturating_add(1) || !matches!(&above, Ok(Some(above)) if ours(above)) {
            self.storage
                .delete(&numbered::object(&layout::keys(), number)?)?;
            return Err(self.changed());
        }
        match found {
            Some(found) if ours(&found) => Ok(()),
            _ => Err(self.changed()),
        }
    }

    fn remove_below(&self, number: u64) -> Result<Vec<String>> {
        let mut left = Vec::new();
        for lower in self.numbers()? {
            if lower >= number {
                continue;
            }
            let path = numbered::object(&layout::keys(), lower)?;
            if let Err(error) = self.storage.delete(&path) {
                left.push(format!("{path}: {error}"));
            }
        }
        Ok(left)
    }

    /// The highest number with a ring that is not damaged.
    fn newest(&self, master: &MasterKey) -> Result<(u64, KeyRing)> {
        let mut damage = None;
        for _ in 0..ATTEMPTS_MAX {
            let numbers = self.numbers()?;
            for number in numbers.iter().rev() {
                match self.read(*number, master) {
                    Ok(Some(ring)) => return Ok((highest(&numbers), ring)),
                    Ok(None) => {}
                    Err(error @ Error::Damaged { .. }) => {
                        tracing::warn!(%error, "the copy below is taken");
                        damage.get_or_insert(error);
                    }
                    Err(error) => return Err(error),
                }
            }
            if numbers.is_empty() || damage.is_some() {
                break;
            }
        }
        Err(damage.unwrap_or_else(|| Error::KeysMissing {
            location: self.storage.describe(),
        }))
    }

    fn numbers(&self) -> Result<Vec<u64>> {
        numbered::numbers(self.storage, &layout::keys())
    }

    /// The ring under `number`; `None` if it was removed meanwhile.
    fn read(&self, number: u64, master: &MasterKey) -> Result<Option<KeyRing>> {
        let folder = layout::keys();
        let record: Option<KeysRecord> = numbered::read(self.storage, &folder, number, FORMAT)?;
        let Some(record) = record else {
            return Ok(None);
        };
        let path = numbered::object(&folder, number)?;
        if record.master_key != master.id().to_string() {
            return Err(Error::WrongMasterKey {
                location: self.storage.describe(),
                needed: record.master_key,
                given: master.id(),
            });
        }
        let sealed = decode(&record.ring)
            .ok_or_else(|| Error::damaged(&path, "its ring is not in base64"))?;
        let opened = seal::unseal(&sealed, master, &self.context(number))
            .map(zeroize::Zeroizing::new)
            .and_then(|raw| KeyRing::from_bytes(&raw));
        opened.map(Some).map_err(|error| self.unusable(error))
    }

    /// Puts `ring`, sealed with `master`, unless there is one of this number.
    fn put(&self, number: u64, ring: &KeyRing, master: &MasterKey) -> Result<Put> {
        let sealed = seal::seal(&ring.to_bytes(), master, &self.context(number))
            .map_err(|error| self.unusable(error))?;
        let bytes = record::encode(&KeysRecord {
            format: FORMAT,
            master_key: master.id().to_string(),
            ring: encode(&sealed),
        });
        let path: ObjectPath = numbered::object(&layout::keys(), number)?;
        match self.storage.put(&path, &bytes, PutMode::Create) {
            Ok(()) => Ok(Put::Done),
            Err(error) if error.is_already_exists() => Ok(Put::Exists),
            Err(error) => Err(error.into()),
        }
    }

    /// What is bound into a ring.
    fn context(&self, number: u64) -> Vec<u8> {
        format!("pgm keys\0{}\0{number:08}", self.id).into_bytes()
    }

    fn unusable(&self, source: SealError) -> Error {
        Error::Keys {
            location: self.storage.describe(),
            source,
        }
    }

    fn changed(&self) -> Error {
        Error::KeysChanged {
            location: self.storage.describe(),
        }
    }
}

/// What became of a put.
enum Put {
    Done,
    Exists,
}

fn highest(numbers: &[u64]) -> u64 {
    numbers.last().copied().unwrap_or(0)
}

fn encode(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

fn decode(text: &str) -> Option<Vec<u8>> {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.decode(text).ok()
}

#[cfg(test)]
mod tests;
