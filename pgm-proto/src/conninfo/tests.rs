//! Connection strings: both forms, every setting, round trips, what is refused.

use proptest::prelude::*;

use super::*;

fn parse(text: &str) -> ConnInfo {
    text.parse()
        .unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn refused(text: &str) -> String {
    match text.parse::<ConnInfo>() {
        Ok(info) => panic!("{text} was read as {info}"),
        Err(error) => error.to_string(),
    }
}

fn tcp(name: &str, port: u16) -> Host {
    Host {
        place: Place::Tcp(name.to_owned()),
        address: None,
        port,
    }
}

#[test]
fn url_and_key_value_say_the_same() {
    let url =
        "postgresql://pgm:p%40ss@db1:5433,db2/app?sslmode=verify-full&target_session_attrs=primary";
    let words = "host=db1,db2 port=5433,5432 user = pgm password='p@ss' dbname=app sslmode=verify-full \
                 target_session_attrs=primary";
    assert_eq!(parse(url), parse(words));
    assert_eq!(parse(url).hosts(), [tcp("db1", 5433), tcp("db2", 5432)]);
}

#[test]
fn url_hosts_may_be_sockets_addresses_or_absent() {
    assert_eq!(parse("postgresql://").hosts(), []);
    assert_eq!(parse("postgres:///app").database(), Some("app"));
    assert_eq!(parse("postgres://[::1]:6000/").hosts(), [tcp("::1", 6000)]);
    let socket = Host {
        place: Place::Unix("/run/pg".into()),
        address: None,
        port: 5432,
    };
    assert_eq!(
        parse("postgres://u@%2Frun%2Fpg/app").hosts(),
        std::slice::from_ref(&socket)
    );
    assert_eq!(parse("postgres:///app?host=/run/pg").hosts(), [socket]);
    assert_eq!(parse("postgres://h/?ssl=true").tls.mode, SslMode::Require);
}

#[test]
fn quotes_and_backslashes_are_read_as_libpq_reads_them() {
    let info = parse(r"user='o\'neil \\ x' application_name=a\ b dbname = '' options=-c\ a=1");
    assert_eq!(info.user(), Some(r"o'neil \ x"));
    assert_eq!(info.application_name(), Some("a b"));
    assert_eq!(info.database(), None);
    assert_eq!(info.options.as_deref(), Some("-c a=1"));
}

#[test]
fn one_port_serves_all_hosts_and_a_lone_port_the_local_socket() {
    assert_eq!(parse("host=a,b port=7").hosts(), [tcp("a", 7), tcp("b", 7)]);
    let local = Host {
        place: Place::local_socket(),
        address: None,
        port: 7,
    };
    assert_eq!(parse("port=7").hosts(), [local]);
}

#[test]
fn an_address_needs_no_name() {
    let info = parse("hostaddr=10.0.0.1,::1 host=a,b");
    assert_eq!(info.hosts()[1].address, Some("::1".parse().unwrap()));
    assert_eq!(info.hosts()[1].place, Place::Tcp("b".to_owned()));
    assert_eq!(
        parse("hostaddr=10.0.0.1").hosts()[0].place,
        Place::Tcp("10.0.0.1".to_owned())
    );
}

#[test]
fn system_roots_mean_verify_full() {
    assert_eq!(parse("sslrootcert=system").tls.mode, SslMode::VerifyFull);
    assert!(refused("sslrootcert=system sslmode=require").contains("verify-full"));
}

#[test]
fn errors_name_the_setting_and_the_nearest_valid_name() {
    let texts = [
        (
            "hots=a",
            "connection string: there is no setting `hots`; did you mean `host`?",
        ),
        (
            "targetsessionattrs=any",
            "connection string: there is no setting `targetsessionattrs`; did you mean `target_session_attrs`?",
        ),
        (
            "zzzzzz=a",
            "connection string: there is no setting `zzzzzz`",
        ),
        (
            "service=a",
            "connection string: setting `service` is not supported",
        ),
        (
            "sslmode=verify_full",
            "connection string: `verify_full` is no value for sslmode, expected one of disable, prefer, require, \
             verify-ca, verify-full",
        ),
        (
            "port=99999",
            "connection string: `99999` is no value for port, expected a number from 1 to 65535",
        ),
        (
            "host=a,b port=1,2,3",
            "connection string: 3 port values for 2 hosts",
        ),
        (
            "host",
            "connection string, character 5: expected `=` after the name of a setting",
        ),
        (
            "user='a",
            "connection string, character 6: a quoted value has no closing quote",
        ),
        ("postgres://h?a%2", "connection URL: a parameter has no `=`"),
        (
            "postgres://h/%0",
            "connection URL: `%` must be followed by two hexadecimal digits (write % as %25)",
        ),
        (
            "postgres://[::1/",
            "connection URL: an IPv6 address has no closing `]`",
        ),
    ];
    for (text, expected) in texts {
        assert_eq!(refused(text), expected, "{text}");
    }
}

#[test]
fn the_password_is_in_no_output() {
    for text in [
        "postgresql://pgm:canary@db/app",
        "user=pgm password=canary",
        "user=pgm password='canary'",
    ] {
        let info = parse(text);
        for output in [info.redacted(), format!("{info:?}"), info.to_string()] {
            assert!(!output.contains("canary"), "{output}");
            assert!(output.contains("password=***"), "{output}");
        }
    }
    // Delimiters that should have been escaped.
    for text in [
        "postgres://u:can/ary@h/db",
        "postgres://u:can?ary@h/db",
        "postgres://u:can#ary@h:1:2/db",
    ] {
        if let Err(error) = text.parse::<ConnInfo>() {
            assert!(!error.to_string().contains("can"), "{error}");
        }
    }
}

#[test]
fn defaults_fill_only_what_is_open() {
    let defaults = Defaults {
        user: Some("os".to_owned()),
        passfile: Some("/home/os/.pgpass".into()),
        application_name: Some("pgmd".to_owned()),
        ssl_directory: Some("/home/os/.postgresql".into()),
    };
    let info = parse("user=given").with_defaults(&defaults);
    assert_eq!(info.user(), Some("given"));
    assert_eq!(info.application_name(), Some("pgmd"));
    assert_eq!(info.passfile, defaults.passfile);
}

fn any_conninfo() -> impl Strategy<Value = ConnInfo> {
    let name = "[a-z][a-z0-9.-]{0,12}";
    let text = proptest::option::of(r"[ -~äß]{1,12}");
    let place = prop_oneof![
        name.prop_map(Place::Tcp),
        "/[a-z]{1,8}( [a-z]{1,3})?".prop_map(|folder| Place::Unix(folder.into())),
    ];
    let host = (
        place,
        proptest::option::of(any::<std::net::Ipv4Addr>()),
        1..=u16::MAX,
    );
    let host = host.prop_map(|(place, address, port)| {
        // A name and an address come in pairs; a socket has no address.
        let address = matches!(place, Place::Tcp(_))
            .then_some(address.map(IpAddr::V4))
            .flatten();
        Host {
            place,
            address,
            port,
        }
    });
    let words = (
        0..SslMode::WORDS.len(),
        0..TargetSession::WORDS.len(),
        1_u64..3600,
    );
    let hosts = proptest::collection::vec(host, 0..4);
    (hosts, text.clone(), text.clone(), text, words).prop_map(
        |(hosts, user, database, options, (mode, target, timeout))| ConnInfo {
            hosts,
            user,
            database,
            options,
            tls: TlsSettings {
                mode: SslMode::from_word(SslMode::WORDS[mode]).unwrap(),
                ..TlsSettings::default()
            },
            target: TargetSession::from_word(TargetSession::WORDS[target]).unwrap(),
            connect_timeout: Duration::from_secs(timeout),
            ..ConnInfo::default()
        },
    )
}

proptest! {
    #[test]
    fn what_is_printed_is_read_back(info in any_conninfo()) {
        prop_assert_eq!(parse(&info.redacted()), info);
    }

    #[test]
    fn no_text_panics(text in r"(postgres://)?[ -~\n%:/@?&='\\ä]{0,40}") {
        let _ = text.parse::<ConnInfo>();
    }

    #[test]
    fn any_password_survives_a_url(password in r"[ -~äß]{1,12}") {
        let encoded: Vec<_> = password.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let encoded = encoded.concat();
        let info = parse(&format!("postgres://u:{encoded}@h/db"));
        let read = info.password.unwrap();
        prop_assert_eq!(read.expose(), password);
    }
}
