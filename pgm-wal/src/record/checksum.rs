//! The checksum of a record: CRC-32C, over everything behind the header, then over the header up to the checksum.
//!
//! The one place that knows where it comes from. Follows `ValidXLogRecord` in `access/transam/xlogreader.c`.

use super::header::HEADER_BYTES;

/// A checksum of which not all bytes have been seen.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct RecordChecksum(u32);

impl RecordChecksum {
    /// Goes on with bytes behind the header.
    pub(super) fn append(&mut self, bytes: &[u8]) {
        self.0 = crc32c::crc32c_append(self.0, bytes);
    }

    /// Ends with the header.
    pub(super) fn finish(self, header: &[u8; HEADER_BYTES]) -> u32 {
        crc32c::crc32c_append(self.0, &header[..HEADER_BYTES - 4])
    }
}

/// The checksum of a record that lies in one piece; 0 when it is shorter than its header.
#[inline]
pub(crate) fn of_record(bytes: &[u8]) -> u32 {
    match bytes.split_first_chunk() {
        Some((header, body)) => RecordChecksum(crc32c::crc32c(body)).finish(header),
        None => 0,
    }
}
