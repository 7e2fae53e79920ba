//! WAL whose replay reaches outside the data directory.
//!
//! A server that replays the creation of a tablespace makes its folder anew where the original server has it, and before
//! PostgreSQL 15 it first removes what is there (`create_tablespace_directories` in `tablespace.c`). On the host of the
//! original server that would be its own data. Who starts a server only to try a backup has to stop before such a record.

use pgm_proto::Lsn;
use pgm_wal::Spool;
use pgm_wal::archive::{Archive, ArchiveSource};
use pgm_wal::record::{Record, RecordError, RecordReader};

use super::RestorePlan;
use super::error::RestoreError;
use crate::context::{Context, Phase};

/// The resource manager of tablespaces (`rmgrlist.h`).
const TABLESPACE: u8 = 5;
/// Its record of a creation: an OID, then the location (`xl_tblspc_create_rec`).
const CREATE: u8 = 0x00;
const OID_BYTES: usize = 4;

/// The first record that recovery by `plan` would replay and that makes a tablespace in a place of its own.
pub fn first_outside(
    cx: &Context,
    archive: &Archive,
    spool: Option<&Spool>,
    plan: &RestorePlan,
) -> Result<Option<Lsn>, RestoreError> {
    let source = ArchiveSource::new(archive.clone(), spool.cloned(), plan.segment_size()?);
    let from = plan.start_lsn();
    let mut reader =
        RecordReader::seek(source, plan.history.clone(), from).map_err(RestoreError::Record)?;
    loop {
        cx.check_cancel()?;
        let record = match reader.next() {
            Ok(Some(record)) if record.lsn < plan.needed => record,
            // Recovery ends here, too.
            Ok(_) | Err(RecordError::Missing { .. }) => return Ok(None),
            Err(error) => return Err(RestoreError::Record(error)),
        };
        if is_outside(&record) {
            return Ok(Some(record.lsn));
        }
        cx.report(
            Phase::Plan,
            record.lsn.bytes_since(from),
            None,
            "reading WAL",
        );
    }
}

/// One without a location lies in the data directory.
fn is_outside(record: &Record<'_>) -> bool {
    record.resource_manager == TABLESPACE
        && record.operation() == CREATE
        && record
            .main_data
            .get(OID_BYTES)
            .is_none_or(|first| *first != 0)
}
