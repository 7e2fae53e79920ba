//! Tar archives into frames.
//!
//! The [`Feeder`] takes the archives' bytes as they come, checks every name, tells the collectors what there is, and
//! copies file content into frame buffers: that copy is the only one between the socket's buffer and the compressor.
//!
//! Where the server sends changed pages only, a file with some of them becomes the whole file that it stands for (`changed`):
//! the rest is in the backup before, and each lane finds it there.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};

use pgm_proto::BackupPages;

use super::changed::{self, ChangedPages, HeaderReader};
use super::collect::FileHeader;
use super::copy::Announced;
use super::fill::Content;
use super::lane::Lane;
use super::lanes::Lanes;
use super::page::PAGE_BYTES;
use super::pipeline::{Exchange, FrameBuffer};
use super::tar::{TarEntry, TarItem, TarKind, TarReader};
use crate::context::{Context, Phase};
use crate::error::{Error, Result};
use crate::manifest::{DirectoryEntry, FilePath, TablespaceLink};

/// The largest `backup_label`.
const LABEL_FILE_BYTES_MAX: u64 = 64 << 10;
/// A piece of what nobody has.
static ZEROS: [u8; 1 << 16] = [0; 1 << 16];

/// Turns archives into frames.
pub(super) struct Feeder<'a> {
    cx: &'a Context,
    exchange: &'a Exchange,
    lanes: &'a Lanes<Lane>,
    announced: &'a Announced,
    progress: CopyProgress,
    archive: Option<Archive>,
    main_seen: bool,
    frame: Option<FrameBuffer>,
    reading: Option<Reading>,
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
enum Reading {
    Whole(Content),
    /// `backup_label`, which is put in place once it is here.
    Label {
        header: FileHeader,
    },
    /// The beginning of a file with changed pages only. The header is that of the file that it stands for.
    Beginning {
        header: FileHeader,
        reader: HeaderReader,
    },
    /// The pages of it, and what nobody has of the file.
    Pages {
        content: Content,
        zeros: Content,
    },
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
        announced: &'a Announced,
    ) -> Self {
        Self {
            cx,
            exchange,
            lanes,
            announced,
            progress: CopyProgress {
                done_bytes: 0,
                total_bytes: announced.total_bytes,
            },
            archive: None,
            main_seen: false,
            frame: None,
            reading: None,
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
            Some(oid) if !self.announced.tablespaces.contains(&oid) => {
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
        let (path, reader) = self.checked_path(tablespace, name, &kind)?;
        match kind {
            TarKind::Directory => {
                let directory = DirectoryEntry { path, mode, mtime };
                self.lanes
                    .each(|lane| lane.collector.directory(directory.clone()))
            }
            TarKind::Symlink { target } => self.link(tablespace, &path, target),
            TarKind::File { size } => self.file(
                tablespace,
                FileHeader {
                    path,
                    size,
                    mode,
                    mtime,
                },
                reader,
            ),
        }
    }

    /// A file comes, whole or with changed pages only.
    fn file(
        &mut self,
        tablespace: Option<u32>,
        header: FileHeader,
        reader: Option<HeaderReader>,
    ) -> Result<()> {
        if let Some(reader) = reader {
            self.reading = Some(Reading::Beginning { header, reader });
            return Ok(());
        }
        let (path, size) = (header.path.as_bytes(), header.size);
        if tablespace.is_none() && path == b"backup_label" {
            if size > LABEL_FILE_BYTES_MAX {
                return Err(bad(format!("a backup_label of {size} bytes")));
            }
            self.reading = (size > 0).then_some(Reading::Label { header });
            return Ok(());
        }
        self.seen_control_file |= path == b"global/pg_control";
        let content = Content::whole(self.next_file, path, size);
        self.begin_file(&header)?;
        self.reading = (size > 0).then_some(Reading::Whole(content));
        Ok(())
    }

    /// Begins a whole file in every lane.
    fn begin_file(&mut self, header: &FileHeader) -> Result<()> {
        let file = self.next_file;
        self.next_file += 1;
        self.lanes.each(|lane| lane.begin_file(file, header))
    }

    /// The path within the data directory of a name in an archive; of a file with changed pages only, that of the file that it
    /// stands for, and who reads its beginning.
    fn checked_path(
        &mut self,
        tablespace: Option<u32>,
        name: Vec<u8>,
        kind: &TarKind,
    ) -> Result<(FilePath, Option<HeaderReader>)> {
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
        let mut path = FilePath::new(whole).map_err(|error| bad(error.to_string()))?;
        let mut reader = None;
        if let (BackupPages::Changed, TarKind::File { size }) = (self.announced.pages, kind)
            && let Some(whole) = changed::stands_for(&path)
        {
            path = whole;
            reader = Some(HeaderReader::new(*size));
        }
        if tablespace.is_none() && self.is_in_tablespace(&path) {
            return Err(bad(format!(
                "{path} comes with the data directory, not with its tablespace"
            )));
        }
        if !self.paths.insert(self.hasher.hash_one(&path)) {
            return Err(bad(format!("{path} comes twice")));
        }
        Ok((path, reader))
    }

    fn is_in_tablespace(&self, path: &FilePath) -> bool {
        let mut components = path.components();
        let three = (components.next(), components.next(), components.next());
        let (Some(b"pg_tblspc"), Some(oid), Some(_)) = three else {
            return false;
        };
        self.announced
            .tablespaces
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
        let Some(mut reading) = self.reading.take() else {
            return Err(bad("content without a file"));
        };
        if let Reading::Beginning { header, reader } = &mut reading {
            let taken = reader.take(&mut run);
            let taken = taken.map_err(|reason| {
                let path = &header.path;
                bad(format!("the file with changed pages of {path}: {reason}"))
            })?;
            match taken {
                None => {
                    self.reading = Some(reading);
                    return Ok(());
                }
                Some(changed) => reading = self.begin_changed(header, &changed)?,
            }
        }
        self.reading = match reading {
            Reading::Label { header } => self.label(header, run)?,
            Reading::Whole(mut content) => {
                self.store(&mut content, run)?;
                (!content.is_complete()).then_some(Reading::Whole(content))
            }
            Reading::Pages {
                mut content,
                mut zeros,
            } => {
                self.store(&mut content, run)?;
                if content.is_complete() {
                    while !zeros.is_complete() {
                        self.store(&mut zeros, &ZEROS)?;
                    }
                    None
                } else {
                    Some(Reading::Pages { content, zeros })
                }
            }
            Reading::Beginning { .. } => None,
        };
        Ok(())
    }

    /// Begins the file that one with changed pages stands for.
    fn begin_changed(
        &mut self,
        header: &mut FileHeader,
        changed: &ChangedPages,
    ) -> Result<Reading> {
        header.size = u64::from(changed.file_blocks()) * PAGE_BYTES as u64;
        let file = self.next_file;
        self.next_file += 1;
        // The backup before is the same one in all lanes.
        let mut before = None;
        self.lanes.each(|lane| {
            let bytes = lane.begin_changed(file, header, changed)?;
            if *before.get_or_insert(bytes) == bytes {
                return Ok(());
            }
            Err(bad(format!(
                "{} has another size in another repository's backup",
                header.path
            )))
        })?;
        let zeros = changed.zeros(before.unwrap_or(0));
        Ok(Reading::Pages {
            content: Content::pages(file, changed.sent()),
            zeros: Content::pages(file, zeros),
        })
    }

    /// Takes bytes of `backup_label`; puts it in place when they are all there.
    fn label(&mut self, mut header: FileHeader, run: &[u8]) -> Result<Option<Reading>> {
        self.label_file.extend_from_slice(run);
        if (self.label_file.len() as u64) < header.size {
            return Ok(Some(Reading::Label { header }));
        }
        self.label_file = changed::whole_label(&self.label_file);
        header.size = self.label_file.len() as u64;
        let mut content = Content::whole(self.next_file, header.path.as_bytes(), header.size);
        self.begin_file(&header)?;
        let label = std::mem::take(&mut self.label_file);
        self.store(&mut content, &label)?;
        self.label_file = label;
        Ok(None)
    }

    /// Puts bytes of a file into frames; `run` may go on behind the content.
    fn store(&mut self, content: &mut Content, mut run: &[u8]) -> Result<()> {
        while !run.is_empty() && !content.is_complete() {
            let mut frame = match self.frame.take() {
                Some(frame) => frame,
                None => self.exchange.take_free(self.cx)?,
            };
            let taken = content.put(&mut frame, run);
            self.frame = Some(frame);
            if taken == 0 {
                self.send_frame();
            }
            run = &run[taken..];
        }
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

/// The stream is not a backup that PostgreSQL would send.
fn bad(reason: impl Into<String>) -> Error {
    Error::BadStream {
        reason: reason.into(),
    }
}
