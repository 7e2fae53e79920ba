//! Configurations: what is read, and how precisely the rest is refused.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

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
         HINT: did you mean `spool`? there are `log_level`, `unix_socket_dir`, `repository`, `spool`, `passfile`, \
         `jobs_max`, `servers`"
    );
}

#[test]
fn a_mistyped_field_of_a_server_names_its_place() {
    let text = "(\n  servers: {\n    \"prod\": (\n      conninfo: \"host=a\",\n      slott: \"pgmd\",\n    ),\n  },\n)\n";
    assert_eq!(
        complaint(text),
        "/etc/pgm/pgmd.ron:5:7: the server `prod` has no field `slott`\n\
         HINT: did you mean `slot`? there are `conninfo`, `slot`, `create_slot`, `backup_max_rate_kib`"
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
        codec.starts_with("/etc/pgm/pgmd.ron:3:18: `compression`: "),
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
            "1:38: `slot`: `Big` is not a replication slot name",
        ),
        (
            "(servers: {\"a\": (conninfo: \"\", create_slot: maybe)})",
            "1:45: `create_slot` is true or false",
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
            "1:9: `spool` is not a plain path: ~/x",
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
