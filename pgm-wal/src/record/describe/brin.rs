//! BRIN: block range indexes. Follows `brindesc.c`.

use super::data::{Data, put};
use crate::record::entry::Record;
use crate::record::page::WalVersion;

const OPERATION: u8 = 0x70;

pub(super) fn name(info: u8, _: WalVersion) -> Option<&'static str> {
    Some(match info & 0xF0 {
        0x00 => "CREATE_INDEX",
        0x10 => "INSERT",
        0x90 => "INSERT+INIT",
        0x20 => "UPDATE",
        0xA0 => "UPDATE+INIT",
        0x30 => "SAMEPAGE_UPDATE",
        0x40 => "REVMAP_EXTEND",
        0x50 => "DESUMMARIZE",
        _ => return None,
    })
}

pub(super) fn describe(record: &Record<'_>, out: &mut String) -> Option<()> {
    let data = Data(record.main_data);
    match record.info & OPERATION {
        0x00 => put(
            out,
            format_args!("v{} pagesPerRange {}", data.u16(4)?, data.u32(0)?),
        ),
        0x10 => put(
            out,
            format_args!(
                "heapBlk {} pagesPerRange {} offnum {}",
                data.u32(0)?,
                data.u32(4)?,
                data.u16(8)?
            ),
        ),
        0x20 => put(
            out,
            format_args!(
                "heapBlk {} pagesPerRange {} old offnum {}, new offnum {}",
                data.u32(4)?,
                data.u32(8)?,
                data.u16(0)?,
                data.u16(12)?
            ),
        ),
        0x30 => put(out, format_args!("offnum {}", data.u16(0)?)),
        0x40 => put(out, format_args!("targetBlk {}", data.u32(0)?)),
        0x50 => put(
            out,
            format_args!(
                "pagesPerRange {}, heapBlk {}, page offset {}",
                data.u32(0)?,
                data.u32(4)?,
                data.u16(8)?
            ),
        ),
        _ => Some(()),
    }
}
