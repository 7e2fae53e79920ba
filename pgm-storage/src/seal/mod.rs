//! Sealing: bytes at rest that only the holder of a key can read, and that nobody can change unnoticed.
//!
//! A sealed object is a header of 96 bytes and chunks, each encrypted and authenticated with AES-256-GCM:
//!
//! ```text
//! 0        4    5    6    7    8              15   16         32           44                92      96
//! +--------+----+----+----+----+--------------+----+----------+------------+-----------------+-------+--------
//! | "PGMS" | 01 | 01 | 2^ |  0 | nonce prefix |  0 | key id   | wrap nonce | wrapped data key| crc32c| chunks…
//! +--------+----+----+----+----+--------------+----+----------+------------+-----------------+-------+--------
//! ```
//!
//! Every object has a random key of its own, which another key wraps: no nonce can ever be used twice, and a new master
//! key costs a new header, not new data. The key that wraps is a master key, or, in a repository, one of the data keys
//! of its [`KeyRing`], which only the ring's own seal knows the master key of. The nonce of a chunk is the prefix, the chunk's number, and whether
//! it is the last (the STREAM construction), so chunks cannot be cut off, exchanged or left out. What the object *is*
//! (its path, its purpose) goes into every chunk as the [context](SealWriter::new), which is not stored: one object
//! cannot stand in for another. `docs/on-disk.md` has every byte; `vectors.json` was computed by another program.
//!
//! A reader hands bytes out only after their chunk was proved genuine; that the object is whole is known when its end has been
//! read. Memory is one chunk, whatever the size.
//!
//! Not here: where keys come from, which objects are sealed, compression (before sealing, never after).

mod cipher;
mod error;
mod header;
mod key;
mod reader;
mod ring;
mod size;
mod writer;

use std::io::{Read as _, Write as _};

pub(crate) use cipher::{ChunkCipher, Place, TAG_BYTES};
pub use error::SealError;
pub use header::{SEAL_HEADER_BYTES, SealHeader};
pub use key::{KeyId, MASTER_KEY_BYTES, MasterKey, ParseMasterKeyError};
pub use reader::SealReader;
pub use ring::{DATA_KEYS_MAX, DataKey, KeyRing};
pub(crate) use size::{CHUNK_BYTES, SEALED_CHUNK_BYTES, SealedSize};
pub use writer::SealWriter;

/// Whether `start`, the first bytes of an object, are those of a sealed one.
pub fn is_sealed(start: &[u8]) -> bool {
    start.starts_with(header::MAGIC)
}

/// Seals something small in one go.
pub fn seal(raw: &[u8], key: &MasterKey, context: &[u8]) -> Result<Vec<u8>, SealError> {
    let mut writer = SealWriter::new(Vec::new(), key, context)?;
    writer.write_all(raw)?;
    writer.finish()
}

/// Opens something small in one go; nothing is given back unless all of it is genuine.
pub fn unseal(sealed: &[u8], key: &MasterKey, context: &[u8]) -> Result<Vec<u8>, SealError> {
    let mut raw = Vec::new();
    SealReader::open(sealed, key, context)?.read_to_end(&mut raw)?;
    Ok(raw)
}

#[cfg(test)]
mod tests;
