//! Heap and Heap2: tables. Follows `heapdesc.c`, which was reworded in PostgreSQL 16 and has one record for pruning,
//! vacuuming and freezing from 17 on.

use super::data::{Data, array, letter, offsets, put};
use super::standby::invalidations;
use crate::record::entry::Record;
use crate::record::page::WalVersion;

const OPERATION: u8 = 0x70;
const INIT_PAGE: u8 = 0x80;

/// `infobits_set` in the order of its bits.
const INFO_BITS: [&str; 5] = [
    "IS_MULTI",
    "LOCK_ONLY",
    "EXCL_LOCK",
    "KEYSHR_LOCK",
    "KEYS_UPDATED",
];

const PRUNE_IS_CATALOG: u8 = 1 << 1;
const PRUNE_HAS_HORIZON: u8 = 1 << 3;
const PRUNE_HAS_FREEZE_PLANS: u8 = 1 << 4;
const PRUNE_HAS_REDIRECTIONS: u8 = 1 << 5;
const PRUNE_HAS_DEAD: u8 = 1 << 6;
const PRUNE_HAS_UNUSED: u8 = 1 << 7;

const FREEZE_PLAN_BYTES: usize = 12;

pub(super) fn name(info: u8, _: WalVersion) -> Option<&'static str> {
    Some(match info & 0xF0 {
        0x00 => "INSERT",
        0x80 => "INSERT+INIT",
        0x10 => "DELETE",
        0x20 => "UPDATE",
        0xA0 => "UPDATE+INIT",
        0x30 => "TRUNCATE",
        0x40 => "HOT_UPDATE",
        0xC0 => "HOT_UPDATE+INIT",
        0x50 => "HEAP_CONFIRM",
        0x60 => "LOCK",
        0x70 => "INPLACE",
        _ => return None,
    })
}

pub(super) fn name2(info: u8, version: WalVersion) -> Option<&'static str> {
    let newer = version >= WalVersion::V17;
    Some(match info & 0xF0 {
        0x00 => "REWRITE",
        0x10 if newer => "PRUNE_ON_ACCESS",
        0x20 if newer => "PRUNE_VACUUM_SCAN",
        0x30 if newer => "PRUNE_VACUUM_CLEANUP",
        0x10 => "PRUNE",
        0x20 => "VACUUM",
        0x30 => "FREEZE_PAGE",
        0x40 => "VISIBLE",
        0x50 => "MULTI_INSERT",
        0xD0 => "MULTI_INSERT+INIT",
        0x60 => "LOCK_UPDATED",
        0x70 => "NEW_CID",
        _ => return None,
    })
}

pub(super) fn describe(record: &Record<'_>, out: &mut String) -> Option<()> {
    if record.version < WalVersion::V16 {
        return describe_14(record, out);
    }
    let data = Data(record.main_data);
    match record.info & OPERATION {
        0x00 => put(
            out,
            format_args!("off: {}, flags: 0x{:02X}", data.u16(0)?, data.u8(2)?),
        ),
        0x10 | 0x60 => locked(data, out),
        0x20 | 0x40 => {
            put(
                out,
                format_args!("old_xmax: {}, old_off: {}, ", data.u32(0)?, data.u16(4)?),
            )?;
            info_bits(out, data.u8(6)?, "old_infobits");
            put(
                out,
                format_args!(
                    ", flags: 0x{:02X}, new_xmax: {}, new_off: {}",
                    data.u8(7)?,
                    data.u32(8)?,
                    data.u16(12)?
                ),
            )
        }
        0x30 => {
            let (relations, flags) = (data.u32(4)? as usize, data.u8(8)?);
            out.push_str("flags: [");
            names(out, flags, &["CASCADE", "RESTART_SEQS"]);
            put(out, format_args!("], nrelids: {relations}, relids:"))?;
            array(out, relations, |out, index| {
                put(out, format_args!("{}", data.u32(12 + index * 4)?))
            })
        }
        0x50 => put(out, format_args!("off: {}", data.u16(0)?)),
        _ => {
            put(out, format_args!("off: {}", data.u16(0)?))?;
            if record.version < WalVersion::V18 {
                return Some(());
            }
            let init = data.bool(12)?.then_some((data.u32(4)?, data.u32(8)?));
            invalidations(out, data.from(20)?, data.count(16)?, init)
        }
    }
}

fn describe_14(record: &Record<'_>, out: &mut String) -> Option<()> {
    let data = Data(record.main_data);
    match record.info & OPERATION {
        0x00 => put(
            out,
            format_args!("off {} flags 0x{:02X}", data.u16(0)?, data.u8(2)?),
        ),
        0x10 => {
            put(
                out,
                format_args!("off {} flags 0x{:02X} ", data.u16(4)?, data.u8(7)?),
            )?;
            info_words(out, data.u8(6)?);
            Some(())
        }
        0x20 | 0x40 => {
            put(
                out,
                format_args!(
                    "off {} xmax {} flags 0x{:02X} ",
                    data.u16(4)?,
                    data.u32(0)?,
                    data.u8(7)?
                ),
            )?;
            info_words(out, data.u8(6)?);
            put(
                out,
                format_args!("; new off {} xmax {}", data.u16(12)?, data.u32(8)?),
            )
        }
        0x30 => {
            let (relations, flags) = (data.u32(4)?, data.u8(8)?);
            for (bit, word) in ["cascade ", "restart_seqs "].into_iter().enumerate() {
                if flags & 1 << bit != 0 {
                    out.push_str(word);
                }
            }
            put(out, format_args!("nrelids {relations} relids"))?;
            super::standby::xids(out, data.from(12)?, relations as usize)
        }
        0x60 => {
            put(
                out,
                format_args!(
                    "off {}: xid {}: flags 0x{:02X} ",
                    data.u16(4)?,
                    data.u32(0)?,
                    data.u8(7)?
                ),
            )?;
            info_words(out, data.u8(6)?);
            Some(())
        }
        _ => put(out, format_args!("off {}", data.u16(0)?)),
    }
}

pub(super) fn describe2(record: &Record<'_>, out: &mut String) -> Option<()> {
    if record.version < WalVersion::V16 {
        return describe2_14(record, out);
    }
    let data = Data(record.main_data);
    match (record.info & OPERATION, record.version) {
        (0x10, WalVersion::V16) => prune_16(record, out),
        (0x20, WalVersion::V16) => {
            let unused = data.u16(0)?;
            put(out, format_args!("nunused: {unused}"))?;
            if let Some(items) = block_data(record) {
                out.push_str(", unused:");
                offsets(out, items, usize::from(unused))?;
            }
            Some(())
        }
        (0x30, WalVersion::V16) => {
            let plans = usize::from(data.u16(4)?);
            put(
                out,
                format_args!("snapshotConflictHorizon: {}, nplans: {plans}", data.u32(0)?),
            )?;
            if let Some(block) = block_data(record) {
                out.push_str(", plans:");
                freeze_plans(out, block, plans, block.from(plans * FREEZE_PLAN_BYTES)?)?;
            }
            Some(())
        }
        (0x10..=0x30, _) => prune(record, out),
        (0x40, _) => put(
            out,
            format_args!(
                "snapshotConflictHorizon: {}, flags: 0x{:02X}",
                data.u32(0)?,
                data.u8(4)?
            ),
        ),
        (0x50, _) => {
            let tuples = data.u16(2)?;
            put(
                out,
                format_args!("ntuples: {tuples}, flags: 0x{:02X}", data.u8(0)?),
            )?;
            if block_data(record).is_some() && record.info & INIT_PAGE == 0 {
                out.push_str(", offsets:");
                offsets(out, data.from(4)?, usize::from(tuples))?;
            }
            Some(())
        }
        (0x60, _) => locked(data, out),
        (0x70, _) => new_cid(data, out, [": ", ", ", ", "]),
        _ => Some(()),
    }
}

fn describe2_14(record: &Record<'_>, out: &mut String) -> Option<()> {
    let data = Data(record.main_data);
    match record.info & OPERATION {
        0x10 => put(
            out,
            format_args!(
                "latestRemovedXid {} nredirected {} ndead {}",
                data.u32(0)?,
                data.u16(4)?,
                data.u16(6)?
            ),
        ),
        0x20 => put(out, format_args!("nunused {}", data.u16(0)?)),
        0x30 => put(
            out,
            format_args!("cutoff xid {} ntuples {}", data.u32(0)?, data.u16(4)?),
        ),
        0x40 => put(
            out,
            format_args!("cutoff xid {} flags 0x{:02X}", data.u32(0)?, data.u8(4)?),
        ),
        0x50 => put(
            out,
            format_args!("{} tuples flags 0x{:02X}", data.u16(2)?, data.u8(0)?),
        ),
        0x60 => {
            put(
                out,
                format_args!(
                    "off {}: xmax {}: flags 0x{:02X} ",
                    data.u16(4)?,
                    data.u32(0)?,
                    data.u8(7)?
                ),
            )?;
            info_words(out, data.u8(6)?);
            Some(())
        }
        0x70 => new_cid(data, out, [" ", "; ", "; "]),
        _ => Some(()),
    }
}

/// The data of block 0, if it has any.
fn block_data<'a>(record: &Record<'a>) -> Option<Data<'a>> {
    let block = record.block(0).filter(|block| !block.data.is_empty())?;
    Some(Data(block.data))
}

fn prune_16(record: &Record<'_>, out: &mut String) -> Option<()> {
    let data = Data(record.main_data);
    let (redirected, dead) = (usize::from(data.u16(4)?), usize::from(data.u16(6)?));
    put(
        out,
        format_args!(
            "snapshotConflictHorizon: {}, nredirected: {redirected}, ndead: {dead}",
            data.u32(0)?
        ),
    )?;
    let Some(items) = block_data(record) else {
        return Some(());
    };
    let dead_items = items.from(redirected * 4)?;
    let unused_items = dead_items.from(dead * 2)?;
    let unused = unused_items.0.len() / 2;
    put(out, format_args!(", nunused: {unused}, redirected:"))?;
    redirections(out, items, redirected)?;
    out.push_str(", dead:");
    offsets(out, dead_items, dead)?;
    out.push_str(", unused:");
    offsets(out, unused_items, unused)
}

/// `xl_heap_prune` of PostgreSQL 17 on, and the sub-records in its block's data, each there if a flag says so.
fn prune(record: &Record<'_>, out: &mut String) -> Option<()> {
    let data = Data(record.main_data);
    let flags = data.u8(1)?;
    if flags & PRUNE_HAS_HORIZON != 0 {
        put(
            out,
            format_args!("snapshotConflictHorizon: {}", data.u32(2)?),
        )?;
    }
    put(
        out,
        format_args!(", isCatalogRel: {}", letter(flags & PRUNE_IS_CATALOG != 0)),
    )?;
    let Some(mut rest) = block_data(record) else {
        return Some(());
    };
    let mut take = |flag, header, element| -> Option<(usize, Data<'_>)> {
        if flags & flag == 0 {
            return Some((0, rest));
        }
        let count = usize::from(rest.u16(0)?);
        let items = rest.from(header)?;
        rest = items.from(count * element)?;
        Some((count, items))
    };
    let (plans, plan_items) = take(PRUNE_HAS_FREEZE_PLANS, 4, FREEZE_PLAN_BYTES)?;
    let (redirected, redirected_items) = take(PRUNE_HAS_REDIRECTIONS, 2, 4)?;
    let (dead, dead_items) = take(PRUNE_HAS_DEAD, 2, 2)?;
    let (unused, unused_items) = take(PRUNE_HAS_UNUSED, 2, 2)?;
    put(
        out,
        format_args!(
            ", nplans: {plans}, nredirected: {redirected}, ndead: {dead}, nunused: {unused}"
        ),
    )?;
    if plans > 0 {
        out.push_str(", plans:");
        freeze_plans(out, plan_items, plans, rest)?;
    }
    if redirected > 0 {
        out.push_str(", redirected:");
        redirections(out, redirected_items, redirected)?;
    }
    if dead > 0 {
        out.push_str(", dead:");
        offsets(out, dead_items, dead)?;
    }
    if unused > 0 {
        out.push_str(", unused:");
        offsets(out, unused_items, unused)?;
    }
    Some(())
}

fn redirections(out: &mut String, items: Data<'_>, count: usize) -> Option<()> {
    array(out, count, |out, index| {
        put(
            out,
            format_args!("{}->{}", items.u16(index * 4)?, items.u16(index * 4 + 2)?),
        )
    })
}

/// Plans of how rows are frozen; the rows of all plans come one after another in `rows`.
fn freeze_plans(out: &mut String, plans: Data<'_>, count: usize, mut rows: Data<'_>) -> Option<()> {
    array(out, count, |out, index| {
        let plan = plans.from(index * FREEZE_PLAN_BYTES)?;
        let tuples = usize::from(plan.u16(10)?);
        put(
            out,
            format_args!(
                "{{ xmax: {}, infomask: {}, infomask2: {}, ntuples: {tuples}, offsets:",
                plan.u32(0)?,
                plan.u16(6)?,
                plan.u16(4)?
            ),
        )?;
        offsets(out, rows, tuples)?;
        rows = rows.from(tuples * 2)?;
        out.push_str(" }");
        Some(())
    })
}

fn locked(data: Data<'_>, out: &mut String) -> Option<()> {
    put(
        out,
        format_args!("xmax: {}, off: {}, ", data.u32(0)?, data.u16(4)?),
    )?;
    info_bits(out, data.u8(6)?, "infobits");
    put(out, format_args!(", flags: 0x{:02X}", data.u8(7)?))
}

/// `separators` stand behind `rel`, before `tid` and before `cmin`.
fn new_cid(data: Data<'_>, out: &mut String, separators: [&str; 3]) -> Option<()> {
    let [rel, tid, cmin] = separators;
    let colon = if rel == " " { "" } else { ":" };
    put(
        out,
        format_args!(
            "rel{rel}{}{tid}tid{colon} {}/{}{cmin}cmin: {}, cmax: {}, combo: {}",
            data.relation(16)?,
            data.block_id(28)?,
            data.u16(32)?,
            data.u32(4)?,
            data.u32(8)?,
            data.u32(12)?
        ),
    )
}

fn info_bits(out: &mut String, bits: u8, key: &str) {
    out.push_str(key);
    out.push_str(": [");
    names(out, bits, &INFO_BITS);
    out.push(']');
}

/// Writes the names of the bits that are set, with commas between them.
fn names(out: &mut String, bits: u8, names: &[&str]) {
    let mut separator = "";
    for (bit, name) in names.iter().enumerate() {
        if bits & 1 << bit != 0 {
            out.push_str(separator);
            out.push_str(name);
            separator = ", ";
        }
    }
}

fn info_words(out: &mut String, bits: u8) {
    for (bit, name) in INFO_BITS.iter().enumerate() {
        if bits & 1 << bit != 0 {
            out.push_str(name);
            out.push(' ');
        }
    }
}
