//! Files of which a server sends only the pages that have changed.
//!
//! ```text
//! magic 0xD3AE1F0D | n | truncation blocks | n block numbers, ascending     u32 each, in the server's byte order
//! zeros up to a multiple of 8192, if n > 0
//! n pages, in the order of their numbers
//! ```
//!
//! Follows `sendFile` in `basebackup.c`, `basebackup_incremental.c` and `reconstruct.c` of `pg_combinebackup`. Such a file stands
//! for one that is as long as its truncation blocks, or as its last page asks for. A page that is not in it and before the
//! truncation blocks is the one of the backup before, if that has it, and zeros otherwise. Numbers count from the beginning of
//! the file, not of the relation.

use std::ops::Range;

use super::page::PAGE_BYTES;
use crate::manifest::FilePath;

const MAGIC: u32 = 0xD3AE_1F0D;
const FIXED_BYTES: usize = 12;
/// `RELSEG_SIZE`: no file has more.
const BLOCKS_MAX: u32 = 131_072;
const PREFIX: &str = "INCREMENTAL.";
/// What makes a `backup_label` one that PostgreSQL does not start from (`read_backup_label` in `xlogrecovery.c`).
const LABEL_LINES: [&[u8]; 2] = [b"INCREMENTAL FROM LSN: ", b"INCREMENTAL FROM TLI: "];

/// What the beginning of such a file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ChangedPages {
    /// Which pages follow.
    pub(super) blocks: Vec<u32>,
    /// Before this one, pages that do not follow are those of the backup before.
    pub(super) truncation: u32,
}

/// Reads that beginning, in pieces of any size.
#[derive(Debug)]
pub(super) struct HeaderReader {
    /// The bytes of the whole file.
    size: u64,
    bytes: Vec<u8>,
    wanted: usize,
}

impl HeaderReader {
    pub(super) fn new(size: u64) -> Self {
        Self {
            size,
            bytes: Vec::new(),
            wanted: FIXED_BYTES,
        }
    }

    /// Takes bytes from the front of `input`; gives what they say once they are enough.
    pub(super) fn take(&mut self, input: &mut &[u8]) -> Result<Option<ChangedPages>, &'static str> {
        loop {
            let missing = self.wanted - self.bytes.len();
            let (now, later) = input.split_at(missing.min(input.len()));
            self.bytes.extend_from_slice(now);
            *input = later;
            if self.bytes.len() < self.wanted {
                return Ok(None);
            }
            let [magic, count, truncation] = [0, 4, 8].map(|at| u32_at(&self.bytes, at));
            if magic != MAGIC || count > BLOCKS_MAX || truncation > BLOCKS_MAX {
                return Err("it does not begin like one");
            }
            let header = header_bytes(count as usize);
            if self.size != (header + count as usize * PAGE_BYTES) as u64 {
                return Err("its size does not fit the number of its pages");
            }
            if self.bytes.len() == header {
                let blocks =
                    (0..count as usize).map(|at| u32_at(&self.bytes, FIXED_BYTES + 4 * at));
                let blocks: Vec<u32> = blocks.collect();
                if !blocks.is_sorted_by(|one, next| one < next)
                    || blocks.last().is_some_and(|last| *last >= BLOCKS_MAX)
                {
                    return Err("the numbers of its pages are not in order");
                }
                return Ok(Some(ChangedPages { blocks, truncation }));
            }
            self.wanted = header;
        }
    }
}

impl ChangedPages {
    /// The pages of the file that it stands for.
    pub(super) fn file_blocks(&self) -> u32 {
        let end = self.blocks.last().map_or(0, |last| last + 1);
        end.max(self.truncation)
    }

    /// Where the pages that follow belong in the file, in order.
    pub(super) fn sent(&self) -> Vec<Range<u64>> {
        let mut runs: Vec<Range<u64>> = Vec::new();
        for block in &self.blocks {
            let run = bytes_of(&(*block..block + 1));
            match runs.last_mut() {
                Some(last) if last.end == run.start => last.end = run.end,
                _ => runs.push(run),
            }
        }
        runs
    }

    /// What a file of so many bytes in the backup before contributes.
    pub(super) fn kept(&self, before_bytes: u64) -> Vec<Range<u64>> {
        self.unsent(0, self.limit(before_bytes))
    }

    /// What nobody has: zeros.
    pub(super) fn zeros(&self, before_bytes: u64) -> Vec<Range<u64>> {
        self.unsent(self.limit(before_bytes), self.file_blocks())
    }

    /// Pages from here on are not those of the backup before.
    fn limit(&self, before_bytes: u64) -> u32 {
        let blocks = before_bytes / PAGE_BYTES as u64;
        u32::try_from(blocks)
            .unwrap_or(u32::MAX)
            .min(self.truncation)
    }

    fn unsent(&self, from: u32, to: u32) -> Vec<Range<u64>> {
        let first = self.blocks.partition_point(|block| *block < from);
        let sent = self.blocks[first..].iter().take_while(|block| **block < to);
        let (mut runs, mut next) = (Vec::new(), from);
        for block in sent.copied().chain([to]) {
            if next < block {
                runs.push(bytes_of(&(next..block)));
            }
            next = block + 1;
        }
        runs
    }
}

fn bytes_of(blocks: &Range<u32>) -> Range<u64> {
    let at = |block: u32| u64::from(block) * PAGE_BYTES as u64;
    at(blocks.start)..at(blocks.end)
}

fn header_bytes(blocks: usize) -> usize {
    match FIXED_BYTES + 4 * blocks {
        FIXED_BYTES => FIXED_BYTES,
        bytes => bytes.next_multiple_of(PAGE_BYTES),
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// The file that such a one stands for, if the path is one of a relation's file with changed pages only.
pub(super) fn stands_for(path: &FilePath) -> Option<FilePath> {
    let text = std::str::from_utf8(path.as_bytes()).ok()?;
    let (folder, name) = text.rsplit_once('/')?;
    let name = name.strip_prefix(PREFIX)?;
    let whole = FilePath::new(format!("{folder}/{name}").as_bytes()).ok()?;
    is_of_relation(&whole).then_some(whole)
}

/// Whether a file is where the server has relations, and called like one.
pub(super) fn is_of_relation(path: &FilePath) -> bool {
    let mut components = path.components();
    let folder = components.next();
    matches!(folder, Some(b"base" | b"global" | b"pg_tblspc"))
        && components
            .last()
            .and_then(<[u8]>::first)
            .is_some_and(u8::is_ascii_digit)
}

/// A `backup_label` from which PostgreSQL starts.
pub(super) fn whole_label(label: &[u8]) -> Vec<u8> {
    let lines = label.split_inclusive(|byte| *byte == b'\n');
    let ours = |line: &&[u8]| !LABEL_LINES.iter().any(|ours| line.starts_with(ours));
    lines.filter(ours).collect::<Vec<_>>().concat()
}

#[cfg(test)]
pub(super) fn changed_file(truncation: u32, pages: &[(u32, u8)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for word in [MAGIC, pages.len() as u32, truncation] {
        bytes.extend_from_slice(&word.to_le_bytes());
    }
    for (block, _) in pages {
        bytes.extend_from_slice(&block.to_le_bytes());
    }
    bytes.resize(header_bytes(pages.len()), 0);
    for (_, fill) in pages {
        bytes.extend_from_slice(&[*fill; PAGE_BYTES]);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(bytes: &[u8], piece: usize) -> Result<Option<ChangedPages>, &'static str> {
        let mut reader = HeaderReader::new(bytes.len() as u64);
        for piece in bytes.chunks(piece) {
            let mut piece = piece;
            if let Some(changed) = reader.take(&mut piece)? {
                return Ok(Some(changed));
            }
        }
        Ok(None)
    }

    /// First page, and the one behind the last.
    fn pages(runs: &[Range<u64>]) -> Vec<(u64, u64)> {
        let page = PAGE_BYTES as u64;
        let in_pages = runs.iter().map(|run| (run.start / page, run.end / page));
        in_pages.collect()
    }

    #[test]
    fn the_beginning_says_which_pages_come_from_where() {
        let bytes = changed_file(6, &[(1, 7), (2, 8), (9, 9)]);
        for piece in [1, 5, 8192, 1 << 20] {
            let changed = read(&bytes, piece).unwrap().unwrap();
            assert_eq!((changed.file_blocks(), changed.truncation), (10, 6));
            assert_eq!(pages(&changed.sent()), [(1, 3), (9, 10)]);
            // The file before was longer than what counts of it, as long, shorter, empty.
            for (before, kept, zeros) in [
                (20, vec![(0, 1), (3, 6)], vec![(6, 9)]),
                (6, vec![(0, 1), (3, 6)], vec![(6, 9)]),
                (4, vec![(0, 1), (3, 4)], vec![(4, 9)]),
                (0, vec![], vec![(0, 1), (3, 9)]),
            ] {
                assert_eq!(pages(&changed.kept(before * 8192 + 100)), kept, "{before}");
                assert_eq!(
                    pages(&changed.zeros(before * 8192 + 100)),
                    zeros,
                    "{before}"
                );
            }
        }
        let unchanged = read(&changed_file(6, &[]), 3).unwrap().unwrap();
        assert_eq!(pages(&unchanged.kept(6 * 8192)), [(0, 6)]);
        assert!(unchanged.sent().is_empty() && unchanged.zeros(6 * 8192).is_empty());
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        let good = changed_file(6, &[(1, 7), (2, 8)]);
        let with = |at: usize, value: u32| {
            let mut bytes = good.clone();
            bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
            read(&bytes, 1000)
        };
        assert!(with(0, MAGIC).is_ok());
        with(0, 1).unwrap_err();
        for count in [0, 1, 3, BLOCKS_MAX + 1, u32::MAX] {
            with(4, count).unwrap_err();
        }
        with(8, BLOCKS_MAX + 1).unwrap_err();
        with(12, 2).unwrap_err();
        with(16, 0).unwrap_err();
        with(16, BLOCKS_MAX).unwrap_err();
        read(&[&good[..], b"x"].concat(), 1000).unwrap_err();
        assert_eq!(read(&[], 1), Ok(None));
    }

    #[test]
    fn names_tell_which_file_is_meant() {
        let of = |path: &str| stands_for(&FilePath::new(path.as_bytes()).unwrap());
        for (path, whole) in [
            ("base/5/INCREMENTAL.16384.2", "base/5/16384.2"),
            ("global/INCREMENTAL.1262_vm", "global/1262_vm"),
            (
                "pg_tblspc/70000/PG_17_202406281/5/INCREMENTAL.16390",
                "pg_tblspc/70000/PG_17_202406281/5/16390",
            ),
        ] {
            assert_eq!(of(path).unwrap().as_bytes(), whole.as_bytes());
        }
        for path in [
            "base/5/16384",
            "INCREMENTAL.1",
            "mine/INCREMENTAL.1",
            "base/5/INCREMENTAL.",
            "base/5/INCREMENTAL.PG_VERSION",
        ] {
            assert_eq!(of(path), None, "{path}");
        }
    }

    #[test]
    fn a_label_loses_the_two_lines_that_postgresql_does_not_start_from() {
        let label = b"START WAL LOCATION: 0/2000028\nINCREMENTAL FROM LSN: 0/1\nLABEL: INCREMENTAL FROM TLI: 1\n\
            INCREMENTAL FROM TLI: 1\n";
        let whole = b"START WAL LOCATION: 0/2000028\nLABEL: INCREMENTAL FROM TLI: 1\n";
        assert_eq!(whole_label(label), whole);
        assert_eq!(whole_label(whole), whole);
    }

    proptest! {
        #[test]
        fn any_bytes_are_no_panic(bytes in prop::collection::vec(any::<u8>(), 0..100), piece in 1_usize..50) {
            let _ = read(&bytes, piece);
        }

        #[test]
        fn every_page_of_the_file_comes_from_one_place(
            blocks in prop::collection::btree_set(0_u32..60, 0..30), truncation in 0_u32..60, before in 0_u64..80,
        ) {
            let changed = ChangedPages { blocks: blocks.into_iter().collect(), truncation };
            let mut all = [changed.sent(), changed.kept(before * 8192), changed.zeros(before * 8192)].concat();
            all.sort_by_key(|run| run.start);
            let mut end = 0;
            for run in all {
                prop_assert_eq!(run.start, end);
                end = run.end;
            }
            prop_assert_eq!(end, u64::from(changed.file_blocks()) * 8192);
        }
    }
}
