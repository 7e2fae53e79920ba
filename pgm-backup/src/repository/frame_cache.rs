//! Frames of packs that are read in no particular order: neighbours in a manifest mostly are neighbours in packs, so the last few
//! are kept.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use pgm_proto::ServerName;
use pgm_storage::{FrameDecoder, PackReader, Storage, StorageError};

use super::{layout, open_pack};
use crate::error::{Error, Result};
use crate::label::BackupLabel;
use crate::manifest::PackRecord;

/// Decoded frames that are kept.
const FRAMES_MAX: usize = 12;
/// Packs that are kept open.
const OPEN_PACKS_MAX: usize = 16;

/// A pack, by the backup in whose folder it is, and its number there.
type PackName = (BackupLabel, u32);

/// Reads frames of one server's packs.
pub(crate) struct FrameCache {
    storage: Arc<dyn Storage>,
    server: ServerName,
    open: HashMap<PackName, PackReader>,
    frames: VecDeque<(PackName, u64, Vec<u8>)>,
    decoder: FrameDecoder,
    stored: Vec<u8>,
}

impl FrameCache {
    pub(crate) fn new(storage: &Arc<dyn Storage>, server: &ServerName) -> Result<Self> {
        let decoder = FrameDecoder::new().map_err(|source| StorageError::Frame {
            path: storage.describe(),
            source,
        })?;
        Ok(Self {
            storage: Arc::clone(storage),
            server: server.clone(),
            open: HashMap::new(),
            frames: VecDeque::new(),
            decoder,
            stored: Vec::new(),
        })
    }

    /// The raw bytes of the frame that begins at `offset` of a pack.
    pub(crate) fn frame(&mut self, pack: &PackRecord, offset: u64) -> Result<&[u8]> {
        let name = (pack.label, pack.number);
        let known = self
            .frames
            .iter()
            .position(|(of, at, _)| (*of, *at) == (name, offset));
        let at = if let Some(at) = known {
            at
        } else {
            let mut raw = Vec::new();
            if self.frames.len() >= FRAMES_MAX
                && let Some((_, _, oldest)) = self.frames.pop_front()
            {
                raw = oldest;
            }
            self.decode(pack, offset, &mut raw)?;
            self.frames.push_back((name, offset, raw));
            self.frames.len() - 1
        };
        Ok(&self.frames[at].2)
    }

    fn decode(&mut self, record: &PackRecord, offset: u64, raw: &mut Vec<u8>) -> Result<()> {
        let name = (record.label, record.number);
        if !self.open.contains_key(&name) {
            if self.open.len() >= OPEN_PACKS_MAX {
                self.open.clear();
            }
            let pack = open_pack(&*self.storage, &self.server, record)?;
            self.open.insert(name, pack);
        }
        let pack = &self.open[&name];
        let at = pack
            .frames()
            .binary_search_by_key(&offset, |frame| frame.offset);
        let at = at.map_err(|_| {
            let path = layout::pack(&self.server, record.label, record.number);
            Error::damaged(&path, format!("it has no frame at {offset}"))
        })?;
        Ok(pack.read(&pack.frames()[at], &mut self.decoder, &mut self.stored, raw)?)
    }
}
