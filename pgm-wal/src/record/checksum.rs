//! The checksum of a record: CRC-32C, over everything behind the header, then over the header up to the checksum.
//!
//! The one place that knows where it comes from. Most records are short: the instruction for it, with nothing around it, is
//! the fastest there; on images of pages a crate that folds many bytes at once is. Where there is no such instruction, another
//! crate knows what is best. Follows `ValidXLogRecord` in `access/transam/xlogreader.c`.
//!
//! The only `unsafe` code of the crate is the call of the function that uses the instruction, after a look whether the
//! processor has it; the function itself reads slices as any other does.

use crc_fast::{CrcAlgorithm, Digest};

use super::header::HEADER_BYTES;

/// From this length on folding many bytes at once is faster.
const LONG_BYTES: usize = 256;

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
    if body.len() >= LONG_BYTES {
        return RecordChecksum(crc_fast::crc32_iscsi(body)).finish(header);
    }
    of_short_record(header, body)
}

#[cfg(target_arch = "x86_64")]
#[inline]
#[allow(
    unsafe_code,
    reason = "to call what needs an instruction of the processor"
)]
fn of_short_record(header: &[u8; HEADER_BYTES], body: &[u8]) -> u32 {
    if std::is_x86_feature_detected!("sse4.2") {
        // SAFETY: the function is safe but for the instructions of SSE 4.2, and this processor has them.
        return unsafe { instruction::of_short_record(header, body) };
    }
    RecordChecksum(crc32c::crc32c(body)).finish(header)
}

#[cfg(not(target_arch = "x86_64"))]
fn of_short_record(header: &[u8; HEADER_BYTES], body: &[u8]) -> u32 {
    RecordChecksum(crc32c::crc32c(body)).finish(header)
}

/// CRC-32C with the instruction of SSE 4.2.
#[cfg(target_arch = "x86_64")]
mod instruction {
    use std::arch::x86_64::{_mm_crc32_u8, _mm_crc32_u32, _mm_crc32_u64};

    use super::HEADER_BYTES;

    #[target_feature(enable = "sse4.2")]
    pub(super) fn of_short_record(header: &[u8; HEADER_BYTES], body: &[u8]) -> u32 {
        // The head of the header is made of two words and a half.
        let (words, _) = header.as_chunks();
        let state = words_on(u64::from(u32::MAX), body);
        let state = words.iter().take(2).fold(state, |state, word| {
            _mm_crc32_u64(state, u64::from_le_bytes(*word))
        });
        let half = u32::from_le_bytes([header[16], header[17], header[18], header[19]]);
        !_mm_crc32_u32(state as u32, half)
    }

    #[target_feature(enable = "sse4.2")]
    fn words_on(mut state: u64, bytes: &[u8]) -> u64 {
        let (words, mut rest) = bytes.as_chunks();
        for word in words {
            state = _mm_crc32_u64(state, u64::from_le_bytes(*word));
        }
        if let Some((half, after)) = rest.split_first_chunk() {
            state = u64::from(_mm_crc32_u32(state as u32, u32::from_le_bytes(*half)));
            rest = after;
        }
        for byte in rest {
            state = u64::from(_mm_crc32_u8(state as u32, *byte));
        }
        state
    }
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
            if let Some((header, body)) = bytes[..len].split_first_chunk::<HEADER_BYTES>() {
                let expected = crc32c::crc32c_append(crc32c::crc32c(body), &header[..20]);
                assert_eq!(of_record(&bytes[..len]), expected, "{len} bytes");
                assert_eq!(of_short_record(header, body), expected, "{len} bytes");
            }
        }
    }
}
