//! Which pieces of a file are written together.
//!
//! After some incremental backups a large file is frames of an old backup with pages of newer ones in between. Written one by one
//! those would be many small pieces, most of the old ones too small to go around the page cache. But a frame that is read has
//! bytes for the places in between, too, older ones: once the newer pages are laid over them, all of it is one piece.
//!
//! ```text
//! file      | A A A A | B | A A | C | A A A |        extents: A in a frame, B and C in others
//! frame     | A A A A | a | A A | a | A A A |        what the frame has there: a is outdated
//! ```
//!
//! So a *span* is a run of extents that begins and ends in the same frame and has patches in between.

use std::ops::RangeInclusive;

use crate::manifest::Extent;

/// Shorter ones are not worth it: they go through the cache in any case. And what is as long is no patch.
const BYTES_MIN: u64 = 128 << 10;
/// A span is looked for among so many extents.
const EXTENTS_MAX: usize = 256;

/// The spans among the extents of one file, which are in order and without holes.
pub(super) fn find(extents: &[Extent]) -> impl Iterator<Item = RangeInclusive<usize>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        while at < extents.len() {
            let first = at;
            at += 1;
            if let Some(more) = end_of_span(&extents[first..]) {
                at = first + more + 1;
                return Some(first..=first + more);
            }
        }
        None
    })
}

/// Whether two extents are in the same frame, at the same distance there as in the file.
pub(super) fn same_frame(one: &Extent, other: &Extent) -> bool {
    let place = |extent: &Extent| {
        let begin = extent.file_offset.checked_sub(u64::from(extent.start));
        begin.map(|begin| (extent.pack, extent.frame_offset, begin))
    };
    place(one).is_some() && place(one) == place(other)
}

/// The last extent of the span that begins with the first one, if there is one that is worth it.
fn end_of_span(extents: &[Extent]) -> Option<usize> {
    let first = extents.first()?;
    let (mut own, mut last) = (u64::from(first.length), None);
    for (number, extent) in extents.iter().enumerate().take(EXTENTS_MAX).skip(1) {
        if !same_frame(first, extent) {
            if u64::from(extent.length) >= BYTES_MIN {
                break;
            }
            continue;
        }
        own += u64::from(extent.length);
        let bytes = extent.file_offset + u64::from(extent.length) - first.file_offset;
        // Mostly patches: not much is gained, and they are held in memory.
        if bytes >= BYTES_MIN && own * 2 >= bytes {
            last = Some(number);
        }
    }
    last
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn found(extents: &[Extent]) -> Vec<RangeInclusive<usize>> {
        find(extents).collect()
    }

    /// Extents of so many pages from these frames; a page of frame 0 is where it is in the file.
    fn extents(runs: &[(u64, u32)]) -> Vec<Extent> {
        let mut at = 0;
        let extent = |(frame, pages): &(u64, u32)| {
            let extent = Extent {
                file_offset: at,
                pack: 0,
                frame_offset: *frame,
                start: if *frame == 0 { at as u32 } else { 0 },
                length: pages * 8192,
            };
            at += u64::from(extent.length);
            extent
        };
        runs.iter().map(extent).collect()
    }

    #[test]
    fn pages_between_two_pieces_of_a_frame_are_written_with_them() {
        let runs = [(0, 40), (1, 1), (0, 30), (2, 1), (3, 1), (0, 9), (4, 2)];
        assert_eq!(found(&extents(&runs)), [0..=5]);
        // Two spans side by side, and a piece that belongs to none.
        let mut two = extents(&[(0, 20), (1, 1), (0, 20), (5, 20), (6, 1), (5, 20)]);
        two[5].start = 21 * 8192;
        assert_eq!(found(&two), [0..=2, 3..=5]);
        // In the same frame, and not at the same distance.
        two[5].start = 22 * 8192;
        assert_eq!(found(&two), [0..=2]);
    }

    #[test]
    fn what_is_short_or_mostly_patches_is_no_span() {
        assert!(found(&extents(&[(0, 4), (1, 1), (0, 4)])).is_empty());
        assert!(found(&extents(&[(0, 4), (1, 90), (0, 4)])).is_empty());
        assert!(found(&extents(&[(0, 100)])).is_empty());
        assert!(found(&[]).is_empty());
    }

    proptest! {
        #[test]
        fn spans_are_apart_and_end_in_the_frame_in_which_they_begin(
            runs in prop::collection::vec((0_u64..3, 1_u32..40), 0..60),
        ) {
            let extents = extents(&runs);
            let mut free = 0;
            for span in find(&extents) {
                prop_assert!(*span.start() >= free && span.start() < span.end());
                prop_assert!(same_frame(&extents[*span.start()], &extents[*span.end()]));
                free = span.end() + 1;
            }
            prop_assert!(free <= extents.len());
        }
    }
}
