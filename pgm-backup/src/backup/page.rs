//! Pages of relations: their LSN and their checksum.
//!
//! ```text
//! LSN, two u32, the upper first | checksum u16 | flags u16 | lower u16 | upper u16 | …      in the server's byte order
//! ```
//!
//! Follows `storage/bufpage.h`.

mod checksum;

use pgm_proto::Lsn;

use checksum::checksum;

/// The bytes of a page.
pub(super) const PAGE_BYTES: usize = 8192;

/// Where a page has its checksum.
const CHECKSUM_AT: std::ops::Range<usize> = 8..10;

/// Whether `page`, block `block` of its relation, has not changed since `since`: it was written, its last change is older,
/// it is of no kind that changes without a trace, and its checksum says that it was read whole. Only for servers with page checksums, where a change of hint bits is logged
/// when it is the first one after a checkpoint, and so is seen in the LSN, too.
pub(super) fn is_unchanged(page: &[u8], block: u32, since: Lsn) -> bool {
    let Ok(page) = <&[u8; PAGE_BYTES]>::try_from(page) else {
        return false;
    };
    let half = |at: usize| u16::from_le_bytes([page[at], page[at + 1]]);
    let word = |at: usize| u32::from_le_bytes([page[at], page[at + 1], page[at + 2], page[at + 3]]);
    let lsn = Lsn::new(u64::from(word(0)) << 32 | u64::from(word(4)));
    let upper = half(14);
    upper != 0
        && !is_spgist_metapage(page)
        && lsn != Lsn::INVALID
        && lsn < since
        && half(CHECKSUM_AT.start) == checksum(page, block)
}

/// Whether it is the first page of an SP-GiST index. Where there is room in the index is noted there without WAL and without an LSN
/// (`SpGistUpdateMetaPage` in `spgutils.c`; the special space and its numbers are in `spgist_private.h`).
fn is_spgist_metapage(page: &[u8; PAGE_BYTES]) -> bool {
    const SPECIAL: u16 = 8184;
    const META: u16 = 1;
    const SPGIST_PAGE_ID: u16 = 0xFF82;
    let half = |at: usize| u16::from_le_bytes([page[at], page[at + 1]]);
    half(16) == SPECIAL && half(8190) == SPGIST_PAGE_ID && half(8184) & META != 0
}

/// Whether nothing is wrong with `page`, block `block` of its relation: it was never written, it has changed since `since`, so that
/// replay writes all of it again, or its checksum is right. What BASE_BACKUP asks, too (`verify_page_checksum` in `basebackup.c`).
pub(super) fn is_sound(page: &[u8; PAGE_BYTES], block: u32, since: Lsn) -> bool {
    let half = |at: usize| u16::from_le_bytes([page[at], page[at + 1]]);
    let word = |at: usize| u32::from_le_bytes([page[at], page[at + 1], page[at + 2], page[at + 3]]);
    let lsn = Lsn::new(u64::from(word(0)) << 32 | u64::from(word(4)));
    half(14) == 0 || lsn >= since || half(CHECKSUM_AT.start) == checksum(page, block)
}

#[cfg(test)]
pub(super) fn sealed_page(lsn: Lsn, block: u32, fill: u8) -> Vec<u8> {
    let mut page = vec![fill; PAGE_BYTES];
    page[..4].copy_from_slice(&((lsn.bytes() >> 32) as u32).to_le_bytes());
    page[4..8].copy_from_slice(&(lsn.bytes() as u32).to_le_bytes());
    page[12..14].copy_from_slice(&24_u16.to_le_bytes());
    page[14..16].copy_from_slice(&8000_u16.to_le_bytes());
    let sum = checksum(
        <&[u8; PAGE_BYTES]>::try_from(page.as_slice()).unwrap(),
        block,
    );
    page[CHECKSUM_AT].copy_from_slice(&sum.to_le_bytes());
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_sound_when_it_is_new_newer_or_has_its_checksum() {
        let since = Lsn::new(0x500);
        let sound = |page: &[u8], block| is_sound(page.try_into().unwrap(), block, since);
        let mut page = sealed_page(Lsn::new(0x4F8), 7, 0xA5);
        assert!(sound(&page, 7));
        page[5000] ^= 1;
        assert!(!sound(&page, 7));
        let mut newer = sealed_page(since, 7, 0xA5);
        newer[5000] ^= 1;
        assert!(sound(&newer, 7) && sound(&[0; PAGE_BYTES], 7));
    }

    #[test]
    fn the_first_page_of_an_spgist_index_is_never_unchanged() {
        let page = |flags: u8, id: u16| {
            let mut page = sealed_page(Lsn::new(0x100), 0, 0);
            page[16..18].copy_from_slice(&8184_u16.to_le_bytes());
            page[8184] = flags;
            page[8190..].copy_from_slice(&id.to_le_bytes());
            page[CHECKSUM_AT].fill(0);
            let sum = checksum(page.as_slice().try_into().unwrap(), 0);
            page[CHECKSUM_AT].copy_from_slice(&sum.to_le_bytes());
            page
        };
        let unchanged = |page: Vec<u8>| is_unchanged(&page, 0, Lsn::new(0x500));
        assert!(!unchanged(page(1, 0xFF82)));
        // Another page of it, and one of another kind.
        assert!(unchanged(page(4, 0xFF82)) && unchanged(page(1, 0xFF81)));
    }

    #[test]
    fn a_page_counts_as_unchanged_when_it_is_whole_and_older() {
        let since = Lsn::new(0x2_0000_0100);
        let page = sealed_page(Lsn::new(0x2_0000_00F8), 7, 0xA5);
        assert!(is_unchanged(&page, 7, since));
        assert!(!is_unchanged(&page, 8, since), "another block");
        assert!(
            !is_unchanged(&page, 7, Lsn::new(0x2_0000_00F8)),
            "changed then"
        );
        assert!(!is_unchanged(&page[..4096], 7, since), "half a page");
        assert!(!is_unchanged(&[0; PAGE_BYTES], 7, since), "never written");
        for byte in [0, 8, 100, 4095, 8191] {
            let mut torn = page.clone();
            torn[byte] ^= 1;
            assert!(!is_unchanged(&torn, 7, since), "byte {byte}");
        }
    }
}
