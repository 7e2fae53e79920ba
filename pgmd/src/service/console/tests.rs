//! What commands mean, and that no text does any harm.

use pgm_mgmt::{BackupChoice, Request, TargetPoint};
use proptest::prelude::*;

use super::command::{Command, HELP, SHOWN, command};
use super::lexer::statements;
use super::reply::Report;
use super::words::SyntaxError;

fn understood(text: &str) -> Result<Command, SyntaxError> {
    command(&statements(text).unwrap()[0])
}

fn request(text: &str) -> Request {
    match understood(text) {
        Ok(Command::Ask { request, .. }) => *request,
        other => panic!("{text}: {other:?}"),
    }
}

fn refused(text: &str) -> SyntaxError {
    understood(text).unwrap_err()
}

#[test]
fn commands_are_requests_in_any_case() {
    let server = || "prod-1".parse().unwrap();
    assert_eq!(request("show SERVERS;"), Request::Status { server: None });
    assert_eq!(
        request(
            "Backup prod-1 SPREAD rate 2048 workers 3 compression zstd:-5 anew incremental native"
        ),
        Request::Backup {
            server: server(),
            options: pgm_mgmt::BackupOptions {
                spread_checkpoint: true,
                max_rate_kib: Some(2048),
                server_compression: Some("zstd:-5".parse().unwrap()),
                no_resume: true,
                incremental: true,
                source: Some(pgm_mgmt::BackupSource::Native),
                workers: Some(3),
            }
        }
    );
    assert_eq!(
        request("show backup prod-1 OLDEST"),
        Request::Info {
            server: server(),
            backup: BackupChoice::Oldest
        }
    );
    assert!(matches!(request("BACKUP prod-1 nowait"), Request::Start(_)));
    assert!(matches!(request("cancel job 7"), Request::Cancel { .. }));
    assert_eq!(
        request("set servers.main.slot = 'x y'"),
        Request::SetSetting {
            key: "servers.main.slot".to_owned(),
            value: Some("x y".to_owned())
        }
    );
}

#[test]
fn a_restore_says_all_that_the_command_line_can() {
    let text = "explain restore prod-1 20260304T120000Z to '/srv/new' until time '2026-03-04 13:00' \
                exclusive timeline 3 action promote";
    let Request::Restore(options) = request(text) else {
        panic!()
    };
    assert!(options.plan_only && options.target.exclusive);
    assert_eq!(
        options.backup,
        BackupChoice::Label("20260304T120000Z".to_owned())
    );
    assert_eq!(options.directory, "/srv/new");
    assert_eq!(
        options.target.point,
        TargetPoint::Time("2026-03-04 13:00".to_owned())
    );
    let Request::Restore(options) = request("restore prod-1 to '/x' until lsn 0/3000028") else {
        panic!()
    };
    assert_eq!(options.backup, BackupChoice::Newest);
    assert!(!options.plan_only);
}

#[test]
fn what_is_wrong_is_placed_and_the_nearest_word_is_offered() {
    for (text, at, hint) in [
        ("shw servers", Some(0), "`SHOW`"),
        ("show serverz", Some(5), "`SERVERS`"),
        ("show", None, "there are"),
        ("show servers a b", Some(15), ""),
        ("set a b", Some(6), "SHOW CONFIG"),
    ] {
        let error = refused(text);
        assert_eq!(error.at, at, "{text}");
        assert!(error.hint.unwrap_or_default().contains(hint), "{text}");
        assert_eq!(error.sqlstate, "42601");
    }
    assert_eq!(refused("cancel x").sqlstate, "22023");
    assert_eq!(refused("select * from pg_class").sqlstate, "0A000");
    assert_eq!(refused("insert into t values (1)").sqlstate, "0A000");
}

#[test]
fn clients_get_what_they_ask_by_themselves() {
    for (text, tag) in [
        ("BEGIN", "BEGIN"),
        ("set client_encoding to 'UTF8'", "SET"),
        ("SET extra_float_digits = 3", "SET"),
        ("rollback", "ROLLBACK"),
    ] {
        assert_eq!(understood(text), Ok(Command::Nothing(tag)));
    }
    assert!(matches!(
        understood("select pg_catalog.version()"),
        Ok(Command::Constant(..))
    ));
    assert!(matches!(
        understood("show transaction isolation level"),
        Ok(Command::Constant(..))
    ));
}

#[test]
fn psql_completes_our_words() {
    let ask = |context: &str, prefix: &str| {
        let query = format!(
            "SELECT pg_catalog.lower(name) FROM pg_catalog.pg_settings  WHERE {context} pg_catalog.lower(name) LIKE pg_catalog.lower('{prefix}%')\nLIMIT 1000"
        );
        match understood(&query) {
            Ok(Command::Names(names)) => names,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(ask("", "se"), ["servers"]);
    assert_eq!(ask("", "").len(), SHOWN.len());
    let settings = ask("context IN ('user', 'superuser')    AND", "log\\_l");
    assert_eq!(settings, ["log_level"]);
}

#[test]
fn every_command_of_the_help_is_understood_or_names_what_is_missing() {
    for (form, _) in HELP {
        let words: Vec<&str> = form.split(' ').collect();
        let keywords = words
            .iter()
            .take_while(|of| of.chars().all(|c| c.is_ascii_uppercase()));
        let text = keywords.copied().collect::<Vec<_>>().join(" ");
        if let Err(error) = understood(&text) {
            assert!(
                error.text.contains("missing") || error.at.is_none(),
                "{text}: {error:?}"
            );
        }
    }
}

#[test]
fn the_documentation_lists_every_command() {
    let documentation = include_str!("../../../../docs/console.md");
    for (form, does) in HELP {
        let line = format!("| `{}` | {does} |", form.replace('|', "\\|"));
        assert!(
            documentation.contains(&line),
            "docs/console.md lacks: {line}"
        );
    }
}

proptest! {
    #[test]
    fn any_text_is_a_command_or_an_error_with_its_place(text: String) {
        if let Ok(statements) = statements(&text) {
            for statement in statements {
                if let Err(error) = command(&statement) {
                    Report::syntax(&text, error).bytes();
                }
            }
        }
    }

    #[test]
    fn any_words_after_a_command_do_no_harm(
        first in prop::sample::select(vec!["show", "backup", "restore", "explain restore", "set", "select"]),
        rest in "[a-z0-9 =;'(/-]{0,60}",
    ) {
        for statement in statements(&format!("{first} {rest}")).into_iter().flatten() {
            let _ = command(&statement);
        }
    }
}
