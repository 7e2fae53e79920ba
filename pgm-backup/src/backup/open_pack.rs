//! A pack that is being written in one target.

use pgm_storage::{Compression, PackWriter};

use super::lane::{Lane, PackSlot};
use crate::error::Result;
use crate::manifest::PackRecord;
use crate::repository::frame_list::{FrameKey, FrameList, LISTED_FRAMES_MAX, ListedFrame};
use crate::repository::layout;

/// A backup's last packs have a list from so many raw bytes on: to store fewer again takes less time than to write the list.
const LISTED_BYTES_MIN: u64 = 64 << 20;

/// What comes after a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Perhaps another one: the backup may be interrupted for a long time yet.
    Packs,
    /// The catalog entry, and then nobody goes on from this backup.
    Entry,
}

/// A pack that frames are appended to. Dropped without its end, it leaves nothing.
pub(super) struct OpenPack {
    slot: PackSlot,
    writer: PackWriter,
    frames: Vec<ListedFrame>,
}

impl OpenPack {
    pub(super) fn begin(lane: &Lane) -> Result<Self> {
        let slot = lane.packs.begin();
        let object = lane.staging().create_pack(slot.number)?;
        // The frames come encoded.
        let writer = PackWriter::with_kind(object, Compression::NONE, layout::DATA_PACK)?;
        Ok(Self {
            slot,
            writer,
            frames: Vec::new(),
        })
    }

    /// Its place in the manifest's table.
    pub(super) const fn index(&self) -> u32 {
        self.slot.index
    }

    /// Appends a frame; gives where it begins.
    pub(super) fn append(&mut self, encoded: &[u8], key: FrameKey) -> Result<u64> {
        let offset = self.writer.append_encoded(encoded)?.offset;
        self.frames.push(ListedFrame { key, offset });
        Ok(offset)
    }

    /// Whether it is time for another one.
    pub(super) fn is_full(&self, pack_bytes: u64) -> bool {
        self.writer.bytes() >= pack_bytes || self.frames.len() >= LISTED_FRAMES_MAX
    }

    /// Finishes the pack, and lists its frames for a later backup that goes on from this one; not those of a small one that the entry
    /// follows at once.
    pub(super) fn finish(self, lane: &Lane, next: Next) -> Result<()> {
        let Self {
            slot,
            writer,
            frames,
        } = self;
        let summary = writer.finish()?;
        lane.packs.finished(
            slot,
            PackRecord {
                label: lane.staging().label(),
                number: slot.number,
                size: summary.size,
                raw_bytes: summary.raw_bytes,
                frames: u64::from(summary.frames),
                index_crc32c: Some(summary.index_crc),
            },
        );
        if next == Next::Entry && summary.raw_bytes < LISTED_BYTES_MIN {
            return Ok(());
        }
        lane.staging().note_frames(&FrameList {
            pack: slot.number,
            pack_bytes: summary.size,
            hash_key: lane.hasher.key(),
            frames,
        })
    }
}
