//! Hash indexes. Follows `hashdesc.c`.

use super::data::{Data, general, letter, put};
use crate::record::entry::Record;
use crate::record::page::WalVersion;

const UPDATE_MASKS: u8 = 0x01;
const UPDATE_SPLIT_POINT: u8 = 0x02;

pub(super) fn name(info: u8, _: WalVersion) -> Option<&'static str> {
    Some(match info & 0xF0 {
        0x00 => "INIT_META_PAGE",
        0x10 => "INIT_BITMAP_PAGE",
        0x20 => "INSERT",
        0x30 => "ADD_OVFL_PAGE",
        0x40 => "SPLIT_ALLOCATE_PAGE",
        0x50 => "SPLIT_PAGE",
        0x60 => "SPLIT_COMPLETE",
        0x70 => "MOVE_PAGE_CONTENTS",
        0x80 => "SQUEEZE_PAGE",
        0x90 => "DELETE",
        0xA0 => "SPLIT_CLEANUP",
        0xB0 => "UPDATE_META_PAGE",
        0xC0 => "VACUUM_ONE_PAGE",
        _ => return None,
    })
}

pub(super) fn describe(record: &Record<'_>, out: &mut String) -> Option<()> {
    let data = Data(record.main_data);
    let flag = |at| data.bool(at).map(letter);
    match record.operation() {
        0x00 => {
            out.push_str("num_tuples ");
            general(out, data.f64(0)?)?;
            put(out, format_args!(", fillfactor {}", data.u16(12)?))
        }
        0x10 => put(out, format_args!("bmsize {}", data.u16(0)?)),
        0x20 => put(out, format_args!("off {}", data.u16(0)?)),
        0x30 => put(
            out,
            format_args!("bmsize {}, bmpage_found {}", data.u16(0)?, flag(2)?),
        ),
        0x40 => {
            let flags = data.u8(8)?;
            put(
                out,
                format_args!(
                    "new_bucket {}, meta_page_masks_updated {}, issplitpoint_changed {}",
                    data.u32(0)?,
                    letter(flags & UPDATE_MASKS != 0),
                    letter(flags & UPDATE_SPLIT_POINT != 0)
                ),
            )
        }
        0x60 => put(
            out,
            format_args!(
                "old_bucket_flag {}, new_bucket_flag {}",
                data.u16(0)?,
                data.u16(2)?
            ),
        ),
        0x70 => put(
            out,
            format_args!("ntups {}, is_primary {}", data.u16(0)?, flag(2)?),
        ),
        0x80 => put(
            out,
            format_args!(
                "prevblkno {}, nextblkno {}, ntups {}, is_primary {}",
                data.u32(0)?,
                data.u32(4)?,
                data.u16(8)?,
                flag(10)?
            ),
        ),
        0x90 => put(
            out,
            format_args!("clear_dead_marking {}, is_primary {}", flag(0)?, flag(1)?),
        ),
        0xB0 => {
            out.push_str("ntuples ");
            general(out, data.f64(0)?)
        }
        0xC0 => vacuum(record, out),
        _ => Some(()),
    }
}

fn vacuum(record: &Record<'_>, out: &mut String) -> Option<()> {
    let data = Data(record.main_data);
    let xid = data.u32(0)?;
    if record.version < WalVersion::V16 {
        return put(
            out,
            format_args!("ntuples {}, latestRemovedXid {xid}", data.i32(4)?),
        );
    }
    put(
        out,
        format_args!("ntuples {}, snapshotConflictHorizon {xid}", data.u16(4)?),
    )?;
    if record.version >= WalVersion::V17 {
        put(
            out,
            format_args!(", isCatalogRel {}", letter(data.bool(6)?)),
        )?;
    }
    Some(())
}
