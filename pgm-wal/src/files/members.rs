//! The members of a tar archive that are segments or history files.
//!
//! ```text
//! 0 name 100 | 124 size, 12 octal digits or 0x80 and a number | 156 type | 257 "ustar" | 345 prefix 155 | 512 content
//! ```
//!
//! Only what is needed to find files by short names is read; long names and extended headers are passed over, since no
//! WAL file needs them. Follows `pgtar.h` and POSIX's `ustar`.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::Path;

use pgm_proto::TimelineId;

use super::encoding::Encoding;
use super::{Candidate, FilesError, Found, Place, note_history, segment_digits};
use crate::{HISTORY_BYTES_MAX, History, SegmentSize, WalFileName};

const BLOCK_BYTES: u64 = 512;

/// Notes the WAL files in the archive at `path`.
pub(super) fn look(
    path: &Path,
    candidates: &mut Vec<Candidate>,
    histories: &mut BTreeMap<TimelineId, History>,
) -> Result<(), FilesError> {
    let failed = |error| FilesError::io("read", path, error);
    let wrong = |reason| FilesError::Tar {
        path: path.to_owned(),
        reason,
    };
    let encoding = Encoding::of(path)?;
    let mut archive = encoding.open(path)?;
    let mut at: u64 = 0;
    let mut header = [0; BLOCK_BYTES as usize];
    while read_block(&mut archive, &mut header).map_err(failed)? {
        at += BLOCK_BYTES;
        if header.iter().all(|byte| *byte == 0) {
            break;
        }
        if &header[257..262] != b"ustar" {
            return Err(wrong("a member's header is malformed"));
        }
        let len = number(&header[124..136]).ok_or_else(|| wrong("a member's size is malformed"))?;
        let stored = len
            .checked_next_multiple_of(BLOCK_BYTES)
            .filter(|stored| at.checked_add(*stored).is_some())
            .ok_or_else(|| wrong("a member's size is impossible"))?;
        let file = matches!(header[156], b'0' | 0)
            .then(|| name(&header))
            .flatten();
        let mut read = 0;
        if let Some((digits, partial)) = file.and_then(segment_digits) {
            let place = Place::Member {
                path: path.to_owned(),
                encoding,
                offset: at,
                len,
            };
            candidates.push(Candidate {
                digits: digits.to_owned(),
                found: Found { place, partial },
            });
        } else if let Some(Ok(WalFileName::History(timeline))) =
            file.map(|name| WalFileName::parse(name, SegmentSize::DEFAULT))
        {
            let mut content = Vec::new();
            read = (&mut archive)
                .take(len.min(HISTORY_BYTES_MAX as u64))
                .read_to_end(&mut content)
                .map_err(failed)? as u64;
            note_history(path, timeline, &content, histories)?;
        }
        io::copy(&mut (&mut archive).take(stored - read), &mut io::sink()).map_err(failed)?;
        at += stored;
    }
    Ok(())
}

/// Fills `block`; false at the end of the archive.
fn read_block(archive: &mut impl Read, block: &mut [u8]) -> io::Result<bool> {
    match archive.read_exact(block) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

/// The last part of a member's name.
fn name(header: &[u8]) -> Option<&str> {
    let field = header[..100].split(|byte| *byte == 0).next()?;
    std::str::from_utf8(field).ok()?.rsplit('/').next()
}

/// A size: octal digits, or a binary number behind the byte 0x80.
fn number(field: &[u8]) -> Option<u64> {
    if let [0x80, 0, 0, 0, rest @ ..] = field {
        return rest.try_into().ok().map(u64::from_be_bytes);
    }
    let text = std::str::from_utf8(field).ok()?;
    u64::from_str_radix(text.trim_matches(['\0', ' ']), 8).ok()
}
