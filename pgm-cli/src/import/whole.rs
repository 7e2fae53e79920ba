//! The section `[pgmoneta]`: what concerns the daemon as a whole.

use super::ini::Entry;
use super::report::{Finding, Outcome};
use super::rules;
use super::{Import, MAIN, comment, rule};

impl Import<'_> {
    /// Converts the section `[pgmoneta]`.
    pub(super) fn whole(&mut self) {
        for entry in &self.entries(MAIN) {
            match rule(rules::MAIN, &entry.key) {
                None => self.note(entry, Outcome::Unknown, ""),
                Some(rule) => {
                    if let Some(part) = self.follow(rule, entry, "") {
                        self.part(part);
                    }
                }
            }
        }
        if self.ini.value(MAIN, "base_dir").is_none() {
            self.findings.push(Finding {
                section: MAIN.to_owned(),
                key: "base_dir".to_owned(),
                value: None,
                line: None,
                outcome: Outcome::Unusable,
                becomes: Vec::new(),
                note: Some(
                    "it is missing; the repository is beside the new configuration".to_owned(),
                ),
            });
        }
    }

    fn main(&self, key: &str) -> Option<&str> {
        self.ini.value(MAIN, key)
    }

    fn part(&mut self, entry: &Entry) {
        match entry.key.as_str() {
            "host" => self.host(entry),
            "base_dir" => {
                let folder = entry.value.trim_end_matches('/');
                let note = "pgm's repository has a format of its own: existing backups and WAL stay where they are, for pgmoneta";
                self.become_setting(entry, "repository.path", &format!("{folder}/pgm"), note);
            }
            "metrics" => self.port(entry, "metrics.port"),
            "metrics_cert_file" | "metrics_key_file" => self.metrics_tls(entry),
            "management" if self.has_tls() => self.port(entry, "management.port"),
            "management" if entry.value == "0" => {
                self.note(entry, Outcome::NotNeeded, "management over TCP is off by default");
            }
            "management" => self.note(
                entry,
                Outcome::Unusable,
                "management over TCP needs TLS: set management.tls_cert_file, management.tls_key_file and management.port",
            ),
            "tls" => match rules::switch(&entry.value.to_ascii_lowercase()) {
                Ok(true) => self.note(entry, Outcome::NotNeeded, "the certificate says it"),
                Ok(false) => self.note(entry, Outcome::NotNeeded, "TLS is not optional for management over TCP"),
                Err(why) => self.note(entry, Outcome::Unusable, why),
            },
            "tls_cert_file" | "tls_key_file" | "tls_ca_file" if self.has_tls() => {
                let key = format!("management.{}", entry.key);
                self.become_setting(entry, &key, &entry.value, "");
            }
            "tls_cert_file" | "tls_key_file" | "tls_ca_file" => {
                self.note(entry, Outcome::Unusable, "TLS needs tls = on, tls_cert_file and tls_key_file");
            }
            "compression" | "compression_level" => self.compression(entry),
            "storage_engine" if entry.value == "local" => self.note(entry, Outcome::NotNeeded, "as always"),
            "storage_engine" => {
                let why = "pgm keeps its repository on a file system so far: mount one there";
                self.note(entry, Outcome::NoCounterpart, why);
            }
            "encryption" if entry.value.eq_ignore_ascii_case("none") => {
                self.note(entry, Outcome::NotNeeded, "as always");
            }
            "encryption" => {
                let why = "pgm does not encrypt its repository so far: use an encrypted file system";
                self.note(entry, Outcome::NoCounterpart, why);
            }
            _ => self.for_every_server(entry),
        }
    }

    /// What holds for servers that do not say otherwise; the servers look it up themselves.
    fn for_every_server(&mut self, entry: &Entry) {
        self.note(
            entry,
            Outcome::Converted,
            "in every server that does not say otherwise",
        );
    }

    fn host(&mut self, entry: &Entry) {
        let on = |port: &str| self.main(port).is_some_and(|port| port != "0");
        let listeners = [
            ("management.host", on("management") && self.has_tls()),
            ("metrics.host", on("metrics")),
        ];
        let mut becomes = Vec::new();
        for (key, _) in listeners.into_iter().filter(|(_, on)| *on) {
            if let Err(error) = self.draft.set(key, &entry.value, &comment(entry)) {
                self.note(entry, Outcome::Unusable, error.to_string());
                return;
            }
            becomes.push(format!("{key} = {}", entry.value));
        }
        if becomes.is_empty() {
            self.note(entry, Outcome::NotNeeded, "pgmd listens on no port");
        } else {
            self.became(entry, becomes, "");
        }
    }

    fn port(&mut self, entry: &Entry, key: &str) {
        if entry.value == "0" {
            self.note(entry, Outcome::NotNeeded, "it is off by default");
        } else {
            self.become_setting(entry, key, &entry.value, "");
        }
    }

    fn metrics_tls(&mut self, entry: &Entry) {
        let both = ["metrics_cert_file", "metrics_key_file"];
        if both.iter().all(|key| self.main(key).is_some()) {
            let key = entry.key.replace("metrics_", "metrics.tls_");
            self.become_setting(entry, &key, &entry.value, "");
        } else {
            self.note(
                entry,
                Outcome::Unusable,
                "TLS needs metrics_cert_file and metrics_key_file",
            );
        }
    }

    /// Whether management has TLS.
    fn has_tls(&self) -> bool {
        let on = self
            .main("tls")
            .map(|value| rules::switch(&value.to_ascii_lowercase()));
        on == Some(Ok(true))
            && self.main("tls_cert_file").is_some()
            && self.main("tls_key_file").is_some()
    }

    /// Codec and level are one setting.
    fn compression(&mut self, entry: &Entry) {
        let codec = self
            .main("compression")
            .unwrap_or("zstd")
            .to_ascii_lowercase();
        let level: Option<i64> = match self.main("compression_level").map(str::parse) {
            None => None,
            Some(Ok(level)) => Some(level),
            Some(Err(_)) => {
                self.note(entry, Outcome::Unusable, "the level is no number");
                return;
            }
        };
        let plain = codec
            .strip_prefix("client-")
            .or(codec.strip_prefix("server-"))
            .unwrap_or(&codec);
        let (value, note) = match plain {
            "zstd" => (format!("zstd:{}", level.unwrap_or(3).clamp(1, 19)), ""),
            "gzip" => (format!("gzip:{}", level.unwrap_or(3).clamp(1, 9)), ""),
            "lz4" => ("lz4".to_owned(), ""),
            "none" => ("none".to_owned(), ""),
            "bzip2" | "bz2" => (
                "zstd:3".to_owned(),
                "there is no bzip2: zstd is smaller and faster",
            ),
            _ => {
                self.note(entry, Outcome::Unusable, "pgmoneta has no such compression");
                return;
            }
        };
        let note = if codec.starts_with("server-") && note.is_empty() {
            "pgmd compresses what the server sends"
        } else {
            note
        };
        self.become_setting(entry, "repository.compression", &value, note);
    }
}
