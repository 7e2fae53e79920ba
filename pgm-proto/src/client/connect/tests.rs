//! Against servers that are scripts behind a real socket, honest and hostile.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::*;
use crate::AuthenticationError;
use crate::client::socket::SSL_REQUEST;
use crate::stream::wait_for_bytes;

/// A server on loopback that serves as many connections as it has scripts, one after the other.
struct Script {
    port: u16,
    thread: Option<JoinHandle<()>>,
}

type Act = Box<dyn FnOnce(TcpStream) + Send>;

fn serve(acts: Vec<Act>) -> Script {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let thread = std::thread::spawn(move || {
        for act in acts {
            let (socket, _) = listener.accept().unwrap();
            socket
                .set_read_timeout(Some(Duration::from_secs(30)))
                .unwrap();
            act(socket);
        }
    });
    Script {
        port,
        thread: Some(thread),
    }
}

impl Script {
    fn one(act: impl FnOnce(TcpStream) + Send + 'static) -> Self {
        serve(vec![Box::new(act)])
    }

    fn connect(&self, settings: &str) -> Result<Client, Error> {
        connect(&format!("host=127.0.0.1 port={} {settings}", self.port))
    }

    /// Waits for the end of the script, so that what it asserts counts.
    fn done(mut self) {
        self.thread.take().unwrap().join().unwrap();
    }
}

fn connect(settings: &str) -> Result<Client, Error> {
    let info = format!("user=pgm password=pencil connect_timeout=20 {settings}")
        .parse()
        .unwrap();
    Client::connect(&info, Session::Sql)
}

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
    [&[tag][..], &length, body].concat()
}

/// Everything that a trusting server says, a standby or a primary.
fn welcome(standby: &str) -> Vec<u8> {
    let standby = format!("in_hot_standby\0{standby}\0");
    [
        message(b'R', &[0; 4]),
        message(b'S', b"server_version\x0017.2\0"),
        message(b'S', standby.as_bytes()),
        message(b'S', b"default_transaction_read_only\0off\0"),
        message(b'K', &[0; 8]),
        message(b'Z', b"I"),
    ]
    .concat()
}

fn read_startup(socket: &mut impl Read) -> Vec<u8> {
    let mut length = [0; 4];
    socket.read_exact(&mut length).unwrap();
    let mut body = vec![0; u32::from_be_bytes(length) as usize - 4];
    socket.read_exact(&mut body).unwrap();
    body
}

fn read_to_end(mut socket: impl Read) {
    let _ = socket.read_to_end(&mut Vec::new());
}

fn primary(mut socket: TcpStream) {
    read_startup(&mut socket);
    socket.write_all(&welcome("off")).unwrap();
    read_to_end(socket);
}

fn standby(mut socket: TcpStream) {
    read_startup(&mut socket);
    socket.write_all(&welcome("on")).unwrap();
    read_to_end(socket);
}

/// Says `bytes` after the startup message and then holds the line.
fn says(bytes: Vec<u8>) -> Script {
    Script::one(move |mut socket| {
        read_startup(&mut socket);
        let _ = socket.write_all(&bytes);
        read_to_end(socket);
    })
}

fn closed_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

#[test]
fn the_startup_message_says_who_and_what_for() {
    let server = Script::one(|mut socket| {
        let startup = read_startup(&mut socket);
        let text = String::from_utf8_lossy(&startup).into_owned();
        for pair in [
            "user\0pgm\0",
            "database\0app\0",
            "application_name\0me\0",
            "client_encoding\0UTF8\0",
        ] {
            assert!(text.contains(pair), "{pair:?} in {text:?}");
        }
        assert_eq!(startup[..4], [0, 3, 0, 0]);
        socket.write_all(&welcome("off")).unwrap();
        let mut goodbye = Vec::new();
        socket.read_to_end(&mut goodbye).unwrap();
        assert_eq!(goodbye, b"X\0\0\0\x04");
    });
    let client = server
        .connect("sslmode=disable dbname=app application_name=me")
        .unwrap();
    assert_eq!(client.server_version().major(), 17);
    assert_eq!(client.encryption(), Encryption::None);
    drop(client);
    server.done();
}

#[test]
fn what_comes_right_after_the_handshake_is_kept() {
    let server = says([welcome("off"), message(b'N', b"MWAL\0\0")].concat());
    let mut client = server.connect("sslmode=disable").unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    read_frame(&mut client.reader, &mut client.stream, deadline).unwrap();
    assert_eq!(client.reader.current().unwrap().body, b"MWAL\0\0");
}

#[test]
fn prefer_goes_on_without_tls_on_the_same_connection() {
    let server = Script::one(|mut socket| {
        assert_eq!(read_startup(&mut socket), SSL_REQUEST[4..]);
        socket.write_all(b"N").unwrap();
        primary(socket);
    });
    assert_eq!(
        server.connect("sslmode=prefer").unwrap().encryption(),
        Encryption::None
    );
}

#[test]
fn other_modes_refuse_a_server_without_tls() {
    let certificates = Certificates::new();
    for mode in ["require", "verify-ca", "verify-full"] {
        let server = Script::one(|mut socket| {
            read_startup(&mut socket);
            socket.write_all(b"N").unwrap();
            read_to_end(socket);
        });
        let roots = certificates.authority.display();
        let error = server
            .connect(&format!("sslmode={mode} sslrootcert={roots}"))
            .unwrap_err();
        assert!(matches!(tls_problem(error), TlsError::NotSupported { .. }));
    }
}

#[test]
fn bytes_and_errors_before_tls_are_not_believed() {
    let answers: [(&[u8], &str); 3] = [
        (b"SZ\0\0\0\x05I", "unencrypted data"),
        (
            b"E\0\0\0\x20SFATAL\0Mcall 555 for help\0\0",
            "answered the request for TLS with an error",
        ),
        (
            b"HTTP/1.1 400 Bad Request",
            "no answer to a request for TLS",
        ),
    ];
    for (answer, expected) in answers {
        let server = Script::one(move |mut socket| {
            read_startup(&mut socket);
            socket.write_all(answer).unwrap();
            read_to_end(socket);
        });
        let error = server.connect("sslmode=require").unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        assert!(!error.contains("555"), "{error}");
    }
}

#[test]
fn hostile_servers_give_errors_soon() {
    let hostile: [(&str, Vec<u8>); 7] = [
        (
            "a length of 2 GiB",
            vec![b'R', 0x7F, 0xFF, 0xFF, 0xFF, 0, 0],
        ),
        (
            "a negative length",
            vec![b'E', 0xFF, 0xFF, 0xFF, 0xFF, 0, 0],
        ),
        ("a length of zero", vec![b'R', 0, 0, 0, 0, 0, 0]),
        ("garbage", b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()),
        (
            "endless parameters",
            [
                message(b'R', &[0; 4]),
                message(b'S', b"a\0b\0").repeat(5000),
            ]
            .concat(),
        ),
        ("endless notices", message(b'N', b"Mhello\0\0").repeat(5000)),
        (
            "SASL twice",
            message(b'R', b"\0\0\0\x0aSCRAM-SHA-256\0\0").repeat(2),
        ),
    ];
    for (what, bytes) in hostile {
        let error = says(bytes).connect("sslmode=disable").unwrap_err();
        let expected = matches!(error, Error::Protocol(_) | Error::Authentication { .. });
        assert!(expected, "{what}: {error:?}");
    }
}

#[test]
fn a_silent_and_a_dripping_server_are_given_up_in_time() {
    let silent = says(Vec::new());
    let dripping = Script::one(|mut socket| {
        read_startup(&mut socket);
        // One byte of a long message at a time, until the client gives up.
        let body = message(b'R', &vec![0; 20_000]);
        for byte in body {
            if socket.write_all(&[byte]).is_err() || peer_is_gone(&socket) {
                break;
            }
        }
    });
    for server in [silent, dripping] {
        let begun = Instant::now();
        let error = server
            .connect("sslmode=disable connect_timeout=1")
            .unwrap_err();
        assert!(matches!(error, Error::Timeout { .. }), "{error:?}");
        assert!(begun.elapsed() < Duration::from_secs(15));
    }
}

/// Waits a moment for the client to hang up.
fn peer_is_gone(socket: &TcpStream) -> bool {
    let moment = Instant::now() + Duration::from_millis(20);
    wait_for_bytes(socket.as_fd(), moment).is_ok()
}

#[test]
fn a_server_that_hangs_up_is_closed() {
    let server = Script::one(|mut socket| drop(read_startup(&mut socket)));
    let error = server.connect("sslmode=disable").unwrap_err();
    assert!(matches!(error, Error::Closed), "{error:?}");
}

#[test]
fn hosts_are_tried_in_order_and_all_are_named_when_none_will_do() {
    let server = Script::one(primary);
    let (closed, open) = (closed_port(), server.port);
    let hosts = "host=127.0.0.1,127.0.0.1 sslmode=disable";
    connect(&format!("{hosts} port={closed},{open}")).unwrap();

    let error = connect(&format!("{hosts} port={closed},{}", closed_port())).unwrap_err();
    let Error::NoHost { attempts } = &error else {
        panic!("{error:?}")
    };
    assert_eq!(attempts.len(), 2);
    assert!(error.hint().unwrap().contains("listen_addresses"));
}

#[test]
fn a_wrong_password_is_not_tried_elsewhere() {
    let refusing = says(message(
        b'E',
        b"SFATAL\0VFATAL\0C28P01\0Mwrong password\0\0",
    ));
    let info = format!(
        "host=127.0.0.1,127.0.0.1 sslmode=disable port={},{}",
        refusing.port,
        closed_port()
    );
    let error = connect(&info).unwrap_err();
    assert_eq!(error.sqlstate(), Some("28P01"));
    assert!(matches!(error, Error::Refused { .. }));
    assert!(error.hint().unwrap().contains("password"));
}

#[test]
fn target_session_attrs_chooses_among_the_hosts() {
    for (wanted, found) in [
        ("any", "off"),
        ("primary", "off"),
        ("read-write", "off"),
        ("standby", "on"),
        ("read-only", "on"),
        ("prefer-standby", "on"),
    ] {
        let (first, second) = (Script::one(primary), Script::one(standby));
        let ports = format!("port={},{}", first.port, second.port);
        let hosts = "host=127.0.0.1,127.0.0.1 sslmode=disable";
        let client = connect(&format!("{hosts} {ports} target_session_attrs={wanted}")).unwrap();
        assert_eq!(client.parameter("in_hot_standby"), Some(found), "{wanted}");
    }
    let lone: Vec<Act> = vec![Box::new(primary), Box::new(primary)];
    let lone = serve(lone);
    lone.connect("sslmode=disable target_session_attrs=prefer-standby")
        .unwrap();
    let error = Script::one(primary)
        .connect("sslmode=disable target_session_attrs=standby")
        .unwrap_err();
    assert!(matches!(error, Error::WrongServer { .. }), "{error:?}");
}

#[test]
fn an_unknown_host_and_a_missing_user_are_named() {
    let error = connect("host=no-such-host.invalid").unwrap_err();
    assert!(matches!(&error, Error::Resolve { host, .. } if host == "no-such-host.invalid"));
    let error = Client::connect(&"host=db".parse().unwrap(), Session::Sql).unwrap_err();
    assert_eq!(error.to_string(), "connection string: user is missing");
}

/// What TLS tests need, in files.
struct Certificates {
    folder: tempfile::TempDir,
    authority: PathBuf,
    other: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

impl Certificates {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, pem: String| {
            let path = folder.path().join(name);
            std::fs::write(&path, pem).unwrap();
            path
        };
        let authority = |name: &str| {
            let key = KeyPair::generate().unwrap();
            let mut params = CertificateParams::default();
            params.distinguished_name.push(DnType::CommonName, name);
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            (
                params.self_signed(&key).unwrap().pem(),
                Issuer::new(params, key),
            )
        };
        let (pem, issuer) = authority("ours");
        let (other, _) = authority("other");
        Self {
            authority: write("ours.crt", pem),
            other: write("other.crt", other),
            issuer,
            folder,
        }
    }

    fn server(
        &self,
        names: &[&str],
        common_name: &str,
    ) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
        let key = KeyPair::generate().unwrap();
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::CommonName, common_name);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (
            certificate.der().clone(),
            PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        )
    }
}

fn tls_server(certificate: CertificateDer<'static>, key: PrivateKeyDer<'static>) -> Script {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    // Unlike rustls, PostgreSQL shows whatever certificate it was given.
    let key = provider.key_provider.load_private_key(key).unwrap();
    let own = rustls::sign::CertifiedKey::new(vec![certificate], key);
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(own)));
    Script::one(move |mut socket| {
        assert_eq!(read_startup(&mut socket), SSL_REQUEST[4..]);
        socket.write_all(b"S").unwrap();
        let session = rustls::ServerConnection::new(Arc::new(config)).unwrap();
        let mut tls = rustls::StreamOwned::new(session, socket);
        let mut length = [0; 4];
        // A client that refuses the certificate ends here.
        if tls.read_exact(&mut length).is_ok() {
            let mut startup = vec![0; u32::from_be_bytes(length) as usize - 4];
            tls.read_exact(&mut startup).unwrap();
            tls.write_all(&welcome("off")).unwrap();
            let _ = tls.flush();
            read_to_end(tls);
        }
    })
}

fn tls_problem(error: Error) -> TlsError {
    match error {
        Error::Tls { source, .. } => *source,
        other => panic!("{other:?}"),
    }
}

#[test]
fn certificates_are_checked_as_sslmode_says() {
    let certificates = Certificates::new();
    let (ours, other) = (
        certificates.authority.display(),
        certificates.other.display(),
    );
    let good: &[&str] = &["localhost", "127.0.0.1"];
    let elsewhere: &[&str] = &["db.example.org"];
    let cases = [
        (
            good,
            "db",
            format!("sslmode=verify-full sslrootcert={ours}"),
            None,
        ),
        (
            elsewhere,
            "db",
            format!("sslmode=verify-full sslrootcert={ours}"),
            Some("not valid"),
        ),
        (
            elsewhere,
            "db",
            format!("sslmode=verify-ca sslrootcert={ours}"),
            None,
        ),
        (
            good,
            "db",
            format!("sslmode=verify-ca sslrootcert={other}"),
            Some("UnknownIssuer"),
        ),
        (
            good,
            "db",
            format!("sslmode=require sslrootcert={other}"),
            Some("UnknownIssuer"),
        ),
        (elsewhere, "db", "sslmode=require".to_owned(), None),
        (elsewhere, "db", "sslmode=prefer".to_owned(), None),
        (
            good,
            "db",
            "sslmode=verify-full".to_owned(),
            Some("needs root certificates"),
        ),
        // The common name counts when there are no other names, and only then.
        (
            &[],
            "127.0.0.1",
            format!("sslmode=verify-full sslrootcert={ours}"),
            None,
        ),
        (
            elsewhere,
            "127.0.0.1",
            format!("sslmode=verify-full sslrootcert={ours}"),
            Some("not valid"),
        ),
    ];
    for (names, common_name, settings, problem) in cases {
        let (certificate, key) = certificates.server(names, common_name);
        let outcome = tls_server(certificate, key).connect(&settings);
        match (outcome, problem) {
            (Ok(client), None) => assert_eq!(client.encryption(), Encryption::Tls),
            (Err(error), Some(problem)) => {
                assert!(matches!(error, Error::Tls { .. }), "{settings}: {error:?}");
                assert!(
                    format!("{error} {error:?}").contains(problem),
                    "{settings}: {error:?}"
                );
            }
            (outcome, _) => panic!("{settings} with {names:?}: {outcome:?}"),
        }
    }
}

#[test]
fn a_server_certificate_that_is_its_own_root_is_trusted() {
    let folder = tempfile::tempdir().unwrap();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let certificate = params.self_signed(&key).unwrap();
    let root = folder.path().join("root.crt");
    std::fs::write(&root, certificate.pem()).unwrap();
    let key = || PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let settings = format!("sslmode=verify-full sslrootcert={}", root.display());
    tls_server(certificate.der().clone(), key())
        .connect(&settings)
        .unwrap();

    params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    let other_key = KeyPair::generate().unwrap();
    let expired = params.self_signed(&other_key).unwrap();
    std::fs::write(&root, expired.pem()).unwrap();
    let key = PrivateKeyDer::try_from(other_key.serialize_der()).unwrap();
    let error = tls_server(expired.der().clone(), key)
        .connect(&settings)
        .unwrap_err();
    assert!(error.hint().unwrap().contains("renew"), "{error:?}");
}

#[test]
fn a_key_that_others_may_read_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let certificates = Certificates::new();
    let key = certificates.folder.path().join("client.key");
    std::fs::write(&key, KeyPair::generate().unwrap().serialize_pem()).unwrap();
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let (certificate, server_key) = certificates.server(&["127.0.0.1"], "db");
    let settings = format!(
        "sslmode=require sslcert={} sslkey={}",
        certificates.authority.display(),
        key.display()
    );
    let error = tls_server(certificate, server_key)
        .connect(&settings)
        .unwrap_err();
    assert!(error.to_string().contains("mode 0644"), "{error}");
}

#[test]
fn channel_binding_require_refuses_a_server_that_asks_for_nothing() {
    let certificates = Certificates::new();
    let (certificate, key) = certificates.server(&["127.0.0.1"], "db");
    let error = tls_server(certificate, key)
        .connect("sslmode=require channel_binding=require")
        .unwrap_err();
    let Error::Authentication { source, .. } = &error else {
        panic!("{error:?}")
    };
    assert!(matches!(source, AuthenticationError::ChannelBinding { .. }));
}

#[test]
fn a_version_1_certificate_does_unless_a_chain_must_lead_to_it() {
    use rustls::pki_types::pem::PemObject;
    let pem = include_bytes!("data/version1.crt");
    let root = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/src/client/connect/data/version1.crt"
    );
    let server = || {
        let key = PrivateKeyDer::from_pem_slice(include_bytes!("data/version1.key")).unwrap();
        tls_server(CertificateDer::from_pem_slice(pem).unwrap(), key)
    };
    for settings in ["sslmode=prefer", "sslmode=require"] {
        let client = server().connect(settings).unwrap();
        assert_eq!(client.encryption(), Encryption::Tls);
    }
    let certificates = Certificates::new();
    let authority = &certificates.authority;
    let error = server()
        .connect(&format!(
            "sslmode=verify-ca sslrootcert={}",
            authority.display()
        ))
        .unwrap_err();
    let hint = error.hint().unwrap_or_default();
    assert!(hint.contains("version 3"), "{error:?}");
    // Listed itself, it is believed, and its common name counts.
    server()
        .connect(&format!("sslmode=verify-full sslrootcert={root}"))
        .unwrap();
}
