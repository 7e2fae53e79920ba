//! `encrypt`, `decrypt`, `compress`, `decompress`: files of this host, of any size, with and without pgmd.
//!
//! All four are one procedure, `rewrite`, around a different stream.

mod rewrite;
mod target;

use std::ffi::OsStr;
use std::io::{self, BufRead as _, BufReader, Read, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use pgm_storage::seal::{MasterKey, SealReader, SealWriter};
use pgm_storage::{FileFormat, StreamDecoder, StreamEncoder};
use pgmd::secrets::master_key;

use super::Cx;
use crate::arguments::file::{CompressArguments, FileArguments, SealArguments};
use crate::error::{CliError, Failure};

use rewrite::{Plain, Rewrite, rewrite};

/// What a file that was encrypted is; goes into every chunk (docs/on-disk.md, "Sealed objects").
const CONTEXT: &[u8] = b"pgm file";
const SEALED_SUFFIX: &str = ".pgm";
const BUFFER_BYTES: usize = 256 << 10;

pub(super) fn encrypt(cx: &Cx, arguments: &SealArguments) -> Result<ExitCode, CliError> {
    let key = key(cx)?;
    let output = target_of(&arguments.file, |file| {
        Some(with_suffix(file, SEALED_SUFFIX))
    })?;
    rewrite(
        cx,
        &arguments.file,
        &output,
        &Rewrite {
            word: "encrypt",
            forward: &|from, to| {
                let mut writer = SealWriter::new(to, &key, CONTEXT)?;
                io::copy(from, &mut writer)?;
                writer.finish()?;
                Ok(())
            },
            back: &|from, to| unseal(from, to, &key),
            plain: Plain::Source,
        },
    )
}

pub(super) fn decrypt(cx: &Cx, arguments: &SealArguments) -> Result<ExitCode, CliError> {
    let key = key(cx)?;
    let output = target_of(&arguments.file, |file| {
        without_suffix(file, &[SEALED_SUFFIX])
    })?;
    rewrite(
        cx,
        &arguments.file,
        &output,
        &Rewrite {
            word: "decrypt",
            forward: &|from, to| unseal(from, to, &key),
            back: &copy_of_result,
            plain: Plain::Result,
        },
    )
}

pub(super) fn compress(cx: &Cx, arguments: &CompressArguments) -> Result<ExitCode, CliError> {
    let compression = arguments.with;
    let format = FileFormat::of(compression.codec()).ok_or_else(|| {
        let text = "`none` compresses nothing";
        CliError::new(Failure::Usage, text, Some("use zstd, lz4 or gzip".into()))
    })?;
    let output = target_of(&arguments.file, |file| {
        Some(with_suffix(file, format.suffix()))
    })?;
    rewrite(
        cx,
        &arguments.file,
        &output,
        &Rewrite {
            word: "compress",
            forward: &|from, to| {
                let mut encoder = StreamEncoder::new(to, compression)?;
                io::copy(from, &mut encoder)?;
                encoder.finish()?;
                Ok(())
            },
            back: &expand,
            plain: Plain::Source,
        },
    )
}

pub(super) fn decompress(cx: &Cx, arguments: &FileArguments) -> Result<ExitCode, CliError> {
    let suffixes = FileFormat::ALL.map(FileFormat::suffix);
    let output = target_of(arguments, |file| without_suffix(file, &suffixes))?;
    rewrite(
        cx,
        arguments,
        &output,
        &Rewrite {
            word: "decompress",
            forward: &expand,
            back: &copy_of_result,
            plain: Plain::Result,
        },
    )
}

fn unseal(from: &mut dyn Read, to: &mut dyn Write, key: &MasterKey) -> io::Result<()> {
    let mut reader = SealReader::open(from, key, CONTEXT)?;
    io::copy(&mut reader, to).map(|_| ())
}

fn expand(from: &mut dyn Read, to: &mut dyn Write) -> io::Result<()> {
    let mut from = BufReader::with_capacity(BUFFER_BYTES, from);
    let format = FileFormat::detect(from.fill_buf()?).ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            "it is not compressed with zstd, lz4, gzip or bzip2",
        )
    })?;
    io::copy(&mut StreamDecoder::new(from, format)?, to).map(|_| ())
}

/// What was decrypted or decompressed was checked on the way; that it is on disk as it was is seen by reading it.
fn copy_of_result(from: &mut dyn Read, to: &mut dyn Write) -> io::Result<()> {
    io::copy(from, to).map(|_| ())
}

/// The key that was named, else that of the configuration.
fn key(cx: &Cx) -> Result<MasterKey, CliError> {
    let source = match &cx.at.master_key {
        Some(source) => source.clone(),
        None => cx.config()?.master_key,
    };
    Ok(master_key(&source)?)
}

/// Where the result goes: as told, or beside the file under a name made of its own.
fn target_of(
    arguments: &FileArguments,
    name: impl FnOnce(&Path) -> Option<PathBuf>,
) -> Result<PathBuf, CliError> {
    let made = || name(&arguments.file);
    arguments.output.clone().or_else(made).ok_or_else(|| {
        let text = format!(
            "{} has no suffix that tells the name of the result",
            arguments.file.display()
        );
        CliError::new(
            Failure::Usage,
            text,
            Some("say where it goes: --output FILE".into()),
        )
    })
}

fn with_suffix(file: &Path, suffix: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// The name without one of `suffixes`; something has to be left of it.
fn without_suffix(file: &Path, suffixes: &[&str]) -> Option<PathBuf> {
    let name = file.file_name()?.as_encoded_bytes();
    let length = suffixes.iter().find_map(|suffix| {
        let rest = name.strip_suffix(suffix.as_bytes())?;
        (!rest.is_empty()).then_some(rest.len())
    })?;
    Some(file.with_file_name(OsStr::from_bytes(&name[..length])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_results_follow_from_those_of_files() {
        let path = Path::new;
        assert_eq!(with_suffix(path("/a/b"), ".pgm"), path("/a/b.pgm"));
        let without = |file: &str| without_suffix(path(file), &[".pgm", ".zst"]);
        assert_eq!(without("/a/b.tar.zst").as_deref(), Some(path("/a/b.tar")));
        assert_eq!(without("b.pgm").as_deref(), Some(path("b")));
        assert_eq!(without("/a/.pgm"), None);
        assert_eq!(without("/a/b"), None);
    }
}
