//! Puts the pages of a backup where they belong: packs are read in order, frames are decoded in parallel, pieces are
//! written to their files.
//!
//! The manifest streams. What is put in place at a time, and in which order, is the `window`'s to say; memory is bounded by it
//! and a few frames for each worker.
//! `global/pg_control` is held back for last: without it PostgreSQL does not start. Each file is checked as soon as it is
//! complete. What a repository does not give is set aside for the next one that has the backup (`elsewhere`), which also helps with the
//! rest from the beginning (`beside`).

use std::collections::HashMap;
use std::slice::from_ref;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use pgm_proto::ServerName;
use pgm_storage::{Cancel, FrameDecoder, FrameLocation, PackReader};

use super::destination::{Creation, Destination, Progress};
use super::dispatch::Dispatcher;
use super::elsewhere::{Aside, Elsewhere};
use super::error::RestoreError;
use super::open_file::{FrameRoom, OpenFile};
use super::queue::{Closing, Queue};
use super::roots::Roots;
use super::window::{Job, Part, Piece};
use crate::context::{Context, Phase};
use crate::error::Error;
use crate::label::BackupLabel;
use crate::manifest::{Extent, FileEntry, FilePath, ManifestReader, PackRecord};
use crate::repository::Repository;

/// Packs that the workers keep open.
const OPEN_PACKS_MAX: usize = 256;
/// So many reads in a row fail, but not for damage, until a repository is taken to be away.
const FAILURES_MAX: u32 = 8;
/// The file without which PostgreSQL does not start.
pub(super) const CONTROL_FILE: &[u8] = b"global/pg_control";

/// What was put in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Placed {
    pub(super) files: u64,
    pub(super) bytes: u64,
    /// Of the bytes, those that were there before.
    pub(super) kept_bytes: u64,
    /// Of the bytes, those that the repository of the plan gave.
    pub(super) own_bytes: u64,
}

/// Where the packs of a backup are, and how the backup is called in errors.
#[derive(Debug, Clone, Copy)]
pub(super) struct Source<'a> {
    pub(super) repository: &'a Repository,
    pub(super) server: &'a ServerName,
    pub(super) label: BackupLabel,
    pub(super) packs: &'a [PackRecord],
}

/// What is put in place, and where.
#[derive(Debug, Clone, Copy)]
pub(super) struct Restoration<'a> {
    pub(super) cx: &'a Context,
    pub(super) roots: &'a Roots,
    pub(super) source: Source<'a>,
    /// Where else the backup may be.
    pub(super) elsewhere: &'a Elsewhere<'a>,
    pub(super) workers: usize,
    pub(super) total_bytes: u64,
}

/// What the threads share.
#[derive(Debug)]
pub(super) struct Shared<'a> {
    pub(super) cx: &'a Context,
    pub(super) roots: &'a Roots,
    label: BackupLabel,
    workers: usize,
    total_bytes: u64,
    done_bytes: AtomicU64,
    kept_bytes: AtomicU64,
    /// The checksums of files of which the manifest has none, in its order, as they are found.
    found: Mutex<Vec<u32>>,
    /// What no repository has given yet.
    pub(super) aside: Aside,
    stop: Cancel,
    failure: Mutex<Option<RestoreError>>,
}

/// Reading from one repository.
#[derive(Debug)]
pub(super) struct Round<'a> {
    pub(super) shared: &'a Shared<'a>,
    pub(super) source: Source<'a>,
    /// Reads in a row that failed, but not for damage.
    failures: AtomicU32,
    /// What it gave.
    bytes: AtomicU64,
}

/// Puts every file of the manifest in place, then does what `before_control` does, and puts `pg_control` in place last.
/// `before_control` gets the checksums of the files of which the manifest has none, in its order.
pub(super) fn place(
    restoration: Restoration<'_>,
    manifest: ManifestReader,
    before_control: impl FnOnce(&[u32]) -> Result<(), RestoreError>,
) -> Result<Placed, RestoreError> {
    let Restoration {
        cx,
        roots,
        source,
        elsewhere,
        workers,
        total_bytes,
    } = restoration;
    let shared = Shared {
        cx,
        roots,
        label: source.label,
        workers: workers.max(1),
        total_bytes,
        done_bytes: AtomicU64::new(0),
        kept_bytes: AtomicU64::new(0),
        found: Mutex::default(),
        aside: Aside::new(source.label, elsewhere.has_others()),
        stop: Cancel::new(),
        failure: Mutex::new(None),
    };
    let help = |queue: &Queue| elsewhere.help(&shared, queue);
    let ((control, placed), own_bytes) = shared.round(source, Some(&help), |dispatcher| {
        let control = dispatcher.run(manifest)?;
        Ok((control, dispatcher.placed))
    })?;
    elsewhere.give(&shared)?;
    let found = std::mem::take(&mut *shared.found());
    before_control(&found)?;
    roots.sync()?;
    let own_bytes = own_bytes + shared.place_control(source, control.as_ref())?;
    elsewhere.give(&shared)?;
    let kept_bytes = shared.kept_bytes.load(Ordering::Relaxed);
    Ok(Placed {
        kept_bytes,
        own_bytes,
        ..placed
    })
}

/// What one worker keeps between frames.
pub(super) struct Worker {
    decoder: FrameDecoder,
    packs: HashMap<u32, PackReader>,
    stored: Vec<u8>,
    room: FrameRoom,
    /// The file written to last: the next piece is often its neighbour.
    file: Option<(Arc<Destination>, OpenFile)>,
}

impl Worker {
    pub(super) fn new(label: BackupLabel) -> Result<Self, RestoreError> {
        let decoder = FrameDecoder::new().map_err(|error| RestoreError::Damaged {
            label,
            reason: error.to_string(),
        })?;
        Ok(Self {
            decoder,
            packs: HashMap::new(),
            stored: Vec::new(),
            room: FrameRoom::new(),
            file: None,
        })
    }
}

impl Shared<'_> {
    /// Lets `dispatch` hand out pieces that workers fetch from `source`, while somebody may `help` them, and waits for all; gives how
    /// many bytes `source` gave, too.
    pub(super) fn round<T>(
        &self,
        source: Source<'_>,
        help: Option<&(dyn Fn(&Queue) + Sync)>,
        dispatch: impl FnOnce(&mut Dispatcher<'_>) -> Result<T, RestoreError>,
    ) -> Result<(T, u64), RestoreError> {
        let queue = Queue::default();
        let round = Round::new(self, source);
        let dispatched = thread::scope(|scope| {
            let closing = Closing(&queue);
            for _ in 0..self.workers {
                scope.spawn(|| round.run_worker(&queue));
            }
            if let Some(help) = help {
                scope.spawn(|| help(&queue));
            }
            let mut dispatcher = Dispatcher::new(self, &queue);
            let dispatched = dispatch(&mut dispatcher);
            if dispatched.is_err() {
                self.stop.cancel();
            }
            drop(closing);
            dispatched
        });
        // The failure of a worker is the cause, that the dispatcher could go no further is not.
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        match failure.take() {
            Some(error) => Err(error),
            None => Ok((dispatched?, round.bytes())),
        }
    }

    /// How many frames are read from a repository at a time.
    pub(super) fn workers(&self) -> usize {
        self.workers
    }

    pub(super) fn found(&self) -> MutexGuard<'_, Vec<u32>> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn fail(&self, error: RestoreError) {
        self.stop.cancel();
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.get_or_insert(error);
    }

    pub(super) fn check_stop(&self) -> Result<(), RestoreError> {
        self.cx.check_cancel()?;
        if self.stop.is_cancelled() {
            Err(RestoreError::Repository(Error::Cancelled))
        } else {
            Ok(())
        }
    }

    /// Extents must make up the whole file, in order and without a hole.
    pub(super) fn check_extents(&self, file: &FileEntry) -> Result<(), RestoreError> {
        if is_made_up(file) {
            return Ok(());
        }
        Err(self.damaged(&file.path, "its extents do not make up the file"))
    }

    fn place_control(
        &self,
        source: Source<'_>,
        control: Option<&FileEntry>,
    ) -> Result<u64, RestoreError> {
        let Some(control) = control else {
            return Err(RestoreError::Damaged {
                label: self.label,
                reason: "global/pg_control is not in the manifest".into(),
            });
        };
        self.roots.create(&control.path, control.mode)?;
        let destination = Arc::new(Destination::new(control, Creation::Done, None));
        let mut worker = Worker::new(self.label)?;
        let round = Round::new(self, source);
        for extent in &control.extents {
            let piece = Piece {
                destination: destination.clone(),
                extent: *extent,
            };
            round.carry_out(&mut worker, Job::of(piece))?;
        }
        Ok(round.bytes())
    }

    pub(super) fn damaged(&self, path: &FilePath, reason: &str) -> RestoreError {
        let reason = format!("file {}: {reason}", path.as_path().display());
        RestoreError::Damaged {
            label: self.label,
            reason,
        }
    }
}

impl<'a> Round<'a> {
    pub(super) fn new(shared: &'a Shared<'a>, source: Source<'a>) -> Self {
        Self {
            shared,
            source,
            failures: AtomicU32::new(0),
            bytes: AtomicU64::new(0),
        }
    }

    /// What it gave.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    fn run_worker(&self, queue: &Queue) {
        let shared = self.shared;
        let mut worker = match Worker::new(shared.label) {
            Ok(worker) => worker,
            Err(error) => return shared.fail(error),
        };
        while let Some(job) = queue.take() {
            // After a failure the queue is drained, so that the dispatcher never waits for a place in it.
            if !shared.stop.is_cancelled()
                && let Err(error) = self.carry_out(&mut worker, job)
            {
                shared.fail(error);
            }
        }
    }

    /// Fetches a frame and writes what is wanted of it; what cannot be had is set aside, if it may be elsewhere.
    fn carry_out(&self, worker: &mut Worker, job: Job) -> Result<(), RestoreError> {
        let shared = self.shared;
        shared.check_stop()?;
        let read = if self.failures.load(Ordering::Relaxed) < FAILURES_MAX {
            self.read_frame(worker, &job)
        } else {
            return shared.aside.put(job.into_pieces(), None);
        };
        let raw_bytes = match read {
            Ok(raw_bytes) => raw_bytes,
            Err(error) => {
                shared.check_stop()?;
                if !is_damage(&error) {
                    self.failures.fetch_add(1, Ordering::Relaxed);
                }
                return shared.aside.put(job.into_pieces(), Some(error));
            }
        };
        self.failures.store(0, Ordering::Relaxed);
        self.put_in_place(worker, raw_bytes, &job)
    }

    /// Writes what is wanted of a frame that was read.
    pub(super) fn put_in_place(
        &self,
        worker: &mut Worker,
        raw_bytes: usize,
        job: &Job,
    ) -> Result<(), RestoreError> {
        let shared = self.shared;
        let mut bytes_done = 0;
        for part in &job.parts {
            let raw = &mut worker.room.bytes_mut()[..raw_bytes];
            bytes_done += self.carry_out_part(raw, &mut worker.file, part)?;
        }
        self.bytes.fetch_add(bytes_done, Ordering::Relaxed);
        let done = shared.done_bytes.fetch_add(bytes_done, Ordering::Relaxed) + bytes_done;
        shared
            .cx
            .report(Phase::Restore, done, Some(shared.total_bytes), "");
        Ok(())
    }

    /// Gives how many bytes were written.
    fn carry_out_part(
        &self,
        raw: &mut [u8],
        open: &mut Option<(Arc<Destination>, OpenFile)>,
        part: &Part,
    ) -> Result<u64, RestoreError> {
        let leaves = |destination: &Destination| {
            let reason = "an extent leaves its frame";
            self.shared.damaged(destination.path(), reason)
        };
        let place = |extent: &Extent| {
            let start = extent.start as usize;
            start..start + extent.length as usize
        };
        match part {
            Part::Patch(patch) => {
                let bytes = raw.get(place(&patch.extent));
                patch.keep(bytes.ok_or_else(|| leaves(patch.destination()))?);
                Ok(0)
            }
            Part::Piece(Piece {
                destination,
                extent,
            }) => {
                let bytes = raw.get(place(extent)).ok_or_else(|| leaves(destination))?;
                self.write(open, destination, from_ref(extent), bytes)
            }
            Part::Span(span) => {
                let bytes = raw.get_mut(span.start()..span.start() + span.length());
                let bytes = bytes.ok_or_else(|| leaves(&span.destination))?;
                let mut done = 0;
                for (extents, bytes) in span.patched(bytes) {
                    done += self.write(open, &span.destination, extents, bytes)?;
                }
                Ok(done)
            }
        }
    }

    fn write(
        &self,
        open: &mut Option<(Arc<Destination>, OpenFile)>,
        destination: &Arc<Destination>,
        extents: &[Extent],
        bytes: &[u8],
    ) -> Result<u64, RestoreError> {
        if !open
            .as_ref()
            .is_some_and(|(last, _)| Arc::ptr_eq(last, destination))
        {
            *open = Some((destination.clone(), destination.open(self.shared.roots)?));
        }
        let Some((_, file)) = open else { return Ok(0) };
        let (progress, kept) = destination.write(file, extents, bytes)?;
        self.shared.kept_bytes.fetch_add(kept, Ordering::Relaxed);
        match progress {
            Progress::Good => Ok(bytes.len() as u64),
            Progress::Found { number, crc32c } => {
                if let Some(place) = self.shared.found().get_mut(number) {
                    *place = crc32c;
                }
                Ok(bytes.len() as u64)
            }
            Progress::Wrong => {
                let last = extents.last().map_or(0, |extent| extent.pack as usize);
                let pack = self.source.packs.get(last);
                let pack = pack.map_or_else(String::new, |pack| {
                    format!(
                        " (its last piece came from pack {:04} of {})",
                        pack.number, pack.label
                    )
                });
                let reason = format!("its content is not what was backed up{pack}");
                Err(self.shared.damaged(destination.path(), &reason))
            }
        }
    }

    /// Gives how many raw bytes the frame has.
    pub(super) fn read_frame(&self, worker: &mut Worker, job: &Job) -> Result<usize, RestoreError> {
        if !worker.packs.contains_key(&job.pack) {
            if worker.packs.len() >= OPEN_PACKS_MAX / self.shared.workers {
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
}

/// Whether the extents of a file make up all of it.
pub(super) fn is_made_up(file: &FileEntry) -> bool {
    let mut end = Some(0_u64);
    for extent in &file.extents {
        end = end
            .filter(|end| *end == extent.file_offset && extent.length > 0)
            .and_then(|end| end.checked_add(u64::from(extent.length)));
    }
    end == Some(file.size)
}

/// Whether bytes are not there or not what they were, in contrast to a repository that cannot be reached.
fn is_damage(error: &RestoreError) -> bool {
    use pgm_storage::StorageError::{Damaged, Foreign, Frame, Misplaced, NotFound, TooLarge};
    match error {
        RestoreError::Repository(Error::Storage(error)) => matches!(
            error,
            NotFound { .. }
                | Damaged { .. }
                | Foreign { .. }
                | Frame { .. }
                | Misplaced { .. }
                | TooLarge { .. }
        ),
        _ => true,
    }
}

fn frame_at(frames: &[FrameLocation], offset: u64) -> Option<&FrameLocation> {
    let index = frames
        .binary_search_by_key(&offset, |frame| frame.offset)
        .ok()?;
    frames.get(index)
}
