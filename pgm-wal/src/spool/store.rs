//! The file operations of a spool: each is durable when it returns.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::Path;

use pgm_proto::TimelineId;

use crate::error::SpoolError;
use crate::history::{HISTORY_BYTES_MAX, History};

const LOCK_FILE_NAME: &str = "receiver.lock";

/// The right to write into a spool; the kernel takes it back when the process dies.
#[derive(Debug)]
pub(crate) struct SpoolLock {
    _file: File,
}

impl SpoolLock {
    pub(super) fn take(folder: &Path) -> Result<Self, SpoolError> {
        let path = folder.join(LOCK_FILE_NAME);
        let mut options = OpenOptions::new();
        let file = options
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path);
        let file = file.map_err(|source| SpoolError::io("open", &path, source))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(SpoolError::Locked {
                folder: folder.to_owned(),
            }),
            Err(TryLockError::Error(source)) => Err(SpoolError::io("lock", &path, source)),
        }
    }
}

pub(super) fn create_folder(folder: &Path) -> Result<(), SpoolError> {
    if folder.is_dir() {
        return Ok(());
    }
    let created = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    created.map_err(|source| SpoolError::io("create the folder", folder, source))?;
    folder.parent().map_or(Ok(()), sync_folder)
}

/// Makes what was created, renamed or removed in `folder` durable.
pub(crate) fn sync_folder(folder: &Path) -> Result<(), SpoolError> {
    // The parent of a relative path with one component.
    let folder = if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        folder
    };
    let synced = File::open(folder).and_then(|file| file.sync_all());
    synced.map_err(|source| SpoolError::io("sync the folder", folder, source))
}

/// Reads a file of at most `bytes_max` bytes, `None` if there is none.
pub(super) fn read_small(path: &Path, bytes_max: u64) -> Result<Option<Vec<u8>>, SpoolError> {
    let failure = |source| SpoolError::io("read", path, source);
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(failure)?,
    };
    let mut content = Vec::new();
    file.take(bytes_max + 1)
        .read_to_end(&mut content)
        .map_err(failure)?;
    if content.len() as u64 > bytes_max {
        return Err(SpoolError::Damaged {
            path: path.to_owned(),
        });
    }
    Ok(Some(content))
}

/// Makes a file that must not exist yet: complete and durable, or absent.
pub(super) fn create_durably(folder: &Path, path: &Path, content: &[u8]) -> Result<(), SpoolError> {
    let temporary = path.with_extension("tmp");
    let failure = |source| SpoolError::io("write", &temporary, source);
    let mut options = OpenOptions::new();
    let file = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary);
    let mut file = file.map_err(failure)?;
    file.write_all(content)
        .and_then(|()| file.sync_all())
        .map_err(failure)?;
    rename_new(&temporary, path)?;
    sync_folder(folder)
}

/// Renames a file to a name that must be free.
pub(crate) fn rename_new(from: &Path, to: &Path) -> Result<(), SpoolError> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    let renamed = renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE);
    renamed.map_err(|errno| SpoolError::io("rename to", to, errno.into()))
}

pub(super) fn read_history(
    path: &Path,
    timeline: TimelineId,
) -> Result<Option<History>, SpoolError> {
    let Some(content) = read_small(path, HISTORY_BYTES_MAX as u64)? else {
        return Ok(None);
    };
    let history = History::parse(timeline, &content);
    history.map(Some).map_err(|source| SpoolError::History {
        path: path.to_owned(),
        source,
    })
}

pub(super) fn store_history(
    folder: &Path,
    path: &Path,
    timeline: TimelineId,
    content: &[u8],
) -> Result<History, SpoolError> {
    let history = History::parse(timeline, content).map_err(|source| SpoolError::History {
        path: path.to_owned(),
        source,
    })?;
    match read_small(path, HISTORY_BYTES_MAX as u64)? {
        None => create_durably(folder, path, content)?,
        Some(stored) if stored == content => {}
        Some(_) => {
            return Err(SpoolError::HistoryDiffers {
                path: path.to_owned(),
                timeline,
            });
        }
    }
    Ok(history)
}

pub(super) fn remove(folder: &Path, path: &Path) -> Result<(), SpoolError> {
    match fs::remove_file(path) {
        Ok(()) => sync_folder(folder),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(SpoolError::io("remove", path, source)),
    }
}

/// The first offset at which two files differ, a missing byte being a difference too.
pub(crate) fn first_difference(
    left: &Path,
    right: &Path,
    scratch: &mut [u8],
) -> Result<Option<u64>, SpoolError> {
    let failure = |source| SpoolError::io("compare", right, source);
    let (left, right) = (
        File::open(left).map_err(failure)?,
        File::open(right).map_err(failure)?,
    );
    let lengths = (
        left.metadata().map_err(failure)?.len(),
        right.metadata().map_err(failure)?.len(),
    );
    let common = lengths.0.min(lengths.1);
    let (a, b) = scratch.split_at_mut(scratch.len() / 2);
    let mut at = 0;
    while at < common {
        let length = a
            .len()
            .min(usize::try_from(common - at).unwrap_or(usize::MAX));
        left.read_exact_at(&mut a[..length], at).map_err(failure)?;
        right.read_exact_at(&mut b[..length], at).map_err(failure)?;
        if let Some(index) = a[..length]
            .iter()
            .zip(&b[..length])
            .position(|(a, b)| a != b)
        {
            return Ok(Some(at + index as u64));
        }
        at += length as u64;
    }
    Ok((lengths.0 != lengths.1).then_some(common))
}
