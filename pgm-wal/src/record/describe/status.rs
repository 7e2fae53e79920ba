//! CLOG and CommitTs: pages of the transactions' states and commit times. Follows `clogdesc.c`, `committsdesc.c`.

use super::data::{Data, put};
use crate::record::entry::Record;
use crate::record::page::WalVersion;

pub(super) fn commit_name(info: u8, _: WalVersion) -> Option<&'static str> {
    name(info & 0xF0)
}

/// Unlike the others, PostgreSQL does not leave out the lower bits here.
pub(super) fn time_name(info: u8, _: WalVersion) -> Option<&'static str> {
    name(info)
}

fn name(info: u8) -> Option<&'static str> {
    match info {
        0x00 => Some("ZEROPAGE"),
        0x10 => Some("TRUNCATE"),
        _ => None,
    }
}

pub(super) fn describe_commit(record: &Record<'_>, out: &mut String) -> Option<()> {
    let (page, rest) = page_number(record)?;
    match record.operation() {
        0x00 => put(out, format_args!("page {page}")),
        0x10 => put(
            out,
            format_args!("page {page}; oldestXact {}", rest.u32(0)?),
        ),
        _ => Some(()),
    }
}

pub(super) fn describe_time(record: &Record<'_>, out: &mut String) -> Option<()> {
    let (page, rest) = page_number(record)?;
    match record.operation() {
        0x00 => put(out, format_args!("{page}")),
        0x10 => put(
            out,
            format_args!("pageno {page}, oldestXid {}", rest.u32(0)?),
        ),
        _ => Some(()),
    }
}

/// The page's number at the beginning, which has 64 bits from PostgreSQL 17 on, and what follows.
pub(super) fn page_number<'a>(record: &Record<'a>) -> Option<(i64, Data<'a>)> {
    let data = Data(record.main_data);
    if record.version >= WalVersion::V17 {
        Some((data.i64(0)?, data.from(8)?))
    } else {
        Some((i64::from(data.i32(0)?), data.from(4)?))
    }
}
