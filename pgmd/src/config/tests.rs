//! Configurations: what is read, and how precisely the rest is refused.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use pgm_storage::Compression;

use super::*;

const FILE: &str = "/etc/pgm/pgmd.ron";

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(Path::new(FILE), text)
}

/// The error and its hint, as a person sees them.
fn complaint(text: &str) -> String {
    let error = parse(text).unwrap_err();
    let hint = error.hint().map(|hint| format!("\nHINT: {hint}"));
    format!("{error}{}", hint.unwrap_or_default())
}

fn name(text: &str) -> ServerName {
    text.parse().unwrap()
}

#[test]
fn the_sample_reads_back() {
    let servers = [
        (
            name("a-1"),
            "postgresql://backup@db2:5433/postgres".to_owned(),
        ),
        (
            name("prod"),
            "host=db1 user=backup application_name='it\\'s \"x\"'".to_owned(),
        ),
    ];
    let config = parse(&sample(&servers)).unwrap();
    assert_eq!(config.servers.len(), 2);
    assert_eq!(config.repository.path, Path::new("/etc/pgm/repository"));
    assert_eq!(config.repository.compression, Compression::ZSTD);
    assert_eq!(config.socket(), Path::new("/etc/pgm/run/.s.pgmd"));
    assert_eq!(
        config.spool_of(&name("a-1")),
        Path::new("/etc/pgm/spool/a-1")
    );
    let server = config.server(&name("a-1")).unwrap();
    assert_eq!(server.slot.as_str(), "pgmd");
    assert!(server.create_slot);
    let awkward = &config.servers[&name("prod")].conninfo;
    assert_eq!(awkward.application_name(), Some("it's \"x\""));
}

#[test]
fn everything_but_the_servers_has_a_default() {
    let config = parse("(servers: {})").unwrap();
    assert_eq!(config.log_level, LogLevel::Info);
    assert_eq!(config.jobs_max, 2);
    assert_eq!(config.spool, Path::new("/etc/pgm/spool"));
}

#[test]
fn absolute_paths_stay() {
    let config =
        parse(r#"(spool: "/mnt/spool", repository: (path: "/mnt/repo"), servers: {})"#).unwrap();
    assert_eq!(config.spool, Path::new("/mnt/spool"));
    assert_eq!(config.repository.path, Path::new("/mnt/repo"));
}

#[test]
fn a_mistyped_field_names_its_place_and_the_nearest_one() {
    let text = "(\n    log_level: \"info\",\n    spol: \"spool\",\n    servers: {},\n)\n";
    assert_eq!(
        complaint(text),
        "/etc/pgm/pgmd.ron:3:5: the configuration has no field `spol`\n\
         HINT: did you mean `spool`? `pgm-cli conf ls` lists every setting"
    );
}

#[test]
fn a_mistyped_field_of_a_server_names_its_place() {
    let text = "(\n  servers: {\n    \"prod\": (\n      conninfo: \"host=a\",\n      slott: \"pgmd\",\n    ),\n  },\n)\n";
    assert_eq!(
        complaint(text),
        "/etc/pgm/pgmd.ron:5:7: the server `prod` has no field `slott`\n\
         HINT: did you mean `slot`? `pgm-cli conf ls` lists every setting"
    );
}

#[test]
fn a_mistyped_value_names_its_place_and_the_nearest_one() {
    assert_eq!(
        complaint("(\n  log_level: \"inof\",\n  servers: {},\n)"),
        "/etc/pgm/pgmd.ron:2:14: `log_level` cannot be \"inof\"\n\
         HINT: did you mean `info`? there are `error`, `warn`, `info`, `debug`, `trace`"
    );
    let codec =
        complaint("(\n  repository: (\n    compression: \"zsdt:3\",\n  ),\n  servers: {},\n)");
    assert!(
        codec.starts_with("/etc/pgm/pgmd.ron:3:18: `repository.compression`: "),
        "{codec}"
    );
    assert!(codec.contains("HINT: did you mean `zstd`?"), "{codec}");
}

#[test]
fn a_value_of_the_wrong_kind_names_its_place() {
    for (text, expected) in [
        (
            "(spool: 5, servers: {})",
            "1:9: `spool` is a text in double quotes",
        ),
        (
            "(jobs_max: 0, servers: {})",
            "1:12: `jobs_max` is 1 to 64, not 0",
        ),
        ("(jobs_max: \"x\", servers: {})", "1:12: `jobs_max`"),
        (
            "(servers: {\"a/b\": (conninfo: \"\")})",
            "1:12: a server's name: `a/b` is not a server name",
        ),
        (
            "(servers: {\"a\": (conninfo: \"\", slot: \"Big\")})",
            "1:38: `slot` of `a`: `Big` is not a replication slot name",
        ),
        (
            "(servers: {\"a\": (conninfo: \"\", create_slot: maybe)})",
            "1:45: `create_slot` of `a` is true or false",
        ),
        (
            "(servers: {\"a\": (slot: \"x\")})",
            "the server `a` needs the field `conninfo`",
        ),
        (
            "(servers: {\"a\": (conninfo: \"\"), \"a\": (conninfo: \"\")})",
            "1:33: the server `a` is there twice",
        ),
        (
            "(servers: {\"a\": (conninfo: \"hots=x\")})",
            "1:28: `conninfo` of `a`:",
        ),
        (
            "(spool: \"~/x\", servers: {})",
            "1:9: `spool`: `~` is not expanded in ~/x",
        ),
        ("(spool: \"a\" jobs_max: 1, servers: {})", "1:"),
        ("", "1:1: "),
        ("(", "1:"),
    ] {
        let complaint = complaint(text);
        assert!(
            complaint.starts_with("/etc/pgm/pgmd.ron:"),
            "{text}: {complaint}"
        );
        assert!(complaint.contains(expected), "{text}: {complaint}");
    }
}

#[test]
fn an_unknown_server_names_the_nearest_one() {
    let config =
        parse("(servers: {\"prod\": (conninfo: \"host=a\"), \"test\": (conninfo: \"host=b\")})")
            .unwrap();
    let error = config.server(&name("prd")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "there is no server `prd` in /etc/pgm/pgmd.ron"
    );
    assert_eq!(
        error.hint().unwrap(),
        "did you mean `prod`? there are `prod`, `test`"
    );
}

#[test]
fn a_password_in_a_file_that_others_can_read_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join(FILE_NAME);
    std::fs::write(
        &file,
        "(servers: {\"a\": (conninfo: \"host=x password=geheim\")})",
    )
    .unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
    let error = Config::load(&file).unwrap_err();
    assert!(error.to_string().contains("holds a password"), "{error}");
    assert!(error.hint().unwrap().starts_with("chmod 600 "));
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let config = Config::load(&file).unwrap();
    assert!(!format!("{config:?}").contains("geheim"));
}

#[test]
fn a_missing_file_says_how_to_make_one() {
    let error = Config::load(Path::new("/nonexistent/pgmd.ron")).unwrap_err();
    assert!(
        error
            .hint()
            .unwrap()
            .starts_with("make one: pgm-cli init /nonexistent")
    );
}

#[test]
fn every_setting_is_declared_once_and_its_default_and_limits_can_be_read() {
    let mut keys: Vec<&str> = settings().iter().map(|setting| setting.key).collect();
    keys.sort_unstable();
    let count = keys.len();
    keys.dedup();
    assert_eq!(keys.len(), count, "a key is declared twice");
    // Every default is read here; the limits of those that have any, when a value stands in the file.
    let text = "(repositories: {\"far\": (path: \"/far\")}, standbys: {\"near\": (server: \"a\", directory: \"/near\")}, \
         servers: {\"a\": (conninfo: \"host=x\")})";
    let config = parse(text).unwrap();
    assert_eq!(config.entries.len(), count);
    for setting in settings() {
        let Some((low, high)) = setting.limits else {
            continue;
        };
        for limit in [low, high] {
            let value = match setting.kind.form {
                Form::Word => limit.to_owned(),
                _ => quoted(limit),
            };
            let (group, name) = setting.key.rsplit_once('.').unwrap_or(("", setting.key));
            let text = match group {
                "" => format!("({name}: {value}, servers: {{}})"),
                "servers.NAME" => {
                    format!("(servers: {{\"a\": (conninfo: \"\", {name}: {value})}})")
                }
                group => format!("({group}: ({name}: {value}), servers: {{}})"),
            };
            parse(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
        }
    }
}

#[test]
fn groups_are_read_with_their_types() {
    let config = parse(
        r#"(
            log_type: "file", log_path: "log/%Y.log", log_rotation_size: "16MiB", log_rotation_age: "1d",
            shutdown_timeout: "30s", master_key: "env: PGM_KEY", pidfile: "/run/pgmd.pid",
            management: (host: "*", port: 5001, idle_timeout: "1h"),
            hooks: (after_backup: ["/bin/true"], before_delete: "exit 1"),
            servers: {"a": (conninfo: "host=x", backup_max_rate: "10MiB", mode: "offline")},
        )"#,
    )
    .unwrap();
    assert_eq!(config.logging.destination, LogType::File);
    assert_eq!(config.logging.rotation_size, ByteSize::new(16 << 20));
    assert_eq!(config.pid_file(), Path::new("/run/pgmd.pid"));
    let management = config.management.as_ref().unwrap();
    assert_eq!((management.host.as_str(), management.port), ("*", 5001));
    assert_eq!(management.max_connections, 64);
    assert_eq!(config.metrics, None, "no port, no metrics");
    assert_eq!(
        config.hooks.before_delete,
        Some(HookCommand::Shell("exit 1".to_owned()))
    );
    let server = config.server(&name("a")).unwrap();
    assert_eq!(server.rate_kib(), Some(10 << 10));
    assert_eq!(server.mode, ServerMode::Offline);
    let both =
        "(servers: {\"a\": (conninfo: \"\", backup_max_rate: \"1MiB\", backup_max_rate_kib: 64)})";
    assert!(complaint(both).contains("has both"), "{}", complaint(both));
}
