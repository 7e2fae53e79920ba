//! One object from one repository to another.

use std::io::Write as _;

use pgm_storage::{
    Compression, FrameDecoder, ObjectPath, ObjectReader, PackReader, PackWriter, StorageError,
    is_pack,
};

use crate::context::Context;
use crate::error::{Error, Result};
use crate::repository::Repository;

/// Bytes that are copied at once, of what is no pack.
const COPY_BYTES: usize = 1 << 20;

/// Copies objects; keeps its buffers.
pub(super) struct Copier {
    decoder: FrameDecoder,
    stored: Vec<u8>,
    raw: Vec<u8>,
}

impl Copier {
    pub(super) fn new() -> Result<Self> {
        let decoder = FrameDecoder::new().map_err(|source| StorageError::Frame {
            path: "a frame".to_owned(),
            source,
        })?;
        Ok(Self {
            decoder,
            stored: Vec::new(),
            raw: Vec::new(),
        })
    }

    /// Copies the object at `path`; gives its bytes. One that somebody else has put there meanwhile is fine.
    pub(super) fn copy(
        &mut self,
        cx: &Context,
        from: &Repository,
        to: &Repository,
        path: &ObjectPath,
    ) -> Result<u64> {
        let object = from.storage().open(path)?;
        let size = object.size();
        let mut start = [0; 4];
        let is_pack = size >= 4 && {
            object.read_exact_at(&mut start, 0)?;
            is_pack(&start)
        };
        let copied = if is_pack {
            self.pack(cx, object, to, path, size)
        } else {
            plain(cx, &*object, to, path)
        };
        match copied {
            Err(Error::Storage(error)) if error.is_already_exists() => Ok(0),
            copied => copied.map(|()| size),
        }
    }

    /// Every frame is decoded and compared with its checksum before it is written.
    fn pack(
        &mut self,
        cx: &Context,
        object: Box<dyn ObjectReader>,
        to: &Repository,
        path: &ObjectPath,
        size: u64,
    ) -> Result<()> {
        let pack = PackReader::open(object)?;
        let writer = to.storage().create(path)?;
        let mut writer = PackWriter::with_kind(writer, Compression::NONE, pack.kind())?;
        for frame in pack.frames() {
            cx.check_cancel()?;
            pack.read(frame, &mut self.decoder, &mut self.stored, &mut self.raw)?;
            writer.append_encoded(&self.stored)?;
        }
        let expected = pack.summary();
        let written = writer.finish()?;
        if written.size != size || written != expected {
            let reason = format!("its copy has {} bytes instead of {size}", written.size);
            return Err(Error::damaged(path, reason));
        }
        Ok(())
    }
}

fn plain(
    cx: &Context,
    object: &dyn ObjectReader,
    to: &Repository,
    path: &ObjectPath,
) -> Result<()> {
    let mut writer = to.storage().create(path)?;
    let mut buffer = vec![0; COPY_BYTES];
    let mut offset = 0;
    while offset < object.size() {
        cx.check_cancel()?;
        let left = usize::try_from(object.size() - offset).unwrap_or(usize::MAX);
        let piece = &mut buffer[..left.min(COPY_BYTES)];
        object.read_exact_at(piece, offset)?;
        writer
            .write_all(piece)
            .map_err(|error| StorageError::from_io("write", path.to_string(), error))?;
        offset += piece.len() as u64;
    }
    writer.finish()?;
    Ok(())
}
