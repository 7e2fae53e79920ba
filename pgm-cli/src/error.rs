//! How a command fails: a text, the next step, and an exit status.

use std::fmt::Display;
use std::process::ExitCode;

pub(crate) use pgmd::repository::chain;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub(crate) struct CliError {
    failure: Failure,
    text: String,
    hint: Option<String>,
}

/// The kinds of failure that the exit status tells apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The work was tried and failed.
    Failed,
    /// The command line or the configuration is wrong.
    Usage,
    /// pgmd does not answer.
    Unreachable,
    /// There is no such server, backup or file.
    NotFound,
    /// PostgreSQL must stop recovery: above 125, since it takes less for «end of the archive».
    StopRecovery,
}

impl Failure {
    fn exit_status(self) -> u8 {
        match self {
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Unreachable => 3,
            Self::NotFound => 4,
            Self::StopRecovery => 128,
        }
    }
}

impl CliError {
    /// A failure with its text and the next step.
    pub(crate) fn new(failure: Failure, text: impl Display, hint: Option<String>) -> Self {
        Self {
            failure,
            text: text.to_string(),
            hint,
        }
    }

    /// The same error, ending with another exit status.
    pub(crate) fn with_failure(self, failure: Failure) -> Self {
        Self { failure, ..self }
    }

    /// What to do next.
    pub(crate) fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// What the shell sees.
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.failure.exit_status())
    }
}

impl From<pgmd::config::ConfigError> for CliError {
    fn from(error: pgmd::config::ConfigError) -> Self {
        let hint = error.hint();
        Self::new(Failure::Usage, chain(&error), hint)
    }
}
