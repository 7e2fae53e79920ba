//! `pgm-cli init`: writes a commented configuration for some servers, then checks them.

use std::fs::{DirBuilder, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use pgm_storage::seal::MasterKey;
use pgmd::config::{MasterKeySource, Sample};
use pgmd::secrets::{SecretsError, create_master_key};

use super::{Cx, absolute_key, check};
use crate::arguments::{CheckArguments, Format, InitArguments, RepositoryArguments};
use crate::error::{CliError, Failure};
use crate::locate::CONFIG_FILE;
use crate::output::stdout::out;

/// The master key that `--seal` makes, beside the configuration.
const KEY_FILE: &str = "repository.key";

pub(super) fn run(cx: &Cx, arguments: &InitArguments) -> Result<ExitCode, CliError> {
    let directory = std::path::absolute(&arguments.target)
        .map_err(|error| failed("find", &arguments.target, &error))?;
    let file = directory.join(CONFIG_FILE);
    let place = cx.named_place()?;
    let seal = match &cx.at.master_key {
        Some(source) => Some(absolute_key(source)?),
        None => arguments
            .seal
            .then(|| MasterKeySource::File(KEY_FILE.into())),
    };
    let sample = Sample {
        servers: &arguments.servers,
        repository: place.as_ref(),
        seal: seal.as_ref(),
        slot: "pgmd",
    };
    write_configuration(&file, &sample.text())?;
    if cx.format == Format::Text {
        out!("wrote {}", file.display());
    }
    if arguments.seal {
        let key_file = directory.join(KEY_FILE);
        let key = MasterKey::generate().map_err(SecretsError::Seal)?;
        create_master_key(&key_file, &key)?;
        if cx.format == Format::Text {
            out!(
                "wrote {}: keep a copy elsewhere, without it nothing can be restored",
                key_file.display()
            );
        }
    }
    if arguments.no_check {
        return Ok(ExitCode::SUCCESS);
    }
    let here = Cx {
        directory: Some(directory.clone()),
        config: None,
        format: cx.format,
        at: RepositoryArguments::default(),
        remote: None,
    };
    let status = check::run(&here, &CheckArguments { server: None })?;
    if cx.format == Format::Text {
        print_next_steps(&directory, arguments);
    }
    Ok(status)
}

/// Writes a new configuration that only its owner can read, since it may hold passwords, and makes its folder.
pub(super) fn write_configuration(file: &Path, text: &str) -> Result<(), CliError> {
    let folder = file
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    if let Some(folder) = folder {
        let mut builder = DirBuilder::new();
        let made = builder.recursive(true).mode(0o700).create(folder);
        made.map_err(|error| failed("make", folder, &error))?;
    }
    let opened = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file);
    let mut opened = opened.map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => CliError::new(
            Failure::Usage,
            format!("{} exists already", file.display()),
            Some("edit it, or name another directory".into()),
        ),
        _ => failed("write", file, &error),
    })?;
    let written = opened
        .write_all(text.as_bytes())
        .and_then(|()| opened.sync_all());
    written.map_err(|error| failed("write", file, &error))
}

fn failed(verb: &str, path: &Path, error: &std::io::Error) -> CliError {
    let hint = (error.kind() == ErrorKind::PermissionDenied)
        .then(|| "choose a directory that you may write to".to_owned());
    CliError::new(
        Failure::Failed,
        format!("cannot {verb} {}: {error}", path.display()),
        hint,
    )
}

fn print_next_steps(directory: &Path, arguments: &InitArguments) {
    let directory = shell_word(directory);
    out!("\nNext:");
    out!(
        "  pgmd -D {directory}                      # streams WAL; run it under your service manager"
    );
    if let Some((server, _)) = arguments.servers.first() {
        out!("  pgm-cli -D {directory} backup {server}");
        out!("  pgm-cli -D {directory} restore {server} newest NEW_DATA_DIRECTORY");
    }
}

fn shell_word(path: &Path) -> String {
    let text = PathBuf::from(path).display().to_string();
    let plain = text
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"/._-".contains(&byte));
    if plain {
        text
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}
