//! Password files: fields, escapes, wildcards, permissions.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use proptest::prelude::*;

use super::*;

const SESSION: Lookup<'_> = Lookup {
    host: "db1",
    port: 5432,
    database: "app",
    user: "pgm",
};

fn found(content: &str, lookup: Lookup<'_>) -> Option<String> {
    find(content.as_bytes(), lookup).map(|secret| secret.expose().to_owned())
}

#[test]
fn the_first_line_that_fits_counts() {
    let content = "# db1:5432:app:pgm:comment\n\
                   db2:5432:app:pgm:other host\n\
                   db1:5433:app:pgm:other port\n\
                   db1:5432:app:pgm:right\n\
                   *:*:*:*:late\n";
    assert_eq!(found(content, SESSION).as_deref(), Some("right"));
    assert_eq!(
        found(
            content,
            Lookup {
                user: "x",
                ..SESSION
            }
        )
        .as_deref(),
        Some("late")
    );
}

#[test]
fn a_star_fits_anything_but_only_alone() {
    assert_eq!(found("*:*:app:pgm:x", SESSION).as_deref(), Some("x"));
    assert_eq!(found("db*:*:app:pgm:x", SESSION), None);
    assert_eq!(found(r"\*:*:*:*:x", SESSION), None);
}

#[test]
fn escapes_stand_for_the_character_in_every_field() {
    let lookup = Lookup {
        host: "::1",
        user: r"a\b",
        ..SESSION
    };
    assert_eq!(
        found(r"\:\:1:*:app:a\\b:p\:w\\d", lookup).as_deref(),
        Some(r"p:w\d")
    );
}

#[test]
fn the_password_ends_at_an_unescaped_colon_or_the_line() {
    assert_eq!(found("*:*:*:*:one:two", SESSION).as_deref(), Some("one"));
    assert_eq!(found("*:*:*:*:word\r\n", SESSION).as_deref(), Some("word"));
    assert_eq!(
        found("*:*:*:*: with blanks # \n", SESSION).as_deref(),
        Some(" with blanks # ")
    );
}

#[test]
fn broken_lines_fit_nothing() {
    for line in [
        "",
        ":",
        "db1",
        "db1:5432:app:pgm",
        "db1:5432:app:pgm:",
        "db1:5432:app:pg",
        "\\",
    ] {
        assert_eq!(found(line, SESSION), None, "{line}");
    }
}

#[test]
fn a_file_that_others_may_read_is_ignored() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pgpass");
    fs::write(&path, "*:*:*:*:secret\n").unwrap();
    for (mode, expected) in [(0o600, true), (0o400, true), (0o640, false), (0o604, false)] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        assert_eq!(password(&path, SESSION).is_some(), expected, "{mode:o}");
    }
    assert!(password(folder.path(), SESSION).is_none());
    assert!(password(&folder.path().join("absent"), SESSION).is_none());
}

fn escape(field: &str) -> String {
    field.replace('\\', r"\\").replace(':', r"\:")
}

proptest! {
    #[test]
    fn what_is_escaped_is_found(fields in proptest::collection::vec(r"[!-~ä]{1,8}", 4)) {
        let [host, database, user, password] = <[String; 4]>::try_from(fields).unwrap();
        let lookup = Lookup { host: &host, port: 1, database: &database, user: &user };
        let fields = [&host, "1", &database, &user, &password].map(escape);
        // A line that begins with # is a comment, whatever it was meant to be.
        prop_assume!(!host.starts_with('#'));
        prop_assert_eq!(found(&fields.join(":"), lookup), Some(password));
    }

    #[test]
    fn no_content_panics(content in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = find(&content, SESSION);
    }
}
