//! The reference page of the configuration, `docs/configuration.md`, made from the declarations of the settings.

use std::fmt::Write as _;

use super::registry::{DefaultValue, Setting};
use super::settings;
use super::value::Kind;

/// How the page is made again after a setting has changed.
pub const REGENERATE: &str = "PGM_WRITE_REFERENCE=1 cargo test -p pgmd --lib reference_page";

const HEAD: &str = "\
# Configuration

One file, `pgmd.ron` in the base directory (`pgmd -D DIR`, `pgm-cli -D DIR`), in [RON](https://github.com/ron-rs/ron):

```ron
// comments like this one or /* like this one */
(
    log_level: \"info\",
    shutdown_timeout: \"10s\",
    repository: (
        path: \"/var/lib/pgm/repository\",
        compression: \"zstd:3\",
    ),
    servers: {
        \"prod\": (
            conninfo: \"host=db1 user=backup\",
        ),
    },
)
```

`pgm-cli init DIR --server NAME=CONNINFO` writes one, commented. `pgmd --check-config -D DIR` checks it: an error names file,
line and column, says what was expected, and offers the nearest name for a mistyped one.

## Values

- Texts, paths, sizes and durations stand in double quotes; numbers, `true` and `false` do not. `None` is no value.
- **Paths**: relative ones start at the folder of the file. `$NAME` and `${NAME}` are environment variables of pgmd (one that is
  not set is an error), `$$` is a dollar sign; `~` is not expanded.
- **Sizes**: `\"512k\"`, `\"16MiB\"`, `\"1GB\"`: k, M, G, T, P with or without `B` or `iB`, all powers of 1024 as in PostgreSQL's own settings; a
  plain number counts bytes.
- **Durations**: `\"500ms\"`, `\"10s\"`, `\"5min\"`, `\"2h\"`, `\"1d\"`, `\"1h 30min\"`; a plain number counts seconds.
- **Commands**: a text for `sh -c`, or a list of words that are passed on as they are: `[\"/usr/local/bin/notify\", \"a b\"]`.
- The file may hold a password in a `conninfo` only if nobody but its owner can read it (mode 0600).

## Looking and changing

| | |
|---|---|
| `pgm-cli conf ls [KEY]` | every setting with its value, its default, where it comes from, and when a change takes effect; `--long` describes them |
| `pgm-cli conf get KEY` | the value alone; for a section, `KEY=VALUE` lines for the shell |
| `pgm-cli conf set KEY VALUE` | changes the file and applies it; `--default` takes the setting out |
| `pgm-cli conf reload`, SIGHUP | reads the file again after you have edited it |

A key is the dotted path of a setting: `jobs_max`, `management.port`, `servers.prod.slot` (or `server.prod.slot`). `ls`, `get` and `set` work
without pgmd, too, on the file. `conf set` keeps comments and order; the new file is checked as a whole first and replaces
the old one atomically, with its mode and owner. Both `set` and `reload` say what is in force now and what needs a restart;
until then the old value is in force, and `conf ls` shows both. A file that cannot be used changes nothing: the error says
why, and pgmd goes on with the configuration it has. Servers come and go with a reload.

`conf reload` works only on pgmd's own host. From afar, `conf set` takes a user with the role admin, and does not set what can
name a command (hooks, `master_key`).
";

const REPOSITORIES: &str = "\
`repositories` is a map from names to settings: `repositories: { \"offsite\": (url: \"s3://bucket/pgm\"), }`. WAL goes to all of them and to the one in
`repository`, whose name is `default`; a backup, too, unless it says where. They come and go with a reload.
";

const STANDBYS: &str = "\
`standbys` is a map from names to settings: `standbys: { \"near\": (server: \"prod\", directory: \"/standby/prod\"), }`. At most 8 are of one server. They
come and go with a reload.
";

const SERVERS: &str = "\
`servers` is a map from names to settings: `servers: { \"prod\": (conninfo: \"…\"), }`. A name has letters, digits, `_` and `-`.
";

/// The text of the page.
pub fn page() -> String {
    let mut page = HEAD.to_owned();
    let mut section = None;
    for setting in settings::all() {
        let group = setting.key.rsplit_once('.').map_or("", |(group, _)| group);
        if section != Some(group) {
            section = Some(group);
            page += &heading(group);
        }
        page += &row(setting);
    }
    let _ = write!(
        page,
        "\n<!-- Made from pgmd/src/config/settings.rs: {REGENERATE} -->\n"
    );
    page
}

fn heading(group: &str) -> String {
    let (title, text) = match group {
        "" => ("Top level", String::new()),
        "servers.NAME" => ("servers", format!("{SERVERS}\n")),
        "repositories.NAME" => ("repositories", format!("{REPOSITORIES}\n")),
        "standbys.NAME" => ("standbys", format!("{STANDBYS}\n")),
        group => (group, format!("Inside `{group}: ( … )`.\n\n")),
    };
    format!(
        "\n## {title}\n\n{text}| setting | default | values | a change takes effect | |\n|---|---|---|---|---|\n"
    )
}

fn row(setting: &Setting) -> String {
    let name = setting.key.rsplit('.').next().unwrap_or(setting.key);
    let default = match setting.default {
        DefaultValue::Is(text) => format!("`{text}`"),
        other => other.describe(),
    };
    format!(
        "| `{name}` | {default} | {} | {} | {} |\n",
        values(setting),
        setting.reload.describe(),
        setting.help.replace('|', "\\|")
    )
}

/// What can be written, in words.
fn values(setting: &Setting) -> String {
    let Kind { name, choices, .. } = setting.kind;
    if !choices.is_empty() {
        let choices: Vec<String> = choices.iter().map(|choice| format!("`{choice}`")).collect();
        return choices.join(", ");
    }
    match setting.limits {
        Some((low, high)) => format!("{name}, {low} to {high}"),
        None => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reference_page_is_what_the_declarations_say() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/configuration.md");
        if std::env::var_os("PGM_WRITE_REFERENCE").is_some() {
            std::fs::write(file, page()).unwrap();
        }
        let written = std::fs::read_to_string(file).unwrap_or_default();
        assert!(
            written == page(),
            "docs/configuration.md is stale; make it again: {REGENERATE}"
        );
    }
}
