//! Packs of earlier backups that an incremental one gives up.
//!
//! An old pack stays as long as a backup points into it, however little of it the server still has. So when that is at most a part of
//! the pack, an incremental backup stores it again instead: the pack goes with the last backup that still needs it. The emptiest
//! packs come first, and what is stored again is bounded, so that no backup grows into a full one; the rest is for the next.
//!
//! Nothing is changed and nothing is removed here: which packs go is decided by deletions alone, by what manifests point into.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::manifest::{Extent, PackRecord};

/// Of what is kept of earlier backups, so much is stored again: a sixteenth, or this if that is more.
const BYTES_MIN: u64 = 64 << 20;
const SHARE: u64 = 16;

/// When a pack is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compaction {
    /// When at most so many percent of its bytes are still needed; 0 for never.
    pub needed_percent_max: u8,
}

impl Default for Compaction {
    fn default() -> Self {
        Self {
            needed_percent_max: 25,
        }
    }
}

/// How much of each pack the backup before needs, by the pack's place in its table.
#[derive(Debug, Default)]
pub(super) struct NeededBytes(Vec<u64>);

/// The packs that are given up, by their place in the table of the backup before.
#[derive(Debug, Default)]
pub(super) struct GivenUp {
    packs: Vec<bool>,
    bytes: AtomicU64,
}

impl NeededBytes {
    pub(super) fn of(packs: &[PackRecord]) -> Self {
        Self(vec![0; packs.len()])
    }

    /// Counts in the places of a file.
    pub(super) fn add(&mut self, extents: &[Extent]) {
        for extent in extents {
            if let Some(bytes) = self.0.get_mut(extent.pack as usize) {
                *bytes += u64::from(extent.length);
            }
        }
    }

    /// Chooses the packs that are given up.
    pub(super) fn choose(&self, packs: &[PackRecord], rule: Compaction) -> GivenUp {
        let all: u64 = self.0.iter().sum();
        let mut left = (all / SHARE).max(BYTES_MIN);
        let percent = u128::from(rule.needed_percent_max);
        let mut emptiest: Vec<(u128, usize, u64)> = Vec::new();
        for (number, (pack, needed)) in packs.iter().zip(&self.0).enumerate() {
            let (needed, raw) = (*needed, u128::from(pack.raw_bytes.max(1)));
            if needed > 0 && u128::from(needed) * 100 <= raw * percent {
                emptiest.push((u128::from(needed) * 1_000_000 / raw, number, needed));
            }
        }
        emptiest.sort_unstable();
        let mut given_up = vec![false; packs.len()];
        for (_, number, needed) in emptiest {
            let Some(rest) = left.checked_sub(needed) else {
                continue;
            };
            left = rest;
            given_up[number] = true;
        }
        GivenUp {
            packs: given_up,
            bytes: AtomicU64::new(0),
        }
    }
}

impl GivenUp {
    #[cfg(test)]
    pub(super) fn all(packs: usize) -> Self {
        Self {
            packs: vec![true; packs],
            bytes: AtomicU64::new(0),
        }
    }

    /// Whether what is needed of a pack is stored again.
    pub(super) fn has(&self, pack: u32) -> bool {
        self.packs.get(pack as usize).is_some_and(|is| *is)
    }

    /// Notes that so many bytes are stored again.
    pub(super) fn note(&self, bytes: u32) {
        self.bytes.fetch_add(bytes.into(), Ordering::Relaxed);
    }

    /// How many bytes were stored again.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// How many packs are given up.
    pub(super) fn count(&self) -> u32 {
        self.packs.iter().filter(|is| **is).count() as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn chosen(packs: &[(u64, u64)], percent: u8) -> Vec<bool> {
        let record = |(number, (raw_bytes, _)): (usize, &(u64, u64))| PackRecord {
            label: "20261122T023456Z".parse().unwrap(),
            number: number as u32,
            size: 1,
            raw_bytes: *raw_bytes,
            frames: 1,
            index_crc32c: None,
        };
        let records: Vec<PackRecord> = packs.iter().enumerate().map(record).collect();
        let needed = NeededBytes(packs.iter().map(|(_, needed)| *needed).collect());
        let rule = Compaction {
            needed_percent_max: percent,
        };
        needed.choose(&records, rule).packs
    }

    #[test]
    fn packs_of_which_little_is_needed_are_given_up() {
        let packs = [(100, 25), (100, 26), (100, 0), (0, 0), (100, 100)];
        assert_eq!(chosen(&packs, 25), [true, false, false, false, false]);
        assert_eq!(chosen(&packs, 0), [false; 5]);
        assert_eq!(chosen(&packs, 100), [true, true, false, false, true]);
    }

    #[test]
    fn what_is_stored_again_is_bounded_and_the_emptiest_come_first() {
        // 64 MiB, as the sixteenth is less.
        let packs = [
            (400 * MIB, 50 * MIB),
            (400 * MIB, 40 * MIB),
            (400 * MIB, 30 * MIB),
            (400 * MIB, 20 * MIB),
        ];
        assert_eq!(chosen(&packs, 25), [false, false, true, true]);
        // A sixteenth: 100 of 1,600.
        let packs = [
            (1500 * MIB, 1500 * MIB),
            (900 * MIB, 80 * MIB),
            (900 * MIB, 20 * MIB),
        ];
        assert_eq!(chosen(&packs, 25), [false, true, true]);
    }

    #[test]
    fn the_places_of_files_tell_how_much_is_needed() {
        let extent = |pack, length| Extent {
            file_offset: 0,
            pack,
            frame_offset: 16,
            start: 0,
            length,
        };
        let mut needed = NeededBytes(vec![0; 2]);
        needed.add(&[extent(0, 5), extent(1, 6), extent(0, 7), extent(9, 1)]);
        assert_eq!(needed.0, [12, 6]);
    }
}
