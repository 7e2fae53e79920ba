//! What is wrong with a configuration, where exactly, and what to do.

use std::io;
use std::path::PathBuf;

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration {}: {source}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Something in it is wrong.
    #[error("{}:{line}:{column}: {text}", file.display())]
    At {
        /// The file.
        file: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The column in characters, from 1.
        column: usize,
        /// What is wrong and what was expected.
        text: String,
        /// What to do.
        hint: Option<String>,
    },
    /// It holds a password, and others can read it.
    #[error("{} holds a password and can be read by others (mode {mode:04o})", file.display())]
    Exposed {
        /// The file.
        file: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A server is asked for that is not in it.
    #[error("there is no server `{server}` in {}", file.display())]
    UnknownServer {
        /// The file.
        file: PathBuf,
        /// The name that was asked for.
        server: String,
        /// The names that are there.
        known: Vec<String>,
    },
    /// A repository is asked for that is not in it.
    #[error("there is no repository `{repository}` in {}", file.display())]
    UnknownRepository {
        /// The file.
        file: PathBuf,
        /// The name that was asked for.
        repository: String,
        /// The names that are there.
        known: Vec<String>,
    },
    /// A standby is asked for that is not in it.
    #[error("there is no standby `{standby}` in {}", file.display())]
    UnknownStandby {
        /// The file.
        file: PathBuf,
        /// The name that was asked for.
        standby: String,
        /// The names that are there.
        known: Vec<String>,
    },
    /// A setting is asked for that does not exist.
    #[error("there is no setting `{key}`")]
    UnknownSetting {
        /// The name that was asked for.
        key: String,
        /// What was probably meant.
        hint: String,
    },
    /// A setting cannot have that value.
    #[error("{text}")]
    Value {
        /// What is wrong and what was expected.
        text: String,
        /// What to do.
        hint: Option<String>,
    },
    /// The file cannot be written.
    #[error("cannot write the configuration {}: {source}", file.display())]
    Write {
        /// The file.
        file: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The change would reach further than it should, given how the file is written.
    #[error("`{key}` cannot be changed in {} without touching something else", file.display())]
    NotInPlace {
        /// The file.
        file: PathBuf,
        /// The setting.
        key: String,
    },
}

impl ConfigError {
    /// What to do next.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Read { file, source } if source.kind() == io::ErrorKind::NotFound => {
                let folder = file
                    .parent()
                    .filter(|folder| !folder.as_os_str().is_empty());
                let folder =
                    folder.map_or_else(|| ".".to_owned(), |folder| folder.display().to_string());
                Some(format!(
                    "make one: pgm-cli init {folder} --server NAME=CONNINFO"
                ))
            }
            Self::Read { .. } => Some("pgmd's user must be able to read it".to_owned()),
            Self::At { hint, .. } | Self::Value { hint, .. } => hint.clone(),
            Self::UnknownSetting { hint, .. } => Some(hint.clone()),
            Self::Write { file, .. } => {
                let folder = file.parent().unwrap_or(file);
                Some(format!(
                    "pgmd's user must be able to write to {}; or edit the file yourself and run: pgm-cli conf reload",
                    folder.display()
                ))
            }
            Self::NotInPlace { .. } => {
                Some("edit the file and run: pgm-cli conf reload".to_owned())
            }
            Self::Exposed { file, .. } => Some(format!(
                "chmod 600 {}; or keep the password in ~/.pgpass of pgmd's user",
                file.display()
            )),
            Self::UnknownServer { server, known, .. } => Some(nearest_hint(server, known)),
            Self::UnknownRepository {
                repository, known, ..
            } => Some(nearest_hint(repository, known)),
            Self::UnknownStandby { standby, known, .. } => Some(nearest_hint(standby, known)),
        }
    }
}

/// The name in `known` that `text` was probably meant to be.
pub(crate) fn nearest<'a, S: AsRef<str>>(text: &str, known: &'a [S]) -> Option<&'a str> {
    let text = text.to_lowercase();
    known
        .iter()
        .map(|name| {
            (
                strsim::jaro_winkler(&text, &name.as_ref().to_lowercase()),
                name.as_ref(),
            )
        })
        .filter(|(likeness, _)| *likeness >= 0.75)
        .max_by(|(one, _), (other, _)| one.total_cmp(other))
        .map(|(_, name)| name)
}

/// `did you mean …?`, and the whole choice.
pub(crate) fn nearest_hint<S: AsRef<str>>(text: &str, known: &[S]) -> String {
    let choice = known
        .iter()
        .map(|name| format!("`{}`", name.as_ref()))
        .collect::<Vec<_>>();
    let choice = match choice.as_slice() {
        [] => "there is none".to_owned(),
        [only] => format!("there is only {only}"),
        several => format!("there are {}", several.join(", ")),
    };
    match nearest(text, known) {
        Some(name) => format!("did you mean `{name}`? {choice}"),
        None => choice,
    }
}
