//! The one checksum of everything that rests: CRC-32C (Castagnoli), as PostgreSQL uses it for its WAL records.
//!
//! Behind one function, so that another implementation can take its place. It finds every flip of up to three bits, and
//! of any odd number of bits, in anything as short as a frame. It is no protection against a person.

/// The CRC-32C of `bytes`; `0xE306_9283` for `123456789`.
pub fn crc32c(bytes: &[u8]) -> u32 {
    ::crc32c::crc32c(bytes)
}

/// The CRC-32C of the bytes with the checksum `before`, followed by `bytes`; 0 is that of nothing.
pub fn crc32c_append(before: u32, bytes: &[u8]) -> u32 {
    ::crc32c::crc32c_append(before, bytes)
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
}
