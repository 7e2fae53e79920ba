//! From the text of a configuration to its types.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use pgm_proto::{Defaults, RepositoryName, ServerName};

use super::entry::Entry;
use super::error::ConfigError;
use super::member::{Member, MemberGroup};
use super::os_user::OsUser;
use super::registry::Group;
use super::section::{Reading, Section, surroundings};
use super::settings::{Config, FurtherRepositoryConfig, ServerConfig};
use super::source::{Entries, Source};
use super::standbys;

/// A configuration is small; a larger file is something else.
pub(super) const BYTES_MAX: u64 = 4 << 20;

/// Reads `file`; settings that cannot change now keep the values that are `in_force`.
pub(super) fn load(file: &Path, in_force: &[Entry]) -> Result<Config, ConfigError> {
    let (text, mode) = read(file)?;
    let mut config = parse(file, &text, &[])?;
    if config.has_password() && mode & 0o077 != 0 {
        return Err(ConfigError::Exposed {
            file: file.to_owned(),
            mode,
        });
    }
    if !in_force.is_empty() {
        // The file is good by itself; now without what has to wait.
        config = parse(file, &text, in_force)?;
    }
    Ok(config)
}

/// The text of `file` and its permission bits.
pub(super) fn read(file: &Path) -> Result<(String, u32), ConfigError> {
    let unreadable = |source| ConfigError::Read {
        file: file.to_owned(),
        source,
    };
    let meta = std::fs::metadata(file).map_err(unreadable)?;
    if meta.len() > BYTES_MAX {
        return Err(unreadable(std::io::Error::other("it is larger than 4 MiB")));
    }
    let text = std::fs::read_to_string(file).map_err(unreadable)?;
    Ok((text, meta.permissions().mode() & 0o7777))
}

/// Reads `text` as if it stood in `file`.
pub(super) fn parse(file: &Path, text: &str, in_force: &[Entry]) -> Result<Config, ConfigError> {
    let absolute = std::path::absolute(file).map_err(|error| ConfigError::Read {
        file: file.to_owned(),
        source: error,
    })?;
    let folder = absolute.parent().unwrap_or(Path::new("/")).to_owned();
    let reading = Reading {
        source: Source { file, text },
        surroundings: surroundings(&folder),
        in_force: in_force
            .iter()
            .map(|entry| (entry.key.as_str(), entry))
            .collect(),
        entries: RefCell::default(),
    };
    let top = Section::top(&reading)?;
    let mut config = Config::read(&top)?;
    config.connection_defaults = connection_defaults(&config);
    config.repositories = repositories(&reading, &top)?;
    config.servers = servers(&reading, &top, &config.connection_defaults)?;
    config.standbys = standbys::read(&reading, &top, &config)?;
    config.entries = reading.entries.take();
    config.file = absolute;
    Ok(config)
}

/// What completes connection strings.
fn connection_defaults(config: &Config) -> Defaults {
    let user = OsUser::current();
    let passfile = config.passfile.clone();
    Defaults {
        user: Some(user.name),
        passfile: passfile.or_else(|| user.home.as_ref().map(|home| home.join(".pgpass"))),
        application_name: Some("pgmd".to_owned()),
        ssl_directory: user.home.map(|home| home.join(".postgresql")),
    }
}

/// The further repositories; none when the field is not there.
fn repositories<'a>(
    reading: &Reading<'a>,
    top: &Section<'a, '_>,
) -> Result<BTreeMap<RepositoryName, FurtherRepositoryConfig>, ConfigError> {
    let source = reading.source;
    let Some(piece) = top.piece("repositories") else {
        return Ok(BTreeMap::new());
    };
    let Entries(entries) = source.value(piece, "`repositories`")?;
    let mut repositories = BTreeMap::new();
    for (key, value) in entries {
        let name: RepositoryName = source.parsed(key, "a repository's name")?;
        if name == RepositoryName::default() {
            let text = format!("`{name}` is the name of the one in `repository`");
            let hint = "give this one another name".to_owned();
            return Err(source.error(key, text, Some(hint)));
        }
        if repositories.contains_key(&name) {
            let text = format!("the repository `{name}` is there twice");
            return Err(source.error(key, text, None));
        }
        let member = Member {
            group: MemberGroup::Repositories,
            name: name.to_string(),
        };
        let section = Section::member(reading, member, value)?;
        let repository = FurtherRepositoryConfig::read(&section)?;
        if repository.path.is_some() == repository.url.is_some() {
            let text = format!("the repository `{name}` needs either `path` or `url`");
            return Err(section.error(text, None));
        }
        repositories.insert(name, repository);
    }
    Ok(repositories)
}

fn servers<'a>(
    reading: &Reading<'a>,
    top: &Section<'a, '_>,
    defaults: &Defaults,
) -> Result<BTreeMap<ServerName, ServerConfig>, ConfigError> {
    let source = reading.source;
    let piece = top.piece("servers").ok_or_else(|| {
        top.error(
            "the configuration needs the field `servers`".to_owned(),
            None,
        )
    })?;
    let Entries(entries) = source.value(piece, "`servers`")?;
    let mut servers = BTreeMap::new();
    for (key, value) in entries {
        let name: ServerName = source.parsed(key, "a server's name")?;
        if servers.contains_key(&name) {
            return Err(source.error(key, format!("the server `{name}` is there twice"), None));
        }
        let member = Member {
            group: MemberGroup::Servers,
            name: name.to_string(),
        };
        let section = Section::member(reading, member, value)?;
        let mut server = ServerConfig::read(&section)?;
        if server.backup_max_rate.is_some() && server.backup_max_rate_kib.is_some() {
            let text =
                format!("the server `{name}` has both `backup_max_rate` and `backup_max_rate_kib`");
            return Err(section.error(text, Some("keep `backup_max_rate`".to_owned())));
        }
        server.conninfo = server
            .conninfo_text
            .parsed()
            .clone()
            .with_defaults(defaults);
        servers.insert(name, server);
    }
    Ok(servers)
}
