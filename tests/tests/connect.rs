//! Connecting to real servers: every way to log in, every degree of encryption, and what goes wrong there.
#![allow(clippy::unwrap_used, reason = "a test: what fails in it must fail it")]

use std::fs;
use std::os::unix::fs::PermissionsExt;

use pgm_proto::{
    AuthenticationError, Client, ConnInfo, Encryption, Error, ServerVersion, Session, TlsError,
};
use pgm_tests::{Auth, Cluster, ClusterBuilder, Major, PASSWORD, ROLE, Tls, majors};

fn connect(conninfo: &str) -> Result<Client, Error> {
    let info: ConnInfo = conninfo.parse().expect("a connection string");
    Client::connect(&info, Session::Sql)
}

fn replicate(conninfo: &str) -> Result<Client, Error> {
    let info: ConnInfo = conninfo.parse().expect("a connection string");
    Client::connect(&info, Session::PhysicalReplication)
}

fn hint(error: &Error) -> String {
    error
        .hint()
        .unwrap_or_else(|| panic!("no hint for: {error}"))
}

/// A value of `pg_stat_ssl` or the like about the session itself.
fn ask(client: &mut Client, sql: &str) -> String {
    let results = client.query(sql).expect("the query runs");
    results[0].rows[0][0].clone().expect("a value")
}

fn cluster(auth: Auth, tls: Tls) -> ClusterBuilder {
    Cluster::builder(Major::V17).auth(auth).tls(tls)
}

#[test]
fn every_major_lets_us_in_with_scram_over_tls_bound_to_its_certificate() {
    for major in majors() {
        let cluster = Cluster::builder(major)
            .auth(Auth::ScramSha256)
            .tls(Tls::Required)
            .start();
        let authority = cluster.certificates().authority.display().to_string();
        let conninfo = format!(
            "{} sslmode=verify-full sslrootcert={authority} channel_binding=require application_name=us",
            cluster.conninfo()
        );
        let mut client = connect(&conninfo).unwrap();
        assert_eq!(client.encryption(), Encryption::Tls);
        assert_eq!(client.server_version().major(), major.number());
        assert_eq!(
            ask(&mut client, "select current_setting('application_name')"),
            "us"
        );
        assert_eq!(
            ask(
                &mut client,
                "select version from pg_stat_ssl where pid = pg_backend_pid()"
            ),
            "TLSv1.3"
        );
        assert_eq!(ask(&mut client, "show client_encoding"), "UTF8");
        let backend = client.backend().map(|number| number.to_string());
        assert_eq!(backend, Some(ask(&mut client, "select pg_backend_pid()")));

        let mut client = replicate(&conninfo).unwrap();
        assert!(client.identify_system().unwrap().flush_lsn.is_valid());
    }
}

#[test]
fn passwords_are_given_as_scram_md5_and_cleartext() {
    for (auth, method) in [
        (Auth::ScramSha256, "scram-sha-256"),
        (Auth::Md5, "md5"),
        (Auth::Password, "password"),
        (Auth::Trust, "trust"),
    ] {
        let cluster = cluster(auth, Tls::Off).start();
        let client = connect(&cluster.conninfo()).unwrap();
        assert_eq!(client.encryption(), Encryption::None, "{method}");

        let required = connect(&format!("{} channel_binding=require", cluster.conninfo()));
        let refused = matches!(
            required,
            Err(Error::Authentication {
                source: AuthenticationError::ChannelBinding { .. },
                ..
            })
        );
        assert!(
            refused,
            "{method} with channel_binding=require: {required:?}"
        );

        if auth != Auth::Trust {
            let port = cluster.port();
            let without = format!("host=127.0.0.1 port={port} user={ROLE} dbname=postgres");
            let error = connect(&without).unwrap_err();
            let no_password = matches!(
                error,
                Error::Authentication {
                    source: AuthenticationError::NoPassword,
                    ..
                }
            );
            assert!(no_password, "{method}: {error:?}");
            assert!(hint(&error).contains("password file"));

            let error = connect(&format!("{without} password=wrong")).unwrap_err();
            assert_eq!(error.sqlstate(), Some("28P01"), "{method}: {error:?}");
            assert!(!error.to_string().contains("wrong"), "{error}");
            assert!(hint(&error).contains("check the password"));
        }
    }
}

#[test]
fn tls_is_used_when_there_is_tls_and_refused_without_a_fallback_when_asked_for() {
    let with = cluster(Auth::ScramSha256, Tls::On).start();
    let encrypted = |settings: &str| {
        connect(&format!("{} {settings}", with.conninfo())).map(|client| client.encryption())
    };
    assert_eq!(
        encrypted("").unwrap(),
        Encryption::Tls,
        "prefer is the default"
    );
    assert_eq!(encrypted("sslmode=disable").unwrap(), Encryption::None);
    assert_eq!(encrypted("sslmode=require").unwrap(), Encryption::Tls);
    assert_eq!(
        encrypted("sslmode=require channel_binding=disable").unwrap(),
        Encryption::Tls
    );

    let files = with.certificates();
    let (authority, other) = (files.authority.display(), files.other_authority.display());
    encrypted(&format!("sslmode=verify-ca sslrootcert={authority}")).unwrap();
    let error = encrypted(&format!("sslmode=verify-ca sslrootcert={other}")).unwrap_err();
    assert!(hint(&error).contains("sslrootcert"), "{error}");

    let by_name = format!(
        "host=elsewhere.example hostaddr=127.0.0.1 port={} user={ROLE} dbname=postgres sslrootcert={authority}",
        with.port()
    );
    let error = connect(&format!("{by_name} sslmode=verify-full")).unwrap_err();
    assert!(hint(&error).contains("elsewhere.example"), "{error:?}");

    let without = cluster(Auth::Trust, Tls::Off).start();
    let error = connect(&format!("{} sslmode=require", without.conninfo())).unwrap_err();
    let refused = matches!(
        &error,
        Error::Tls { source, .. } if matches!(**source, TlsError::NotSupported { .. })
    );
    assert!(refused, "{error:?}");
    assert!(hint(&error).contains("ssl = on"));
}

#[test]
fn a_client_certificate_logs_in_without_a_password() {
    let cluster = cluster(Auth::Certificate, Tls::On).start();
    let files = cluster.certificates();
    let server = format!(
        "host=localhost hostaddr=127.0.0.1 port={} user={ROLE} dbname=postgres sslmode=verify-full sslrootcert={}",
        cluster.port(),
        files.authority.display()
    );
    let own = format!(
        "sslcert={} sslkey={}",
        files.client.display(),
        files.client_key.display()
    );
    let mut client = connect(&format!("{server} {own}")).unwrap();
    assert_eq!(
        ask(
            &mut client,
            "select client_dn from pg_stat_ssl where pid = pg_backend_pid()"
        ),
        format!("/CN={ROLE}")
    );
    let error = connect(&server).unwrap_err();
    assert!(
        matches!(error, Error::Refused { .. } | Error::Tls { .. }),
        "{error:?}"
    );

    // A certificate proves us to the server, not the server to us through a shared password.
    let error = connect(&format!("{server} {own} channel_binding=require")).unwrap_err();
    assert!(matches!(error, Error::Authentication { .. }), "{error:?}");
}

#[test]
fn the_password_file_serves_sql_and_replication() {
    let cluster = cluster(Auth::ScramSha256, Tls::Off).start();
    let passfile = cluster.folder().join("pgpass");
    let password = PASSWORD.replace('\\', "\\\\").replace(':', "\\:");
    let port = cluster.port();
    fs::write(
        &passfile,
        format!(
            "127.0.0.1:{port}:postgres:{ROLE}:{password}\n127.0.0.1:*:replication:*:{password}\n"
        ),
    )
    .unwrap();
    fs::set_permissions(&passfile, fs::Permissions::from_mode(0o600)).unwrap();
    let conninfo = format!(
        "host=127.0.0.1 port={port} user={ROLE} dbname=postgres passfile={}",
        passfile.display()
    );
    connect(&conninfo).unwrap();
    replicate(&conninfo).unwrap();

    fs::set_permissions(&passfile, fs::Permissions::from_mode(0o644)).unwrap();
    let error = connect(&conninfo).unwrap_err();
    assert!(matches!(error, Error::Authentication { .. }), "{error:?}");
}

#[test]
fn a_url_with_several_hosts_finds_the_primary_and_the_standby() {
    let mut primary = Cluster::builder(Major::V17).start();
    let standby = primary.standby();
    let ports = [standby.port(), primary.port()];
    let url = |wanted: &str| {
        format!(
            "postgresql://{ROLE}@127.0.0.1:{},127.0.0.1:{}/postgres?target_session_attrs={wanted}",
            ports[0], ports[1]
        )
    };
    for (wanted, in_recovery) in [
        ("any", "t"),
        ("primary", "f"),
        ("read-write", "f"),
        ("standby", "t"),
        ("read-only", "t"),
        ("prefer-standby", "t"),
    ] {
        let mut client = connect(&url(wanted)).unwrap();
        let found = ask(&mut client, "select pg_is_in_recovery()");
        assert_eq!(found, in_recovery, "{wanted}");
        replicate(&url(wanted)).unwrap();
    }
    drop(standby);
    connect(&url("prefer-standby")).unwrap();
    let error = connect(&url("standby")).unwrap_err();
    assert!(
        matches!(&error, Error::NoHost { attempts } if attempts.len() == 2),
        "{error:?}"
    );
}

#[test]
fn unix_sockets_need_no_tls_and_name_their_path_when_nobody_listens() {
    let cluster = cluster(Auth::ScramSha256, Tls::Required).start();
    let client = connect(&format!(
        "{} sslmode=verify-full",
        cluster.conninfo_superuser()
    ))
    .unwrap();
    assert_eq!(client.encryption(), Encryption::None);
    assert!(client.server_version() >= ServerVersion::from_number(170_000));

    let error = connect(&format!(
        "host={} user=a port=1",
        cluster.folder().display()
    ))
    .unwrap_err();
    assert!(matches!(error, Error::Connect { .. }), "{error:?}");
    assert!(hint(&error).contains(".s.PGSQL.1"), "{error}");
}

#[test]
fn what_the_server_refuses_comes_with_what_mends_it() {
    let cluster = cluster(Auth::Trust, Tls::Off).start();
    let at = format!("host=127.0.0.1 port={}", cluster.port());
    cluster.sql("create role \"No Replication\" login");

    let error = replicate(&format!("{at} user='No Replication'")).unwrap_err();
    let alter = hint(&error);
    assert_eq!(alter, "ALTER ROLE \"No Replication\" REPLICATION;");
    cluster.sql(&alter);
    replicate(&format!("{at} user='No Replication'")).unwrap();

    let error = connect(&format!("{at} user=nobody dbname=postgres")).unwrap_err();
    assert!(hint(&error).starts_with("CREATE ROLE nobody"), "{error}");
    let error = connect(&format!("{at} user={ROLE} dbname=nowhere")).unwrap_err();
    assert_eq!(error.sqlstate(), Some("3D000"));
    assert!(hint(&error).contains("dbname"));

    // The hint's line, put into pg_hba.conf, lets us in.
    let hba = cluster.data().join("pg_hba.conf");
    fs::write(&hba, "local all all trust\n").unwrap();
    cluster.reload();
    let conninfo = format!(
        "{at} user={ROLE} password='{}'",
        PASSWORD.replace('\\', "\\\\").replace('\'', "\\'")
    );
    let error = pgm_tests::wait_for("the server reads pg_hba.conf", || {
        replicate(&conninfo).err()
    });
    let advice = hint(&error);
    let line = advice.rsplit("  ").next().unwrap();
    assert_eq!(
        line,
        format!("host replication {ROLE} 127.0.0.1/32 scram-sha-256")
    );
    fs::write(&hba, format!("local all all trust\n{line}\n")).unwrap();
    cluster.reload();
    pgm_tests::wait_until("the hint mends it", || replicate(&conninfo).is_ok());
}

#[test]
fn an_old_style_url_password_with_odd_characters_arrives_unchanged() {
    let cluster = cluster(Auth::ScramSha256, Tls::Off).start();
    let encoded: Vec<_> = PASSWORD
        .bytes()
        .map(|byte| format!("%{byte:02X}"))
        .collect();
    let encoded = encoded.concat();
    let url = format!(
        "postgres://{ROLE}:{encoded}@127.0.0.1:{}/postgres",
        cluster.port()
    );
    connect(&url).unwrap();
}
