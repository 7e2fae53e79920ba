//! Changes of one setting: what the text looks like afterwards, and that nothing else is touched.

use std::path::Path;

use proptest::prelude::*;

use super::super::change::changed_text;
use super::super::{Config, Key, sample};

const FILE: &str = "/etc/pgm/pgmd.ron";

fn change(text: &str, key: &str, value: Option<&str>) -> Result<String, String> {
    let key = Key::new(key);
    let setting = key.setting().map_err(|error| error.to_string())?;
    changed_text(Path::new(FILE), text, &key, setting, value).map_err(|error| error.to_string())
}

fn set(text: &str, key: &str, value: &str) -> String {
    change(text, key, Some(value)).unwrap()
}

fn unset(text: &str, key: &str) -> String {
    change(text, key, None).unwrap()
}

const COMMENTED: &str = "\
// ours
(
    log_level: \"info\", // how much
    /* where */ spool : \"spool\" /* here */ ,

    // Many servers.
    servers: {
        \"a\": (
            conninfo: \"host=x\", // the first
            // slot: \"other\",
        ),
        \"b\": (conninfo: \"host=y\"),
    },
    // the end
)
";

#[test]
fn a_value_that_is_there_is_replaced() {
    assert_eq!(
        set(COMMENTED, "log_level", "debug"),
        COMMENTED.replace("\"info\"", "\"debug\"")
    );
    assert_eq!(
        set(COMMENTED, "spool", "$$x"),
        COMMENTED.replace("\"spool\"", "\"$$x\"")
    );
    assert_eq!(
        set(COMMENTED, "server.a.conninfo", "host=\"z\""),
        COMMENTED.replace("\"host=x\"", "\"host=\\\"z\\\"\"")
    );
}

#[test]
fn a_new_one_follows_the_others_before_the_servers() {
    assert_eq!(
        set(COMMENTED, "jobs_max", "4"),
        COMMENTED.replace("/* here */ ,\n", "/* here */ , jobs_max: 4,\n"),
        "the field before shares its line with a comment, so the new one does, too"
    );
    let plain = "(\n  spool: \"s\", // x\n  servers: {},\n)\n";
    assert_eq!(
        set(plain, "jobs_max", "4"),
        "(\n  spool: \"s\", // x\n  jobs_max: 4,\n  servers: {},\n)\n"
    );
    assert_eq!(
        set(plain, "management.port", "5001"),
        "(\n  spool: \"s\", // x\n  management: (\n      port: 5001,\n  ),\n  servers: {},\n)\n"
    );
    assert_eq!(
        set("(servers: {})", "jobs_max", "4"),
        "(servers: {}, jobs_max: 4)"
    );
    assert_eq!(
        set("(servers: {},)", "metrics.port", "9187"),
        "(servers: {}, metrics: (port: 9187),)"
    );
    assert_eq!(
        set("(hooks: (), servers: {})", "hooks.timeout", "60"),
        "(hooks: (timeout: 60), servers: {})"
    );
}

#[test]
fn a_new_one_of_a_server_goes_into_its_parentheses() {
    assert_eq!(
        set(COMMENTED, "servers.a.slot", "mine"),
        COMMENTED.replace(
            "// the first\n",
            "// the first\n            slot: \"mine\",\n"
        )
    );
    assert_eq!(
        set(COMMENTED, "servers.b.create_slot", "false"),
        COMMENTED.replace("host=y\")", "host=y\", create_slot: false)")
    );
    assert_eq!(
        change(COMMENTED, "servers.c.slot", Some("mine")).unwrap_err(),
        "there is no server `c` in /etc/pgm/pgmd.ron"
    );
}

#[test]
fn a_missing_comma_is_added() {
    assert_eq!(
        set("(\n  servers: {},\n  spool: \"s\" // x\n)", "jobs_max", "4"),
        "(\n  servers: {},\n  spool: \"s\", // x\n  jobs_max: 4,\n)"
    );
}

#[test]
fn taking_one_out_leaves_the_rest() {
    let text = "(\n  spool: \"s\", // x\n  jobs_max: 4,\n  servers: {},\n)\n";
    assert_eq!(
        unset(text, "jobs_max"),
        "(\n  spool: \"s\", // x\n  servers: {},\n)\n"
    );
    assert_eq!(
        unset(text, "spool"),
        "(\n  // x\n  jobs_max: 4,\n  servers: {},\n)\n",
        "comments stay"
    );
    assert_eq!(unset(text, "log_level"), text);
    assert_eq!(
        unset("(jobs_max: 4, servers: {})", "jobs_max"),
        "(servers: {})"
    );
    assert!(
        change(COMMENTED, "servers.a.conninfo", None)
            .unwrap_err()
            .contains("needs the field `conninfo`")
    );
}

#[test]
fn a_value_that_cannot_be_used_is_named() {
    for (key, value, expected) in [
        ("jobs_max", "0", "`jobs_max` is 1 to 64, not 0"),
        (
            "jobs_max",
            "2, log_level: debug",
            "`jobs_max` is a whole number, not 2, log_level: debug",
        ),
        ("log_level", "inof", "`log_level` cannot be \"inof\""),
        (
            "management.allow_plaintext",
            "yes",
            "`management.allow_plaintext` is true or false",
        ),
        (
            "servers.a.slot",
            "Big",
            "`servers.a.slot`: `Big` is not a replication slot name",
        ),
        ("jobs_mx", "1", "there is no setting `jobs_mx`"),
        ("spool", "none", "`spool` is a text in double quotes"),
    ] {
        let error = change(COMMENTED, key, Some(value)).unwrap_err();
        assert!(error.starts_with(expected), "{key} {value}: {error}");
    }
}

/// Settings with values that fit.
const VALUES: [(&str, &str); 14] = [
    ("log_level", "trace"),
    ("spool", "/a/\"b\""),
    ("pidfile", "run $$/x"),
    ("jobs_max", "7"),
    ("update_process_title", "false"),
    ("shutdown_timeout", "1min"),
    ("log_rotation_size", "4096"),
    ("repository.compression", "none"),
    ("management.host", "ho(s)t, // {"),
    ("management.port", "1"),
    ("hooks.before_backup", "[\"a\", \"b\\\\\"]"),
    ("hooks.after_backup", "echo /* \"x\" */ // y"),
    ("servers.a.slot", "other"),
    ("servers.a.backup_max_rate", "1MiB"),
];

/// The comments in the documents, and how often each is in `text`.
fn comments(text: &str) -> Vec<usize> {
    let comments = [
        "// c1",
        "/* c2 /* c3 */ */",
        "// c4",
        "/* c5 */",
        "// the port",
        "/* r */",
        "// the servers",
        "// a",
        "// last",
    ];
    comments
        .map(|comment| text.matches(comment).count())
        .to_vec()
}

/// A field in one of several layouts.
fn field() -> impl Strategy<Value = String> {
    let fields = prop::sample::select(vec![
        "log_level: \"info\"",
        "spool: r#\"a\"b\"#",
        "jobs_max: 3",
        "management: ()",
        "management: (port: 5, host: \"x\")",
        "management: (\n        port: 5, // the port\n        )",
        "hooks: (\n\n    before_backup: [\"x\",],\n    )",
        "repository: ( /* r */ )",
        "r#pidfile: \"x\"",
        "shutdown_timeout: 5",
    ]);
    let before = prop::sample::select(vec![
        "",
        "\n    ",
        "\n// c1\n\t",
        " /* c2 /* c3 */ */ ",
        "\r\n  ",
    ]);
    let after = prop::sample::select(vec!["", " ", " // c4\n", "/* c5 */", "\n"]);
    (before, fields, after).prop_map(|(before, field, after)| format!("{before}{field}{after}"))
}

fn document() -> impl Strategy<Value = String> {
    let servers = prop::sample::select(vec![
        "servers: {\"a\": (conninfo: \"host=x\")}",
        "\n    // the servers\n    servers: {\n        \"a\": (\n            conninfo: \"host=x\", // a\n        ),\n    }",
        "servers: {\"a\": (slot: \"x\", conninfo: \"\"), \"b\": (conninfo: \"\",)}",
    ]);
    let end = prop::sample::select(vec![")", ",)", ",\n)\n", "// last\n)", " , // last\n )"]);
    (
        prop::collection::vec(field(), 0..4),
        servers,
        0usize..5,
        end,
    )
        .prop_map(|(mut fields, servers, at, end)| {
            fields.insert(at.min(fields.len()), servers.to_owned());
            format!("({}{end}", fields.join(","))
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn whatever_is_set_is_read_back_and_all_else_stays(
        text in document(),
        choices in prop::collection::vec(prop::sample::select(VALUES.to_vec()), 1..4),
    ) {
        prop_assume!(Config::parse(Path::new(FILE), &text).is_ok());
        let mut text = text;
        for (key, value) in choices {
            // `changed_text` itself compares all the other settings.
            let new = change(&text, key, Some(value)).map_err(|error| {
                TestCaseError::fail(format!("{key} = {value}: {error}\n{text}"))
            })?;
            let config = Config::parse(Path::new(FILE), &new).unwrap();
            let entry = config.entries_of(Some(key)).unwrap()[0];
            let again = change(&new, key, Some(entry.text.expose())).unwrap();
            let reread = Config::parse(Path::new(FILE), &again).unwrap();
            prop_assert_eq!(&reread.entries_of(Some(key)).unwrap()[0].text, &entry.text);
            prop_assert_eq!(comments(&new), comments(&text), "{}", new);
            let without = change(&new, key, None).map_err(TestCaseError::fail)?;
            let config = Config::parse(Path::new(FILE), &without).unwrap();
            prop_assert_eq!(comments(&without), comments(&text), "{}", without);
            let entry = config.entries_of(Some(key)).unwrap()[0];
            prop_assert_eq!(entry.line, None);
            text = new;
        }
    }

    #[test]
    fn no_text_makes_it_panic(text in "\\PC{0,40}", spliced in 0usize..400, cut in 0usize..400) {
        let _ = Config::parse(Path::new(FILE), &text);
        let _ = change(&text, "jobs_max", Some("4"));
        // The sample with something in it, or cut off.
        let good = sample(&[("a".parse().unwrap(), "host=x".to_owned())]);
        let at = (0..=spliced.min(good.len())).rev().find(|at| good.is_char_boundary(*at)).unwrap();
        let to = (at..=good.len()).find(|to| *to >= at + cut && good.is_char_boundary(*to));
        let broken = format!("{}{text}{}", &good[..at], &good[to.unwrap_or(good.len())..]);
        if change(&broken, "hooks.timeout", Some("4")).is_ok() {
            prop_assert!(Config::parse(Path::new(FILE), &broken).is_ok());
        }
    }
}
