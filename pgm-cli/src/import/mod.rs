//! From a configuration of pgmoneta to one of pgm.
//!
//! Every key of the file gets a line in the report: what it became, or why it became nothing. The result is always a
//! configuration that pgmd can use; what cannot be used is left out and said. Passwords are sealed with pgmoneta's own
//! master key: they are neither opened nor carried over, and the report names whose have to be entered again.

mod ini;
mod report;
mod rules;
mod server;
mod whole;

use pgmd::config::Draft;

use self::ini::{Entry, Ini};
use self::rules::{Rule, is_secret};

pub(crate) use self::report::{Finding, Outcome};

/// The section of the daemon itself.
const MAIN: &str = "pgmoneta";

/// What came of a file.
#[derive(Debug)]
pub(crate) struct Imported {
    /// The text of the new configuration.
    pub(crate) text: String,
    /// What became of each key, in the order of the file.
    pub(crate) findings: Vec<Finding>,
    /// The servers that are in it.
    pub(crate) servers: usize,
}

/// Turns the text of a `pgmoneta.conf`, and that of a `pgmoneta_users.conf`, into a configuration.
pub(crate) fn import(file: &str, text: &str, users: Option<&str>) -> Imported {
    let ini = Ini::parse(text);
    let mut import = Import {
        ini: &ini,
        draft: Draft::default(),
        findings: Vec::new(),
    };
    import.whole();
    let mut servers = Vec::new();
    for section in ini.sections() {
        if !["", MAIN, "all"].contains(&section) {
            servers.extend(import.server(section, &servers));
        }
    }
    import.leftovers();
    if let Some(users) = users {
        import.users(users);
    }
    let mut findings = import.findings;
    // Of what is missing first, then in the order of the file, then the users.
    findings.sort_by_key(|finding| (finding.section == USERS, finding.line));
    let title =
        format!("Made from {file} by pgm-cli config import. Every setting: pgm-cli conf ls --long");
    Imported {
        text: import.draft.text(&title.replace(char::is_control, " ")),
        findings,
        servers: servers.len(),
    }
}

const USERS: &str = "users";

/// A conversion that is under way.
struct Import<'a> {
    ini: &'a Ini,
    draft: Draft,
    findings: Vec<Finding>,
}

impl Import<'_> {
    /// Says what became of an entry.
    fn note(&mut self, entry: &Entry, outcome: Outcome, note: impl Into<String>) {
        self.findings.push(Finding {
            outcome,
            note: Some(note.into()).filter(|note| !note.is_empty()),
            ..line(entry)
        });
    }

    /// Makes `entry` the setting `key` with `value`, or says why that does not go.
    fn become_setting(&mut self, entry: &Entry, key: &str, value: &str, note: &str) {
        match self.draft.set(key, value, &comment(entry)) {
            Ok(()) => self.became(entry, vec![shown(entry, key, value)], note),
            Err(error) => self.note(entry, Outcome::Unusable, error.to_string()),
        }
    }

    fn became(&mut self, entry: &Entry, becomes: Vec<String>, note: &str) {
        self.findings.push(Finding {
            outcome: Outcome::Converted,
            becomes,
            note: Some(note.to_owned()).filter(|note| !note.is_empty()),
            ..line(entry)
        });
    }

    /// Carries out the rule of an entry that stands alone; gives back one that is part of something.
    fn follow<'e>(&mut self, rule: Rule, entry: &'e Entry, prefix: &str) -> Option<&'e Entry> {
        match rule {
            _ if entry.value.is_empty() => self.note(entry, Outcome::NotNeeded, "it has no value"),
            Rule::Part => return Some(entry),
            Rule::NotNeeded(why) => self.note(entry, Outcome::NotNeeded, why),
            Rule::Gone(why) => self.note(entry, Outcome::NoCounterpart, why),
            Rule::To(key, conversion) => match conversion.convert(&entry.value) {
                Ok(value) => self.become_setting(entry, &format!("{prefix}{key}"), &value, ""),
                Err(why) => self.note(entry, Outcome::Unusable, why),
            },
        }
        None
    }

    /// The entries of a section that hold; those that are set again are noted.
    fn entries(&mut self, section: &str) -> Vec<Entry> {
        let all: Vec<&Entry> = self
            .ini
            .entries
            .iter()
            .filter(|entry| entry.section == section)
            .collect();
        let mut entries: Vec<Entry> = Vec::new();
        for (at, entry) in all.iter().enumerate() {
            let again = all[at + 1..].iter().find(|later| later.key == entry.key);
            match again {
                Some(later) => {
                    let why = format!("line {} sets it again", later.line);
                    self.note(entry, Outcome::NotNeeded, why);
                }
                None => entries.push((*entry).clone()),
            }
        }
        entries
    }

    /// What stands outside of the sections that mean something.
    fn leftovers(&mut self) {
        let ini = self.ini;
        for broken in &ini.broken {
            self.findings.push(Finding {
                section: broken.section.clone(),
                key: String::new(),
                value: None,
                line: Some(broken.line),
                outcome: Outcome::Unusable,
                becomes: Vec::new(),
                note: Some("the line is not KEY = VALUE".to_owned()),
            });
        }
        let outside = ini
            .entries
            .iter()
            .filter(|entry| ["", "all"].contains(&entry.section.as_str()));
        for entry in outside {
            let why = match entry.section.as_str() {
                "" => "it stands before the first section",
                _ => "a server cannot be named all",
            };
            self.note(entry, Outcome::Unknown, why);
        }
    }

    /// Whose passwords have to be entered again.
    fn users(&mut self, text: &str) {
        let ini = self.ini;
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with(['#', ';']) {
                continue;
            }
            // What follows the colon is the sealed password.
            let Some((user, _)) = line.split_once(':') else {
                self.user_line(
                    number,
                    "",
                    Outcome::Unusable,
                    "the line is not USER:PASSWORD",
                );
                continue;
            };
            let mut sections = ini.sections().into_iter();
            if sections.any(|section| section != MAIN && ini.value(section, "user") == Some(user)) {
                let again = format!("pgm-cli admin user add {user} --postgres");
                self.user_line(number, user, Outcome::EnterAgain, &again);
            } else {
                self.user_line(number, user, Outcome::NotNeeded, "no server uses it");
            }
        }
    }

    fn user_line(&mut self, number: usize, user: &str, outcome: Outcome, note: &str) {
        self.findings.push(Finding {
            section: USERS.to_owned(),
            key: user.to_owned(),
            value: None,
            line: Some(number + 1),
            outcome,
            becomes: Vec::new(),
            note: Some(note.to_owned()),
        });
    }
}

/// The line of an entry of which nothing is said yet.
fn line(entry: &Entry) -> Finding {
    Finding {
        section: entry.section.clone(),
        key: entry.key.clone(),
        value: (!is_secret(&entry.key)).then(|| entry.value.clone()),
        line: Some(entry.line),
        outcome: Outcome::NotNeeded,
        becomes: Vec::new(),
        note: None,
    }
}

fn shown(entry: &Entry, key: &str, value: &str) -> String {
    let value = if is_secret(&entry.key) { "***" } else { value };
    format!("{key} = {value}")
}

/// Where a setting comes from, for the new file.
fn comment(entry: &Entry) -> String {
    format!("{}, line {}", entry.key, entry.line)
}

/// The rule of a key in a table.
fn rule(table: &[(&str, Rule)], key: &str) -> Option<Rule> {
    table
        .iter()
        .find(|(name, _)| *name == key)
        .map(|(_, rule)| *rule)
}

#[cfg(test)]
mod tests;
