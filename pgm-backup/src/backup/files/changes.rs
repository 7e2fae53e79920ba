//! Which blocks of a file are read for an incremental backup.
//!
//! By the rules of PostgreSQL (`GetFileBackupMethod` in `basebackup_incremental.c`), with what pgm's digests of the WAL say: between the starts
//! of the backup before and of this one. Only main forks of relations are read in part. The free space map is not fully logged, and bits of the
//! visibility map are cleared without a trace in its pages; both are small. What the backup before does not have is read, too, so that
//! nothing is filled up with zeros.

use pgm_wal::record::{Fork, RelationFile};
use pgm_wal::summary::{ForkChanges, RelationFork, Summary};

use super::super::basis;
use super::super::changed::ChangedPages;
use super::super::page::PAGE_BYTES;
use crate::manifest::FilePath;

/// `RELSEG_SIZE`.
const SEGMENT_PAGES: u64 = 131_072;

/// What is read of the file at `path`, of `size` bytes now and `before` bytes in the backup before; `None` for all of it.
pub(super) fn changed(
    changes: &Summary,
    path: &FilePath,
    size: u64,
    before: u64,
) -> Option<ChangedPages> {
    let (place, first) = basis::relation(path)?;
    let page = PAGE_BYTES as u64;
    let blocks = size / page;
    if blocks == 0 || !size.is_multiple_of(page) || blocks > SEGMENT_PAGES {
        return None;
    }
    let database = RelationFork {
        relation: RelationFile {
            number: 0,
            ..place.relation
        },
        fork: Fork::Main,
    };
    if changes.fork(database).is_some() {
        return None;
    }
    let fork = changes.fork(place);
    let limit = match fork.and_then(ForkChanges::limit) {
        None => u32::MAX,
        // Made, or cut off before this file.
        Some(limit) if limit <= first => return None,
        Some(limit) => limit - first,
    };
    let blocks = blocks as u32;
    let known = u32::try_from(before / page).unwrap_or(u32::MAX);
    let known = known.min(limit).min(blocks);
    let mut read: Vec<u32> = Vec::new();
    if let Some(fork) = fork {
        let of_file = fork.blocks().within(first..first.saturating_add(known));
        read.extend(of_file.map(|block| block - first));
    }
    read.extend(known..blocks);
    // As good as all of it.
    if read.len() as u64 * 10 > u64::from(blocks) * 9 {
        return None;
    }
    Some(ChangedPages {
        blocks: read,
        truncation: known,
    })
}

#[cfg(test)]
mod tests {
    use pgm_proto::{Lsn, TimelineId};
    use pgm_wal::summary::Rules;

    use super::*;

    const PAGE: u64 = 8192;

    fn path(text: &str) -> FilePath {
        FilePath::new(text).unwrap()
    }

    fn fork(path_of: &str) -> RelationFork {
        basis::relation(&path(path_of)).unwrap().0
    }

    fn summary(noted: &[(&str, u32)]) -> Summary {
        let mut summary = Summary::new(TimelineId::FIRST, Lsn::new(0x100), Rules::Complete);
        for (path, block) in noted {
            summary.note(fork(path), *block);
        }
        summary
    }

    #[test]
    fn only_what_the_wal_names_and_what_is_new_is_read() {
        let changes = summary(&[
            ("base/5/1", 3),
            ("base/5/1", 50),
            ("base/5/1", 131_072 + 7),
            ("base/5/2", 0),
        ]);
        let read = |name: &str, blocks: u64, before: u64| {
            changed(&changes, &path(name), blocks * PAGE, before * PAGE)
                .map(|changed| (changed.blocks, changed.truncation))
        };
        assert_eq!(read("base/5/1", 40, 40), Some((vec![3], 40)));
        assert_eq!(read("base/5/1.1", 20, 20), Some((vec![7], 20)));
        assert_eq!(read("base/5/3", 20, 20), Some((vec![], 20)));
        // Longer than before, and shorter.
        assert_eq!(read("base/5/1", 40, 38), Some((vec![3, 38, 39], 38)));
        assert_eq!(read("base/5/1", 10, 38), Some((vec![3], 10)));
        for (name, blocks, before) in [
            ("base/5/1_fsm", 3, 3),
            ("base/5/1_vm", 3, 3),
            ("base/5/PG_VERSION", 1, 1),
            ("base/5/3", 0, 3),
            ("base/5/3", 131_073, 131_073),
            // Nearly all of it.
            ("base/5/2", 1, 1),
            ("base/5/3", 20, 1),
        ] {
            assert_eq!(read(name, blocks, before), None, "{name} {blocks}");
        }
        assert_eq!(
            changed(&changes, &path("base/5/3"), 20 * PAGE + 1, 20 * PAGE),
            None
        );
    }

    #[test]
    fn of_a_new_database_everything_is_read() {
        let mut changes = summary(&[("base/5/1", 3)]);
        let mut database = fork("base/5/1");
        database.relation.number = 0;
        changes.note(database, 0);
        assert_eq!(
            changed(&changes, &path("base/5/9"), 20 * PAGE, 20 * PAGE),
            None
        );
        assert!(changed(&changes, &path("base/6/9"), 20 * PAGE, 20 * PAGE).is_some());
    }
}
