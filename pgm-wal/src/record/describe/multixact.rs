//! MultiXact: who holds a row together. Follows `mxactdesc.c`.

use super::data::{Data, put};
use super::status::page_number;
use crate::record::entry::Record;
use crate::record::page::WalVersion;

pub(super) fn name(info: u8, _: WalVersion) -> Option<&'static str> {
    Some(match info & 0xF0 {
        0x00 => "ZERO_OFF_PAGE",
        0x10 => "ZERO_MEM_PAGE",
        0x20 => "CREATE_ID",
        0x30 => "TRUNCATE_ID",
        _ => return None,
    })
}

pub(super) fn describe(record: &Record<'_>, out: &mut String) -> Option<()> {
    let data = Data(record.main_data);
    match record.operation() {
        0x00 | 0x10 => put(out, format_args!("{}", page_number(record)?.0)),
        0x20 => {
            let members = data.count(8)?;
            put(
                out,
                format_args!(
                    "{} offset {} nmembers {members}: ",
                    data.u32(0)?,
                    data.u32(4)?
                ),
            )?;
            for index in 0..members {
                let member = data.from(12 + index * 8)?;
                let status = match member.u32(4)? {
                    0 => "keysh",
                    1 => "sh",
                    2 => "fornokeyupd",
                    3 => "forupd",
                    4 => "nokeyupd",
                    5 => "upd",
                    _ => "unk",
                };
                put(out, format_args!("{} ({status}) ", member.u32(0)?))?;
            }
            Some(())
        }
        0x30 => put(
            out,
            format_args!(
                "offsets [{}, {}), members [{}, {})",
                data.u32(4)?,
                data.u32(8)?,
                data.u32(12)?,
                data.u32(16)?
            ),
        ),
        _ => Some(()),
    }
}
