//! From the text of a configuration to its types.

use std::collections::BTreeMap;
use std::fmt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use pgm_proto::{ConnInfo, Defaults, Secret, ServerName};
use pgm_storage::Compression;
use serde::Deserialize;
use serde::de::{MapAccess, Visitor};

use super::error::{ConfigError, nearest_hint};
use super::os_user::OsUser;
use super::source::{Piece, Source};
use super::{Config, LogLevel, RepositoryConfig, ServerConfig};

/// A configuration is small; a larger file is something else.
const BYTES_MAX: u64 = 4 << 20;
const JOBS_MAX_DEFAULT: usize = 2;
const JOBS_MAX_LIMIT: usize = 64;
const RATE_KIB: std::ops::RangeInclusive<u32> = 32..=1_048_576;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File<'a> {
    #[serde(borrow, default)]
    log_level: Option<Piece<'a>>,
    #[serde(borrow, default)]
    unix_socket_dir: Option<Piece<'a>>,
    #[serde(borrow, default)]
    repository: Option<Piece<'a>>,
    #[serde(borrow, default)]
    spool: Option<Piece<'a>>,
    #[serde(borrow, default)]
    passfile: Option<Piece<'a>>,
    #[serde(borrow, default)]
    jobs_max: Option<Piece<'a>>,
    #[serde(borrow)]
    servers: Piece<'a>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Repository<'a> {
    #[serde(borrow, default)]
    path: Option<Piece<'a>>,
    #[serde(borrow, default)]
    compression: Option<Piece<'a>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Server<'a> {
    #[serde(borrow)]
    conninfo: Piece<'a>,
    #[serde(borrow, default)]
    slot: Option<Piece<'a>>,
    #[serde(borrow, default)]
    create_slot: Option<Piece<'a>>,
    #[serde(borrow, default)]
    backup_max_rate_kib: Option<Piece<'a>>,
}

/// The entries of a map in their order, so that a name given twice is seen.
struct Entries<'a>(Vec<(Piece<'a>, Piece<'a>)>);

impl<'de: 'a, 'a> Deserialize<'de> for Entries<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EntriesVisitor;

        impl<'de> Visitor<'de> for EntriesVisitor {
            type Value = Vec<(Piece<'de>, Piece<'de>)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("entries in braces: { \"name\": ( … ), }")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(entries)
            }
        }

        deserializer.deserialize_map(EntriesVisitor).map(Entries)
    }
}

/// Reads `file`.
pub(super) fn load(file: &Path) -> Result<Config, ConfigError> {
    let unreadable = |source| ConfigError::Read {
        file: file.to_owned(),
        source,
    };
    let meta = std::fs::metadata(file).map_err(unreadable)?;
    if meta.len() > BYTES_MAX {
        return Err(unreadable(std::io::Error::other("it is larger than 4 MiB")));
    }
    let text = std::fs::read_to_string(file).map_err(unreadable)?;
    let config = parse(file, &text)?;
    let mode = meta.permissions().mode() & 0o7777;
    let password = config
        .servers
        .values()
        .any(|server| server.conninfo.has_password());
    if password && mode & 0o077 != 0 {
        return Err(ConfigError::Exposed {
            file: file.to_owned(),
            mode,
        });
    }
    Ok(config)
}

/// Reads `text` as if it stood in `file`.
pub(super) fn parse(file: &Path, text: &str) -> Result<Config, ConfigError> {
    let source = Source { file, text };
    let shape: File<'_> = source.whole("the configuration")?;
    let file = std::path::absolute(file).map_err(|error| ConfigError::Read {
        file: file.to_owned(),
        source: error,
    })?;
    let folder = file.parent().unwrap_or(Path::new("/")).to_owned();
    let paths = Paths {
        source,
        folder: &folder,
    };
    let user = OsUser::current();
    let home = user.home;
    let passfile = match shape.passfile {
        Some(piece) => Some(paths.path(piece, "`passfile`")?),
        None => home.as_ref().map(|home| home.join(".pgpass")),
    };
    let defaults = Defaults {
        user: Some(user.name),
        passfile,
        application_name: Some("pgmd".to_owned()),
        ssl_directory: home.map(|home| home.join(".postgresql")),
    };
    Ok(Config {
        log_level: shape
            .log_level
            .map_or(Ok(LogLevel::default()), |piece| log_level(source, piece))?,
        unix_socket_dir: paths.path_or(shape.unix_socket_dir, "`unix_socket_dir`", "run")?,
        repository: repository(&paths, shape.repository)?,
        spool: paths.path_or(shape.spool, "`spool`", "spool")?,
        jobs_max: shape
            .jobs_max
            .map_or(Ok(JOBS_MAX_DEFAULT), |piece| jobs_max(source, piece))?,
        servers: servers(source, shape.servers, &defaults)?,
        connection_defaults: defaults,
        file,
    })
}

/// Resolves paths against the configuration's folder.
struct Paths<'a> {
    source: Source<'a>,
    folder: &'a Path,
}

impl<'a> Paths<'a> {
    fn path(&self, piece: Piece<'a>, what: &str) -> Result<PathBuf, ConfigError> {
        let text: String = self.source.value(piece, what)?;
        if text.is_empty() {
            return Err(self.source.error(piece, format!("{what} is empty"), None));
        }
        if text.starts_with('~') || text.contains('$') {
            let hint = "`~` and variables are not expanded: write the whole path".to_owned();
            let text = format!("{what} is not a plain path: {text}");
            return Err(self.source.error(piece, text, Some(hint)));
        }
        Ok(self.folder.join(text))
    }

    fn path_or(
        &self,
        piece: Option<Piece<'a>>,
        what: &str,
        default: &str,
    ) -> Result<PathBuf, ConfigError> {
        piece.map_or_else(
            || Ok(self.folder.join(default)),
            |piece| self.path(piece, what),
        )
    }
}

fn log_level(source: Source<'_>, piece: Piece<'_>) -> Result<LogLevel, ConfigError> {
    // A level may be written as a text or as a bare word.
    let written = piece.trim().get_ron();
    let text = written.trim_matches('"');
    let names = LogLevel::ALL.map(LogLevel::name);
    LogLevel::ALL
        .into_iter()
        .find(|level| level.name() == text)
        .ok_or_else(|| {
            let what = format!("`log_level` cannot be {written}");
            source.error(piece, what, Some(nearest_hint(text, &names)))
        })
}

fn jobs_max<'a>(source: Source<'a>, piece: Piece<'a>) -> Result<usize, ConfigError> {
    let count: usize = source.value(piece, "`jobs_max`")?;
    if (1..=JOBS_MAX_LIMIT).contains(&count) {
        return Ok(count);
    }
    Err(source.error(
        piece,
        format!("`jobs_max` is 1 to {JOBS_MAX_LIMIT}, not {count}"),
        None,
    ))
}

fn repository<'a>(
    paths: &Paths<'a>,
    piece: Option<Piece<'a>>,
) -> Result<RepositoryConfig, ConfigError> {
    let source = paths.source;
    let shape = match piece {
        Some(piece) => source.value(piece, "`repository`")?,
        None => Repository {
            path: None,
            compression: None,
        },
    };
    Ok(RepositoryConfig {
        path: paths.path_or(shape.path, "the repository's `path`", "repository")?,
        compression: match shape.compression {
            Some(piece) => compression(source, piece)?,
            None => Compression::ZSTD,
        },
    })
}

fn compression<'a>(source: Source<'a>, piece: Piece<'a>) -> Result<Compression, ConfigError> {
    let text: String = source.value(piece, "`compression`")?;
    text.parse().map_err(|error| {
        let codec = text.split(':').next().unwrap_or("");
        let known = ["zstd", "lz4", "gzip", "none"];
        let hint = if known.contains(&codec) {
            "a level follows a colon: zstd:3, gzip:6".to_owned()
        } else {
            nearest_hint(codec, &known)
        };
        source.error(piece, format!("`compression`: {error}"), Some(hint))
    })
}

fn servers<'a>(
    source: Source<'a>,
    piece: Piece<'a>,
    defaults: &Defaults,
) -> Result<BTreeMap<ServerName, ServerConfig>, ConfigError> {
    let Entries(entries) = source.value(piece, "`servers`")?;
    let mut servers = BTreeMap::new();
    for (key, value) in entries {
        let name: ServerName = source.parsed(key, "a server's name")?;
        let entry = server(source, &name, value, defaults)?;
        if servers.contains_key(&name) {
            return Err(source.error(key, format!("the server `{name}` is there twice"), None));
        }
        servers.insert(name, entry);
    }
    Ok(servers)
}

fn server<'a>(
    source: Source<'a>,
    name: &ServerName,
    piece: Piece<'a>,
    defaults: &Defaults,
) -> Result<ServerConfig, ConfigError> {
    let shape: Server<'_> = source.value(piece, &format!("the server `{name}`"))?;
    let text: String = source.value(shape.conninfo, "`conninfo`")?;
    let conninfo: ConnInfo = text.parse().map_err(|error: pgm_proto::ConnInfoError| {
        let hint = "as libpq's: \"host=db1 user=backup\" or \"postgresql://backup@db1\"".to_owned();
        source.error(
            shape.conninfo,
            format!("`conninfo` of `{name}`: {error}"),
            Some(hint),
        )
    })?;
    let max_rate = |piece| -> Result<u32, ConfigError> {
        let rate: u32 = source.value(piece, "`backup_max_rate_kib`")?;
        if RATE_KIB.contains(&rate) {
            return Ok(rate);
        }
        let (min, max) = (RATE_KIB.start(), RATE_KIB.end());
        let text = format!("`backup_max_rate_kib` is {min} to {max}, not {rate}");
        Err(source.error(piece, text, None))
    };
    Ok(ServerConfig {
        conninfo: conninfo.with_defaults(defaults),
        conninfo_text: Secret::new(text),
        slot: match shape.slot {
            Some(piece) => source.parsed(piece, "`slot`")?,
            None => "pgmd".parse().expect("a valid slot name"),
        },
        create_slot: match shape.create_slot {
            Some(piece) => source.value(piece, "`create_slot`")?,
            None => true,
        },
        backup_max_rate_kib: shape.backup_max_rate_kib.map(max_rate).transpose()?,
    })
}
