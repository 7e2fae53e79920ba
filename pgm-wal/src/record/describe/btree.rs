//! B-tree indexes. Follows `nbtdesc.c`; up to PostgreSQL 15 without colons and arrays.

use super::data::{Data, array, full_xid, letter, offsets, put};
use crate::record::entry::Record;
use crate::record::page::WalVersion;

pub(super) fn name(info: u8, _: WalVersion) -> Option<&'static str> {
    Some(match info & 0xF0 {
        0x00 => "INSERT_LEAF",
        0x10 => "INSERT_UPPER",
        0x20 => "INSERT_META",
        0x30 => "SPLIT_L",
        0x40 => "SPLIT_R",
        0x50 => "INSERT_POST",
        0x60 => "DEDUP",
        0x70 => "DELETE",
        0x80 => "UNLINK_PAGE",
        0x90 => "UNLINK_PAGE_META",
        0xA0 => "NEWROOT",
        0xB0 => "MARK_PAGE_HALFDEAD",
        0xC0 => "VACUUM",
        0xD0 => "REUSE_PAGE",
        0xE0 => "META_CLEANUP",
        _ => return None,
    })
}

pub(super) fn describe(record: &Record<'_>, out: &mut String) -> Option<()> {
    if record.version >= WalVersion::V16 {
        describe_16(record, out)
    } else {
        describe_14(record, out)
    }
}

fn describe_14(record: &Record<'_>, out: &mut String) -> Option<()> {
    let data = Data(record.main_data);
    match record.operation() {
        0x00 | 0x10 | 0x20 | 0x50 => put(out, format_args!("off {}", data.u16(0)?)),
        0x30 | 0x40 => put(
            out,
            format_args!(
                "level {}, firstrightoff {}, newitemoff {}, postingoff {}",
                data.u32(0)?,
                data.u16(4)?,
                data.u16(6)?,
                data.u16(8)?
            ),
        ),
        0x60 => put(out, format_args!("nintervals {}", data.u16(0)?)),
        0x70 => put(
            out,
            format_args!(
                "latestRemovedXid {}; ndeleted {}; nupdated {}",
                data.u32(0)?,
                data.u16(4)?,
                data.u16(6)?
            ),
        ),
        0x80 | 0x90 => {
            put(
                out,
                format_args!(
                    "left {}; right {}; level {}; safexid ",
                    data.u32(0)?,
                    data.u32(4)?,
                    data.u32(8)?
                ),
            )?;
            full_xid(out, data.u64(16)?)?;
            put(
                out,
                format_args!(
                    "; leafleft {}; leafright {}; leaftopparent {}",
                    data.u32(24)?,
                    data.u32(28)?,
                    data.u32(32)?
                ),
            )
        }
        0xA0 => put(out, format_args!("lev {}", data.u32(4)?)),
        0xB0 => put(
            out,
            format_args!(
                "topparent {}; leaf {}; left {}; right {}",
                data.u32(16)?,
                data.u32(4)?,
                data.u32(8)?,
                data.u32(12)?
            ),
        ),
        0xC0 => put(
            out,
            format_args!("ndeleted {}; nupdated {}", data.u16(0)?, data.u16(2)?),
        ),
        0xD0 => {
            put(
                out,
                format_args!("rel {}; latestRemovedXid ", data.relation(0)?),
            )?;
            full_xid(out, data.u64(16)?)
        }
        0xE0 => put(
            out,
            format_args!(
                "last_cleanup_num_delpages {}",
                Data(record.block(0)?.data).u32(20)?
            ),
        ),
        _ => Some(()),
    }
}

fn describe_16(record: &Record<'_>, out: &mut String) -> Option<()> {
    let data = Data(record.main_data);
    match record.operation() {
        0x00 | 0x10 | 0x20 | 0x50 => put(out, format_args!("off: {}", data.u16(0)?)),
        0x30 | 0x40 => put(
            out,
            format_args!(
                "level: {}, firstrightoff: {}, newitemoff: {}, postingoff: {}",
                data.u32(0)?,
                data.u16(4)?,
                data.u16(6)?,
                data.u16(8)?
            ),
        ),
        0x60 => put(out, format_args!("nintervals: {}", data.u16(0)?)),
        0x70 => delete(record, out),
        0x80 | 0x90 => {
            put(
                out,
                format_args!(
                    "left: {}, right: {}, level: {}, safexid: ",
                    data.u32(0)?,
                    data.u32(4)?,
                    data.u32(8)?
                ),
            )?;
            full_xid(out, data.u64(16)?)?;
            put(
                out,
                format_args!(
                    ", leafleft: {}, leafright: {}, leaftopparent: {}",
                    data.u32(24)?,
                    data.u32(28)?,
                    data.u32(32)?
                ),
            )
        }
        0xA0 => put(out, format_args!("level: {}", data.u32(4)?)),
        0xB0 => put(
            out,
            format_args!(
                "topparent: {}, leaf: {}, left: {}, right: {}",
                data.u32(16)?,
                data.u32(4)?,
                data.u32(8)?,
                data.u32(12)?
            ),
        ),
        0xC0 => {
            let (deleted, updated) = (data.u16(0)?, data.u16(2)?);
            put(
                out,
                format_args!("ndeleted: {deleted}, nupdated: {updated}"),
            )?;
            items(record, out, deleted, updated)
        }
        0xD0 => reuse(record, out),
        0xE0 => put(
            out,
            format_args!(
                "last_cleanup_num_delpages: {}",
                Data(record.block(0)?.data).u32(20)?
            ),
        ),
        _ => Some(()),
    }
}

fn delete(record: &Record<'_>, out: &mut String) -> Option<()> {
    let data = Data(record.main_data);
    let (deleted, updated) = (data.u16(4)?, data.u16(6)?);
    put(
        out,
        format_args!(
            "snapshotConflictHorizon: {}, ndeleted: {deleted}, nupdated: {updated}",
            data.u32(0)?
        ),
    )?;
    if record.version >= WalVersion::V17 {
        put(
            out,
            format_args!(", isCatalogRel: {}", letter(data.bool(8)?)),
        )?;
    }
    items(record, out, deleted, updated)
}

fn reuse(record: &Record<'_>, out: &mut String) -> Option<()> {
    let data = Data(record.main_data);
    put(
        out,
        format_args!("rel: {}, snapshotConflictHorizon: ", data.relation(0)?),
    )?;
    full_xid(out, data.u64(16)?)?;
    if record.version >= WalVersion::V17 {
        put(
            out,
            format_args!(", isCatalogRel: {}", letter(data.bool(24)?)),
        )?;
    }
    Some(())
}

/// The items that were deleted, and the posting lists that were shortened.
fn items(record: &Record<'_>, out: &mut String, deleted: u16, updated: u16) -> Option<()> {
    let data = match record.block(0) {
        Some(block) if !block.data.is_empty() => Data(block.data),
        _ => return Some(()),
    };
    let (deleted, updated) = (usize::from(deleted), usize::from(updated));
    out.push_str(", deleted:");
    offsets(out, data, deleted)?;
    out.push_str(", updated:");
    let updated_offsets = data.from(deleted * 2)?;
    let mut update = updated_offsets.from(updated * 2)?;
    array(out, updated, |out, index| {
        let tids = usize::from(update.u16(0)?);
        put(
            out,
            format_args!(
                "{{ off: {}, nptids: {tids}, ptids:",
                updated_offsets.u16(index * 2)?
            ),
        )?;
        offsets(out, update.from(2)?, tids)?;
        out.push_str(" }");
        update = update.from(2 + tids * 2)?;
        Some(())
    })
}
