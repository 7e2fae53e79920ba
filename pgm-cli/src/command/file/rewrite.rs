//! From one file to another: stream, sync, read back, publish, and only then remove the first.

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Seek as _, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use pgm_storage::crc32c_append;
use pgm_storage::seal::SealError;
use serde::Serialize;

use super::super::Cx;
use super::BUFFER_BYTES;
use super::target::{Target, sync_folder_of};
use crate::arguments::Format;
use crate::arguments::file::FileArguments;
use crate::error::{CliError, Failure};
use crate::output::progress::Bar;
use crate::output::stdout::out;
use crate::output::{bytes, print_json};

type Stream<'a> = &'a dyn Fn(&mut dyn Read, &mut dyn Write) -> io::Result<()>;

/// What is done to a file.
pub(super) struct Rewrite<'a> {
    /// `encrypt`.
    pub(super) word: &'static str,
    /// From the file's bytes to the result's.
    pub(super) forward: Stream<'a>,
    /// From the result's bytes to the plain ones.
    pub(super) back: Stream<'a>,
    /// Whose bytes are the plain ones.
    pub(super) plain: Plain,
}

/// Which of two files is neither encrypted nor compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Plain {
    Source,
    Result,
}

/// What was done.
#[derive(Debug, Serialize)]
struct Report<'a> {
    done: &'static str,
    source: &'a Path,
    source_bytes: u64,
    source_kept: bool,
    output: &'a Path,
    output_bytes: u64,
}

pub(super) fn rewrite(
    cx: &Cx,
    arguments: &FileArguments,
    output: &Path,
    how: &Rewrite<'_>,
) -> Result<ExitCode, CliError> {
    let source = &arguments.file;
    let interrupted = interrupts()?;
    let (file, metadata) = open(source)?;
    let target = Target::create(output, &metadata).map_err(|error| unwritable(output, &error))?;
    let mut bar = Bar::new(cx.format);
    let mut from = Watched::new(&file, &interrupted, |done| {
        bar.update(how.word, done, Some(metadata.len()));
    });
    let mut to = Watched::writer(
        BufWriter::with_capacity(BUFFER_BYTES, &target.file),
        &interrupted,
    );
    (how.forward)(&mut from, &mut to)
        .and_then(|()| to.inner.flush())
        .and_then(|()| target.file.sync_all())
        .map_err(|error| failed(how.word, source, error))?;
    let plain = match how.plain {
        Plain::Source => from.checksum,
        Plain::Result => to.checksum,
    };
    let output_bytes = to.done;
    drop((from, to));
    let checksum = read_back(&target.file, how, &interrupted, &mut bar)
        .map_err(|error| failed("read back what was made of", source, error))?;
    bar.finish();
    if checksum != plain {
        let text = format!(
            "what was made of {} is not the same when read back",
            source.display()
        );
        let hint = "the disk may be failing; nothing was changed".to_owned();
        return Err(CliError::new(Failure::Failed, text, Some(hint)));
    }
    target
        .publish()
        .map_err(|error| unwritable(output, &error))?;
    if !arguments.keep {
        let removed = fs::remove_file(source).and_then(|()| sync_folder_of(source));
        removed.map_err(|error| failed("remove", source, error))?;
    }
    report(
        cx,
        &Report {
            done: how.word,
            source,
            source_bytes: metadata.len(),
            source_kept: arguments.keep,
            output,
            output_bytes,
        },
    );
    Ok(ExitCode::SUCCESS)
}

/// The checksum of the plain bytes as the disk has them.
fn read_back(
    mut file: &File,
    how: &Rewrite<'_>,
    interrupted: &AtomicBool,
    bar: &mut Bar,
) -> io::Result<u32> {
    file.rewind()?;
    let total = file.metadata()?.len();
    let mut from = Watched::new(file, interrupted, |done| {
        bar.update("read back", done, Some(total));
    });
    let mut to = Watched::writer(io::sink(), interrupted);
    (how.back)(&mut from, &mut to)?;
    Ok(to.checksum)
}

fn open(path: &Path) -> Result<(File, fs::Metadata), CliError> {
    let failed = |error: io::Error| {
        let failure = match error.kind() {
            io::ErrorKind::NotFound => Failure::NotFound,
            _ => Failure::Failed,
        };
        CliError::new(
            failure,
            format!("cannot open {}: {error}", path.display()),
            None,
        )
    };
    // A link stays a link, and a pipe does not hold us up.
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let mut options = File::options();
    let options = options.read(true).custom_flags(flags.bits().cast_signed());
    let file = options.open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        let text = format!("{} is not a plain file", path.display());
        return Err(CliError::new(Failure::Usage, text, None));
    }
    Ok((file, metadata))
}

/// Ctrl-C and SIGTERM end the work in order, so that nothing half done is left.
fn interrupts() -> Result<Arc<AtomicBool>, CliError> {
    let flag = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&flag))
            .map_err(|error| CliError::new(Failure::Failed, error, None))?;
    }
    Ok(flag)
}

fn unwritable(path: &Path, error: &io::Error) -> CliError {
    if error.kind() == io::ErrorKind::AlreadyExists {
        let text = format!("{} exists already", path.display());
        let hint = "it is not overwritten: remove it, or write elsewhere with --output FILE";
        return CliError::new(Failure::Failed, text, Some(hint.into()));
    }
    CliError::new(
        Failure::Failed,
        format!("cannot write {}: {error}", path.display()),
        None,
    )
}

fn failed(word: &str, path: &Path, error: io::Error) -> CliError {
    let error = SealError::from_io(error);
    let hint = error.hint();
    CliError::new(
        Failure::Failed,
        format!("cannot {word} {}: {error}", path.display()),
        hint,
    )
}

fn report(cx: &Cx, report: &Report<'_>) {
    if cx.format == Format::Json {
        return print_json(report);
    }
    out!(
        "{}: {} -> {}: {}",
        report.source.display(),
        bytes(report.source_bytes),
        report.output.display(),
        bytes(report.output_bytes)
    );
}

/// A stream that is counted, checksummed, watched, and stopped when somebody interrupts.
struct Watched<'a, T> {
    inner: T,
    interrupted: &'a AtomicBool,
    progress: Box<dyn FnMut(u64) + 'a>,
    done: u64,
    checksum: u32,
}

impl<'a, T> Watched<'a, T> {
    fn new(inner: T, interrupted: &'a AtomicBool, progress: impl FnMut(u64) + 'a) -> Self {
        Self {
            inner,
            interrupted,
            progress: Box::new(progress),
            done: 0,
            checksum: 0,
        }
    }

    fn writer(inner: T, interrupted: &'a AtomicBool) -> Self {
        Self::new(inner, interrupted, |_| {})
    }

    fn go_on(&self) -> io::Result<()> {
        if self.interrupted.load(Ordering::Relaxed) {
            return Err(io::Error::other("interrupted; nothing was changed"));
        }
        Ok(())
    }

    fn note(&mut self, bytes: &[u8]) {
        self.done += bytes.len() as u64;
        self.checksum = crc32c_append(self.checksum, bytes);
        (self.progress)(self.done);
    }
}

impl<T: Read> Read for Watched<'_, T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.go_on()?;
        let read = self.inner.read(buffer)?;
        self.note(&buffer[..read]);
        Ok(read)
    }
}

impl<T: Write> Write for Watched<'_, T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.go_on()?;
        let written = self.inner.write(bytes)?;
        self.note(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
