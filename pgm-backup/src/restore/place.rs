//! Puts the pages of a backup where they belong: packs are read in order, frames are decoded in parallel, pieces are
//! written to their files.
//!
//! The manifest streams. A window of pieces is sorted by pack and offset, so that each frame is read and decoded once
//! and each pack from its beginning to its end; memory is bounded by the window and a few frames for each worker.
//! `global/pg_control` is held back for last: without it PostgreSQL does not start. Each file is checked as soon as it is
//! complete.

use std::collections::HashMap;
use std::fs::File;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;

use pgm_proto::ServerName;
use pgm_storage::{Cancel, FrameDecoder, FrameLocation, PackReader};

use super::destination::{Creation, Destination, Progress};
use super::error::RestoreError;
use super::open_file::{FrameRoom, OpenFile};
use super::roots::{Found, Roots};
use crate::context::{Context, Phase};
use crate::error::Error;
use crate::label::BackupLabel;
use crate::manifest::{Extent, FileEntry, FilePath, ManifestEntry, ManifestReader, PackRecord};
use crate::repository::Repository;

/// Pieces that are sorted at a time: 64 GiB of large files, or as many small files.
const WINDOW_PIECES: usize = 1 << 16;
/// Frames that wait for a worker.
const QUEUE_FRAMES: usize = 64;
/// Packs that a worker keeps open.
const OPEN_PACKS_MAX: usize = 16;
/// Files below this are not preallocated.
const PREALLOCATE_MIN: u64 = 2 << 20;
/// The file without which PostgreSQL does not start.
pub(super) const CONTROL_FILE: &[u8] = b"global/pg_control";

/// What was put in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Placed {
    pub(super) files: u64,
    pub(super) bytes: u64,
    /// Of the bytes, those that were there before.
    pub(super) kept_bytes: u64,
}

/// Where the packs of a backup are, and how the backup is called in errors.
#[derive(Debug)]
pub(super) struct Source<'a> {
    pub(super) repository: &'a Repository,
    pub(super) server: &'a ServerName,
    pub(super) label: BackupLabel,
    pub(super) packs: &'a [PackRecord],
}

/// What is put in place, and where.
#[derive(Debug)]
pub(super) struct Restoration<'a> {
    pub(super) cx: &'a Context,
    pub(super) roots: &'a Roots,
    pub(super) source: Source<'a>,
    pub(super) total_bytes: u64,
}

/// A run of bytes of a file and its place in a frame.
#[derive(Debug)]
struct Piece {
    destination: Arc<Destination>,
    extent: Extent,
}

/// A frame and what is to be cut out of it.
#[derive(Debug)]
struct Job {
    pack: u32,
    frame_offset: u64,
    pieces: Vec<Piece>,
}

/// What the threads share.
#[derive(Debug)]
struct Shared<'a> {
    cx: &'a Context,
    roots: &'a Roots,
    source: Source<'a>,
    total_bytes: u64,
    done_bytes: AtomicU64,
    kept_bytes: AtomicU64,
    /// The checksums of files of which the manifest has none, in its order, as they are found.
    found: Mutex<Vec<u32>>,
    stop: Cancel,
    failure: Mutex<Option<RestoreError>>,
}

/// Puts every file of the manifest in place, then does what `before_control` does, and puts `pg_control` in place last.
/// `before_control` gets the checksums of the files of which the manifest has none, in its order.
pub(super) fn place(
    restoration: Restoration<'_>,
    manifest: ManifestReader,
    workers: usize,
    before_control: impl FnOnce(&[u32]) -> Result<(), RestoreError>,
) -> Result<Placed, RestoreError> {
    let Restoration {
        cx,
        roots,
        source,
        total_bytes,
    } = restoration;
    let shared = Shared {
        cx,
        roots,
        source,
        total_bytes,
        done_bytes: AtomicU64::new(0),
        kept_bytes: AtomicU64::new(0),
        found: Mutex::default(),
        stop: Cancel::new(),
        failure: Mutex::new(None),
    };
    let (jobs, queue) = mpsc::sync_channel(QUEUE_FRAMES);
    let queue = Mutex::new(queue);
    let dispatched = thread::scope(|scope| {
        for _ in 0..workers.max(1) {
            scope.spawn(|| shared.run_worker(&queue));
        }
        let mut dispatcher = Dispatcher {
            shared: &shared,
            jobs,
            window: Vec::new(),
            placed: Placed::default(),
        };
        let control = dispatcher.run(manifest);
        let placed = dispatcher.placed;
        if control.is_err() {
            shared.stop.cancel();
        }
        drop(dispatcher);
        control.map(|control| (control, placed))
    });
    // The failure of a worker is the cause, that the dispatcher could go no further is not.
    let failure = shared
        .failure
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take();
    if let Some(error) = failure {
        return Err(error);
    }
    let (control, placed) = dispatched?;
    let kept_bytes = shared.kept_bytes.load(Ordering::Relaxed);
    let placed = Placed {
        kept_bytes,
        ..placed
    };
    let found = std::mem::take(&mut *shared.found());
    before_control(&found)?;
    roots.sync()?;
    shared.place_control(control.as_ref())?;
    Ok(placed)
}

/// Reads the manifest and hands out frames in pack order.
struct Dispatcher<'a> {
    shared: &'a Shared<'a>,
    jobs: mpsc::SyncSender<Job>,
    window: Vec<Piece>,
    placed: Placed,
}

impl Dispatcher<'_> {
    fn run(&mut self, mut manifest: ManifestReader) -> Result<Option<FileEntry>, RestoreError> {
        let mut control = None;
        while let Some(entry) = manifest.next_entry()? {
            self.shared.check_stop()?;
            match entry {
                ManifestEntry::Directory(folder) => {
                    self.shared.roots.make_folder(&folder.path, folder.mode)?;
                }
                ManifestEntry::File(file) => {
                    self.shared.check_extents(&file)?;
                    self.placed.files += 1;
                    self.placed.bytes += file.size;
                    if file.path.as_bytes() == CONTROL_FILE {
                        // `backup_manifest` names it before it is in place.
                        if file.crc32c.is_none() {
                            return Err(self.shared.damaged(&file.path, "it has no checksum"));
                        }
                        control = Some(file);
                    } else {
                        self.file(file)?;
                    }
                }
                // The tablespaces are in the catalog entry, and PostgreSQL sends no other links.
                ManifestEntry::Tablespace(_) | ManifestEntry::Symlink(_) => {}
            }
            if self.window.len() >= WINDOW_PIECES {
                self.hand_out()?;
            }
        }
        self.hand_out()?;
        Ok(control)
    }

    fn file(&mut self, file: FileEntry) -> Result<(), RestoreError> {
        let creation = match file.extents.len() {
            _ if self.is_there(&file)? => Creation::Before,
            1 => Creation::ByWriter,
            _ if file.size < PREALLOCATE_MIN => Creation::Done,
            _ => Creation::WithRoom,
        };
        if matches!(creation, Creation::Done | Creation::WithRoom) {
            let made = self.shared.roots.create(&file.path, file.mode)?;
            if creation == Creation::WithRoom {
                preallocate(&made, file.size).map_err(|error| {
                    RestoreError::file("make room for", file.path.as_path(), error)
                })?;
            }
        }
        let unknown = file.crc32c.is_none().then(|| {
            let mut found = self.shared.found();
            found.push(0);
            found.len() - 1
        });
        let destination = Arc::new(Destination::new(&file, creation, unknown));
        let pieces = file.extents.into_iter();
        self.window.extend(pieces.map(|extent| Piece {
            destination: destination.clone(),
            extent,
        }));
        Ok(())
    }

    /// Whether the file was there before; it has its size and mode then.
    fn is_there(&self, file: &FileEntry) -> Result<bool, RestoreError> {
        let roots = self.shared.roots;
        if roots.found() == Found::Nothing {
            return Ok(false);
        }
        let existing = roots.open_existing(&file.path, file.mode, file.size)?;
        Ok(existing.is_some())
    }

    fn hand_out(&mut self) -> Result<(), RestoreError> {
        self.window.sort_by_key(|piece| {
            (
                piece.extent.pack,
                piece.extent.frame_offset,
                piece.extent.start,
            )
        });
        let mut job: Option<Job> = None;
        for piece in self.window.drain(..) {
            let place = (piece.extent.pack, piece.extent.frame_offset);
            match &mut job {
                Some(open) if (open.pack, open.frame_offset) == place => open.pieces.push(piece),
                _ => {
                    let next = Job {
                        pack: place.0,
                        frame_offset: place.1,
                        pieces: vec![piece],
                    };
                    if let Some(full) = job.replace(next) {
                        send(self.shared, &self.jobs, full)?;
                    }
                }
            }
        }
        match job {
            Some(last) => send(self.shared, &self.jobs, last),
            None => Ok(()),
        }
    }
}

fn send(shared: &Shared<'_>, jobs: &mpsc::SyncSender<Job>, job: Job) -> Result<(), RestoreError> {
    shared.check_stop()?;
    // All workers are gone only when one failed, and that failure is what is reported.
    jobs.send(job)
        .map_err(|_| RestoreError::Repository(Error::Cancelled))
}

/// What one worker keeps between frames.
struct Worker {
    decoder: FrameDecoder,
    packs: HashMap<u32, PackReader>,
    stored: Vec<u8>,
    room: FrameRoom,
    /// The file written to last: the next piece is often its neighbour.
    file: Option<(Arc<Destination>, OpenFile)>,
}

impl Shared<'_> {
    fn run_worker(&self, queue: &Mutex<mpsc::Receiver<Job>>) {
        let mut worker = match self.worker() {
            Ok(worker) => worker,
            Err(error) => return self.fail(error),
        };
        loop {
            let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(job) = job else { return };
            // After a failure the queue is drained, so that the dispatcher never waits for a place in it.
            if !self.stop.is_cancelled()
                && let Err(error) = self.carry_out(&mut worker, &job)
            {
                self.fail(error);
            }
        }
    }

    fn worker(&self) -> Result<Worker, RestoreError> {
        let decoder = FrameDecoder::new().map_err(|error| RestoreError::Damaged {
            label: self.source.label,
            reason: error.to_string(),
        })?;
        Ok(Worker {
            decoder,
            packs: HashMap::new(),
            stored: Vec::new(),
            room: FrameRoom::new(),
            file: None,
        })
    }

    fn found(&self) -> MutexGuard<'_, Vec<u32>> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fail(&self, error: RestoreError) {
        self.stop.cancel();
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.get_or_insert(error);
    }

    fn check_stop(&self) -> Result<(), RestoreError> {
        self.cx.check_cancel()?;
        if self.stop.is_cancelled() {
            Err(RestoreError::Repository(Error::Cancelled))
        } else {
            Ok(())
        }
    }

    fn carry_out(&self, worker: &mut Worker, job: &Job) -> Result<(), RestoreError> {
        self.check_stop()?;
        let raw_bytes = self.read_frame(worker, job)?;
        let raw = &worker.room.bytes()[..raw_bytes];
        for piece in &job.pieces {
            let (start, length) = (piece.extent.start as usize, piece.extent.length as usize);
            let bytes = raw.get(start..).and_then(|rest| rest.get(..length));
            let bytes = bytes.ok_or_else(|| {
                self.damaged(piece.destination.path(), "an extent leaves its frame")
            })?;
            self.write(&mut worker.file, piece, bytes)?;
        }
        let bytes: u64 = job
            .pieces
            .iter()
            .map(|piece| u64::from(piece.extent.length))
            .sum();
        let done = self.done_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.cx
            .report(Phase::Restore, done, Some(self.total_bytes), "");
        Ok(())
    }

    fn write(
        &self,
        open: &mut Option<(Arc<Destination>, OpenFile)>,
        piece: &Piece,
        bytes: &[u8],
    ) -> Result<(), RestoreError> {
        let destination = &piece.destination;
        if !open
            .as_ref()
            .is_some_and(|(last, _)| Arc::ptr_eq(last, destination))
        {
            *open = Some((destination.clone(), destination.open(self.roots)?));
        }
        let Some((_, file)) = open else { return Ok(()) };
        let (progress, kept) = destination.write(file, piece.extent, bytes)?;
        self.kept_bytes.fetch_add(kept, Ordering::Relaxed);
        match progress {
            Progress::Good => Ok(()),
            Progress::Found { number, crc32c } => {
                if let Some(place) = self.found().get_mut(number) {
                    *place = crc32c;
                }
                Ok(())
            }
            Progress::Wrong => {
                let pack = self.source.packs.get(piece.extent.pack as usize);
                let pack = pack.map_or_else(String::new, |pack| {
                    format!(
                        " (its last piece came from pack {:04} of {})",
                        pack.number, pack.label
                    )
                });
                let reason = format!("its content is not what was backed up{pack}");
                Err(self.damaged(destination.path(), &reason))
            }
        }
    }

    /// Gives how many raw bytes the frame has.
    fn read_frame(&self, worker: &mut Worker, job: &Job) -> Result<usize, RestoreError> {
        if !worker.packs.contains_key(&job.pack) {
            if worker.packs.len() >= OPEN_PACKS_MAX {
                worker.packs.clear();
            }
            worker.packs.insert(job.pack, self.open_pack(job.pack)?);
        }
        let pack = &worker.packs[&job.pack];
        let location =
            frame_at(pack.frames(), job.frame_offset).ok_or_else(|| RestoreError::Damaged {
                label: self.source.label,
                reason: format!("pack {} has no frame at {}", job.pack, job.frame_offset),
            })?;
        pack.read_into(
            location,
            &mut worker.decoder,
            &mut worker.stored,
            worker.room.bytes_mut(),
        )
        .map_err(|error| RestoreError::Repository(error.into()))
    }

    fn open_pack(&self, number: u32) -> Result<PackReader, RestoreError> {
        let record =
            self.source
                .packs
                .get(number as usize)
                .ok_or_else(|| RestoreError::Damaged {
                    label: self.source.label,
                    reason: format!("the manifest has no pack {number}"),
                })?;
        Ok(self.source.repository.pack(self.source.server, record)?)
    }

    /// Extents must make up the whole file, in order and without a hole.
    fn check_extents(&self, file: &FileEntry) -> Result<(), RestoreError> {
        let mut end = Some(0_u64);
        for extent in &file.extents {
            end = end
                .filter(|end| *end == extent.file_offset && extent.length > 0)
                .and_then(|end| end.checked_add(u64::from(extent.length)));
        }
        if end == Some(file.size) {
            return Ok(());
        }
        Err(self.damaged(&file.path, "its extents do not make up the file"))
    }

    fn place_control(&self, control: Option<&FileEntry>) -> Result<(), RestoreError> {
        let Some(control) = control else {
            return Err(RestoreError::Damaged {
                label: self.source.label,
                reason: "global/pg_control is not in the manifest".into(),
            });
        };
        self.roots.create(&control.path, control.mode)?;
        let destination = Arc::new(Destination::new(control, Creation::Done, None));
        let mut worker = self.worker()?;
        for extent in &control.extents {
            let piece = Piece {
                destination: destination.clone(),
                extent: *extent,
            };
            let job = Job {
                pack: extent.pack,
                frame_offset: extent.frame_offset,
                pieces: vec![piece],
            };
            self.carry_out(&mut worker, &job)?;
        }
        Ok(())
    }

    fn damaged(&self, path: &FilePath, reason: &str) -> RestoreError {
        let reason = format!("file {}: {reason}", path.as_path().display());
        RestoreError::Damaged {
            label: self.source.label,
            reason,
        }
    }
}

fn frame_at(frames: &[FrameLocation], offset: u64) -> Option<&FrameLocation> {
    let index = frames
        .binary_search_by_key(&offset, |frame| frame.offset)
        .ok()?;
    frames.get(index)
}

/// Takes the room for a file at once; a file system that cannot is no error.
fn preallocate(file: &File, size: u64) -> std::io::Result<()> {
    use rustix::io::Errno;
    match rustix::fs::fallocate(file, rustix::fs::FallocateFlags::empty(), 0, size) {
        Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
