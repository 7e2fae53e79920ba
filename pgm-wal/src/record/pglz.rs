//! Decompression of pglz, PostgreSQL's own compression.
//!
//! ```text
//! control byte, then for each of its bits from the lowest on:   0  one literal byte
//!                                                               1  a match: offset and length, 2 or 3 bytes
//! match   length - 3 (low 4 bits), offset high (upper 4 bits) | offset low | length - 18, if the low 4 bits are 15
//! ```
//!
//! Follows `pglz_decompress` in `common/pg_lzcompress.c`.

/// Decompresses `source` into `target`; gives how many bytes of `target` were written. `None` when `source` is
/// malformed, or has more than fits.
pub(super) fn decompress(source: &[u8], target: &mut [u8]) -> Option<usize> {
    let (mut at, mut filled) = (0, 0);
    while at < source.len() {
        let mut control = source[at];
        at += 1;
        for _ in 0..8 {
            if at >= source.len() {
                break;
            }
            if control & 1 == 0 {
                *target.get_mut(filled)? = source[at];
                at += 1;
                filled += 1;
            } else {
                let (first, second) = (source[at], *source.get(at + 1)?);
                at += 2;
                let mut len = usize::from(first & 0x0F) + 3;
                if len == 18 {
                    len += usize::from(*source.get(at)?);
                    at += 1;
                }
                let offset = usize::from(first & 0xF0) << 4 | usize::from(second);
                if offset == 0 || offset > filled || len > target.len() - filled {
                    return None;
                }
                // The match may reach into what it writes itself.
                for index in filled..filled + len {
                    target[index] = target[index - offset];
                }
                filled += len;
            }
            control >>= 1;
        }
    }
    Some(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_and_matches_come_back() {
        let mut target = [0; 32];
        // Three literals, a match of 9 at offset 3, and one more literal.
        let source = [0b0000_1000, b'a', b'b', b'c', 6, 3, b'!'];
        let filled = decompress(&source, &mut target).unwrap();
        assert_eq!(&target[..filled], b"abcabcabcabc!");
        // A long match of one byte.
        let source = [0b0000_0010, b'x', 0x0F, 1, 4];
        let filled = decompress(&source, &mut target).unwrap();
        assert_eq!(&target[..filled], &[b'x'; 23]);
    }

    #[test]
    fn malformed_input_is_refused() {
        let mut target = [0; 8];
        for source in [
            &[1, 0, 0][..],
            &[1, 0, 1],
            &[0b10, b'x', 0x00, 2],
            &[0b10, b'x', 0x0F, 1, 200],
            &[0b10, b'x', 0x0F, 1],
            &[0, 1, 2, 3, 4, 5, 6, 7, 8, 0, 9],
        ] {
            assert_eq!(decompress(source, &mut target), None, "{source:?}");
        }
    }
}
