//! From an address to a storage: the one place that knows which engine serves which scheme.

use std::sync::Arc;
use std::time::Instant;

use crate::address::{StoreAddress, StoreKind};
use crate::credentials::Credentials;
use crate::error::Result;
use crate::layer::PacedStorage;
use crate::limits::{Limits, Pacer};
use crate::local::LocalStorage;
use crate::memory::MemoryStorage;
use crate::meter::Meter;
use crate::storage::Storage;

/// What a store is opened with besides its address.
#[derive(Debug, Clone, Default)]
pub struct StoreOptions {
    /// What lets us in.
    pub credentials: Credentials,
    /// How much of it may be used.
    pub limits: Limits,
    /// Where requests are counted. Stores without requests (directories, memory) count nothing.
    pub meter: Arc<Meter>,
}

/// Opens the store at `address`. A directory must exist; of other stores nothing is asked yet.
pub fn open(address: &StoreAddress, options: &StoreOptions) -> Result<Arc<dyn Storage>> {
    let storage: Arc<dyn Storage> = match address.kind() {
        StoreKind::Local => Arc::new(LocalStorage::open(address.directory().unwrap_or_default())?),
        StoreKind::Memory => Arc::new(MemoryStorage::new()),
        StoreKind::S3 | StoreKind::Azure | StoreKind::Gcs => cloud(address, options)?,
        StoreKind::Sftp => sftp(address, options)?,
    };
    let Limits {
        write_rate,
        read_rate,
        ..
    } = options.limits;
    if write_rate.is_none() && read_rate.is_none() {
        return Ok(storage);
    }
    let pacer = |rate: Option<u64>| rate.map(|rate| Pacer::new(rate, Instant::now()));
    Ok(Arc::new(PacedStorage::new(
        storage,
        pacer(write_rate),
        pacer(read_rate),
    )))
}

#[cfg(feature = "cloud")]
fn cloud(address: &StoreAddress, options: &StoreOptions) -> Result<Arc<dyn Storage>> {
    Ok(Arc::new(crate::cloud::CloudStorage::open(
        address, options,
    )?))
}

#[cfg(not(feature = "cloud"))]
fn cloud(address: &StoreAddress, _: &StoreOptions) -> Result<Arc<dyn Storage>> {
    Err(left_out(address))
}

#[cfg(feature = "sftp")]
fn sftp(address: &StoreAddress, options: &StoreOptions) -> Result<Arc<dyn Storage>> {
    Ok(Arc::new(crate::sftp::SftpStorage::open(address, options)?))
}

#[cfg(not(feature = "sftp"))]
fn sftp(address: &StoreAddress, _: &StoreOptions) -> Result<Arc<dyn Storage>> {
    Err(left_out(address))
}

#[cfg(not(all(feature = "cloud", feature = "sftp")))]
fn left_out(address: &StoreAddress) -> crate::error::StorageError {
    let text = "this program was built without the engine for such a store";
    let source = std::io::Error::new(std::io::ErrorKind::Unsupported, text);
    crate::error::StorageError::from_io("open", address.to_string(), source)
}
