//! The data keys of a repository: each object's own key is wrapped by one of them, which its header names.
//!
//! As bytes, a ring is 40 for each key, the oldest first: the second in which it was made (since 1970, little endian),
//! and its 32 bytes. It rests sealed with the master key, as any small object, so a new master key costs one sealed
//! ring. The last key is the active one: new objects take it, the others stay for what they wrapped.

use std::time::{Duration, SystemTime};

use zeroize::Zeroizing;

use super::error::SealError;
use super::key::{KeyId, MASTER_KEY_BYTES, MasterKey};

/// The most keys of a ring.
pub const DATA_KEYS_MAX: usize = 256;

/// The bytes of a key and its time.
const KEY_BYTES: usize = 8 + MASTER_KEY_BYTES;

/// A key that wraps the keys of objects. Its id is made as that of a master key.
#[derive(Debug, Clone)]
pub struct DataKey {
    key: MasterKey,
    created: u64,
}

/// The data keys of a repository; at least one.
#[derive(Debug, Clone)]
pub struct KeyRing {
    active: DataKey,
    /// The newest last.
    older: Vec<DataKey>,
}

impl DataKey {
    fn generate() -> Result<Self, SealError> {
        let age = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        Ok(Self {
            key: MasterKey::generate()?,
            created: age.unwrap_or_default().as_secs(),
        })
    }

    /// Its public name, as headers have it.
    pub fn id(&self) -> KeyId {
        self.key.id()
    }

    /// When it was made.
    pub fn created(&self) -> SystemTime {
        let age = Duration::from_secs(self.created);
        SystemTime::UNIX_EPOCH
            .checked_add(age)
            .unwrap_or(SystemTime::UNIX_EPOCH)
    }

    pub(crate) fn key(&self) -> &MasterKey {
        &self.key
    }
}

impl KeyRing {
    /// A ring with one new key.
    pub fn generate() -> Result<Self, SealError> {
        Ok(Self {
            active: DataKey::generate()?,
            older: Vec::new(),
        })
    }

    /// The same ring with one more key, which is the active one then.
    pub fn with_new_key(&self) -> Result<Self, SealError> {
        let mut older = self.older.clone();
        older.push(self.active.clone());
        if older.len() >= DATA_KEYS_MAX {
            return Err(SealError::RingFull { max: DATA_KEYS_MAX });
        }
        Ok(Self {
            active: DataKey::generate()?,
            older,
        })
    }

    /// The key that new objects take.
    pub fn active(&self) -> &DataKey {
        &self.active
    }

    /// All keys, the oldest first, the active one last.
    pub fn keys(&self) -> impl Iterator<Item = &DataKey> {
        self.older.iter().chain([&self.active])
    }

    /// The key of this name.
    pub fn find(&self, id: KeyId) -> Option<&DataKey> {
        self.keys().find(|key| key.id() == id)
    }

    /// The ring as bytes, to be sealed.
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let count = self.older.len() + 1;
        // Never moved while it grows: a copy left behind would not be wiped.
        let mut bytes = Zeroizing::new(Vec::with_capacity(count * KEY_BYTES));
        for key in self.keys() {
            bytes.extend_from_slice(&key.created.to_le_bytes());
            bytes.extend_from_slice(key.key.bytes());
        }
        bytes
    }

    /// The ring of these bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, SealError> {
        let refused = SealError::NoRing { bytes: bytes.len() };
        let (parts, rest) = bytes.as_chunks::<KEY_BYTES>();
        if !rest.is_empty() || parts.len() > DATA_KEYS_MAX {
            return Err(refused);
        }
        let mut keys: Vec<DataKey> = parts.iter().filter_map(parse).collect();
        match keys.pop() {
            Some(active) => Ok(Self {
                active,
                older: keys,
            }),
            None => Err(refused),
        }
    }
}

fn parse(bytes: &[u8; KEY_BYTES]) -> Option<DataKey> {
    let (created, key) = bytes.split_first_chunk()?;
    Some(DataKey {
        key: MasterKey::new(key.first_chunk()?),
        created: u64::from_le_bytes(*created),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_comes_back_from_its_bytes_and_the_newest_key_is_active() {
        let first = KeyRing::generate().unwrap();
        let second = first.with_new_key().unwrap();
        let again = KeyRing::from_bytes(&second.to_bytes()).unwrap();
        assert_eq!(again.to_bytes(), second.to_bytes());
        assert_eq!(again.active().id(), second.active().id());
        assert_eq!(again.keys().count(), 2);
        let old = again.find(first.active().id()).unwrap();
        assert_eq!(old.created(), first.active().created());
        let other = KeyRing::generate().unwrap();
        assert!(again.find(other.active().id()).is_none());
    }

    #[test]
    fn what_is_no_ring_is_refused_and_a_ring_is_bounded() {
        for bytes in [0, 39, 41, 80 + 1, (DATA_KEYS_MAX + 1) * 40] {
            let error = KeyRing::from_bytes(&vec![0; bytes]).unwrap_err();
            assert!(matches!(error, SealError::NoRing { .. }), "{bytes}");
        }
        let mut ring = KeyRing::generate().unwrap();
        for _ in 1..DATA_KEYS_MAX {
            ring = ring.with_new_key().unwrap();
        }
        assert!(KeyRing::from_bytes(&ring.to_bytes()).is_ok());
        assert!(matches!(
            ring.with_new_key(),
            Err(SealError::RingFull { .. })
        ));
    }
}
