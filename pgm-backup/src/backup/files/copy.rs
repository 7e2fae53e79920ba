//! The files of a data directory into frames.
//!
//! The [`Copier`] opens each file when its turn comes, and gives its bytes places in frames; the workers read them. When many small files
//! are open, it reads the next ones itself.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pgm_wal::summary::Summary;

use super::changes::changed;
use super::directory::{At, DataDirectory, Entry, Opening};
use super::names;
use super::session::{Session, Stopped};
use super::walk::{Tree, Visitor};
use crate::backup::changed::ChangedPages;
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
pub(super) struct Copier<'a, D> {
    cx: &'a Context,
    directory: &'a D,
    exchange: &'a Exchange,
    lanes: &'a Lanes<Lane>,
    session: &'a mut Session,
    reading: Reading<'a>,
    frame: Option<FrameBuffer>,
    next_file: u64,
    done_bytes: u64,
    begun: Instant,
    warnings: Vec<String>,
}

impl<'a, D: DataDirectory> Copier<'a, D> {
    pub(super) fn new(
        cx: &'a Context,
        directory: &'a D,
        (exchange, lanes): (&'a Exchange, &'a Lanes<Lane>),
        session: &'a mut Session,
        reading: Reading<'a>,
    ) -> Self {
        Self {
            cx,
            directory,
            exchange,
            lanes,
            session,
            reading,
            frame: None,
            next_file: 0,
            done_bytes: 0,
            begun: Instant::now(),
            warnings: Vec::new(),
        }
    }

    /// Copies all of it and ends the backup; gives what the server said at the end, and what was left behind.
    pub(super) fn copy(mut self, tree: &Tree<'_, D>) -> Result<(Stopped, Vec<String>)> {
        tree.visit(self.cx, &mut self)?;
        // Everything must have been read before the backup ends, and before pg_control: what that says holds for all pages.
        self.send_frame()?;
        self.exchange.wait_stored(self.cx)?;
        let (header, bytes) = self.directory.control_file()?;
        self.bytes(&header, &bytes)?;
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

    /// Gives all of an open file places in frames, or the pages of it that are read, if that is known.
    fn opened(
        &mut self,
        header: &FileHeader,
        mut file: SourceFile,
        changed: Option<(ChangedPages, u64)>,
    ) -> Result<()> {
        file.pages = self.reading.checks.and_then(|checks| {
            Some(CheckedPages {
                first_block: names::first_block(header.path.as_bytes())?,
                checks: Arc::clone(checks),
            })
        });
        let file = Arc::new(file);
        if let Some((pages, before)) = changed {
            let mut content = self.begin_changed(header, &pages, before)?;
            return self.runs(&file, &mut content);
        }
        let number = self.begin_file(header)?;
        let mut content = Content::whole(number, header.path.as_bytes(), header.size);
        self.runs(&file, &mut content)
    }

    /// The pages that are read of a file, if it is not read as a whole, and how many bytes it has in the backup before.
    fn changed_pages(&self, header: &FileHeader) -> Option<(ChangedPages, u64)> {
        let changes = self.reading.changes?;
        // The backup before is the same one in all lanes.
        let (_, lane) = self.lanes.open().next()?;
        let before = lane.bytes_before(&header.path)?;
        Some((changed(changes, &header.path, header.size, before)?, before))
    }

    /// Begins a file of which only `pages` are read; the rest is in the backup before, with `before` bytes in all.
    fn begin_changed(
        &mut self,
        header: &FileHeader,
        pages: &ChangedPages,
        before: u64,
    ) -> Result<Content> {
        let number = self.next_file;
        self.next_file += 1;
        self.lanes.each(|lane| {
            let bytes = lane.begin_changed(number, header, pages)?;
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
        Ok(Content::pages(number, pages.sent()))
    }

    /// Plans the reading of what is left of a file's content.
    fn runs(&mut self, file: &Arc<SourceFile>, content: &mut Content) -> Result<()> {
        while !content.is_complete() {
            let many_open = self.directory.has_many_open();
            self.place(content, |offset, length| {
                let file = Arc::clone(file);
                if length >= LEFT_TO_WORKERS || !many_open {
                    return Ok(Planned::Run {
                        file,
                        offset,
                        length,
                    });
                }
                Ok(Planned::Bytes(file.read(offset, length)?))
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
}

impl<D: DataDirectory> Visitor<D> for Copier<'_, D> {
    fn folder(&mut self, folder: DirectoryEntry) -> Result<()> {
        self.lanes
            .each(|lane| lane.collector.directory(folder.clone()))
    }

    fn tablespace(&mut self, link: TablespaceLink) -> Result<()> {
        self.lanes
            .each(|lane| lane.collector.tablespace(link.clone()))
    }

    fn file(&mut self, at: At<'_, D>, path: FilePath, entry: &Entry) -> Result<()> {
        // Nothing is read of most files: these are not even opened.
        let seen = entry.header(&path);
        let changed = self.changed_pages(&seen);
        if let Some((pages, before)) = &changed
            && pages.blocks.is_empty()
        {
            return self.begin_changed(&seen, pages, *before).map(drop);
        }
        match self.directory.open(at, &path, entry)? {
            // It may have become longer or shorter meanwhile.
            Opening::Open(header, file) if header.size != seen.size => {
                let changed = self.changed_pages(&header);
                self.opened(&header, file, changed)
            }
            Opening::Open(header, file) => self.opened(&header, file, changed),
            Opening::Read(header, bytes) => self.bytes(&header, &bytes),
            Opening::Gone => Ok(()),
            Opening::Other => self.left(&path, "no regular file"),
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
