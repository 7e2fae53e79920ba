//! The checksum of a record: CRC-32C, over everything behind the header, then over the header up to the checksum.
//!
//! The one place that knows where it comes from: of two crates one is faster on the few bytes of most records, the other
//! on images of pages. Follows `ValidXLogRecord` in `access/transam/xlogreader.c`.

use crc_fast::{CrcAlgorithm, Digest};

use super::header::HEADER_BYTES;

/// From this length on folding many bytes at once is faster.
const LONG_BYTES: usize = 192;

/// A checksum of which not all bytes have been seen.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct RecordChecksum(u32);

impl RecordChecksum {
    /// Goes on with bytes behind the header.
    #[inline]
    pub(super) fn append(&mut self, bytes: &[u8]) {
        self.0 = if bytes.len() >= LONG_BYTES {
            append_long(self.0, bytes)
        } else {
            crc32c::crc32c_append(self.0, bytes)
        };
    }

    /// Ends with the header.
    #[inline]
    pub(super) fn finish(self, header: &[u8; HEADER_BYTES]) -> u32 {
        crc32c::crc32c_append(self.0, &header[..HEADER_BYTES - 4])
    }
}

/// The checksum of a record that lies in one piece; 0 when it is shorter than its header.
#[inline]
pub(crate) fn of_record(bytes: &[u8]) -> u32 {
    let Some((header, body)) = bytes.split_first_chunk() else {
        return 0;
    };
    RecordChecksum(crc_fast::crc32_iscsi(body)).finish(header)
}

fn append_long(crc: u32, bytes: &[u8]) -> u32 {
    let state = u64::from(!crc);
    let mut digest = Digest::new_with_init_state(CrcAlgorithm::Crc32Iscsi, state);
    digest.update(bytes);
    digest.finalize() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_give_the_same_checksum_at_every_length_and_split() {
        let bytes: Vec<u8> = (0..9000_u32).map(|at| (at * 7 + at / 251) as u8).collect();
        for len in (0..1200).chain([4095, 4096, 8191, 8192, 9000]) {
            let (before, after) = bytes[..len].split_at(len / 3);
            let mut checksum = RecordChecksum::default();
            checksum.append(before);
            checksum.append(after);
            assert_eq!(checksum.0, crc32c::crc32c(&bytes[..len]), "{len} bytes");
            assert_eq!(append_long(0, &bytes[..len]), checksum.0, "{len} bytes");
            assert_eq!(
                crc_fast::crc32_iscsi(&bytes[..len]),
                checksum.0,
                "{len} bytes"
            );
        }
    }
}
