//! Arithmetic of positions: the page that holds one, and where the next record may begin.

use pgm_proto::Lsn;

use super::page::PAGE_BYTES;

pub(super) const PAGE: u64 = PAGE_BYTES as u64;

/// A record's length; all of it is on the page on which the record begins.
pub(super) fn total_len_at(bytes: &[u8]) -> u32 {
    bytes
        .first_chunk()
        .map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

pub(super) fn page_of(lsn: Lsn) -> Lsn {
    Lsn::new(lsn.bytes() - lsn.bytes() % PAGE)
}

pub(super) fn align(lsn: Lsn) -> Lsn {
    Lsn::new(lsn.bytes().saturating_add(7) & !7)
}

#[inline]
pub(super) fn align_len(len: u32) -> u64 {
    u64::from(len).next_multiple_of(8)
}
