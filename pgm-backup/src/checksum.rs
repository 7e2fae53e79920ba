//! Checksums of files that are stored and given back in pieces.

use std::array::from_fn;
use std::sync::LazyLock;

use pgm_storage::FRAME_RAW_MAX;

/// The checksum of the pieces with these checksums and lengths, one behind the other.
pub(crate) fn checksum_of(pieces: impl Iterator<Item = (u32, u32)>) -> u32 {
    pieces.fold(0, |before, (piece, length)| match length as usize {
        // Nothing before the first piece, and most others fill a frame.
        _ if before == 0 => piece,
        FRAME_RAW_MAX => shifted_by_frame(before) ^ piece,
        length => crc32c::crc32c_combine(before, piece, length),
    })
}

/// The checksum `crc` with a frame of zeros behind it. That is linear in its bits, so the combination of each bit is
/// computed once: `crc32c_combine` takes as long as compressing a fiftieth of a frame.
fn shifted_by_frame(crc: u32) -> u32 {
    static BITS: LazyLock<[u32; 32]> =
        LazyLock::new(|| from_fn(|bit| crc32c::crc32c_combine(1 << bit, 0, FRAME_RAW_MAX)));
    let set = BITS
        .iter()
        .enumerate()
        .filter(|(bit, _)| crc >> bit & 1 == 1);
    set.fold(0, |sum, (_, shifted)| sum ^ shifted)
}

#[cfg(test)]
mod tests {
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
