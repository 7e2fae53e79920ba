//! Tar archives into frames.
//!
//! The [`Feeder`] takes the archives' bytes as they come, checks every name, tells the collectors what there is, and
//! copies file content into frame buffers: that copy is the only one between the socket's buffer and the compressor.
//!
//! A frame holds a run of one file or several files. Only a file that is larger than a frame is cut, at multiples of a
//! frame's size. Files that begin frames, one in four by their names, see to it that after a file that has grown or is
//! gone the same frames come again as in the backup before: that is what a backup that goes on from an interrupted one
//! lives on.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};

use pgm_storage::FRAME_RAW_MAX;

use super::collect::FileHeader;
use super::lane::Lane;
use super::lanes::Lanes;
use super::pipeline::{Exchange, FrameBuffer, PIECES_MAX, Piece};
use super::tar::{TarEntry, TarItem, TarKind, TarReader};
use crate::context::{Context, Phase};
use crate::error::{Error, Result};
use crate::manifest::{DirectoryEntry, FilePath, TablespaceLink};

/// A frame with so many bytes or files ends before a file that begins frames.
const FRAME_FULL_ENOUGH: usize = FRAME_RAW_MAX / 2;
const PIECES_ENOUGH: usize = PIECES_MAX / 4 * 3;
/// The largest `backup_label`.
const LABEL_FILE_BYTES_MAX: u64 = 64 << 10;

/// Turns archives into frames.
pub(super) struct Feeder<'a> {
    cx: &'a Context,
    exchange: &'a Exchange,
    lanes: &'a Lanes<Lane>,
    tablespaces: &'a [u32],
    progress: CopyProgress,
    archive: Option<Archive>,
    main_seen: bool,
    frame: Option<FrameBuffer>,
    content: Option<Content>,
    /// The number of the next file, the same in every lane.
    next_file: u64,
    /// Hashes of all paths with a random key. Two different paths of a million meet with a chance of one in 10^7, and
    /// then the next backup, with another key, succeeds.
    paths: HashSet<u64>,
    hasher: RandomState,
    label_file: Vec<u8>,
    seen_control_file: bool,
}

/// The archive that is being read.
struct Archive {
    tablespace: Option<u32>,
    tar: TarReader,
}

/// The file that is being read.
struct Content {
    file: u64,
    size: u64,
    offset: u64,
    is_label_file: bool,
    begins_frames: bool,
}

/// How far a copy is.
#[derive(Debug, Clone, Copy)]
pub(super) struct CopyProgress {
    pub(super) done_bytes: u64,
    pub(super) total_bytes: Option<u64>,
}

impl<'a> Feeder<'a> {
    pub(super) fn new(
        cx: &'a Context,
        exchange: &'a Exchange,
        lanes: &'a Lanes<Lane>,
        tablespaces: &'a [u32],
        total_bytes: Option<u64>,
    ) -> Self {
        Self {
            cx,
            exchange,
            lanes,
            tablespaces,
            progress: CopyProgress {
                done_bytes: 0,
                total_bytes,
            },
            archive: None,
            main_seen: false,
            frame: None,
            content: None,
            next_file: 0,
            paths: HashSet::new(),
            hasher: RandomState::new(),
            label_file: Vec::new(),
            seen_control_file: false,
        }
    }

    /// Begins the archive of a tablespace, or of the data directory.
    pub(super) fn begin_archive(&mut self, tablespace: Option<u32>) -> Result<()> {
        self.end_archive()?;
        match tablespace {
            Some(oid) if !self.tablespaces.contains(&oid) => {
                return Err(bad(format!(
                    "an archive of tablespace {oid}, which was not announced"
                )));
            }
            None if self.main_seen => return Err(bad("two archives of the data directory")),
            None => self.main_seen = true,
            Some(_) => {}
        }
        self.archive = Some(Archive {
            tablespace,
            tar: TarReader::new(),
        });
        Ok(())
    }

    /// Takes the next bytes of the archive.
    pub(super) fn data(&mut self, mut bytes: &[u8]) -> Result<()> {
        self.progress.done_bytes += bytes.len() as u64;
        // Taken out for the while, so that the reader and the rest of the feeder can be used together.
        let Some(mut archive) = self.archive.take() else {
            return Err(bad("data before the first archive"));
        };
        while let Some(item) = archive
            .tar
            .next(&mut bytes)
            .map_err(|error| bad(error.to_string()))?
        {
            match item {
                TarItem::Content(run) => self.content(run)?,
                TarItem::Entry(entry) => self.entry(archive.tablespace, entry)?,
            }
        }
        self.archive = Some(archive);
        Ok(())
    }

    /// Ends the current archive, which must be whole.
    pub(super) fn end_archive(&mut self) -> Result<()> {
        match self.archive.take() {
            Some(archive) => archive.tar.finish().map_err(|error| bad(error.to_string())),
            None => Ok(()),
        }
    }

    /// Hands the last frame on; gives the content of `backup_label`.
    pub(super) fn finish(mut self) -> Result<Vec<u8>> {
        self.end_archive()?;
        self.send_frame();
        if !self.seen_control_file {
            return Err(bad("no file global/pg_control"));
        }
        if self.label_file.is_empty() {
            return Err(bad("no file backup_label"));
        }
        Ok(self.label_file)
    }

    fn entry(&mut self, tablespace: Option<u32>, entry: TarEntry) -> Result<()> {
        let TarEntry {
            name,
            kind,
            mode,
            mtime,
        } = entry;
        let path = self.checked_path(tablespace, name)?;
        match kind {
            TarKind::Directory => {
                let directory = DirectoryEntry { path, mode, mtime };
                self.lanes
                    .each(|lane| lane.collector.directory(directory.clone()))
            }
            TarKind::Symlink { target } => self.link(tablespace, &path, target),
            TarKind::File { size } => {
                let is_label_file = tablespace.is_none() && path.as_bytes() == b"backup_label";
                if is_label_file && size > LABEL_FILE_BYTES_MAX {
                    return Err(bad(format!("a backup_label of {size} bytes")));
                }
                self.seen_control_file |= path.as_bytes() == b"global/pg_control";
                // One file in four; a plain sum over the name, the same in every process.
                let name = path.as_bytes().iter();
                let begins_frames =
                    name.fold(0_u8, |sum, byte| sum.wrapping_mul(31).wrapping_add(*byte)) >= 192;
                let header = FileHeader {
                    path,
                    size,
                    mode,
                    mtime,
                };
                let file = self.next_file;
                self.next_file += 1;
                self.lanes.each(|lane| lane.begin_file(file, &header))?;
                self.content = (size > 0).then_some(Content {
                    file,
                    size,
                    offset: 0,
                    is_label_file,
                    begins_frames,
                });
                Ok(())
            }
        }
    }

    /// The path within the data directory of a name in an archive.
    fn checked_path(&mut self, tablespace: Option<u32>, name: Vec<u8>) -> Result<FilePath> {
        // The server writes some names, such as ./pg_wal/archive_status, from here.
        let name = name.strip_prefix(b"./").map(<[u8]>::to_vec).unwrap_or(name);
        let whole = match tablespace {
            None => name,
            Some(oid) => {
                // Checked alone first: behind the prefix an absolute name would no longer look like one.
                FilePath::new(name.as_slice()).map_err(|error| bad(error.to_string()))?;
                [format!("pg_tblspc/{oid}/").as_bytes(), &name].concat()
            }
        };
        let path = FilePath::new(whole).map_err(|error| bad(error.to_string()))?;
        if tablespace.is_none() && self.is_in_tablespace(&path) {
            return Err(bad(format!(
                "{path} comes with the data directory, not with its tablespace"
            )));
        }
        if !self.paths.insert(self.hasher.hash_one(&path)) {
            return Err(bad(format!("{path} comes twice")));
        }
        Ok(path)
    }

    fn is_in_tablespace(&self, path: &FilePath) -> bool {
        let mut components = path.components();
        let three = (components.next(), components.next(), components.next());
        let (Some(b"pg_tblspc"), Some(oid), Some(_)) = three else {
            return false;
        };
        self.tablespaces
            .iter()
            .any(|tablespace| tablespace.to_string().as_bytes() == oid)
    }

    /// The only links that a server sends are those of its tablespaces.
    fn link(&mut self, tablespace: Option<u32>, path: &FilePath, target: Vec<u8>) -> Result<()> {
        let name = path
            .as_bytes()
            .strip_prefix(b"pg_tblspc/")
            .filter(|_| tablespace.is_none());
        let oid = name.and_then(|name| std::str::from_utf8(name).ok()?.parse::<u32>().ok());
        let target = String::from_utf8(target)
            .ok()
            .filter(|target| target.starts_with('/'));
        match (oid, target) {
            (Some(oid), Some(target))
                if path.as_bytes() == format!("pg_tblspc/{oid}").as_bytes() =>
            {
                let link = TablespaceLink { oid, target };
                self.lanes
                    .each(|lane| lane.collector.tablespace(link.clone()))
            }
            _ => Err(bad(format!(
                "{path} is a symbolic link that is not a tablespace's"
            ))),
        }
    }

    fn content(&mut self, mut run: &[u8]) -> Result<()> {
        let Some(mut content) = self.content.take() else {
            return Err(bad("content without a file"));
        };
        if content.is_label_file {
            self.label_file.extend_from_slice(run);
        }
        while !run.is_empty() {
            let mut frame = match self.frame.take() {
                Some(frame) => frame,
                None => self.exchange.take_free(self.cx)?,
            };
            let room = room(&frame, &content);
            if room == 0 {
                self.frame = Some(frame);
                self.send_frame();
                continue;
            }
            let (now, later) = run.split_at(room.min(run.len()));
            append(&mut frame, &mut content, now);
            self.frame = Some(frame);
            run = later;
        }
        self.content = (content.offset < content.size).then_some(content);
        Ok(())
    }

    fn send_frame(&mut self) {
        if let Some(frame) = self.frame.take() {
            self.exchange.give_full(frame);
            let CopyProgress {
                done_bytes,
                total_bytes,
            } = self.progress;
            let lanes = self.lanes.open();
            let detail = match lanes.map(|(_, lane)| lane.reused_bytes()).max() {
                None | Some(0) => String::new(),
                Some(bytes) => format!(
                    "{} MiB of it were stored by a backup that was interrupted",
                    bytes >> 20
                ),
            };
            self.cx
                .report(Phase::Copy, done_bytes, total_bytes, &detail);
        }
    }
}

/// How many more bytes of the file go into the frame.
fn room(frame: &FrameBuffer, content: &Content) -> usize {
    let room = FRAME_RAW_MAX - frame.bytes.len();
    let continues = frame
        .pieces
        .last()
        .is_some_and(|piece| piece.file == content.file);
    if continues || frame.pieces.is_empty() {
        return room;
    }
    let full = frame.bytes.len() >= FRAME_FULL_ENOUGH || frame.pieces.len() >= PIECES_ENOUGH;
    let ends = content.size > room as u64
        || frame.pieces.len() >= PIECES_MAX
        || (full && content.begins_frames);
    if ends { 0 } else { room }
}

fn append(frame: &mut FrameBuffer, content: &mut Content, bytes: &[u8]) {
    match frame.pieces.last_mut() {
        Some(piece) if piece.file == content.file => piece.length += bytes.len() as u32,
        _ => frame.pieces.push(Piece {
            file: content.file,
            file_offset: content.offset,
            start: frame.bytes.len() as u32,
            length: bytes.len() as u32,
        }),
    }
    frame.bytes.extend_from_slice(bytes);
    content.offset += bytes.len() as u64;
}

/// The stream is not a backup that PostgreSQL would send.
fn bad(reason: impl Into<String>) -> Error {
    Error::BadStream {
        reason: reason.into(),
    }
}
