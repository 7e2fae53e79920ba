//! LogicalMessage, ReplicationOrigin and Generic. Follows `logicalmsgdesc.c`, `replorigindesc.c`, `genericdesc.c`.

use super::data::{Data, lossy, lsn, put};
use crate::record::entry::Record;
use crate::record::page::WalVersion;

pub(super) fn name(info: u8, _: WalVersion) -> Option<&'static str> {
    (info & 0xF0 == 0).then_some("MESSAGE")
}

pub(super) fn describe(record: &Record<'_>, out: &mut String) -> Option<()> {
    let data = Data(record.main_data);
    if record.operation() != 0 {
        return Some(());
    }
    let prefix_len = usize::try_from(data.u64(8)?).ok()?;
    let len = data.u64(16)?;
    out.push_str(if data.bool(4)? {
        "transactional"
    } else {
        "non-transactional"
    });
    out.push_str(", prefix \"");
    lossy(out, data.text(24)?);
    put(out, format_args!("\"; payload ({len} bytes): "))?;
    let payload = data.from(24usize.checked_add(prefix_len)?)?.0;
    let payload = payload.get(..usize::try_from(len).ok()?)?;
    for (index, byte) in payload.iter().enumerate() {
        let separator = if index == 0 { "" } else { " " };
        put(out, format_args!("{separator}{byte:02X}"))?;
    }
    Some(())
}

/// Unlike the others, PostgreSQL does not leave out the lower bits here.
pub(super) fn origin_name(info: u8, _: WalVersion) -> Option<&'static str> {
    match info {
        0x00 => Some("SET"),
        0x10 => Some("DROP"),
        _ => None,
    }
}

pub(super) fn describe_origin(record: &Record<'_>, out: &mut String) -> Option<()> {
    let data = Data(record.main_data);
    match record.operation() {
        0x00 => {
            put(out, format_args!("set {}; lsn ", data.u16(8)?))?;
            lsn(out, data.u64(0)?)?;
            put(out, format_args!("; force: {}", u8::from(data.bool(10)?)))
        }
        0x10 => put(out, format_args!("drop {}", data.u16(0)?)),
        _ => Some(()),
    }
}

#[allow(
    clippy::unnecessary_wraps,
    reason = "as those of all resource managers"
)]
pub(super) fn generic_name(_: u8, _: WalVersion) -> Option<&'static str> {
    Some("Generic")
}

/// The regions of the first page that the record writes.
pub(super) fn describe_generic(record: &Record<'_>, out: &mut String) -> Option<()> {
    let data = Data(record.main_data);
    let mut at = 0;
    while at < data.0.len() {
        let (offset, length) = (data.u16(at)?, data.u16(at + 2)?);
        at += 4 + usize::from(length);
        put(out, format_args!("offset {offset}, length {length}"))?;
        if at < data.0.len() {
            out.push_str("; ");
        }
    }
    Some(())
}
