//! `pgm-cli conf`: the settings, also when pgmd is not running.

use std::process::ExitCode;

use pgm_mgmt::{
    ClientError, Error, Reloaded, Request, Response, SettingEffect, SettingList, SettingReload,
    SettingSet, SettingSource, SettingValue,
};
use pgmd::config::Key;
use pgmd::service::configuration;

use super::{Cx, config_import, daemon};
use crate::arguments::{ConfCommand, ConfLsArguments, ConfSetArguments, Format};
use crate::error::CliError;
use crate::output::stdout::{out, out_text};
use crate::output::{Table, print_json};

pub(super) fn run(cx: &Cx, command: ConfCommand) -> Result<ExitCode, CliError> {
    match command {
        ConfCommand::Ls(arguments) => list(cx, arguments),
        ConfCommand::Get(arguments) => get(cx, arguments.key),
        ConfCommand::Set(arguments) => set(cx, arguments),
        ConfCommand::Reload => reload(cx),
        ConfCommand::Import(arguments) => config_import::run(cx, &arguments),
    }
}

fn list(cx: &Cx, arguments: ConfLsArguments) -> Result<ExitCode, CliError> {
    let list = settings(cx, arguments.key)?;
    match (cx.format, arguments.long) {
        (Format::Json, _) => print_json(&list),
        (Format::Text, true) => list.settings.iter().for_each(print_description),
        (Format::Text, false) => print_table(&list),
    }
    Ok(ExitCode::SUCCESS)
}

fn get(cx: &Cx, key: Option<String>) -> Result<ExitCode, CliError> {
    let list = settings(cx, key.clone())?;
    match (cx.format, list.settings.as_slice()) {
        (Format::Json, _) => print_json(&list),
        (Format::Text, [only]) if key.is_some_and(|key| Key::new(&key).as_str() == only.key) => {
            out!("{}", only.value.as_deref().unwrap_or(""));
        }
        (Format::Text, several) => {
            for setting in several {
                let value = setting.value.as_deref().unwrap_or("");
                out!("{}={}", setting.key, shell_word(value));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Asks the daemon, or reads the file when there is none.
fn settings(cx: &Cx, key: Option<String>) -> Result<SettingList, CliError> {
    if !daemon::is_running(cx)? {
        return configuration::list(&cx.config()?, key.as_deref()).map_err(refused);
    }
    match daemon::call(cx, &Request::Settings { key })? {
        Response::Settings(list) => Ok(list),
        other => Err(daemon::unexpected(&other)),
    }
}

fn set(cx: &Cx, arguments: ConfSetArguments) -> Result<ExitCode, CliError> {
    let (key, value) = (arguments.key, arguments.value);
    if !daemon::is_running(cx)? {
        return set_in_file(cx, &Key::new(&key), value.as_deref());
    }
    let set = match daemon::call(cx, &Request::SetSetting { key, value })? {
        Response::SettingSet(set) => set,
        other => return Err(daemon::unexpected(&other)),
    };
    match cx.format {
        Format::Json => print_json(&set),
        Format::Text => print_reloaded(&set.reloaded),
    }
    Ok(ExitCode::SUCCESS)
}

fn set_in_file(cx: &Cx, key: &Key, value: Option<&str>) -> Result<ExitCode, CliError> {
    let config = cx.config()?;
    config
        .change_file(key, value)
        .map_err(|error| refused(configuration::failure(&error)))?;
    let set = SettingSet {
        key: key.as_str().to_owned(),
        file: config.file.display().to_string(),
        reloaded: Reloaded::default(),
    };
    match cx.format {
        Format::Json => print_json(&set),
        Format::Text => out!("{} is set in {}; pgmd is not running", set.key, set.file),
    }
    Ok(ExitCode::SUCCESS)
}

fn reload(cx: &Cx) -> Result<ExitCode, CliError> {
    match daemon::call(cx, &Request::Reload)? {
        Response::Reloaded(reloaded) => {
            match cx.format {
                Format::Json => print_json(&reloaded),
                Format::Text => print_reloaded(&reloaded),
            }
            Ok(ExitCode::SUCCESS)
        }
        other => Err(daemon::unexpected(&other)),
    }
}

fn refused(error: Error) -> CliError {
    ClientError::Refused(error).into()
}

fn print_reloaded(reloaded: &Reloaded) {
    for line in &reloaded.applied {
        out!("applied: {line}");
    }
    for line in &reloaded.restart_required {
        out!("restart required: {line}");
    }
    if reloaded.applied.is_empty() && reloaded.restart_required.is_empty() {
        out!("nothing has changed");
    }
    let waits = |effect| effect == SettingEffect::RestartRequired;
    if reloaded.changes.iter().any(|change| waits(change.effect)) {
        out!("until pgmd starts again, the values before the arrows are in force");
    }
}

fn print_table(list: &SettingList) {
    let mut table = Table::new([
        "SETTING",
        "VALUE",
        "DEFAULT",
        "SOURCE",
        "A CHANGE TAKES EFFECT",
    ]);
    for setting in &list.settings {
        let value = setting.value.as_deref().unwrap_or("-");
        table.row([
            setting.key.clone(),
            match &setting.pending {
                Some(pending) => format!("{value} (after a restart: {pending})"),
                None => value.to_owned(),
            },
            setting.default.clone().unwrap_or_else(|| "-".to_owned()),
            source(setting),
            when(setting.reload).to_owned(),
        ]);
    }
    out_text!("{table}");
}

fn print_description(setting: &SettingValue) {
    out!(
        "{} = {}",
        setting.key,
        setting.value.as_deref().unwrap_or("-")
    );
    out!("    {}", setting.help);
    let mut facts = vec![setting.kind.clone()];
    if !setting.choices.is_empty() {
        facts.push(setting.choices.join(" | "));
    }
    if let Some(unit) = &setting.unit {
        facts.push(format!("a plain number counts {unit}"));
    }
    if let Some((low, high)) = &setting.limits {
        facts.push(format!("{low} to {high}"));
    }
    if let Some(default) = &setting.default {
        facts.push(format!("by default {default}"));
    }
    out!("    {}", facts.join("; "));
    out!(
        "    from: {}; a change takes effect {}",
        source(setting),
        when(setting.reload)
    );
    if let Some(pending) = &setting.pending {
        out!("    after a restart: {pending}");
    }
}

fn source(setting: &SettingValue) -> String {
    match (setting.source, setting.line) {
        (SettingSource::Default, _) => "default".to_owned(),
        (SettingSource::File, Some(line)) => format!("line {line}"),
        (SettingSource::File, None) => "file".to_owned(),
    }
}

fn when(reload: SettingReload) -> &'static str {
    match reload {
        SettingReload::Live => "at a reload",
        SettingReload::NewWorkers => "at a reload, with new workers",
        SettingReload::Restart => "at a restart",
    }
}

/// A word that the shell takes as it is.
fn shell_word(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-:@%+,=".contains(&byte);
    if text.bytes().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}
