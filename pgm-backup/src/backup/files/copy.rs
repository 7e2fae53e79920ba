//! The files of a data directory into frames.
//!
//! The [`Copier`] opens each file when its turn comes, so that what is removed later can still be read, and gives its bytes places in frames;
//! the workers read them. When many small files are open, it reads the next ones itself.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use pgm_wal::summary::Summary;
use rustix::fs::{FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::changes::changed;
use super::session::{Session, Stopped};
use super::walk::{Tree, Visitor, changed_at, failed, permissions};
use super::{control_file, control_file::ControlFile, names};
use crate::backup::collect::FileHeader;
use crate::backup::fill::Content;
use crate::backup::lane::Lane;
use crate::backup::lanes::Lanes;
use crate::backup::pipeline::{Exchange, FrameBuffer};
use crate::backup::read::{CheckedPages, PageChecks, Planned, SourceFile};
use crate::context::{Context, Phase};
use crate::error::{Error, Result};
use crate::manifest::{DirectoryEntry, FilePath, TablespaceLink};

/// Runs of at least so many bytes are left to the workers: a frame has few of them.
const LEFT_TO_WORKERS: usize = 64 << 10;
/// And so are smaller ones, while no more files than this are open.
const OPEN_MAX: usize = 256;
/// So many things that are left behind are named.
const NAMED_MAX: usize = 100;
/// How often somebody who waits because of the rate looks whether the backup was cancelled.
const CANCEL_EVERY: Duration = Duration::from_millis(100);

/// How files are read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reading<'a> {
    /// Where pages are checked, with what.
    pub(super) checks: Option<&'a Arc<PageChecks>>,
    /// What has changed since the backup on which this one is built.
    pub(super) changes: Option<&'a Summary>,
    pub(super) total_bytes: Option<u64>,
    pub(super) max_rate_kib: Option<u32>,
}

/// Turns files into frames.
pub(super) struct Copier<'a> {
    cx: &'a Context,
    exchange: &'a Exchange,
    lanes: &'a Lanes<Lane>,
    session: &'a mut Session,
    reading: Reading<'a>,
    frame: Option<FrameBuffer>,
    next_file: u64,
    done_bytes: u64,
    begun: Instant,
    /// As many as there are open files, and one.
    open: Arc<()>,
    warnings: Vec<String>,
}

/// A file that is open, and what is known of it.
struct Opened {
    file: Arc<SourceFile>,
    header: FileHeader,
}

impl<'a> Copier<'a> {
    pub(super) fn new(
        cx: &'a Context,
        exchange: &'a Exchange,
        lanes: &'a Lanes<Lane>,
        session: &'a mut Session,
        reading: Reading<'a>,
    ) -> Self {
        Self {
            cx,
            exchange,
            lanes,
            session,
            reading,
            frame: None,
            next_file: 0,
            done_bytes: 0,
            begun: Instant::now(),
            open: Arc::new(()),
            warnings: Vec::new(),
        }
    }

    /// Copies all of it and ends the backup; gives what the server said at the end, and what was left behind.
    pub(super) fn copy(mut self, tree: &Tree, control: &File) -> Result<(Stopped, Vec<String>)> {
        tree.visit(self.cx, &mut self)?;
        // Everything must have been read before the backup ends, and before pg_control: what that says holds for all pages.
        self.send_frame()?;
        self.exchange.wait_stored(self.cx)?;
        self.control_file(control)?;
        let stopped = self.session.stop()?;
        let header = FileHeader {
            path: path_of(b"backup_label")?,
            size: stopped.label_file.len() as u64,
            mode: 0o600,
            mtime: now(),
        };
        self.bytes(&header, &stopped.label_file)?;
        self.send_frame()?;
        Ok((stopped, self.warnings))
    }

    fn control_file(&mut self, control: &File) -> Result<()> {
        let stat = rustix::fs::fstat(control)
            .map_err(|error| failed("look at", control_file::PATH, error))?;
        let ControlFile { bytes } = ControlFile::read(control)?;
        let header = FileHeader {
            path: path_of(control_file::PATH)?,
            size: bytes.len() as u64,
            mode: permissions(&stat),
            mtime: changed_at(&stat),
        };
        self.bytes(&header, &bytes)
    }

    /// A file whose bytes are here.
    fn bytes(&mut self, header: &FileHeader, bytes: &[u8]) -> Result<()> {
        let number = self.begin_file(header)?;
        let mut content = Content::whole(number, header.path.as_bytes(), header.size);
        let mut rest = bytes;
        while !content.is_complete() {
            self.place(&mut content, |_, length| {
                let (now, later) = rest.split_at(length);
                rest = later;
                Ok(Planned::Bytes(now.to_vec()))
            })?;
        }
        Ok(())
    }

    fn begin_file(&mut self, header: &FileHeader) -> Result<u64> {
        let number = self.next_file;
        self.next_file += 1;
        self.lanes.each(|lane| lane.begin_file(number, header))?;
        Ok(number)
    }

    /// Gives all of an open file places in frames.
    fn opened(&mut self, opened: Opened) -> Result<()> {
        let Opened { file, header } = opened;
        if let Some(mut content) = self.changed_content(&header)? {
            return self.runs(&file, &mut content);
        }
        let number = self.begin_file(&header)?;
        let mut content = Content::whole(number, header.path.as_bytes(), header.size);
        self.runs(&file, &mut content)
    }

    /// The pages that are read of a file, if it is not read as a whole; the rest is in the backup before.
    fn changed_content(&mut self, header: &FileHeader) -> Result<Option<Content>> {
        let Some(changes) = self.reading.changes else {
            return Ok(None);
        };
        // The backup before is the same one in all lanes.
        let before = self.lanes.open().next();
        let before = before.and_then(|(_, lane)| lane.bytes_before(&header.path));
        let Some(before) = before else {
            return Ok(None);
        };
        let Some(changed) = changed(changes, &header.path, header.size, before) else {
            return Ok(None);
        };
        let number = self.next_file;
        self.next_file += 1;
        self.lanes.each(|lane| {
            let bytes = lane.begin_changed(number, header, &changed)?;
            if bytes == before {
                return Ok(());
            }
            Err(Error::BadStream {
                reason: format!(
                    "{} has another size in another repository's backup",
                    header.path
                ),
            })
        })?;
        Ok(Some(Content::pages(number, changed.sent())))
    }

    /// Plans the reading of what is left of a file's content.
    fn runs(&mut self, file: &Arc<SourceFile>, content: &mut Content) -> Result<()> {
        while !content.is_complete() {
            let many_open = Arc::strong_count(&self.open) > OPEN_MAX;
            self.place(content, |offset, length| {
                if length >= LEFT_TO_WORKERS || !many_open {
                    return Ok(Planned::Run {
                        file: Arc::clone(file),
                        offset,
                        length,
                    });
                }
                let mut bytes = vec![0; length];
                file.read(offset, &mut bytes)?;
                Ok(Planned::Bytes(bytes))
            })?;
        }
        Ok(())
    }

    /// Gives the next bytes of a file a place in a frame; `plan` says where they come from.
    fn place(
        &mut self,
        content: &mut Content,
        plan: impl FnOnce(u64, usize) -> Result<Planned>,
    ) -> Result<()> {
        loop {
            let mut frame = match self.frame.take() {
                Some(frame) => frame,
                None => self.exchange.take_free(self.cx)?,
            };
            let (offset, length) = content.claim(&mut frame, usize::MAX);
            if length > 0 {
                let planned = plan(offset, length)?;
                frame.planned.push(planned);
                self.frame = Some(frame);
                return Ok(());
            }
            self.frame = Some(frame);
            self.send_frame()?;
        }
    }

    fn send_frame(&mut self) -> Result<()> {
        let Some(frame) = self.frame.take() else {
            return Ok(());
        };
        self.session.look()?;
        self.done_bytes += frame.length() as u64;
        self.exchange.give_full(frame);
        let reused = self.lanes.open().map(|(_, lane)| lane.reused_bytes()).max();
        let detail = match reused {
            None | Some(0) => String::new(),
            Some(bytes) => format!(
                "{} MiB of it were stored by a backup that was interrupted",
                bytes >> 20
            ),
        };
        let total = self.reading.total_bytes;
        self.cx.report(Phase::Copy, self.done_bytes, total, &detail);
        self.keep_rate()
    }

    /// Waits until no more than the rate allows has been read.
    fn keep_rate(&mut self) -> Result<()> {
        let Some(kib) = self.reading.max_rate_kib else {
            return Ok(());
        };
        let due =
            Duration::from_secs_f64(self.done_bytes as f64 / (f64::from(kib.max(1)) * 1024.0));
        loop {
            self.cx.check_cancel()?;
            self.session.look()?;
            let left = due.saturating_sub(self.begun.elapsed());
            if left.is_zero() {
                return Ok(());
            }
            std::thread::sleep(left.min(CANCEL_EVERY));
        }
    }

    /// Opens a file that was there a moment ago.
    fn open(
        &self,
        folder: BorrowedFd<'_>,
        name: &OsStr,
        path: FilePath,
    ) -> Result<Result<Opened, Left>> {
        // Should it be a pipe by now, nobody waits for its other end.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match rustix::fs::openat(folder, name, flags, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::NOENT) => return Ok(Err(Left::Gone)),
            Err(Errno::LOOP) => return Ok(Err(Left::Other(path))),
            Err(error) => return Err(failed("open", path.as_bytes(), error)),
        };
        let stat = rustix::fs::fstat(file.as_fd())
            .map_err(|error| failed("look at", path.as_bytes(), error))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Ok(Err(Left::Other(path)));
        }
        let header = FileHeader {
            path: path.clone(),
            size: u64::try_from(stat.st_size).unwrap_or(0),
            mode: permissions(&stat),
            mtime: changed_at(&stat),
        };
        let pages = self.reading.checks.and_then(|checks| {
            let first_block = names::first_block(path.as_bytes())?;
            Some(CheckedPages {
                first_block,
                checks: Arc::clone(checks),
            })
        });
        let file = SourceFile {
            file: file.into(),
            path,
            pages,
            _open: Arc::clone(&self.open),
        };
        Ok(Ok(Opened {
            file: Arc::new(file),
            header,
        }))
    }
}

/// Why a file is not backed up after all.
enum Left {
    Gone,
    Other(FilePath),
}

impl Visitor for Copier<'_> {
    fn folder(&mut self, folder: DirectoryEntry) -> Result<()> {
        self.lanes
            .each(|lane| lane.collector.directory(folder.clone()))
    }

    fn tablespace(&mut self, link: TablespaceLink) -> Result<()> {
        self.lanes
            .each(|lane| lane.collector.tablespace(link.clone()))
    }

    fn file(
        &mut self,
        folder: BorrowedFd<'_>,
        name: &OsStr,
        path: FilePath,
        _: &Stat,
    ) -> Result<()> {
        match self.open(folder, name, path)? {
            Ok(opened) => self.opened(opened),
            Err(Left::Gone) => Ok(()),
            Err(Left::Other(path)) => self.left(&path, "no regular file"),
        }
    }

    fn left(&mut self, path: &FilePath, what: &'static str) -> Result<()> {
        tracing::warn!(%path, what, "not backed up");
        if self.warnings.len() < NAMED_MAX {
            let text = format!("{path} is {what}, and not backed up");
            self.warnings.push(text);
        }
        Ok(())
    }
}

fn path_of(path: &[u8]) -> Result<FilePath> {
    FilePath::new(path).map_err(|error| Error::BadStream {
        reason: error.to_string(),
    })
}

fn now() -> u64 {
    u64::try_from(jiff::Timestamp::now().as_second()).unwrap_or(0)
}
