//! A record that was found to be valid, on its way to whoever reads it.
//!
//! It goes by value, not through the reader's fields; where its bytes are is said last.

use pgm_proto::Lsn;

use super::block::Shape;
use super::entry::Record;
use super::header::RecordHeader;
use super::page::WalVersion;

/// How much of a record's main data is kept. The end of a transaction with four million subtransactions fits.
pub(super) const MAIN_DATA_BYTES_MAX: usize = 16 << 20;

/// A valid record, but for its bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Found {
    pub(super) lsn: Lsn,
    pub(super) header: RecordHeader,
    pub(super) shape: Shape,
    pub(super) version: WalVersion,
}

impl Found {
    /// The record, which is at the beginning of `bytes`, or what is kept of it.
    #[inline]
    pub(super) fn record<'a>(&self, end_lsn: Lsn, bytes: &'a [u8]) -> Record<'a> {
        let (header, shape) = (&self.header, &self.shape);
        let len = header.total_len as usize;
        let bytes = bytes.get(..len).unwrap_or(bytes);
        let main_start = len.saturating_sub(shape.main_len as usize);
        let main_data = bytes.get(main_start..).unwrap_or_default();
        Record {
            lsn: self.lsn,
            end_lsn,
            previous: header.previous,
            xid: header.xid,
            resource_manager: header.resource_manager,
            info: header.info,
            total_len: header.total_len,
            images_len: shape.images_len,
            origin: shape.origin,
            top_level_xid: shape.top_level_xid,
            version: self.version,
            main_data: main_data.get(..MAIN_DATA_BYTES_MAX).unwrap_or(main_data),
            shape: *shape,
            bytes,
        }
    }
}
