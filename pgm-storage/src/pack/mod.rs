//! Packs: append-only runs of frames with an index at the end.
//!
//! All integers are little endian. A pack is a header, frames without gaps, an index and a footer:
//!
//! ```text
//! header, 16 bytes               index, 8 + 20 n bytes            footer, 32 bytes, the object's last
//!  0  4  magic "PGMP"             0  4  magic "PGMI"               0  4  magic "PGME"
//!  4  1  format version, 1        4  4  n, frames                  4  4  n, frames
//!  5  1  zero                     then n times:                    8  8  offset of the index
//!  6  2  kind                     0  8  offset of the frame       16  8  raw bytes of all frames
//!  8  4  zero                     8  4  bytes of the frame        24  4  CRC-32C of the index
//! 12  4  CRC-32C of 0..12        12  4  raw bytes                 28  4  CRC-32C of 0..28
//!                                16  4  CRC-32C of the raw bytes
//! ```
//!
//! Invariants: a pack can be read, checked and listed without anything else; the frames and the index leave no byte
//! uncovered by a checksum; its footer is written last, so a pack that ends in a valid footer is whole. If the end was
//! lost, [`PackReader::recover`] finds the frames by walking from header to header.
//!
//! Not here: what is in the frames, and which of them somebody still needs.

mod index;
mod reader;
#[cfg(test)]
mod tests;
mod writer;

pub use index::{FrameLocation, PACK_FRAMES_MAX, PackKind, index_crc};
pub use reader::PackReader;
pub use writer::{PackSummary, PackWriter};

/// Whether `start`, the first bytes of an object, are those of a pack.
pub fn is_pack(start: &[u8]) -> bool {
    start.starts_with(&index::HEADER_MAGIC)
}
