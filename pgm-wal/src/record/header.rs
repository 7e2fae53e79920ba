//! The header that every record begins with.
//!
//! ```text
//! 0 total length u32   4 xid u32   8 previous u64   16 info u8   17 resource manager u8   18 padding   20 crc u32
//! ```
//!
//! The CRC-32C covers the bytes from 24 on, then those from 0 to 20. Follows `access/xlogrecord.h`.

use pgm_proto::Lsn;

use super::end::Invalid;

/// `RM_XLOG_ID`: checkpoints, restore points, segment switches.
pub const RESOURCE_MANAGER_XLOG: u8 = 0;
/// `RM_XACT_ID`: the ends of transactions.
pub const RESOURCE_MANAGER_TRANSACTION: u8 = 1;

pub(super) const HEADER_BYTES: usize = 24;
/// `XLogRecordMaxSize`.
pub(super) const RECORD_BYTES_MAX: u32 = 1020 * 1024 * 1024;

/// Built-in resource managers end here; extensions have 128 and above.
const RESOURCE_MANAGERS_BUILT_IN: u8 = 32;
const RESOURCE_MANAGERS_CUSTOM: u8 = 128;

/// The bits of `info` that are PostgreSQL's own; the upper four belong to the resource manager.
const INFO_OWN: u8 = 0x0F;
const INFO_SWITCH: u8 = 0x40;

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct RecordHeader {
    pub(super) total_len: u32,
    pub(super) xid: u32,
    pub(super) previous: Lsn,
    pub(super) info: u8,
    pub(super) resource_manager: u8,
    pub(super) crc: u32,
}

impl RecordHeader {
    /// The header in `head`, if it can be that of the record at `lsn` behind the one at `previous`.
    pub(super) fn checked(head: &[u8], previous: Option<Lsn>, lsn: Lsn) -> Result<Self, Invalid> {
        let bytes = head.first_chunk().ok_or(Invalid::Parts)?;
        let header = Self::parse(bytes);
        if !header.has_known_manager() {
            return Err(Invalid::ResourceManager(header.resource_manager));
        }
        let found = header.previous;
        match previous {
            Some(expected) if found != expected => Err(Invalid::Previous { expected, found }),
            None if found >= lsn => Err(Invalid::Previous {
                expected: lsn,
                found,
            }),
            _ => Ok(header),
        }
    }

    #[inline]
    pub(super) fn parse(bytes: &[u8; HEADER_BYTES]) -> Self {
        let u32_at = |at: usize| {
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        Self {
            total_len: u32_at(0),
            xid: u32_at(4),
            previous: Lsn::new(u64::from(u32_at(8)) | u64::from(u32_at(12)) << 32),
            info: bytes[16],
            resource_manager: bytes[17],
            crc: u32_at(20),
        }
    }

    /// Whether a resource manager with this number can exist.
    #[inline]
    pub(super) fn has_known_manager(&self) -> bool {
        !(RESOURCE_MANAGERS_BUILT_IN..RESOURCE_MANAGERS_CUSTOM).contains(&self.resource_manager)
    }

    /// Whether the rest of the segment after this record is unused (`XLOG_SWITCH`).
    #[inline]
    pub(super) fn switches_segment(&self) -> bool {
        self.resource_manager == RESOURCE_MANAGER_XLOG && self.info & !INFO_OWN == INFO_SWITCH
    }
}
