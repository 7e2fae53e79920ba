//! One line of the audit log.

use std::collections::BTreeMap;
use std::time::Duration;

use pgm_mgmt::{Error, ErrorCode, JobId, Role};
use pgm_proto::ServerName;
use serde::Serialize;

/// How long a text in a record may be; what is longer was made up by somebody.
const TEXT_BYTES_MAX: usize = 1024;

/// Who did what, and how it came out. Fields without a value are left out.
#[derive(Debug, Clone, Serialize)]
pub struct Record {
    at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<Role>,
    from: String,
    action: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    server: Option<ServerName>,
    #[serde(skip_serializing_if = "Option::is_none")]
    job: Option<JobId>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    facts: BTreeMap<&'static str, String>,
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    duration_ms: Option<u64>,
}

/// How an action came out.
#[derive(Debug, Clone)]
pub enum Outcome<'a> {
    /// It is done.
    Ok,
    /// A job was begun that will have a record of its own.
    Started,
    /// It was refused, or failed.
    Failed(&'a Error),
    /// Somebody could not show who they are.
    Denied {
        /// Why, for the administrator.
        reason: &'a str,
    },
}

impl Record {
    /// `action`, done from `from`: an address, `local, process 42`, `SIGHUP`, `command line`.
    pub fn new(action: impl Into<String>, from: impl Into<String>) -> Self {
        Self {
            at: String::new(),
            user: None,
            role: None,
            from: bounded(from),
            action: bounded(action),
            server: None,
            job: None,
            facts: BTreeMap::new(),
            outcome: "ok",
            error: None,
            duration_ms: None,
        }
    }

    /// By whom.
    #[must_use]
    pub fn by(mut self, user: impl Into<String>, role: Option<Role>) -> Self {
        self.user = Some(bounded(user));
        self.role = role;
        self
    }

    /// For which server.
    #[must_use]
    pub fn server(mut self, server: Option<&ServerName>) -> Self {
        self.server = server.cloned();
        self
    }

    /// In which job.
    #[must_use]
    pub fn job(mut self, job: JobId) -> Self {
        self.job = Some(job);
        self
    }

    /// What else is worth knowing; never a secret.
    #[must_use]
    pub fn fact(mut self, name: &'static str, value: impl std::fmt::Display) -> Self {
        self.facts.insert(name, bounded(format!("{value}")));
        self
    }

    /// How it came out, just now.
    #[must_use]
    pub fn outcome(mut self, outcome: &Outcome<'_>) -> Self {
        self.at = format!("{:.3}", jiff::Timestamp::now());
        (self.outcome, self.error) = match outcome {
            Outcome::Ok => ("ok", None),
            Outcome::Started => ("started", None),
            Outcome::Failed(error) => (error.code.name(), Some(bounded(error.text.clone()))),
            Outcome::Denied { reason } => (ErrorCode::NotAllowed.name(), Some(bounded(*reason))),
        };
        self
    }

    /// How long it took.
    #[must_use]
    pub fn took(mut self, duration: Duration) -> Self {
        self.duration_ms = u64::try_from(duration.as_millis()).ok();
        self
    }

    /// The line, with its end. JSON escapes whatever could end a line early.
    pub(super) fn to_line(&self) -> String {
        let mut line = serde_json::to_string(self).unwrap_or_else(|error| {
            // No map has keys that are no text, so this cannot be; a line that says so is better than none.
            serde_json::json!({ "at": self.at, "action": self.action, "error": error.to_string() })
                .to_string()
        });
        line.push('\n');
        line
    }
}

fn bounded(text: impl Into<String>) -> String {
    let mut text = text.into();
    if text.len() > TEXT_BYTES_MAX {
        text.truncate(text.floor_char_boundary(TEXT_BYTES_MAX));
        text.push('…');
    }
    text
}
