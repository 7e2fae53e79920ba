//! What lies behind a segment switch: bytes that mean nothing.
//!
//! `pg_switch_wal()` leaves the rest of a segment unused. A primary fills it with zeros; a standby may send what its
//! recycled file held before, because replaying the switch moves its position past bytes that have not arrived yet
//! (`GetStandbyFlushRecPtr`). So two servers of one timeline may differ there, and only there.

use pgm_proto::Lsn;

use crate::history::History;
use crate::record::{DirectorySource, RESOURCE_MANAGER_XLOG, RecordReader};
use crate::segment::{SegmentName, SegmentSize};
use crate::spool::Spool;

/// `XLOG_SWITCH`, in the upper four bits of a record's info.
const INFO_SWITCH: u8 = 0x40;

/// Whether the byte at `lsn` of segment `name`, as it is in the spool, lies behind a segment switch.
pub(super) fn is_padding(spool: &Spool, name: SegmentName, size: SegmentSize, lsn: Lsn) -> bool {
    let source = DirectorySource::new(spool.folder(), size);
    let history = spool.history(name.timeline).ok().flatten();
    let history = history.unwrap_or(History::root(name.timeline));
    let Ok(mut records) = RecordReader::seek(source, history, name.start(size)) else {
        return false;
    };
    while let Ok(Some(record)) = records.next() {
        if record.lsn >= lsn {
            return false;
        }
        let switch =
            record.resource_manager == RESOURCE_MANAGER_XLOG && record.info & 0xF0 == INFO_SWITCH;
        if switch {
            return record.lsn + u64::from(record.total_len) <= lsn && record.end_lsn > lsn;
        }
    }
    false
}
