//! The section of a server.

use std::fmt::Write as _;

use super::ini::Entry;
use super::report::{Finding, Outcome};
use super::rules::{self, Conversion};
use super::{Import, MAIN, comment, rule};

impl Import<'_> {
    /// Converts the section of a server; its name in the new configuration, if it can be in it.
    pub(super) fn server(&mut self, section: &str, taken: &[String]) -> Option<String> {
        let entries = self.entries(section);
        let name = server_name(section, taken);
        let prefix = format!("servers.{name}.");
        let reachable = self.conninfo(section, &prefix);
        if name != section {
            let note = format!("its name is {name}: pgm has letters, digits, _ and - in names");
            self.missing(section, "", Outcome::Converted, &note);
        }
        for entry in &entries {
            match rule(rules::SERVER, &entry.key) {
                None => self.note(entry, Outcome::Unknown, ""),
                Some(rule) => {
                    if let Some(part) = self.follow(rule, entry, &prefix) {
                        self.server_part(part, &prefix, reachable.as_ref());
                    }
                }
            }
        }
        if let Err(why) = &reachable {
            self.draft.forget_server(&name);
            self.missing(
                section,
                "",
                Outcome::Unusable,
                &format!("the server is left out: {why}"),
            );
            return None;
        }
        self.defaults(section, &prefix);
        if self.ini.value(section, "wal_slot").is_none() {
            self.missing(
                section,
                "wal_slot",
                Outcome::NotNeeded,
                "it is missing; pgmd uses the slot pgmd",
            );
        }
        Some(name)
    }

    /// Puts the connection string together; says why when that does not go.
    fn conninfo(&mut self, section: &str, prefix: &str) -> Result<String, String> {
        let ini = self.ini;
        let value = |key: &str| ini.value(section, key);
        let needed = |key: &str| value(key).ok_or_else(|| format!("`{key}` is missing"));
        let (host, user) = (needed("host")?, needed("user")?);
        let mut conninfo = format!("host={}", quoted(host));
        let mut put = |key: &str, value: &str| {
            let _ = write!(conninfo, " {key}={}", quoted(value));
        };
        if let Some(port) = value("port") {
            put("port", port);
        }
        put("user", user);
        let tls = [
            ("sslcert", value("tls_cert_file")),
            ("sslkey", value("tls_key_file")),
            ("sslrootcert", value("tls_ca_file")),
        ];
        if tls.iter().any(|(_, file)| file.is_some()) {
            put(
                "sslmode",
                if value("tls_ca_file").is_some() {
                    "verify-ca"
                } else {
                    "require"
                },
            );
        }
        for (key, file) in tls {
            if let Some(file) = file {
                put(key, file);
            }
        }
        let key = format!("{prefix}conninfo");
        self.draft
            .set(&key, &conninfo, "")
            .map_err(|error| error.to_string())?;
        Ok(conninfo)
    }

    fn server_part(&mut self, entry: &Entry, prefix: &str, conninfo: Result<&String, &String>) {
        match (entry.key.as_str(), conninfo) {
            ("max_rate", _) => self.max_rate(entry, entry, prefix),
            ("host", Ok(conninfo)) => {
                self.became(entry, vec![format!("{prefix}conninfo = {conninfo}")], "");
            }
            (_, Ok(_)) => self.became(entry, vec![format!("{prefix}conninfo")], ""),
            (_, Err(why)) => self.note(entry, Outcome::Unusable, why.as_str()),
        }
    }

    /// What `[pgmoneta]` says for every server, unless the server's own section does.
    fn defaults(&mut self, section: &str, prefix: &str) {
        let ini = self.ini;
        let own = |key: &str| ini.value(section, key).is_some();
        let main = |key: &str| {
            let entries = ini.entries.iter().rev();
            entries
                .filter(|entry| {
                    entry.section == MAIN && entry.key == key && !entry.value.is_empty()
                })
                .find(|entry| ini.value(MAIN, key) == Some(entry.value.as_str()))
        };
        if !own("create_slot") {
            // pgmoneta makes no slot unless told to.
            let (value, from) = match main("create_slot") {
                Some(entry) => (Conversion::Switch.convert(&entry.value), comment(entry)),
                None => (Ok("false".to_owned()), "pgmoneta's default".to_owned()),
            };
            let value = value.unwrap_or_else(|_| "false".to_owned());
            let set = self
                .draft
                .set(&format!("{prefix}create_slot"), &value, &from);
            debug_assert!(set.is_ok(), "a switch can be set");
        }
        if let Some(entry) = main("max_rate").filter(|_| !own("max_rate")) {
            let at = Entry {
                section: section.to_owned(),
                ..entry.clone()
            };
            self.max_rate(&at, entry, prefix);
        }
    }

    /// Bytes a second; 0 is no limit.
    fn max_rate(&mut self, entry: &Entry, from: &Entry, prefix: &str) {
        if ["0", "-1"].contains(&entry.value.as_str()) {
            self.note(entry, Outcome::NotNeeded, "there is no limit by default");
            return;
        }
        let key = format!("{prefix}backup_max_rate");
        match self.draft.set(&key, &entry.value, &comment(from)) {
            Ok(()) => self.became(entry, vec![format!("{key} = {}", entry.value)], ""),
            Err(error) => self.note(entry, Outcome::Unusable, error.to_string()),
        }
    }

    /// Says something about a section that no line of it says.
    fn missing(&mut self, section: &str, key: &str, outcome: Outcome, note: &str) {
        self.findings.push(Finding {
            section: section.to_owned(),
            key: key.to_owned(),
            value: None,
            line: None,
            outcome,
            becomes: Vec::new(),
            note: Some(note.to_owned()),
        });
    }
}

/// A name that pgm accepts and that no other server has.
fn server_name(section: &str, taken: &[String]) -> String {
    let plain = |letter: char| {
        if letter.is_ascii_alphanumeric() || letter == '_' || letter == '-' {
            letter
        } else {
            '_'
        }
    };
    let name: String = section.chars().map(plain).take(50).collect();
    let name = if name.parse::<pgm_proto::ServerName>().is_ok() {
        name
    } else {
        format!("server{name}")
    };
    let mut free = name.clone();
    let mut number = 2;
    while taken.contains(&free) {
        free = format!("{name}_{number}");
        number += 1;
    }
    free
}

/// A value of a connection string.
fn quoted(value: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-:".contains(&byte);
    if !value.is_empty() && value.bytes().all(plain) {
        return value.to_owned();
    }
    format!("'{}'", value.replace('\\', r"\\").replace('\'', r"\'"))
}
