//! Answers about the configuration, and its changes.

use std::sync::Arc;

use pgm_mgmt::{
    Error, ErrorCode, Reloaded, Response, SettingList, SettingReload, SettingSet, SettingSource,
    SettingValue,
};
use tracing::info;

use super::answer::blocking;
use super::caller::{Caller, Origin};
use crate::config::{Config, ConfigError, DefaultValue, Entry, Key, ReloadClass};
use crate::supervisor::Daemon;

/// The settings of a configuration that `key` names: one, a section, or all.
pub fn list(config: &Config, key: Option<&str>) -> Result<SettingList, Error> {
    let entries = config.entries_of(key).map_err(|error| failure(&error))?;
    Ok(SettingList {
        file: config.file.display().to_string(),
        settings: entries.into_iter().map(value).collect(),
    })
}

/// The configuration file, read again.
pub(super) async fn reload(daemon: &Arc<Daemon>, caller: &Caller) -> Result<Reloaded, Error> {
    info!("{caller} asks for a reload");
    daemon.reload().await.map_err(|error| error.to_answer())
}

/// Sets `key` in the file and reads it again.
pub(super) async fn set(
    daemon: &Arc<Daemon>,
    caller: &Caller,
    key: &str,
    value: Option<String>,
) -> Result<Response, Error> {
    let key = Key::new(key);
    let setting = key.setting().map_err(|error| failure(&error))?;
    let remote = matches!(caller.origin, Origin::Remote { .. });
    if remote && setting.kind.runs_commands() {
        let text = format!(
            "`{}` can name a command, so it is set only on pgmd's own host",
            key.as_str()
        );
        let error = Error::new(ErrorCode::NotAllowed, text);
        return Err(error.with_hint("run pgm-cli there, as the user that pgmd runs as"));
    }
    let config = daemon.config();
    let written = key.clone();
    let before = blocking(move || {
        let changed = config.change_file(&written, value.as_deref());
        changed.map_err(|error| failure(&error))
    })
    .await?;
    let reloaded = match daemon.reload().await {
        Ok(reloaded) => reloaded,
        Err(error) => {
            // Such as a vault that another master key does not open.
            blocking(move || before.restore().map_err(|error| failure(&error))).await?;
            return Err(error.to_answer());
        }
    };
    info!("{caller} has set {} in the configuration", key.as_str());
    Ok(Response::SettingSet(SettingSet {
        key: key.as_str().to_owned(),
        file: daemon.config().file.display().to_string(),
        reloaded,
    }))
}

/// A configuration's error as an answer.
pub fn failure(error: &ConfigError) -> Error {
    let code = match error {
        ConfigError::UnknownServer { .. } => ErrorCode::UnknownServer,
        ConfigError::UnknownSetting { .. } => ErrorCode::UnknownSetting,
        ConfigError::Value { .. } => ErrorCode::BadValue,
        _ => ErrorCode::Configuration,
    };
    Error {
        code,
        text: error.to_string(),
        hint: error.hint(),
    }
}

fn value(entry: &Entry) -> SettingValue {
    let setting = entry.setting;
    SettingValue {
        key: entry.key.clone(),
        value: entry.value.clone(),
        default: match setting.default {
            DefaultValue::Is(text) => Some(text.to_owned()),
            DefaultValue::Unset(_) | DefaultValue::Required => None,
        },
        source: entry
            .line
            .map_or(SettingSource::Default, |_| SettingSource::File),
        line: entry.line.map(|line| line as u64),
        pending: entry
            .pending
            .as_ref()
            .map(|pending| pending.shown().to_owned()),
        reload: match setting.reload {
            ReloadClass::Live => SettingReload::Live,
            ReloadClass::NewWorkers => SettingReload::NewWorkers,
            ReloadClass::Restart => SettingReload::Restart,
        },
        kind: setting.kind.name.to_owned(),
        unit: setting.kind.unit.map(str::to_owned),
        choices: setting
            .kind
            .choices
            .iter()
            .map(ToString::to_string)
            .collect(),
        limits: setting
            .limits
            .map(|(low, high)| (low.to_owned(), high.to_owned())),
        help: setting.help.to_owned(),
    }
}
