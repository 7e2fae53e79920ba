//! The checksum of a record: CRC-32C, over everything behind the header, then over the header up to the checksum.
//!
//! The one place that knows where it comes from. Most records are short: folding them in wide registers is the fastest there,
//! and the instruction for it, with nothing around it, where those are missing; on images of pages a crate that folds many
//! bytes at once is. Where there is no such instruction, another crate knows what is best. Follows `ValidXLogRecord` in
//! `access/transam/xlogreader.c`.
//!
//! The only `unsafe` code of the crate is here: the calls of functions that need instructions, after a look whether the
//! processor has them, and loads into a register of less than it holds.

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
        self.0 = pgm_storage::crc32c_append(self.0, bytes);
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
        return RecordChecksum(pgm_storage::crc32c(body)).finish(header);
    }
    of_short_record(header, body)
}

/// Instructions that find the checksum of a short record.
#[cfg(target_arch = "x86_64")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Folding in wide registers.
    Folding,
    /// The instruction for it.
    Instruction,
}

#[cfg(target_arch = "x86_64")]
impl Way {
    /// The faster first.
    const ALL: [Self; 2] = [Self::Folding, Self::Instruction];

    /// The checksum, if this processor has the instructions.
    #[inline]
    #[allow(
        unsafe_code,
        reason = "to call what needs instructions of the processor"
    )]
    fn of_short_record(self, header: &[u8; HEADER_BYTES], body: &[u8]) -> Option<u32> {
        let crc = std::is_x86_feature_detected!("sse4.2");
        match self {
            Self::Folding
                if crc
                    && std::is_x86_feature_detected!("avx512bw")
                    && std::is_x86_feature_detected!("vpclmulqdq") =>
            {
                // SAFETY: the function is safe but for the instructions that it needs, and this processor has them.
                Some(unsafe { folding::of_short_record(header, body) })
            }
            // SAFETY: likewise.
            Self::Instruction if crc => Some(unsafe { instruction::of_short_record(header, body) }),
            _ => None,
        }
    }
}

#[inline]
fn of_short_record(header: &[u8; HEADER_BYTES], body: &[u8]) -> u32 {
    #[cfg(target_arch = "x86_64")]
    for way in Way::ALL {
        if let Some(checksum) = way.of_short_record(header, body) {
            return checksum;
        }
    }
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

/// CRC-32C of short bodies without a branch that depends on their length: bodies differ in length from record to record, and a
/// wrong guess costs more than the checksum.
///
/// The body is taken as the end of 256 bytes of which the others are zero, in four registers. Zeros in front do not change a
/// checksum that begins with zero; what beginning with ones does to it depends on the length only. Folding adds to a
/// later part what an earlier one, so many bits before, is worth there modulo the polynomial.
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code, reason = "loads that leave out what is not there")]
mod folding {
    use std::arch::x86_64::{
        __m512i, _mm_crc32_u32, _mm_crc32_u64, _mm_cvtsi128_si64, _mm_extract_epi64, _mm_xor_si128,
        _mm512_clmulepi64_epi128, _mm512_extracti32x4_epi32, _mm512_maskz_loadu_epi8,
        _mm512_set_epi64, _mm512_ternarylogic_epi64, _mm512_xor_si512,
    };

    use super::{HEADER_BYTES, LONG_BYTES};

    const REGISTER_BYTES: usize = 64;
    /// The polynomial, its highest power in the lowest bit.
    const POLYNOMIAL: u32 = 0x82F6_3B78;

    /// What 32 ones in front of a body of each length come to.
    static ONES: [u32; LONG_BYTES] = ones();

    const fn ones() -> [u32; LONG_BYTES] {
        let mut table = [0; LONG_BYTES];
        let mut state = u32::MAX;
        let mut len = 0;
        while len < LONG_BYTES {
            table[len] = state;
            state = times_power(state, 8);
            len += 1;
        }
        table
    }

    /// `value` times x to the power of `exponent`, modulo the polynomial.
    const fn times_power(mut value: u32, exponent: u32) -> u32 {
        let mut left = exponent;
        while left > 0 {
            value = (value >> 1) ^ if value & 1 == 1 { POLYNOMIAL } else { 0 };
            left -= 1;
        }
        value
    }

    /// The factors that carry the two halves of 128 bits over `bits`. A product without carries is one power too high.
    const fn factors(bits: u32) -> (i64, i64) {
        const ONE: u32 = 1 << 31;
        let first = times_power(ONE, bits + 63) as i64;
        let second = times_power(ONE, bits - 1) as i64;
        (first << 32, second << 32)
    }

    /// Panics where the body is not short.
    #[target_feature(enable = "avx512f,avx512bw,vpclmulqdq,sse4.2")]
    pub(super) fn of_short_record(header: &[u8; HEADER_BYTES], body: &[u8]) -> u32 {
        let ones = ONES[body.len()];
        let lanes = lanes(folded(body));
        let body_state = _mm_crc32_u64(_mm_crc32_u64(0, lanes.0), lanes.1) as u32 ^ ones;
        // The head of the header is made of two words and a half.
        let (words, _) = header.as_chunks();
        let state = words
            .iter()
            .take(2)
            .fold(u64::from(body_state), |state, word| {
                _mm_crc32_u64(state, u64::from_le_bytes(*word))
            });
        let half = u32::from_le_bytes([header[16], header[17], header[18], header[19]]);
        !_mm_crc32_u32(state as u32, half)
    }

    /// The 64 bytes to which the body folds.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,vpclmulqdq")]
    fn folded(body: &[u8]) -> __m512i {
        // Of each register the uppermost bytes count, as many as there are.
        let end = body.as_ptr_range().end;
        let part = |back: usize| {
            let count = body
                .len()
                .saturating_sub(back - REGISTER_BYTES)
                .min(REGISTER_BYTES);
            let mask = u64::MAX
                .checked_shl((REGISTER_BYTES - count) as u32)
                .unwrap_or(0);
            // SAFETY: what is loaded are the `count` bytes that end `back - 64` bytes before the end of the body, in which
            // there are as many; nothing else of the 64 bytes is touched.
            unsafe { _mm512_maskz_loadu_epi8(mask, end.wrapping_sub(back).cast()) }
        };
        let last = part(64);
        if body.len() <= REGISTER_BYTES {
            return last;
        }
        let sum = fold::<512>(part(128), last);
        if body.len() <= 2 * REGISTER_BYTES {
            return sum;
        }
        fold::<1536>(part(256), fold::<1024>(part(192), sum))
    }

    /// `later` and what `earlier` is worth there, so many bits before.
    #[inline]
    #[target_feature(enable = "avx512f,vpclmulqdq")]
    fn fold<const BITS: u32>(earlier: __m512i, later: __m512i) -> __m512i {
        let (first, second) = const { factors(BITS) };
        let factors = _mm512_set_epi64(second, first, second, first, second, first, second, first);
        carry(earlier, factors, later)
    }

    #[inline]
    #[target_feature(enable = "avx512f,vpclmulqdq")]
    fn carry(earlier: __m512i, factors: __m512i, later: __m512i) -> __m512i {
        const EXCLUSIVE_OR: i32 = 0x96;
        let first = _mm512_clmulepi64_epi128::<0x00>(earlier, factors);
        let second = _mm512_clmulepi64_epi128::<0x11>(earlier, factors);
        _mm512_ternarylogic_epi64::<EXCLUSIVE_OR>(first, second, later)
    }

    /// Folds the four quarters of `sum` into the last, and gives its halves.
    #[inline]
    #[target_feature(enable = "avx512f,vpclmulqdq")]
    fn lanes(sum: __m512i) -> (u64, u64) {
        const QUARTERS: [(i64, i64); 3] = [factors(384), factors(256), factors(128)];
        let [one, two, three] = QUARTERS;
        let factors = _mm512_set_epi64(0, 0, three.1, three.0, two.1, two.0, one.1, one.0);
        let first = _mm512_clmulepi64_epi128::<0x00>(sum, factors);
        let second = _mm512_clmulepi64_epi128::<0x11>(sum, factors);
        let carried = _mm512_xor_si512(first, second);
        let early = _mm_xor_si128(
            _mm512_extracti32x4_epi32::<0>(carried),
            _mm512_extracti32x4_epi32::<1>(carried),
        );
        let late = _mm_xor_si128(
            _mm512_extracti32x4_epi32::<2>(carried),
            _mm512_extracti32x4_epi32::<3>(sum),
        );
        let all = _mm_xor_si128(early, late);
        (
            _mm_cvtsi128_si64(all).cast_unsigned(),
            _mm_extract_epi64::<1>(all).cast_unsigned(),
        )
    }
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
            if let Some((header, body)) = bytes[..len].split_first_chunk::<HEADER_BYTES>() {
                let expected = crc32c::crc32c_append(crc32c::crc32c(body), &header[..20]);
                assert_eq!(of_record(&bytes[..len]), expected, "{len} bytes");
                #[cfg(target_arch = "x86_64")]
                for way in Way::ALL.into_iter().filter(|_| body.len() < LONG_BYTES) {
                    let found = way.of_short_record(header, body).unwrap_or(expected);
                    assert_eq!(found, expected, "{way:?}, {len} bytes");
                }
            }
        }
    }
}
