//! Whose WAL a spool holds.
//!
//! `identity` is two lines of text: `system_id 7312345678901234567` and `segment_bytes 16777216`. It is written once,
//! before the first byte of WAL, and never changed.

use std::path::Path;

use pgm_proto::SystemId;

use super::store;
use crate::error::SpoolError;
use crate::segment::SegmentSize;

const FILE_NAME: &str = "identity";
const BYTES_MAX: u64 = 4096;

/// The server whose WAL a spool holds, and the size of its segments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpoolIdentity {
    /// The server's system identifier.
    pub system_id: SystemId,
    /// The size of its segments.
    pub segment_size: SegmentSize,
}

impl SpoolIdentity {
    /// Refuses a server that is not the one whose WAL is here.
    pub(super) fn agree(self, other: Self, folder: &Path) -> Result<(), SpoolError> {
        if self.system_id != other.system_id {
            return Err(SpoolError::OtherSystem {
                folder: folder.to_owned(),
                known: self.system_id,
                found: other.system_id,
            });
        }
        if self.segment_size != other.segment_size {
            return Err(SpoolError::OtherSegmentSize {
                folder: folder.to_owned(),
                known: self.segment_size,
                found: other.segment_size,
            });
        }
        Ok(())
    }
}

pub(super) fn read(folder: &Path) -> Result<Option<SpoolIdentity>, SpoolError> {
    let path = folder.join(FILE_NAME);
    let Some(content) = store::read_small(&path, BYTES_MAX)? else {
        return Ok(None);
    };
    parse(&content)
        .map(Some)
        .ok_or(SpoolError::Damaged { path })
}

pub(super) fn write(folder: &Path, identity: SpoolIdentity) -> Result<(), SpoolError> {
    let bytes = identity.segment_size.bytes();
    let content = format!("system_id {}\nsegment_bytes {bytes}\n", identity.system_id);
    store::create_durably(folder, &folder.join(FILE_NAME), content.as_bytes())
}

fn parse(content: &[u8]) -> Option<SpoolIdentity> {
    let text = std::str::from_utf8(content).ok()?;
    let (first, second) = text.strip_suffix('\n')?.split_once('\n')?;
    let system_id = first.strip_prefix("system_id ")?.parse().ok()?;
    let bytes = second.strip_prefix("segment_bytes ")?.parse().ok()?;
    Some(SpoolIdentity {
        system_id,
        segment_size: SegmentSize::new(bytes).ok()?,
    })
}
