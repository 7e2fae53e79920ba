//! The directories that are kept ready to be started as standbys: a map of its own in the file.
//!
//! What pgmd keeps up to date it also removes files from, so no two of them, nothing else of pgm's, and no folder of settings
//! may lie in one another.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use pgm_proto::ServerName;

use super::error::{ConfigError, nearest_hint};
use super::member::{Member, MemberGroup};
use super::registry::Group as _;
use super::section::{Reading, Section};
use super::settings::{Config, StandbyConfig};
use super::source::Entries;
use super::value::TablespacePlaces;

/// How many one server may have.
const PER_SERVER_MAX: usize = 8;

/// The standbys; none when the field is not there.
pub(super) fn read<'a>(
    reading: &Reading<'a>,
    top: &Section<'a, '_>,
    config: &Config,
) -> Result<BTreeMap<String, StandbyConfig>, ConfigError> {
    let source = reading.source;
    let Some(piece) = top.piece("standbys") else {
        return Ok(BTreeMap::new());
    };
    let Entries(entries) = source.value(piece, "`standbys`")?;
    let mut standbys = BTreeMap::new();
    let mut taken = Taken::of(config);
    for (key, value) in entries {
        let name: ServerName = source.parsed(key, "a standby's name")?;
        let name = name.to_string();
        if standbys.contains_key(&name) {
            return Err(source.error(key, format!("the standby `{name}` is there twice"), None));
        }
        let member = Member {
            group: MemberGroup::Standbys,
            name: name.clone(),
        };
        let section = Section::member(reading, member, value)?;
        let standby = StandbyConfig::read(&section)?;
        let wrong = judge(&standby, config, &standbys).or_else(|| taken.add(&name, &standby));
        if let Some((text, hint)) = wrong {
            return Err(section.error(format!("the standby `{name}` {text}"), hint));
        }
        standbys.insert(name, standby);
    }
    Ok(standbys)
}

/// What is wrong with a standby by itself, and what to do.
type Wrong = Option<(String, Option<String>)>;

fn judge(
    standby: &StandbyConfig,
    config: &Config,
    before: &BTreeMap<String, StandbyConfig>,
) -> Wrong {
    let server = &standby.server;
    if !config.servers.contains_key(server) {
        let known: Vec<&str> = config.servers.keys().map(ServerName::as_str).collect();
        let text = format!("is of the server `{server}`, which is not in `servers`");
        return Some((text, Some(nearest_hint(server.as_str(), &known))));
    }
    let others = before.values().filter(|other| other.server == *server);
    if others.count() >= PER_SERVER_MAX {
        let text = format!("is one too many: a server has at most {PER_SERVER_MAX}");
        return Some((text, None));
    }
    let has_password = |conninfo: &super::ConninfoText| conninfo.parsed().has_password();
    if standby.primary_conninfo.as_ref().is_some_and(has_password) {
        let hint = "write passfile=FILE into it; the file is read by the standby's user";
        let text =
            "has a password in `primary_conninfo`, which would be written into its directory";
        return Some((text.into(), Some(hint.into())));
    }
    None
}

/// Folders that are somebody's already, and whose.
struct Taken(Vec<(PathBuf, String)>);

impl Taken {
    fn of(config: &Config) -> Self {
        let mut taken = vec![
            (config.spool.clone(), "the spool".to_owned()),
            (
                config.unix_socket_dir.clone(),
                "`unix_socket_dir`".to_owned(),
            ),
            (config.verify.scratch.clone(), "`verify.scratch`".to_owned()),
        ];
        for target in config.targets() {
            let name = format!("the repository `{}`", target.place.name);
            taken.extend(target.place.folder().map(|folder| (folder, name)));
        }
        Self(taken)
    }

    /// Takes the folders of one more, or says which overlap.
    fn add(&mut self, name: &str, standby: &StandbyConfig) -> Wrong {
        let mut own = vec![standby.directory.as_path()];
        own.extend(
            standby
                .tablespaces
                .iter()
                .flat_map(TablespacePlaces::pairs)
                .map(|(_, to)| to),
        );
        for (index, folder) in own.iter().enumerate() {
            if folder.parent().is_none() {
                return Some(("cannot have the root folder".into(), None));
            }
            if folder.components().any(|part| part == Component::ParentDir) {
                let text = format!("has {}, which goes up again", folder.display());
                return Some((text, Some("write the path without `..`".into())));
            }
            let others = self
                .0
                .iter()
                .map(|(path, whose)| (path.as_path(), whose.as_str()));
            let own = own[..index]
                .iter()
                .map(|path| (*path, "another folder of its own"));
            let settings = standby.overrides.as_deref();
            let settings = settings.map(|path| (path, "its `overrides`"));
            let mut all = others.chain(own).chain(settings);
            if let Some((path, whose)) = all.find(|(path, _)| overlap(folder, path)) {
                let (folder, path) = (folder.display(), path.display());
                let text = format!("has {folder}, which overlaps {whose} in {path}");
                return Some((text, Some("give it a folder of its own".into())));
            }
        }
        let whose = format!("the standby `{name}`");
        self.0
            .extend(own.into_iter().map(|path| (path.to_owned(), whose.clone())));
        None
    }
}

fn overlap(one: &Path, other: &Path) -> bool {
    let plain = |path: &Path| path.components().collect::<PathBuf>();
    let (one, other) = (plain(one), plain(other));
    one.starts_with(&other) || other.starts_with(&one)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(standbys: &str) -> Result<Config, ConfigError> {
        let text = format!(
            "(repository: (path: \"/repo\"), spool: \"/spool\", standbys: {{{standbys}}}, \
             servers: {{\"a\": (conninfo: \"host=x\"), \"b\": (conninfo: \"host=y\")}})"
        );
        Config::parse(Path::new("/etc/pgm/pgmd.ron"), &text)
    }

    fn refusal(standbys: &str) -> String {
        parse(standbys).unwrap_err().to_string()
    }

    #[test]
    fn a_standby_has_folders_settings_and_a_primary() {
        let config = parse(
            "\"near\": (server: \"a\", directory: \"/standby/a\", overrides: \"own\", \
             tablespaces: [\"/srv/fast=/standby/fast\"], primary_conninfo: \"host=x user=r passfile=/p\"), \
             \"far\": (server: \"a\", directory: \"/standby/a2\")",
        )
        .unwrap();
        let near = &config.standbys["near"];
        assert_eq!(near.overrides.as_deref(), Some(Path::new("/etc/pgm/own")));
        let places = near.tablespaces.as_ref().unwrap().pairs().next().unwrap();
        assert_eq!(places, (Path::new("/srv/fast"), Path::new("/standby/fast")));
        assert_eq!(config.standbys["far"].primary_conninfo, None);
    }

    #[test]
    fn folders_do_not_overlap() {
        for (folder, with) in [
            ("/repo/x", "the repository `default`"),
            ("/", "root folder"),
            ("/spool", "the spool"),
            ("/s/../spool", "goes up"),
            ("/etc/pgm", "overlaps"),
        ] {
            let said = refusal(&format!("\"x\": (server: \"a\", directory: \"{folder}\")"));
            assert!(said.contains(with), "{folder}: {said}");
        }
        let two = "\"x\": (server: \"a\", directory: \"/s/x\"), \"y\": (server: \"b\", directory: \"/s/./x/\")";
        assert!(refusal(two).contains("the standby `x`"), "{}", refusal(two));
        let space = "\"x\": (server: \"a\", directory: \"/s/x\", tablespaces: \"/t=/s/x/t\")";
        assert!(refusal(space).contains("another folder of its own"));
        let own = "\"x\": (server: \"a\", directory: \"/s/x\", overrides: \"/s/x/own\")";
        assert!(refusal(own).contains("its `overrides`"));
    }

    #[test]
    fn what_cannot_be_a_standby_is_refused() {
        let missing = refusal("\"x\": (server: \"c\", directory: \"/s/x\")");
        assert!(missing.contains("which is not in `servers`"), "{missing}");
        let password = "\"x\": (server: \"a\", directory: \"/s/x\", primary_conninfo: \"host=x password=canary\")";
        let said = parse(password).unwrap_err();
        assert!(said.to_string().contains("has a password"), "{said}");
        assert!(!format!("{said:?}").contains("canary"), "{said:?}");
        let place = "\"x\": (server: \"a\", directory: \"/s/x\", tablespaces: \"fast=/s/y\")";
        assert!(refusal(place).contains("absolute"));
        let nine = (0..9).map(|n| format!("\"x{n}\": (server: \"a\", directory: \"/s/x{n}\")"));
        let nine: Vec<String> = nine.collect();
        assert!(refusal(&nine.join(", ")).contains("at most 8"));
        assert!(parse(&nine[..8].join(", ")).is_ok());
    }
}
