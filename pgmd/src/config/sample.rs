//! The configuration that `pgm-cli init` writes: short, commented with the help of its settings, and read back by a test.

use std::fmt::Write as _;

use pgm_proto::ServerName;

use super::registry::{DefaultValue, Setting};
use super::{MasterKeySource, settings, value::Literal};
use crate::place::RepositoryPlace;

/// What a new configuration contains.
#[derive(Debug, Clone, Copy)]
pub struct Sample<'a> {
    /// The servers: a name and a connection string each.
    pub servers: &'a [(ServerName, String)],
    /// The repository; `None`: in a folder beside the configuration.
    pub repository: Option<&'a RepositoryPlace>,
    /// With what it is sealed; relative files start at the configuration's folder.
    pub seal: Option<&'a MasterKeySource>,
    /// The replication slot on each server.
    pub slot: &'a str,
}

/// A commented configuration for `servers`, with the defaults for everything else.
pub fn sample(servers: &[(ServerName, String)]) -> String {
    Sample {
        servers,
        repository: None,
        seal: None,
        slot: "pgmd",
    }
    .text()
}

impl Sample<'_> {
    /// The text of the configuration.
    pub fn text(&self) -> String {
        let mut text = HEAD.to_owned();
        for key in ["log_level", "unix_socket_dir", "spool", "jobs_max"] {
            let _ = writeln!(text, "{}", field("    ", key, None));
        }
        let repository = self.repository_fields();
        let compression = field("        ", "repository.compression", None);
        let _ = writeln!(text, "    repository: (\n{repository}{compression}    ),\n");
        text += "    // The servers to protect.\n    servers: {\n";
        for (number, (name, conninfo)) in self.servers.iter().enumerate() {
            let _ = writeln!(text, "        {}: (", quoted(name.as_str()));
            let values = [
                ("conninfo", Some(conninfo.as_str())),
                ("slot", Some(self.slot)),
                ("create_slot", None),
            ];
            for (key, value) in values {
                let entry = field("            ", &format!("servers.NAME.{key}"), value);
                // Once is enough for what a setting is for.
                let described = number == 0;
                let lines = entry
                    .lines()
                    .filter(|line| described || !line.trim_start().starts_with("//"));
                for line in lines {
                    let _ = writeln!(text, "{line}");
                }
            }
            text += "        ),\n";
        }
        text + "    },\n)\n"
    }

    fn repository_fields(&self) -> String {
        let seal = self.seal.map(ToString::to_string);
        self.place_fields() + &field("        ", "repository.seal", seal.as_deref())
    }

    fn place_fields(&self) -> String {
        let of = |key: &str, value: Option<String>| field("        ", key, value.as_deref());
        let Some(place) = self.repository else {
            return of("repository.path", Some("repository".to_owned()));
        };
        if let Some(folder) = place.folder() {
            return of("repository.path", Some(folder.display().to_string()));
        }
        let credentials = place.credentials.as_ref();
        let file = credentials.map(|file| file.display().to_string());
        let mut text = of("repository.url", Some(place.to_string()));
        if file.is_some() {
            text += &of("repository.credentials_file", file);
        }
        text
    }
}

const HEAD: &str = "\
// pgmd's configuration (RON). Check it with: pgmd --check-config -c THIS_FILE
// After a change: pgm-cli conf reload. Every setting: pgm-cli conf ls --long, and docs/configuration.md.
// Relative paths start at the folder of this file; $NAME is an environment variable.
(
";

/// A setting with its help as a comment, and its default when there is no `value`.
fn field(indent: &str, key: &str, value: Option<&str>) -> String {
    let declared = settings::all()
        .into_iter()
        .find(|setting| setting.key == key);
    declared.map_or_else(String::new, |setting| {
        let name = key.rsplit('.').next().unwrap_or(key);
        let mut text = String::new();
        for line in comment(setting) {
            let _ = writeln!(text, "{indent}// {line}");
        }
        let _ = writeln!(text, "{indent}{name}: {},", written(setting, value));
        text
    })
}

fn written(setting: &Setting, value: Option<&str>) -> String {
    let form = setting.kind.form;
    match (value, setting.default) {
        // Taken as it is: a path may be one that means something else when typed.
        (Some(value), _) => Literal::Text(value.to_owned()).ron(form),
        (None, DefaultValue::Is(default)) => form.literal(default).ron(form),
        (None, _) => "None".to_owned(),
    }
}

/// The help and the choices, in lines that fit.
fn comment(setting: &Setting) -> Vec<String> {
    let mut words = setting.help.to_owned();
    if !setting.kind.choices.is_empty() && setting.kind.name != "switch" {
        words = format!("{words} One of {}.", setting.kind.choices.join(", "));
    }
    let mut lines: Vec<String> = Vec::new();
    for word in words.split(' ') {
        match lines.last_mut() {
            Some(line) if line.len() + word.len() < 100 => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// `text` as a RON string, with no more escapes than it needs.
pub(super) fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' | '\\' => quoted.extend(['\\', letter]),
            letter if letter.is_control() => {
                let _ = write!(quoted, "\\u{{{:x}}}", u32::from(letter));
            }
            letter => quoted.push(letter),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_text_is_read_back_as_it_was(text: String) {
            prop_assert_eq!(ron::from_str::<String>(&quoted(&text)).unwrap(), text);
        }
    }
}
