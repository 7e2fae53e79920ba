//! The log in a file: opened anew by age, by size, and when somebody asks for it.
//!
//! The name may hold a time (`pgmd-%Y-%m-%d.log`), that of its opening. Where a new name would be the old one, the old file
//! is renamed first, to its name and the moment (`pgmd.log.20261122T023456Z`), unless files are emptied (`log_mode:
//! "truncate"`) and its time is over. Nothing is ever deleted here.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use jiff::Zoned;

use crate::config::{LogMode, LoggingConfig, PathTemplate};

/// What is asked for.
#[derive(Debug, Clone)]
pub(super) struct FileOptions {
    pub(super) path: PathTemplate,
    /// Zero: never.
    pub(super) age: Duration,
    /// Zero: never.
    pub(super) bytes: u64,
    pub(super) mode: LogMode,
}

impl FileOptions {
    pub(super) fn new(config: &LoggingConfig) -> Self {
        Self {
            path: config.path.clone(),
            age: config.rotation_age,
            bytes: config.rotation_size.bytes(),
            mode: config.mode,
        }
    }
}

/// An open log file.
#[derive(Debug)]
pub(super) struct LogFile {
    options: FileOptions,
    file: File,
    path: PathBuf,
    opened: Instant,
    bytes: u64,
    tail: Tail,
}

/// Whether the file ends with a whole line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tail {
    Whole,
    Torn,
}

/// What becomes of a file that exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Existing {
    Continued,
    Emptied,
}

impl LogFile {
    /// Opens the file of this moment, and makes its folder.
    pub(super) fn open(options: FileOptions) -> io::Result<Self> {
        let path = options.path.at(&Zoned::now());
        let existing = match options.mode {
            LogMode::Append => Existing::Continued,
            LogMode::Truncate => Existing::Emptied,
        };
        let (file, bytes) = open(&path, existing)?;
        Ok(Self {
            options,
            file,
            path,
            opened: Instant::now(),
            bytes,
            tail: Tail::Whole,
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Appends a line, into the next file if it is time for that.
    pub(super) fn write(&mut self, line: &str) -> io::Result<()> {
        let (age, bytes_max) = (self.options.age, self.options.bytes);
        let old = !age.is_zero() && self.opened.elapsed() >= age;
        let large = bytes_max > 0 && self.bytes > 0 && self.bytes + line.len() as u64 >= bytes_max;
        if old || large {
            let existing = match self.options.mode {
                LogMode::Truncate if old => Existing::Emptied,
                LogMode::Append | LogMode::Truncate => Existing::Continued,
            };
            self.rotate(existing)?;
        }
        let begin = match self.tail {
            Tail::Whole => "",
            Tail::Torn => "\n",
        };
        let text = format!("{begin}{line}\n");
        let written = self.file.write_all(text.as_bytes());
        self.tail = if written.is_ok() {
            Tail::Whole
        } else {
            Tail::Torn
        };
        self.bytes += text.len() as u64;
        written
    }

    /// Opens the file of this moment, which may be the same or one that was just moved away.
    pub(super) fn reopen(&mut self) -> io::Result<()> {
        self.enter(self.options.path.at(&Zoned::now()), Existing::Continued)
    }

    fn rotate(&mut self, existing: Existing) -> io::Result<()> {
        let path = self.options.path.at(&Zoned::now());
        if path == self.path && existing == Existing::Continued {
            std::fs::rename(&path, unused(&path))?;
        }
        self.enter(path, existing)
    }

    fn enter(&mut self, path: PathBuf, existing: Existing) -> io::Result<()> {
        let (file, bytes) = open(&path, existing)?;
        (self.file, self.path, self.bytes) = (file, path, bytes);
        (self.opened, self.tail) = (Instant::now(), Tail::Whole);
        Ok(())
    }
}

fn open(path: &Path, existing: Existing) -> io::Result<(File, u64)> {
    if let Some(folder) = path.parent() {
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700).create(folder)?;
    }
    let mut options = OpenOptions::new();
    let file = options.append(true).create(true).mode(0o600).open(path)?;
    if existing == Existing::Emptied {
        file.set_len(0)?;
    }
    let bytes = file.metadata()?.len();
    Ok((file, bytes))
}

/// A name that nobody has, from the moment, for what was in `path` so far.
fn unused(path: &Path) -> PathBuf {
    let moment = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ");
    let named = |suffix: String| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    let mut candidates = (1..1000_u32).map(|number| named(format!(".{moment}-{number}")));
    let first = named(format!(".{moment}"));
    if !first.exists() {
        return first;
    }
    // A thousand in one second: then the last is written over.
    let free = candidates.find(|name| !name.exists());
    free.unwrap_or(first)
}

#[cfg(test)]
#[path = "file_tests.rs"]
pub(super) mod tests;
