//! The one checksum of everything that rests: CRC-32C (Castagnoli), as PostgreSQL uses it for its WAL records.
//!
//! Behind one function, so that another implementation can take its place. It finds every flip of up to three bits, and
//! of any odd number of bits, in anything as short as a frame. It is no protection against a person.

use crc_fast::{CrcAlgorithm, Digest};

/// From this length on folding many bytes at once is faster than the processor's instruction for it.
const LONG_BYTES: usize = 256;

/// The CRC-32C of `bytes`; `0xE306_9283` for `123456789`.
#[inline]
pub fn crc32c(bytes: &[u8]) -> u32 {
    if bytes.len() < LONG_BYTES {
        return ::crc32c::crc32c(bytes);
    }
    crc_fast::crc32_iscsi(bytes)
}

/// The CRC-32C of the bytes with the checksum `before`, followed by `bytes`; 0 is that of nothing.
#[inline]
pub fn crc32c_append(before: u32, bytes: &[u8]) -> u32 {
    if bytes.len() < LONG_BYTES {
        return ::crc32c::crc32c_append(before, bytes);
    }
    let state = u64::from(!before);
    let mut digest = Digest::new_with_init_state(CrcAlgorithm::Crc32Iscsi, state);
    digest.update(bytes);
    digest.finalize() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_check_value_of_the_catalogue_comes_out() {
        assert_eq!(crc32c(b"123456789"), 0xE306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8A91_36AA);
        assert_eq!(crc32c_append(crc32c(b"12345"), b"6789"), 0xE306_9283);
        assert_eq!(crc32c_append(0, b"123456789"), 0xE306_9283);
    }

    #[test]
    fn both_ways_give_the_same_checksum_at_every_length_and_split() {
        let bytes: Vec<u8> = (0..9000_u32).map(|at| (at * 7 + at / 251) as u8).collect();
        for len in (0..1200).chain([4095, 4096, 8191, 8192, 9000]) {
            let bytes = &bytes[..len];
            let expected = ::crc32c::crc32c(bytes);
            assert_eq!(crc32c(bytes), expected, "{len} bytes");
            for at in [0, 1, len / 3, len / 2, len.saturating_sub(300)] {
                let (before, after) = bytes.split_at(at.min(len));
                let found = crc32c_append(crc32c(before), after);
                assert_eq!(found, expected, "{len} bytes, split at {at}");
            }
        }
    }
}
