//! LZ4, one block per frame, with a hash table that is kept.

use std::fmt;
use std::io;

use lz4_flex::block::{
    CompressTable, compress_into_with_table, decompress_into, get_maximum_output_size,
};

pub(crate) struct Lz4Encoder(CompressTable);

impl Lz4Encoder {
    pub(crate) fn new() -> Self {
        Self(CompressTable::large())
    }

    /// How large `out` must be to hold whatever `raw_bytes` bytes become.
    pub(crate) fn bound(raw_bytes: usize) -> usize {
        get_maximum_output_size(raw_bytes)
    }

    pub(crate) fn encode(&mut self, raw: &[u8], out: &mut [u8]) -> io::Result<usize> {
        compress_into_with_table(raw, out, &mut self.0).map_err(io::Error::other)
    }
}

impl fmt::Debug for Lz4Encoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lz4Encoder").finish_non_exhaustive()
    }
}

/// Decodes all of `stored` into `out` and gives how many bytes that were; fails if they do not fit.
pub(crate) fn lz4_decode(stored: &[u8], out: &mut [u8]) -> io::Result<usize> {
    decompress_into(stored, out).map_err(io::Error::other)
}
