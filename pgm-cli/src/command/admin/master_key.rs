//! `pgm-cli admin master-key`: makes the key that seals passwords and files. An old key is never touched.

use std::path::Path;
use std::process::ExitCode;

use pgm_storage::seal::MasterKey;
use pgmd::config::MasterKeySource;
use pgmd::secrets::{Argon2Salt, check_password, create_master_key, from_passphrase, master_key};
use serde::Serialize;

use super::super::{Cx, absolute};
use super::password::ask_twice;
use super::{note, record};
use crate::arguments::Format;
use crate::arguments::admin::MasterKeyArguments;
use crate::error::{CliError, Failure};
use crate::output::print_json;
use crate::output::stdout::out;

/// What is told of a key; never the key.
#[derive(Debug, Serialize)]
struct Report<'a> {
    id: String,
    file: Option<&'a Path>,
    salt: Option<String>,
}

pub(super) fn run(cx: &Cx, arguments: &MasterKeyArguments) -> Result<ExitCode, CliError> {
    let (source, config) = if let Some(file) = &arguments.output {
        (MasterKeySource::File(absolute(file)?), cx.config().ok())
    } else {
        let config = cx.config()?;
        (config.master_key.clone(), Some(config))
    };
    if arguments.id {
        let id = master_key(&source)?.id();
        print(
            cx,
            &Report {
                id: id.to_string(),
                file: None,
                salt: None,
            },
        );
        return Ok(ExitCode::SUCCESS);
    }
    let file = match &source {
        MasterKeySource::File(file) => file,
        MasterKeySource::Command(_) | MasterKeySource::Environment(_) => {
            let text = "the setting master_key names no file: there is nothing to write";
            let hint =
                "put the key where that setting takes it from; `openssl rand -hex 32` prints one";
            return Err(CliError::new(Failure::Usage, text, Some(hint.into())));
        }
    };
    let (key, salt) = if arguments.passphrase {
        let salt = arguments.salt.map_or_else(Argon2Salt::random, Ok)?;
        let passphrase = check_password(ask_twice("passphrase")?)?;
        (from_passphrase(&passphrase, salt)?, Some(salt.to_string()))
    } else {
        (
            MasterKey::generate().map_err(pgmd::secrets::SecretsError::Seal)?,
            None,
        )
    };
    create_master_key(file, &key)?;
    if let Some(config) = &config {
        note(config, record("admin master-key").fact("id", key.id()));
    }
    print(
        cx,
        &Report {
            id: key.id().to_string(),
            file: Some(file),
            salt,
        },
    );
    Ok(ExitCode::SUCCESS)
}

fn print(cx: &Cx, report: &Report<'_>) {
    if cx.format == Format::Json {
        return print_json(report);
    }
    let Some(file) = report.file else {
        return out!("{}", report.id);
    };
    out!("the master key {} is in {}", report.id, file.display());
    match &report.salt {
        Some(salt) => out!("keep the salt with the passphrase: {salt}"),
        None => out!("keep a copy elsewhere: what is sealed cannot be opened without it"),
    }
}
