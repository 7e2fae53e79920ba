//! What became of each key.

use serde::Serialize;

/// What became of one key of pgmoneta's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    /// Its section; `users` for the users' file.
    pub(crate) section: String,
    /// Its name; the user's in the users' file; empty for a line that cannot be read.
    pub(crate) key: String,
    /// Its value; none for secrets.
    pub(crate) value: Option<String>,
    /// Where it stands, from 1; none for what is missing.
    pub(crate) line: Option<usize>,
    /// What became of it.
    pub(crate) outcome: Outcome,
    /// The settings that it became: `jobs_max = 2`.
    pub(crate) becomes: Vec<String>,
    /// Why, or what to mind.
    pub(crate) note: Option<String>,
}

/// What became of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    /// A setting of ours says the same.
    Converted,
    /// Nothing has to be said.
    NotNeeded,
    /// pgm has nothing that corresponds.
    NoCounterpart,
    /// A password that has to be entered again.
    EnterAgain,
    /// The value cannot be used; the note says why.
    Unusable,
    /// pgmoneta has no such key.
    Unknown,
}

impl Outcome {
    /// All of them, in the order in which people read them, with a heading.
    pub(crate) const ALL: [(Self, &'static str); 6] = [
        (Self::Converted, "Converted"),
        (Self::Unusable, "Left out, because the value cannot be used"),
        (Self::Unknown, "Left out, because pgmoneta has no such key"),
        (
            Self::NoCounterpart,
            "Left out, because pgm has no counterpart",
        ),
        (Self::EnterAgain, "Passwords to enter again"),
        (Self::NotNeeded, "Not needed"),
    ];
}
