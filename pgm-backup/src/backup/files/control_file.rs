//! `global/pg_control`: whose data directory it is, and whether it was read whole.
//!
//! ```text
//! system identifier u64 | version u32 | catalog version u32 | state u32 | … | at 32: checkpoint LSN u64 | … | CRC-32C u32 | zeros
//! ```
//!
//! The beginning has been the same since PostgreSQL 9 (`catalog/pg_control.h`); where the checksum is depends on the version, so it is looked for
//! in front of the zeros. The server overwrites the file in place, so what is read may be half of one and half of another version.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::time::Duration;

use pgm_proto::{Lsn, SystemId};

use crate::error::{Error, Result};
use crate::manifest::FilePath;

/// `PG_CONTROL_FILE_SIZE`.
pub(super) const FILE_BYTES: usize = 8192;
/// Where a checksum may be: the structure has grown from 240 bytes to 300 in twenty years.
const CHECKSUM_AT: std::ops::Range<usize> = 200..512;
const READ_AGAIN: usize = 100;
const READ_AGAIN_AFTER: Duration = Duration::from_millis(10);

/// Its path.
pub(super) const PATH: &[u8] = b"global/pg_control";

/// The same as a path of the manifest.
pub(super) fn path() -> Result<FilePath> {
    FilePath::new(PATH).map_err(|error| Error::BadStream {
        reason: error.to_string(),
    })
}

/// The file, read whole.
#[derive(Debug)]
pub(super) struct ControlFile {
    pub(super) bytes: Vec<u8>,
}

impl ControlFile {
    /// Reads the file until its checksum is right.
    pub(super) fn read(file: &File) -> Result<Self> {
        Self::read_by(|| {
            let mut bytes = vec![0; FILE_BYTES];
            file.read_exact_at(&mut bytes, 0).map_err(failed)?;
            Ok(bytes)
        })
    }

    /// Lets `read` read the file until its checksum is right.
    pub(super) fn read_by(mut read: impl FnMut() -> Result<Vec<u8>>) -> Result<Self> {
        for _ in 0..READ_AGAIN {
            let bytes = read()?;
            if bytes.len() == FILE_BYTES && is_whole(&bytes) {
                return Ok(Self { bytes });
            }
            std::thread::sleep(READ_AGAIN_AFTER);
        }
        Err(failed(std::io::Error::new(
            std::io::ErrorKind::InvalidData,
            "its checksum is wrong",
        )))
    }

    pub(super) fn system_id(&self) -> SystemId {
        SystemId::new(self.u64_at(0))
    }

    /// A part of the name of tablespaces' folders.
    pub(super) fn catalog_version(&self) -> u32 {
        (self.u64_at(8) >> 32) as u32
    }

    /// Where its last checkpoint is.
    pub(super) fn checkpoint(&self) -> Lsn {
        Lsn::new(self.u64_at(32))
    }

    fn u64_at(&self, at: usize) -> u64 {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&self.bytes[at..at + 8]);
        u64::from_le_bytes(bytes)
    }
}

/// It cannot be read, because it is not there.
pub(super) fn missing() -> Error {
    failed(std::io::ErrorKind::NotFound.into())
}

fn failed(source: std::io::Error) -> Error {
    Error::ServerFile {
        operation: "read",
        path: String::from_utf8_lossy(PATH).into_owned(),
        source,
    }
}

fn is_whole(bytes: &[u8]) -> bool {
    CHECKSUM_AT.step_by(4).any(|at| {
        let known = u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        known == crc32c::crc32c(&bytes[..at]) && bytes[at + 4..].iter().all(|byte| *byte == 0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file with its checksum in this place.
    pub(in super::super) fn sample(at: usize) -> Vec<u8> {
        let mut bytes = vec![0; FILE_BYTES];
        bytes[..8].copy_from_slice(&7_u64.to_le_bytes());
        bytes[8..12].copy_from_slice(&1700_u32.to_le_bytes());
        bytes[12..16].copy_from_slice(&202_406_281_u32.to_le_bytes());
        bytes[32..40].copy_from_slice(&0x200_0060_u64.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..at]);
        bytes[at..at + 4].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    #[test]
    fn the_checksum_is_found_where_it_is_and_every_flipped_bit_seen() {
        for at in [240, 288, 296] {
            let bytes = sample(at);
            assert!(is_whole(&bytes), "{at}");
            for bit in 0..(at + 8) * 8 {
                let mut flipped = bytes.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                assert!(!is_whole(&flipped), "{at}: {bit}");
            }
        }
        assert!(!is_whole(&[0; FILE_BYTES]));
    }

    #[test]
    fn it_says_whose_it_is() {
        let file = ControlFile { bytes: sample(288) };
        assert_eq!(file.system_id(), SystemId::new(7));
        assert_eq!(file.catalog_version(), 202_406_281);
        assert_eq!(file.checkpoint(), Lsn::new(0x200_0060));
    }
}
