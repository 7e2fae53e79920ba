//! The other side of an [`AheadFolder`]: fetches what a recovering server will ask for next, while it replays.
//!
//! It looks at what was delivered last and at what is in the folder, and keeps as many segments there as its plan says, the
//! nearest first. Threads fetch, several at a time; what they write gets its name under one lock, so that nothing comes into
//! being any more once the folder is given up.
//!
//! - It ends by itself: when nobody wants anything any more (`asked` is gone, or who started it says so), when nothing comes any
//!   more, when the folder fails, and when nothing was asked for a while. But for that last case it removes the folder.
//! - A segment that cannot be had ends the fetching, until the server asks for another one: what it is, is said to whoever asks
//!   for it. What was fetched once is not fetched again.
//! - It never takes more than half of the room that is free.

use std::collections::{BTreeSet, VecDeque};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::{ASKED, AheadFolder, UNFINISHED};
use crate::archive::{Archive, ArchiveError};
use crate::{SegmentName, SegmentSize, Spool};

/// How many segments are fetched at the same time: each needs memory for a few frames and what its store reads ahead.
const FETCHERS: usize = 8;
/// What the number of segments ahead is counted in: of larger ones there are fewer, so that the room does not grow with them.
const COUNTED_BYTES: u64 = SegmentSize::DEFAULT.bytes();
/// How often it looks whether something was taken.
const GLANCE: Duration = Duration::from_millis(10);
/// It ends when nothing was asked for so long; the next call starts another one.
const IDLE_MAX: Duration = Duration::from_mins(1);
/// How long the lock may be held by somebody who only looks, or who ends.
const LOCK_WAIT: Duration = Duration::from_millis(500);

/// What is to be fetched, and from where.
#[expect(missing_debug_implementations, reason = "it holds functions")]
pub struct AheadPlan {
    /// How large segments are.
    pub size: SegmentSize,
    /// How many segments there are to be from this one on, if they have 16 MiB.
    pub count: Box<dyn Fn(SegmentName) -> usize>,
    /// In how many places they may be.
    pub places: usize,
    /// The archive in one of them, if it can be opened.
    pub archive: Box<dyn Fn(usize) -> Option<Archive> + Send + Sync>,
    /// Where those are that are not archived yet.
    pub spool: Option<Spool>,
}

/// Who fetches into a folder, which is locked.
#[derive(Debug)]
pub struct AheadReader {
    folder: AheadFolder,
}

/// What the threads share.
struct Shared {
    folder: PathBuf,
    size: SegmentSize,
    places: usize,
    archive: Box<dyn Fn(usize) -> Option<Archive> + Send + Sync>,
    spool: Option<Spool>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// What is to be fetched, nearest first.
    queue: VecDeque<SegmentName>,
    /// What is being fetched.
    working: BTreeSet<SegmentName>,
    /// What was.
    fetched: BTreeSet<SegmentName>,
    /// What cannot be had.
    ends_at: Option<SegmentName>,
    /// The place that gave something last: one that does not answer costs its deadline once.
    place: usize,
    /// The folder fails.
    failed: bool,
    /// Nothing is to come into being any more.
    closed: bool,
}

impl AheadReader {
    /// Becomes the reader of the folder beside `destination`; `None` when there is none for this source, or it has a reader.
    pub fn begin(destination: &Path, source: &str) -> Result<Option<Self>, ArchiveError> {
        let Some(folder) = AheadFolder::find(destination)? else {
            return Ok(None);
        };
        if !folder.lock_within(LOCK_WAIT) || !folder.comes_from(source) {
            return Ok(None);
        }
        Ok(Some(Self { folder }))
    }

    /// Fetches, as long as `goes_on` says so. Threads may still wait for a store when this returns; they do nothing more.
    pub fn run(self, plan: AheadPlan, goes_on: &dyn Fn() -> bool) {
        let AheadPlan { size, count, .. } = plan;
        let shared = Arc::new(Shared {
            folder: self.folder.path.clone(),
            size,
            places: plan.places,
            archive: plan.archive,
            spool: plan.spool,
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let fetchers = (0..FETCHERS).map_while(|_| {
            let shared = Arc::clone(&shared);
            thread::Builder::new().spawn(move || shared.work()).ok()
        });
        let mut wanted = fetchers.count() > 0;
        let mut last = None;
        let mut since = Instant::now();
        while wanted && goes_on() {
            match self.asked(size) {
                Asked::Nothing => break,
                Asked::Unknown => {}
                Asked::For(name) => {
                    if last.replace(name) != Some(name) {
                        since = Instant::now();
                        shared.lock().goes_to(name);
                    }
                    let first = name.next();
                    wanted = self.arrange(&shared, first, count(first)).unwrap_or(false);
                }
            }
            if since.elapsed() > IDLE_MAX && shared.rests() {
                // What is here is for the next call.
                shared.close();
                return;
            }
            thread::sleep(GLANCE);
        }
        shared.close();
        self.folder.remove_all();
    }

    /// Removes what is not wanted, and sees to it that what is missing is fetched. False when there is nothing, and nothing comes.
    fn arrange(
        &self,
        shared: &Shared,
        first: SegmentName,
        count: usize,
    ) -> Result<bool, ArchiveError> {
        let size = shared.size;
        let names = self.folder.names()?;
        let mut here = BTreeSet::new();
        let last = first.number.value().saturating_add(count as u64);
        let mut state = shared.lock();
        for name in &names {
            let (file, ending) = name.split_once('.').unwrap_or((name, ""));
            let segment = SegmentName::parse(file, size).ok();
            let kept = segment.filter(|segment| {
                let wanted = segment.timeline == first.timeline
                    && (first.number.value()..last).contains(&segment.number.value());
                state.working.contains(segment) || (wanted && ending != UNFINISHED)
            });
            match kept {
                Some(segment) if ending != UNFINISHED => {
                    here.insert(segment);
                }
                Some(_) => {}
                None => self.folder.remove(name),
            }
        }
        let system = rustix::fs::fstatvfs(&self.folder.folder)
            .map_err(|error| ArchiveError::file("use", &self.folder.path, error.into()))?;
        let held = (here.len() + state.working.len()) as u64;
        let free = system.f_bavail.saturating_mul(system.f_frsize);
        let room = free.saturating_add(held.saturating_mul(size.bytes()));
        let wanted = std::iter::successors(Some(first), |name| Some(name.next()));
        let missing = wanted
            .take(affordable(count, size, room))
            .take_while(|name| state.ends_at.is_none_or(|end| *name < end))
            .filter(|name| {
                ![&here, &state.working, &state.fetched]
                    .iter()
                    .any(|known| known.contains(name))
            });
        state.queue = missing.collect();
        shared.changed.notify_all();
        let comes = !state.queue.is_empty() || !state.working.is_empty();
        Ok(!state.failed && (comes || !here.is_empty()))
    }

    fn asked(&self, size: SegmentSize) -> Asked {
        match fs::read_to_string(self.folder.path.join(ASKED)) {
            Ok(file) => SegmentName::parse(&file, size).map_or(Asked::Unknown, Asked::For),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Asked::Nothing,
            Err(_) => Asked::Unknown,
        }
    }
}

/// What was delivered last.
enum Asked {
    For(SegmentName),
    /// Nothing is wanted any more.
    Nothing,
    /// It is being written.
    Unknown,
}

impl State {
    /// The server goes on behind `asked`.
    fn goes_to(&mut self, asked: SegmentName) {
        self.ends_at = None;
        self.fetched
            .retain(|name| name.timeline == asked.timeline && name.number > asked.number);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    fn rests(&self) -> bool {
        let state = self.lock();
        state.queue.is_empty() && state.working.is_empty()
    }

    /// Fetches what is in the queue, until nothing is to come any more.
    fn work(&self) {
        let mut state = self.lock();
        while !state.closed {
            let Some(name) = state.queue.pop_front() else {
                state = self
                    .changed
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            state.working.insert(name);
            let preferred = state.place;
            drop(state);
            let fetched = self.fetch(name, preferred);
            state = self.lock();
            state.working.remove(&name);
            match fetched {
                Ok(Some(place)) => {
                    state.fetched.insert(name);
                    state.place = place;
                }
                Ok(None) => {
                    state.ends_at = Some(state.ends_at.map_or(name, |end| end.min(name)));
                    state.queue.retain(|later| *later < name);
                }
                Err(_) => state.failed = true,
            }
        }
    }

    /// Fetches one segment, and gives the place that had it. An error is one of the folder.
    fn fetch(&self, name: SegmentName, preferred: usize) -> Result<Option<usize>, ArchiveError> {
        let file = name.file_name(self.size);
        let path = self.folder.join(format!("{file}.{UNFINISHED}"));
        let others = (0..self.places).filter(|place| *place != preferred);
        let mut spool = self.spool.as_ref();
        for place in std::iter::once(preferred).chain(others) {
            let Some(archive) = (self.archive)(place) else {
                continue;
            };
            match self.write(&archive, spool.take(), name, &path) {
                Ok(Some(crc)) => {
                    self.publish(&path, &self.folder.join(format!("{file}.{crc:08X}")))?;
                    return Ok(Some(place));
                }
                Err(ArchiveError::File {
                    path: failed,
                    action,
                    source,
                }) if failed == path => {
                    let _ = fs::remove_file(&path);
                    return Err(ArchiveError::File {
                        action,
                        path,
                        source,
                    });
                }
                Ok(None) | Err(_) => {}
            }
        }
        let _ = fs::remove_file(&path);
        Ok(None)
    }

    /// Writes a segment to `path`, and gives the checksum of its bytes.
    fn write(
        &self,
        archive: &Archive,
        spool: Option<&Spool>,
        name: SegmentName,
        path: &Path,
    ) -> Result<Option<u32>, ArchiveError> {
        let mut file = self.create(path)?;
        let mut crc = 0;
        let found = archive.read_finished(name, self.size, spool, &mut |bytes| {
            crc = pgm_storage::crc32c_append(crc, bytes);
            file.write_all(bytes)
                .map_err(|error| ArchiveError::file("write", path, error))
        })?;
        if !found {
            return Ok(None);
        }
        // Not for safety: PostgreSQL syncs what it takes, and replays nothing meanwhile. It finds it done.
        file.sync_data()
            .map_err(|error| ArchiveError::file("sync", path, error))?;
        Ok(Some(crc))
    }

    fn create(&self, path: &Path) -> Result<File, ArchiveError> {
        let state = self.lock();
        let made = if state.closed {
            Err(io::ErrorKind::Interrupted.into())
        } else {
            // What a process that died has left; we have the lock.
            let _ = fs::remove_file(path);
            OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(path)
        };
        made.map_err(|error| ArchiveError::file("create", path, error))
    }

    fn publish(&self, path: &Path, to: &Path) -> Result<(), ArchiveError> {
        let state = self.lock();
        if state.closed {
            return Ok(());
        }
        fs::rename(path, to).map_err(|error| ArchiveError::file("rename", path, error))
    }
}

/// How many of `count` segments of this size may be there, when there would be so much room without them.
pub(in crate::archive) fn affordable(count: usize, size: SegmentSize, room_bytes: u64) -> usize {
    let larger = (size.bytes() / COUNTED_BYTES).max(1);
    let room = usize::try_from(room_bytes / 2 / size.bytes()).unwrap_or(usize::MAX);
    (count / larger as usize).min(room)
}
