//! Which blocks changed between two positions of the WAL.
//!
//! A [`Summary`] holds, for each fork of each relation that records refer to, the blocks that were changed, and the *limit
//! block*: the least length that the fork is known to have had in between, 0 when it was made or removed. Blocks from there
//! on are to be taken as changed, whether or not they are listed. A relation with the number 0 stands for all relations of
//! a database in a tablespace.
//!
//! The rules are those of PostgreSQL 17's WAL summarizer (`postmaster/walsummarizer.c`), for the WAL of 14 to 18. The free
//! space map is left out: it is not fully WAL-logged. PostgreSQL does not list pages of the visibility map of which bits
//! are cleared by a change of a row; with [`Rules::Complete`] they are noted, too, and [`Summary::completed`] counts them in.
//!
//! Summaries of adjacent ranges are merged with [`Summary::merge`]. With [`Rules::Complete`] what comes out is the summary of the
//! whole range; with PostgreSQL's rules alone the list of blocks behind the limit, which count as changed anyway, may be shorter.
//!
//! [`Summary::write`] has a form of our own, [`Summary::write_postgresql`] that of `pg_wal/summaries`.

mod blocks;
mod hash;
mod postgresql;
mod recent;
mod records;
mod stored;

use std::collections::{BTreeMap, HashMap};
use std::hash::BuildHasherDefault;

use pgm_proto::{Lsn, TimelineId};

pub use blocks::Blocks;
pub use postgresql::{SummaryFileName, read_postgresql};
pub use stored::StoredError;

use crate::record::{Fork, Record, RecordError, RelationFile};
use hash::Fold;
use recent::Recent;

/// The block number that no block has.
const NO_LIMIT: u32 = u32::MAX;

/// One fork of one relation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelationFork {
    /// The relation.
    pub relation: RelationFile,
    /// The fork.
    pub fork: Fork,
}

/// What changed in a fork.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForkChanges {
    limit: u32,
    blocks: Blocks,
    /// With [`Rules::Complete`], the blocks that were forgotten because of the limit: none is below it.
    forgotten: Blocks,
}

/// Which changes are noted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Rules {
    /// Exactly those of PostgreSQL's summarizer.
    #[default]
    PostgreSql,
    /// Also, apart from those, the pages of the visibility map that change without being referred to.
    Complete,
}

/// Why a summary cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum SummaryError {
    /// The WAL could not be read.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// A record that removes, truncates or makes relations is shorter than what it says.
    #[error("the record at {lsn} cannot be summarised: it is shorter than it claims")]
    Short {
        /// Where it begins.
        lsn: Lsn,
    },
}

/// The blocks that changed in a range of one timeline's WAL.
#[derive(Debug, Clone)]
pub struct Summary {
    /// The timeline.
    pub timeline: TimelineId,
    /// Where it begins.
    pub start: Lsn,
    /// Where it ends.
    pub end: Lsn,
    /// Where WAL begins that does not tell all changes (`wal_level = minimal`), if any of it does.
    pub minimal: Option<Lsn>,
    forks: HashMap<RelationFork, ForkChanges, BuildHasherDefault<Fold>>,
    /// What PostgreSQL leaves out, with [`Rules::Complete`].
    unlisted: BTreeMap<RelationFork, Blocks>,
    rules: Rules,
    /// Some of the blocks that are in `forks`.
    recent: Recent,
}

impl PartialEq for Summary {
    fn eq(&self, other: &Self) -> bool {
        (self.timeline, self.start, self.end, self.minimal)
            == (other.timeline, other.start, other.end, other.minimal)
            && self.forks == other.forks
            && self.unlisted == other.unlisted
    }
}

impl Summary {
    /// An empty summary that begins at `start`.
    pub fn new(timeline: TimelineId, start: Lsn, rules: Rules) -> Self {
        Self {
            timeline,
            start,
            end: start,
            minimal: None,
            forks: HashMap::default(),
            unlisted: BTreeMap::new(),
            rules,
            recent: Recent::default(),
        }
    }

    /// Counts in the next record.
    pub fn add(&mut self, record: &Record<'_>) -> Result<(), SummaryError> {
        records::add(self, record).ok_or(SummaryError::Short { lsn: record.lsn })?;
        self.end = record.end_lsn;
        Ok(())
    }

    /// Counts in one block of a fork.
    pub fn note(&mut self, fork: RelationFork, block: u32) {
        self.changes(fork).blocks.insert(block);
    }

    /// Counts in what `later` says, a summary of the WAL that follows.
    pub fn merge(&mut self, later: &Self) {
        for (fork, changes) in &later.forks {
            let lowers = changes.limit < self.changes(*fork).limit;
            if lowers {
                self.limit(*fork, changes.limit);
            }
            let known = self.changes(*fork);
            known.blocks.extend(&changes.blocks);
            // Where the limit was that low before, the later one would not have made anybody forget them.
            if lowers {
                known.forgotten.extend(&changes.forgotten);
            } else {
                known.blocks.extend(&changes.forgotten);
            }
        }
        for (fork, blocks) in &later.unlisted {
            self.unlisted.entry(*fork).or_default().extend(blocks);
        }
        self.minimal = self.minimal.or(later.minimal);
        self.end = later.end;
        self.timeline = later.timeline;
    }

    /// Counts in what was noted besides with [`Rules::Complete`].
    #[must_use]
    pub fn completed(mut self) -> Self {
        for (fork, blocks) in std::mem::take(&mut self.unlisted) {
            self.changes(fork).blocks.extend(&blocks);
        }
        self
    }

    /// What changed, by relation and fork.
    pub fn forks(&self) -> Vec<(RelationFork, &ForkChanges)> {
        let mut forks: Vec<_> = self
            .forks
            .iter()
            .map(|(fork, changes)| (*fork, changes))
            .collect();
        forks.sort_by_key(|(fork, _)| *fork);
        forks
    }

    /// What changed in one fork.
    pub fn fork(&self, fork: RelationFork) -> Option<&ForkChanges> {
        self.forks.get(&fork)
    }

    /// How many forks and how many blocks changed.
    pub fn counts(&self) -> (usize, u64) {
        let blocks = self.forks.values().map(|changes| changes.blocks.len());
        (self.forks.len(), blocks.sum())
    }

    fn changes(&mut self, fork: RelationFork) -> &mut ForkChanges {
        self.forks.entry(fork).or_insert_with(|| ForkChanges {
            limit: NO_LIMIT,
            blocks: Blocks::default(),
            forgotten: Blocks::default(),
        })
    }

    /// Notes that `block` changed (`BlockRefTableMarkBlockModified`).
    fn mark(&mut self, fork: RelationFork, block: u32) {
        if self.recent.is_new(fork, block) {
            self.changes(fork).blocks.insert(block);
        }
    }

    /// Notes that `block` changed, and that PostgreSQL does not list it for that.
    fn mark_unlisted(&mut self, fork: RelationFork, block: u32) {
        self.unlisted.entry(fork).or_default().insert(block);
    }

    /// Notes that the fork had `limit` blocks (`BlockRefTableSetLimitBlock`): a length that is not less than one that is
    /// known already changes nothing.
    fn limit(&mut self, fork: RelationFork, limit: u32) {
        let rules = self.rules;
        let changes = self.changes(fork);
        if limit < changes.limit {
            changes.limit = limit;
            if rules == Rules::Complete {
                let forgotten = changes.blocks.iter().filter(|block| *block >= limit);
                forgotten.for_each(|block| changes.forgotten.insert(block));
            }
            changes.blocks.truncate(limit);
            if let Some(unlisted) = self.unlisted.get_mut(&fork) {
                unlisted.truncate(limit);
            }
            self.recent.clear();
        }
    }
}

impl ForkChanges {
    /// The least length that the fork is known to have had; `None` when it was not shortened, made or removed.
    pub fn limit(&self) -> Option<u32> {
        (self.limit != NO_LIMIT).then_some(self.limit)
    }

    /// The blocks that changed.
    pub const fn blocks(&self) -> &Blocks {
        &self.blocks
    }
}

#[cfg(test)]
mod tests;
