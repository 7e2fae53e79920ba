//! One setting of a configuration with its value: what `conf ls` lists, and what a reload compares.

use pgm_proto::{Secret, ServerName};

use super::registry::{ReloadClass, Setting};

/// A setting of a configuration that was read.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its full name: `servers.prod.slot`.
    pub key: String,
    /// Its declaration.
    pub setting: &'static Setting,
    /// The server it belongs to, when it belongs to one.
    pub server: Option<ServerName>,
    /// Its value for everybody to see.
    pub shown: String,
    /// Where the value comes from.
    pub origin: Origin,
    /// The value that stands in the file and waits for a restart.
    pub pending: Option<String>,
    /// Its canonical text, from which it can be read again.
    pub(super) text: Secret,
}

/// Where a value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The file says so, at this line.
    File {
        /// The line, from 1.
        line: usize,
    },
    /// It is the default.
    Default,
}

impl Entry {
    /// Whether a change waits for the next start.
    pub(super) fn needs_restart(&self) -> bool {
        self.setting.reload == ReloadClass::Restart
    }

    /// Whether both have the same value.
    pub(crate) fn same_value(&self, other: &Self) -> bool {
        self.text == other.text
    }
}
