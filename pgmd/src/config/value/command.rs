//! Commands that the daemon runs, and where a key comes from.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::path::{expand, written_path};
use super::{Form, Kind, Literal, Surroundings, Value, Wrong};

/// A command, as a list of words or for the shell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HookCommand {
    /// The program and its arguments, passed on as they are.
    Words(Vec<String>),
    /// A command for `sh -c`.
    Shell(String),
}

impl Value for HookCommand {
    const KIND: Kind = Kind::new("command", Form::TextOrList);

    fn read(written: &Literal, _cx: &Surroundings<'_>) -> Result<Self, Wrong> {
        match written {
            Literal::Text(text) if text.trim().is_empty() => Err(Wrong::because("it is empty")),
            Literal::Text(text) if text.contains('\0') => {
                Err(Wrong::because("a command cannot hold a zero byte"))
            }
            Literal::Text(text) => Ok(Self::Shell(text.clone())),
            Literal::List(words) if words.first().is_none_or(String::is_empty) => {
                Err(Wrong::because("the list begins with the program"))
            }
            Literal::List(words) if words.iter().any(|word| word.contains('\0')) => {
                Err(Wrong::because("a command cannot hold a zero byte"))
            }
            Literal::List(words) => Ok(Self::Words(words.clone())),
            Literal::Word(_) => Err(Wrong::is(
                "a command for the shell in double quotes, or a list of words: [\"program\", \"argument\"]",
            )),
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Words(words) => Literal::List(words.clone()).ron(Form::TextOrList),
            Self::Shell(command) => command.clone(),
        }
    }
}

/// Where the master key comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum MasterKeySource {
    /// This file, absolute.
    File(PathBuf),
    /// What this command for `sh -c` prints.
    Command(String),
    /// This environment variable of the daemon.
    Environment(String),
}

impl fmt::Display for MasterKeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(file) => write!(f, "{}", file.display()),
            Self::Command(command) => write!(f, "command:{command}"),
            Self::Environment(name) => write!(f, "env:{name}"),
        }
    }
}

impl FromStr for MasterKeySource {
    type Err = &'static str;

    /// `FILE`, `env:NAME` or `command:COMMAND`; a file stays relative.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(command) = text.strip_prefix("command:") {
            return match command.trim() {
                "" => Err("there is no command after `command:`"),
                command => Ok(Self::Command(command.to_owned())),
            };
        }
        if let Some(name) = text.strip_prefix("env:") {
            let name = name.trim();
            let plain = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
            if name.is_empty() || !name.chars().all(plain) {
                return Err("env: takes the name of an environment variable");
            }
            return Ok(Self::Environment(name.to_owned()));
        }
        if text.is_empty() {
            return Err("a master key comes from FILE, env:NAME or command:COMMAND");
        }
        Ok(Self::File(text.into()))
    }
}

impl Value for MasterKeySource {
    const KIND: Kind = Kind::new("key source", Form::Text);

    fn read(written: &Literal, cx: &Surroundings<'_>) -> Result<Self, Wrong> {
        let Literal::Text(text) = written else {
            return Err(Wrong::is_text());
        };
        match text.parse() {
            Ok(Self::File(_)) => expand(text, cx).map(Self::File),
            Ok(Self::Command(command)) if command.contains('\0') => {
                Err(Wrong::because("a command cannot hold a zero byte"))
            }
            Ok(other) => Ok(other),
            Err(reason) => Err(Wrong::because(reason)),
        }
    }

    fn text(&self) -> String {
        match self {
            Self::File(file) => written_path(file),
            Self::Command(command) => format!("command: {command}"),
            Self::Environment(name) => format!("env: {name}"),
        }
    }
}
