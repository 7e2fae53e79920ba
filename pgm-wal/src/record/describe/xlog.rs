//! XLOG: checkpoints and what else belongs to the WAL itself. Follows `xlogdesc.c`.

use super::data::{Data, full_xid, lossy, lsn, put, time};
use crate::record::entry::Record;
use crate::record::page::WalVersion;

pub(super) fn name(info: u8, version: WalVersion) -> Option<&'static str> {
    Some(match info & 0xF0 {
        0x00 => "CHECKPOINT_SHUTDOWN",
        0x10 => "CHECKPOINT_ONLINE",
        0x20 => "NOOP",
        0x30 => "NEXTOID",
        0x40 => "SWITCH",
        0x50 => "BACKUP_END",
        0x60 => "PARAMETER_CHANGE",
        0x70 => "RESTORE_POINT",
        0x80 => "FPW_CHANGE",
        0x90 => "END_OF_RECOVERY",
        0xA0 => "FPI_FOR_HINT",
        0xB0 => "FPI",
        0xD0 => "OVERWRITE_CONTRECORD",
        0xE0 if version >= WalVersion::V17 => "CHECKPOINT_REDO",
        _ => return None,
    })
}

pub(super) fn describe(record: &Record<'_>, out: &mut String) -> Option<()> {
    let data = Data(record.main_data);
    match record.operation() {
        0x00 | 0x10 => checkpoint(record, out),
        0x30 => put(out, format_args!("{}", data.u32(0)?)),
        0x50 => lsn(out, data.u64(0)?),
        0x60 => parameters(data, out),
        0x70 => {
            lossy(out, data.text(8)?);
            Some(())
        }
        0x80 => put(out, format_args!("{}", data.bool(0)?)),
        0x90 => {
            put(
                out,
                format_args!("tli {}; prev tli {}; time ", data.u32(8)?, data.u32(12)?),
            )?;
            time(out, data.i64(0)?)?;
            if record.version >= WalVersion::V17 {
                put(
                    out,
                    format_args!("; wal_level {}", wal_level(data.i32(16)?)),
                )?;
            }
            Some(())
        }
        0xD0 => {
            out.push_str("lsn ");
            lsn(out, data.u64(0)?)?;
            out.push_str("; time ");
            time(out, data.i64(8)?)
        }
        0xE0 if record.version >= WalVersion::V17 => {
            put(out, format_args!("wal_level {}", wal_level(data.i32(0)?)))
        }
        _ => Some(()),
    }
}

/// `CheckPoint` in `catalog/pg_control.h`; `wal_level` fills what was padding before PostgreSQL 17.
fn checkpoint(record: &Record<'_>, out: &mut String) -> Option<()> {
    let data = Data(record.main_data);
    out.push_str("redo ");
    lsn(out, data.u64(0)?)?;
    put(
        out,
        format_args!(
            "; tli {}; prev tli {}; fpw {}; ",
            data.u32(8)?,
            data.u32(12)?,
            data.bool(16)?
        ),
    )?;
    if record.version >= WalVersion::V17 {
        put(
            out,
            format_args!("wal_level {}; ", wal_level(data.i32(20)?)),
        )?;
    }
    out.push_str("xid ");
    full_xid(out, data.u64(24)?)?;
    put(
        out,
        format_args!(
            "; oid {}; multi {}; offset {}; oldest xid {} in DB {}; oldest multi {} in DB {}; oldest/newest commit \
             timestamp xid: {}/{}; oldest running xid {}; {}",
            data.u32(32)?,
            data.u32(36)?,
            data.u32(40)?,
            data.u32(44)?,
            data.u32(48)?,
            data.u32(52)?,
            data.u32(56)?,
            data.u32(72)?,
            data.u32(76)?,
            data.u32(80)?,
            if record.operation() == 0 {
                "shutdown"
            } else {
                "online"
            }
        ),
    )
}

fn parameters(data: Data<'_>, out: &mut String) -> Option<()> {
    let on = |at| data.bool(at).map(|on| if on { "on" } else { "off" });
    put(
        out,
        format_args!(
            "max_connections={} max_worker_processes={} max_wal_senders={} max_prepared_xacts={} \
             max_locks_per_xact={} wal_level={} wal_log_hints={} track_commit_timestamp={}",
            data.i32(0)?,
            data.i32(4)?,
            data.i32(8)?,
            data.i32(12)?,
            data.i32(16)?,
            wal_level(data.i32(20)?),
            on(24)?,
            on(25)?
        ),
    )
}

const fn wal_level(number: i32) -> &'static str {
    match number {
        0 => "minimal",
        1 => "replica",
        2 => "logical",
        _ => "?",
    }
}
