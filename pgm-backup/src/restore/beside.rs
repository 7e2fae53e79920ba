//! Another repository that has the backup, read beside the one of the plan, so that the bandwidth of both is used.
//!
//! It takes frames from the same `queue`, looks for their files in the manifest of its own copy, and reads the same bytes from a frame
//! of its own. It only ever helps: what it does not have in one frame and what fails goes back, and after some failures in a
//! row it is left alone. Nothing is written before the frame is here.
//!
//! Memory: the places of files and extents are kept up to [`FILES_MAX`] and [`EXTENTS_MAX`]; what is beyond comes from the first
//! alone. Frames that are laid over others (`spans`) are not lent.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use super::elsewhere::{FoundCopy, Hurried, find_copy, parts, told};
use super::place::{Round, Shared, Source, Worker, is_made_up};
use super::queue::Queue;
use super::window::{Job, Piece};
use crate::catalog::BackupEntry;
use crate::manifest::{FileEntry, FilePath, ManifestEntry, PackRecord};
use crate::repository::Repository;

/// Files whose places are kept.
const FILES_MAX: usize = 1 << 17;
/// Extents that are kept: 512 GiB of large files.
const EXTENTS_MAX: usize = 1 << 19;
/// How often is looked whether there is still something to do.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// So many reads in a row fail until it is left alone.
const FAILURES_MAX: u32 = 3;

/// What the other repository came to.
#[derive(Debug, Default)]
pub(super) struct Helped {
    /// Bytes that it gave.
    pub(super) bytes: u64,
    /// Why it was left alone, if it was.
    pub(super) failure: Option<String>,
}

/// A copy of the backup, and where its files are.
pub(super) struct Ready {
    repository: Repository,
    entry: BackupEntry,
    packs: Vec<PackRecord>,
    files: HashMap<FilePath, FileEntry>,
}

/// Reads where the files of a copy are, as long as it is not given up.
fn read_places(copy: FoundCopy, given_up: &AtomicBool) -> Result<Ready, crate::error::Error> {
    let FoundCopy {
        repository,
        entry,
        mut manifest,
    } = copy;
    let packs = manifest.packs().to_vec();
    let (mut files, mut extents) = (HashMap::new(), 0);
    while let Some(entry) = manifest.next_entry()? {
        let ManifestEntry::File(file) = entry else {
            continue;
        };
        extents += file.extents.len();
        let is_full = files.len() >= FILES_MAX || extents > EXTENTS_MAX;
        if is_full || given_up.load(Ordering::Relaxed) {
            break;
        }
        if is_made_up(&file) {
            files.insert(file.path.clone(), file);
        }
    }
    Ok(Ready {
        repository,
        entry,
        packs,
        files,
    })
}

/// Finds the copy that `open` leads to, and where its files are; `None` when everything is done before. On a thread of its own, which
/// is left behind then: a store that does not answer must not keep anybody waiting.
pub(super) fn prepare(
    shared: &Shared<'_>,
    queue: &Queue,
    open: &Arc<Hurried>,
    entry: &BackupEntry,
) -> Result<Option<Ready>, String> {
    let (sender, answer) = mpsc::channel();
    let given_up = Arc::new(AtomicBool::new(false));
    let (open, entry, flag) = (Arc::clone(open), entry.clone(), Arc::clone(&given_up));
    let work = move || {
        let ready = find_copy(&*open, &entry)
            .and_then(|copy| read_places(copy, &flag).map_err(|error| error.to_string()));
        let _ = sender.send(ready);
    };
    thread::Builder::new()
        .spawn(work)
        .map_err(|error| error.to_string())?;
    loop {
        match answer.recv_timeout(LOOK_EVERY) {
            Ok(ready) => return ready.map(Some),
            Err(mpsc::RecvTimeoutError::Disconnected) => return Ok(None),
            Err(mpsc::RecvTimeoutError::Timeout) => {}
        }
        if queue.is_done() || shared.check_stop().is_err() {
            given_up.store(true, Ordering::Relaxed);
            return Ok(None);
        }
    }
}

/// Reads from a copy what can be borrowed from `queue`, until there is nothing more.
pub(super) fn help(shared: &Shared<'_>, queue: &Queue, copy: Ready) -> Helped {
    let Ready {
        repository,
        entry,
        packs,
        files,
    } = copy;
    let source = Source {
        repository: &repository,
        server: &entry.server,
        label: entry.label,
        packs: &packs,
    };
    let helper = Helper {
        round: Round::new(shared, source),
        queue,
        files,
        failures: Mutex::default(),
    };
    thread::scope(|scope| {
        for _ in 0..shared.workers() {
            scope.spawn(|| helper.work());
        }
    });
    let failures = helper.failures();
    Helped {
        bytes: helper.round.bytes(),
        failure: (failures.count >= FAILURES_MAX).then(|| failures.last.clone()),
    }
}

struct Helper<'a> {
    round: Round<'a>,
    queue: &'a Queue,
    /// Where files are in the copy.
    files: HashMap<FilePath, FileEntry>,
    failures: Mutex<Failures>,
}

#[derive(Default)]
struct Failures {
    /// Reads in a row that failed.
    count: u32,
    /// What was the matter with the last.
    last: String,
}

impl Helper<'_> {
    fn work(&self) {
        let shared = self.round.shared;
        let Ok(mut worker) = Worker::new(self.round.source.label) else {
            return;
        };
        while self.failures().count < FAILURES_MAX && shared.check_stop().is_ok() {
            let Some(lent) = self.queue.borrow() else {
                return;
            };
            let Some(ours) = lent.job().and_then(|job| self.ours(job)) else {
                continue;
            };
            match self.round.read_frame(&mut worker, &ours) {
                Ok(raw_bytes) => {
                    self.failures().count = 0;
                    // Some of it may be in place then: this is not given back.
                    if let Err(error) = self.round.put_in_place(&mut worker, raw_bytes, &ours) {
                        shared.fail(error);
                    }
                    lent.settle();
                }
                Err(error) => {
                    let mut failures = self.failures();
                    failures.count += 1;
                    failures.last = told(&error);
                }
            }
        }
    }

    /// The same pieces, where they are in this repository: all of them in one frame.
    fn ours(&self, job: &Job) -> Option<Job> {
        let mut found = Vec::new();
        for piece in job.pieces()? {
            let file = self.files.get(piece.destination.path())?;
            if !piece.destination.is(file) {
                return None;
            }
            let mut parts = parts(&file.extents, piece.extent);
            let extent = parts.next()?;
            if extent.length != piece.extent.length {
                return None;
            }
            found.push(Piece {
                destination: piece.destination.clone(),
                extent,
            });
        }
        Job::of_all(found)
    }

    fn failures(&self) -> std::sync::MutexGuard<'_, Failures> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
