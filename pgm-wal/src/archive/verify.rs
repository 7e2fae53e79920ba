//! Checking archived WAL without giving it to anyone: every frame is read, opened and compared with its checksums, and
//! every page must be at its place.

use pgm_storage::{FrameDecoder, PackReader, StorageError};

use super::local_file::check_pages;
use super::{Archive, ArchiveError, StoredName};
use crate::{History, SegmentName, SegmentSize};

/// What is wrong with an archived object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WalDamage {
    /// The object.
    pub object: String,
    /// Where in the object, when that is known.
    pub offset: Option<u64>,
    /// What is wrong.
    pub reason: String,
}

/// A check that did not pass, or could not be made.
enum Failure {
    Damage(Option<u64>, String),
    Error(ArchiveError),
}

/// Takes the place of a frame in the object, and the place of its raw bytes in the file, and them.
type Visit<'a> = dyn FnMut(u64, u64, &[u8]) -> Result<(), Failure> + 'a;

impl Archive {
    /// The path of an archived object in the repository.
    pub fn object_path(&self, name: StoredName, size: SegmentSize) -> Result<String, ArchiveError> {
        Ok(self.object(name, size)?.to_string())
    }

    /// Reads and checks an archived object; `None` when it is sound. An object that is not there, or cannot be read, is
    /// damaged, too.
    pub fn check(
        &self,
        name: StoredName,
        size: SegmentSize,
    ) -> Result<Option<WalDamage>, ArchiveError> {
        let object = self.object(name, size)?;
        let damage = |offset, reason| WalDamage {
            object: object.to_string(),
            offset,
            reason,
        };
        let opened = self.storage.open(&object).and_then(PackReader::open);
        let pack = match opened {
            Ok(pack) => pack,
            Err(error) => return Ok(Some(damage(None, reason(&error)))),
        };
        let checked = match name {
            StoredName::Segment(segment) | StoredName::Partial { segment, .. } => {
                check_segment(&pack, segment, size)
            }
            StoredName::History(timeline) => read(&pack, &mut |_, _, _| Ok(())).and_then(|()| {
                let content = self.read_history(timeline).map_err(Failure::Error)?;
                History::parse(timeline, &content.unwrap_or_default())
                    .map(drop)
                    .map_err(|error| Failure::Damage(None, error.to_string()))
            }),
        };
        match checked {
            Ok(()) => Ok(None),
            Err(Failure::Damage(offset, reason)) => Ok(Some(damage(offset, reason))),
            Err(Failure::Error(error)) => Err(error),
        }
    }
}

fn check_segment(pack: &PackReader, name: SegmentName, size: SegmentSize) -> Result<(), Failure> {
    let bytes = pack.summary().raw_bytes;
    if bytes != size.bytes() {
        let reason = format!("it holds {bytes} bytes, not {}", size.bytes());
        return Err(Failure::Damage(None, reason));
    }
    read(pack, &mut |frame, offset, bytes| {
        check_pages(name, size, offset, bytes)
            .map_err(|reason| Failure::Damage(Some(frame), reason))
    })
}

/// Gives the raw bytes of every frame to `visit`, with the frame's place in the object and theirs in the file.
fn read(pack: &PackReader, visit: &mut Visit<'_>) -> Result<(), Failure> {
    let mut decoder =
        FrameDecoder::new().map_err(|error| Failure::Damage(None, error.to_string()))?;
    let (mut scratch, mut raw, mut offset) = (Vec::new(), Vec::new(), 0);
    for frame in pack.frames() {
        pack.read(frame, &mut decoder, &mut scratch, &mut raw)
            .map_err(|error| Failure::Damage(Some(frame.offset), reason(&error)))?;
        visit(frame.offset, offset, &raw)?;
        offset += raw.len() as u64;
    }
    Ok(())
}

/// What is wrong with an object, without its name.
fn reason(error: &StorageError) -> String {
    match error {
        StorageError::NotFound { .. } => "it is missing".to_owned(),
        error => error.damage().unwrap_or_else(|| error.to_string()),
    }
}
