//! Where pgm's bytes rest: storage engines, compression, frames and packs. Knows nothing of PostgreSQL.
//!
//! A [`Storage`] keeps immutable objects, atomically and durably; a pack is an object made of frames, each compressed
//! and checked on its own.
//!
//! ```
//! use pgm_storage::{
//!     Compression, FrameDecoder, MemoryStorage, ObjectPath, PackReader, PackWriter, Storage,
//! };
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let storage = MemoryStorage::new(); // or LocalStorage::create(directory)?
//! let path = ObjectPath::parse("main/backup/20261122T023456Z/0001.pack")?;
//!
//! let mut pack = PackWriter::new(storage.create(&path)?, Compression::ZSTD)?;
//! pack.append(&[42; 100_000])?;
//! let summary = pack.finish()?; // durable and visible from here on
//! assert_eq!(summary.raw_bytes, 100_000);
//!
//! let pack = PackReader::open(storage.open(&path)?)?;
//! let (mut scratch, mut raw) = (Vec::new(), Vec::new());
//! pack.read(&pack.frames()[0], &mut FrameDecoder::new()?, &mut scratch, &mut raw)?;
//! assert_eq!(raw, [42; 100_000]);
//! # Ok(())
//! # }
//! ```

mod address;
mod cancel;
mod checksum;
#[cfg(feature = "cloud")]
mod cloud;
mod codec;
pub mod conformance;
mod credentials;
mod error;
mod frame;
mod layer;
mod limits;
mod local;
mod memory;
mod meter;
mod open;
mod pack;
mod path;
mod remote_problem;
#[cfg(any(feature = "cloud", feature = "sftp"))]
mod runtime;
pub mod seal;
mod secret;
#[cfg(feature = "sftp")]
mod sftp;
mod storage;

pub use address::{PARAMETERS, ParseAddressError, StoreAddress, StoreKind};
pub use cancel::{Cancel, Cancelled};
pub use checksum::{crc32c, crc32c_append};
pub use codec::{
    Codec, Compression, FileFormat, ParseCompressionError, StreamDecoder, StreamEncoder,
};
pub use credentials::{CREDENTIAL_NAMES, Credentials, ParseCredentialsError};
pub use error::{Result, StorageError};
pub use frame::{
    FRAME_BYTES_MAX, FRAME_HEADER_BYTES, FRAME_RAW_MAX, FrameDamage, FrameDecoder, FrameEncoder,
    FrameError, FrameHeader,
};
pub use layer::{SealedOptions, SealedStorage};
pub use limits::Limits;
pub use local::LocalStorage;
pub use memory::MemoryStorage;
pub use meter::{Meter, Operation, OperationCount};
pub use open::{StoreOptions, open};
pub use pack::{
    FrameLocation, PACK_FRAMES_MAX, PackKind, PackReader, PackSummary, PackWriter, index_crc,
    is_pack,
};
pub use path::{ObjectPath, ParsePathError};
pub use remote_problem::{RemoteMessage, RemoteProblem};
pub use secret::Secret;
pub use storage::{ObjectMeta, ObjectReader, ObjectWriter, PutMode, Space, Storage};
