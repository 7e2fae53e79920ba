//! One requirement, judged.

use serde::Serialize;

/// How a requirement stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Outcome {
    /// Met.
    Ok,
    /// Works, with a catch.
    Warning,
    /// Must be mended.
    Failure,
}

/// One requirement, judged.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Finding {
    /// What is required: usually the name of a setting.
    pub(crate) requirement: &'static str,
    /// How it stands.
    #[serde(rename = "result")]
    pub(crate) outcome: Outcome,
    /// What was found.
    pub(crate) detail: String,
    /// The SQL or shell command that mends it.
    pub(crate) fix: Option<String>,
}

impl Finding {
    pub(crate) fn ok(requirement: &'static str, detail: String) -> Self {
        Self {
            requirement,
            outcome: Outcome::Ok,
            detail,
            fix: None,
        }
    }

    pub(crate) fn warning(requirement: &'static str, detail: String, fix: Option<String>) -> Self {
        Self {
            requirement,
            outcome: Outcome::Warning,
            detail,
            fix,
        }
    }

    pub(crate) fn failure(requirement: &'static str, detail: String, fix: String) -> Self {
        Self {
            requirement,
            outcome: Outcome::Failure,
            detail,
            fix: Some(fix),
        }
    }
}
