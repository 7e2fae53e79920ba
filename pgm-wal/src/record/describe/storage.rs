//! Storage, RelMap and Sequence: files of relations. Follows `smgrdesc.c`, `relmapdesc.c`, `seqdesc.c`.

use super::data::{Data, path, put};
use crate::record::entry::Record;
use crate::record::page::WalVersion;

pub(super) fn name(info: u8, _: WalVersion) -> Option<&'static str> {
    match info & 0xF0 {
        0x10 => Some("CREATE"),
        0x20 => Some("TRUNCATE"),
        _ => None,
    }
}

pub(super) fn describe(record: &Record<'_>, out: &mut String) -> Option<()> {
    let data = Data(record.main_data);
    match record.operation() {
        0x10 => path(out, data.relation(0)?, data.u32(12)?, record.version),
        0x20 => {
            path(out, data.relation(4)?, 0, record.version)?;
            put(
                out,
                format_args!(" to {} blocks flags {}", data.u32(0)?, data.i32(16)?),
            )
        }
        _ => Some(()),
    }
}

pub(super) fn map_name(info: u8, _: WalVersion) -> Option<&'static str> {
    (info & 0xF0 == 0).then_some("UPDATE")
}

pub(super) fn describe_map(record: &Record<'_>, out: &mut String) -> Option<()> {
    let data = Data(record.main_data);
    if record.operation() != 0 {
        return Some(());
    }
    put(
        out,
        format_args!(
            "database {} tablespace {} size {}",
            data.u32(0)?,
            data.u32(4)?,
            data.i32(8)?
        ),
    )
}

pub(super) fn sequence_name(info: u8, _: WalVersion) -> Option<&'static str> {
    (info & 0xF0 == 0).then_some("LOG")
}

pub(super) fn describe_sequence(record: &Record<'_>, out: &mut String) -> Option<()> {
    if record.operation() != 0 {
        return Some(());
    }
    put(
        out,
        format_args!("rel {}", Data(record.main_data).relation(0)?),
    )
}
