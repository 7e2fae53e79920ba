//! GiST indexes. Follows `gistdesc.c`.

use super::data::{Data, full_xid, letter, put};
use crate::record::entry::Record;
use crate::record::page::WalVersion;

pub(super) fn name(info: u8, _: WalVersion) -> Option<&'static str> {
    Some(match info & 0xF0 {
        0x00 => "PAGE_UPDATE",
        0x10 => "DELETE",
        0x20 => "PAGE_REUSE",
        0x30 => "PAGE_SPLIT",
        0x60 => "PAGE_DELETE",
        0x70 => "ASSIGN_LSN",
        _ => return None,
    })
}

pub(super) fn describe(record: &Record<'_>, out: &mut String) -> Option<()> {
    let data = Data(record.main_data);
    let horizon = if record.version >= WalVersion::V16 {
        "snapshotConflictHorizon"
    } else {
        "latestRemovedXid"
    };
    let names_catalog = record.version >= WalVersion::V17;
    match record.operation() {
        0x10 => {
            put(
                out,
                format_args!(
                    "delete: {horizon} {}, nitems: {}",
                    data.u32(0)?,
                    data.u16(4)?
                ),
            )?;
            if names_catalog {
                put(
                    out,
                    format_args!(", isCatalogRel {}", letter(data.bool(6)?)),
                )?;
            }
            Some(())
        }
        0x20 => {
            put(
                out,
                format_args!(
                    "rel {}; blk {}; {horizon} ",
                    data.relation(0)?,
                    data.u32(12)?
                ),
            )?;
            full_xid(out, data.u64(16)?)?;
            if names_catalog {
                put(
                    out,
                    format_args!(", isCatalogRel {}", letter(data.bool(24)?)),
                )?;
            }
            Some(())
        }
        0x30 => put(
            out,
            format_args!("page_split: splits to {} pages", data.u16(18)?),
        ),
        0x60 => {
            out.push_str("deleteXid ");
            full_xid(out, data.u64(0)?)?;
            put(out, format_args!("; downlink {}", data.u16(8)?))
        }
        _ => Some(()),
    }
}
