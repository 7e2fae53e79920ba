//! Checksums of files that are stored and given back in pieces.

//!
//! The checksum of bytes with `n` zeros behind them is that of the bytes times `x^8n`, as polynomials over GF(2) modulo that of
//! CRC-32C. The bit 31 of a number is the coefficient of `x^0`. One product takes some 30 steps, and a shift takes as many
//! products as its length has bits set: a frame has one, a run of pages at most eight.

/// CRC-32C's polynomial without `x^32`.
const POLYNOMIAL: u32 = 0x82F6_3B78;
/// `x^8`, `x^16`, `x^32` …: zeros in the number 1, 2, 4 ….
const SHIFTS: [u32; 32] = {
    let mut shifts = [1 << 23; 32];
    let mut bit = 1;
    while bit < shifts.len() {
        shifts[bit] = product(shifts[bit - 1], shifts[bit - 1]);
        bit += 1;
    }
    shifts
};

/// The checksum of the pieces with these checksums and lengths, one behind the other.
pub(crate) fn checksum_of(pieces: impl Iterator<Item = (u32, u32)>) -> u32 {
    pieces.fold(0, |before, (piece, length)| shifted(before, length) ^ piece)
}

/// The checksum `crc` with so many zeros behind it.
fn shifted(crc: u32, zeros: u32) -> u32 {
    // Nothing before the first piece.
    if crc == 0 {
        return 0;
    }
    let set = SHIFTS.iter().enumerate();
    set.filter(|(bit, _)| zeros >> bit & 1 == 1)
        .fold(crc, |crc, (_, shift)| product(crc, *shift))
}

const fn product(a: u32, mut b: u32) -> u32 {
    let (mut sum, mut left) = (0, a);
    while left != 0 {
        if left >> 31 == 1 {
            sum ^= b;
        }
        left <<= 1;
        // Times x.
        b = (b >> 1) ^ if b & 1 == 1 { POLYNOMIAL } else { 0 };
    }
    sum
}

#[cfg(test)]
mod tests {
    use pgm_storage::FRAME_RAW_MAX;

    use super::*;

    #[test]
    fn checksum_of_pieces_is_that_of_the_whole() {
        let mut bytes = vec![0; 3 * FRAME_RAW_MAX + 12_345];
        let pattern = bytes.iter_mut().enumerate();
        pattern.for_each(|(at, byte)| *byte = (at * at / 251) as u8);
        for lengths in [
            vec![],
            vec![5],
            vec![1000, 1, FRAME_RAW_MAX, FRAME_RAW_MAX, 12_344, 1],
        ] {
            let whole = &bytes[..lengths.iter().sum()];
            let mut rest = whole;
            let pieces = lengths.iter().map(|&length| {
                let (piece, behind) = rest.split_at(length);
                rest = behind;
                (pgm_storage::crc32c(piece), length as u32)
            });
            assert_eq!(
                checksum_of(pieces),
                pgm_storage::crc32c(whole),
                "{lengths:?}"
            );
        }
    }

    #[test]
    fn zeros_before_the_end_count() {
        let zeros = vec![0; FRAME_RAW_MAX];
        let piece = pgm_storage::crc32c(&zeros);
        let pieces = [(piece, FRAME_RAW_MAX as u32); 2].into_iter();
        assert_eq!(
            checksum_of(pieces),
            pgm_storage::crc32c(&[zeros.clone(), zeros].concat())
        );
    }
}
