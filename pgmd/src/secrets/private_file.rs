//! Files that only their owner may read: read with suspicion, written whole.
//!
//! A writer makes a new file beside the old one, syncs it, and renames it; readers see the old or the new. Editors of one
//! file take turns by a lock on its folder, which the kernel gives back when they die.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, OFlags, RenameFlags};
use zeroize::Zeroizing;

use super::error::SecretsError;

/// No file of secrets is larger.
const BYTES_MAX: u64 = 4 << 20;
const ROOT: u32 = 0;

/// The lock of an editor, held while the value lives.
#[derive(Debug)]
pub(super) struct EditLock {
    _folder: File,
}

/// Whether a file may be there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Write {
    /// It may, and is replaced.
    Replace,
    /// It may not.
    New,
}

/// What `path` holds; `None` when there is no such file. `what` names it in errors.
pub(super) fn read(path: &Path) -> Result<Option<Zeroizing<String>>, SecretsError> {
    let failed = |error| SecretsError::io("read", path, error);
    // Neither a pipe nor a device may hold us up.
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(SecretsError::unusable(path, "it is not a plain file"));
    }
    let (owner, us) = (metadata.uid(), rustix::process::geteuid());
    // Root may act for pgmd's user.
    if !us.is_root() && owner != ROOT && owner != us.as_raw() {
        return Err(SecretsError::ForeignOwner {
            path: path.to_owned(),
            owner,
        });
    }
    let mode = metadata.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(SecretsError::Exposed {
            path: path.to_owned(),
            mode,
        });
    }
    if metadata.len() > BYTES_MAX {
        return Err(SecretsError::unusable(path, "it is larger than 4 MiB"));
    }
    let mut text = Zeroizing::new(String::new());
    file.take(BYTES_MAX)
        .read_to_string(&mut text)
        .map_err(failed)?;
    Ok(Some(text))
}

/// Writes `text` into `path`, mode 0600, durably and at once.
pub(super) fn write(path: &Path, text: &str, how: Write) -> Result<(), SecretsError> {
    let failed = |error: io::Error| SecretsError::io("write", path, error);
    let folder = folder_of(path);
    let name = path
        .file_name()
        .ok_or_else(|| SecretsError::unusable(path, "this is not the name of a file"))?;
    let random = getrandom::u64().map_err(|error| failed(io::Error::other(error)))?;
    let temporary = folder.join(format!(".{}.{random:016x}.tmp", name.display()));
    let written = write_new(&temporary, text).and_then(|()| {
        let flags = match how {
            Write::Replace => RenameFlags::empty(),
            Write::New => RenameFlags::NOREPLACE,
        };
        let (from, to) = (temporary.as_path(), path);
        rustix::fs::renameat_with(rustix::fs::CWD, from, rustix::fs::CWD, to, flags)?;
        File::open(folder)?.sync_all()
    });
    if written.is_err() {
        // It may not even be there.
        let _ = fs::remove_file(&temporary);
    }
    written.map_err(failed)
}

fn write_new(path: &Path, text: &str) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let options = options.write(true).create_new(true).mode(0o600);
    let mut file = options.open(path)?;
    give_to_owner_of(folder_of(path), &file)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// What root makes in the folder of pgmd's user must be that user's, or pgmd could not read it.
pub(crate) fn give_to_owner_of(folder: &Path, file: &File) -> io::Result<()> {
    if rustix::process::geteuid().is_root() {
        let folder = fs::metadata(folder)?;
        std::os::unix::fs::fchown(file, Some(folder.uid()), Some(folder.gid()))?;
    }
    Ok(())
}

/// Waits for the turn to edit `path`.
pub(super) fn lock(path: &Path) -> Result<EditLock, SecretsError> {
    let folder = folder_of(path);
    let failed = |error: io::Error| SecretsError::io("lock", folder, error);
    let file = File::open(folder).map_err(failed)?;
    rustix::fs::flock(&file, FlockOperation::LockExclusive)
        .map_err(|error| failed(error.into()))?;
    Ok(EditLock { _folder: file })
}

pub(crate) fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    }
}

/// Reads a RON document of `T`; `None` when there is no such file.
pub(super) fn read_ron<T: serde::de::DeserializeOwned>(
    path: &Path,
) -> Result<Option<T>, SecretsError> {
    let Some(text) = read(path)? else {
        return Ok(None);
    };
    // RON's error would quote what stands there: only the place is told.
    let parsed = ron::from_str(&text).map_err(|error| {
        let at = error.span.start;
        let reason = format!("line {}, column {} is not as pgm wrote it", at.line, at.col);
        SecretsError::unusable(path, reason)
    });
    parsed.map(Some)
}

/// Replaces a file by the RON document of `value`, under a comment that says what it is.
pub(super) fn write_ron<T: serde::Serialize>(
    path: &Path,
    comment: &str,
    value: &T,
) -> Result<(), SecretsError> {
    let pretty = ron::ser::PrettyConfig::new();
    let text = ron::ser::to_string_pretty(value, pretty)
        .map_err(|error| SecretsError::unusable(path, error.to_string()))?;
    let text = Zeroizing::new(format!("// {comment}\n{}\n", *Zeroizing::new(text)));
    write(path, &text, Write::Replace)
}

/// For messages: where the file is.
pub(super) fn owned(path: &Path) -> PathBuf {
    path.to_owned()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_file_is_written_whole_and_for_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        assert!(read(&path).unwrap().is_none());
        write(&path, "one", Write::New).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
        assert!(write(&path, "two", Write::New).is_err());
        assert_eq!(read(&path).unwrap().unwrap().as_str(), "one");
        write(&path, "three", Write::Replace).unwrap();
        assert_eq!(read(&path).unwrap().unwrap().as_str(), "three");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_others_can_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        write(&path, "one", Write::New).unwrap();
        for mode in [0o640, 0o604, 0o620, 0o660] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let error = read(&path).unwrap_err();
            assert!(matches!(error, SecretsError::Exposed { .. }), "{error}");
            assert!(error.hint().unwrap().starts_with("chmod 600 "));
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
        assert!(read(&path).unwrap().is_some());
    }

    #[test]
    fn a_folder_is_no_secret_and_a_damaged_document_is_not_quoted() {
        let folder = tempfile::tempdir().unwrap();
        assert!(read(folder.path()).is_err());
        let path = folder.path().join("x.ron");
        write(&path, "(\n  hunter2", Write::New).unwrap();
        let error = read_ron::<Vec<String>>(&path).unwrap_err().to_string();
        assert!(
            error.contains("line 1") && !error.contains("hunter2"),
            "{error}"
        );
    }
}
