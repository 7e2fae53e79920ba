//! What records of tables do to rows, as far as leaving out a transaction depends on it.
//!
//! Follows `access/heapam_xlog.h` of PostgreSQL 14 to 18. What a record only says beside a full-page image is not said
//! when it has the image: then the image itself is looked at.

use crate::record::describe::Data;
use crate::record::{Block, Record, RelationFile, WalVersion};

pub(super) const HEAP2: u8 = 9;
pub(super) const HEAP: u8 = 10;

const OPERATION: u8 = 0x70;
const INIT_PAGE: u8 = 0x80;
const VISIBLE: u8 = 0x40;

/// `HEAP_XMIN_FROZEN`: both of its bits.
pub(super) const XMIN_FROZEN: u16 = 0x0300;

const PRUNE_HAS_FREEZE_PLANS: u8 = 1 << 4;
const PRUNE_HAS_REDIRECTIONS: u8 = 1 << 5;
const PRUNE_HAS_DEAD: u8 = 1 << 6;
const PRUNE_HAS_UNUSED: u8 = 1 << 7;
const PLAN_BYTES: usize = 12;

/// A row by its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) relation: RelationFile,
    pub(super) block: u32,
    pub(super) offset: u16,
}

/// Something that a record does to a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// It is new.
    Inserted(Row),
    Deleted(Row),
    /// It has a new version.
    Updated {
        old: Row,
        new: Row,
    },
    /// Its place is given free, or leads to another one.
    Pruned(Row),
    /// Its transaction is forgotten: everybody sees it.
    Frozen(Row),
}

/// Calls `each` for the effects of `record`; `None` when it is shorter than what it claims to be.
pub(super) fn effects(record: &Record<'_>, each: &mut dyn FnMut(Effect)) -> Option<()> {
    match record.resource_manager {
        HEAP => heap(record, each),
        HEAP2 => heap2(record, each),
        _ => Some(()),
    }
}

/// The page that `record` says is visible to everybody in all its rows.
pub(super) fn visible_page(record: &Record<'_>) -> Option<(RelationFile, u32)> {
    if record.resource_manager != HEAP2 || record.info & OPERATION != VISIBLE {
        return None;
    }
    let heap = record.block(1)?;
    Some((heap.relation, heap.number))
}

const fn row(block: &Block<'_>, offset: u16) -> Row {
    Row {
        relation: block.relation,
        block: block.number,
        offset,
    }
}

fn heap(record: &Record<'_>, each: &mut dyn FnMut(Effect)) -> Option<()> {
    let data = Data(record.main_data);
    match record.info & OPERATION {
        0x00 => each(Effect::Inserted(row(&record.block(0)?, data.u16(0)?))),
        0x10 => each(Effect::Deleted(row(&record.block(0)?, data.u16(4)?))),
        0x20 | 0x40 => {
            let new = record.block(0)?;
            let old = record.block(1).unwrap_or(new);
            each(Effect::Updated {
                old: row(&old, data.u16(4)?),
                new: row(&new, data.u16(12)?),
            });
        }
        _ => {}
    }
    Some(())
}

fn heap2(record: &Record<'_>, each: &mut dyn FnMut(Effect)) -> Option<()> {
    let operation = record.info & OPERATION;
    if operation == 0x50 {
        return multi_insert(record, each);
    }
    if !(0x10..=0x30).contains(&operation) {
        return Some(());
    }
    let block = record.block(0)?;
    if block.data.is_empty() {
        return Some(());
    }
    let (main, data) = (Data(record.main_data), Data(block.data));
    match (operation, record.version) {
        (_, WalVersion::V17 | WalVersion::V18) => prune(main.u8(1)?, &block, each),
        (0x10, _) => {
            let (redirected, dead) = (usize::from(main.u16(4)?), usize::from(main.u16(6)?));
            let rest = data.from(redirected * 4)?;
            pruned(&block, data, redirected, 4, each)?;
            pruned(&block, rest, dead, 2, each)?;
            let unused = rest.from(dead * 2)?;
            pruned(&block, unused, unused.0.len() / 2, 2, each)
        }
        (0x20, _) => pruned(&block, data, usize::from(main.u16(0)?), 2, each),
        (_, WalVersion::V16) => {
            let plans = usize::from(main.u16(4)?);
            frozen(&block, data, plans, data.from(plans * PLAN_BYTES)?, each)
        }
        _ => {
            for index in 0..usize::from(main.u16(4)?) {
                let tuple = data.from(index * PLAN_BYTES)?;
                if tuple.u16(8)? & XMIN_FROZEN == XMIN_FROZEN {
                    each(Effect::Frozen(row(&block, tuple.u16(4)?)));
                }
            }
            Some(())
        }
    }
}

fn multi_insert(record: &Record<'_>, each: &mut dyn FnMut(Effect)) -> Option<()> {
    let data = Data(record.main_data);
    let block = record.block(0)?;
    for index in 0..usize::from(data.u16(2)?) {
        let offset = if record.info & INIT_PAGE != 0 {
            index as u16 + 1
        } else {
            data.u16(4 + index * 2)?
        };
        each(Effect::Inserted(row(&block, offset)));
    }
    Some(())
}

/// `xl_heap_prune` of PostgreSQL 17 on: each part is there if a flag says so.
fn prune(flags: u8, block: &Block<'_>, each: &mut dyn FnMut(Effect)) -> Option<()> {
    let mut rest = Data(block.data);
    let mut plans = (0, rest);
    if flags & PRUNE_HAS_FREEZE_PLANS != 0 {
        plans = (usize::from(rest.u16(0)?), rest.from(4)?);
        rest = plans.1.from(plans.0 * PLAN_BYTES)?;
    }
    for (flag, bytes) in [
        (PRUNE_HAS_REDIRECTIONS, 4),
        (PRUNE_HAS_DEAD, 2),
        (PRUNE_HAS_UNUSED, 2),
    ] {
        if flags & flag != 0 {
            let count = usize::from(rest.u16(0)?);
            rest = rest.from(2)?;
            pruned(block, rest, count, bytes, each)?;
            rest = rest.from(count * bytes)?;
        }
    }
    frozen(block, plans.1, plans.0, rest, each)
}

/// Items of `bytes` bytes, each of which begins with the number of a row that is pruned.
fn pruned(
    block: &Block<'_>,
    items: Data<'_>,
    count: usize,
    bytes: usize,
    each: &mut dyn FnMut(Effect),
) -> Option<()> {
    for index in 0..count {
        each(Effect::Pruned(row(block, items.u16(index * bytes)?)));
    }
    Some(())
}

/// Plans of how rows are frozen; the rows of all plans come one after another.
fn frozen(
    block: &Block<'_>,
    plans: Data<'_>,
    count: usize,
    mut rows: Data<'_>,
    each: &mut dyn FnMut(Effect),
) -> Option<()> {
    for index in 0..count {
        let plan = plans.from(index * PLAN_BYTES)?;
        let tuples = usize::from(plan.u16(10)?);
        if plan.u16(6)? & XMIN_FROZEN == XMIN_FROZEN {
            for tuple in 0..tuples {
                each(Effect::Frozen(row(block, rows.u16(tuple * 2)?)));
            }
        }
        rows = rows.from(tuples * 2)?;
    }
    Some(())
}
