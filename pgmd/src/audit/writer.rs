//! The thread that appends to the audit log.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use tracing::{info, warn};

use crate::secrets::private_file::{folder_of, give_to_owner_of};

/// How often a file that cannot be written is complained about.
const COMPLAINT_EVERY: Duration = Duration::from_mins(1);

/// The file, open for appending.
#[derive(Debug)]
pub(super) struct AuditFile {
    path: PathBuf,
    file: File,
    trouble: Option<Trouble>,
}

/// The file cannot be written.
#[derive(Debug)]
struct Trouble {
    told: Instant,
    lost: u64,
}

impl AuditFile {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self {
            path: path.to_owned(),
            file: open(path)?,
            trouble: None,
        })
    }

    /// Writes lines until no more can come.
    pub(super) fn write_all_of(&mut self, lines: &Receiver<String>) {
        while let Ok(line) = lines.recv() {
            let mut written = self.append(&line);
            // One sync for all that wait.
            for line in lines.try_iter() {
                written = written.and(self.append(&line));
            }
            self.note(written.and_then(|()| self.sync()));
        }
    }

    /// Appends one line, in one write, so that lines of several programs never mix.
    pub(super) fn append(&mut self, line: &str) -> io::Result<()> {
        self.follow()?;
        let written = self.file.write(line.as_bytes())?;
        if written < line.len() {
            // The disk is full: what is there must not swallow the next line.
            let _ = self.file.write(b"\n");
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Opens the path again when the file there is no longer ours.
    fn follow(&mut self) -> io::Result<()> {
        let ours = self.file.metadata()?;
        let same = std::fs::metadata(&self.path)
            .is_ok_and(|there| (there.dev(), there.ino()) == (ours.dev(), ours.ino()));
        if !same {
            self.file = open(&self.path)?;
        }
        Ok(())
    }

    /// Complains, but not for every line.
    fn note(&mut self, written: io::Result<()>) {
        let path = self.path.display();
        match (written, &mut self.trouble) {
            (Ok(()), None) => {}
            (Ok(()), Some(trouble)) => {
                let lost = trouble.lost;
                info!("the audit log {path} can be written again; about {lost} records are lost");
                self.trouble = None;
            }
            (Err(error), None) => {
                warn!("the audit log {path} cannot be written, the work goes on: {error}");
                let told = Instant::now();
                self.trouble = Some(Trouble { told, lost: 1 });
            }
            (Err(error), Some(trouble)) => {
                trouble.lost += 1;
                if trouble.told.elapsed() >= COMPLAINT_EVERY {
                    warn!("the audit log {path} still cannot be written: {error}");
                    trouble.told = Instant::now();
                }
            }
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    let flags = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
    let mut options = OpenOptions::new();
    let options = options.append(true).create(true).mode(0o600);
    let file = options.custom_flags(flags).open(path)?;
    let metadata = file.metadata()?;
    if metadata.is_file() && metadata.len() == 0 {
        give_to_owner_of(folder_of(path), &file)?;
    }
    Ok(file)
}
