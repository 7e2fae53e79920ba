//! One setting of a configuration with its value: what `conf ls` lists, and what a reload compares.

use pgm_proto::Secret;

use super::member::Member;
use super::registry::{ReloadClass, Setting};

/// A setting of a configuration that was read.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its full name: `servers.prod.slot`.
    pub key: String,
    /// Its declaration.
    pub setting: &'static Setting,
    /// The server or further repository it belongs to, when it belongs to one.
    pub member: Option<Member>,
    /// Its value for everybody to see; none when it has none.
    pub value: Option<String>,
    /// The line of the file that says so, from 1; none for a default.
    pub line: Option<usize>,
    /// What stands in the file and waits for a restart.
    pub pending: Option<Box<Self>>,
    /// Its canonical text, from which it can be read again.
    pub(super) text: Secret,
}

impl Entry {
    /// The value, or `none`.
    pub fn shown(&self) -> &str {
        self.value.as_deref().unwrap_or("none")
    }

    /// Whether a change waits for the next start.
    pub(super) fn needs_restart(&self) -> bool {
        self.setting.reload == ReloadClass::Restart
    }

    /// Whether both have the same value.
    pub(crate) fn same_value(&self, other: &Self) -> bool {
        self.text == other.text
    }
}
