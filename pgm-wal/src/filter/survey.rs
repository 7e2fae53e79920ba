//! One look at every record: what must be changed in it, what speaks against it, and who depends on what is left out.
//!
//! ```text
//! commit of a left-out transaction                              becomes its abort
//! removal of a database's or tablespace's folder by one         becomes a noop
//! a page is visible in all rows, on which one changed rows      becomes a noop
//! image of such a page, or of its place in the visibility map   loses what says that one has committed
//! ```
//!
//! Obstacles: removed rows that would have to come back were vacuumed away; written rows that would have to disappear were
//! frozen; a catalog that PostgreSQL finds by a map was rewritten. A transaction depends on what is left out when it
//! changes a row version that is, writes to a table or database that is, or rewrites a table in which there is one.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::heap::{self, Effect, Row};
use super::image::{self, Page};
use super::recompress::recompress;
use super::replacement;
use super::rows::Rows;
use super::transaction::{LeftOut, Transaction};
use super::{Dependence, DependenceKind, Dependent, FilterError, Obstacle, ObstacleKind};
use crate::record::describe::Data;
use crate::record::{
    BLOCK_BYTES, Block, Fork, ImageCompression, MadeRelation, RESOURCE_MANAGER_TRANSACTION,
    RESOURCE_MANAGER_XLOG, Record, RelationFile, RelationNames, TransactionEnd, WalVersion,
    removed_relations,
};

const STORAGE: u8 = 2;
const STORAGE_CREATE: u8 = 0x10;
const DATABASE: u8 = 4;
const TABLESPACE: u8 = 5;
const TABLESPACE_DROP: u8 = 0x10;
const RELATION_MAP: u8 = 7;
const STANDBY: u8 = 8;
const RUNNING_TRANSACTIONS: u8 = 0x10;

/// How many obstacles are kept: whoever reads more of them learns nothing.
const OBSTACLES_MAX: usize = 50;

/// What becomes of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    Keep,
    Abort,
    Noop,
    /// Its images are changed as [`Survey::patched`] says.
    Images,
}

/// What was learned from the records so far.
#[derive(Debug)]
pub(super) struct Survey<'a> {
    left_out: &'a LeftOut,
    rows: Rows,
    pub(super) names: RelationNames,
    /// Databases and files, as `pg_class` names them, that were made by what is left out.
    made: BTreeSet<(u32, u32)>,
    made_databases: HashSet<u32>,
    /// Of each transaction that goes on: why it depends on what is left out.
    depending: BTreeMap<u32, Dependence>,
    /// Transactions that made a relation and go on.
    making: HashSet<u32>,
    pub(super) dependents: Vec<Dependent>,
    pub(super) obstacles: Vec<Obstacle>,
    /// The first number that no transaction had at the beginning.
    pub(super) next_xid: Option<u32>,
    /// Files that what is left out removed; they are there again.
    pub(super) kept_files: Vec<RelationFile>,
    pub(super) written_rows: u64,
    pub(super) removed_rows: u64,
    patched: Vec<u8>,
}

impl<'a> Survey<'a> {
    pub(super) fn new(left_out: &'a LeftOut) -> Self {
        Self {
            left_out,
            rows: Rows::default(),
            names: RelationNames::default(),
            made: BTreeSet::new(),
            made_databases: HashSet::new(),
            depending: BTreeMap::new(),
            making: HashSet::new(),
            dependents: Vec::new(),
            obstacles: Vec::new(),
            next_xid: None,
            kept_files: Vec::new(),
            written_rows: 0,
            removed_rows: 0,
            patched: Vec::new(),
        }
    }

    /// Files that what is left out made; they stay behind, and nothing names them.
    pub(super) const fn made(&self) -> &BTreeSet<(u32, u32)> {
        &self.made
    }

    /// The relations in which rows come back.
    pub(super) fn relations_with_removals(&self) -> Vec<RelationFile> {
        self.rows.relations_with_removals()
    }

    /// The record with changed images, after [`Change::Images`].
    pub(super) fn patched(&self) -> &[u8] {
        &self.patched
    }

    /// Looks at the next record.
    pub(super) fn look(&mut self, record: &Record<'_>) -> Change {
        self.names.observe(record);
        self.next_xid = self.next_xid.or_else(|| next_xid(record));
        let left_out = self.left_out.has(record.xid);
        if self.left_out.is_committed_by(record) {
            self.kept_files.extend(removed_relations(record));
            return Change::Abort;
        }
        if left_out && removes_folder(record) {
            return Change::Noop;
        }
        if left_out && record.resource_manager == RELATION_MAP {
            self.obstacle(record, None, ObstacleKind::CatalogRewritten);
        }
        if record.resource_manager == RESOURCE_MANAGER_TRANSACTION {
            self.end_transaction(record);
        }
        self.note_files(record, left_out);
        if let Some((relation, block)) = heap::visible_page(record)
            && self.rows.has(relation, block)
        {
            return Change::Noop;
        }
        let change = self.look_at_images(record);
        self.look_at_rows(record, left_out);
        if !left_out {
            self.look_at_use(record);
        }
        change
    }

    /// The error for a record that must be changed and cannot be.
    pub(super) fn unchangeable(record: &Record<'_>) -> FilterError {
        FilterError::Obstacles {
            obstacles: vec![Obstacle {
                lsn: record.lsn,
                relation: None,
                kind: ObstacleKind::Unreadable,
            }],
            names: Box::default(),
        }
    }

    fn obstacle(
        &mut self,
        record: &Record<'_>,
        relation: Option<RelationFile>,
        kind: ObstacleKind,
    ) {
        let known = self
            .obstacles
            .iter()
            .any(|known| known.kind == kind && known.relation == relation);
        if !known && self.obstacles.len() < OBSTACLES_MAX {
            self.obstacles.push(Obstacle {
                lsn: record.lsn,
                relation,
                kind,
            });
        }
    }

    fn depends(&mut self, record: &Record<'_>, relation: RelationFile, kind: DependenceKind) {
        self.depending.entry(record.xid).or_insert(Dependence {
            lsn: record.lsn,
            relation,
            kind,
        });
    }

    /// Decides about a transaction that was not left out.
    fn end_transaction(&mut self, record: &Record<'_>) {
        let Some(transaction) = Transaction::committed_by(record) else {
            if let Some(end) = TransactionEnd::of(record) {
                self.depending.remove(&end.xid);
                self.making.remove(&end.xid);
            }
            return;
        };
        let xids: Vec<u32> = transaction.xids().collect();
        let makes = xids.iter().any(|xid| self.making.contains(xid));
        let rewritten = removed_relations(record)
            .find(|relation| makes && self.rows.has_relation(*relation))
            .map(|relation| Dependence {
                lsn: record.lsn,
                relation,
                kind: DependenceKind::Rewrites,
            });
        let why = xids
            .iter()
            .filter_map(|xid| self.depending.remove(xid))
            .chain(rewritten)
            .min_by_key(|why| why.lsn);
        for xid in xids {
            self.making.remove(&xid);
        }
        if let Some(why) = why {
            self.dependents.push(Dependent { transaction, why });
        }
    }

    /// Notes which relations and databases are made.
    fn note_files(&mut self, record: &Record<'_>, left_out: bool) {
        let data = Data(record.main_data);
        let file = match (record.resource_manager, record.operation()) {
            (STORAGE, STORAGE_CREATE) => data.relation(0).map(|made| (made.database, made.number)),
            (heap::HEAP, _) => MadeRelation::of(record)
                .filter(|made| made.file != 0)
                .map(|made| (made.database, made.file)),
            _ => None,
        };
        if !left_out {
            if file.is_some() && record.xid != 0 {
                self.making.insert(record.xid);
            }
            return;
        }
        self.made.extend(file);
        if record.resource_manager == DATABASE && !removes_folder(record) {
            self.made_databases.extend(data.u32(0));
        }
    }

    /// Compares full-page images with what is known of the pages, and makes them forget commits.
    fn look_at_images(&mut self, record: &Record<'_>) -> Change {
        self.patched.clear();
        for block in record.blocks() {
            let Some(image) = block.image else {
                continue;
            };
            let on_map =
                block.fork == Fork::VisibilityMap && self.rows.has_relation(block.relation);
            let on_table = block.fork == Fork::Main && self.rows.has(block.relation, block.number);
            if !on_map && !on_table {
                continue;
            }
            let mut page: Page = [0; BLOCK_BYTES];
            if image.restore(&mut page).is_err() {
                self.obstacle(record, Some(block.relation), ObstacleKind::Unreadable);
                continue;
            }
            let before = page;
            if on_map {
                let pages = self
                    .rows
                    .blocks(block.relation, image::mapped(block.number));
                image::clear_visibility(&mut page, pages);
            } else {
                self.compare(record, &block, &page);
                image::clear_hints(&mut page, self.left_out.xids());
            }
            if page != before {
                self.patch(record, &block, &page);
            }
        }
        if self.patched.is_empty() {
            return Change::Keep;
        }
        replacement::seal(&mut self.patched);
        Change::Images
    }

    fn compare(&mut self, record: &Record<'_>, block: &Block<'_>, page: &Page) {
        let Some(rows) = self.rows.find(block.relation, block.number) else {
            return;
        };
        let seen = image::compare(page, rows, self.left_out.xids());
        if seen.pruned {
            self.obstacle(record, Some(block.relation), ObstacleKind::RowsGone);
        }
        if seen.frozen {
            self.obstacle(record, Some(block.relation), ObstacleKind::RowsFrozen);
        }
    }

    /// Puts the changed page into the record.
    fn patch(&mut self, record: &Record<'_>, block: &Block<'_>, page: &Page) {
        let Some(image) = block.image else {
            return;
        };
        let (begin, len) = (usize::from(image.hole_offset), usize::from(image.hole_len));
        let mut stored = page[..begin].to_vec();
        stored.extend_from_slice(&page[begin + len..]);
        if image.compression != ImageCompression::None {
            let Some(compressed) = recompress(&stored, image.compression, image.bytes.len()) else {
                let relation = Some(block.relation);
                return self.obstacle(record, relation, ObstacleKind::CompressedImage);
            };
            stored = compressed;
        }
        if self.patched.is_empty() {
            match replacement::whole(record) {
                Some(whole) => self.patched = whole,
                None => return self.obstacle(record, None, ObstacleKind::Unreadable),
            }
        }
        // The image is a part of the record's bytes.
        let at = image.bytes.as_ptr().addr() - record.bytes().as_ptr().addr();
        self.patched[at..at + image.bytes.len()].copy_from_slice(&stored);
    }

    /// Follows what happens to rows.
    fn look_at_rows(&mut self, record: &Record<'_>, left_out: bool) {
        for block in record.blocks() {
            if block.starts_empty
                && block.fork == Fork::Main
                && let Some(page) = self.rows.forget(block.relation, block.number)
                && !page.removed.is_empty()
            {
                self.obstacle(record, Some(block.relation), ObstacleKind::RowsGone);
            }
        }
        let mut effects = [None; 2];
        let mut rest = Vec::new();
        let understood = heap::effects(record, &mut |effect| match effects
            .iter_mut()
            .find(|slot| slot.is_none())
        {
            Some(slot) => *slot = Some(effect),
            None => rest.push(effect),
        });
        if understood.is_none() {
            self.obstacle(record, None, ObstacleKind::Unreadable);
        }
        for effect in effects.into_iter().flatten().chain(rest) {
            match effect {
                Effect::Pruned(_) | Effect::Frozen(_) => self.foreign(record, effect),
                _ if left_out => self.own(effect),
                _ => self.foreign(record, effect),
            }
        }
    }

    /// Notes what a left-out transaction does to a row.
    fn own(&mut self, effect: Effect) {
        match effect {
            Effect::Inserted(row) => {
                self.written_rows += 1;
                self.rows
                    .at(row.relation, row.block)
                    .inserted
                    .insert(row.offset);
            }
            Effect::Deleted(row) => {
                self.remove(row);
            }
            Effect::Updated { old, new } => {
                self.written_rows += 1;
                let was_there = self.remove(old);
                let page = self.rows.at(new.relation, new.block);
                if was_there {
                    page.versions.insert(new.offset);
                } else {
                    page.inserted.insert(new.offset);
                }
            }
            Effect::Pruned(_) | Effect::Frozen(_) => {}
        }
    }

    /// Whether the row was there before the transactions began.
    fn remove(&mut self, row: Row) -> bool {
        let page = self.rows.at(row.relation, row.block);
        if page.inserted.contains(row.offset) {
            return false;
        }
        if !page.versions.contains(row.offset) {
            self.removed_rows += 1;
            page.removed.insert(row.offset);
        }
        true
    }

    /// Looks for a row of a left-out transaction in what another one does.
    fn foreign(&mut self, record: &Record<'_>, effect: Effect) {
        let row = match effect {
            Effect::Inserted(row)
            | Effect::Deleted(row)
            | Effect::Updated { old: row, .. }
            | Effect::Pruned(row)
            | Effect::Frozen(row) => row,
        };
        let Some(page) = self.rows.find(row.relation, row.block) else {
            return;
        };
        let (wrote, removed) = (page.wrote(row.offset), page.removed.contains(row.offset));
        let relation = Some(row.relation);
        match effect {
            Effect::Updated { .. } if wrote => {
                self.depends(record, row.relation, DependenceKind::ChangesRow);
            }
            // A row that is not there need not be deleted.
            Effect::Deleted(_) if page.versions.contains(row.offset) => {
                self.depends(record, row.relation, DependenceKind::ChangesRow);
            }
            Effect::Pruned(_) => {
                page.forget(row.offset);
                if removed {
                    self.obstacle(record, relation, ObstacleKind::RowsGone);
                }
            }
            Effect::Frozen(_) if wrote => {
                self.obstacle(record, relation, ObstacleKind::RowsFrozen);
            }
            _ => {}
        }
    }

    /// Looks for the use of a relation or database that is not there without what is left out.
    fn look_at_use(&mut self, record: &Record<'_>) {
        if self.made.is_empty() && self.made_databases.is_empty() || record.xid == 0 {
            return;
        }
        let rows = matches!(record.resource_manager, heap::HEAP | heap::HEAP2);
        for block in record.blocks().filter(|block| block.fork == Fork::Main) {
            let relation = block.relation;
            let in_relation = self.made.contains(&(relation.database, relation.number))
                // Only tables are written to for their own sake; an index that is made is made again.
                && (rows || !self.kept_files.is_empty());
            if in_relation || self.made_databases.contains(&relation.database) {
                self.depends(record, relation, DependenceKind::UsesRelation);
            }
        }
    }
}

/// Whether `record` removes the folder of a database or tablespace.
fn removes_folder(record: &Record<'_>) -> bool {
    match record.resource_manager {
        DATABASE if record.version == WalVersion::V14 => record.operation() == 0x10,
        DATABASE => record.operation() == 0x20,
        TABLESPACE => record.operation() == TABLESPACE_DROP,
        _ => false,
    }
}

/// The first number that no transaction had yet, where a record says it.
fn next_xid(record: &Record<'_>) -> Option<u32> {
    let data = Data(record.main_data);
    match (record.resource_manager, record.operation()) {
        // Checkpoints: a 64-bit number, of which the lower half counts.
        (RESOURCE_MANAGER_XLOG, 0x00 | 0x10) => data.u32(24),
        (STANDBY, RUNNING_TRANSACTIONS) => data.u32(12),
        _ => None,
    }
}
