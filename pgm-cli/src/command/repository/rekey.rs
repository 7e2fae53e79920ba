//! `pgm-cli repository rekey`: the keys of a sealed repository, changed in the repository itself, with and without pgmd.

use std::process::ExitCode;

use pgm_backup::repository::{DataKeyChoice, Rekey, Rekeyed};
use pgmd::place::RepositoryPlace;
use pgmd::repository;
use pgmd::seal_key::PlaceKey;
use pgmd::secrets::master_key;
use serde_json::json;

use crate::arguments::{Format, RekeyArguments};
use crate::command::admin::{note, record};
use crate::command::{Cx, offline};
use crate::error::{CliError, Failure};
use crate::output::print_json;
use crate::output::stdout::out;

pub(super) fn run(cx: &Cx, arguments: &RekeyArguments) -> Result<ExitCode, CliError> {
    let at = cx.at()?;
    let place = at.place()?;
    let failed = |error: &pgm_backup::Error| offline::refused(repository::failure(error));
    let key = current(place)?;
    let opened = repository::open(place).map_err(|error| failed(&error))?;
    let new = arguments.new_master_key.as_ref().map(master_key);
    let new = new.transpose()?;
    let change = Rekey {
        new_master_key: new.as_ref(),
        data_key: if arguments.new_data_key {
            DataKeyChoice::New
        } else {
            DataKeyChoice::Keep
        },
    };
    let rekeyed = opened
        .rekey(&key.key()?, change)
        .map_err(|error| failed(&error))?;
    if let Some(config) = &at.config {
        let done = record("repository rekey").fact("master_key", rekeyed.master_key);
        note(config, done.fact("repository", place));
    }
    for left in &rekeyed.left {
        eprintln!(
            "the old keys could not be removed: {left}; run `repository rekey` again, else who has the old master key can still open them"
        );
    }
    if cx.format == Format::Json {
        print_json(&document(&rekeyed));
    } else {
        print(place, &rekeyed);
        if arguments.new_master_key.is_some() {
            out!(
                "put the new master key where the configuration says (seal); until then nothing is archived and no backup is taken"
            );
        }
    }
    Ok(if rekeyed.left.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The key in force.
fn current(place: &RepositoryPlace) -> Result<&PlaceKey, CliError> {
    place.key.as_ref().ok_or_else(|| {
        CliError::new(
            Failure::Usage,
            "keys are changed of a sealed repository, and no master key was named",
            Some("name the master key in force: --master-key, or the setting seal".to_owned()),
        )
    })
}

fn print(place: &RepositoryPlace, rekeyed: &Rekeyed) {
    out!(
        "{place} takes the master key {} from now on",
        rekeyed.master_key
    );
    let keys: Vec<String> = rekeyed.data_keys.iter().map(ToString::to_string).collect();
    out!(
        "data keys, the one for new objects last: {}",
        keys.join(", ")
    );
}

fn document(rekeyed: &Rekeyed) -> serde_json::Value {
    let keys: Vec<String> = rekeyed.data_keys.iter().map(ToString::to_string).collect();
    json!({
        "master_key": rekeyed.master_key.to_string(),
        "data_keys": keys,
        "left": rekeyed.left,
    })
}
