//! The line that `pg_waldump` prints for a record.

use std::fmt::Write as _;

use pgm_proto::Lsn;

use super::{describe, resource_manager_name, write_operation};
use crate::record::block::Fork;
use crate::record::entry::Record;

/// Writes the record as `pg_waldump` prints it, without the line's end.
pub fn write_line(record: &Record<'_>, out: &mut String) {
    // Writing to a string does not fail.
    let _ = write!(
        out,
        "rmgr: {:<11} len (rec/tot): {:6}/{:6}, tx: {:10}, lsn: ",
        resource_manager_name(record.resource_manager),
        record.total_len - record.images_len,
        record.total_len,
        record.xid
    );
    position(out, record.lsn);
    out.push_str(", prev ");
    position(out, record.previous);
    out.push_str(", desc: ");
    write_operation(record, out);
    out.push(' ');
    describe(record, out);
    write_blocks(record, out);
}

/// Writes the blocks that the record refers to, each with `, blkref #` before it.
pub fn write_blocks(record: &Record<'_>, out: &mut String) {
    for block in record.blocks() {
        let _ = write!(out, ", blkref #{}: rel {}", block.id, block.relation);
        if block.fork != Fork::Main {
            let _ = write!(out, " fork {}", block.fork.name());
        }
        let _ = write!(out, " blk {}", block.number);
        match block.image {
            Some(image) if image.applied => out.push_str(" FPW"),
            Some(_) => out.push_str(" FPW for WAL verification"),
            None => {}
        }
    }
}

/// An LSN with all digits of its lower half (`%X/%08X`).
fn position(out: &mut String, lsn: Lsn) {
    let _ = write!(
        out,
        "{:X}/{:08X}",
        lsn.bytes() >> 32,
        lsn.bytes() & 0xFFFF_FFFF
    );
}
