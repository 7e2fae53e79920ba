//! Making and opening a repository, plain or sealed.
//!
//! `repository.ron` is put first and says which of the two it is; a sealed one has keys after that, and nothing else
//! before. So one whose making was interrupted is known by having neither keys nor servers, and is completed.

use std::sync::Arc;

use pgm_storage::seal::{KeyRing, MasterKey};
use pgm_storage::{ObjectPath, PutMode, SealedOptions, SealedStorage, Storage};
use serde::{Deserialize, Serialize};

use super::keys::{Keys, Rekey, Rekeyed};
use super::{Repository, RepositoryId, layout, random_hex};
use crate::error::{Error, Result};
use crate::record::{self, RECORD_BYTES_MAX};

/// A plain repository.
const FORMAT: u32 = 1;
/// A sealed one, which those who know nothing of seals refuse.
const FORMAT_SEALED: u32 = 2;

#[derive(Serialize, Deserialize)]
struct RepositoryRecord {
    format: u32,
    id: RepositoryId,
    /// In a sealed repository, with what.
    #[serde(default, skip_serializing_if = "Seal::is_off")]
    seal: Seal,
}

#[derive(Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
enum Seal {
    #[default]
    Off,
    Aes256Gcm,
}

impl Seal {
    fn is_off(&self) -> bool {
        *self == Self::Off
    }
}

impl Repository {
    /// Makes a plain repository in `storage`, which must not be one already.
    pub fn create(storage: Arc<dyn Storage>) -> Result<Self> {
        let id = RepositoryId(random_hex()?);
        put_identity(&*storage, &id, Seal::Off)?;
        Ok(Self::plain(storage, id))
    }

    /// Makes a sealed repository, whose data keys `key` wraps. One whose making was interrupted is completed.
    pub fn create_sealed(storage: Arc<dyn Storage>, key: &MasterKey) -> Result<Self> {
        let mut id = RepositoryId(random_hex()?);
        match put_identity(&*storage, &id, Seal::Aes256Gcm) {
            Err(exists @ Error::RepositoryExists { .. }) => {
                id = unfinished(&*storage)?.ok_or(exists)?;
            }
            made => made?,
        }
        let keys = Keys {
            storage: &*storage,
            id: &id,
        };
        let ring = keys.create(key)?;
        Ok(Self::sealed(storage, id, ring, key))
    }

    /// Opens the plain repository in `storage`; fails if there is none, one of a newer format, or a sealed one.
    pub fn open(storage: Arc<dyn Storage>) -> Result<Self> {
        Self::open_with(storage, None)
    }

    /// Opens the repository in `storage`, plain or sealed; a sealed one takes the `key`. Whoever knows that it is sealed
    /// takes [`open_sealed`](Self::open_sealed) instead.
    pub fn open_with(storage: Arc<dyn Storage>, key: Option<&MasterKey>) -> Result<Self> {
        let RepositoryRecord { id, seal, .. } = identity(&*storage)?;
        match (seal, key) {
            (Seal::Off, _) => Ok(Self::plain(storage, id)),
            (Seal::Aes256Gcm, None) => Err(Error::RepositorySealed {
                location: storage.describe(),
            }),
            (Seal::Aes256Gcm, Some(key)) => {
                let keys = Keys {
                    storage: &*storage,
                    id: &id,
                };
                let ring = keys.open(key)?;
                Ok(Self::sealed(storage, id, ring, key))
            }
        }
    }

    /// Opens the repository in `storage`, which must be sealed: somebody may have put a plain one in its place.
    pub fn open_sealed(storage: Arc<dyn Storage>, key: &MasterKey) -> Result<Self> {
        let opened = Self::open_with(storage, Some(key))?;
        if opened.is_sealed() {
            Ok(opened)
        } else {
            Err(Error::RepositoryPlain {
                location: opened.storage.describe(),
            })
        }
    }

    /// Opens the plain repository in `storage`, or makes it.
    pub fn open_or_create(storage: Arc<dyn Storage>) -> Result<Self> {
        let (open, create) = (Self::open, Self::create);
        open_or(storage, open, create)
    }

    /// Opens the sealed repository in `storage`, or makes it.
    pub fn open_or_create_sealed(storage: Arc<dyn Storage>, key: &MasterKey) -> Result<Self> {
        let open = |storage| Self::open_sealed(storage, key);
        open_or(storage, open, |storage| Self::create_sealed(storage, key))
    }

    fn plain(storage: Arc<dyn Storage>, id: RepositoryId) -> Self {
        Self {
            storage,
            sealed: None,
            id,
        }
    }

    fn sealed(storage: Arc<dyn Storage>, id: RepositoryId, ring: KeyRing, key: &MasterKey) -> Self {
        let (below, of, key) = (Arc::clone(&storage), id.clone(), key.clone());
        let reload = move || {
            let keys = Keys {
                storage: &*below,
                id: &of,
            };
            keys.open(&key)
                .inspect_err(|error| tracing::warn!(%error, "the keys cannot be read again"))
                .ok()
        };
        let options = SealedOptions {
            ring,
            repository: id.to_string(),
            plain: vec![layout::repository(), layout::keys()],
            reload: Box::new(reload),
        };
        let sealed = SealedStorage::new(storage, options);
        Self {
            storage: Arc::new(sealed.clone()),
            sealed: Some(sealed),
            id,
        }
    }

    /// Whether everything in it is sealed.
    pub fn is_sealed(&self) -> bool {
        self.sealed.is_some()
    }

    /// The data keys of a sealed repository.
    pub fn key_ring(&self) -> Option<KeyRing> {
        self.sealed.as_ref().map(SealedStorage::ring)
    }

    /// The copies of the keys that are damaged; there is another one, as long as the repository can be opened.
    pub(crate) fn damaged_keys(&self) -> Result<Vec<Error>> {
        let Some(sealed) = &self.sealed else {
            return Ok(Vec::new());
        };
        let keys = Keys {
            storage: &**sealed.inner(),
            id: &self.id,
        };
        keys.damaged()
    }

    /// Changes the keys: another master key, a new data key, or neither, which only removes what an interrupted change
    /// left. No data is written anew. Others who have the repository open go on: with the data keys they know for what
    /// they write, and with any key for what they read, as long as their master key is the one in force.
    pub fn rekey(&self, key: &MasterKey, change: Rekey<'_>) -> Result<Rekeyed> {
        let Some(sealed) = &self.sealed else {
            return Err(Error::RepositoryPlain {
                location: self.storage.describe(),
            });
        };
        let keys = Keys {
            storage: &**sealed.inner(),
            id: &self.id,
        };
        let (ring, rekeyed) = keys.change(key, change)?;
        sealed.set_ring(ring);
        Ok(rekeyed)
    }
}

/// `repository.ron`.
fn identity(storage: &dyn Storage) -> Result<RepositoryRecord> {
    let path = layout::repository();
    let bytes = match storage.get(&path, RECORD_BYTES_MAX) {
        Ok(bytes) => bytes,
        Err(error) if error.is_not_found() => {
            return Err(Error::RepositoryMissing {
                location: storage.describe(),
            });
        }
        Err(error) => return Err(error.into()),
    };
    let record: RepositoryRecord = record::decode(&path, &bytes, FORMAT_SEALED)?;
    if record.seal.is_off() == (record.format == FORMAT_SEALED) {
        return Err(Error::damaged(
            &path,
            "its format does not go with its seal",
        ));
    }
    Ok(record)
}

fn put_identity(storage: &dyn Storage, id: &RepositoryId, seal: Seal) -> Result<()> {
    let format = match seal {
        Seal::Off => FORMAT,
        Seal::Aes256Gcm => FORMAT_SEALED,
    };
    let bytes = record::encode(&RepositoryRecord {
        format,
        id: id.clone(),
        seal,
    });
    match storage.put(&layout::repository(), &bytes, PutMode::Create) {
        Ok(()) => Ok(()),
        Err(error) if error.is_already_exists() => Err(Error::RepositoryExists {
            location: storage.describe(),
        }),
        Err(error) => Err(error.into()),
    }
}

/// The id of a sealed repository whose making was interrupted before it had keys: nothing can be in it.
fn unfinished(storage: &dyn Storage) -> Result<Option<RepositoryId>> {
    let RepositoryRecord { id, seal, .. } = identity(storage)?;
    let keys = Keys { storage, id: &id };
    let keys_folder = layout::keys();
    let mut folders = storage.folders(&ObjectPath::root())?.into_iter();
    let is_empty =
        !seal.is_off() && !keys.are_there()? && folders.all(|folder| folder == keys_folder.name());
    Ok(is_empty.then_some(id))
}

/// Opens a repository, or makes it if there is none, or none whose making has ended.
fn open_or(
    storage: Arc<dyn Storage>,
    open: impl Fn(Arc<dyn Storage>) -> Result<Repository>,
    create: impl FnOnce(Arc<dyn Storage>) -> Result<Repository>,
) -> Result<Repository> {
    match open(Arc::clone(&storage)) {
        Err(Error::RepositoryMissing { .. } | Error::KeysMissing { .. }) => {}
        opened => return opened,
    }
    match create(Arc::clone(&storage)) {
        // Somebody else made it meanwhile, or the keys of one that is in use are lost.
        Err(Error::RepositoryExists { .. }) => open(storage),
        created => created,
    }
}
