//! Changes a setting in the configuration file.
//!
//! Nothing is written unless the whole file, with the change, is a configuration that can be used and differs from the
//! old one in that setting alone. The new text goes to a file beside the old one, which it replaces when it is durable;
//! mode and owner stay.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use pgm_proto::Secret;

use super::edit::{self, Place, PlaceSection};
use super::entry::Entry;
use super::error::{ConfigError, nearest};
use super::member::{Member, MemberGroup};
use super::registry::Setting;
use super::section::surroundings;
use super::settings::{self, Config};
use super::source::Source;
use super::{reader, value::Literal};

/// Changes of this process wait for each other.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// A setting's name as somebody has written it, resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    text: String,
    member: Option<Member>,
}

impl Key {
    /// Reads `server.NAME.slot` as `servers.NAME.slot`; whether there is such a setting is not looked at.
    pub fn new(text: &str) -> Self {
        let text = match text.strip_prefix("server.") {
            Some(rest) => format!("servers.{rest}"),
            None => text.to_owned(),
        };
        let member = Member::of_key(&text);
        Self { text, member }
    }

    /// The full name.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Its declaration.
    pub fn setting(&self) -> Result<&'static Setting, ConfigError> {
        let declared = match &self.member {
            Some(member) => self.text.replacen(&member.key(), member.group.section(), 1),
            None => self.text.clone(),
        };
        let all = settings::all();
        let found = all.iter().copied().find(|setting| setting.key == declared);
        found.ok_or_else(|| {
            let known: Vec<String> = all
                .iter()
                .map(|setting| match &self.member {
                    Some(member) => setting.key.replace("NAME", &member.name),
                    None => setting.key.to_owned(),
                })
                .collect();
            ConfigError::unknown_setting(&self.text, &known)
        })
    }

    fn place(&self) -> Place<'_> {
        let (section, name) = self.text.rsplit_once('.').unwrap_or(("", &self.text));
        let section = match (&self.member, section) {
            (Some(member), _) => PlaceSection::Member(member),
            (None, "") => PlaceSection::Top,
            (None, group) => PlaceSection::Group(group),
        };
        Place { section, name }
    }
}

impl Config {
    /// The settings that `key` names: one, all of a section (`management`, `servers.prod`), or all there are.
    pub fn entries_of(&self, key: Option<&str>) -> Result<Vec<&Entry>, ConfigError> {
        let Some(key) = key else {
            return Ok(self.entries.iter().collect());
        };
        let key = Key::new(key);
        let inside = |entry: &&Entry| {
            let rest = entry.key.strip_prefix(key.as_str());
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        let found: Vec<&Entry> = self.entries.iter().filter(inside).collect();
        if !found.is_empty() {
            return Ok(found);
        }
        if let Some(member) = key.member.as_ref().filter(|member| !self.has(member)) {
            return Err(match member.group {
                MemberGroup::Servers => self.unknown_server(&member.name),
                MemberGroup::Repositories => self.unknown_repository(&member.name),
                MemberGroup::Standbys => self.unknown_standby(&member.name),
            });
        }
        let known: Vec<&str> = self
            .entries
            .iter()
            .map(|entry| entry.key.as_str())
            .collect();
        Err(ConfigError::unknown_setting(key.as_str(), &known))
    }

    fn has(&self, member: &Member) -> bool {
        let name = member.name.as_str();
        match member.group {
            MemberGroup::Servers => self.servers.keys().any(|known| known.as_str() == name),
            MemberGroup::Repositories => {
                self.repositories.keys().any(|known| known.as_str() == name)
            }
            MemberGroup::Standbys => self.standbys.contains_key(name),
        }
    }

    /// Sets `key` in the file of this configuration to `value`, as it is typed; to its default when there is none.
    ///
    /// This configuration stays as it is: the file has to be read again. Returns how the file was before.
    pub fn change_file(&self, key: &Key, value: Option<&str>) -> Result<Before, ConfigError> {
        let setting = key.setting()?;
        let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let (text, mode) = reader::read(&self.file)?;
        let new = changed_text(&self.file, &text, key, setting, value)?;
        let config = reader::parse(&self.file, &new, &[])?;
        if config.has_password() && mode & 0o077 != 0 {
            return Err(ConfigError::Exposed {
                file: self.file.clone(),
                mode,
            });
        }
        if new != text {
            write(&self.file, &new)?;
        }
        Ok(Before {
            file: self.file.clone(),
            text: Secret::new(text),
            after: Secret::new(new),
        })
    }
}

/// A file as it was before a change.
#[derive(Debug)]
pub struct Before {
    file: PathBuf,
    text: Secret,
    after: Secret,
}

impl Before {
    /// Takes the change back, unless somebody has changed the file since.
    pub fn restore(self) -> Result<(), ConfigError> {
        let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let (now, _) = reader::read(&self.file)?;
        if now == self.after.expose() && now != self.text.expose() {
            write(&self.file, self.text.expose())?;
        }
        Ok(())
    }
}

fn write(file: &Path, text: &str) -> Result<(), ConfigError> {
    replace(file, text).map_err(|source| ConfigError::Write {
        file: file.to_owned(),
        source,
    })
}

/// The text with `key` set to `value`, or taken out.
pub(super) fn changed_text(
    file: &Path,
    text: &str,
    key: &Key,
    setting: &'static Setting,
    value: Option<&str>,
) -> Result<String, ConfigError> {
    let before = reader::parse(file, text, &[])?;
    if let Some(member) = &key.member {
        before.entries_of(Some(&member.key()))?;
    }
    let source = Source { file, text };
    let new = match value {
        Some(typed) => {
            let literal = setting.kind.form.literal(typed);
            check(&before, key, setting, &literal)?;
            edit::set(source, key.place(), &literal.ron(setting.kind.form))?
        }
        None => edit::unset(source, key.place())?,
    };
    let after = reader::parse(file, &new, &[])?;
    let others = |config: &Config| -> Vec<(String, String)> {
        let others = config
            .entries
            .iter()
            .filter(|entry| entry.key != key.as_str());
        others
            .map(|entry| (entry.key.clone(), entry.text.expose().to_owned()))
            .collect()
    };
    if others(&before) == others(&after) {
        return Ok(new);
    }
    Err(ConfigError::NotInPlace {
        file: file.to_owned(),
        key: key.as_str().to_owned(),
    })
}

/// Whether the setting can have that value, looked at alone.
fn check(
    config: &Config,
    key: &Key,
    setting: &'static Setting,
    literal: &Literal,
) -> Result<(), ConfigError> {
    let folder = config.file.parent().unwrap_or(Path::new("/"));
    (setting.check)(setting, literal, &surroundings(folder)).map_err(|wrong| ConfigError::Value {
        text: format!("`{}`{}", key.as_str(), wrong.text),
        hint: wrong.hint,
    })
}

/// Replaces `file` by one with `text`, durably; mode and owner stay.
fn replace(file: &Path, text: &str) -> io::Result<()> {
    // A symbolic link stays one.
    let file = fs::canonicalize(file)?;
    let meta = fs::metadata(&file)?;
    let folder = file.parent().unwrap_or(Path::new("/"));
    let fresh = fresh_name(&file);
    let written = write_fresh(&fresh, text, &meta).and_then(|()| fs::rename(&fresh, &file));
    if let Err(error) = written {
        let _ = fs::remove_file(&fresh);
        return Err(error);
    }
    File::open(folder)?.sync_all()
}

fn fresh_name(file: &Path) -> PathBuf {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    file.with_file_name(format!(".{name}.{}", std::process::id()))
}

fn write_fresh(fresh: &Path, text: &str, like: &fs::Metadata) -> io::Result<()> {
    // Left behind by a process that died and had the same number.
    match fs::remove_file(fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = OpenOptions::new();
    let mut opened = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(fresh)?;
    let own = opened.metadata()?;
    if (own.uid(), own.gid()) != (like.uid(), like.gid()) {
        std::os::unix::fs::fchown(&opened, Some(like.uid()), Some(like.gid())).map_err(
            |error| io::Error::new(error.kind(), format!("its owner cannot be kept: {error}")),
        )?;
    }
    opened.set_permissions(fs::Permissions::from_mode(like.mode() & 0o7777))?;
    opened.write_all(text.as_bytes())?;
    opened.sync_all()
}

impl ConfigError {
    fn unknown_setting<S: AsRef<str>>(key: &str, known: &[S]) -> Self {
        Self::UnknownSetting {
            key: key.to_owned(),
            hint: match nearest(key, known) {
                Some(name) => {
                    format!("did you mean `{name}`? `pgm-cli conf ls` lists every setting")
                }
                None => "`pgm-cli conf ls` lists every setting".to_owned(),
            },
        }
    }
}
