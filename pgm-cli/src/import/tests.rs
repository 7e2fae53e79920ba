//! Imports: a full configuration, and whatever else may be in such a file.

use std::path::Path;

use pgmd::config::{Config, LogLevel};
use proptest::prelude::*;

use super::*;

const FULL: &str = include_str!("testdata/pgmoneta.conf");
const USERS_FILE: &str = "# users\nrepl:c2VhbGVkLXNlY3JldA==\nother:YWxzbyBzZWNyZXQ=\nnonsense\n";

fn config(imported: &Imported) -> Config {
    Config::parse(Path::new("/etc/pgm/pgmd.ron"), &imported.text)
        .unwrap_or_else(|error| panic!("{error}\n{}", imported.text))
}

fn outcome(imported: &Imported, section: &str, key: &str) -> Outcome {
    let mut lines = imported.findings.iter();
    let found = lines.find(|line| line.section == section && line.key == key);
    found
        .unwrap_or_else(|| panic!("nothing is said of [{section}] {key}"))
        .outcome
}

#[test]
fn a_full_configuration_is_converted() {
    let imported = import("pgmoneta.conf", FULL, Some(USERS_FILE));
    let config = config(&imported);
    let value = |key: &str| config.entries_of(Some(key)).unwrap()[0].shown().to_owned();
    for (key, expected) in [
        ("unix_socket_dir", "/run/pgmoneta"),
        ("repository.path", "/var/lib/pgmoneta/pgm"),
        ("repository.compression", "gzip:9"),
        ("metrics.host", "*"),
        ("metrics.port", "5001"),
        ("metrics.cache_max_age", "5s"),
        ("metrics.tls_key_file", "/etc/pgmoneta/metrics.key"),
        ("management.host", "*"),
        ("management.port", "5002"),
        ("management.tls_ca_file", "/etc/pgmoneta/ca.crt"),
        ("management.authentication_timeout", "15s"),
        ("log_type", "file"),
        ("log_path", "/var/log/pgmoneta/%Y-%m-%d.log"),
        ("log_mode", "append"),
        ("log_rotation_age", "1d"),
        ("log_rotation_size", "64MiB"),
        ("pidfile", "/run/pgmoneta/pgmoneta.pid"),
        ("update_process_title", "true"),
        ("servers.primary.slot", "repl"),
        ("servers.primary.create_slot", "true"),
        ("servers.primary.backup_max_rate", "10MiB"),
        ("servers.replica_1.create_slot", "false"),
        ("servers.replica_1.backup_max_rate", "50MiB"),
    ] {
        assert_eq!(value(key), expected, "{key}");
    }
    assert_eq!(config.log_level, LogLevel::Trace);
    assert_eq!(
        value("servers.replica_1.conninfo"),
        "host=/var/run/postgresql port=5433 user='backup user' sslmode=verify-ca sslcert=/etc/pgmoneta/r.crt \
         sslkey=/etc/pgmoneta/r.key sslrootcert=/etc/pgmoneta/ca.crt"
    );
    assert_eq!(imported.servers, 2);
}

#[test]
fn every_key_has_a_line_and_no_secret_is_in_any() {
    let imported = import("pgmoneta.conf", FULL, Some(USERS_FILE));
    let ini = Ini::parse(FULL);
    for entry in &ini.entries {
        let mut lines = imported.findings.iter();
        assert!(lines.any(|line| line.line == Some(entry.line)), "{entry:?}");
    }
    // The file has every key that pgmoneta has.
    for (table, section) in [(rules::MAIN, "pgmoneta"), (rules::SERVER, "primary")] {
        for (key, _) in table {
            assert!(
                ini.entries.iter().any(|entry| entry.key == *key),
                "the full configuration has no {key} in [{section}]"
            );
        }
    }
    let everything = format!("{:?}{}", imported.findings, imported.text);
    for secret in ["geheim", "c2VhbGVkLXNlY3JldA", "YWxzbyBzZWNyZXQ", "AKIA"] {
        assert!(!everything.contains(secret), "{secret}");
    }
    for (section, key, expected) in [
        ("pgmoneta", "retention", Outcome::NoCounterpart),
        ("pgmoneta", "encryption", Outcome::NoCounterpart),
        ("pgmoneta", "s3_secret_access_key", Outcome::NoCounterpart),
        ("pgmoneta", "workers", Outcome::NotNeeded),
        ("pgmoneta", "nonsense", Outcome::Unknown),
        ("primary", "follow", Outcome::NoCounterpart),
        ("users", "repl", Outcome::EnterAgain),
        ("users", "other", Outcome::NotNeeded),
    ] {
        assert_eq!(
            outcome(&imported, section, key),
            expected,
            "[{section}] {key}"
        );
    }
}

#[test]
fn what_cannot_be_used_is_left_out_and_said() {
    let text = "[pgmoneta]\nbase_dir = /b\nmanagement = 5000\nmetrics = 99999\nlog_level = loud\ncompression = rar\n\
                metrics_cache_max_age = 1y\nlog_path = $NOWHERE_AT_ALL/x\ntls_cert_file = /c\n\n\
                [nohost]\nuser = u\nwal_slot = s\n[badport]\nhost = h\nuser = u\nport = many\n\
                [slotless]\nhost = h\nuser = u\nwal_slot = Not-Good\nmax_rate = 1\n";
    let imported = import("x", text, None);
    let config = config(&imported);
    assert_eq!(imported.servers, 1);
    assert_eq!(config.servers.len(), 1);
    for key in [
        "management",
        "metrics",
        "log_level",
        "compression",
        "metrics_cache_max_age",
        "log_path",
        "tls_cert_file",
    ] {
        assert_eq!(
            outcome(&imported, "pgmoneta", key),
            Outcome::Unusable,
            "{key}"
        );
    }
    for section in ["nohost", "badport"] {
        assert_eq!(
            outcome(&imported, section, ""),
            Outcome::Unusable,
            "{section}"
        );
    }
    assert_eq!(
        outcome(&imported, "slotless", "wal_slot"),
        Outcome::Unusable
    );
    assert_eq!(
        outcome(&imported, "slotless", "max_rate"),
        Outcome::Unusable
    );
    assert_eq!(config.management, None, "no TLS, no port");
}

#[test]
fn names_that_pgm_does_not_have_are_changed() {
    let text = "[my.db]\nhost=h\nuser=u\nwal_slot=s\n[my db]\nhost=h\nuser=u\nwal_slot=s\n[\u{e4}]\nhost=h\nuser=u\n";
    let names: Vec<String> = config(&import("x", text, None))
        .servers
        .keys()
        .map(ToString::to_string)
        .collect();
    assert_eq!(names, ["_", "my_db", "my_db_2"]);
}

/// A line of such a file, or of none.
fn any_line() -> impl Strategy<Value = String> {
    let keys: Vec<&str> = rules::MAIN
        .iter()
        .chain(rules::SERVER)
        .map(|(key, _)| *key)
        .collect();
    let value = prop_oneof![
        "\\PC{0,12}",
        "[0-9]{1,25}[a-zA-Z]{0,2}",
        prop::sample::select(vec![
            "on",
            "off",
            "zstd",
            "server-gzip",
            "*",
            "$HOME/x",
            "$",
            "~",
            "[\"a\"]",
            "none",
            "None",
            "a'b\\c\"",
            "/",
            "-1",
            "%Q",
            "\u{0}\u{1b}[2J",
            "debug5",
            "\u{202e}",
        ])
        .prop_map(str::to_owned),
    ];
    prop_oneof![
        6 => (prop::sample::select(keys), value).prop_map(|(key, value)| format!("{key} = {value}")),
        2 => "\\PC{0,10}".prop_map(|name| format!("[{name}]")),
        1 => Just("[pgmoneta]".to_owned()),
        1 => "\\PC{0,20}",
    ]
}

proptest! {
    #[test]
    fn any_file_becomes_a_configuration_that_can_be_used(
        lines in prop::collection::vec(any_line(), 0..40),
        users in "\\PC{0,40}",
    ) {
        let text = lines.join("\n");
        let imported = import("x\n(\u{1b}", &text, Some(&users));
        let parsed = Config::parse(Path::new("/etc/pgm/pgmd.ron"), &imported.text);
        prop_assert!(parsed.is_ok(), "{}\n{}", parsed.unwrap_err(), imported.text);
        prop_assert_eq!(parsed.unwrap().servers.len(), imported.servers);
        for entry in Ini::parse(&text).entries {
            prop_assert!(imported.findings.iter().any(|line| line.line == Some(entry.line)), "{:?}", entry);
        }
    }
}
