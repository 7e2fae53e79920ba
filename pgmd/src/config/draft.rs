//! A configuration that is put together by a program, setting by setting, and written as text.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use super::change::Key;
use super::error::ConfigError;
use super::member::{Member, MemberGroup};
use super::sample::quoted;
use super::section::surroundings;
use super::settings;

/// The settings of a new configuration, each checked alone.
#[derive(Debug, Clone, Default)]
pub struct Draft {
    /// By full key: how it is written, and what its comment says.
    values: BTreeMap<String, (String, String)>,
}

impl Draft {
    /// Sets `key` to `value`, as it is typed after `conf set KEY`, with a comment of one line.
    pub fn set(&mut self, key: &str, value: &str, comment: &str) -> Result<(), ConfigError> {
        let key = Key::new(key);
        let setting = key.setting()?;
        let literal = setting.kind.form.literal(value);
        let checked = (setting.check)(setting, &literal, &surroundings(Path::new("/")));
        checked.map_err(|wrong| ConfigError::Value {
            text: format!("`{}`{}", key.as_str(), wrong.text),
            hint: wrong.hint,
        })?;
        // A comment ends with its line.
        let comment = comment.replace(char::is_control, " ");
        let written = literal.ron(setting.kind.form);
        self.values
            .insert(key.as_str().to_owned(), (written, comment));
        Ok(())
    }

    /// Takes a server out again.
    pub fn forget_server(&mut self, server: &str) {
        let prefix = format!("servers.{server}.");
        self.values.retain(|key, _| !key.starts_with(&prefix));
    }

    /// The text of the configuration, in the order of the reference page.
    pub fn text(&self, title: &str) -> String {
        let mut text = String::new();
        for line in title.lines() {
            let _ = writeln!(text, "// {line}");
        }
        text += "(\n";
        let mut group = None;
        for setting in settings::all() {
            let (section, name) = setting.key.rsplit_once('.').unwrap_or(("", setting.key));
            let Some(value) = self.values.get(setting.key) else {
                continue; // among them all of a server or repository
            };
            if section.is_empty() {
                entry(&mut text, "    ", name, value);
                continue;
            }
            if group != Some(section) {
                close(&mut text, group);
                group = Some(section);
                let _ = writeln!(text, "    {section}: (");
            }
            entry(&mut text, "        ", name, value);
        }
        close(&mut text, group);
        for group in [
            MemberGroup::Repositories,
            MemberGroup::Standbys,
            MemberGroup::Servers,
        ] {
            self.members(group, &mut text);
        }
        text + ")\n"
    }

    fn members(&self, group: MemberGroup, text: &mut String) {
        let field = group.field();
        let names: BTreeSet<String> = self
            .values
            .keys()
            .filter_map(|key| Member::of_key(key))
            .filter(|member| member.group == group)
            .map(|member| member.name)
            .collect();
        if names.is_empty() && group != MemberGroup::Servers {
            return;
        }
        let _ = writeln!(text, "    {field}: {{");
        for member in names {
            let _ = writeln!(text, "        {}: (", quoted(&member));
            for setting in settings::all() {
                let inside = setting.key.strip_prefix(group.section());
                let Some(name) = inside.and_then(|rest| rest.strip_prefix('.')) else {
                    continue;
                };
                if let Some(value) = self.values.get(&format!("{field}.{member}.{name}")) {
                    entry(text, "            ", name, value);
                }
            }
            text.push_str("        ),\n");
        }
        text.push_str("    },\n");
    }
}

fn close(text: &mut String, group: Option<&str>) {
    if group.is_some() {
        text.push_str("    ),\n");
    }
}

fn entry(text: &mut String, indent: &str, name: &str, (value, comment): &(String, String)) {
    let _ = match comment.as_str() {
        "" => writeln!(text, "{indent}{name}: {value},"),
        comment => writeln!(text, "{indent}{name}: {value}, // {comment}"),
    };
}
