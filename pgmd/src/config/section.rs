//! One pair of parentheses of the file, and how settings are taken out of it.
//!
//! Every field that stands there is a setting or a section of the registry, or it is refused with its place and the
//! nearest name that would be valid.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;

use pgm_proto::Secret;

use super::entry::Entry;
use super::error::{ConfigError, nearest, nearest_hint};
use super::member::Member;
use super::registry::{DefaultValue, Setting, read};
use super::settings;
use super::source::{Field, Piece, Source};
use super::value::{Literal, Surroundings, Value};

/// What a reading of a configuration shares.
pub(super) struct Reading<'a> {
    pub(super) source: Source<'a>,
    pub(super) surroundings: Surroundings<'a>,
    /// The values that stay in force because they cannot change while the daemon runs, by key.
    pub(super) in_force: BTreeMap<&'a str, &'a Entry>,
    /// The settings that were read, in that order.
    pub(super) entries: RefCell<Vec<Entry>>,
}

/// One section: what stands in its parentheses.
pub(super) struct Section<'a, 'r> {
    reading: &'r Reading<'a>,
    /// Its dotted name in the registry; empty at the top.
    name: &'static str,
    /// The server or repository, in the section of one.
    member: Option<Member>,
    /// Its own piece of the text, when it is there.
    piece: Option<Piece<'a>>,
    fields: BTreeMap<&'a str, Piece<'a>>,
}

/// More names than these are not listed in a hint.
const NAMES_LISTED_MAX: usize = 10;

impl<'a, 'r> Section<'a, 'r> {
    /// The whole file.
    pub(super) fn top(reading: &'r Reading<'a>) -> Result<Self, ConfigError> {
        let fields = reading.source.whole_fields("the configuration")?;
        Self::with_fields(reading, "", None, None, fields)
    }

    /// The section of `member`, which is `piece`.
    pub(super) fn member(
        reading: &'r Reading<'a>,
        member: Member,
        piece: Piece<'a>,
    ) -> Result<Self, ConfigError> {
        let fields = reading.source.fields(piece, &member.to_string())?;
        let section = member.group.section();
        Self::with_fields(reading, section, Some(member), Some(piece), fields)
    }

    fn with_fields(
        reading: &'r Reading<'a>,
        name: &'static str,
        member: Option<Member>,
        piece: Option<Piece<'a>>,
        fields: Vec<Field<'a>>,
    ) -> Result<Self, ConfigError> {
        let mut section = Self {
            reading,
            name,
            member,
            piece,
            fields: BTreeMap::new(),
        };
        let known = names_in(name);
        for field in fields {
            let what = section.describe();
            if !known.contains(&field.name) {
                let text = format!("{what} has no field `{}`", field.name);
                return Err(reading.source.error_in(
                    field.name,
                    text,
                    Some(unknown_hint(field.name, &known)),
                ));
            }
            if section.fields.insert(field.name, field.value).is_some() {
                let text = format!("{what} has the field `{}` twice", field.name);
                return Err(reading.source.error_in(field.name, text, None));
            }
        }
        Ok(section)
    }

    /// The section with this dotted name inside; itself when that is its own.
    pub(super) fn open(&self, name: &'static str) -> Result<Section<'a, 'r>, ConfigError> {
        let same = name == self.name;
        let piece = if same {
            self.piece
        } else {
            self.fields.get(name).copied()
        };
        if same {
            return Ok(Section {
                reading: self.reading,
                name,
                member: self.member.clone(),
                piece,
                fields: self.fields.clone(),
            });
        }
        let fields = match piece {
            Some(piece) => self.reading.source.fields(piece, &format!("`{name}`"))?,
            None => Vec::new(),
        };
        Section::with_fields(self.reading, name, None, piece, fields)
    }

    /// The piece of a field that is no setting.
    pub(super) fn piece(&self, name: &str) -> Option<Piece<'a>> {
        self.fields.get(name).copied()
    }

    /// An error about the section itself.
    pub(super) fn error(&self, text: String, hint: Option<String>) -> ConfigError {
        let source = self.reading.source;
        match self.piece {
            Some(piece) => source.error(piece, text, hint),
            None => source.error_in(source.text, text, hint),
        }
    }

    /// The value of `setting`, from the file or by default.
    pub(super) fn take<T: Value>(&self, setting: &'static Setting) -> Result<T, ConfigError> {
        let name = setting.key.rsplit('.').next().unwrap_or(setting.key);
        let source = self.reading.source;
        let what = match &self.member {
            Some(member) => format!("`{name}` of `{}`", member.name),
            None => format!("`{}`", setting.key),
        };
        let (value, line) = match self.fields.get(name) {
            Some(piece) => {
                let value = read::<T>(
                    setting,
                    &source.literal(piece, &what)?,
                    &self.reading.surroundings,
                )
                .map_err(|wrong| source.error(piece, what + &wrong.text, wrong.hint))?;
                (value, Some(source.line(piece)))
            }
            None => (self.default(setting, name)?, None),
        };
        Ok(self.record(setting, name, value, line))
    }

    fn default<T: Value>(&self, setting: &'static Setting, name: &str) -> Result<T, ConfigError> {
        let literal = match setting.default {
            DefaultValue::Is(text) => T::KIND.form.literal(text),
            DefaultValue::Unset(_) => Literal::Word("None".to_owned()),
            DefaultValue::Required => {
                let text = format!("{} needs the field `{name}`", self.describe());
                return Err(self.error(text, None));
            }
        };
        T::read(&literal, &self.reading.surroundings).map_err(|wrong| {
            let text = format!("the default of `{}`{}", setting.key, wrong.text);
            self.error(text, wrong.hint)
        })
    }

    /// Remembers the value, or the one in force when it cannot change now.
    fn record<T: Value>(
        &self,
        setting: &'static Setting,
        name: &str,
        value: T,
        line: Option<usize>,
    ) -> T {
        let key = match &self.member {
            Some(member) => format!("{}.{name}", member.key()),
            None => setting.key.to_owned(),
        };
        let mut entry = Entry {
            key,
            setting,
            member: self.member.clone(),
            value: value.shown(),
            line,
            pending: None,
            text: Secret::new(value.text()),
        };
        let mut value = value;
        let before = self.reading.in_force.get(entry.key.as_str());
        if let Some(before) =
            before.filter(|before| before.needs_restart() && !before.same_value(&entry))
        {
            let literal = T::KIND.form.literal(before.text.expose());
            if let Ok(old) = T::read(&literal, &self.reading.surroundings) {
                value = old;
                entry = Entry {
                    pending: Some(Box::new(entry)),
                    ..(*before).clone()
                };
            }
        }
        self.reading.entries.borrow_mut().push(entry);
        value
    }

    fn describe(&self) -> String {
        match (&self.member, self.name) {
            (Some(member), _) => member.to_string(),
            (None, "") => "the configuration".to_owned(),
            (None, name) => format!("`{name}`"),
        }
    }
}

/// The names of the fields in the section with this dotted name.
pub(super) fn names_in(section: &str) -> Vec<&'static str> {
    let mut names: Vec<&str> = Vec::new();
    for setting in settings::all() {
        let inside = match section {
            "" => Some(setting.key),
            section => setting
                .key
                .strip_prefix(section)
                .and_then(|rest| rest.strip_prefix('.')),
        };
        if let Some(name) = inside.and_then(|inside| inside.split('.').next())
            && !names.contains(&name)
        {
            names.push(name);
        }
    }
    names
}

/// What a mistyped name was probably meant to be.
fn unknown_hint(found: &str, known: &[&str]) -> String {
    if known.len() <= NAMES_LISTED_MAX {
        return nearest_hint(found, known);
    }
    match nearest(found, known) {
        Some(name) => format!("did you mean `{name}`? `pgm-cli conf ls` lists every setting"),
        None => "docs/configuration.md describes every setting".to_owned(),
    }
}

/// Looks up a variable of this process.
pub(super) fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Where a configuration in `folder` stands.
pub(super) fn surroundings(folder: &Path) -> Surroundings<'_> {
    Surroundings {
        folder,
        environment,
    }
}
