//! Standby: what a standby must know of the primary's transactions, locks and caches. Follows `standbydesc.c`.

use super::data::{Data, put};
use crate::record::entry::Record;
use crate::record::page::WalVersion;

/// The size of a `SharedInvalidationMessage`.
pub(super) const MESSAGE_BYTES: usize = 16;

pub(super) fn name(info: u8, _: WalVersion) -> Option<&'static str> {
    Some(match info & 0xF0 {
        0x00 => "LOCK",
        0x10 => "RUNNING_XACTS",
        0x20 => "INVALIDATIONS",
        _ => return None,
    })
}

pub(super) fn describe(record: &Record<'_>, out: &mut String) -> Option<()> {
    let data = Data(record.main_data);
    match record.operation() {
        0x00 => {
            for index in 0..data.count(0)? {
                let lock = data.from(4 + index * 12)?;
                put(
                    out,
                    format_args!(
                        "xid {} db {} rel {} ",
                        lock.u32(0)?,
                        lock.u32(4)?,
                        lock.u32(8)?
                    ),
                )?;
            }
            Some(())
        }
        0x10 => running(record, out),
        0x20 => {
            let init = data.bool(8)?.then_some((data.u32(0)?, data.u32(4)?));
            invalidations(out, data.from(16)?, data.count(12)?, init)
        }
        _ => Some(()),
    }
}

fn running(record: &Record<'_>, out: &mut String) -> Option<()> {
    let data = Data(record.main_data);
    let (count, subtransactions) = (data.count(0)?, data.count(4)?);
    put(
        out,
        format_args!(
            "nextXid {} latestCompletedXid {} oldestRunningXid {}",
            data.u32(12)?,
            data.u32(20)?,
            data.u32(16)?
        ),
    )?;
    if count > 0 {
        put(out, format_args!("; {count} xacts:"))?;
        xids(out, data.from(24)?, count)?;
    }
    let newer = record.version >= WalVersion::V16;
    if data.bool(8)? {
        out.push_str(if newer {
            "; subxid overflowed"
        } else {
            "; subxid ovf"
        });
    }
    if newer && subtransactions > 0 {
        put(out, format_args!("; {subtransactions} subxacts:"))?;
        xids(out, data.from(24 + count * 4)?, subtransactions)?;
    }
    Some(())
}

/// Writes ` 1 2 3`.
pub(super) fn xids(out: &mut String, data: Data<'_>, count: usize) -> Option<()> {
    for index in 0..count {
        put(out, format_args!(" {}", data.u32(index * 4)?))?;
    }
    Some(())
}

/// Writes invalidation messages; `init` is the database and tablespace whose relation cache file is invalid, too.
pub(super) fn invalidations(
    out: &mut String,
    messages: Data<'_>,
    count: usize,
    init: Option<(u32, u32)>,
) -> Option<()> {
    if count == 0 {
        return Some(());
    }
    if let Some((database, tablespace)) = init {
        put(
            out,
            format_args!("; relcache init file inval dbid {database} tsid {tablespace}"),
        )?;
    }
    out.push_str("; inval msgs:");
    for index in 0..count {
        let message = messages.from(index * MESSAGE_BYTES)?;
        match message.u8(0)?.cast_signed() {
            id @ 0.. => put(out, format_args!(" catcache {id}")),
            -1 => put(out, format_args!(" catalog {}", message.u32(8)?)),
            -2 => put(out, format_args!(" relcache {}", message.u32(8)?)),
            -3 => put(out, format_args!(" smgr")),
            -4 => put(out, format_args!(" relmap db {}", message.u32(4)?)),
            -5 => put(out, format_args!(" snapshot {}", message.u32(8)?)),
            -6 => put(out, format_args!(" relsync {}", message.u32(8)?)),
            id => put(out, format_args!(" unrecognized id {id}")),
        }?;
    }
    Some(())
}
