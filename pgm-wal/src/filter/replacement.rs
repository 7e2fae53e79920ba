//! Records that take the place of others: as long, with the same predecessor and transaction, and a checksum that fits.
//!
//! ```text
//! commit   24 | 255 len | time | xinfo | database | subtransactions | files | statistics | invalidations | two-phase, origin
//! abort    24 | 255 len | time | xinfo | database | subtransactions | two-phase, origin | zeros
//! noop     24 | 255 len | zeros
//! ```
//!
//! What replaying a commit does beside committing (removing files, statistics, caches' content) is left out; files that the
//! transaction made stay, too, because later records may change them. PostgreSQL reads of an abort only what the flags
//! in `xinfo` say, so zeros may follow. Follows `ParseAbortRecord` in `access/rmgrdesc/xactdesc.c` and `XLOG_NOOP`.

use crate::record::describe::Data;
use crate::record::{RESOURCE_MANAGER_XLOG, Record, WalVersion, record_checksum};

pub(super) const HEADER_BYTES: usize = 24;
const INFO_AT: usize = 16;
const MANAGER_AT: usize = 17;
const CHECKSUM_AT: usize = 20;

const XACT_OPERATION: u8 = 0x70;
const XACT_HAS_INFO: u8 = 0x80;
const XACT_COMMIT: u8 = 0x00;
const XACT_COMMIT_PREPARED: u8 = 0x30;
const XACT_ABORT: u8 = 0x20;
const XACT_ABORT_PREPARED: u8 = 0x40;
const XLOG_NOOP: u8 = 0x20;

const HAS_DATABASE: u32 = 1 << 0;
const HAS_SUBTRANSACTIONS: u32 = 1 << 1;
const HAS_FILES: u32 = 1 << 2;
const HAS_INVALIDATIONS: u32 = 1 << 3;
const HAS_STATISTICS: u32 = 1 << 8;
const RELATION_CACHE_INIT: u32 = 1 << 30;

const ID_MAIN_SHORT: u8 = 255;
const ID_MAIN_LONG: u8 = 254;

/// The bytes of `record`, if the reader has all of them.
pub(super) fn whole(record: &Record<'_>) -> Option<Vec<u8>> {
    let bytes = record.bytes();
    (bytes.len() == record.total_len as usize).then(|| bytes.to_vec())
}

/// Makes the checksum fit.
pub(super) fn seal(bytes: &mut [u8]) {
    let checksum = record_checksum(bytes).to_le_bytes();
    if let Some(field) = bytes.get_mut(CHECKSUM_AT..HEADER_BYTES) {
        field.copy_from_slice(&checksum);
    }
}

/// An abort of the transaction that `record` commits; `None` when it is no commit that can be read.
pub(super) fn abort(record: &Record<'_>) -> Option<Vec<u8>> {
    let operation = match record.info & XACT_OPERATION {
        XACT_COMMIT => XACT_ABORT,
        XACT_COMMIT_PREPARED => XACT_ABORT_PREPARED,
        _ => return None,
    };
    let mut bytes = whole(record)?;
    let main_at = bytes.len().checked_sub(record.main_data.len())?;
    bytes[INFO_AT] = record.info & !XACT_OPERATION | operation;
    let main = aborted(record.main_data, record.info, record.version)?;
    bytes[main_at..].fill(0);
    bytes[main_at..main_at + main.len()].copy_from_slice(&main);
    seal(&mut bytes);
    Some(bytes)
}

/// The main data of an abort, no longer than that of the commit.
fn aborted(main: &[u8], info: u8, version: WalVersion) -> Option<Vec<u8>> {
    let mut out = main.get(..8)?.to_vec();
    if info & XACT_HAS_INFO == 0 {
        return Some(out);
    }
    let mut rest = Data(main).from(8)?;
    let flags = rest.u32(0)?;
    rest = rest.from(4)?;
    let left_out = HAS_FILES | HAS_INVALIDATIONS | HAS_STATISTICS | RELATION_CACHE_INIT;
    out.extend((flags & !left_out).to_le_bytes());
    let mut keep = |rest: &mut Data<'_>, len: usize| {
        out.extend_from_slice(rest.0.get(..len)?);
        *rest = rest.from(len)?;
        Some(())
    };
    if flags & HAS_DATABASE != 0 {
        keep(&mut rest, 8)?;
    }
    if flags & HAS_SUBTRANSACTIONS != 0 {
        let len = rest.count(0)?.checked_mul(4)?.checked_add(4)?;
        keep(&mut rest, len)?;
    }
    let statistic_bytes = if version >= WalVersion::V18 { 16 } else { 12 };
    for (flag, element) in [
        (HAS_FILES, 12),
        (HAS_STATISTICS, statistic_bytes),
        (HAS_INVALIDATIONS, 16),
    ] {
        if flags & flag != 0 {
            let len = rest.count(0)?.checked_mul(element)?.checked_add(4)?;
            rest = rest.from(len)?;
        }
    }
    // The prepared transaction, its name, and the origin, as they are.
    let len = rest.0.len();
    keep(&mut rest, len)?;
    Some(out)
}

/// A record that does nothing.
pub(super) fn noop(record: &Record<'_>) -> Option<Vec<u8>> {
    let mut bytes = whole(record)?;
    bytes[INFO_AT] = XLOG_NOOP;
    bytes[MANAGER_AT] = RESOURCE_MANAGER_XLOG;
    let body = bytes.get_mut(HEADER_BYTES..)?;
    let body_len = body.len();
    body.fill(0);
    if let Ok(len) = u8::try_from(body_len.saturating_sub(2)) {
        // A record without a body has none now, either.
        if let Some(head) = body.first_chunk_mut() {
            *head = [ID_MAIN_SHORT, len];
        }
    } else {
        body[0] = ID_MAIN_LONG;
        body[1..5].copy_from_slice(&((body_len - 5) as u32).to_le_bytes());
    }
    seal(&mut bytes);
    Some(bytes)
}
