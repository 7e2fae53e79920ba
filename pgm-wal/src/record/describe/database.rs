//! Database and Tablespace: folders made and removed. Follows `dbasedesc.c`, `tblspcdesc.c`.

use super::data::{Data, lossy, put};
use crate::record::entry::Record;
use crate::record::page::WalVersion;

/// From PostgreSQL 15 on.
const CREATE_WAL_LOG: u8 = 0x10;
/// From PostgreSQL 15 on.
const DROP: u8 = 0x20;
/// In PostgreSQL 14.
const DROP_14: u8 = 0x10;

pub(super) fn name(info: u8, version: WalVersion) -> Option<&'static str> {
    Some(match (info & 0xF0, version) {
        (0x00, WalVersion::V14) => "CREATE",
        (DROP_14, WalVersion::V14) | (DROP, _) => "DROP",
        (0x00, _) => "CREATE_FILE_COPY",
        (CREATE_WAL_LOG, _) => "CREATE_WAL_LOG",
        _ => return None,
    })
}

pub(super) fn describe(record: &Record<'_>, out: &mut String) -> Option<()> {
    let data = Data(record.main_data);
    match (record.operation(), record.version) {
        (0x00, _) => put(
            out,
            format_args!(
                "copy dir {}/{} to {}/{}",
                data.u32(12)?,
                data.u32(8)?,
                data.u32(4)?,
                data.u32(0)?
            ),
        ),
        (DROP_14, WalVersion::V14) | (DROP, _) => {
            out.push_str("dir");
            let database = data.u32(0)?;
            for index in 0..data.count(4)? {
                put(
                    out,
                    format_args!(" {}/{database}", data.u32(8 + index * 4)?),
                )?;
            }
            Some(())
        }
        (CREATE_WAL_LOG, _) => put(
            out,
            format_args!("create dir {}/{}", data.u32(4)?, data.u32(0)?),
        ),
        _ => Some(()),
    }
}

pub(super) fn tablespace_name(info: u8, _: WalVersion) -> Option<&'static str> {
    match info & 0xF0 {
        0x00 => Some("CREATE"),
        0x10 => Some("DROP"),
        _ => None,
    }
}

pub(super) fn describe_tablespace(record: &Record<'_>, out: &mut String) -> Option<()> {
    let data = Data(record.main_data);
    match record.operation() {
        0x00 => {
            put(out, format_args!("{} \"", data.u32(0)?))?;
            lossy(out, data.text(4)?);
            out.push('"');
            Some(())
        }
        0x10 => put(out, format_args!("{}", data.u32(0)?)),
        _ => Some(()),
    }
}
