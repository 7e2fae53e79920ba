//! What can be wrong with a connection string. The string itself is never shown: it may hold a password.

/// The text is not a connection string.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConnInfoError {
    /// The form is broken.
    #[error("connection string, character {position}: {problem}")]
    Syntax {
        /// Where, counted in characters from 1.
        position: usize,
        /// What is wrong there.
        problem: &'static str,
    },
    /// The URL is broken.
    #[error("connection URL: {problem}")]
    Url {
        /// What is wrong.
        problem: &'static str,
    },
    /// There is no such setting.
    #[error("connection string: there is no setting `{key}`{}", similar(*.nearest))]
    UnknownKey {
        /// The name as written.
        key: String,
        /// The name that was probably meant.
        nearest: Option<&'static str>,
    },
    /// libpq has this setting, pgm has not.
    #[error("connection string: setting `{key}` is not supported")]
    UnsupportedKey {
        /// The name.
        key: &'static str,
    },
    /// The value of a setting is wrong.
    #[error("connection string: `{value}` is no value for {key}, expected {expected}")]
    Value {
        /// The setting.
        key: &'static str,
        /// The value as written.
        value: String,
        /// What would do.
        expected: String,
    },
    /// A setting that cannot be done without is not given.
    #[error("connection string: {key} is missing")]
    Missing {
        /// The setting.
        key: &'static str,
    },
    /// Lists that belong together have different lengths.
    #[error("connection string: {count} {key} values for {hosts} hosts")]
    ListLength {
        /// The setting.
        key: &'static str,
        /// How many values it has.
        count: usize,
        /// How many hosts there are.
        hosts: usize,
    },
    /// Two settings contradict each other.
    #[error("connection string: {0}")]
    Conflict(&'static str),
}

fn similar(nearest: Option<&'static str>) -> String {
    nearest
        .map(|name| format!("; did you mean `{name}`?"))
        .unwrap_or_default()
}
