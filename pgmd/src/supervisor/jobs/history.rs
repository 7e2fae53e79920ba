//! What is remembered of jobs: `jobs.jsonl` in the base directory.
//!
//! One JSON document a line, appended when a job is asked for, when its worker starts and when it ends; the last line of a
//! job counts:
//!
//! ```text
//! {"next":18}                                    no job below this number will be given again
//! {"job":{"job":17,"kind":"backup","server":"prod","state":"done",…}}     a `pgm_mgmt::JobRecord`
//! ```
//!
//! A line that cannot be read (torn by a crash, or of another version) is passed over; its number still counts where it
//! can be made out. Jobs that had not ended when the daemon did are lost. Once the file holds many lines that no longer
//! count, it is written anew. A file that cannot be used costs the memory of jobs, never a job: it is said once.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use pgm_mgmt::{Error, ErrorCode, JobId, JobRecord, JobState};
use serde::{Deserialize, Serialize};
use tracing::warn;

/// The name of the file in the base directory.
pub(crate) const FILE_NAME: &str = "jobs.jsonl";
/// The longest line that is read.
const LINE_BYTES_MAX: u64 = 1 << 20;
/// Lines that may no longer count before the file is written anew, besides as many again as count.
const STALE_LINES_MAX: usize = 500;

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Next(u64),
    Job(Box<JobRecord>),
}

/// As much of a line as its number takes.
#[derive(Debug, Deserialize)]
struct Numbered {
    job: Number,
}

#[derive(Debug, Deserialize)]
struct Number {
    job: u64,
}

/// The jobs that have ended, and the file that remembers them.
#[derive(Debug)]
pub(super) struct History {
    path: PathBuf,
    file: Option<File>,
    /// Whether the last line may lack its end.
    tail: Tail,
    unfinished: BTreeMap<JobId, JobRecord>,
    /// Oldest first.
    ended: VecDeque<JobRecord>,
    keep: usize,
    lines: usize,
    /// No number below this is given again.
    next: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tail {
    Complete,
    Torn,
}

impl History {
    /// Reads the history in `path`, of which the newest `keep` jobs are kept.
    pub(super) fn open(path: PathBuf, keep: usize) -> Self {
        let mut history = Self {
            path,
            file: None,
            tail: Tail::Complete,
            unfinished: BTreeMap::new(),
            ended: VecDeque::new(),
            keep,
            lines: 0,
            next: 1,
        };
        match history.read() {
            Ok(unfinished) => {
                history.file = history.opened(OpenOptions::new().append(true).create(true));
                for record in unfinished {
                    history.note(&lost(record));
                }
            }
            // Without what it says, nothing may be added to it: the next daemon would count wrong.
            Err(error) => warn!("the history of jobs cannot be read: {error}"),
        }
        history
    }

    /// The number of the next job; the caller notes the job, which makes it the last time that this number is given.
    pub(super) fn take_number(&mut self) -> JobId {
        let id = JobId::new(self.next);
        self.next += 1;
        id
    }

    /// The jobs that have ended, oldest first.
    pub(super) fn ended(&self) -> impl DoubleEndedIterator<Item = &JobRecord> {
        self.ended.iter()
    }

    /// From now on, this many are kept.
    pub(super) fn set_keep(&mut self, keep: usize) {
        self.keep = keep;
        self.trim();
    }

    /// Writes down how a job is now, and remembers it when it has ended.
    pub(super) fn note(&mut self, record: &JobRecord) {
        self.append(&Line::Job(Box::new(record.clone())));
        if record.state.is_final() {
            self.unfinished.remove(&record.job);
            self.ended.push_back(record.clone());
            self.trim();
        } else {
            self.unfinished.insert(record.job, record.clone());
        }
        if self.lines > 2 * self.ended.len() + STALE_LINES_MAX {
            self.rewrite();
        }
    }

    /// Forgets the jobs that have ended. How many were forgotten.
    pub(super) fn forget(&mut self) -> usize {
        let count = self.ended.len();
        self.ended.clear();
        self.rewrite();
        count
    }

    /// The file, to be synced where waiting does no harm.
    pub(super) fn to_sync(&self) -> Option<File> {
        self.file.as_ref()?.try_clone().ok()
    }

    fn trim(&mut self) {
        while self.ended.len() > self.keep {
            self.ended.pop_front();
        }
    }

    /// Takes the file in; returns the jobs that have not ended in it.
    fn read(&mut self) -> io::Result<Vec<JobRecord>> {
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut newest: BTreeMap<JobId, JobRecord> = BTreeMap::new();
        let (mut lines, mut line, mut strange) = (BufReader::new(file), Vec::new(), 0);
        loop {
            line.clear();
            let read = (&mut lines)
                .take(LINE_BYTES_MAX)
                .read_until(b'\n', &mut line)?;
            if read == 0 {
                break;
            }
            self.lines += 1;
            self.tail = if line.ends_with(b"\n") {
                Tail::Complete
            } else {
                Tail::Torn
            };
            if line.trim_ascii().is_empty() {
                continue;
            }
            match serde_json::from_slice(&line) {
                Ok(Line::Next(next)) => self.next = self.next.max(next),
                Ok(Line::Job(record)) => {
                    self.count(record.job.number());
                    newest.insert(record.job, *record);
                }
                Err(_) => {
                    strange += 1;
                    if let Ok(numbered) = serde_json::from_slice::<Numbered>(&line) {
                        self.count(numbered.job.job);
                    }
                }
            }
        }
        if strange > 0 {
            let path = self.path.display();
            warn!("{strange} lines of {path} cannot be read and are passed over");
        }
        let (ended, unfinished): (Vec<_>, Vec<_>) = newest
            .into_values()
            .partition(|record| record.state.is_final());
        self.ended = ended.into();
        self.trim();
        Ok(unfinished)
    }

    fn count(&mut self, number: u64) {
        self.next = self.next.max(number.saturating_add(1));
    }

    fn append(&mut self, line: &Line) {
        let Some(file) = &mut self.file else { return };
        let Ok(text) = serde_json::to_string(line) else {
            return;
        };
        let begin = match self.tail {
            Tail::Complete => "",
            Tail::Torn => "\n",
        };
        match file.write_all(format!("{begin}{text}\n").as_bytes()) {
            Ok(()) => {
                self.lines += 1;
                self.tail = Tail::Complete;
            }
            Err(error) => {
                // Said once for each time that it begins: the next line that fits ends it.
                if self.tail == Tail::Complete {
                    warn!("cannot write {}: {error}", self.path.display());
                }
                self.tail = Tail::Torn;
            }
        }
    }

    /// Writes the file anew with what still counts.
    fn rewrite(&mut self) {
        if let Err(error) = self.try_rewrite() {
            warn!("cannot write {} anew: {error}", self.path.display());
            // Not to be tried again with the very next line.
            self.lines = 0;
        }
    }

    fn try_rewrite(&mut self) -> io::Result<()> {
        if self.file.is_none() {
            return Ok(());
        }
        let mut text = serde_json::to_string(&Line::Next(self.next))? + "\n";
        let mut lines = 1;
        for record in self.ended.iter().chain(self.unfinished.values()) {
            text += &serde_json::to_string(&Line::Job(Box::new(record.clone())))?;
            text.push('\n');
            lines += 1;
        }
        let new = self.path.with_extension("jsonl.new");
        let _ = std::fs::remove_file(&new);
        let mut options = OpenOptions::new();
        let mut file = options
            .append(true)
            .create_new(true)
            .mode(0o600)
            .open(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&new, &self.path)?;
        if let Some(folder) = self.path.parent() {
            File::open(folder)?.sync_all()?;
        }
        (self.file, self.lines, self.tail) = (Some(file), lines, Tail::Complete);
        Ok(())
    }

    fn opened(&self, options: &mut OpenOptions) -> Option<File> {
        match options.mode(0o600).open(&self.path) {
            Ok(file) => Some(file),
            Err(error) => {
                let path = self.path.display();
                warn!("jobs are not remembered: cannot open {path}: {error}");
                None
            }
        }
    }
}

/// The history in the base directory `folder`.
pub(super) fn path_in(folder: &Path) -> PathBuf {
    folder.join(FILE_NAME)
}

fn lost(mut record: JobRecord) -> JobRecord {
    let text = format!("pgmd died while job {} was {}", record.job, record.state);
    let hint = "nothing of it is listed unless it was just done; run it again";
    record.error = Some(Error::new(ErrorCode::WorkerDied, text).with_hint(hint));
    record.state = JobState::Lost;
    record
}

#[cfg(test)]
#[path = "history_tests.rs"]
mod tests;
