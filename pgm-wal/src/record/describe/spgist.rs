//! SP-GiST indexes. Follows `spgdesc.c`.

use super::data::{Data, letter, put};
use crate::record::entry::Record;
use crate::record::page::WalVersion;

pub(super) fn name(info: u8, _: WalVersion) -> Option<&'static str> {
    Some(match info & 0xF0 {
        0x10 => "ADD_LEAF",
        0x20 => "MOVE_LEAFS",
        0x30 => "ADD_NODE",
        0x40 => "SPLIT_TUPLE",
        0x50 => "PICKSPLIT",
        0x60 => "VACUUM_LEAF",
        0x70 => "VACUUM_ROOT",
        0x80 => "VACUUM_REDIRECT",
        _ => return None,
    })
}

pub(super) fn describe(record: &Record<'_>, out: &mut String) -> Option<()> {
    let data = Data(record.main_data);
    let u16 = |at| data.u16(at);
    match record.operation() {
        0x10 => {
            put(
                out,
                format_args!(
                    "off: {}, headoff: {}, parentoff: {}, nodeI: {}",
                    u16(2)?,
                    u16(4)?,
                    u16(6)?,
                    u16(8)?
                ),
            )?;
            flags(out, data, &[(0, "newpage"), (1, "nulls")])
        }
        0x20 => {
            put(
                out,
                format_args!(
                    "nmoves: {}, parentoff: {}, nodeI: {}",
                    u16(0)?,
                    u16(6)?,
                    u16(8)?
                ),
            )?;
            flags(
                out,
                data,
                &[(2, "newpage"), (3, "replacedead"), (4, "nulls")],
            )
        }
        0x30 => {
            put(
                out,
                format_args!(
                    "off: {}, newoff: {}, parentBlk: {}, parentoff: {}, nodeI: {}",
                    u16(0)?,
                    u16(2)?,
                    data.u8(5)?.cast_signed(),
                    u16(6)?,
                    u16(8)?
                ),
            )?;
            flags(out, data, &[(4, "newpage")])
        }
        0x40 => {
            put(
                out,
                format_args!("prefixoff: {}, postfixoff: {}", u16(0)?, u16(2)?),
            )?;
            flags(out, data, &[(4, "newpage"), (5, "same")])
        }
        0x50 => {
            put(
                out,
                format_args!(
                    "ndelete: {}, ninsert: {}, inneroff: {}, parentoff: {}, nodeI: {}",
                    u16(2)?,
                    u16(4)?,
                    u16(8)?,
                    u16(14)?,
                    u16(16)?
                ),
            )?;
            flags(
                out,
                data,
                &[(12, "innerIsParent"), (11, "nulls"), (0, "isRootSplit")],
            )
        }
        0x60 => put(
            out,
            format_args!(
                "ndead: {}, nplaceholder: {}, nmove: {}, nchain: {}",
                u16(0)?,
                u16(2)?,
                u16(4)?,
                u16(6)?
            ),
        ),
        0x70 => put(out, format_args!("ndelete: {}", u16(0)?)),
        0x80 => redirect(record, out),
        _ => Some(()),
    }
}

fn redirect(record: &Record<'_>, out: &mut String) -> Option<()> {
    let data = Data(record.main_data);
    let xid = if record.version >= WalVersion::V16 {
        "snapshotConflictHorizon"
    } else {
        "newestredirectxid"
    };
    put(
        out,
        format_args!(
            "ntoplaceholder: {}, firstplaceholder: {}, {xid}: {}",
            data.u16(0)?,
            data.u16(2)?,
            data.u32(4)?
        ),
    )?;
    if record.version >= WalVersion::V17 {
        put(
            out,
            format_args!(", isCatalogRel: {}", letter(data.bool(8)?)),
        )?;
    }
    Some(())
}

/// Writes ` (name)` for each byte that is set.
fn flags(out: &mut String, data: Data<'_>, names: &[(usize, &str)]) -> Option<()> {
    for (at, name) in names {
        if data.bool(*at)? {
            put(out, format_args!(" ({name})"))?;
        }
    }
    Some(())
}
