//! Going on from a backup that was interrupted.
//!
//! What such a backup left is packs, and for each that was finished a list of its frames. A frame whose raw bytes are
//! certainly the same is not stored again: the manifest points into the old pack. So nothing has to be known of why and
//! where the old backup ended, and files that changed since are stored anew by themselves. Frames begin at places that
//! depend on the files only (`feed`), so an unchanged file gives the same frames.
//!
//! All lists that are used have the same key for their hashes, and this backup takes it over: a frame is hashed once. Those with another key, which
//! other repositories may have from other times, are not used.
//!
//! Memory is bounded by [`FRAMES_MAX`]; frames beyond it are stored again.

use std::collections::HashMap;
use std::ops::ControlFlow;

use pgm_proto::ServerName;
use pgm_storage::Storage;

use crate::error::Result;
use crate::label::BackupLabel;
use crate::manifest::PackRecord;
use crate::repository::frame_list::{FrameKey, FrameList, HashKey};
use crate::repository::{layout, sweep};

/// The most frames of interrupted backups that are known at a time, in all targets: some 2 TB of data, 80 MiB of memory.
pub(super) const FRAMES_MAX: usize = 1 << 21;

/// Whether a backup goes on from one that was interrupted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Resume {
    /// Where there is one.
    #[default]
    IfPossible,
    /// Never: what was interrupted is removed at once.
    Never,
}

/// The frames of interrupted backups in one target.
#[derive(Debug, Default)]
pub(super) struct Reusable {
    /// That of the hashes of all its frames; `None` when there are none.
    hash_key: Option<HashKey>,
    packs: Vec<PackRecord>,
    /// Sorted by key.
    frames: Vec<Frame>,
}

#[derive(Debug, Clone, Copy)]
struct Frame {
    key: FrameKey,
    pack: u32,
    offset: u64,
}

/// A frame that is stored already.
#[derive(Debug, Clone, Copy)]
pub(super) struct Found<'a> {
    pub(super) pack: &'a PackRecord,
    pub(super) offset: u64,
}

impl Reusable {
    /// Reads what interrupted backups of `server` left, at most `frames_max` frames. What cannot be read is not used, nor what has
    /// another key for its hashes than the first.
    pub(super) fn find(
        storage: &dyn Storage,
        server: &ServerName,
        frames_max: usize,
    ) -> Result<Self> {
        let mut reusable = Self::default();
        for label in sweep::uncommitted(storage, server)? {
            reusable.add_backup(storage, server, label, frames_max)?;
        }
        reusable.frames.sort_unstable_by_key(|frame| frame.key);
        Ok(reusable)
    }

    fn add_backup(
        &mut self,
        storage: &dyn Storage,
        server: &ServerName,
        label: BackupLabel,
        frames_max: usize,
    ) -> Result<()> {
        let (mut lists, mut sizes) = (Vec::new(), HashMap::new());
        storage.list(&layout::backup(server, label), &mut |meta| {
            if let Some(number) = layout::frame_list_number(&meta.path) {
                lists.push((number, meta.path));
            } else if let Some(number) = layout::pack_number(&meta.path) {
                sizes.insert(number, meta.size);
            }
            ControlFlow::Continue(())
        })?;
        for (number, path) in lists {
            let list = match storage.open(&path).and_then(FrameList::read) {
                Ok(list) => list,
                Err(error) => {
                    tracing::warn!(%path, %error, "the frames of a pack are stored again");
                    continue;
                }
            };
            let is_whole = list.pack == number && sizes.get(&number) == Some(&list.pack_bytes);
            if !is_whole || self.frames.len() + list.frames.len() > frames_max {
                continue;
            }
            if *self.hash_key.get_or_insert(list.hash_key) == list.hash_key {
                self.add_pack(label, &list);
            } else {
                tracing::warn!(%path, "the frames of a pack are stored again: another key hashed them");
            }
        }
        Ok(())
    }

    fn add_pack(&mut self, label: BackupLabel, list: &FrameList) {
        let pack = self.packs.len() as u32;
        let raw_bytes = list
            .frames
            .iter()
            .map(|frame| u64::from(frame.key.raw_bytes));
        self.packs.push(PackRecord {
            label,
            number: list.pack,
            size: list.pack_bytes,
            raw_bytes: raw_bytes.sum(),
            frames: list.frames.len() as u64,
            index_crc32c: list.index_crc(),
        });
        self.frames.extend(list.frames.iter().map(|frame| Frame {
            key: frame.key,
            pack,
            offset: frame.offset,
        }));
    }

    /// The key of the hashes, if there are frames.
    pub(super) const fn hash_key(&self) -> Option<HashKey> {
        self.hash_key
    }

    /// Itself, if its hashes have this key; else nothing.
    pub(super) fn with_key(self, key: HashKey) -> Self {
        match self.hash_key {
            Some(own) if own != key => {
                tracing::warn!(
                    "frames of interrupted backups are stored again: another key hashed them"
                );
                Self::default()
            }
            _ => self,
        }
    }

    /// A stored frame with the same raw bytes.
    pub(super) fn get(&self, key: &FrameKey) -> Option<Found<'_>> {
        let at = self
            .frames
            .binary_search_by_key(key, |frame| frame.key)
            .ok()?;
        let frame = self.frames.get(at)?;
        Some(Found {
            pack: self.packs.get(frame.pack as usize)?,
            offset: frame.offset,
        })
    }
}
