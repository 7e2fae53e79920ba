//! What each record changes.
//!
//! Follows `SummarizeWAL` and its helpers in `postmaster/walsummarizer.c`.

use super::{RelationFork, Rules, Summary};
use crate::record::describe::{Data, Ending};
use crate::record::{Fork, Record, RelationFile, WalVersion};

const XLOG: u8 = 0;
const TRANSACTION: u8 = 1;
const STORAGE: u8 = 2;
const DATABASE: u8 = 4;
const HEAP2: u8 = 9;
const HEAP: u8 = 10;

const STORAGE_CREATE: u8 = 0x10;
const STORAGE_TRUNCATE: u8 = 0x20;
const TRUNCATES_HEAP: i32 = 1 << 0;
const TRUNCATES_VISIBILITY_MAP: i32 = 1 << 1;

const WAL_LEVEL_MINIMAL: i32 = 0;

/// Two bits for each block of the table, in the 8,168 bytes of a page of the visibility map.
const BLOCKS_PER_MAP_PAGE: u32 = (8192 - 24) * 4;

/// Counts in `record`; `None` when it is too short.
pub(super) fn add(summary: &mut Summary, record: &Record<'_>) -> Option<()> {
    match record.resource_manager {
        XLOG => level(summary, record)?,
        TRANSACTION => transaction(summary, record)?,
        STORAGE => storage(summary, record)?,
        DATABASE => database(summary, record)?,
        HEAP | HEAP2 if summary.rules == Rules::Complete => visibility(summary, record)?,
        _ => {}
    }
    for block in record.blocks() {
        if block.fork != Fork::FreeSpaceMap {
            let fork = RelationFork {
                relation: block.relation,
                fork: block.fork,
            };
            summary.mark(fork, block.number);
        }
    }
    Some(())
}

/// Notes where WAL of `wal_level = minimal` begins. Up to PostgreSQL 16 only a change of parameters tells it.
fn level(summary: &mut Summary, record: &Record<'_>) -> Option<()> {
    let data = Data(record.main_data);
    let newer = record.version >= WalVersion::V17;
    let level = match record.operation() {
        0x00 if newer => data.i32(20)?,
        0x60 => data.i32(20)?,
        0x90 if newer => data.i32(16)?,
        0xE0 if newer => data.i32(0)?,
        _ => return Some(()),
    };
    if level == WAL_LEVEL_MINIMAL {
        summary.minimal.get_or_insert(record.lsn);
    }
    Some(())
}

/// Removed relations have no blocks.
fn transaction(summary: &mut Summary, record: &Record<'_>) -> Option<()> {
    // Commits and aborts, prepared or not.
    if !matches!(record.info & 0x70, 0x00 | 0x20 | 0x30 | 0x40) {
        return Some(());
    }
    let ending = Ending::of(record)?;
    for relation in ending.relations.iter() {
        for fork in Fork::ALL {
            if fork != Fork::FreeSpaceMap {
                summary.limit(RelationFork { relation, fork }, 0);
            }
        }
    }
    Some(())
}

fn storage(summary: &mut Summary, record: &Record<'_>) -> Option<()> {
    let data = Data(record.main_data);
    match record.operation() {
        STORAGE_CREATE => {
            let relation = data.relation(0)?;
            match Fork::from_number(data.u32(12)?) {
                Some(Fork::FreeSpaceMap) | None => {}
                Some(fork) => summary.limit(RelationFork { relation, fork }, 0),
            }
        }
        STORAGE_TRUNCATE => {
            let (blocks, relation, flags) = (data.u32(0)?, data.relation(4)?, data.i32(16)?);
            let of = |fork| RelationFork { relation, fork };
            if flags & TRUNCATES_HEAP != 0 {
                summary.limit(of(Fork::Main), blocks);
            }
            if flags & TRUNCATES_VISIBILITY_MAP != 0 {
                let map = of(Fork::VisibilityMap);
                summary.limit(map, blocks.div_ceil(BLOCKS_PER_MAP_PAGE));
                if summary.rules == Rules::Complete && !blocks.is_multiple_of(BLOCKS_PER_MAP_PAGE) {
                    // The bits behind the new end are cleared in the last page that stays.
                    summary.mark_unlisted(map, blocks / BLOCKS_PER_MAP_PAGE);
                }
            }
        }
        _ => {}
    }
    Some(())
}

/// A database that is made or removed counts as a relation with the number 0.
fn database(summary: &mut Summary, record: &Record<'_>) -> Option<()> {
    let data = Data(record.main_data);
    let database = data.u32(0)?;
    let mut all = |tablespace| {
        let relation = RelationFile {
            tablespace,
            database,
            number: 0,
        };
        let fork = Fork::Main;
        summary.limit(RelationFork { relation, fork }, 0);
    };
    match (record.operation(), record.version) {
        (0x10, WalVersion::V14) | (0x20, _) => {
            for index in 0..data.count(4)? {
                all(data.u32(8 + index * 4)?);
            }
        }
        (0x00 | 0x10, _) => all(data.u32(4)?),
        _ => {}
    }
    Some(())
}

/// Pages of the visibility map in which a change of a row clears bits without referring to the page.
fn visibility(summary: &mut Summary, record: &Record<'_>) -> Option<()> {
    const CLEARED: u8 = 1 << 0;
    const NEW_CLEARED: u8 = 1 << 1;
    let data = Data(record.main_data);
    let mut clear = |id| {
        let Some(block) = record.block(id) else {
            return;
        };
        let fork = RelationFork {
            relation: block.relation,
            fork: Fork::VisibilityMap,
        };
        summary.mark_unlisted(fork, block.number / BLOCKS_PER_MAP_PAGE);
    };
    let flags = match (record.resource_manager, record.info & 0x70) {
        (HEAP, 0x00) => data.u8(2)?,
        (HEAP, 0x10 | 0x60) | (HEAP2, 0x60) => data.u8(7)?,
        (HEAP2, 0x50) => data.u8(0)?,
        (HEAP, 0x20 | 0x40) => {
            let flags = data.u8(7)?;
            if flags & NEW_CLEARED != 0 {
                clear(0);
            }
            if flags & CLEARED != 0 {
                // The old row's block comes second, unless it is the new one's.
                let two = record
                    .block(1)
                    .is_some_and(|block| block.fork == Fork::Main);
                clear(u8::from(two));
            }
            return Some(());
        }
        _ => return Some(()),
    };
    if flags & CLEARED != 0 {
        clear(0);
    }
    Some(())
}
