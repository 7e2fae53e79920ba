//! The checksum of a page, as PostgreSQL has it.
//!
//! Follows `storage/checksum_impl.h`: 32 sums side by side, each a variant of FNV-1a over every 32nd word of the page with the checksum taken
//! as zero, then folded, and mixed with the block's number. It is the time of multiplications, so the compiler is let use the widest registers.
//!
//! The only `unsafe` code of the crate is here: the call of a function that needs instructions, after a look whether the processor has them.

use super::{CHECKSUM_AT, PAGE_BYTES};

const SUMS: usize = 32;
const PRIME: u32 = 16_777_619;
/// Where the sums begin (`checksumBaseOffsets`).
const OFFSETS: [u32; SUMS] = [
    0x5B1F_36E9,
    0xB852_5960,
    0x02AB_50AA,
    0x1DE6_6D2A,
    0x79FF_467A,
    0x9BB9_F8A3,
    0x217E_7CD2,
    0x83E1_3D2C,
    0xF8D4_474F,
    0xE39E_B970,
    0x42C6_AE16,
    0x9932_16FA,
    0x7B09_3B5D,
    0x98DA_FF3C,
    0xF718_902A,
    0x0B1C_9CDB,
    0xE58F_764B,
    0x1876_36BC,
    0x5D7B_3BB1,
    0xE73D_E7DE,
    0x92BE_C979,
    0xCCA6_C0B2,
    0x304A_0979,
    0x85AA_43D4,
    0x7831_25BB,
    0x6CA8_EAA2,
    0xE407_EAC6,
    0x4B5C_FC3E,
    0x9FBF_8C76,
    0x15CA_20BE,
    0xF2CA_9FD3,
    0x959B_D756,
];

/// The checksum that `page` should have as block `block` of its relation.
#[cfg_attr(
    target_arch = "x86_64",
    allow(
        unsafe_code,
        reason = "to call what needs instructions of the processor"
    )
)]
pub(super) fn checksum(page: &[u8; PAGE_BYTES], block: u32) -> u16 {
    #[cfg(target_arch = "x86_64")]
    if std::is_x86_feature_detected!("avx2") {
        // SAFETY: the function is safe but for the instructions that it needs, and this processor has them.
        return unsafe { with_wide_registers(page, block) };
    }
    with_any(page, block)
}

/// The same in registers of eight words, which all processors of the last ten years have, but not all that this is built for.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn with_wide_registers(page: &[u8; PAGE_BYTES], block: u32) -> u16 {
    with_any(page, block)
}

#[inline(always)]
#[expect(
    clippy::inline_always,
    reason = "it is made anew for the registers of the caller"
)]
fn with_any(page: &[u8; PAGE_BYTES], block: u32) -> u16 {
    let mut sums = OFFSETS;
    for (row_number, row) in page.chunks_exact(4 * SUMS).enumerate() {
        let mut words = [0_u32; SUMS];
        for (word, bytes) in words.iter_mut().zip(row.chunks_exact(4)) {
            *word = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        }
        if row_number == 0 {
            // The checksum itself counts as zero: the lower half of the third word.
            words[CHECKSUM_AT.start / 4] &= 0xFFFF_0000;
        }
        for (sum, word) in sums.iter_mut().zip(words) {
            *sum = mixed(*sum, word);
        }
    }
    for _ in 0..2 {
        for sum in &mut sums {
            *sum = mixed(*sum, 0);
        }
    }
    let folded = sums.iter().fold(0, |all, sum| all ^ sum) ^ block;
    // Never zero, which means none.
    (folded % 65_535 + 1) as u16
}

#[inline(always)]
#[expect(clippy::inline_always, reason = "likewise")]
fn mixed(sum: u32, word: u32) -> u32 {
    let mixed = sum ^ word;
    mixed.wrapping_mul(PRIME) ^ (mixed >> 17)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_same_in_registers_of_any_width() {
        let mut state = 7_u32;
        for block in [0, 1, 131_072, u32::MAX] {
            let mut page = [0; PAGE_BYTES];
            for byte in &mut page {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                *byte = (state >> 24) as u8;
            }
            assert_eq!(checksum(&page, block), with_any(&page, block));
        }
    }
}
