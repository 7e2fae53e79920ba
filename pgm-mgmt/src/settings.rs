//! Answers about the configuration: its settings, their values, and what changed.

use serde::{Deserialize, Serialize};

/// The answer to [`crate::Request::Settings`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettingList {
    /// The configuration file.
    pub file: String,
    /// In the order of the reference page.
    pub settings: Vec<SettingValue>,
}

/// One setting, with the value that is in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettingValue {
    /// Its full name: `jobs_max`, `management.port`, `servers.prod.slot`.
    pub key: String,
    /// The value in its canonical form: `10s`, `zstd:3`, an absolute path; passwords are `***`. None when it has none.
    pub value: Option<String>,
    /// What holds when the file does not say; none when that is no value, or the file has to say.
    pub default: Option<String>,
    /// Where the value comes from.
    pub source: SettingSource,
    /// The line in the file, from 1.
    pub line: Option<u64>,
    /// The value that is in the file and waits for a restart.
    pub pending: Option<String>,
    /// When a change takes effect.
    pub reload: SettingReload,
    /// What its values are: `duration`, `size`, `path`, `switch`, …
    pub kind: String,
    /// What a plain number counts.
    pub unit: Option<String>,
    /// All of its values, where they can be counted.
    pub choices: Vec<String>,
    /// The smallest and the largest value, where there are any.
    pub limits: Option<(String, String)>,
    /// What it is for.
    pub help: String,
}

/// Where a value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SettingSource {
    /// The configuration file.
    File,
    /// The file does not say.
    Default,
}

/// When a changed setting takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SettingReload {
    /// At a reload, at once.
    Live,
    /// At a reload, with new receive workers.
    NewWorkers,
    /// When the daemon starts the next time.
    Restart,
}

/// The answer to [`crate::Request::SetSetting`]: the file has the value now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettingSet {
    /// The setting's full name.
    pub key: String,
    /// The configuration file.
    pub file: String,
    /// What the reload after that has changed: this setting, and whatever else was changed in the file before.
    pub reloaded: Reloaded,
}

/// The configuration was read again.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Reloaded {
    /// What changed and is in force now, one line each.
    pub applied: Vec<String>,
    /// What changed and waits for a restart, one line each.
    pub restart_required: Vec<String>,
    /// The settings among them.
    #[serde(default)]
    pub changes: Vec<SettingChange>,
}

/// A setting that has another value now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettingChange {
    /// Its full name.
    pub key: String,
    /// The value before; none when it had none.
    pub from: Option<String>,
    /// The value in the file now; none when it has none.
    pub to: Option<String>,
    /// What became of it.
    pub effect: SettingEffect,
}

/// What became of a changed setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SettingEffect {
    /// It is in force.
    Applied,
    /// The value before is in force until the daemon starts again.
    RestartRequired,
}
