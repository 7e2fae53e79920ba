//! Each failure has the next step in its hint.

use super::*;

fn refusal(sqlstate: &str, message: &str, database: &str, encryption: Encryption) -> Error {
    Error::Refused {
        peer: Box::new(Peer::Tcp {
            host: "db1".to_owned(),
            address: None,
            port: 5432,
        }),
        user: "Pgm".to_owned(),
        database: database.to_owned(),
        encryption,
        source: Box::new(ServerError {
            sqlstate: sqlstate.to_owned(),
            message: message.to_owned(),
            ..ServerError::default()
        }),
    }
}

#[test]
fn a_missing_pg_hba_entry_is_answered_with_the_line_to_add() {
    let message = r#"no pg_hba.conf entry for replication connection from host "10.1.2.3", user "Pgm", SSL encryption"#;
    let hint = refusal("28000", message, "replication", Encryption::Tls)
        .hint()
        .unwrap();
    assert!(
        hint.ends_with("hostssl replication Pgm 10.1.2.3/32 scram-sha-256"),
        "{hint}"
    );
    let message =
        r#"no pg_hba.conf entry for host "::1", user "Pgm", database "a b", no encryption"#;
    let hint = refusal("28000", message, "a b", Encryption::None)
        .hint()
        .unwrap();
    assert!(
        hint.ends_with("host \"a b\" Pgm ::1/128 scram-sha-256"),
        "{hint}"
    );
}

#[test]
fn a_role_without_replication_is_answered_with_the_sql_that_mends_it() {
    let error = refusal(
        "42501",
        "permission denied to start WAL sender",
        "replication",
        Encryption::None,
    );
    assert_eq!(
        error.hint().as_deref(),
        Some(r#"ALTER ROLE "Pgm" REPLICATION;"#)
    );
    assert_eq!(error.sqlstate(), Some("42501"));
}

#[test]
fn the_common_mistakes_have_a_hint() {
    let connect = |kind: io::ErrorKind| Error::Connect {
        peer: Peer::Tcp {
            host: "db1".to_owned(),
            address: None,
            port: 5432,
        },
        source: kind.into(),
    };
    let errors = [
        refusal(
            "28P01",
            "password authentication failed",
            "app",
            Encryption::None,
        ),
        refusal(
            "28000",
            "Peer authentication failed",
            "app",
            Encryption::None,
        ),
        refusal("3D000", "database does not exist", "app", Encryption::None),
        refusal("53300", "too many", "app", Encryption::None),
        refusal("57P03", "starting up", "app", Encryption::None),
        connect(io::ErrorKind::ConnectionRefused),
        connect(io::ErrorKind::TimedOut),
        Error::Resolve {
            host: "dbx".to_owned(),
            source: io::ErrorKind::NotFound.into(),
        },
        Error::NoHost {
            attempts: vec![connect(io::ErrorKind::ConnectionRefused)],
        },
        Error::Timeout { waiting_for: "x" },
    ];
    for error in errors {
        assert!(error.hint().is_some(), "{error}");
    }
}

#[test]
fn several_hosts_are_listed_with_what_each_said() {
    let peer = |host: &str| Peer::Tcp {
        host: host.to_owned(),
        address: None,
        port: 1,
    };
    let error = Error::NoHost {
        attempts: vec![
            Error::Connect {
                peer: peer("a"),
                source: io::ErrorKind::ConnectionRefused.into(),
            },
            Error::Resolve {
                host: "b".to_owned(),
                source: io::ErrorKind::NotFound.into(),
            },
        ],
    };
    assert_eq!(
        error.to_string(),
        "no host accepted the connection: could not connect to `a` port 1: connection refused; could not resolve \
         host `b`: entity not found"
    );
}

#[test]
fn errors_are_small_enough_to_be_part_of_others() {
    assert!(size_of::<Error>() <= 80, "{}", size_of::<Error>());
}
