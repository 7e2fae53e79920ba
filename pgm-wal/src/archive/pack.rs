//! Archived objects as packs: written from, compared with, and read into plain bytes.

use pgm_storage::{
    Compression, FRAME_RAW_MAX, FrameDecoder, ObjectPath, PackKind, PackReader, PackSummary,
    PackWriter, StorageError,
};

use super::{Archive, ArchiveError};

/// What the packs of the archive say that they hold.
const WAL_PACK: PackKind = PackKind(2);

/// Fills a buffer from an offset.
type Read<'a> = dyn FnMut(u64, &mut [u8]) -> Result<(), ArchiveError> + 'a;
/// Takes raw bytes and their offset.
type Visit<'a> = dyn FnMut(u64, &[u8]) -> Result<(), ArchiveError> + 'a;

/// Plain bytes that can be read at any place, to be stored or compared.
pub(super) struct Raw<'a> {
    pub(super) len: u64,
    /// Fills the buffer from an offset.
    pub(super) read: &'a mut Read<'a>,
}

impl Archive {
    pub(super) fn open_pack(&self, object: &ObjectPath) -> Result<PackReader, ArchiveError> {
        PackReader::open(self.storage.open(object)?).map_err(|error| damaged(object, error))
    }

    /// Like [`Self::open_pack`], `None` when there is no such object.
    pub(super) fn find_pack(
        &self,
        object: &ObjectPath,
    ) -> Result<Option<PackReader>, ArchiveError> {
        match self.storage.open(object) {
            Ok(reader) => PackReader::open(reader)
                .map(Some)
                .map_err(|error| damaged(object, error)),
            Err(StorageError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes a new object, durably; [`StorageError::AlreadyExists`] when there is one.
    pub(super) fn write_pack(
        &self,
        object: &ObjectPath,
        raw: &mut Raw<'_>,
        compression: Compression,
    ) -> Result<PackSummary, ArchiveError> {
        let writer = self.storage.create(object)?;
        let mut pack = PackWriter::with_kind(writer, compression, WAL_PACK)?;
        let mut chunk = vec![0; raw.len.min(FRAME_RAW_MAX as u64) as usize];
        let mut offset = 0;
        while offset < raw.len {
            let count = (raw.len - offset).min(chunk.len() as u64) as usize;
            (raw.read)(offset, &mut chunk[..count])?;
            pack.append(&chunk[..count])?;
            offset += count as u64;
        }
        Ok(pack.finish()?)
    }

    /// Whether the first `len` raw bytes of `object` are those of `raw`, and (when `len` is all of `raw`) there are no
    /// more of them. Every frame that is compared is checked.
    pub(super) fn agrees(
        &self,
        object: &ObjectPath,
        raw: &mut Raw<'_>,
        len: u64,
    ) -> Result<bool, ArchiveError> {
        let pack = self.open_pack(object)?;
        if len == raw.len && pack.summary().raw_bytes != len {
            return Ok(false);
        }
        let mut other = Vec::new();
        let mut same = true;
        read_frames(object, &pack, &mut |offset, bytes| {
            let count = len.saturating_sub(offset).min(bytes.len() as u64) as usize;
            if same && count > 0 {
                other.resize(count, 0);
                (raw.read)(offset, &mut other)?;
                same = other == bytes[..count];
            }
            Ok(())
        })?;
        Ok(same)
    }
}

/// Gives the raw bytes of every frame, checked, with their offset, to `visit`.
pub(super) fn read_frames(
    object: &ObjectPath,
    pack: &PackReader,
    visit: &mut Visit<'_>,
) -> Result<(), ArchiveError> {
    let mut decoder = FrameDecoder::new().map_err(|error| ArchiveError::Damaged {
        object: object.to_string(),
        reason: error.to_string(),
    })?;
    let (mut scratch, mut raw) = (Vec::new(), Vec::new());
    let mut offset = 0;
    for location in pack.frames() {
        pack.read(location, &mut decoder, &mut scratch, &mut raw)
            .map_err(|error| damaged(object, error))?;
        visit(offset, &raw)?;
        offset += raw.len() as u64;
    }
    Ok(())
}

/// Damage gets the archive's own error; a repository that does not answer stays one.
pub(super) fn damaged(object: &ObjectPath, error: StorageError) -> ArchiveError {
    match error.damage() {
        Some(reason) => ArchiveError::Damaged {
            object: object.to_string(),
            reason,
        },
        None => error.into(),
    }
}
