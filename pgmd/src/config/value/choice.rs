//! Values of which there are only a few.

use serde::{Deserialize, Serialize};

use super::{Form, Kind, Literal, Surroundings, Value, Wrong, nearest_hint};

/// Declares an enum whose variants have names in the configuration.
macro_rules! choice {
    (
        $(#[$attribute:meta])*
        pub enum $choice:ident ($what:literal) { $($(#[$variant_attribute:meta])* $variant:ident = $name:literal,)+ }
    ) => {
        $(#[$attribute])*
        pub enum $choice { $($(#[$variant_attribute])* $variant,)+ }

        impl $choice {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The name in the configuration.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }
        }

        impl Value for $choice {
            const KIND: Kind = Kind {
                choices: &[$($name),+],
                ..Kind::new($what, Form::Either)
            };

            fn read(written: &Literal, _cx: &Surroundings<'_>) -> Result<Self, Wrong> {
                let text = match written {
                    Literal::Text(text) | Literal::Word(text) => text.as_str(),
                    Literal::List(_) => return Err(Wrong::is("one of several words, not a list")),
                };
                Self::ALL.iter().copied().find(|choice| choice.name() == text).ok_or_else(|| Wrong {
                    text: format!(" cannot be {text:?}"),
                    hint: Some(nearest_hint(text, Self::KIND.choices)),
                })
            }

            fn text(&self) -> String {
                self.name().to_owned()
            }
        }
    };
}

choice! {
    /// How a server's data is read.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub enum BackupSource ("source") {
        /// The first of the others that is possible.
        #[default]
        Auto = "auto",
        /// Its files are read where they are.
        Local = "local",
        /// It reads its files for ordinary sessions.
        Blocks = "blocks",
        /// It sends changed pages only.
        Native = "native",
        /// It sends everything.
        Stream = "stream",
    }
}

choice! {
    /// How jobs share disk and processor with everything else on the host.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
    #[serde(rename_all = "lowercase")]
    pub enum JobPriority ("priority") {
        /// As everybody.
        #[default]
        Normal = "normal",
        /// Behind others, as `nice -n 10 ionice -c 2 -n 7`.
        Low = "low",
        /// Only what nobody else wants, as `nice -n 19 ionice -c 3`.
        Idle = "idle",
    }
}

choice! {
    /// How much is logged.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
    #[serde(rename_all = "lowercase")]
    pub enum LogLevel ("level") {
        /// Only what failed.
        Error = "error",
        /// And what needs attention.
        Warn = "warn",
        /// And what happens.
        #[default]
        Info = "info",
        /// And how.
        Debug = "debug",
        /// Everything.
        Trace = "trace",
    }
}

choice! {
    /// Where the log goes.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
    #[serde(rename_all = "lowercase")]
    pub enum LogType ("choice") {
        /// The standard error.
        #[default]
        Console = "console",
        /// A file.
        File = "file",
        /// The system's log, through its socket.
        Syslog = "syslog",
        /// systemd's journal, with fields.
        Journald = "journald",
    }
}

choice! {
    /// What happens to a log file that exists already.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
    #[serde(rename_all = "lowercase")]
    pub enum LogMode ("choice") {
        /// It is continued.
        #[default]
        Append = "append",
        /// It is emptied.
        Truncate = "truncate",
    }
}

choice! {
    /// How far scheduled verifications go.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
    #[serde(rename_all = "lowercase")]
    pub enum VerifyDepth ("level") {
        /// Catalog entry, manifests and packs agree.
        Catalog = "catalog",
        /// Every frame is read.
        Frames = "frames",
        /// And the WAL.
        #[default]
        Wal = "wal",
        /// And a server is started on the restored backup.
        Restore = "restore",
    }
}

choice! {
    /// Whether pgmd works for a server.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
    #[serde(rename_all = "lowercase")]
    pub enum ServerMode ("choice") {
        /// WAL is received, and backups can be taken.
        #[default]
        Online = "online",
        /// The server is left alone.
        Offline = "offline",
    }
}
