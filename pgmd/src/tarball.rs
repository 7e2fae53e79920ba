//! Archives: a backup restored into one tar file, as the daemon's jobs and the command line without a daemon make them.
//!
//! The file appears whole, under its name, or not at all: it is written under a temporary name beside it, synced and renamed.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use pgm_backup::Context;
use pgm_backup::restore::{self, Recovery, RestorePlan};
use pgm_mgmt::{ArchiveOptions, Archived, Error, ErrorCode, RestoreOptions};
use pgm_storage::seal::{MasterKey, SealWriter};
use pgm_storage::{Compression, StreamEncoder};
use rustix::fs::{CWD, RenameFlags, renameat_with};

use crate::operations::{Opened, Place};
use crate::restore::{refusal, request};

/// What a sealed file is; the same as `pgm-cli encrypt` says, so that `pgm-cli decrypt` opens it.
pub const SEAL_CONTEXT: &[u8] = b"pgm file";
const SEALED_SUFFIX: &str = ".pgm";
const BUFFER_BYTES: usize = 1 << 20;

/// The file that is asked for: its name says how it is compressed, and whether it is sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TarFile {
    path: PathBuf,
    compression: Compression,
    sealing: Sealing,
}

/// Whether a file is sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sealing {
    /// No.
    Plain,
    /// With the master key.
    Sealed,
}

impl TarFile {
    /// Reads `path`: it ends with `.tar`, `.tar.zst`, `.tar.gz` or `.tar.lz4`, and `.pgm` behind that; without any of
    /// them, `.tar` is added.
    pub fn parse(path: &str) -> Result<Self, Error> {
        let wrong = |text: String| {
            Error::new(ErrorCode::BadValue, text)
                .with_hint("such as /archives/main.tar, main.tar.zst, main.tar.gz, main.tar.lz4, or with .pgm behind it")
        };
        if !Path::new(path).is_absolute() {
            return Err(wrong(format!("`{path}` is not an absolute path")));
        }
        let (name, sealing) = match path.strip_suffix(SEALED_SUFFIX) {
            Some(name) => (name, Sealing::Sealed),
            None => (path, Sealing::Plain),
        };
        let compressions = [
            (".tar", Compression::NONE),
            (".tar.zst", Compression::ZSTD),
            (".tar.gz", Compression::GZIP),
            (".tar.lz4", Compression::LZ4),
        ];
        let known = compressions
            .iter()
            .find(|(suffix, _)| name.ends_with(suffix));
        let has_suffix = Path::new(name).extension().is_some();
        let (path, compression) = match known {
            Some((_, compression)) => (PathBuf::from(path), *compression),
            None if !has_suffix && sealing == Sealing::Plain && !name.ends_with('/') => {
                (PathBuf::from(format!("{path}.tar")), Compression::NONE)
            }
            None => return Err(wrong(format!("`{path}` does not end like a tar file"))),
        };
        Ok(Self {
            path,
            compression,
            sealing,
        })
    }

    /// Whether it is sealed.
    pub fn sealing(&self) -> Sealing {
        self.sealing
    }
}

/// Writes the archive that `options` ask for; `key` is that of a sealed one.
pub fn archive(
    cx: &Context,
    place: Place<'_>,
    options: &ArchiveOptions,
    key: Option<&MasterKey>,
) -> Result<Archived, Error> {
    let file = TarFile::parse(&options.file)?;
    let opened = place.open()?;
    let plan = plan(cx, &opened, place, options)?;
    if !options.force && fs::symlink_metadata(&file.path).is_ok() {
        return Err(exists(&file.path));
    }
    let unfinished = Unfinished::create(&file.path)?;
    let report = write(cx, &opened, &plan, &file, key, &unfinished)?;
    let bytes = unfinished.publish(options.force)?;
    Ok(Archived {
        server: place.server.clone(),
        label: plan.entry.label.to_string(),
        file: file.path.display().to_string(),
        folder: report.folder,
        target: plan.request.target.to_string(),
        files: report.files,
        raw_bytes: report.bytes,
        wal_segments: report.wal_segments,
        file_bytes: bytes,
        compression: file.compression.to_string(),
        sealed: file.sealing == Sealing::Sealed,
        elapsed_ms: u64::try_from(report.elapsed.as_millis()).unwrap_or(u64::MAX),
    })
}

fn plan(
    cx: &Context,
    opened: &Opened,
    place: Place<'_>,
    options: &ArchiveOptions,
) -> Result<RestorePlan, Error> {
    let options = RestoreOptions {
        server: options.server.clone(),
        backup: options.backup.clone(),
        // Where the folder of an archive will be is not known.
        directory: "/".to_owned(),
        delta: false,
        target: options.target.clone(),
        tablespaces: Vec::new(),
        plan_only: false,
        restore_program: None,
    };
    let mut request = request(&options)?;
    request.recovery = Recovery::Command(String::new());
    let spool = opened.spool.as_ref();
    restore::plan_export(
        cx,
        &opened.repository,
        &opened.archive,
        spool,
        place.server,
        request,
    )
    .map_err(|error| refusal(&error))
}

fn write(
    cx: &Context,
    opened: &Opened,
    plan: &RestorePlan,
    file: &TarFile,
    key: Option<&MasterKey>,
    unfinished: &Unfinished,
) -> Result<restore::ExportReport, Error> {
    let failed = |error: io::Error| failure(&file.path, &error);
    let out = BufWriter::with_capacity(BUFFER_BYTES, &unfinished.file);
    let sink: Box<dyn Finish + '_> = match (file.sealing, key) {
        (Sealing::Plain, _) => Box::new(Plain(out)),
        (Sealing::Sealed, Some(key)) => {
            let sealed = SealWriter::new(out, key, SEAL_CONTEXT);
            Box::new(Sealed(
                sealed.map_err(|error| failed(io::Error::other(error)))?,
            ))
        }
        (Sealing::Sealed, None) => {
            let error = Error::new(
                ErrorCode::ArchiveFailed,
                "there is no master key to seal the archive with",
            );
            return Err(error.with_hint("make one: pgm-cli admin master-key"));
        }
    };
    let mut encoder = StreamEncoder::new(sink, file.compression).map_err(failed)?;
    let spool = opened.spool.as_ref();
    let report = restore::export(
        cx,
        &opened.repository,
        &opened.archive,
        spool,
        plan,
        &mut encoder,
    )
    .map_err(|error| refused(&file.path, &error))?;
    encoder.finish().and_then(Finish::finish).map_err(failed)?;
    Ok(report)
}

/// The last stage before the file.
trait Finish: Write {
    /// Writes what is still held back.
    fn finish(self: Box<Self>) -> io::Result<()>;
}

struct Plain<W: Write>(BufWriter<W>);
struct Sealed<W: Write>(SealWriter<BufWriter<W>>);

impl<W: Write> Write for Plain<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl<W: Write> Finish for Plain<W> {
    fn finish(mut self: Box<Self>) -> io::Result<()> {
        self.0.flush()
    }
}

impl<W: Write> Write for Sealed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl<W: Write> Finish for Sealed<W> {
    fn finish(self: Box<Self>) -> io::Result<()> {
        self.0.finish().map_err(io::Error::other)?.flush()
    }
}

/// A file that has not got its name yet; removed when dropped.
struct Unfinished {
    file: File,
    temporary: PathBuf,
    path: PathBuf,
}

impl Unfinished {
    fn create(path: &Path) -> Result<Self, Error> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let temporary = path.with_file_name(format!(".{name}.{}.tmp", std::process::id()));
        let mut open = OpenOptions::new();
        let file = open
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&temporary);
        Ok(Self {
            file: file.map_err(|error| failure(&temporary, &error))?,
            temporary,
            path: path.to_owned(),
        })
    }

    /// Makes it durable and gives it its name; gives its bytes.
    fn publish(self, force: bool) -> Result<u64, Error> {
        let failed = |error: io::Error| failure(&self.path, &error);
        self.file.sync_all().map_err(failed)?;
        let bytes = self.file.metadata().map_err(failed)?.len();
        let flags = if force {
            RenameFlags::empty()
        } else {
            RenameFlags::NOREPLACE
        };
        match renameat_with(CWD, &self.temporary, CWD, &self.path, flags) {
            Ok(()) => {}
            Err(rustix::io::Errno::EXIST) => return Err(exists(&self.path)),
            Err(error) => return Err(failed(error.into())),
        }
        let folder = self.path.parent().unwrap_or(Path::new("/"));
        File::open(folder)
            .and_then(|folder| folder.sync_all())
            .map_err(failed)?;
        Ok(bytes)
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // After it got its name there is nothing under this one.
        let _ = fs::remove_file(&self.temporary);
    }
}

fn exists(path: &Path) -> Error {
    let text = format!("{} exists already", path.display());
    Error::new(ErrorCode::BadValue, text)
        .with_hint("choose another name, or replace it with --force")
}

fn failure(path: &Path, error: &io::Error) -> Error {
    let told = Error::new(
        ErrorCode::ArchiveFailed,
        format!("cannot write {}: {error}", path.display()),
    );
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            told.with_hint("write it onto a larger file system; nothing is left of it")
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::NotFound => {
            told.with_hint("name a folder that is there, and that the user of pgmd may write to")
        }
        _ => told,
    }
}

fn refused(path: &Path, error: &restore::RestoreError) -> Error {
    match error {
        restore::RestoreError::Stream { source } => failure(path, source),
        error => refusal(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_how_the_file_is_written() {
        let of = |path: &str| {
            TarFile::parse(path).map(|file| {
                (
                    file.path.display().to_string(),
                    file.compression,
                    file.sealing,
                )
            })
        };
        for (path, compression, sealing) in [
            ("/a/b.tar", Compression::NONE, Sealing::Plain),
            ("/a/b.tar.zst", Compression::ZSTD, Sealing::Plain),
            ("/a/b.tar.lz4", Compression::LZ4, Sealing::Plain),
            ("/a/b.tar.gz.pgm", Compression::GZIP, Sealing::Sealed),
            ("/a/b.tar.pgm", Compression::NONE, Sealing::Sealed),
        ] {
            assert_eq!(of(path).unwrap(), (path.to_owned(), compression, sealing));
        }
        assert_eq!(of("/a/b").unwrap().0, "/a/b.tar");
        for path in ["b.tar", "/a/b.zip", "/a/b.tar.bz2", "/a/b.pgm", "/a/"] {
            assert!(of(path).unwrap_err().hint.is_some(), "{path}");
        }
    }

    #[test]
    fn an_unfinished_file_leaves_nothing_and_replaces_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.tar");
        drop(Unfinished::create(&path).unwrap());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        fs::write(&path, "old").unwrap();
        let unfinished = Unfinished::create(&path).unwrap();
        (&unfinished.file).write_all(b"new").unwrap();
        assert!(unfinished.publish(false).is_err());
        assert_eq!(fs::read(&path).unwrap(), b"old");
        let unfinished = Unfinished::create(&path).unwrap();
        (&unfinished.file).write_all(b"new").unwrap();
        assert_eq!(unfinished.publish(true).unwrap(), 3);
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
