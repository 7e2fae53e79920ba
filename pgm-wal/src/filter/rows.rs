//! The rows that transactions have written and removed, by page.
//!
//! A page costs 120 bytes, whatever happens on it; what transactions do that nobody wants to leave out costs nothing.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use crate::record::RelationFile;

/// `MaxHeapTuplesPerPage` is 291 for pages of 8192 bytes.
const WORDS: usize = 5;

/// Row numbers of one page.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Offsets([u64; WORDS]);

impl Offsets {
    /// Adds a row number; those that no page can have are passed over.
    pub(super) fn insert(&mut self, offset: u16) {
        if let Some(word) = self.0.get_mut(usize::from(offset / 64)) {
            *word |= 1 << (offset % 64);
        }
    }

    pub(super) fn remove(&mut self, offset: u16) {
        if let Some(word) = self.0.get_mut(usize::from(offset / 64)) {
            *word &= !(1 << (offset % 64));
        }
    }

    pub(super) fn contains(&self, offset: u16) -> bool {
        self.0
            .get(usize::from(offset / 64))
            .is_some_and(|word| word & 1 << (offset % 64) != 0)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0 == [0; WORDS]
    }

    pub(super) fn iter(self) -> impl Iterator<Item = u16> {
        (0..(WORDS * 64) as u16).filter(move |offset| self.contains(*offset))
    }
}

/// What was done to the rows of one page.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct PageRows {
    /// Rows that were not there before.
    pub(super) inserted: Offsets,
    /// New versions of rows.
    pub(super) versions: Offsets,
    /// Rows that were deleted, and old versions.
    pub(super) removed: Offsets,
}

impl PageRows {
    /// Whether the row was written by them.
    pub(super) fn wrote(&self, offset: u16) -> bool {
        self.inserted.contains(offset) || self.versions.contains(offset)
    }

    /// Forgets a row that is gone.
    pub(super) fn forget(&mut self, offset: u16) {
        self.inserted.remove(offset);
        self.versions.remove(offset);
        self.removed.remove(offset);
    }
}

/// The pages on which something was done.
#[derive(Debug, Default)]
pub(super) struct Rows {
    relations: HashMap<RelationFile, BTreeMap<u32, PageRows>>,
}

impl Rows {
    /// The page, made known if it was not.
    pub(super) fn at(&mut self, relation: RelationFile, block: u32) -> &mut PageRows {
        self.relations
            .entry(relation)
            .or_default()
            .entry(block)
            .or_default()
    }

    pub(super) fn find(&mut self, relation: RelationFile, block: u32) -> Option<&mut PageRows> {
        self.relations.get_mut(&relation)?.get_mut(&block)
    }

    pub(super) fn has(&self, relation: RelationFile, block: u32) -> bool {
        self.relations
            .get(&relation)
            .is_some_and(|pages| pages.contains_key(&block))
    }

    pub(super) fn has_relation(&self, relation: RelationFile) -> bool {
        self.relations.contains_key(&relation)
    }

    /// The pages of a relation among `blocks`.
    pub(super) fn blocks(
        &self,
        relation: RelationFile,
        blocks: Range<u32>,
    ) -> impl Iterator<Item = u32> {
        let pages = self.relations.get(&relation);
        pages
            .into_iter()
            .flat_map(move |pages| pages.range(blocks.clone()).map(|(block, _)| *block))
    }

    pub(super) fn forget(&mut self, relation: RelationFile, block: u32) -> Option<PageRows> {
        self.relations.get_mut(&relation)?.remove(&block)
    }

    /// The relations in which rows were removed.
    pub(super) fn relations_with_removals(&self) -> Vec<RelationFile> {
        let mut found: Vec<RelationFile> = self
            .relations
            .iter()
            .filter(|(_, pages)| pages.values().any(|page| !page.removed.is_empty()))
            .map(|(relation, _)| *relation)
            .collect();
        found.sort_unstable();
        found
    }
}
