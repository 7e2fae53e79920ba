//! The frames level: every frame of the backup's packs is read, opened and checked, and every file is compared with its
//! checksum in the manifest.
//!
//! As in a restore, the manifest streams, a window of pieces is sorted by pack and offset, and frames are decoded in
//! parallel; memory is bounded by the window. A frame of the backup's own packs that no file points into is read, too.
//! What cannot be read is a finding with every file that needs it.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;

use pgm_storage::{FrameDecoder, ObjectPath, PackReader};

use super::VerifiedFile;
use super::findings::{Findings, reason};
use super::verification::{Area, Counts, Finding};
use crate::catalog::BackupEntry;
use crate::checksum::checksum_of;
use crate::context::{Context, Phase};
use crate::error::{Error, Result};
use crate::manifest::{Extent, FileEntry, ManifestEntry, ManifestReader, PackRecord};
use crate::repository::{Repository, layout};

/// Pieces that are sorted at a time.
const WINDOW_PIECES: usize = 1 << 16;
/// Frames that wait for a worker.
const QUEUE_FRAMES: usize = 64;
/// Packs that a worker keeps open.
const OPEN_PACKS_MAX: usize = 16;
/// The most threads: a verification is not to take the machine from the server's WAL.
const WORKERS_MAX: usize = 4;

/// Checks every frame and file; without a manifest, every frame of the packs in the backup's folder.
pub(super) fn check(
    cx: &Context,
    repository: &Repository,
    entry: &BackupEntry,
    manifest: Option<ManifestReader>,
    findings: &Findings<'_>,
    counts: &mut Counts,
) -> Result<()> {
    let packs = match &manifest {
        Some(manifest) => manifest.packs().to_vec(),
        None => packs_in_folder(repository, entry)?,
    };
    let read = packs.iter().map(|_| Mutex::default()).collect();
    let shared = Shared {
        cx,
        repository,
        entry,
        packs,
        findings,
        read,
        frames: AtomicU64::new(0),
        done_bytes: AtomicU64::new(0),
    };
    let (jobs, queue) = mpsc::sync_channel(QUEUE_FRAMES);
    let queue = Mutex::new(queue);
    let dispatched = thread::scope(|scope| {
        let workers: Vec<_> = (0..workers())
            .map(|_| scope.spawn(|| shared.run_worker(&queue)))
            .collect();
        let dispatched = dispatch(&shared, manifest, &jobs);
        // Workers end when nobody can send any more.
        drop(jobs);
        let ended = workers.into_iter().filter_map(|worker| worker.join().ok());
        let ended: Result<()> = ended.collect();
        dispatched.and(ended)
    });
    dispatched?;
    shared.read_the_rest()?;
    counts.packs = shared.packs.len() as u64;
    counts.frames = shared.frames.load(Ordering::Relaxed);
    Ok(())
}

/// The packs that are there, when the manifest cannot say which there should be.
fn packs_in_folder(repository: &Repository, entry: &BackupEntry) -> Result<Vec<PackRecord>> {
    let mut packs = Vec::new();
    let folder = layout::backup(&entry.server, entry.label);
    repository.storage().list(&folder, &mut |meta| {
        packs.extend(layout::pack_number(&meta.path).map(|number| PackRecord {
            label: entry.label,
            number,
            size: meta.size,
            raw_bytes: 0,
            frames: 0,
            index_crc32c: None,
        }));
        ControlFlow::Continue(())
    })?;
    Ok(packs)
}

fn workers() -> usize {
    thread::available_parallelism().map_or(1, |cores| cores.get().min(WORKERS_MAX))
}

/// A file whose pieces are on their way.
#[derive(Debug)]
struct Checked {
    path: String,
    size: u64,
    expected: Option<u32>,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    bytes: u64,
    lost: u64,
    pieces: Vec<(u64, u32, u32)>,
}

#[derive(Debug)]
struct Piece {
    file: Arc<Checked>,
    extent: Extent,
}

/// A frame and the pieces in it.
#[derive(Debug)]
struct Job {
    pack: u32,
    frame_offset: u64,
    pieces: Vec<Piece>,
}

/// What the threads share.
struct Shared<'a> {
    cx: &'a Context,
    repository: &'a Repository,
    entry: &'a BackupEntry,
    packs: Vec<PackRecord>,
    findings: &'a Findings<'a>,
    /// For each pack, which of its frames were read: one bit each.
    read: Vec<Mutex<Vec<u64>>>,
    frames: AtomicU64,
    done_bytes: AtomicU64,
}

fn dispatch(
    shared: &Shared<'_>,
    manifest: Option<ManifestReader>,
    jobs: &mpsc::SyncSender<Job>,
) -> Result<()> {
    let mut window: Vec<Piece> = Vec::new();
    for line in manifest.into_iter().flatten() {
        // The catalog level has read the manifest: it is sound.
        let ManifestEntry::File(file) = line? else {
            continue;
        };
        shared.cx.check_cancel()?;
        let checked = Arc::new(Checked::new(&file));
        if file.extents.is_empty() {
            shared.conclude(&checked, None);
        }
        window.extend(file.extents.into_iter().map(|extent| Piece {
            file: Arc::clone(&checked),
            extent,
        }));
        if window.len() >= WINDOW_PIECES {
            hand_out(shared, &mut window, jobs)?;
        }
    }
    hand_out(shared, &mut window, jobs)
}

fn hand_out(
    shared: &Shared<'_>,
    window: &mut Vec<Piece>,
    jobs: &mpsc::SyncSender<Job>,
) -> Result<()> {
    window.sort_by_key(|piece| (piece.extent.pack, piece.extent.frame_offset));
    let mut open: Option<Job> = None;
    for piece in window.drain(..) {
        let (pack, frame_offset) = (piece.extent.pack, piece.extent.frame_offset);
        if let Some(job) = &mut open
            && (job.pack, job.frame_offset) == (pack, frame_offset)
        {
            job.pieces.push(piece);
            continue;
        }
        let next = Job {
            pack,
            frame_offset,
            pieces: vec![piece],
        };
        if let Some(job) = open.replace(next) {
            send(shared, jobs, job)?;
        }
    }
    open.map_or(Ok(()), |job| send(shared, jobs, job))
}

fn send(shared: &Shared<'_>, jobs: &mpsc::SyncSender<Job>, job: Job) -> Result<()> {
    shared.cx.check_cancel()?;
    // Workers end early only when they are cancelled.
    jobs.send(job).map_err(|_| Error::Cancelled)
}

/// What one worker keeps between frames.
struct Worker {
    decoder: FrameDecoder,
    packs: HashMap<u32, Option<PackReader>>,
    stored: Vec<u8>,
    raw: Vec<u8>,
}

impl Worker {
    fn new() -> Result<Self> {
        let decoder = FrameDecoder::new().map_err(|error| Error::System {
            operation: "setting up decompression",
            source: std::io::Error::other(error),
        })?;
        Ok(Self {
            decoder,
            packs: HashMap::new(),
            stored: Vec::new(),
            raw: Vec::new(),
        })
    }
}

impl Checked {
    fn new(file: &FileEntry) -> Self {
        Self {
            path: file.path.to_string(),
            size: file.size,
            expected: file.crc32c,
            seen: Mutex::default(),
        }
    }

    /// Notes a piece, which could be read and has this checksum, or could not; gives whether it was the last one.
    fn note(&self, extent: Extent, crc32c: Option<u32>) -> bool {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.bytes += u64::from(extent.length);
        match crc32c {
            Some(crc32c) => seen
                .pieces
                .push((extent.file_offset, crc32c, extent.length)),
            None => seen.lost += 1,
        }
        seen.bytes >= self.size
    }

    /// The checksum of what was read, if all of it was.
    fn found(&self) -> Option<u32> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.lost > 0 {
            return None;
        }
        let mut pieces = std::mem::take(&mut seen.pieces);
        drop(seen);
        pieces.sort_unstable();
        Some(checksum_of(
            pieces.into_iter().map(|(_, crc, length)| (crc, length)),
        ))
    }
}

impl Shared<'_> {
    fn run_worker(&self, queue: &Mutex<mpsc::Receiver<Job>>) -> Result<()> {
        let worker = Worker::new();
        let (mut worker, mut outcome) = match worker {
            Ok(worker) => (Some(worker), Ok(())),
            Err(error) => (None, Err(error)),
        };
        loop {
            let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(job) = job else { return outcome };
            if self.cx.cancel.is_cancelled() {
                // The queue is drained, so that the dispatcher never waits for a place in it.
                outcome = Err(Error::Cancelled);
                continue;
            }
            if let Some(worker) = &mut worker {
                self.carry_out(worker, &job);
            }
        }
    }

    fn carry_out(&self, worker: &mut Worker, job: &Job) {
        let outcome = self.read_frame(worker, job);
        let object = self.object(job.pack);
        for piece in &job.pieces {
            let (start, length) = (piece.extent.start as usize, piece.extent.length as usize);
            let bytes = worker.raw.get(start..).and_then(|rest| rest.get(..length));
            let crc32c = match (&outcome, bytes) {
                (Ok(()), Some(bytes)) => Some(pgm_storage::crc32c(bytes)),
                (Ok(()), None) => {
                    self.lost(
                        &object,
                        job.frame_offset,
                        piece,
                        "the frame is shorter than the file needs",
                    );
                    None
                }
                (Err(reason), _) => {
                    self.lost(&object, job.frame_offset, piece, reason);
                    None
                }
            };
            if piece.file.note(piece.extent, crc32c) {
                self.conclude(&piece.file, Some(&object));
            }
        }
        let bytes = job
            .pieces
            .iter()
            .map(|piece| u64::from(piece.extent.length))
            .sum();
        let done = self.done_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let total = Some(self.entry.size.raw_bytes);
        self.cx.report(
            Phase::VerifyFrames,
            done,
            total,
            &self.entry.label.to_string(),
        );
    }

    fn lost(&self, object: &ObjectPath, offset: u64, piece: &Piece, reason: &str) {
        self.findings.add(Finding {
            area: Area::Data,
            object: object.to_string(),
            offset: Some(offset),
            file: Some(piece.file.path.clone()),
            reason: reason.to_owned(),
        });
    }

    /// Tells how a file is of which every piece was looked at.
    fn conclude(&self, file: &Checked, last: Option<&ObjectPath>) {
        let found = file.found();
        let differs = |found| file.expected.is_some_and(|expected| expected != found);
        if found.is_some_and(differs) {
            let own = layout::manifest(&self.entry.server, self.entry.label);
            self.findings.add(Finding {
                area: Area::Data,
                object: last.unwrap_or(&own).to_string(),
                offset: None,
                file: Some(file.path.clone()),
                reason: "its frames are sound, but the file is not the one that was backed up"
                    .to_owned(),
            });
        }
        self.findings.file(VerifiedFile {
            path: file.path.clone(),
            size: file.size,
            expected: file.expected,
            found,
        });
    }

    /// Reads the frame of a job into the worker's buffer, or says what is wrong with it.
    fn read_frame(&self, worker: &mut Worker, job: &Job) -> Result<(), String> {
        worker.raw.clear();
        if !worker.packs.contains_key(&job.pack) {
            if worker.packs.len() >= OPEN_PACKS_MAX {
                worker.packs.clear();
            }
            worker.packs.insert(job.pack, self.open_pack(job.pack));
        }
        let Some(pack) = &worker.packs[&job.pack] else {
            return Err("the pack cannot be opened".to_owned());
        };
        let at = pack
            .frames()
            .binary_search_by_key(&job.frame_offset, |frame| frame.offset);
        let at = at.map_err(|_| "there is no frame here".to_owned())?;
        self.note_read(job.pack, at);
        self.frames.fetch_add(1, Ordering::Relaxed);
        pack.read(
            &pack.frames()[at],
            &mut worker.decoder,
            &mut worker.stored,
            &mut worker.raw,
        )
        .map_err(|error| reason(&error.into()))
    }

    /// The pack, found damaged before if it cannot be opened. Without a manifest it was not looked at before.
    fn open_pack(&self, number: u32) -> Option<PackReader> {
        let record = self.packs.get(number as usize)?;
        match self.repository.pack(&self.entry.server, record) {
            Ok(pack) => Some(pack),
            Err(error) => {
                self.findings
                    .failed(Area::Data, &self.object(number), &error);
                None
            }
        }
    }

    fn object(&self, number: u32) -> ObjectPath {
        match self.packs.get(number as usize) {
            Some(pack) => layout::pack(&self.entry.server, pack.label, pack.number),
            None => layout::manifest(&self.entry.server, self.entry.label),
        }
    }

    fn note_read(&self, pack: u32, frame: usize) {
        let mut bits = self.read[pack as usize]
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if bits.len() <= frame / 64 {
            bits.resize(frame / 64 + 1, 0);
        }
        bits[frame / 64] |= 1 << (frame % 64);
    }

    /// Reads the frames of the backup's own packs that no file points into.
    fn read_the_rest(&self) -> Result<()> {
        let mut worker = Worker::new()?;
        for (number, record) in (0..).zip(&self.packs) {
            if record.label != self.entry.label {
                continue;
            }
            let Some(pack) = self.open_pack(number) else {
                continue;
            };
            let bits = self.read[number as usize]
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            let is_read = |frame: usize| {
                bits.get(frame / 64)
                    .is_some_and(|word| word >> (frame % 64) & 1 == 1)
            };
            for (at, frame) in pack.frames().iter().enumerate() {
                if is_read(at) {
                    continue;
                }
                self.cx.check_cancel()?;
                self.frames.fetch_add(1, Ordering::Relaxed);
                let read = pack.read(
                    frame,
                    &mut worker.decoder,
                    &mut worker.stored,
                    &mut worker.raw,
                );
                if let Err(error) = read {
                    self.findings.add(Finding {
                        area: Area::Data,
                        object: self.object(number).to_string(),
                        offset: Some(frame.offset),
                        file: None,
                        reason: reason(&error.into()),
                    });
                }
            }
        }
        Ok(())
    }
}
