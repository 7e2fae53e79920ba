//! Remote management over real sockets: logins, limits, clients that cheat or say nothing.

use std::io::{Read as _, Write as _};
use std::net::TcpStream as Blocking;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::thread::JoinHandle;

use pgm_mgmt::{Client, ClientError, Deadlines, ErrorCode, Request, Response, Role};
use pgm_proto::{ConnInfo, ScramIterations, ScramVerifier, Secret, Session};
use tokio::sync::oneshot;

use super::*;
use crate::config::LogLevel;
use crate::secrets::Admins;

const LONG: Duration = Duration::from_mins(1);

/// A daemon without servers that answers on a port, on a thread of its own, until dropped. It knows `ann`, an admin, and
/// `rob`, who may look; the password of both is `pencil`.
struct Served {
    folder: tempfile::TempDir,
    port: u16,
    remote: Arc<Remote>,
    daemon: Arc<Daemon>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Served {
    /// `settings` are more fields of the section `management`.
    fn start(settings: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        certify(folder.path(), "localhost");
        let port = free_port();
        let text = format!(
            r#"(management: (host: "127.0.0.1", port: {port}, {settings}), servers: {{}})"#
        );
        let config = Config::parse(&folder.path().join("pgmd.ron"), &text).unwrap();
        let (stop, stopped) = oneshot::channel();
        let (ready, is_ready) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime.unwrap().block_on(async {
                let log = crate::log::start(LogLevel::Error, "");
                make_users(&config);
                let (remote, listeners) = Remote::bind(&config).await.unwrap().unwrap();
                let daemon = Arc::new(Daemon::idle(config, log).unwrap());
                let remote = daemon.offer(remote);
                ready
                    .send((Arc::clone(&remote), Arc::clone(&daemon)))
                    .unwrap();
                tokio::select! {
                    () = listeners.serve(remote, daemon) => {}
                    _ = stopped => {}
                }
            });
        });
        let (remote, daemon) = is_ready.recv().unwrap();
        Self {
            folder,
            port,
            remote,
            daemon,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    fn with_tls(settings: &str) -> Self {
        Self::start(&format!(
            r#"tls_cert_file: "server.crt", tls_key_file: "server.key", {settings}"#
        ))
    }

    fn info(&self, settings: &str) -> ConnInfo {
        let text = format!(
            "host=localhost hostaddr=127.0.0.1 port={} {settings}",
            self.port
        );
        text.parse::<ConnInfo>()
            .unwrap()
            .with_password(Secret::new("pencil"))
    }

    /// A client that checks everything that can be checked.
    fn client(&self, user: &str) -> Result<Client, ClientError> {
        let root = self.folder.path().join("server.crt");
        let info = self.info(&format!(
            "user={user} sslmode=verify-full channel_binding=require sslrootcert={}",
            root.display()
        ));
        Client::connect_remote(&info, Deadlines::default())
    }

    fn raw(&self) -> Blocking {
        let stream = Blocking::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        stream
    }

    /// What the daemon says to `bytes` before it hangs up.
    fn answer_to(&self, bytes: &[u8]) -> String {
        let mut stream = self.raw();
        let _ = stream.write_all(bytes);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

fn make_users(config: &Config) {
    let verifier =
        || ScramVerifier::from_password(&Secret::new("pencil"), ScramIterations::default());
    Admins::edit(&config.admins, |admins| {
        admins.add(&"ann".parse().unwrap(), Role::Admin, verifier())?;
        admins.add(&"rob".parse().unwrap(), Role::ReadOnly, verifier())
    })
    .unwrap();
}

/// Writes a new certificate, signed by itself, and its key.
fn certify(folder: &Path, name: &str) {
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
    let write = |name: &str, text: String| {
        std::fs::write(folder.join(name), text).unwrap();
        let owner_only = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(folder.join(name), owner_only).unwrap();
    };
    write("server.crt", params.self_signed(&key).unwrap().pem());
    write("server.key", key.serialize_pem());
}

fn login_error(outcome: Result<Client, ClientError>) -> pgm_proto::Error {
    match outcome {
        Err(ClientError::Login { source }) => *source,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_login_through_tls_leads_to_management() {
    let served = Served::with_tls("");
    let mut client = served.client("ann").unwrap();
    assert!(matches!(client.call(&Request::Ping), Ok(Response::Pong(_))));
    assert!(matches!(
        client.call(&Request::Status { server: None }),
        Ok(Response::Status(_))
    ));
    let Err(ClientError::Refused(error)) = client.call(&Request::Reload) else {
        panic!("a reload is for the host itself")
    };
    assert_eq!(error.code, ErrorCode::NotAllowed);
    let mut reader = served.client("rob").unwrap();
    assert!(matches!(reader.call(&Request::Ping), Ok(Response::Pong(_))));
    let Err(ClientError::Refused(error)) = reader.call(&Request::Shutdown) else {
        panic!("a reader stops nothing")
    };
    assert_eq!(error.code, ErrorCode::NotAllowed);
}

#[test]
fn a_wrong_password_and_an_unknown_user_hear_the_same() {
    let served = Served::with_tls("");
    let refused = |user: &str, password: &str| {
        let info = served.info(&format!("user={user} sslmode=require"));
        let info = info.with_password(Secret::new(password));
        let error = login_error(Client::connect_remote(&info, Deadlines::default()));
        assert_eq!(error.sqlstate(), Some("28P01"));
        error.server_error().unwrap().message.replace(user, "…")
    };
    assert_eq!(refused("ann", "pen"), refused("eve", "pencil"));
}

#[test]
fn connections_without_tls_are_refused_unless_they_are_allowed() {
    let served = Served::with_tls("");
    let plain = served.info("user=ann sslmode=disable");
    let error = login_error(Client::connect_remote(&plain, Deadlines::default()));
    assert_eq!(error.sqlstate(), Some("28000"));
    assert!(
        error
            .server_error()
            .unwrap()
            .hint
            .as_deref()
            .unwrap()
            .contains("sslmode")
    );

    let open = Served::start("allow_plaintext: true");
    let plain = open.info("user=ann sslmode=prefer");
    let mut client = Client::connect_remote(&plain, Deadlines::default()).unwrap();
    assert!(matches!(client.call(&Request::Ping), Ok(Response::Pong(_))));
}

#[test]
fn without_a_certificate_and_without_leave_there_is_no_listener() {
    let config = |management: &str| {
        let text = format!("(management: (port: 1, {management}), servers: {{}})");
        Config::parse(Path::new("/etc/pgm/pgmd.ron"), &text).unwrap()
    };
    let load = |text: &str| CurrentCertificate::load(config(text).management.as_ref().unwrap());
    assert!(matches!(load(""), Err(RemoteTlsError::Missing)));
    for half in [
        r#"tls_cert_file: "a""#,
        r#"tls_key_file: "a""#,
        r#"tls_ca_file: "a", allow_plaintext: true"#,
    ] {
        assert!(
            matches!(load(half), Err(RemoteTlsError::Half { .. })),
            "{half}"
        );
    }
    let absent = load(r#"tls_cert_file: "/no/cert", tls_key_file: "/no/key""#).unwrap_err();
    assert!(absent.to_string().contains("/no/cert"), "{absent}");
    assert!(absent.hint().is_some());
}

#[test]
fn other_databases_and_replication_are_refused() {
    let served = Served::with_tls("");
    let connect = |settings: &str, session| {
        let info = served.info(&format!("user=ann sslmode=require {settings}"));
        pgm_proto::Client::connect(&info, session).unwrap_err()
    };
    let replication = connect("", Session::PhysicalReplication);
    assert_eq!(replication.sqlstate(), Some("0A000"));
    let other = connect("dbname=postgres", Session::Sql);
    assert_eq!(other.sqlstate(), Some("3D000"));
    let none = connect("", Session::Sql);
    assert!(none.to_string().contains("\"ann\""), "{none}");
}

#[test]
fn a_client_certificate_is_demanded_where_it_is_configured() {
    let served = Served::with_tls(r#"tls_ca_file: "server.crt""#);
    let folder = served.folder.path().display();
    let without = served.info("user=ann sslmode=require");
    let error = login_error(Client::connect_remote(&without, Deadlines::default()));
    assert!(error.sqlstate().is_none(), "{error}");
    let with = served.info(&format!(
        "user=ann sslmode=require sslcert={folder}/server.crt sslkey={folder}/server.key"
    ));
    let mut client = Client::connect_remote(&with, Deadlines::default()).unwrap();
    assert!(matches!(client.call(&Request::Ping), Ok(Response::Pong(_))));
}

#[test]
fn clients_that_say_nothing_or_nonsense_make_room_for_those_who_log_in() {
    let served = Served::with_tls("max_connections: 8, max_connections_per_address: 4");
    let huge = [&b"\x7F\xFF\xFF\xFF"[..], &[0; 4096]].concat();
    let mut idle = Vec::new();
    for number in 0..200_usize {
        let mut stream = served.raw();
        let said: &[u8] = match number % 4 {
            0 => b"",
            1 => b"GET / HTTP/1.1\r\n\r\n",
            2 => b"\0\0\0\x08\x04",
            _ => &huge,
        };
        let _ = stream.write_all(said);
        idle.push(stream);
    }
    let mut client = served.client("ann").unwrap();
    assert!(matches!(client.call(&Request::Ping), Ok(Response::Pong(_))));
    assert!(lock(&served.remote.gate).len() <= 4);
    drop(idle);
}

#[test]
fn nonsense_is_answered_in_postgresqls_words() {
    let served = Served::with_tls("");
    for bytes in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        b"\x80\0\0\0\x04Ping",
        &[0; 16],
    ] {
        let answer = served.answer_to(bytes);
        assert!(
            answer.starts_with('E') && answer.contains("08P01"),
            "{answer:?}"
        );
    }
    // Whoever wants a query cancelled hears nothing, as from PostgreSQL.
    let cancel = [0, 0, 0, 16, 0x04, 0xD2, 0x16, 0x2E, 0, 0, 0, 1, 0, 0, 0, 2];
    assert_eq!(served.answer_to(&cancel), "");
}

#[test]
fn a_login_that_takes_too_long_is_cut_off() {
    let served = Served::with_tls(r#"authentication_timeout: "1s""#);
    for begun in [&b""[..], b"\0\0\0\x08\x04\xD2\x16\x2F"] {
        // Ends, or the read would time out.
        let answer = served.answer_to(begun);
        assert!(answer.len() <= 1, "{answer:?}");
    }
}

#[test]
fn one_client_too_many_is_told_so() {
    let served = Served::with_tls("max_connections: 2");
    let mut clients: Vec<_> = (0..2).map(|_| served.client("ann").unwrap()).collect();
    for client in &mut clients {
        client.call(&Request::Ping).unwrap();
    }
    let error = login_error(served.client("ann"));
    assert_eq!(error.sqlstate(), Some("53300"));
    drop(clients);
    let deadline = Instant::now() + LONG;
    while served.client("ann").is_err() {
        assert!(Instant::now() < deadline, "no place came free");
        std::thread::yield_now();
    }
}

#[test]
fn sql_is_answered_and_the_session_goes_on() {
    let served = Served::with_tls("");
    let info = served.info("user=ann sslmode=require dbname=pgm");
    let mut client = pgm_proto::Client::connect(&info, Session::Sql).unwrap();
    for _ in 0..2 {
        let error = client.show("nothing_of_ours").unwrap_err();
        assert_eq!(error.sqlstate(), Some("42601"), "{error}");
        let version = client.show("server_version").unwrap();
        assert!(version.contains("pgm"), "{version}");
    }
}

#[test]
fn a_new_certificate_is_shown_after_a_reload_and_a_bad_one_is_not() {
    let served = Served::with_tls("");
    served.client("ann").unwrap();
    let before = std::fs::read(served.folder.path().join("server.crt")).unwrap();
    certify(served.folder.path(), "localhost");
    assert!(
        served.client("ann").is_err(),
        "the old certificate is still shown"
    );
    let reload = || served.remote.reload(&served.daemon.config());
    assert!(reload().unwrap().is_some());
    served.client("ann").unwrap();
    assert_eq!(reload().unwrap(), None);
    // The key no longer fits: the certificate in force stays.
    let good = std::fs::read(served.folder.path().join("server.crt")).unwrap();
    std::fs::write(served.folder.path().join("server.crt"), before).unwrap();
    assert!(reload().is_err());
    std::fs::write(served.folder.path().join("server.crt"), good).unwrap();
    served.client("ann").unwrap();
}
